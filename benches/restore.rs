//! How long it takes to have the state of correlations back after a crash, on a real Kafka.
//!
//! ```sh
//! scripts/kafka run -- cargo bench --bench restore              # 100 k and 1 M groups
//! scripts/kafka run -- cargo bench --bench restore -- 1000000:1 1000000:5
//! ```
//!
//! `GROUPS:TIMES` is a lane: so many users fail to sign in, each so often, and one rule counts them by
//! user over a day. Once all of it is counted and its state has been written, the process is killed. A new
//! one with the same name reads what was kept and goes on. What is measured is said by the service itself
//! (`watchfire_restore_seconds`: from the assignment to the moment that nothing is left to read again) and
//! by a clock from the start of the process until `/readyz` holds. More matches with as many groups are
//! more history: it must not cost more.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PARTITIONS, Running, create_topic, metrics, produce, sample};

const PATIENCE: Duration = Duration::from_secs(900);

const RULES: &str = "\
title: Failed sign-in
name: failed
logsource: {product: test}
detection:
  failed: {result: failed}
  condition: failed
---
title: Very many failures of a user
correlation:
  type: event_count
  rules: [failed]
  group-by: [user]
  timespan: 24h
  condition: {gte: 1000}
level: low
";

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let Ok(brokers) = std::env::var("WATCHFIRE_KAFKA") else {
        return println!("not measured, WATCHFIRE_KAFKA is not set: scripts/kafka run -- …");
    };
    let usual = ["100000:1", "1000000:1", "1000000:5"].map(str::to_owned);
    println!(
        "| groups | matches | restore, s | records of state written | start to ready, s | RSS, MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for lane in if asked.is_empty() { usual.to_vec() } else { asked } {
        let numbers =
            lane.split_once(':').and_then(|(g, t)| Some((g.parse().ok()?, t.parse().ok()?)));
        let Some((groups, times)) = numbers else {
            println!("`{lane}` is no lane: GROUPS:TIMES");
            continue;
        };
        measure(&brokers, groups, times);
    }
}

fn measure(brokers: &str, groups: usize, times: usize) {
    let name = format!("restore-{groups}-{times}-{}", std::process::id());
    let topic = format!("{name}-events");
    create_topic(brokers, &topic);
    let events: Vec<String> = (0..groups * times).map(|n| event(n, groups)).collect();
    let placed = events.iter().enumerate().map(|(n, e)| (n as i32 % PARTITIONS, e.as_str()));
    produce(brokers, &topic, placed);
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let config = config(dir.path(), brokers, &name, &topic, port);

    let first = start(&config);
    wait(port, "all is counted", |text| {
        let lag = text.lines().filter(|l| l.starts_with("watchfire_consumer_lag{"));
        let behind = lag.filter(|l| !l.ends_with(" 0")).count();
        sample(text, "watchfire_state_keys ") == groups as f64 && behind == 0
    });
    // Every shard has its turn once in this time.
    std::thread::sleep(Duration::from_secs(62));
    let text = metrics(port).expect("metrics");
    let written = sample(&text, "watchfire_changelog_records_total ");
    drop(first);

    let began = Instant::now();
    let second = start(&config);
    wait(port, "it is ready", |text| {
        sample(text, "watchfire_ready ") == 1.0 && sample(text, "watchfire_restore_seconds ") > 0.0
    });
    let ready = began.elapsed().as_secs_f64();
    let text = metrics(port).expect("metrics");
    assert_eq!(sample(&text, "watchfire_state_keys "), groups as f64, "groups");
    assert_eq!(sample(&text, "watchfire_restores_total{from=\"kept\"}"), 4.0, "partitions");
    let restore = sample(&text, "watchfire_restore_seconds ");
    let rss = resident(second.0.id());
    println!("| {groups} | {} | {restore:.2} | {written} | {ready:.2} | {rss} |", groups * times);
}

/// One failure of each user in turn, a thousand a second, in the order of time.
fn event(number: usize, groups: usize) -> String {
    let (second, ms) = (number / 1_000, number % 1_000);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let (user, second) = (number % groups, second % 60);
    let time = format!("2026-03-01T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
    format!(r#"{{"result":"failed","user":"user-{user:07}","time":"{time}"}}"#)
}

fn config(dir: &Path, brokers: &str, name: &str, topic: &str, port: u16) -> PathBuf {
    let rules = dir.join("rules.yml");
    std::fs::write(&rules, RULES).expect("rules");
    let path = dir.join("watchfire.yml");
    let text = format!(
        "version: 1\napp: {name}\ninstance: a\nkafka: {{brokers: ['{brokers}']}}\n\
         sources: [{{topic: {topic}, format: json, lateness: 5s, logsource: {{product: test}}}}]\n\
         rules: ['{}']\ntopics: {{matches_partitions: 4}}\nworkers: {{filter: 1, correlate: 1}}\n\
         http: {{bind: '127.0.0.1:{port}'}}\n",
        rules.display()
    );
    std::fs::write(&path, text).expect("a configuration");
    path
}

fn start(config: &Path) -> Running {
    let child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["run", "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .env("RUST_LOG", "error")
        .spawn();
    Running(child.expect("watchfire"))
}

fn wait(port: u16, what: &str, holds: impl Fn(&str) -> bool) {
    let began = Instant::now();
    while !metrics(port).is_some_and(|text| holds(&text)) {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Resident memory of a process, MiB.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: usize =
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    kib >> 10
}
