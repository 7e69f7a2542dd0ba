//! Sigma 1 aggregations → Sigma 2 correlations, as text.
//!
//! A rule with `| count() …` or `| near …` behind its condition becomes two documents and more: the
//! rule without the aggregation, and a correlation that refers to it. The rule's text is edited in
//! place; all that the aggregation does not concern stays byte for byte. `docs/migrate.md` says what
//! becomes what. The border: no file is read or written here.

mod action;
mod aggregation;
mod convert;
mod plan;
mod render;
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::diagnostic::{Code, Diagnostic, Place, Severity};
use super::link::RuleSet;
use super::yaml::{Node, Yaml, parse};
use convert::{Conversion, Names, Written};
use plan::plan;
use source::{Cut, Source, documents};

/// Why a rule cannot be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The file is no YAML.
    Unreadable,
    /// The condition is in no version of Sigma.
    Condition,
    /// What stands behind the `|` is no aggregation of Sigma 1.
    Aggregation,
    /// Sigma 2 has no correlation type for it.
    NoType,
    /// `near` asks for something not to happen.
    NegatedNear,
    /// `near` names a selection that is not there.
    UnknownSelection,
    /// Several conditions, at least one with an aggregation.
    SeveralConditions,
    /// An aggregation without a timeframe.
    NoWindow,
    /// A timeframe that no correlation can have.
    Timeframe,
    /// A timeframe without an aggregation.
    TimeframeAlone,
    /// An `action` that cannot be written out.
    Action,
    /// Text that cannot be edited in place.
    Layout,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Unreadable,
        Self::Condition,
        Self::Aggregation,
        Self::NoType,
        Self::NegatedNear,
        Self::UnknownSelection,
        Self::SeveralConditions,
        Self::NoWindow,
        Self::Timeframe,
        Self::TimeframeAlone,
        Self::Action,
        Self::Layout,
    ];

    /// The reason as printed, such as `no-window`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Condition => "condition",
            Self::Aggregation => "aggregation",
            Self::NoType => "no-type",
            Self::NegatedNear => "negated-near",
            Self::UnknownSelection => "unknown-selection",
            Self::SeveralConditions => "several-conditions",
            Self::NoWindow => "no-window",
            Self::Timeframe => "timeframe",
            Self::TimeframeAlone => "timeframe-alone",
            Self::Action => "action",
            Self::Layout => "layout",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule that cannot be converted: why, where, and what would help.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which of the known reasons it is.
    pub reason: Reason,
    /// The same for people, with its place in the file.
    pub diagnostic: Diagnostic,
}

impl Refusal {
    fn at(reason: Reason, place: Place, what: impl Into<String>) -> Self {
        Self { reason, diagnostic: Diagnostic::error(Code::Unsupported, place, what) }
    }

    fn help(mut self, help: &str) -> Self {
        self.diagnostic = self.diagnostic.help(help);
        self
    }

    fn in_file(mut self, file: &Arc<str>) -> Self {
        self.diagnostic = self.diagnostic.in_file(file);
        self
    }
}

/// A file that was converted.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The new text of the file.
    pub text: String,
    /// What was done, a line for each document.
    pub changes: Vec<String>,
    /// What a person should look at, with places in the old text.
    pub notes: Vec<Diagnostic>,
    /// What the engine says about the new text, with places in it. An error here means that the
    /// conversion is right and this version does not run it.
    pub engine: Vec<Diagnostic>,
    /// The names that correlations refer to; no other rule may have them.
    pub names: Vec<String>,
}

/// What became of a file.
#[derive(Clone, Debug)]
pub enum Migrated {
    /// There is nothing of Sigma 1 in it.
    Nothing,
    /// It was converted as a whole.
    Converted(Converted),
    /// At least one of its documents cannot be converted, so none was.
    Refused(Vec<Refusal>),
}

/// Converts the text of one file. `window` is the timespan of aggregations that have no timeframe;
/// without it they are refused.
///
/// Ids of new documents are UUIDs of version 8 over the old id: converting again gives the same.
pub fn migrate(file: &Arc<str>, text: &str, window: Option<&str>) -> Migrated {
    match convert(file, text, window) {
        Ok(Some(converted)) => Migrated::Converted(converted),
        Ok(None) => Migrated::Nothing,
        Err(refusals) => Migrated::Refused(refusals.into_iter().map(|r| r.in_file(file)).collect()),
    }
}

fn convert(
    file: &Arc<str>,
    text: &str,
    window: Option<&str>,
) -> Result<Option<Converted>, Vec<Refusal>> {
    let unreadable = |d| vec![Refusal { reason: Reason::Unreadable, diagnostic: d }];
    let nodes = parse(text).map_err(unreadable)?;
    let cuts = documents(text);
    let originals: Vec<Option<Source>> =
        cuts.iter().map(|c| Source::read(c.lines.clone()).filter(holds_something)).collect();
    if originals.iter().flatten().count() != nodes.iter().filter(|n| is_something(n)).count() {
        let what = "a document begins on the line of its marker `---`";
        let help = "begin it on a line of its own";
        let Some(node) = nodes.iter().find(|n| is_legacy(n)) else { return Ok(None) };
        return Err(vec![Refusal::at(Reason::Layout, node.place, what).help(help)]);
    }
    let has_actions = originals.iter().flatten().any(|s| s.node.get("action").is_some());
    let sources = match has_actions {
        true => action::expand(&originals).map_err(|r| vec![r])?,
        false => originals.clone(),
    };
    let mut file = File::new(file, text, window, has_actions, &originals);
    for (index, source) in sources.iter().enumerate() {
        let gone = source.is_none() && originals[index].is_some();
        match source {
            Some(source) => file.document(&cuts[index], source),
            None if gone => {}
            None => file.keep(&cuts[index]),
        }
    }
    file.finish()
}

fn is_something(node: &Node) -> bool {
    node.value != Yaml::Null
}

fn holds_something(source: &Source) -> bool {
    is_something(&source.node)
}

/// Whether a document looks like Sigma 1, however it is laid out.
fn is_legacy(node: &Node) -> bool {
    let detection = node.get("detection");
    let condition = detection.and_then(|d| d.get("condition")).and_then(Node::as_str);
    let timeframe = detection.and_then(|d| d.get("timeframe"));
    let piped = condition.is_some_and(|c| c.contains('|'));
    piped || timeframe.is_some() || node.get("action").is_some()
}

/// The new text of a file as it grows.
struct File<'t> {
    file: &'t Arc<str>,
    window: Option<&'t str>,
    newline: &'static str,
    expanded: bool,
    originals: &'t [Option<Source>],
    ids: BTreeSet<String>,
    rules: usize,
    out: Converted,
    refusals: Vec<Refusal>,
}

impl<'t> File<'t> {
    fn new(
        file: &'t Arc<str>,
        text: &str,
        window: Option<&'t str>,
        expanded: bool,
        originals: &'t [Option<Source>],
    ) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let out = Converted {
            text: String::new(),
            changes: Vec::new(),
            notes: Vec::new(),
            engine: Vec::new(),
            names: Vec::new(),
        };
        let (ids, refusals) = (BTreeSet::new(), Vec::new());
        Self { file, window, newline, expanded, originals, ids, rules: 0, out, refusals }
    }

    /// Puts the marker of the next document, if something stands before it.
    fn marker(&mut self, marker: &str) {
        if self.out.text.is_empty() {
            let first = if self.expanded { "" } else { marker };
            self.out.text.push_str(first);
            return;
        }
        if !self.out.text.ends_with('\n') {
            self.out.text.push_str(self.newline);
        }
        self.out.text.push_str(marker);
    }

    /// A document that stays as it is.
    fn keep(&mut self, cut: &Cut) {
        self.marker(&cut.marker);
        cut.lines.iter().for_each(|line| self.out.text.push_str(&line.text));
    }

    fn document(&mut self, cut: &Cut, source: &Source) {
        let planned = match plan(source, self.window) {
            Ok(planned) => planned,
            Err(refusal) => return self.refusals.push(refusal),
        };
        let is_rule = source.node.get("detection").is_some();
        self.rules += usize::from(is_rule);
        if planned.is_none() && !(self.expanded && is_rule) {
            return self.keep(cut);
        }
        let names = self.names(source);
        let conversion = Conversion::new(source, self.originals, self.newline);
        let written = conversion.and_then(|conversion| match &planned {
            Some(plan) => conversion.run(plan, &names),
            None => conversion.plain(&names),
        });
        match written {
            Ok(written) => self.put(&cut.marker, written),
            Err(refusal) => self.refusals.push(refusal),
        }
    }

    /// What the next rule is called. A second rule with the same id gets a new one: so it is when a
    /// global document gave its id to several.
    fn names(&mut self, source: &Source) -> Names {
        let text = |name: &str| source.node.get(name).and_then(Node::scalar_text);
        let title = text("title").unwrap_or_default();
        let base = render::name_of(self.file, &title);
        let name = if self.rules > 1 { format!("{base}_{}", self.rules) } else { base };
        let id = text("id");
        let mut key = id.clone().or_else(|| text("name")).unwrap_or(title);
        let again = id.as_ref().is_some_and(|id| self.ids.contains(id));
        let new_id = again.then(|| render::derived_id(&key, &format!("rule {}", self.rules)));
        self.ids.extend(id);
        if let Some(id) = &new_id {
            key.clone_from(id);
        }
        Names { name, key, new_id }
    }

    fn put(&mut self, marker: &str, written: Written) {
        self.marker(marker);
        self.out.text.push_str(&written.text);
        self.out.changes.push(written.change);
        self.out.names.extend(written.names);
        self.out.notes.extend(written.notes.into_iter().map(|n| n.in_file(self.file)));
    }

    fn finish(mut self) -> Result<Option<Converted>, Vec<Refusal>> {
        if !self.refusals.is_empty() {
            return Err(self.refusals);
        }
        if self.out.changes.is_empty() {
            return Ok(None);
        }
        if !self.out.text.ends_with('\n') {
            self.out.text.push('\n');
        }
        let (_, found) = RuleSet::compile([(self.file, self.out.text.as_str())]);
        let told = found.into_iter().filter(|d| d.severity != Severity::Hint);
        self.out.engine = told.collect();
        Ok(Some(self.out))
    }
}
