//! What exactly-once costs, and what happens after a crash and behind a backlog, on a real Kafka.
//!
//! ```sh
//! scripts/kafka run -- cargo bench --bench faults -- latency    # from producing an event to its committed alert
//! scripts/kafka run -- cargo bench --bench faults -- failover   # from kill -9 to the first new alert
//! scripts/kafka run -- cargo bench --bench faults -- backlog    # 10 GB at once: memory, lag, nothing lost
//! ```
//!
//! The broker works on the same cores. All three run one rule for single events, whose alerts go out with the first
//! stage's commit; what correlations add (lateness and a marker) is configured, not measured.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod backlog;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/events.rs"]
mod events;
mod failover;
mod latency;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Running, metrics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const CALL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(600);
const ALERTS_PARTITIONS: i32 = 3;

/// Marked events alert.
const MARKED: &str = "title: Marked\nid: bench-marked\nlogsource: {product: test}\n\
    detection:\n  wanted: {mark: 'yes'}\n  condition: wanted\nlevel: low\n";

/// A name and what it measures, given the brokers.
type Lane = (&'static str, fn(&str));

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let Ok(brokers) = std::env::var("WATCHFIRE_KAFKA") else {
        return println!("not measured, WATCHFIRE_KAFKA is not set: scripts/kafka run -- …");
    };
    let lanes: [Lane; 3] = [
        ("latency", latency::measure),
        ("failover", failover::measure),
        ("backlog", backlog::measure),
    ];
    for (name, measure) in lanes {
        if asked.is_empty() || asked.iter().any(|a| a == name) {
            measure(&brokers);
        }
    }
}

/// An app over one topic; its files live as long as it does.
struct App {
    brokers: String,
    name: String,
    topic: String,
    folder: tempfile::TempDir,
    port: u16,
    /// Lines of the configuration beyond those that all lanes have.
    more: String,
    rules: String,
}

impl App {
    fn new(brokers: &str, lane: &str, rules: &str, more: &str) -> App {
        let name = format!("bench-{lane}-{}", micros());
        let topic = format!("{name}-events");
        common::create_topic(brokers, &topic);
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let folder = tempfile::tempdir().expect("a folder");
        let (brokers, more, rules) = (brokers.to_owned(), more.to_owned(), rules.to_owned());
        App { brokers, name, topic, folder, port, more, rules }
    }

    fn start(&self, instance: &str) -> Running {
        let rules = self.folder.path().join("rules.yml");
        std::fs::write(&rules, &self.rules).expect("written");
        let config = format!(
            "version: 1\napp: {}\ninstance: {instance}\nkafka: {{brokers: ['{}']}}\n\
             sources: [{{topic: {}, format: json, logsource: {{product: test}}}}]\nrules: [{rules:?}]\n\
             topics: {{matches_partitions: 8}}\nworkers: {{filter: 1, correlate: 1}}\n\
             http: {{bind: '127.0.0.1:{}'}}\n{}",
            self.name, self.brokers, self.topic, self.port, self.more,
        );
        let path = self.folder.path().join("watchfire.yml");
        std::fs::write(&path, config).expect("written");
        let log =
            std::fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .args(["run", "--config"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Running(child.expect("watchfire run"))
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    fn alerts(&self) -> String {
        format!("{}.alerts", self.name)
    }

    /// Waits until the API answers, and gives the metrics.
    fn metrics(&self) -> String {
        until("the API answers", || metrics(self.port).filter(|text| text.contains("watchfire_")))
    }

    /// Sum of the first stage's lag, as it says itself; `None` while it does not say.
    fn lag(&self) -> Option<f64> {
        let text = metrics(self.port)?;
        let ours = format!("topic=\"{}\"", self.topic);
        let lags = text
            .lines()
            .filter(|l| l.starts_with("watchfire_consumer_lag_events{") && l.contains(&ours));
        let lags: Vec<f64> = lags.filter_map(|l| l.rsplit_once(' ')?.1.parse().ok()).collect();
        (lags.len() == common::PARTITIONS as usize).then(|| lags.iter().sum())
    }
}

fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = step() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Now, in microseconds since 1970: both ends of a measurement are on this machine.
fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

fn consumer(brokers: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .create()
        .expect("consumer")
}

/// When an event was sent, and when its committed alert was there.
#[derive(Clone, Copy)]
struct Arrival {
    sent: u64,
    arrived: u64,
}

/// A thread that reads committed alerts as they come.
struct Tail {
    stop: Arc<AtomicBool>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    thread: JoinHandle<()>,
}

impl Tail {
    fn of(app: &App) -> Tail {
        let consumer = consumer(&app.brokers, "read_committed");
        let mut list = TopicPartitionList::new();
        for partition in 0..ALERTS_PARTITIONS {
            list.add_partition_offset(&app.alerts(), partition, Offset::Beginning).expect("one");
        }
        consumer.assign(&list).expect("assigned");
        let stop = Arc::new(AtomicBool::new(false));
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let (ended, found) = (Arc::clone(&stop), Arc::clone(&arrivals));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                let sent = sent(message.payload().unwrap_or_default());
                let arrival = Arrival { sent, arrived: micros() };
                found.lock().expect("not poisoned").push(arrival);
            }
        });
        Tail { stop, arrivals, thread }
    }

    fn count(&self) -> usize {
        self.arrivals.lock().expect("not poisoned").len()
    }

    /// The first alert of an event that was sent after a time.
    fn first_after(&self, time: u64) -> Option<Arrival> {
        let arrivals = self.arrivals.lock().expect("not poisoned");
        arrivals.iter().find(|a| a.sent > time).copied()
    }

    fn finish(self) -> Vec<Arrival> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("read");
        Arc::into_inner(self.arrivals).expect("the thread is gone").into_inner().expect("whole")
    }
}

/// When the event of an alert was sent: a field that the lanes write first.
fn sent(alert: &[u8]) -> u64 {
    const NAME: &str = "\"sent\":";
    let text = String::from_utf8_lossy(alert);
    let Some((_, rest)) = text.split_once(NAME) else { return 0 };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_default()
}

/// An event of now that alerts.
fn marked(members: &str) -> String {
    format!("{{\"sent\":{},\"mark\":\"yes\",{members}}}", micros())
}

/// The value below which a share of all lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted[at.saturating_sub(1).min(sorted.len() - 1)]
}

/// Committed and written ends of the alerts' partitions.
fn ends(consumers: &BTreeMap<&str, BaseConsumer>, topic: &str) -> [Vec<i64>; 2] {
    ["read_committed", "read_uncommitted"].map(|isolation| {
        let of = |p| consumers[isolation].fetch_watermarks(topic, p, CALL).expect("ends").1;
        (0..ALERTS_PARTITIONS).map(of).collect()
    })
}
