//! Lanes: whole processes side by side over the same events and the same rules.
//!
//! ```sh
//! cargo bench --bench lanes                      # the table, on standard output
//! cargo bench --bench lanes -- --check           # and the bars: fails below one
//! cargo bench --bench lanes -- --clock           # what two threads do, on the clock
//! cargo bench --bench lanes -- --growth          # what more rules cost
//! cargo bench --bench lanes -- --docs            # all three, written into docs/ and README.md
//! ```
//!
//! `docs/benchmarks.md` says what is measured and how. Events and rules that are not part of this
//! repository come from `WATCHFIRE_CORPORA`; RSigma is measured if `rsigma` is on the `PATH`.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod bars;
mod chart;
mod clock;
mod contender;
mod data;
mod docs;
mod generate;
mod growth;
mod measure;
mod report;
#[path = "../common/seeded.rs"]
mod seeded;
mod yardstick;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use contender::Contenders;
use data::Corpora;
use report::{Machine, Report};

/// Compares whole processes over the same events and rules.
#[derive(Parser)]
#[command(name = "lanes")]
struct Options {
    /// Interleaved rounds; figures are their medians
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Only lanes whose name contains this; may be given again
    #[arg(long, value_name = "NAME")]
    lane: Vec<String>,
    /// Take only one of so many events: a trial, no measurement
    #[arg(long, default_value_t = 1, value_name = "N")]
    thin: usize,
    /// Fail where a bar is missed
    #[arg(long)]
    check: bool,
    /// Measure one thread and two on the clock, over longer files, instead of the lanes
    #[arg(long)]
    clock: bool,
    /// Measure what more rules cost, instead of the lanes
    #[arg(long)]
    growth: bool,
    /// Write the figures here as JSON
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Take the figures from a file that --json wrote, and measure nothing
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Draw the chart
    #[arg(long, value_name = "PATH.svg")]
    chart: Option<PathBuf>,
    /// Measure all and write it into docs/benchmarks.md, docs/charts and README.md
    #[arg(long)]
    docs: bool,
    /// Where lanes and rule sets are kept between runs
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Parse a file this way and end: what this program runs as its own child
    #[arg(long, num_args = 2, value_names = ["PARSER", "FILE"], hide = true)]
    yardstick: Option<Vec<String>>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some([parser, file]) = options.yardstick.as_deref() {
        yardstick::run(parser, file)?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = match &options.from {
        Some(path) => read(path)?,
        None => measured(&options)?,
    };
    keep(&report, options.json.as_deref())?;
    println!("{}", report.markdown());
    if let Some(path) = &options.chart {
        let svg = if options.growth { chart::growth(&report) } else { chart::lanes(&report) };
        fs::write(path, svg).with_context(|| path.display().to_string())?;
    }
    if options.docs {
        docs::write(&report)?;
    }
    let mut fine = report.counts_agree();
    if options.check {
        let bars = bars::judge(&report);
        bars.iter().for_each(|bar| println!("{bar}"));
        fine &= bars.iter().all(|bar| bar.passed());
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &PathBuf) -> anyhow::Result<Report> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// After each lane: a run takes half an hour, and what it has measured outlives it.
fn keep(report: &Report, path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn measured(options: &Options) -> anyhow::Result<Report> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/lanes");
    let folder = options.data.clone().unwrap_or(target);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let corpora = Corpora::find();
    let contenders = Contenders::find(&corpora, &folder)?;
    let mut report = Report {
        machine: Machine::this(),
        rules: corpora.rules_label(),
        rsigma: contenders.rsigma_version(),
        rounds: options.rounds,
        thin: options.thin,
        lanes: Vec::new(),
        clocked: Vec::new(),
        growth: Vec::new(),
    };
    // Bars are held against everything but growth.
    let all = options.docs || options.check && options.lane.is_empty();
    if all || !(options.growth || options.clock) {
        for lane in data::lanes(&corpora) {
            let chosen = |name: &String| lane.name.contains(name.as_str());
            if options.lane.is_empty() || options.lane.iter().any(chosen) {
                let events = lane.prepare(&folder, options.thin)?;
                report.lanes.extend(measure::lane(&contenders, &events, options.rounds)?);
                keep(&report, options.json.as_deref())?;
            }
        }
    }
    if all || options.clock {
        report.clocked = clock::measure(&contenders, &corpora, &folder, options)?;
        keep(&report, options.json.as_deref())?;
    }
    if options.docs || options.growth {
        report.growth = growth::measure(&contenders, &corpora, &folder, options)?;
    }
    Ok(report)
}
