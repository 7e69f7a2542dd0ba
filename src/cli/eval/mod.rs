//! `watchfire eval`: the engine over files or standard input.
//!
//! A reader cuts the input into chunks of whole lines; workers decode and match them and write lines of
//! output; this thread takes their results in the order of the input, folds matches into findings, and
//! puts lines in the order of event time. Workers
//! get chunks in turn and answer in turn, so the output is the same for every number of threads.

mod input;
mod lines;
mod output;
mod stage;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{ArgAction, ValueEnum};
use serde_json::json;

use crate::decode::{Decoder, Format};
use crate::event::EventSource;
use crate::runtime::{
    LoadedRules, RuleFiles, Stopwatch, Usage, load_mappings, load_rules, load_tables,
};
use crate::time::parse_duration;

/// Evaluate rules over a file or standard input; alerts go to standard output as NDJSON.
///
/// Examples:
///   watchfire eval --rules rules --format syslog /var/log/auth.log
///   zcat events.ndjson.gz | watchfire eval --rules sigma/rules --output matches --stats -
///   watchfire eval --rules mine.yml --logsource product=windows,service=security events.ndjson
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Rule files or folders (searched for .yml and .yaml)
    #[arg(long, required = true, num_args = 1.., action = ArgAction::Append, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Processing pipelines that fit the rules to the events: files or folders, in pySigma's YAML
    #[arg(long, action = ArgAction::Append, value_name = "PATH")]
    pipeline: Vec<PathBuf>,
    /// File with values for placeholders, a line each: `name: [value, other*]`
    #[arg(long, value_name = "FILE")]
    placeholders: Option<PathBuf>,
    /// How input lines are written
    #[arg(long, value_enum, default_value_t = InputFormat::Json)]
    format: InputFormat,
    /// Mappings that read fields out of text: sshd, sudo, pam, shipped (all three), a file, a folder,
    /// or none [default: shipped for syslog, none for json]
    #[arg(long, action = ArgAction::Append, value_name = "NAME|PATH")]
    mapping: Vec<String>,
    /// Tables that tell what an event is: windows, linux, …, shipped (all of them), a file, a folder, or
    /// none [default: shipped]
    #[arg(long, action = ArgAction::Append, value_name = "NAME|PATH")]
    table: Vec<String>,
    /// What the events are, added to what they say themselves
    #[arg(long, value_name = "product=…,service=…,category=…")]
    logsource: Option<String>,
    /// Run every rule on every event, whatever logsource it is for: to try rules on events that do not
    /// say what they are, or to measure. A rule that leans on its logsource matches foreign events then
    #[arg(long)]
    no_routing: bool,
    /// How far events may be behind the latest one and still count for correlations
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    lateness: String,
    /// Fields that hold the time of an event, the first that does [default: @timestamp, timestamp, …]
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    time_field: Vec<String>,
    /// Year of syslog times without one [default: the latest that is not in the future]
    #[arg(long)]
    year: Option<i16>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Alerts)]
    output: Output,
    /// Print a finding again each time it grows
    #[arg(long)]
    revisions: bool,
    /// Print one JSON object with figures on standard error at the end
    #[arg(long)]
    stats: bool,
    /// Input file, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum InputFormat {
    /// One JSON object per line; in a file also objects over several lines, or an array of them
    Json,
    /// RFC 5424, or RFC 3164 with or without priority
    Syslog,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Alerts as OCSF Detection Findings
    Alerts,
    /// One compact line per detection or finding
    Matches,
}

/// Runs the subcommand; the result is the exit code.
pub fn run(mut args: Args) -> anyhow::Result<u8> {
    // `--rules a.yml FILE`: the option takes several values, so the file may have ended up in it.
    if args.file.is_none() && args.rules.len() > 1 && args.rules.last().is_some_and(|p| is_input(p))
    {
        args.file = args.rules.pop();
    }
    let clock = Stopwatch::start();
    let loaded = load_rules(&RuleFiles {
        rules: args.rules.clone(),
        placeholders: args.placeholders.clone(),
        pipelines: vec![args.pipeline.clone()],
    })?;
    report(&loaded);
    if loaded.rules.is_empty() {
        eprintln!("error: no rule could be loaded from {} files", loaded.files);
        return Ok(super::RULE_ERROR);
    }
    let options = stage::Options {
        decoder: Arc::new(decoder(&args)?),
        view: loaded.view(0),
        routing: !args.no_routing,
        lateness: parse_duration(&args.lateness).context("--lateness")?,
        threads: threads(args.threads)?,
        matches: args.output == Output::Matches,
        revisions: args.revisions,
    };
    let input = match args.format {
        InputFormat::Json => input::open_json(args.file.as_deref())?,
        InputFormat::Syslog => input::open(args.file.as_deref())?,
    };
    let stdout = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut writer = output::Writer::new(stdout);
    let mut load = Load::default();
    let ready = || {
        if args.stats {
            load = Load::until_now(&clock);
        }
    };
    let totals = match stage::evaluate(&loaded.rules, &options, input, &mut writer, ready) {
        // `watchfire eval … | head` ends when head has enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(super::FINE),
        other => other?,
    };
    if args.stats {
        let figures = stats(&loaded, load, &totals, &clock);
        writeln!(io::stderr(), "{figures}")?;
    }
    Ok(super::FINE)
}

/// Whether a path given after `--rules` can only be the input: neither a folder nor a YAML file.
fn is_input(path: &Path) -> bool {
    let yaml = path.extension().is_some_and(|e| e == "yml" || e == "yaml");
    !yaml && !path.is_dir()
}

/// Says on standard error what is wrong with the rules, and how many run.
fn report(loaded: &LoadedRules) {
    for diagnostic in loaded.serious() {
        eprintln!("{diagnostic}");
    }
    if loaded.errors() > 0 {
        eprintln!("{} rules run, {} were refused", loaded.rules.len(), loaded.errors());
    }
}

fn decoder(args: &Args) -> anyhow::Result<Decoder> {
    let (format, usual) = match args.format {
        InputFormat::Json => (Format::Json, "none"),
        InputFormat::Syslog => (Format::Syslog, "shipped"),
    };
    let names = if args.mapping.is_empty() { vec![usual.to_owned()] } else { args.mapping.clone() };
    let tables = load_tables(&args.table)?;
    let mut decoder = Decoder::new(format, load_mappings(&names)?).with_tables(tables);
    if !args.time_field.is_empty() {
        decoder.clock = crate::decode::EventClock::new(args.time_field.iter().map(String::as_str));
    }
    decoder.clock.year = args.year;
    if let Some(text) = &args.logsource {
        decoder.source = logsource(text)?;
    }
    Ok(decoder)
}

fn logsource(text: &str) -> anyhow::Result<EventSource> {
    let mut source = EventSource::default();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.split_once('=') {
            Some(("product", name)) => source.add_product(name),
            Some(("category", name)) => source.add_category(name),
            Some(("service", name)) => source.add_service(name),
            _ => bail!("--logsource: `{part}` is none of product=…, category=…, service=…"),
        }
    }
    Ok(source)
}

fn threads(given: Option<usize>) -> anyhow::Result<usize> {
    match given {
        Some(n @ 1..=256) => Ok(n),
        Some(n) => bail!("--threads {n}: it must be from 1 to 256"),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// What loading and preparing the rules took.
#[derive(Clone, Copy, Default)]
struct Load {
    seconds: f64,
    cpu: f64,
}

impl Load {
    fn until_now(clock: &Stopwatch) -> Self {
        Self { seconds: clock.elapsed().as_secs_f64(), cpu: Usage::now().cpu_seconds }
    }
}

fn stats(
    loaded: &LoadedRules,
    load: Load,
    totals: &stage::Totals,
    clock: &Stopwatch,
) -> serde_json::Value {
    let wall = clock.elapsed().as_secs_f64();
    let usage = Usage::now();
    let rejects: u64 = totals.rejected.values().sum();
    let by_code: serde_json::Map<String, serde_json::Value> =
        totals.rejected.iter().map(|(c, n)| (c.as_str().to_owned(), json!(n))).collect();
    json!({
        "rules_loaded": loaded.rules.len(),
        "rules_refused": loaded.errors(),
        "load_seconds": load.seconds,
        "load_cpu_seconds": load.cpu,
        "events": totals.events,
        "bytes": totals.bytes,
        "wall_seconds": wall,
        "cpu_seconds": usage.cpu_seconds,
        "events_per_second": totals.events as f64 / (wall - load.seconds).max(1e-9),
        "detections": totals.detections,
        "findings": totals.findings,
        "alerts": totals.alerts,
        "rejects": rejects,
        "rejects_by_code": by_code,
        "late": totals.late,
        "skewed": totals.skewed,
        "decoded": totals.decoded,
        "untimed": totals.untimed,
        "missing_field": totals.missing_field,
        "no_number": totals.no_number,
        "overflow": totals.overflow,
        "regex_overruns": loaded.rules.take_regex_overruns().iter().map(|(_, n)| n).sum::<u64>(),
        "rss_peak_bytes": usage.rss_peak_bytes,
    })
}
