//! The instances, brokers and proxies to which deeds are done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use crate::conformance::kit::{admin, block_on};
use crate::kit::{Writer, bounds, wait_for};
use crate::proxy::{Proxy, Weather};
use crate::schedule::{Deed, INSTANCES, Number};
use crate::service::{App, Instance};
use crate::traffic::ledger_event;
use crate::watch::Processes;

/// How long an instance may take to end when it is told to while things are broken.
const ENDS: Duration = Duration::from_secs(40);
/// A fetch that was under way when its process was stopped is answered after 50 ms at the latest.
const FETCHED: Duration = Duration::from_millis(500);
/// Records that are written for a truncation, and how many of them are left.
const CUT_RECORDS: usize = 200;
const CUT_LEFT: i64 = 60;

/// The brokers of `scripts/kafka`.
pub struct Cluster {
    dir: PathBuf,
    pub brokers: usize,
}

impl Cluster {
    /// The cluster that the tests run in, if its folder is known.
    pub fn found() -> Option<Cluster> {
        let dir = PathBuf::from(std::env::var_os("WATCHFIRE_KAFKA_DIR")?);
        let brokers = (1..).take_while(|n| dir.join(format!("broker-{n}")).is_dir()).count();
        Some(Cluster { dir, brokers })
    }

    /// A proxy in front of each broker, and where clients find them.
    pub fn proxies(&self) -> (Vec<Proxy>, String) {
        let ports = (1..=self.brokers).map(|n| {
            let file = self.dir.join(format!("broker-{n}/detour"));
            let text = std::fs::read_to_string(file).expect("the detour of a broker");
            let (front, back) = text.trim().split_once(' ').expect("two ports");
            (front.parse().expect("a port"), back.parse().expect("a port"))
        });
        let ports: Vec<(u16, u16)> = ports.collect();
        let at = ports.iter().map(|(front, _)| format!("127.0.0.1:{front}")).collect::<Vec<_>>();
        (ports.into_iter().map(|(front, back)| Proxy::start(front, back)).collect(), at.join(","))
    }

    /// Kills a broker and starts it again; the child ends when it is back.
    fn kill_broker(&self, number: usize) -> Child {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
        Command::new(script)
            .args(["restart", "--dir"])
            .arg(&self.dir)
            .arg(number.to_string())
            .stdin(Stdio::null())
            .spawn()
            .expect("scripts/kafka runs")
    }
}

pub struct Fleet<'a> {
    app: &'a App,
    ledger: &'a str,
    cluster: Option<&'a Cluster>,
    proxies: Vec<Proxy>,
    processes: Processes,
    running: BTreeMap<Number, Instance>,
    /// Told to end, and when.
    ending: BTreeMap<Number, (Instance, Instant)>,
    broker: Option<Child>,
    /// Where the ledger was cut: partition and first offset that was left.
    pub cuts: Vec<(i32, i64)>,
    pub wrong: Vec<String>,
}

impl<'a> Fleet<'a> {
    /// Starts all instances and waits until they run.
    pub fn start(
        app: &'a App,
        ledger: &'a str,
        cluster: Option<&'a Cluster>,
        proxies: Vec<Proxy>,
        processes: Processes,
    ) -> Fleet<'a> {
        let mut fleet = Fleet {
            app,
            ledger,
            cluster,
            proxies,
            processes,
            running: BTreeMap::new(),
            ending: BTreeMap::new(),
            broker: None,
            cuts: Vec::new(),
            wrong: Vec::new(),
        };
        (0..INSTANCES).for_each(|number| fleet.spawn(number));
        fleet.running.values_mut().for_each(Instance::wait_until_it_runs);
        fleet
    }

    pub fn apply(&mut self, deed: Deed) {
        match deed {
            Deed::Kill(number) => {
                if let Some(instance) = self.remove(number) {
                    instance.kill();
                }
            }
            Deed::Terminate(number) => {
                if let Some(instance) = self.remove(number) {
                    instance.signal("TERM");
                    self.ending.insert(number, (instance, Instant::now()));
                }
            }
            Deed::Start(number) => {
                self.await_end(number);
                self.spawn(number);
            }
            Deed::Pause(number) => self.signal(number, "STOP"),
            Deed::Resume(number) => self.signal(number, "CONT"),
            Deed::KillBroker(number) => {
                self.await_broker();
                self.broker = self.cluster.map(|cluster| cluster.kill_broker(number));
            }
            Deed::Network(broker, weather) => self.proxies[broker - 1].set(weather),
            Deed::Truncate(partition) => self.truncate(partition),
            Deed::Burst(_) => {} // that is the generator's
        }
    }

    /// Notes instances that have ended though nobody told them to, and starts them again.
    pub fn look(&mut self) {
        let gone = |(number, instance): (&Number, &mut Instance)| {
            (!instance.is_alive()).then_some(*number)
        };
        let gone: Vec<Number> = self.running.iter_mut().filter_map(gone).collect();
        for number in gone {
            if let Some(instance) = self.remove(number) {
                let log = instance.log();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                self.wrong.push(format!("instance {number} ended by itself: {last:#?}"));
            }
            self.spawn(number);
        }
    }

    /// Everything is made whole again; waits until all instances run.
    pub fn heal(&mut self) {
        self.proxies.iter().for_each(|proxy| proxy.set(Weather::Clear));
        self.await_broker();
        let ending: Vec<Number> = self.ending.keys().copied().collect();
        ending.into_iter().for_each(|number| self.await_end(number));
        self.look();
        for instance in self.running.values_mut() {
            instance.signal("CONT");
            instance.wait_until_it_runs();
        }
        while self.running.len() < INSTANCES {
            let free = (0..).find(|number| !self.running.contains_key(number)).expect("a number");
            self.apply(Deed::Start(free));
        }
    }

    fn spawn(&mut self, number: Number) {
        let instance = self.app.spawn(&format!("i{number}"));
        self.processes.lock().unwrap().insert(number, instance.pid());
        self.running.insert(number, instance);
    }

    fn remove(&mut self, number: Number) -> Option<Instance> {
        self.processes.lock().unwrap().remove(&number);
        self.running.remove(&number)
    }

    fn signal(&self, number: Number, name: &str) {
        if let Some(instance) = self.running.get(&number) {
            instance.signal(name);
        }
    }

    fn await_end(&mut self, number: Number) {
        let Some((mut instance, since)) = self.ending.remove(&number) else { return };
        while instance.is_alive() {
            if since.elapsed() > ENDS {
                self.wrong.push(format!("instance {number} did not end within {ENDS:?}"));
                return instance.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn await_broker(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            let status = broker.wait().expect("scripts/kafka ends");
            assert!(status.success(), "a broker did not come back: {status}");
        }
    }

    /// Deletes records of the ledger that no instance can have read.
    fn truncate(&mut self, partition: i32) {
        let numbers: Vec<Number> = self.running.keys().copied().collect();
        numbers.iter().for_each(|number| self.signal(*number, "STOP"));
        // Nothing outside shows when the answer is there.
        std::thread::sleep(FETCHED);
        let App { bootstrap, .. } = self.app;
        let mut writer = Writer::new(bootstrap, self.ledger);
        (0..CUT_RECORDS).for_each(|_| writer.send(partition, Some(ledger_event().as_bytes())));
        writer.flush();
        let before = bounds(bootstrap, self.ledger)[&partition].1 - CUT_LEFT;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.ledger, partition, Offset::Offset(before)).unwrap();
        wait_for("the ledger is cut", || {
            // A broker that was dead a moment ago may not be there yet: then again.
            block_on(admin(bootstrap).delete_records(&list, &AdminOptions::new())).ok()?;
            (bounds(bootstrap, self.ledger)[&partition].0 == before).then_some(())
        });
        self.cuts.push((partition, before));
        numbers.iter().for_each(|number| self.signal(*number, "CONT"));
    }
}
