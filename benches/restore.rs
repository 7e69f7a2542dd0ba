//! How long it takes to have the state of correlations back after a crash, on a real Kafka.
//!
//! ```sh
//! scripts/kafka run -- cargo bench --bench restore              # 100 k and 1 M groups
//! scripts/kafka run -- cargo bench --bench restore -- 1000000:5:1 1000000:5:5
//! ```
//!
//! `GROUPS:ROUNDS:HELD` is a lane: so many users fail to sign in, one after the other, in so many rounds,
//! and one rule counts them by user over the time of as many rounds as are held. What is held is state, the
//! rounds before it are history, which must not cost anything.
//!
//! Once all of it is counted and its state has been written, the process is killed. A new one with the same
//! name reads what was kept and goes on. What is measured is said by the service itself
//! (`watchfire_restore_seconds`: from the assignment to the moment that nothing is left to read again) and
//! by a clock from the start of the process until `/readyz` holds.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PARTITIONS, Running, create_topic, metrics, produce, sample};

const PATIENCE: Duration = Duration::from_secs(900);
const MATCHES_PARTITIONS: i32 = 4;
/// By the times in them.
const EVENTS_PER_SECOND: usize = 100;
/// The clock of events goes on while nothing comes; until all is measured nothing is to be forgotten.
const SLACK_SECONDS: usize = 600;

const FAILED: &str = include_str!("../tests/common/failed.yml");

/// `SPAN` is the time over which failures are counted.
const RULES: &str = "\
title: Very many failures of a user
correlation:
  type: event_count
  rules: [failed]
  group-by: [user]
  timespan: SPAN
  condition: {gte: 1000}
level: low
";

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let Ok(brokers) = std::env::var("WATCHFIRE_KAFKA") else {
        return println!("not measured, WATCHFIRE_KAFKA is not set: scripts/kafka run -- …");
    };
    let usual = ["100000:1:1", "1000000:1:1", "1000000:5:1", "1000000:5:5"].map(str::to_owned);
    println!("| groups | rounds | held | state, MiB | restore, s | start to ready, s | RSS, MiB |");
    println!("|---|---|---|---|---|---|---|");
    for lane in if asked.is_empty() { usual.to_vec() } else { asked } {
        let numbers: Vec<usize> = lane.split(':').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [groups, rounds, held] => measure(&brokers, groups, rounds, held),
            _ => println!("`{lane}` is no lane: GROUPS:ROUNDS:HELD"),
        }
    }
}

fn measure(brokers: &str, groups: usize, rounds: usize, held: usize) {
    let name = format!("restore-{groups}-{rounds}-{held}-{}", std::process::id());
    let topic = format!("{name}-events");
    create_topic(brokers, &topic);
    let events: Vec<String> = (0..groups * rounds).map(|n| event(n, groups)).collect();
    let placed = events.iter().enumerate().map(|(n, e)| (n as i32 % PARTITIONS, e.as_str()));
    produce(brokers, &topic, placed);
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let span = groups * held / EVENTS_PER_SECOND + SLACK_SECONDS;
    let rules = FAILED.to_owned() + &RULES.replace("SPAN", &format!("{span}s"));
    std::fs::write(dir.path().join("rules.yml"), rules).expect("rules");
    let config = config(dir.path(), brokers, &name, &topic, port);

    let first = start(&config);
    wait(port, "all is counted", |text| {
        let mut lags = text.lines().filter(|l| l.starts_with("watchfire_consumer_lag_events{"));
        let is_there = lags.clone().count() == (PARTITIONS + MATCHES_PARTITIONS) as usize;
        is_there
            && lags.all(|l| l.ends_with(" 0"))
            && sample(text, "watchfire_state_keys ") == groups as f64
    });
    // Every shard has its turn once in a minute.
    std::thread::sleep(Duration::from_secs(65));
    let text = metrics(port).expect("metrics");
    let state = sample(&text, "watchfire_state_bytes ") / f64::from(1 << 20);
    drop(first);

    let began = Instant::now();
    let second = start(&config);
    wait(port, "it is ready", |text| {
        sample(text, "watchfire_ready ") == 1.0 && sample(text, "watchfire_restore_seconds ") > 0.0
    });
    let ready = began.elapsed().as_secs_f64();
    let text = metrics(port).expect("metrics");
    assert_eq!(sample(&text, "watchfire_state_keys "), groups as f64, "groups");
    assert_eq!(
        sample(&text, "watchfire_restores_total{from=\"kept\"}"),
        f64::from(MATCHES_PARTITIONS)
    );
    let restore = sample(&text, "watchfire_restore_seconds ");
    let rss = resident(second.0.id());
    println!("| {groups} | {rounds} | {held} | {state:.0} | {restore:.2} | {ready:.2} | {rss} |");
}

/// One failure of each user in turn, in the order of time.
fn event(number: usize, groups: usize) -> String {
    let (second, nth) = (number / EVENTS_PER_SECOND, number % EVENTS_PER_SECOND);
    let ms = nth * 1_000 / EVENTS_PER_SECOND;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let (user, second) = (number % groups, second % 60);
    let time = format!("2026-03-01T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
    format!(r#"{{"result":"failed","user":"user-{user:07}","time":"{time}"}}"#)
}

fn config(dir: &Path, brokers: &str, name: &str, topic: &str, port: u16) -> PathBuf {
    let rules = dir.join("rules.yml");
    let path = dir.join("watchfire.yml");
    let text = format!(
        "version: 1\napp: {name}\ninstance: a\nkafka: {{brokers: ['{brokers}']}}\n\
         sources: [{{topic: {topic}, format: json, lateness: 5s, logsource: {{product: test}}}}]\n\
         rules: ['{}']\ntopics: {{matches_partitions: {MATCHES_PARTITIONS}}}\nworkers: {{filter: 1, correlate: 1}}\n\
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
        .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()))
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
