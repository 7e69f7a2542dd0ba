//! What is wrong with a rule, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Where something stands in a file, in characters; line 0 means the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters of the file it covers, line ends included; 0 when only its start is known.
    pub length: usize,
}

impl Place {
    /// A point: line and column, both from 1.
    pub fn new(line: usize, column: usize) -> Self {
        Self { line, column, length: 0 }
    }

    /// The same start, covering so many characters.
    #[must_use]
    pub fn spanning(self, length: usize) -> Self {
        Self { length, ..self }
    }

    /// The same place, or the end of the last line for one that lies behind it.
    #[must_use]
    pub fn clamped(self, text: &str) -> Self {
        let lines = text.lines().count().max(1);
        if self.line <= lines {
            return self;
        }
        Self::new(lines, text.lines().last().map_or(0, |l| l.chars().count()) + 1)
    }

    /// The bytes of `text` that it covers, at least one character where there is one.
    pub fn bytes_in(&self, text: &str) -> Range<usize> {
        if self.line == 0 {
            return 0..0;
        }
        let before = line_start(text, self.line);
        let mut ends = text[before..].char_indices().map(|(i, _)| before + i);
        let start = ends.by_ref().nth(self.column.saturating_sub(1)).unwrap_or(text.len());
        let end = ends.nth(self.length.max(1) - 1).unwrap_or(text.len());
        start..end.max(start)
    }

    /// The bytes of `text` that it covers, without blanks and line ends behind them.
    pub fn shown_in(&self, text: &str) -> Range<usize> {
        let bytes = self.bytes_in(text);
        let covered = &text[bytes.clone()];
        let shown = covered.trim_end();
        bytes.start..bytes.start + if shown.is_empty() { covered.len() } else { shown.len() }
    }

    /// Line and column just behind the last character that it covers.
    pub fn end_in(&self, text: &str) -> Self {
        if self.line == 0 {
            return *self;
        }
        let covered = &text[self.shown_in(text)];
        let column = |line: &str| line.chars().count() + 1;
        match covered.rsplit_once('\n') {
            None => Self::new(self.line, self.column - 1 + column(covered)),
            Some((before, last)) => {
                Self::new(self.line + 1 + before.matches('\n').count(), column(last))
            }
        }
    }
}

/// Where a line begins. YAML ends lines by a line feed, a carriage return, or both.
fn line_start(text: &str, line: usize) -> usize {
    let bytes = text.as_bytes();
    let ends = |at: usize| match bytes[at] {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    match line.checked_sub(2) {
        None => 0,
        Some(nth) => {
            (0..bytes.len()).filter(|at| ends(*at)).nth(nth).map_or(text.len(), |at| at + 1)
        }
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
    /// A file or directory could not be read.
    File,
    /// A placeholder that configuration gives no values for.
    Placeholder,
    /// A processing pipeline refused the rule, or cannot be used.
    Pipeline,
    /// No configured source can feed the rule.
    NoSource,
    /// A selection that the condition does not use.
    UnusedSelection,
    /// A legal form that other tools refuse or read otherwise.
    Portability,
    /// A filter whose condition has no `not`: it narrows the rule to what it names.
    FilterKeeps,
    /// A modifier that changes nothing here.
    IdleModifier,
    /// A head that readers and tools will miss something in.
    Header,
    /// A logsource that is not among those of the Sigma taxonomy.
    Logsource,
    /// A pattern or window that costs much.
    Cost,
    /// Wildcards that do nothing, or that say in a roundabout way what a modifier says.
    Wildcard,
    /// The same thing stands there twice.
    Repeated,
    /// An encoded value compared without regard to case.
    EncodedCase,
}

impl Code {
    /// All codes, in the order of their numbers.
    pub const ALL: &[Self] = &[
        Self::Yaml,
        Self::DuplicateKey,
        Self::File,
        Self::Shape,
        Self::Condition,
        Self::UnknownSelection,
        Self::Modifier,
        Self::Value,
        Self::Correlation,
        Self::Reference,
        Self::DuplicateId,
        Self::Unsupported,
        Self::NoSource,
        Self::Placeholder,
        Self::Pipeline,
        Self::UnusedSelection,
        Self::Portability,
        Self::FilterKeeps,
        Self::IdleModifier,
        Self::Header,
        Self::Logsource,
        Self::Cost,
        Self::Wildcard,
        Self::Repeated,
        Self::EncodedCase,
    ];

    /// Reads a code as printed; case does not count.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.as_str().eq_ignore_ascii_case(text))
    }

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
            Self::Placeholder => "W0303",
            Self::Pipeline => "W0304",
            Self::UnusedSelection => "W0401",
            Self::Portability => "W0402",
            Self::FilterKeeps => "W0403",
            Self::IdleModifier => "W0404",
            Self::Header => "W0405",
            Self::Logsource => "W0406",
            Self::Cost => "W0407",
            Self::Wildcard => "W0408",
            Self::Repeated => "W0409",
            Self::EncodedCase => "W0410",
        }
    }
}

/// Whether a rule with this finding can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The rule is not loaded.
    Error,
    /// The rule runs, but perhaps not as meant.
    Warning,
    /// The rule runs as meant; it could be better.
    Hint,
}

impl Severity {
    /// The word as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }
}

/// A change of the file that mends a finding and changes nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What is replaced.
    pub place: Place,
    /// What stands there then.
    pub text: String,
}

/// One finding about one rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the rule can run.
    pub severity: Severity,
    /// Stable code.
    pub code: Code,
    /// The file, once known.
    pub file: Option<Arc<str>>,
    /// Where in the file.
    pub place: Place,
    /// Characters of the scalar at `place`, as read, that are meant; resolved to a place of their own
    /// once the text is at hand.
    within: Option<Range<usize>>,
    /// What is wrong, with the value and the limit.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub labels: Vec<(Place, String)>,
    /// A safe change that mends it.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// An error: the rule cannot be loaded.
    pub fn error(code: Code, place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity: Severity::Error,
            code,
            file: None,
            place,
            within: None,
            message,
            help: None,
            labels: Vec::new(),
            fix: None,
        }
    }

    /// A warning: the rule runs all the same.
    pub fn warning(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// A hint: the rule runs as meant.
    pub fn hint(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Hint, ..Self::error(code, place, message) }
    }

    /// Points at some characters of the scalar at its place; a fix goes there as well.
    #[must_use]
    pub fn within(mut self, characters: Range<usize>) -> Self {
        self.within = Some(characters);
        self
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn label(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push((place, text.into()));
        self
    }

    /// Adds a safe change: what the finding points at is replaced.
    #[must_use]
    pub fn fix(mut self, text: impl Into<String>) -> Self {
        self.fix = Some(Fix { place: self.place, text: text.into() });
        self
    }

    /// Finds the exact place in the text of the file.
    pub fn resolve(&mut self, text: &str) {
        let Some(characters) = self.within.take() else { return };
        self.place = super::yaml::locate(text, self.place, characters);
        if let Some(fix) = &mut self.fix {
            fix.place = self.place;
        }
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
        let severity = self.severity.as_str();
        let Place { line, column, .. } = self.place;
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
    let length = name.chars().count();
    let most = (length / 3).max(1);
    let near = |c: &'a str| {
        let apart = c.chars().count().abs_diff(length) > most;
        Some((if apart { most + 1 } else { distance(name, c) }, c)).filter(|(d, _)| *d <= most)
    };
    candidates.filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, c)| c)
}

/// Edits between two texts, in characters: insert, remove, replace, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_near() {
        let names = ["contains", "startswith", "endswith"];
        assert_eq!(nearest("contain", names.into_iter()), Some("contains"));
        assert_eq!(nearest("endwith", names.into_iter()), Some("endswith"));
        assert_eq!(nearest("contianz", names.into_iter()), Some("contains"));
        assert_eq!(nearest("hihg", ["high"].into_iter()), Some("high"));
        assert_eq!(nearest("xyz", names.into_iter()), None);
    }

    #[test]
    fn a_place_covers_the_bytes_of_its_characters() {
        let text = "a: x\nä: öé\n";
        assert_eq!(&text[Place::new(2, 4).spanning(2).bytes_in(text)], "öé");
        assert_eq!(&text[Place::new(2, 1).bytes_in(text)], "ä");
        assert_eq!(Place::new(9, 9).bytes_in(text), text.len()..text.len());
        for text in ["a: x\r\nb: y", "a: x\rb: y", "a: x\nb: y"] {
            assert_eq!(&text[Place::new(2, 4).bytes_in(text)], "y", "{text:?}");
        }
    }

    #[test]
    fn a_place_ends_behind_its_last_character() {
        let text = "a: x\nä: öé\nb: |\n  one\n  two\n";
        assert_eq!(Place::new(2, 4).spanning(2).end_in(text), Place::new(2, 6));
        assert_eq!(Place::new(4, 3).spanning(9).end_in(text), Place::new(5, 6));
        assert_eq!(Place::new(2, 1).end_in(text), Place::new(2, 2));
    }

    #[test]
    fn codes_are_listed_once_each_in_rising_order() {
        let codes: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert_eq!(Code::parse("w0102"), Some(Code::Condition));
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
