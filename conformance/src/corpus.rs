//! The public rules and the events, read in an order that does not depend on the machine.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folders of SigmaHQ's repository that make up its core.
const CORE: [&str; 6] = [
    "rules",
    "rules-compliance",
    "rules-dfir",
    "rules-emerging-threats",
    "rules-placeholder",
    "rules-threat-hunting",
];

/// One rule file; its place in the list of all is the rule's number in every comparison.
pub struct RuleFile {
    /// Its path below the rules' folder, with `/`.
    pub name: Arc<str>,
    /// Its text.
    pub text: String,
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ReadError {
    path: PathBuf,
    source: io::Error,
}

impl ReadError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// Reads every core rule below `dir`, sorted by name.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn core_rules(dir: &Path) -> Result<Vec<RuleFile>, ReadError> {
    let mut paths = Vec::new();
    for folder in CORE {
        collect(&dir.join(folder), &mut paths)?;
    }
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).map_err(ReadError::at(&path))?;
        files.push(RuleFile { name: name.into(), text });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    for entry in fs::read_dir(dir).map_err(ReadError::at(dir))? {
        let path = entry.map_err(ReadError::at(dir))?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|e| e == "yml") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Calls `each` with every line of a file.
///
/// # Errors
/// A file that cannot be read, or the first error of `each`.
pub fn each_line<E: From<ReadError>>(
    path: &Path,
    mut each: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(ReadError::at(path))?;
    for line in BufReader::with_capacity(1 << 20, file).lines() {
        each(&line.map_err(ReadError::at(path))?)?;
    }
    Ok(())
}
