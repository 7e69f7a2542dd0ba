//! Correlations side by side: ten failed sign-ins of a user, failures of twenty users from one address, both
//! within five minutes, over two million sign-ins.
//!
//! ```sh
//! cargo bench --bench stateful                # the table, on standard output
//! cargo bench --bench stateful -- --check     # and the bars: fails below one
//! ```
//!
//! Each figure is of whole processes on one thread: user and system time, less that of a run over nothing;
//! medians of interleaved rounds. What each says is compared with the groups that the events hold, found by
//! testing every window. RSigma is measured if `rsigma` is on the `PATH`, DuckDB, which is no stream engine but a
//! columnar database that reads the file as a whole, if `python3` has its package.

mod lane;
#[path = "../common/seeded.rs"]
mod seeded;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::Value;
use wait4::Wait4;

use lane::{Lane, Spec};

const LANES: [Spec; 3] = [
    Spec { name: "auth_1pct", seed: 1, failing: 1, disorder_ms: 0 },
    Spec { name: "auth_50pct", seed: 2, failing: 50, disorder_ms: 0 },
    Spec { name: "auth_50pct, 30 s of disorder", seed: 3, failing: 50, disorder_ms: 30_000 },
];

/// Times RSigma's events per second that Watchfire's are to be, by lane.
const RATIOS: [(&str, f64); 2] = [("auth_1pct", 3.0), ("auth_50pct", 4.0)];
/// MiB resident.
const RSS_MAX: f64 = 70.0;

const WATCHFIRE: &str = env!("CARGO_BIN_EXE_watchfire");

/// Compares correlations over the same events and rules.
#[derive(Parser)]
#[command(name = "stateful")]
struct Options {
    /// Interleaved rounds; figures are their medians
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Events of each lane
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    events: usize,
    /// Fail where a bar is missed
    #[arg(long)]
    check: bool,
    /// Write the lane of that name there and end: what this program runs as its own child
    #[arg(long, num_args = 2, value_names = ["LANE", "FILE"], hide = true)]
    make: Option<Vec<String>>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Watchfire,
    Rsigma,
    DuckDb,
}

/// What a run used, and what it said.
struct Run {
    cpu: f64,
    rss: f64,
    groups: BTreeSet<String>,
}

/// The medians of a contender's runs.
struct Figure {
    who: Contender,
    rate: f64,
    rss: f64,
    groups: BTreeSet<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some([name, path]) = options.make.as_deref() {
        let spec = LANES.iter().find(|spec| spec.name == name).context("no such lane")?;
        lane::make(spec, options.events, Path::new(path))?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = tempfile::tempdir()?;
    let contenders = contenders();
    println!(
        "| lane | engine | events per CPU second | MB | ratio | RSS, MiB | groups | of the truth |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|---|");
    let mut missed = Vec::new();
    for spec in &LANES {
        let lane = lane::prepare(spec, options.events, folder.path())?;
        let figures = measure(&lane, &contenders, &options, folder.path())?;
        show(&lane, &figures, options.events);
        missed.extend(misses(&lane, &figures));
    }
    if options.check {
        missed.iter().for_each(|what| println!("MISSED {what}"));
    }
    Ok(if options.check && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Those that are there; says loudly who is not.
fn contenders() -> Vec<Contender> {
    let answers = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mut all = vec![Contender::Watchfire];
    match answers("rsigma", &["--version"]) {
        true => all.push(Contender::Rsigma),
        false => eprintln!("NO RSIGMA on the PATH: cargo install rsigma --version 0.26.0"),
    }
    match answers("python3", &["-c", "import duckdb"]) {
        true => all.push(Contender::DuckDb),
        false => eprintln!("NO DUCKDB for python3: python3 -m pip install duckdb"),
    }
    all
}

fn measure(
    lane: &Lane,
    contenders: &[Contender],
    options: &Options,
    folder: &Path,
) -> anyhow::Result<Vec<Figure>> {
    let empty = folder.join("empty.ndjson");
    File::create(&empty)?;
    let mut runs: Vec<Vec<(f64, Run)>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for (who, runs) in contenders.iter().zip(&mut runs) {
            eprintln!("{}, round {} of {}", lane.name, round + 1, options.rounds);
            let nothing = run(*who, &empty, lane, folder)?;
            let whole = run(*who, &lane.path, lane, folder)?;
            runs.push((whole.cpu - nothing.cpu, whole));
        }
    }
    let figure = |(who, mut runs): (&Contender, Vec<(f64, Run)>)| {
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (cpu, Run { rss, groups, .. }) = runs.swap_remove(runs.len() / 2);
        Figure { who: *who, rate: options.events as f64 / cpu, rss, groups }
    };
    Ok(contenders.iter().zip(runs).map(figure).collect())
}

fn run(who: Contender, input: &Path, lane: &Lane, folder: &Path) -> anyhow::Result<Run> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/stateful");
    let rules = here.join("rules.yml");
    let mut command = match who {
        Contender::Watchfire => {
            let mut command = Command::new(WATCHFIRE);
            let lateness = format!("{}s", (lane.disorder_ms / 1000).max(1));
            command.args(["eval", "--table", "none", "--threads", "1", "--lateness", &lateness]);
            command.arg("--rules").arg(rules).arg(input);
            command
        }
        Contender::Rsigma => {
            let mut command = Command::new("rsigma");
            command.env("RAYON_NUM_THREADS", "1").args(["engine", "eval", "--quiet"]);
            command.args(["--input-format", "json", "--output-format", "ndjson"]);
            command.args(["--logsource-routing", "--rules"]).arg(rules).stdin(File::open(input)?);
            command
        }
        Contender::DuckDb => {
            let mut command = Command::new("python3");
            command.arg(here.join("duckdb_windows.py")).arg(input);
            command
        }
    };
    let path = folder.join("out");
    let child = command.stdout(File::create(&path)?).stderr(Stdio::null()).spawn()?;
    let used = { child }.wait4()?;
    ensure!(used.status.success(), "{command:?}: {}", used.status);
    let cpu = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    let lines = BufReader::new(File::open(&path)?).lines();
    let groups = lines.map(|line| group_of(who, &line?)).collect::<anyhow::Result<_>>()?;
    Ok(Run { cpu, rss: used.rusage.maxrss as f64 / f64::from(1 << 20), groups })
}

/// The group that a line of output is about.
fn group_of(who: Contender, line: &str) -> anyhow::Result<String> {
    let said: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let group = match who {
        Contender::Watchfire => {
            said["unmapped"]["watchfire"]["group"].as_object().and_then(|g| g.values().next())
        }
        Contender::Rsigma => said["group_key"].pointer("/0/1"),
        Contender::DuckDb => Some(&said),
    };
    Ok(group.and_then(Value::as_str).with_context(|| line.to_owned())?.to_owned())
}

fn show(lane: &Lane, figures: &[Figure], events: usize) {
    for figure in figures {
        let Figure { who, rate, rss, groups } = figure;
        let name = match who {
            Contender::Watchfire => "Watchfire",
            Contender::Rsigma => "RSigma",
            Contender::DuckDb => "DuckDB",
        };
        let megabytes = rate * lane.bytes as f64 / events as f64 / 1e6;
        let ratio = figures[0].rate / rate;
        let missing = lane.truth.difference(groups).count();
        let wrong = groups.difference(&lane.truth).count();
        let verdict = match (missing, wrong) {
            (0, 0) => "all, no other".to_owned(),
            _ => format!("{missing} missing, {wrong} others"),
        };
        let found = groups.len();
        let lane = lane.name;
        println!(
            "| {lane} | {name} | {rate:.0} | {megabytes:.0} | {ratio:.2}× | {rss:.0} | {found} | {verdict} |"
        );
    }
}

fn misses(lane: &Lane, figures: &[Figure]) -> Vec<String> {
    let mut missed = Vec::new();
    let ours = &figures[0];
    if ours.groups != lane.truth {
        missed.push(format!("{}: the groups are not those of the truth", lane.name));
    }
    if ours.rss > RSS_MAX {
        missed.push(format!("{}: {:.0} MiB, the bar is {RSS_MAX}", lane.name, ours.rss));
    }
    let bar = RATIOS.iter().find(|(name, _)| *name == lane.name).map(|(_, bar)| *bar);
    for other in &figures[1..] {
        let bar = if other.who == Contender::DuckDb { bar.map(|_| 1.0) } else { bar };
        let ratio = ours.rate / other.rate;
        if let Some(bar) = bar.filter(|bar| ratio < *bar) {
            missed.push(format!("{}: {ratio:.2}×, the bar is {bar}×", lane.name));
        }
    }
    missed
}
