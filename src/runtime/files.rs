//! Rules, mappings and logsource tables from files and folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::{
    Mapping, MappingError, Table, TableError, Tables, shipped_mappings, shipped_tables,
};
use crate::rule::{
    Code, Diagnostic, Options, Place, ProcessingPipeline, RuleSet, Severity, View,
    parse_placeholders,
};

/// What a rule set is made of.
#[derive(Clone, Debug, Default)]
pub struct RuleFiles {
    /// Rule files and folders.
    pub rules: Vec<PathBuf>,
    /// File with lists of values for placeholders.
    pub placeholders: Option<PathBuf>,
    /// For each source, the files and folders of its processing pipelines.
    pub pipelines: Vec<Vec<PathBuf>>,
}

/// A rule set with what was wrong on the way.
#[derive(Clone, Debug)]
pub struct LoadedRules {
    /// What runs.
    pub rules: Arc<RuleSet>,
    /// What was wrong; rules with errors do not run.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were read.
    pub files: usize,
    /// For each source, how it sees the rules; sources with the same pipelines share a view.
    pub views: Vec<usize>,
}

impl LoadedRules {
    /// How the source of that number sees the rules; 0 is without pipelines.
    pub fn view(&self, source: usize) -> usize {
        self.views.get(source).copied().unwrap_or(0)
    }

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
    /// A logsource table that was asked for is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A processing pipeline or a file of placeholders is wrong.
    #[error("{}", lines(.0))]
    Refused(Vec<Diagnostic>),
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

/// The texts of rule files.
#[derive(Clone, Debug, Default)]
pub struct RuleTexts {
    /// Name and text, in the order of names.
    pub texts: Vec<(Arc<str>, String)>,
    /// An error for each file that could not be read.
    pub unread: Vec<Diagnostic>,
}

impl RuleTexts {
    /// Whether no file was found.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.unread.is_empty()
    }

    /// Compiles them; files that could not be read are among what was found.
    pub fn compile(&self, options: &Options) -> (RuleSet, Vec<Diagnostic>) {
        let files = self.texts.iter().map(|(name, text)| (name, text.as_str()));
        let (rules, mut found) = RuleSet::compile_with(files, options);
        found.splice(0..0, self.unread.iter().cloned());
        (rules, found)
    }
}

/// Reads every `.yml` and `.yaml` file under the paths, in the order of their names.
///
/// # Errors
/// When a path itself cannot be read. A file inside a folder that cannot be read is a diagnostic.
pub fn read_rules(paths: &[PathBuf]) -> Result<RuleTexts, LoadError> {
    let mut files = RuleTexts::default();
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

/// What configuration adds to rules, as far as it is in files.
#[derive(Clone, Debug, Default)]
pub struct LoadedOptions {
    /// What the compiler takes.
    pub options: Options,
    /// For each source, the number of its view.
    pub views: Vec<usize>,
    /// What is odd about a pipeline.
    pub warnings: Vec<Diagnostic>,
}

/// Reads placeholders and processing pipelines.
///
/// # Errors
/// When a file cannot be read or not be used.
pub fn load_options(inputs: &RuleFiles) -> Result<LoadedOptions, LoadError> {
    let mut loaded = LoadedOptions::default();
    if let Some(path) = &inputs.placeholders {
        let (name, text) = read(path)?;
        loaded.options.placeholders =
            parse_placeholders(&name, &text).map_err(|d| LoadError::Refused(vec![d]))?;
    }
    let (built, views) = load_views(&inputs.pipelines, &mut loaded.warnings)?;
    loaded.options.views = built;
    loaded.views = views;
    Ok(loaded)
}

/// Loads every `.yml` and `.yaml` file under the paths, in the order of their names.
///
/// # Errors
/// When a path itself cannot be read, or a pipeline or the placeholders cannot be used. A rule file
/// inside a folder that cannot be read is a diagnostic.
pub fn load_rules(inputs: &RuleFiles) -> Result<LoadedRules, LoadError> {
    let LoadedOptions { options, views, warnings: mut diagnostics } = load_options(inputs)?;
    let texts = read_rules(&inputs.rules)?;
    let (rules, mut found) = texts.compile(&options);
    diagnostics.append(&mut found);
    Ok(LoadedRules { rules: Arc::new(rules), diagnostics, files: texts.texts.len(), views })
}

fn read(path: &Path) -> Result<(Arc<str>, String), LoadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    Ok((path.to_string_lossy().into(), text))
}

/// The views that the sources need, and the number of each source's view.
fn load_views(
    sources: &[Vec<PathBuf>],
    warnings: &mut Vec<Diagnostic>,
) -> Result<(Vec<View>, Vec<usize>), LoadError> {
    let mut lists: Vec<Vec<PathBuf>> = Vec::new();
    let mut views = Vec::new();
    let mut numbers = Vec::with_capacity(sources.len());
    for source in sources {
        let files = yaml_files(source)?;
        if files.is_empty() {
            numbers.push(0);
            continue;
        }
        let known = lists.iter().position(|list| *list == files);
        if known.is_none() {
            views.push(load_view(&files, warnings)?);
            lists.push(files);
        }
        numbers.push(known.map_or(lists.len(), |i| i + 1));
    }
    Ok((views, numbers))
}

fn load_view(files: &[PathBuf], warnings: &mut Vec<Diagnostic>) -> Result<View, LoadError> {
    let mut pipelines = Vec::with_capacity(files.len());
    for path in files {
        let (name, text) = read(path)?;
        let (pipeline, mut found) =
            ProcessingPipeline::parse(&name, &text).map_err(LoadError::Refused)?;
        warnings.append(&mut found);
        pipelines.push(Arc::new(pipeline));
    }
    let names: Vec<&str> = pipelines.iter().map(|p| p.name.as_str()).collect();
    Ok(View::new(names.join(", "), pipelines))
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
    LoadedRules { rules: Arc::new(rules), diagnostics, files: named.len(), views: Vec::new() }
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

/// Loads logsource tables: by the name of a shipped one, or from files and folders. `shipped` gives all
/// that come with Watchfire, and so does naming none at all; `none` gives none.
///
/// # Errors
/// When a path cannot be read or a table is wrong.
pub fn load_tables(names: &[String]) -> Result<Tables, LoadError> {
    let shipped = shipped_tables()?;
    if names.is_empty() {
        return Ok(Tables::new(shipped)?);
    }
    let mut tables = Vec::new();
    for name in names.iter().filter(|n| *n != "none") {
        let named = |table: &&Table| name == "shipped" || table.name() == name;
        let before = tables.len();
        tables.extend(shipped.iter().filter(named).cloned());
        if tables.len() > before {
            continue;
        }
        for path in yaml_files(&[PathBuf::from(name)])? {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| LoadError::Read { path: path.clone(), source })?;
            tables.push(Table::parse(&path.to_string_lossy(), &text)?);
        }
    }
    Ok(Tables::new(tables)?)
}

/// Files that were named, and YAML files in folders that were named, sorted, each once.
///
/// # Errors
/// When a path cannot be read.
pub fn yaml_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LoadError> {
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
        let files = RuleFiles { rules: vec![folder], ..RuleFiles::default() };
        let loaded = load_rules(&files).expect("the folder");
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
