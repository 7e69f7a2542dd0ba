//! What the Python side wrote: one JSON document a line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::corpus::{RuleFile, each_line};
use crate::engines::Refused;

#[derive(Deserialize)]
struct Head {
    refused: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<String>,
}

/// The hits of pySigma's evaluator, event by event.
pub struct PySigma {
    lines: Lines<BufReader<File>>,
    number: HashMap<String, usize>,
    /// What it does not take.
    pub refused: Refused,
}

impl PySigma {
    /// Opens what `pysigma_oracle.py evaluate` wrote.
    ///
    /// # Errors
    /// No such file, or one of another shape.
    pub fn open(path: &Path, rules: &[RuleFile]) -> Result<Self, Error> {
        let file = File::open(path).map_err(|e| Error::Oracle(format!("{path:?}: {e}")))?;
        let number = rules.iter().enumerate().map(|(i, r)| (r.name.to_string(), i)).collect();
        let mut lines = BufReader::new(file).lines();
        let head: Head = next(&mut lines)?;
        let mut oracle = Self { lines, number, refused: Refused::new() };
        for (rule, why) in head.refused {
            let n = oracle.number_of(&rule)?;
            oracle.refused.insert(n, why);
        }
        Ok(oracle)
    }

    /// The numbers of the rules that match the next event.
    ///
    /// # Errors
    /// The file ends before the events do, or names a rule that is not there.
    pub fn hits(&mut self) -> Result<Vec<usize>, Error> {
        let Hits { hits } = next(&mut self.lines)?;
        hits.iter().map(|rule| self.number_of(rule)).collect()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// There are answers left: they were to other events.
    pub fn finish(mut self) -> Result<(), Error> {
        match self.lines.next() {
            None => Ok(()),
            Some(_) => Err(Error::Oracle("pySigma answered more events than there are".into())),
        }
    }

    fn number_of(&self, rule: &str) -> Result<usize, Error> {
        let unknown = || Error::Oracle(format!("pySigma names a rule that is not there: {rule}"));
        self.number.get(rule).copied().ok_or_else(unknown)
    }
}

fn next<T: DeserializeOwned>(lines: &mut Lines<BufReader<File>>) -> Result<T, Error> {
    let line = lines.next().ok_or_else(|| Error::Oracle("pySigma's answers end early".into()))?;
    Ok(serde_json::from_str(&line.map_err(|e| Error::Oracle(e.to_string()))?)?)
}

/// A line of `pysigma_oracle.py vectors`.
#[derive(Deserialize)]
pub struct Vector {
    /// Its name.
    pub name: String,
    /// What the vector expects; anything but a boolean leaves it open.
    pub expect: serde_json::Value,
    /// What the oracle says: a boolean, or why it refuses the rule.
    pub got: serde_json::Value,
}

/// A file as `pyyaml_oracle.py` reads it.
#[derive(Deserialize)]
pub struct YamlFile {
    /// Its name.
    pub file: String,
    /// Its documents in the canonical form of [`crate::yaml::canonical`].
    pub documents: Vec<serde_json::Value>,
}

/// Reads a whole file of documents.
///
/// # Errors
/// No such file, or one of another shape.
pub fn read_all<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    each_line::<Error>(path, |line| {
        all.push(serde_json::from_str(line)?);
        Ok(())
    })?;
    Ok(all)
}
