//! `watchfire check`: what is wrong with rules, and what would be better. It needs no network and
//! changes nothing, unless told to mend.
//!
//! Here: reading, compiling, counting, the exit code. How findings are written has a file for each
//! format; mending, explaining and the estimate of cost have one each.

mod cost;
mod explain;
mod fix;
mod github;
mod human;
mod json;
mod junit;
mod sarif;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::ValueEnum;

use crate::rule::{Diagnostic, Options, Severity};
use crate::runtime::{LoadedOptions, RuleFiles, RuleTexts, Stopwatch, load_options, read_rules};

/// Check rules: syntax, references, modifiers, likely mistakes, cost.
///
/// Findings go to standard output. Exit code 0: nothing found (hints do not count); 1: warnings;
/// 2: a rule has an error and would not run; 3: wrong usage, or no rule to check.
///
/// A comment `# watchfire: allow W0404` at the end of a line, or on a line of its own before it,
/// allows a warning or hint there.
///
/// Examples:
///   watchfire check rules
///   watchfire check --hints --fix rules/mine.yml
///   watchfire check --format sarif sigma/rules > watchfire.sarif
///   watchfire check --explain W0102
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// How findings are written
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Show hints, too: the rule runs as meant and could be better
    #[arg(long)]
    hints: bool,
    /// Lists of values for placeholders: a YAML file of `name: [value, other*]`
    #[arg(long, value_name = "FILE")]
    placeholders: Option<PathBuf>,
    /// Processing pipelines that the rules go through as well (pySigma's YAML): files or folders
    #[arg(long, value_name = "PATH", num_args = 1.., action = clap::ArgAction::Append)]
    pipeline: Vec<PathBuf>,
    /// Mend what is shown where that is safe, in place (hints only with --hints)
    #[arg(long)]
    fix: bool,
    /// Show what --fix would change, and change nothing
    #[arg(long)]
    diff: bool,
    /// Estimate what each rule costs per event, as written, and print the 20 highest and the sum of each
    /// logsource. One unit is about one comparison of a field with a short text; searching in a text
    /// counts 4, a regular expression 20, one with look-around or back-references 200, and a keyword,
    /// which is searched in the whole event, 16 times as much. It ranks rules; it measures nothing
    #[arg(long)]
    cost: bool,
    /// Explain a code with examples; without CODE list all
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "")]
    explain: Option<String>,
    /// When to colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Rule files or folders (searched for .yml and .yaml)
    #[arg(value_name = "PATH", required_unless_present = "explain")]
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: the place, the line, what to do
    Human,
    /// One JSON object (docs/check.md)
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, one test case per file
    Junit,
    /// Workflow commands of GitHub Actions
    Github,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What a check found.
struct Report {
    /// The texts by their names, in the order they were given.
    files: BTreeMap<Arc<str>, String>,
    /// What is shown, in the order of files and places.
    findings: Vec<Diagnostic>,
    totals: Totals,
}

/// Counts of one check; hints count whether they are shown or not.
#[derive(Clone, Copy, Default)]
struct Totals {
    files: usize,
    detections: usize,
    correlations: usize,
    filters: usize,
    errors: usize,
    warnings: usize,
    hints: usize,
    seconds: f64,
}

impl Report {
    /// The text of a finding's file; nothing when it could not be read.
    fn text(&self, finding: &Diagnostic) -> &str {
        let file = finding.file.as_ref();
        file.and_then(|f| self.files.get(f)).map_or("", String::as_str)
    }

    fn exit_code(&self) -> u8 {
        match self.totals {
            Totals { errors: 1.., .. } => super::RULE_ERROR,
            Totals { warnings: 1.., .. } => super::FINDINGS,
            _ => super::FINE,
        }
    }
}

/// Runs the subcommand; the result is the exit code.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match &args.explain {
        Some(code) => explain::run(code, &mut out),
        None => check(args, &mut out),
    };
    match done.and_then(|code| out.flush().map(|()| code).map_err(Into::into)) {
        // `watchfire check … | head` ends when head has enough.
        Err(e) if is_closed_pipe(&e) => Ok(super::FINE),
        done => done,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn check(args: &Args, out: &mut dyn Write) -> anyhow::Result<u8> {
    let clock = Stopwatch::start();
    let inputs = RuleFiles {
        rules: args.paths.clone(),
        placeholders: args.placeholders.clone(),
        pipelines: vec![args.pipeline.clone()],
    };
    let LoadedOptions { options, mut warnings, .. } = load_options(&inputs)?;
    let mut files = read_rules(&inputs.rules)?;
    if files.is_empty() {
        bail!("no rule file (.yml or .yaml) in {}", shown(&args.paths));
    }
    if args.fix || args.diff {
        let changed = fix::mend(&mut files, &options, args.hints);
        let mut stderr = io::stderr();
        let to: &mut dyn Write = if args.format == Format::Human { out } else { &mut stderr };
        fix::show(&changed, to)?;
        if args.diff {
            return Ok(if changed.is_empty() { super::FINE } else { super::FINDINGS });
        }
        fix::write(&changed)?;
    }
    files.unread.append(&mut warnings);
    let report = report(files, &options, args.hints, &clock);
    if report.totals.detections + report.totals.correlations + report.totals.filters == 0
        && report.totals.errors == 0
    {
        bail!("no rule in {}", shown(&args.paths));
    }
    let color = colored(args.color);
    match args.format {
        Format::Human => human::write(&report, color, out)?,
        Format::Json => json::write(&report, out)?,
        Format::Sarif => sarif::write(&report, out)?,
        Format::Junit => junit::write(&report, out)?,
        Format::Github => github::write(&report, out)?,
    }
    if args.cost {
        let mut stderr = io::stderr();
        let to: &mut dyn Write = if args.format == Format::Human { out } else { &mut stderr };
        cost::write(&report, to)?;
    }
    Ok(report.exit_code())
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn report(files: RuleTexts, options: &Options, hints: bool, clock: &Stopwatch) -> Report {
    let unread = files.unread.iter().filter(|d| d.severity == Severity::Error).count();
    let (rules, found) = files.compile(options);
    let count = |s: Severity| found.iter().filter(|d| d.severity == s).count();
    let totals = Totals {
        files: files.texts.len() + unread,
        detections: rules.detections.len(),
        correlations: rules.correlations.len(),
        filters: rules.filters,
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        hints: count(Severity::Hint),
        seconds: clock.elapsed().as_secs_f64(),
    };
    let shown = |d: &Diagnostic| hints || d.severity != Severity::Hint;
    let mut findings: Vec<Diagnostic> = found.into_iter().filter(shown).collect();
    findings.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    Report { files: files.texts.into_iter().collect(), findings, totals }
}

fn colored(when: Color) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
            io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
        }
    }
}
