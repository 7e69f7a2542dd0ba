//! What can be seen from outside while things break: positions, open transactions, evidence, memory.
//!
//! A sample that the cluster does not answer is left out: it is broken on purpose.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::conformance::kit::config;
use crate::schedule::Number;
use crate::service::App;
use crate::traffic::{EVENT_PARTITIONS, LEDGER_PARTITIONS};

const CALL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
/// `transaction.timeout.ms` of a worker is 10 s; the coordinator may have to move first, and looks twice a second.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How long without an alert is worth telling.
const SILENCE_TOLD: Duration = Duration::from_secs(15);
/// Memory of one instance.
const RSS_MIB_MAX: u64 = 400;
const MATCHES_PARTITIONS: i32 = 4;
const ALERTS_PARTITIONS: i32 = 3;

type Place = (String, i32);

/// The processes that run, by the number of the instance.
pub type Processes = Arc<Mutex<BTreeMap<Number, u32>>>;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub wrong: Vec<String>,
    pub samples: usize,
    pub rss_mib_max: u64,
    /// The longest that a partition stood still behind an open transaction.
    pub stall_max: Duration,
    /// When no alert came for some time: since the start, and how long.
    pub silences: Vec<(Duration, Duration)>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    finding: AtomicBool,
}

/// A thread that looks until it is told to end.
pub struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    pub fn start(app: &App, ledger: &str, processes: Processes) -> Watch {
        let shared = Arc::new(Shared::default());
        let watcher = Watcher::new(app, ledger, Arc::clone(&shared), processes);
        Watch { shared, thread: std::thread::spawn(move || watcher.run()) }
    }

    /// Whether a correlation has found something.
    pub fn has_finding(&self) -> bool {
        self.shared.finding.load(Ordering::SeqCst)
    }

    pub fn stop(self) -> Seen {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the watcher did not panic")
    }
}

struct Watcher {
    shared: Arc<Shared>,
    processes: Processes,
    alerts: BaseConsumer,
    /// Reads positions of each group, with the places to ask for.
    groups: Vec<(BaseConsumer, Vec<Place>)>,
    committed: BTreeMap<Place, i64>,
    /// Under each isolation level, and the places that transactions write to.
    ends: [BaseConsumer; 2],
    written: Vec<Place>,
    /// Where a partition stands still, and since when.
    stalls: BTreeMap<Place, (i64, Instant)>,
    began: Instant,
    last_alert: Instant,
    seen: Seen,
}

fn consumer(bootstrap: &str, group: &str, isolation: &str) -> BaseConsumer {
    let settings =
        [("group.id", group), ("enable.auto.commit", "false"), ("isolation.level", isolation)];
    config(bootstrap, &settings).create().unwrap()
}

fn places(topic: &str, partitions: i32) -> impl Iterator<Item = Place> {
    (0..partitions).map(move |p| (topic.to_owned(), p))
}

impl Watcher {
    fn new(app: &App, ledger: &str, shared: Arc<Shared>, processes: Processes) -> Watcher {
        let App { bootstrap, name, topic, .. } = app;
        let of_group = |stage: &str, places: Vec<Place>| {
            (consumer(bootstrap, &format!("{name}-{stage}"), "read_committed"), places)
        };
        let sources = places(topic, EVENT_PARTITIONS).chain(places(ledger, LEDGER_PARTITIONS));
        let matches: Vec<Place> = places(&format!("{name}.matches"), MATCHES_PARTITIONS).collect();
        let written: Vec<Place> = places(&format!("{name}.alerts"), ALERTS_PARTITIONS).collect();
        let alerts = consumer(bootstrap, "watch", "read_committed");
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &written {
            list.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
        }
        alerts.assign(&list).unwrap();
        Watcher {
            shared,
            processes,
            alerts,
            ends: ["read_committed", "read_uncommitted"]
                .map(|isolation| consumer(bootstrap, "watch", isolation)),
            written: [written, matches.clone()].concat(),
            groups: vec![of_group("filter", sources.collect()), of_group("correlate", matches)],
            committed: BTreeMap::new(),
            stalls: BTreeMap::new(),
            began: Instant::now(),
            last_alert: Instant::now(),
            seen: Seen::default(),
        }
    }

    fn run(mut self) -> Seen {
        while !self.shared.stop.load(Ordering::SeqCst) {
            let evidence = self.new_evidence();
            for group in 0..self.groups.len() {
                self.look_at_positions(group, &evidence);
            }
            self.look_at_transactions();
            self.look_at_memory();
            self.seen.samples += 1;
            std::thread::sleep(PAUSE);
        }
        self.seen
    }

    /// Where the events of new alerts lie, at most one place for each partition: the last.
    fn new_evidence(&mut self) -> BTreeMap<Place, i64> {
        let mut evidence = BTreeMap::new();
        while let Some(polled) = self.alerts.poll(Duration::from_millis(50)) {
            let Ok(message) = polled else { continue };
            let silence = self.last_alert.elapsed();
            if silence > SILENCE_TOLD {
                self.seen.silences.push((self.last_alert - self.began, silence));
            }
            self.last_alert = Instant::now();
            let alert: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            if !alert["unmapped"]["watchfire"]["group"].is_null() {
                self.shared.finding.store(true, Ordering::SeqCst);
            }
            for event in alert["finding_info"]["related_events"].as_array().into_iter().flatten() {
                let uid = event["uid"].as_str().unwrap_or_default();
                let Some((place, offset)) = coordinate(uid) else { continue };
                let known: &mut i64 = evidence.entry(place).or_default();
                *known = (*known).max(offset);
            }
        }
        evidence
    }

    fn look_at_positions(&mut self, group: usize, evidence: &BTreeMap<Place, i64>) {
        let (consumer, places) = &self.groups[group];
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places {
            list.add_partition(topic, *partition);
        }
        let Ok(found) = consumer.committed_offsets(list, CALL) else { return };
        for element in found.elements() {
            let place = (element.topic().to_owned(), element.partition());
            let now = match (element.error(), element.offset()) {
                (Err(_), _) => continue,
                (Ok(()), Offset::Offset(offset)) => offset,
                (Ok(()), _) => 0,
            };
            let before = self.committed.insert(place.clone(), now).unwrap_or(0);
            if now < before {
                self.seen.wrong.push(format!("C4: {place:?} went back from {before} to {now}"));
            }
            if let Some(offset) = evidence.get(&place).filter(|offset| **offset >= now) {
                let what = format!("C3: an alert names {place:?} {offset}, committed is {now}");
                self.seen.wrong.push(what);
            }
            let end = self.ends[1].fetch_watermarks(&place.0, place.1, CALL);
            if let Some(end) = end.ok().map(|(_, end)| end).filter(|end| now > *end) {
                self.seen.wrong.push(format!("C4: {place:?} is at {now}, beyond its end {end}"));
            }
        }
    }

    fn look_at_transactions(&mut self) {
        for place in &self.written {
            let end = |consumer: &BaseConsumer| {
                consumer.fetch_watermarks(&place.0, place.1, CALL).ok().map(|(_, end)| end)
            };
            let [Some(stable), Some(end)] = [end(&self.ends[0]), end(&self.ends[1])] else {
                continue;
            };
            match self.stalls.get(place) {
                Some((at, since)) if *at == stable && stable < end => {
                    self.seen.stall_max = self.seen.stall_max.max(since.elapsed());
                    if since.elapsed() > STALL_MAX {
                        let what = format!("C9: {place:?} stands at {stable} of {end} for ");
                        self.seen.wrong.push(format!("{what}{:.0?}", since.elapsed()));
                        self.stalls.remove(place);
                    }
                }
                _ => drop(self.stalls.insert(place.clone(), (stable, Instant::now()))),
            }
        }
    }

    fn look_at_memory(&mut self) {
        for (number, pid) in &*self.processes.lock().unwrap() {
            let Some(rss) = rss_mib(*pid) else { continue };
            if rss > RSS_MIB_MAX {
                let what = format!("C8: instance {number} takes {rss} of {RSS_MIB_MAX} MiB");
                self.seen.wrong.push(what);
            }
            self.seen.rss_mib_max = self.seen.rss_mib_max.max(rss);
        }
    }
}

/// `kafka:topic/partition/offset`.
fn coordinate(uid: &str) -> Option<(Place, i64)> {
    let (place, offset) = uid.strip_prefix("kafka:")?.rsplit_once('/')?;
    let (topic, partition) = place.rsplit_once('/')?;
    Some(((topic.to_owned(), partition.parse().ok()?), offset.parse().ok()?))
}

/// Memory that a process has in use.
pub fn rss_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}
