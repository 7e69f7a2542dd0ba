//! One lane: every contender in turn, round after round, and the medians.
//!
//! What counts is the work on events, net of starting, loading rules and ending: a run over the events is
//! followed by one over an empty file, and the difference counts. Watchfire says itself what it had used
//! when its rules were loaded, which is not the same in two runs, so of it the difference behind that
//! counts. Contenders alternate within a round, so that a slow minute of the machine hits all of them.

use std::collections::BTreeMap;
use std::fs::File;

use crate::contender::{Contender, Contenders, Mode, Seconds, count_lines};
use crate::data::Events;
use crate::report::{Cell, Figure};

/// Runs of Watchfire for one of RSigma: they are short, and short runs need more of them.
const WATCHFIRE_RUNS: usize = 3;
/// The lane on which whole alerts are measured too.
const ALERTS_LANE: &str = "win_mix";

/// Measures a lane in each mode there is.
pub fn lane(contenders: &Contenders, events: &Events, rounds: usize) -> anyhow::Result<Vec<Cell>> {
    let mut modes = vec![Mode::Routed];
    modes.extend(contenders.unrouted.then_some(Mode::Unrouted));
    modes.into_iter().map(|mode| cell(contenders, events, mode, rounds)).collect()
}

fn cell(
    contenders: &Contenders,
    events: &Events,
    mode: Mode,
    rounds: usize,
) -> anyhow::Result<Cell> {
    let mut turns = vec![Contender::Watchfire(1)];
    turns.extend(contenders.has_rsigma().then_some(Contender::Rsigma));
    turns.push(Contender::Watchfire(1));
    if mode == Mode::Routed {
        turns.extend([Contender::SerdeJson, Contender::SimdJson, Contender::Watchfire(2)]);
        turns.extend((events.name == ALERTS_LANE).then_some(Contender::Alerts));
    }
    turns.extend([Contender::Watchfire(1); WATCHFIRE_RUNS - 2]);
    let mut runs: BTreeMap<Contender, Vec<Run>> = BTreeMap::new();
    for round in 1..=rounds {
        eprintln!("{} {mode:?}: round {round} of {rounds}", events.name);
        for &who in &turns {
            runs.entry(who).or_default().push(run(contenders, who, mode, events)?);
        }
    }
    let figure = |who| runs.get(&who).map(|runs| figure(runs, events.count));
    Ok(Cell {
        lane: events.name.to_owned(),
        mode,
        events: events.count,
        bytes: events.bytes,
        watchfire: figure(Contender::Watchfire(1)).unwrap_or_default(),
        two_threads: figure(Contender::Watchfire(2)),
        alerts: figure(Contender::Alerts),
        rsigma: figure(Contender::Rsigma),
        serde_json: figure(Contender::SerdeJson),
        simd_json: figure(Contender::SimdJson),
    })
}

/// What one run used, beside one over nothing.
#[derive(Clone, Copy)]
pub struct Run {
    events: Seconds,
    load: Seconds,
    rss: u64,
    lines: u64,
}

/// Runs a contender over the events, and without them.
pub fn run(
    contenders: &Contenders,
    who: Contender,
    mode: Mode,
    events: &Events,
) -> anyhow::Result<Run> {
    // Whoever has to wait for the disk would be charged for it: the file is in memory for all of them.
    count_lines(&mut File::open(&events.path)?)?;
    let full = contenders.run(who, mode, events, false)?;
    let empty = contenders.run(who, mode, events, true)?;
    let (events, load) = match full.load.zip(empty.load) {
        Some((load, without)) => ((full.whole - load) - (empty.whole - without), load),
        None => (full.whole - empty.whole, empty.whole),
    };
    Ok(Run { events, load, rss: full.rss, lines: full.lines })
}

/// The medians of several runs.
pub fn figure(runs: &[Run], events: u64) -> Figure {
    let per_event = |seconds: f64| seconds * 1e9 / events as f64;
    let mut cpu: Vec<f64> = runs.iter().map(|r| per_event(r.events.cpu)).collect();
    let wall = runs.iter().map(|r| per_event(r.events.wall));
    let matches: Vec<u64> = runs.iter().map(|r| r.lines).collect();
    cpu.sort_by(f64::total_cmp);
    Figure {
        cpu_ns: median(cpu.iter().copied()),
        cpu_ns_least: cpu[0],
        cpu_ns_most: cpu[cpu.len() - 1],
        wall_ns: median(wall),
        load_seconds: median(runs.iter().map(|r| r.load.cpu)),
        rss_bytes: median(runs.iter().map(|r| r.rss as f64)) as u64,
        matches: matches[0],
        steady: matches.iter().all(|n| *n == matches[0]),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}
