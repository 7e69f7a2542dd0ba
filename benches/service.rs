//! How fast the whole service is on syslog: `eval` over a file, and `run` on a real Kafka. For JSON there are
//! `lanes` and `kafka`.
//!
//! ```sh
//! scripts/kafka run -- cargo bench --bench service
//! ```
//!
//! Without `WATCHFIRE_KAFKA` only `eval` is measured. Prints one table.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod common;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PARTITIONS, Running, create_topic, metrics, produce, sample};

const EVENTS: usize = 500_000;

fn main() {
    let lines = lines();
    let bytes: usize = lines.iter().map(|l| l.len() + 1).sum();
    println!("{EVENTS} sshd lines, {} bytes each on average, the shipped rules", bytes / EVENTS);
    println!("| what | events/s | MB/s | more |\n|---|---|---|---|");
    eval(&lines, 1);
    eval(&lines, 2);
    match std::env::var("WATCHFIRE_KAFKA") {
        Ok(brokers) => service(&lines, bytes, &brokers),
        Err(_) => {
            println!("run: not measured, WATCHFIRE_KAFKA is not set (scripts/kafka run -- …)")
        }
    }
}

/// An hour of a server: 1 % failed logins, brute force now and then.
fn lines() -> Vec<String> {
    let mut seed = 42u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let line = |i: usize| {
        let second = i * 3600 / EVENTS;
        let (user, host, port) = (below(5000), below(50), 1024 + below(60_000));
        let (net, address) = (below(200), 1 + below(250));
        let verb = if below(100) == 0 { "Failed password" } else { "Accepted publickey" };
        format!(
            "Jan  5 10:{:02}:{:02} host-{host:03} sshd[{}]: {verb} for user{user:05} from 10.9.{net}.{address} port {port} ssh2",
            second / 60,
            second % 60,
            1000 + below(30_000)
        )
    };
    (0..EVENTS).map(line).collect()
}

fn eval(lines: &[String], threads: usize) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines.join("\n")).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args([
            "eval",
            "--format",
            "syslog",
            "--stats",
            "--threads",
            &threads.to_string(),
            "--rules",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules"))
        .arg(file.path())
        .stdout(Stdio::null())
        .output()
        .expect("watchfire eval");
    let stats: serde_json::Value = serde_json::from_slice(&output.stderr).expect("--stats");
    let rate = stats["events_per_second"].as_f64().expect("rate");
    let seconds = EVENTS as f64 / rate;
    let mb = stats["bytes"].as_f64().expect("bytes") / 1e6 / seconds;
    println!(
        "| eval, {threads} threads | {rate:.0} | {mb:.0} | {:.2} CPU s, {:.0} MB peak, {} alerts |",
        stats["cpu_seconds"].as_f64().expect("CPU"),
        stats["rss_peak_bytes"].as_f64().expect("RSS") / 1e6,
        stats["alerts"]
    );
}

fn service(lines: &[String], bytes: usize, brokers: &str) {
    let app = format!("bench-{}", std::process::id());
    let topic = format!("{app}-logs");
    create_topic(brokers, &topic);
    // In the order of time.
    let placed = lines.iter().enumerate().map(|(i, line)| (i as i32 % PARTITIONS, line.as_str()));
    produce(brokers, &topic, placed);
    let folder = tempfile::tempdir().expect("a folder");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut config = String::new();
    let _ = write!(
        config,
        "version: 1\napp: {app}\nkafka: {{brokers: ['{brokers}']}}\n\
         sources: [{{topic: {topic}, format: syslog}}]\nrules: ['{}']\n\
         topics: {{matches_partitions: 8}}\nworkers: {{filter: 1, correlate: 1}}\n\
         http: {{bind: '127.0.0.1:{port}'}}\n",
        rules.display()
    );
    let path = folder.path().join("watchfire.yml");
    std::fs::write(&path, config).expect("written");
    let mut child = Running(
        Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .args(["run", "--config"])
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .expect("watchfire run"),
    );
    let (mut began, deadline) = (None, Instant::now() + Duration::from_secs(120));
    let text = loop {
        assert!(Instant::now() < deadline, "not done in time");
        std::thread::sleep(Duration::from_millis(50));
        let Some(text) = metrics(port) else { continue };
        let read = sample(&text, "watchfire_events_consumed_total{");
        if read > 0.0 && began.is_none() {
            began = Some((Instant::now(), read));
        }
        if read as usize >= EVENTS {
            break text;
        }
    };
    let (began, before) = began.expect("it read something");
    let seconds = began.elapsed().as_secs_f64();
    let share = (EVENTS as f64 - before) / EVENTS as f64;
    let stage = |q: &str, s: &str| {
        1e3 * sample(&text, &format!("watchfire_transaction_{q}_seconds{{stage=\"{s}\"}}"))
    };
    println!(
        "| run, 1 + 1 workers | {:.0} | {:.0} | commit p50/p99 ms: filter {:.1}/{:.1}, correlate {:.1}/{:.1}; {} commits |",
        EVENTS as f64 * share / seconds,
        bytes as f64 * share / 1e6 / seconds,
        stage("p50", "filter"),
        stage("p99", "filter"),
        stage("p50", "correlate"),
        stage("p99", "correlate"),
        sample(&text, "watchfire_transactions_total{outcome=\"committed\",stage=\"filter\"}"),
    );
    child.0.kill().expect("killed");
}
