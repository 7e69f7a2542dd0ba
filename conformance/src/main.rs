//! Watchfire's rule engine against independent ones, over the public rules.
//!
//! ```text
//! compare CORPORA WORK   runs the engines; writes WORK/tallies.json and WORK/disputes.ndjson
//! report CORPORA WORK    prints the table; fails when something is unexplained
//! ```
//!
//! The Python side (`pysigma_oracle.py`, `pyyaml_oracle.py`) writes its answers into WORK before;
//! `run` does all in order.

mod corpus;
mod engines;
mod known;
mod made_up;
mod oracle;
mod report;
mod tally;
mod yaml;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corpus::{ReadError, RuleFile, each_line};
use engines::{Ours, Routing, Rsigma};
use oracle::PySigma;
use report::Report;
use tally::{Comparison, Dispute, Oracle, Tally};

/// Why a run cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file has another shape.
    #[error("not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
    /// A file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
    /// The Python side and this one do not speak of the same things.
    #[error("{0}")]
    Oracle(String),
}

/// The events of `run`: real ones, a sample of these, and ones made to come near the rules.
const REAL: &str = "real.ndjson";
const SAMPLE: &str = "sample.ndjson";
const NEAR: &str = "near.ndjson";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [command, corpora, work] = args.as_slice() else {
        eprintln!("usage: watchfire-conformance compare|report CORPORA WORK");
        return ExitCode::from(2);
    };
    let (rules, work) = (Path::new(corpora).join("sigmahq"), PathBuf::from(work));
    let done = match command.as_str() {
        "compare" => compare(&rules, &work).map(|()| true),
        "report" => report(&rules, &work),
        other => Err(Error::Oracle(format!("unknown command `{other}`"))),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn compare(rules: &Path, work: &Path) -> Result<(), Error> {
    let rules = corpus::core_rules(rules)?;
    let runs = [
        pysigma(&rules, work)?,
        rsigma("rsigma, every event", Routing::Off, &rules, work)?,
        rsigma("rsigma, by logsource", Routing::ByFields, &rules, work)?,
    ];
    let (tallies, disputes): (Vec<Tally>, Vec<Vec<Dispute>>) = runs.into_iter().unzip();
    fs::write(work.join("tallies.json"), serde_json::to_vec(&tallies)?)?;
    let mut out = BufWriter::new(fs::File::create(work.join("disputes.ndjson"))?);
    for dispute in disputes.iter().flatten() {
        serde_json::to_writer(&mut out, dispute)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn rsigma(
    run: &str,
    routing: Routing,
    rules: &[RuleFile],
    work: &Path,
) -> Result<(Tally, Vec<Dispute>), Error> {
    let (mut ours, theirs) = (Ours::new(rules, routing), Rsigma::new(rules, routing));
    let mut comparison =
        Comparison::new(run, Oracle::Rsigma, rules, &ours.refused, &theirs.refused);
    for file in [REAL, NEAR] {
        each_line::<Error>(&work.join(file), |event| {
            comparison.add(event, &ours.hits(event)?, &theirs.hits(event)?);
            Ok(())
        })?;
    }
    Ok(comparison.finish())
}

fn pysigma(rules: &[RuleFile], work: &Path) -> Result<(Tally, Vec<Dispute>), Error> {
    let mut ours = Ours::new(rules, Routing::Off);
    let mut theirs = PySigma::open(&work.join("pysigma.ndjson"), rules)?;
    let (run, oracle) = ("pySigma, every event", Oracle::PySigma);
    let mut comparison = Comparison::new(run, oracle, rules, &ours.refused, &theirs.refused);
    for file in [SAMPLE, NEAR] {
        each_line::<Error>(&work.join(file), |event| {
            comparison.add(event, &ours.hits(event)?, &theirs.hits()?);
            Ok(())
        })?;
    }
    theirs.finish()?;
    Ok(comparison.finish())
}

fn report(rules: &Path, work: &Path) -> Result<bool, Error> {
    let rules = corpus::core_rules(rules)?;
    let mut tallies: Vec<Tally> = serde_json::from_slice(&fs::read(work.join("tallies.json"))?)?;
    let disputes: Vec<Dispute> = oracle::read_all(&work.join("disputes.ndjson"))?;
    let judged: Vec<Option<bool>> = oracle::read_all(&work.join("judged.ndjson"))?;
    if disputes.len() != judged.len() {
        return Err(Error::Oracle("pySigma has not judged every disagreement".into()));
    }
    let mut disputes: Vec<_> = disputes.into_iter().zip(judged).collect();
    let (made_up, found) = made_up::compare(&oracle::read_all(&work.join("made_up.ndjson"))?)?;
    tallies.push(made_up);
    disputes.extend(found.into_iter().map(|dispute| (dispute, None)));
    let mut report = Report::default();
    report.runs(&rules, &tallies, &disputes);
    report.refusals(&tallies);
    report.placeholders(&rules);
    report.yaml(&yaml::compare(&rules, oracle::read_all(&work.join("yaml.ndjson"))?));
    report.vectors(&oracle::read_all::<oracle::Vector>(&work.join("vectors.ndjson"))?);
    Ok(report.finish())
}
