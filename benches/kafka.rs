//! How fast `watchfire run` reads a real Kafka: preloaded topics, all of it exactly once.
//!
//! ```sh
//! scripts/kafka run -- cargo bench --bench kafka               # all lanes
//! scripts/kafka run -- cargo bench --bench kafka -- auth quiet # those whose name has each of these words
//! ```
//!
//! A lane is a topic of six partitions, compressed with lz4 and written before anything is measured, and
//! a set of rules. The clock runs from the first position that the group commits, which happens before
//! the first record is processed, to the commit of the last record. The broker works on the same cores, and
//! compiles what it runs while it runs it; so each lane is drained in several rounds, each by an app of its own. The
//! first shows a broker that has just begun, the later ones one that has done this for a minute.
//! Then the alerts topic is compared with `watchfire eval` over the same records: an alert's identity is
//! made of the rule and the record's place, so both must name the same ones. Watchfire has as many workers as it
//! takes by itself, or `WATCHFIRE_BENCH_WORKERS` in its first stage.
//!
//! `rules` lanes run all of SigmaHQ's rules when the corpora are there (`WATCHFIRE_CORPORA`), else those
//! that come with Watchfire; `quiet` lanes run one rule that never matches, to show what is not matching.
//! The records of 1.1 kB are the corpora's real Windows events, repeated, or made to look like some.
//! `WATCHFIRE_BENCH_RECORDS` sets how many records a lane has.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod common;
#[path = "common/events.rs"]
mod events;
#[path = "../tests/common/sigmahq.rs"]
mod sigmahq;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PARTITIONS, Running, create_topic, metrics, produce, sample};
use events::Dice;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use watchfire::ids::AlertId;

/// Records in a row that go to one partition, as from a shipper that fills batches.
const IN_A_ROW: usize = 500;
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(600);
const CALL: Duration = Duration::from_secs(10);

const NEVER: &str = "title: Never\nid: 8f9b7b5e-0000-4000-8000-000000000001\nlogsource: {category: any}\n\
    detection:\n  wanted: {no_such_field: nothing}\n  condition: wanted\nlevel: low\n";
const ROOT: &str = "title: Failed login as root\nid: 8f9b7b5e-0000-4000-8000-000000000002\n\
    logsource: {product: linux, service: sshd}\n\
    detection:\n  wanted: {user: root, outcome: failure}\n  condition: wanted\nlevel: low\n";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let Ok(brokers) = std::env::var("WATCHFIRE_KAFKA") else {
        return println!("not measured, WATCHFIRE_KAFKA is not set: scripts/kafka run -- …");
    };
    println!(
        "| lane | events/s | MB/s | CPU ns an event: watchfire | its threads | broker | more |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (source, make) in [("auth 250 B", auth as fn() -> Records), ("windows 1.1 kB", windows)] {
        let rules = ["rules", "quiet"].map(|r| (r, format!("{source}, {r}")));
        let asked = |name: &str| words.iter().all(|w| name.contains(w.as_str()));
        if !rules.iter().any(|(_, name)| asked(name)) {
            continue;
        }
        let records = make();
        let topic = format!("bench-{}-{}", &source[..4], std::process::id());
        create_topic(&brokers, &topic);
        let placed = records.iter().enumerate().map(|(number, event)| (place(number).0, event));
        produce(&brokers, &topic, placed);
        for (rules, name) in rules.iter().filter(|(_, name)| asked(name)) {
            let lane = Lane { name, brokers: &brokers, topic: &topic, records: &records };
            for round in 1..=ROUNDS {
                lane.measure(rules, round);
            }
        }
    }
}

/// What a topic holds: some events, repeated.
struct Records {
    events: Vec<String>,
    count: usize,
    logsource: &'static str,
    note: &'static str,
}

impl Records {
    fn new(events: Vec<String>, count: usize, logsource: &'static str, note: &'static str) -> Self {
        let asked = std::env::var("WATCHFIRE_BENCH_RECORDS").ok().and_then(|n| n.parse().ok());
        Self { events, count: asked.unwrap_or(count), logsource, note }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.events.iter().cycle().take(self.count).map(String::as_str)
    }

    fn bytes(&self) -> usize {
        self.iter().map(str::len).sum()
    }
}

/// Where the record of a number lies.
fn place(number: usize) -> (i32, i64) {
    let (row, column) = (number / IN_A_ROW, number % IN_A_ROW);
    let partitions = PARTITIONS as usize;
    ((row % partitions) as i32, (row / partitions * IN_A_ROW + column) as i64)
}

/// A hundred logins a second.
fn auth() -> Records {
    let mut dice = Dice(42);
    let event = |i: usize| {
        let (second, ms) = (i / 100 % 3600, i * 10 % 1000);
        let (minute, second) = (second / 60, second % 60);
        let members = events::login(&mut dice);
        format!("{{\"@timestamp\":\"2026-01-05T10:{minute:02}:{second:02}.{ms:03}Z\",{members}}}")
    };
    let events = (0..200_000).map(event).collect();
    Records::new(events, 10_000_000, "{product: linux, service: sshd}", "made by the bench")
}

fn windows() -> Records {
    let real = corpora().filter(|dir| dir.join("windows/win_mix.ndjson.zst").is_file());
    match real {
        Some(dir) => {
            let text = sigmahq::windows_events(&dir);
            let events: Vec<String> = text.lines().map(str::to_owned).collect();
            Records::new(events, 3_000_000, "{product: windows}", "the corpora's Windows events")
        }
        None => Records::new(made_up(), 3_000_000, "{product: windows}", "made by the bench"),
    }
}

fn made_up() -> Vec<String> {
    let mut dice = Dice(7);
    let event = |i: usize| {
        let (minute, second) = (i / 60 % 60, i % 60);
        let members = events::process_creation(&mut dice);
        format!("{{\"@timestamp\":\"2026-01-01T00:{minute:02}:{second:02}.000Z\",{members}}}")
    };
    (0..60_000).map(event).collect()
}

fn corpora() -> Option<PathBuf> {
    let given = std::env::var_os("WATCHFIRE_CORPORA").map(PathBuf::from);
    let dir =
        given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"));
    dir.is_dir().then_some(dir)
}

struct Lane<'l> {
    name: &'l str,
    brokers: &'l str,
    topic: &'l str,
    records: &'l Records,
}

impl Lane<'_> {
    fn measure(&self, rules: &str, round: usize) {
        let (quiet, app) = (rules == "quiet", format!("{}-{rules}-{round}", self.topic));
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("own.yml");
        std::fs::write(&own, if quiet { NEVER } else { ROOT }).expect("written");
        let mut rules = vec![own];
        if !quiet {
            let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
            rules.push(corpora().map_or(shipped, |dir| dir.join("sigmahq/rules")));
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let config = self.config(&app, port, &rules);
        let path = folder.path().join("watchfire.yml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut child = Running(
            Command::new(env!("CARGO_BIN_EXE_watchfire"))
                .args(["run", "--config"])
                .arg(&path)
                .stderr(log)
                .spawn()
                .expect("watchfire run"),
        );
        let (seconds, threads, broker) = self.drained(&app, child.0.id());
        let text = metrics(port).expect("the API answers");
        child.0.kill().expect("killed");
        child.0.wait().expect("ended");
        let count = self.records.count as f64;
        let ns = |seconds: f64| (seconds * 1e9 / count).round();
        let each: Vec<String> =
            threads.iter().map(|(name, s)| format!("{name} {}", ns(*s))).collect();
        let committed = "watchfire_transactions_total{outcome=\"committed\",stage=\"filter\"}";
        let committing = sample(&text, "watchfire_transaction_wait_seconds_sum{stage=\"filter\"}");
        println!(
            "| {}, round {round} | {:.0} | {:.0} | {} | {} | {} | {seconds:.2} s, {} records, {:.0} B each, {}; {} commits, waited for {:.1} % of the time; {} |",
            self.name,
            count / seconds,
            self.records.bytes() as f64 / 1e6 / seconds,
            ns(threads.values().sum()),
            each.join(", "),
            ns(broker),
            self.records.count,
            self.records.bytes() as f64 / count,
            self.records.note,
            sample(&text, committed),
            committing / seconds * 100.0,
            self.compared(&format!("{app}.alerts"), &rules),
        );
    }

    fn config(&self, app: &str, port: u16, rules: &[PathBuf]) -> String {
        let mut config = String::new();
        let asked = std::env::var("WATCHFIRE_BENCH_WORKERS").ok();
        let workers = asked.map(|n| format!("workers: {{filter: {n}}}\n")).unwrap_or_default();
        let _ = write!(
            config,
            "version: 1\napp: {app}\nkafka: {{brokers: ['{}']}}\n\
             sources: [{{topic: {}, format: json, logsource: {}}}]\nrules: {:?}\n\
             topics: {{matches_partitions: 8}}\n{workers}\
             http: {{bind: '127.0.0.1:{port}'}}\n",
            self.brokers, self.topic, self.records.logsource, rules
        );
        config
    }

    /// Waits until all is committed; gives the time, and what it cost: seconds of CPU by thread, and of
    /// the brokers.
    fn drained(&self, app: &str, process: u32) -> (f64, BTreeMap<String, f64>, f64) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers)
            .set("group.id", format!("{app}-filter"))
            .create()
            .expect("consumer");
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(self.topic, 0, PARTITIONS - 1);
        let positions = || {
            // The group may have no coordinator yet.
            let Ok(found) = consumer.committed_offsets(wanted.clone(), CALL) else { return vec![] };
            let offset = |o| if let Offset::Offset(n) = o { Some(n) } else { None };
            found.elements().iter().filter_map(|e| offset(e.offset())).collect::<Vec<i64>>()
        };
        let deadline = Instant::now() + PATIENCE;
        let mut began = None;
        loop {
            assert!(Instant::now() < deadline, "not drained in time");
            let at = positions();
            if at.len() == PARTITIONS as usize {
                let start =
                    began.get_or_insert_with(|| (Instant::now(), cpu(process), brokers_cpu()));
                if at.iter().sum::<i64>() == self.records.count as i64 {
                    let seconds = start.0.elapsed().as_secs_f64();
                    let before = |name: &str| start.1.get(name).copied().unwrap_or_default();
                    let spent = cpu(process).into_iter().map(|(n, s)| (n.clone(), s - before(&n)));
                    let spent = spent.filter(|(_, s)| *s * 1e9 / self.records.count as f64 >= 1.0);
                    return (seconds, spent.collect(), brokers_cpu() - start.2);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Compares the alerts topic with `watchfire eval`.
    fn compared(&self, topic: &str, rules: &[PathBuf]) -> String {
        let expected = self.expected(rules);
        let (found, published) = alerts(self.brokers, topic);
        let twice = published - found.len();
        let missing = expected.difference(&found).count();
        let strange = found.difference(&expected).count();
        match (missing, strange, twice) {
            (0, 0, 0) => format!("{published} alerts, the same as of eval"),
            _ => format!(
                "WRONG: {} alerts by eval, {missing} missing, {strange} strange, {twice} twice",
                expected.len()
            ),
        }
    }

    /// Identities of the alerts that `eval` finds, each for the place where its record lies in Kafka.
    fn expected(&self, rules: &[PathBuf]) -> BTreeSet<String> {
        let mut logsource = self.records.logsource.replace([' ', '{', '}'], "");
        logsource = logsource.replace(':', "=");
        let mut child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .args(["eval", "--format", "json", "--logsource", &logsource])
            .args(rules.iter().flat_map(|r| [Path::new("--rules"), r]))
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("watchfire eval");
        let mut input = std::io::BufWriter::new(child.stdin.take().expect("stdin"));
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        let expected = std::thread::scope(|scope| {
            scope.spawn(move || {
                for event in self.records.iter() {
                    writeln!(input, "{event}").expect("written");
                }
            });
            output.lines().map(|line| self.moved(&line.expect("a line"))).collect()
        });
        assert!(child.wait().expect("eval ends").success(), "watchfire eval failed");
        expected
    }

    /// The identity that an alert of `eval` has when its record comes from Kafka.
    fn moved(&self, alert: &str) -> String {
        let alert: serde_json::Value = serde_json::from_str(alert).expect("an alert");
        let info = &alert["finding_info"];
        let text = |v: &serde_json::Value| v.as_str().expect("text").to_owned();
        if info["types"][0] != "sigma.detection" {
            return text(&info["uid"]);
        }
        let line = alert["evidences"][0]["data"]["kafka"]["offset"].as_u64().expect("a line");
        let (partition, offset) = place(line as usize);
        let id = AlertId::of(&[
            b"detection",
            text(&info["analytic"]["uid"]).as_bytes(),
            self.topic.as_bytes(),
            &partition.to_le_bytes(),
            &offset.to_le_bytes(),
        ]);
        id.to_string()
    }
}

/// Identities of all committed alerts, and how many records they are.
fn alerts(brokers: &str, topic: &str) -> (BTreeSet<String>, usize) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench-alerts")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("consumer");
    let metadata = consumer.fetch_metadata(Some(topic), CALL).expect("metadata");
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let (mut ids, mut count, mut ended) = (BTreeSet::new(), 0, BTreeSet::new());
    while ended.len() < partitions.len() {
        match consumer.poll(CALL).expect("records or the end") {
            Ok(message) => {
                let key = message.key().expect("an identity");
                ids.insert(String::from_utf8_lossy(key).into_owned());
                count += 1;
            }
            Err(KafkaError::PartitionEOF(partition)) => drop(ended.insert(partition)),
            Err(error) => panic!("cannot read the alerts: {error}"),
        }
    }
    (ids, count)
}

/// Seconds of CPU that a process has used, by names of threads.
fn cpu(process: u32) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let ns: f64 = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
        // librdkafka has a thread for each client and each broker of it.
        let name = if name.starts_with("rdk:") { "librdkafka" } else { name.trim() };
        *found.entry(name.to_owned()).or_default() += ns / 1e9;
    }
    found
}

/// Seconds of CPU that the brokers of `scripts/kafka` have used; 0 for others.
fn brokers_cpu() -> f64 {
    let Some(dir) = std::env::var_os("WATCHFIRE_KAFKA_DIR") else { return 0.0 };
    let pids = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let pids = pids.filter_map(|d| std::fs::read_to_string(d.path().join("pid")).ok());
    let pids = pids.filter_map(|pid| pid.trim().parse().ok());
    pids.map(|pid| cpu(pid).values().sum::<f64>()).sum()
}
