//! How long single events take, the slowest above all: the whole first stage, alerts included; and how
//! long it takes to make a plan of what to look for.
//!
//! ```sh
//! cargo run --release --manifest-path benches/engine/Cargo.toml --bin tails -- EVENTS.ndjson RULES
//! ```
//!
//! Plans are learned in a first pass over the events. Of each event the best of five later passes counts:
//! the machine's own pauses hit another event each time, a slow event is slow in every pass. A plan is
//! timed with the event for which it was made.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs, path::Path};

use engine_benches::{compiled, rule_texts};
use hdrhistogram::Histogram;
use watchfire::decode::{Decoder, Format, Tables, shipped_tables};
use watchfire::ids::Coordinate;
use watchfire::pipeline::{Filter, FilterOutput, Record};
use watchfire::time::Timestamp;

const PASSES: usize = 5;

/// The slowest events that are named.
const NAMED: usize = 5;

/// Bytes of an event that are shown.
const SHOWN_BYTES: usize = 160;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [events, rules] => run(Path::new(events), Path::new(rules)),
        _ => Err("usage: tails EVENTS.ndjson RULES".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tails: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(events: &Path, rules: &Path) -> Result<(), String> {
    let bytes = fs::read(events).map_err(|e| format!("{}: {e}", events.display()))?;
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    let rules = Arc::new(compiled(&rule_texts(rules)));
    let tables = Tables::new(shipped_tables().map_err(|e| e.to_string())?);
    let tables = tables.map_err(|e| e.to_string())?;
    let decoder = Arc::new(Decoder::new(Format::Json, Vec::new()).with_tables(tables));
    println!("{} events, {} rules", lines.len(), rules.detections.len());
    for routed in [true, false] {
        let mut filter = Filter::new(Arc::clone(&rules), Arc::clone(&decoder));
        if !routed {
            filter = filter.without_routing();
        }
        let took = passes(&mut filter, &lines);
        report(routed, &lines, &took.events)?;
        report_plans("first plans", took.first_plans);
        report_plans("plans made anew", took.better_plans);
    }
    Ok(())
}

/// Nanoseconds.
struct Took {
    /// Of each event, the best of its passes.
    events: Vec<u64>,
    /// Of each event with which a kind of events got its first plan.
    first_plans: Vec<u64>,
    /// Of each event after which a plan was made anew.
    better_plans: Vec<u64>,
}

fn passes(filter: &mut Filter, lines: &[&[u8]]) -> Took {
    let events = vec![u64::MAX; lines.len()];
    let mut all = Took { events, first_plans: Vec::new(), better_plans: Vec::new() };
    let mut at = Coordinate { topic: "input".into(), partition: 0, offset: 0 };
    let mut out = FilterOutput::default();
    for pass in 0..=PASSES {
        for (number, line) in lines.iter().enumerate() {
            at.offset = number as i64;
            let record = Record {
                at: &at,
                payload: Some(line),
                headers: &[],
                timestamp: None,
                reference: Timestamp(0),
                now: None,
            };
            let (first_plans, better_plans) = filter.plans_made();
            let start = Instant::now();
            filter.record(&record, &mut out);
            let took = start.elapsed().as_nanos() as u64;
            let made = filter.plans_made();
            if made.0 > first_plans {
                all.first_plans.push(took);
            }
            if made.1 > better_plans {
                all.better_plans.push(took);
            }
            if pass > 0 {
                all.events[number] = all.events[number].min(took);
            }
            out.alerts.clear();
            out.matches.clear();
            out.detections.clear();
            out.rejects.clear();
        }
    }
    all
}

fn report_plans(what: &str, mut plans: Vec<u64>) {
    plans.sort_unstable();
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let (all, most) = (plans.iter().sum(), plans.last().copied().unwrap_or_default());
    let median = plans.get(plans.len() / 2).copied().unwrap_or_default();
    println!(
        "  {} {what}: {:.0} ms together, median {:.1} ms, longest {:.1} ms",
        plans.len(),
        millis(all),
        millis(median),
        millis(most)
    );
}

fn report(routed: bool, lines: &[&[u8]], took: &[u64]) -> Result<(), String> {
    let mut histogram = Histogram::<u64>::new(3).map_err(|e| e.to_string())?;
    for nanos in took {
        histogram.record(*nanos).map_err(|e| e.to_string())?;
    }
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let quantile = |q: f64| micros(histogram.value_at_quantile(q));
    println!(
        "\n{}: mean {:.1} µs, p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, worst {:.1}",
        if routed { "routed" } else { "unrouted" },
        histogram.mean() / 1e3,
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        micros(histogram.max()),
    );
    let mut slowest: Vec<usize> = (0..took.len()).collect();
    slowest.sort_by_key(|number| std::cmp::Reverse(took[*number]));
    for number in slowest.into_iter().take(NAMED) {
        let line = lines[number];
        let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
        println!(
            "  line {}: {:.1} µs, {} bytes: {shown}",
            number + 1,
            micros(took[number]),
            line.len()
        );
    }
    Ok(())
}
