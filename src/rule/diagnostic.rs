//! What is wrong with a rule, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

/// Line and column, both from 1, columns in characters; line 0 means the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// Line and column, both from 1.
    pub fn new(line: usize, column: usize) -> Self {
        Self { line, column }
    }
}

/// Stable codes of diagnostics; they are never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The file is not readable YAML, or over a limit.
    Yaml,
    /// A key stands twice in one mapping.
    DuplicateKey,
    /// A required part is missing, or has the wrong shape.
    Shape,
    /// A condition does not parse.
    Condition,
    /// A condition names a selection that is not there.
    UnknownSelection,
    /// A modifier that does not exist, or must not stand there.
    Modifier,
    /// A value that its modifier cannot take.
    Value,
    /// A correlation's part is wrong.
    Correlation,
    /// A reference to a rule that is not loaded, or a cycle.
    Reference,
    /// Two rules have the same id or name.
    DuplicateId,
    /// The rule needs something that this version does not do.
    Unsupported,
    /// No source is configured that the rule could get events from.
    NoSource,
    /// A file or directory could not be read.
    File,
}

impl Code {
    /// The code as printed, such as `W0102`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yaml => "W0001",
            Self::DuplicateKey => "W0002",
            Self::File => "W0003",
            Self::Shape => "W0101",
            Self::Condition => "W0102",
            Self::UnknownSelection => "W0103",
            Self::Modifier => "W0104",
            Self::Value => "W0105",
            Self::Correlation => "W0201",
            Self::Reference => "W0202",
            Self::DuplicateId => "W0203",
            Self::Unsupported => "W0301",
            Self::NoSource => "W0302",
        }
    }
}

/// Whether a rule with this finding can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The rule is not loaded.
    Error,
    /// The rule runs.
    Warning,
}

/// One finding about one rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code.
    pub code: Code,
    /// The file, once known.
    pub file: Option<Arc<str>>,
    /// Where in the file.
    pub place: Place,
    /// What is wrong, with the value and the limit.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error: the rule cannot be loaded.
    pub fn error(code: Code, place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, code, file: None, place, message, help: None }
    }

    /// A warning: the rule runs all the same.
    pub fn warning(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the file.
    #[must_use]
    pub fn in_file(mut self, file: &Arc<str>) -> Self {
        self.file = Some(Arc::clone(file));
        self
    }
}

/// `file:line:column: error[W0102]: message`, and the help on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("<rule>");
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Place { line, column } = self.place;
        if line > 0 {
            write!(f, "{file}:{line}:{column}: ")?;
        } else {
            write!(f, "{file}: ")?;
        }
        write!(f, "{severity}[{}]: {}", self.code.as_str(), self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// The candidate nearest to `name`, when it is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |c: &&str| distance(name, c) <= (name.chars().count() / 3).max(1);
    candidates.filter(near).min_by_key(|c| distance(name, c))
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_near() {
        let names = ["contains", "startswith", "endswith"];
        assert_eq!(nearest("contain", names.into_iter()), Some("contains"));
        assert_eq!(nearest("endwith", names.into_iter()), Some("endswith"));
        assert_eq!(nearest("xyz", names.into_iter()), None);
    }

    #[test]
    fn a_diagnostic_reads_as_file_line_column_code_message() {
        let d = Diagnostic::error(Code::Condition, Place::new(3, 7), "expected a name")
            .help("write a selection")
            .in_file(&"a.yml".into());
        let text = "a.yml:3:7: error[W0102]: expected a name\n  help: write a selection";
        assert_eq!(d.to_string(), text);
    }
}
