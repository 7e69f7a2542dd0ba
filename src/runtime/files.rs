//! Rules and mappings from files and folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::{Mapping, MappingError, shipped_mappings};
use crate::rule::{Code, Diagnostic, Place, RuleSet, Severity};

/// A rule set with what was wrong on the way.
#[derive(Clone, Debug)]
pub struct LoadedRules {
    /// What runs.
    pub rules: Arc<RuleSet>,
    /// What was wrong; rules with errors do not run.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were read.
    pub files: usize,
}

impl LoadedRules {
    /// Errors and warnings; hints are for `watchfire check`.
    pub fn serious(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity != Severity::Hint)
    }

    /// How many of the diagnostics are errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }
}

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A path that was given cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A mapping that was asked for is wrong.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

/// The texts of rule files.
#[derive(Clone, Debug, Default)]
pub struct RuleFiles {
    /// Name and text, in the order of names.
    pub texts: Vec<(Arc<str>, String)>,
    /// An error for each file that could not be read.
    pub unread: Vec<Diagnostic>,
}

/// Reads every `.yml` and `.yaml` file under the paths, in the order of their names.
///
/// # Errors
/// When a path itself cannot be read. A file inside a folder that cannot be read is a diagnostic.
pub fn read_rules(paths: &[PathBuf]) -> Result<RuleFiles, LoadError> {
    let mut files = RuleFiles::default();
    for path in yaml_files(paths)? {
        let name: Arc<str> = path.to_string_lossy().into();
        match std::fs::read_to_string(&path) {
            Ok(text) => files.texts.push((name, text)),
            Err(e) => {
                let what = format!("cannot be read: {e}");
                let error = Diagnostic::error(Code::File, Place::default(), what)
                    .help("a rule file is UTF-8 text that this user may read");
                files.unread.push(error.in_file(&name));
            }
        }
    }
    Ok(files)
}

/// Loads every `.yml` and `.yaml` file under the paths, in the order of their names.
///
/// # Errors
/// When a path itself cannot be read. A file inside a folder that cannot be read is a diagnostic.
pub fn load_rules(paths: &[PathBuf]) -> Result<LoadedRules, LoadError> {
    let RuleFiles { texts, unread: mut diagnostics } = read_rules(paths)?;
    let files = texts.iter().map(|(name, text)| (name, text.as_str()));
    let (rules, mut found) = RuleSet::compile(files);
    diagnostics.append(&mut found);
    Ok(LoadedRules { rules: Arc::new(rules), diagnostics, files: texts.len() })
}

/// The rules that come with Watchfire.
pub fn shipped_rules() -> LoadedRules {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            [$(($name, include_str!(concat!("../../rules/linux/", $name)))),*]
        };
    }
    let texts = files![
        "auth_volume_spike.yml",
        "ssh_bruteforce_by_source.yml",
        "ssh_failed_login.yml",
        "ssh_password_spray.yml",
        "ssh_root_login_attempt.yml",
        "ssh_success_after_failures.yml",
        "ssh_successful_login.yml",
        "sudo_abuse.yml",
    ];
    let named = texts.map(|(name, text)| (Arc::from(format!("rules/linux/{name}")), text));
    let (rules, diagnostics) = RuleSet::compile(named.iter().map(|(name, text)| (name, *text)));
    LoadedRules { rules: Arc::new(rules), diagnostics, files: named.len() }
}

/// Loads mappings: by the name of a shipped one, or from files and folders. `none` gives none.
///
/// # Errors
/// When a path cannot be read or a mapping is wrong.
pub fn load_mappings(names: &[String]) -> Result<Vec<Mapping>, LoadError> {
    let mut mappings = Vec::new();
    for name in names.iter().filter(|n| *n != "none") {
        let shipped = shipped_mappings()?;
        if name == "shipped" {
            mappings.extend(shipped);
            continue;
        }
        if let Some(one) = shipped.into_iter().find(|m| m.name() == name) {
            mappings.push(one);
            continue;
        }
        for path in yaml_files(&[PathBuf::from(name)])? {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| LoadError::Read { path: path.clone(), source })?;
            mappings.push(Mapping::parse(&path.to_string_lossy(), &text)?);
        }
    }
    Ok(mappings)
}

/// Files that were named, and YAML files in folders that were named, sorted, each once.
fn yaml_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = Vec::new();
    for path in paths {
        let read = |source| LoadError::Read { path: path.clone(), source };
        if std::fs::metadata(path).map_err(read)?.is_dir() {
            let mut found = Vec::new();
            walk(path, &mut found).map_err(read)?;
            found.sort();
            files.append(&mut found);
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|f| seen.insert(f.clone()));
    Ok(files)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let kind = std::fs::metadata(&path)?;
        if kind.is_dir() && !hidden {
            walk(&path, found)?;
        } else if kind.is_file() && is_rule(&path) && !hidden {
            found.push(path);
        }
    }
    Ok(())
}

/// Rule files end in `.yml` or `.yaml`; `.test.yml` beside them are their tests.
fn is_rule(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    yaml && !name.ends_with(".test.yml") && !name.ends_with(".test.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_those_of_the_folder_and_nothing_is_wrong_with_them() {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/rules"));
        let loaded = load_rules(&[folder]).expect("the folder");
        let shipped = shipped_rules();
        assert_eq!(shipped.diagnostics, []);
        assert_eq!(loaded.diagnostics, []);
        assert_eq!((loaded.files, loaded.rules.len()), (shipped.files, shipped.rules.len()));
        for rule in &loaded.rules.detections {
            let head = &rule.header;
            assert!(head.author.is_some() && !head.tags.is_empty(), "{}", head.title);
            assert!(!head.falsepositives.is_empty(), "{}", head.title);
        }
    }
}
