//! A backlog that is there at once: memory, how long until the lag is gone, and whether anything was lost.
//!
//! `WATCHFIRE_BENCH_GB` says how much: bytes of events as they are, not as the broker stores them (lz4).

use std::time::{Duration, Instant};

use crate::common::{PARTITIONS, produce, sample};
use crate::events::{Dice, process_creation};
use crate::{App, MARKED, Tail, until};

const GB: u64 = 10;
/// One event in so many alerts.
const ONE_IN: u64 = 1_000;
const EVENTS: usize = 60_000;
/// Records that go to one partition in a row, as from a shipper that fills batches.
const IN_A_ROW: u64 = 500;

/// One event in twenty feeds a correlation of 500 groups, each with up to 9,000 different values.
const CORRELATION: &str = "---\ntitle: Some users\nname: some_users\nid: bench-some-users\n\
    logsource: {product: test}\ndetection: {s: {User|contains: user00}, condition: s}\n---\n\
    title: Never that many\nid: bench-many\ncorrelation: {type: value_count, rules: [some_users], \
    group-by: [Computer], timespan: 1h, condition: {field: ProcessId, gte: 100000}}\nlevel: low\n";

/// What the bounds of one worker of each stage add up to, MiB: what librdkafka holds for it, what is in its hands, an
/// answer of the broker unpacked, outputs of an epoch with their copies; then the alerts of the API and the program.
const BUDGET_MIB: u64 = 2 * (32 + 32 + 32 + 8) + 64 + 100;

pub fn measure(brokers: &str) {
    let asked = std::env::var("WATCHFIRE_BENCH_GB").ok().and_then(|n| n.parse().ok());
    let bytes_wanted = asked.unwrap_or(GB) * 1_000_000_000;
    let app = App::new(brokers, "backlog", &format!("{MARKED}{CORRELATION}"), "");
    let mut dice = Dice(7);
    let events: Vec<String> = (0..EVENTS).map(|_| process_creation(&mut dice)).collect();
    let each = events.iter().map(|e| e.len() as u64 + 60).sum::<u64>() / EVENTS as u64;
    let count = bytes_wanted / each;
    let began = Instant::now();
    let bytes = write(&app, &events, count);
    let written_in = began.elapsed();
    let stored = stored_bytes(&app.topic);

    let began = Instant::now();
    let service = app.start("a");
    let process = service.0.id();
    app.metrics();
    let tail = Tail::of(&app);
    let (mut rss_max, mut sampled) = (0, 0);
    let expected = count.div_ceil(ONE_IN) as usize;
    until("the lag is gone", || {
        rss_max = rss_max.max(rss_mib(process));
        sampled += 1;
        // It says how it stands twice a second.
        (sampled % 40 == 0 && app.lag() == Some(0.0) && tail.count() >= expected).then_some(())
    });
    let seconds = began.elapsed().as_secs_f64();
    let committing =
        sample(&app.metrics(), "watchfire_transaction_wait_seconds_sum{stage=\"filter\"}");
    std::thread::sleep(Duration::from_secs(2));
    let found = tail.finish();
    let mut numbers: Vec<u64> = found.iter().map(|a| a.sent).collect();
    numbers.sort_unstable();
    let each_once = numbers.iter().copied().eq((0..count).step_by(ONE_IN as usize));
    println!(
        "backlog: {:.1} GB in {count} events ({:.1} GB as stored), written in {written_in:.0?}; read in {seconds:.0} s: \
         {:.0} events/s, {:.0} MB/s; RSS at most {rss_max} MiB of {BUDGET_MIB}; lag 0; {} of {expected} alerts, {}; commits {:.1} % of the first stage's worker",
        bytes as f64 / 1e9,
        stored as f64 / 1e9,
        count as f64 / seconds,
        bytes as f64 / 1e6 / seconds,
        found.len(),
        if each_once { "each once" } else { "WRONG: not each once" },
        committing / seconds * 100.0,
    );
}

/// Writes the events, each numbered and a millisecond after the one before; gives their bytes.
fn write(app: &App, events: &[String], count: u64) -> u64 {
    let mut bytes = 0;
    // In pieces, so that not all are in memory.
    for from in (0..count).step_by(EVENTS) {
        let numbers = from..count.min(from + EVENTS as u64);
        let piece: Vec<(i32, String)> = numbers
            .map(|number| {
                let (mark, seconds) = (if number % ONE_IN == 0 { "yes" } else { "no" }, number / 1000);
                let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                let event = format!(
                    "{{\"sent\":{number},\"mark\":\"{mark}\",\"@timestamp\":\"2026-01-05T{hour:02}:{minute:02}:{second:02}.{:03}Z\",{}}}",
                    number % 1000,
                    events[number as usize % EVENTS],
                );
                ((number / IN_A_ROW % PARTITIONS as u64) as i32, event)
            })
            .collect();
        bytes += piece.iter().map(|(_, e)| e.len() as u64).sum::<u64>();
        produce(&app.brokers, &app.topic, piece.iter().map(|(p, e)| (*p, e.as_str())));
    }
    bytes
}

/// What the first broker of `scripts/kafka` keeps of a topic; 0 for others.
fn stored_bytes(topic: &str) -> u64 {
    let Some(dir) = std::env::var_os("WATCHFIRE_KAFKA_DIR") else { return 0 };
    let data = std::path::PathBuf::from(dir).join("broker-1/data");
    let partitions = (0..PARTITIONS).map(|p| data.join(format!("{topic}-{p}")));
    let files = partitions.flat_map(std::fs::read_dir).flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// Memory that a process has in use.
fn rss_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10
}
