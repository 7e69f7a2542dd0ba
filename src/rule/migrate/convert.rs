//! A plan carried out: the old document edited in place, new ones written behind it.
//!
//! The edited text is read again and compared with the tree that the edits should give, so an edit
//! that hits the wrong place is a refusal and never a changed rule.

use std::collections::BTreeSet;

use super::aggregation::Aggregation;
use super::plan::Plan;
use super::render::{Writer, derived_id, scalar, slug};
use super::source::{Block, Change, Changes, Source, alike, shifted};
use super::{Reason, Refusal};
use crate::limits::RULE_FILE_BYTES_MAX;
use crate::rule::diagnostic::{Code, Diagnostic};
use crate::rule::yaml::{Node, Yaml, parse};

/// What alerts and travels with the alert goes into the correlation as well.
const HEAD: [&str; 6] = ["status", "description", "references", "author", "date", "modified"];
const TAIL: [&str; 3] = ["falsepositives", "level", "license"];

/// What the documents are called.
#[derive(Clone, Debug)]
pub struct Names {
    /// Name of the rule when it has none itself.
    pub name: String,
    /// What new ids are derived from.
    pub key: String,
    /// Id of the rule, when it must get a new one.
    pub new_id: Option<String>,
}

/// The documents that one became.
pub struct Written {
    /// Their text, the markers between them included.
    pub text: String,
    /// What was done, in one line.
    pub change: String,
    /// What a person should look at.
    pub notes: Vec<Diagnostic>,
    /// Names that correlations refer to.
    pub names: Vec<String>,
}

/// One conversion under way.
pub struct Conversion<'s> {
    source: &'s Source,
    /// The documents of the file as they were, for their logsources.
    originals: &'s [Option<Source>],
    blocks: Vec<Block>,
    /// The members of `detection`.
    inner: Vec<Block>,
    newline: &'s str,
    changes: Changes,
    expected: Node,
}

impl<'s> Conversion<'s> {
    /// For one document.
    ///
    /// # Errors
    /// When it is not laid out so that it can be edited.
    pub fn new(
        source: &'s Source,
        originals: &'s [Option<Source>],
        newline: &'s str,
    ) -> Result<Self, Refusal> {
        let blocks = source.blocks(&source.node, source.lines.len());
        let detection = source.node.get("detection");
        let end = blocks.iter().flatten().find(|b| b.name == "detection").map(|b| b.lines.end);
        let inner = detection.zip(end).and_then(|(node, end)| source.blocks(node, end));
        let changes = Changes::new();
        let (Some(blocks), Some(inner)) = (blocks, inner) else { return Err(layout(source)) };
        let expected = source.node.clone();
        Ok(Self { source, originals, blocks, inner, newline, changes, expected })
    }

    /// Writes an expanded document as it is, under a new id if it must have one.
    ///
    /// # Errors
    /// When the id cannot be replaced.
    pub fn plain(mut self, names: &Names) -> Result<Written, Refusal> {
        self.give_id(names)?;
        let change = "written out without `action`".to_owned();
        Ok(Written { text: self.finish()?, change, notes: Vec::new(), names: Vec::new() })
    }

    /// Converts the document.
    ///
    /// # Errors
    /// A selection that is not there, or a layout that cannot be edited.
    pub fn run(mut self, plan: &Plan<'_>, names: &Names) -> Result<Written, Refusal> {
        let name = self.give_name(names)?;
        self.give_id(names)?;
        let comment = self.edit_detection(plan)?;
        self.replace_top("status", Some("unsupported"), "experimental")?;
        self.replace_top("level", None, "informational")?;
        let mut rules = vec![name.clone()];
        let mut added = String::new();
        let mut notes = Vec::new();
        if let Aggregation::Near(selections) = &plan.aggregation {
            self.bounded(unique(selections).len(), plan)?;
            self.own_logsource(&self.used(plan.search))?;
            for selection in unique(selections) {
                let rule = unused(format!("{name}_{}", slug(selection)), &rules);
                added += &self.selection_rule(selection, &rule, plan, names)?;
                rules.push(rule);
            }
            self.drop_selections(selections, plan.search);
            notes.push(self.near_note(plan));
        }
        if plan.timeframe.is_none() {
            let what = format!("the rule has no timeframe: {} was given for it", plan.window);
            let place = self.source.in_file(plan.condition_node.place);
            notes.push(Diagnostic::warning(Code::Correlation, place, what));
        }
        added += &self.correlation(&rules, plan, names, &comment);
        self.verify_added(&added)?;
        let text = format!("{}{added}", self.finish()?);
        Ok(Written { text, change: describe(plan), notes, names: rules })
    }

    /// Each selection of `near` gets a copy of the head: all together must fit a rule file.
    fn bounded(&self, copies: usize, plan: &Plan<'_>) -> Result<(), Refusal> {
        let bytes: usize = self.source.lines.iter().map(|l| l.text.len()).sum();
        if bytes.saturating_mul(copies) <= RULE_FILE_BYTES_MAX {
            return Ok(());
        }
        let what = format!(
            "`near` with {copies} selections, each in a rule of its own, could go over the limit of \
             {RULE_FILE_BYTES_MAX} bytes"
        );
        let place = self.source.in_file(plan.condition_node.place);
        Err(Refusal::at(Reason::Aggregation, place, what))
    }

    fn top(&self) -> usize {
        self.blocks.first().map_or(0, |b| b.indent)
    }

    /// Blanks of one step, as `detection` has them.
    fn step(&self) -> usize {
        self.inner.first().map_or(4, |b| b.indent.saturating_sub(self.top()).max(1))
    }

    fn block(&self, name: &str) -> Option<&Block> {
        self.blocks.iter().find(|b| b.name == name)
    }

    fn title(&self) -> String {
        self.source.node.get("title").and_then(Node::scalar_text).unwrap_or_default()
    }

    fn id(&self) -> Option<String> {
        self.source.node.get("id").and_then(Node::scalar_text)
    }

    fn change(&mut self, line: usize) -> &mut Change {
        self.changes.entry(line).or_default()
    }

    /// The rule's own name, or the one given, put behind its id or title.
    fn give_name(&mut self, names: &Names) -> Result<String, Refusal> {
        if let Some(name) = self.source.node.get("name").and_then(Node::scalar_text) {
            return Ok(name);
        }
        let after = self.block("id").or_else(|| self.block("title"));
        let line = after.map(|b| b.lines.end).or(self.blocks.first().map(|b| b.lines.start));
        let line = line.ok_or_else(|| layout(self.source))?;
        let blanks = " ".repeat(self.top());
        let text = format!("{blanks}name: {}{}", scalar(&names.name), self.newline);
        self.change(line).before.push_str(&text);
        let Yaml::Map(members) = &mut self.expected.value else { return Err(layout(self.source)) };
        let Some(mut member) = members.first().cloned() else { return Err(layout(self.source)) };
        member.0.text = "name".to_owned();
        member.1.value = Yaml::Str(names.name.clone());
        members.push(member);
        Ok(names.name.clone())
    }

    fn give_id(&mut self, names: &Names) -> Result<(), Refusal> {
        match &names.new_id {
            Some(id) => self.replace_top("id", None, id),
            None => Ok(()),
        }
    }

    /// Replaces the value of a member at the top, if it is there and (where asked) is `only`.
    fn replace_top(&mut self, name: &str, only: Option<&str>, new: &str) -> Result<(), Refusal> {
        let Some(node) = self.source.node.get(name) else { return Ok(()) };
        let Some(text) = node.as_str() else { return Ok(()) };
        if only.is_some_and(|only| only != text) {
            return Ok(());
        }
        let span = self.source.scalar(node, text);
        let (line, bytes) = span.ok_or_else(|| layout(self.source))?;
        self.change(line).replaced = Some((bytes, new.to_owned()));
        if let Some(node) = member(&mut self.expected, name) {
            node.value = Yaml::Str(new.to_owned());
        }
        Ok(())
    }

    /// The condition becomes its search, the timeframe goes; gives the timeframe's comment.
    fn edit_detection(&mut self, plan: &Plan<'_>) -> Result<String, Refusal> {
        let span = self.source.scalar(plan.condition_node, plan.condition);
        let (line, bytes) = span.ok_or_else(|| layout(self.source))?;
        self.change(line).replaced = Some((bytes, plan.search.to_owned()));
        let detection = member(&mut self.expected, "detection");
        if let Some(condition) = detection.and_then(|d| member(d, "condition")) {
            let node = match &mut condition.value {
                Yaml::Seq(items) if items.len() == 1 => items.first_mut(),
                _ => None,
            };
            match node {
                Some(node) => node.value = Yaml::Str(plan.search.to_owned()),
                None => condition.value = Yaml::Str(plan.search.to_owned()),
            }
        }
        let Some(timeframe) = plan.timeframe else { return Ok(String::new()) };
        let span = timeframe.scalar_text().and_then(|t| self.source.scalar(timeframe, &t));
        let comment = span.and_then(|(line, bytes)| {
            let rest = &self.source.lines[line].text[bytes.end..];
            rest.find('#').map(|at| format!(" {}", rest[at..].trim_end()))
        });
        self.remove_inner("timeframe");
        Ok(comment.unwrap_or_default())
    }

    /// Takes a member out of `detection`.
    fn remove_inner(&mut self, name: &str) {
        let lines = self.inner.iter().find(|b| b.name == name).map(|b| b.lines.clone());
        for line in lines.into_iter().flatten() {
            self.change(line).removed = true;
        }
        if let Some(Yaml::Map(members)) =
            member(&mut self.expected, "detection").map(|d| &mut d.value)
        {
            members.retain(|(key, _)| key.text != name);
        }
    }

    /// The selections that a search names, by themselves or by a pattern.
    fn used(&self, search: &str) -> BTreeSet<String> {
        let words: Vec<&str> =
            search.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')')).collect();
        let named = |name: &str| {
            words.iter().any(|word| match word.find(['*', '?']) {
                // More than the pattern means is no harm: a selection too many is kept.
                Some(at) => name.starts_with(&word[..at]),
                None => *word == "them" || *word == name,
            })
        };
        self.selections().filter(|n| named(n)).map(str::to_owned).collect()
    }

    fn selections(&self) -> impl Iterator<Item = &str> {
        let names = self.inner.iter().map(|b| b.name.as_str());
        names.filter(|n| !matches!(*n, "condition" | "timeframe"))
    }

    /// Selections that only `near` named have rules of their own now.
    fn drop_selections(&mut self, near: &[&str], search: &str) {
        let used = self.used(search);
        for name in unique(near).into_iter().filter(|n| !used.contains(*n)) {
            self.remove_inner(name);
        }
    }

    /// The document that selections were written in, where `action: global` joined several: its
    /// logsource is theirs.
    fn origin(&self, selections: &BTreeSet<String>) -> Option<&'s Source> {
        let blocks = self.inner.iter().filter(|b| selections.contains(&b.name));
        let lines = blocks.filter_map(|b| self.source.lines.get(b.lines.start));
        let documents: BTreeSet<usize> = lines.map(|l| l.document).collect();
        let mut documents = documents.into_iter();
        let (Some(only), None) = (documents.next(), documents.next()) else { return None };
        let original = self.originals.get(only)?.as_ref()?;
        original.node.get("logsource").is_some().then_some(original)
    }

    /// The text of the logsource of selections.
    fn logsource_text(&self, selections: &BTreeSet<String>) -> String {
        let own = self.origin(selections).and_then(|original| {
            let blocks = original.blocks(&original.node, original.lines.len())?;
            let block = blocks.into_iter().find(|b| b.name == "logsource")?;
            let shift = self.top() as isize - block.indent as isize;
            let lines = original.lines[block.lines].iter().map(|l| shifted(l, shift).text);
            Some(lines.collect::<String>())
        });
        let whole = || {
            let lines = self.block("logsource").map(|b| b.lines.clone());
            lines.map(|lines| self.source.text_of(lines, self.newline)).unwrap_or_default()
        };
        let mut text = own.unwrap_or_else(whole);
        if !text.is_empty() && !text.ends_with('\n') {
            text.push_str(self.newline);
        }
        text
    }

    /// Gives the edited document the logsource of its selections, where it is another one.
    fn own_logsource(&mut self, selections: &BTreeSet<String>) -> Result<(), Refusal> {
        let origin = self.origin(selections);
        let Some(own) = origin.and_then(|o| o.node.get("logsource")) else { return Ok(()) };
        if self.source.node.get("logsource").is_some_and(|whole| alike(whole, own)) {
            return Ok(());
        }
        let text = self.logsource_text(selections);
        let lines = self.block("logsource").map(|b| b.lines.clone());
        let lines = lines.ok_or_else(|| layout(self.source))?;
        self.change(lines.start).before.push_str(&text);
        for line in lines {
            self.change(line).removed = true;
        }
        if let Some(node) = member(&mut self.expected, "logsource") {
            *node = own.clone();
        }
        Ok(())
    }

    fn writer(&self) -> Writer<'s> {
        Writer::new(self.source, self.top(), self.step(), self.newline)
    }

    /// A rule for a selection that `near` named.
    fn selection_rule(
        &self,
        selection: &str,
        name: &str,
        plan: &Plan<'_>,
        names: &Names,
    ) -> Result<String, Refusal> {
        let block = self.inner.iter().find(|b| b.name == selection);
        let block = block.filter(|b| self.selections().any(|s| s == b.name)).ok_or_else(|| {
            let what = format!("no selection is named `{selection}`, which `near` asks for");
            let place = self.source.in_file(plan.condition_node.place);
            Refusal::at(Reason::UnknownSelection, place, what)
        })?;
        let mut writer = self.writer();
        let title = format!("{} ({selection})", self.title());
        writer.identity(&title, &derived_id(&names.key, selection), self.id().as_deref());
        writer.line(0, &format!("name: {}", scalar(name)));
        writer.copy(&HEAD);
        writer.copy(&["tags"]);
        writer.raw(&self.logsource_text(&BTreeSet::from([selection.to_owned()])));
        writer.line(0, "detection:");
        writer.raw(&self.source.text_of(block.lines.clone(), self.newline));
        writer.line(1, &format!("condition: {selection}"));
        if self.block("level").is_some() {
            writer.line(0, "level: informational");
        }
        writer.copy(&["license"]);
        Ok(writer.finish())
    }

    fn correlation(
        &self,
        rules: &[String],
        plan: &Plan<'_>,
        names: &Names,
        comment: &str,
    ) -> String {
        let mut writer = self.writer();
        let title = format!("{} (correlation)", self.title());
        writer.identity(&title, &derived_id(&names.key, "correlation"), self.id().as_deref());
        writer.copy(&HEAD);
        writer.copy(&["tags"]);
        writer.line(0, "correlation:");
        let kind = match &plan.aggregation {
            Aggregation::Number { kind, .. } => kind,
            Aggregation::Near(_) => "temporal",
        };
        writer.line(1, &format!("type: {kind}"));
        writer.line(1, "rules:");
        rules.iter().for_each(|rule| writer.line(2, &format!("- {}", scalar(rule))));
        if let Aggregation::Number { group_by, .. } = &plan.aggregation
            && !group_by.is_empty()
        {
            writer.line(1, "group-by:");
            group_by.iter().for_each(|field| writer.line(2, &format!("- {}", scalar(field))));
        }
        writer.line(1, &format!("timespan: {}{comment}", scalar(&plan.window)));
        if let Aggregation::Number { field, operator, bound, .. } = &plan.aggregation {
            writer.line(1, "condition:");
            if let Some(field) = field {
                writer.line(2, &format!("field: {}", scalar(field)));
            }
            writer.line(2, &format!("{operator}: {bound}"));
        }
        writer.copy(&TAIL);
        writer.finish()
    }

    fn near_note(&self, plan: &Plan<'_>) -> Diagnostic {
        let what = format!(
            "`near` has no group: events of different hosts or users count together within {}",
            plan.window
        );
        let place = self.source.in_file(plan.condition_node.place);
        Diagnostic::warning(Code::Correlation, place, what).help(
            "add `group-by` to the correlation if the events should belong to one host or user",
        )
    }

    /// What was copied must say in its new place what it said in the old one.
    fn verify_added(&self, added: &str) -> Result<(), Refusal> {
        let nodes = parse(added).map_err(|_| layout(self.source))?;
        let faithful = |node: &Node| {
            HEAD.iter().chain(&TAIL).chain(&["tags"]).filter(|n| **n != "status").all(|name| {
                let copy = node.get(name);
                let is_level = *name == "level" && node.get("correlation").is_none();
                let old = self.source.node.get(name);
                copy.is_none() || is_level || copy.zip(old).is_some_and(|(a, b)| alike(a, b))
            })
        };
        let selections = |node: &Node| {
            let old = self.source.node.get("detection");
            let members = node.get("detection").map(Node::members).unwrap_or_default();
            members.iter().filter(|(k, _)| k.text != "condition").all(|(key, value)| {
                old.and_then(|d| d.get(&key.text)).is_some_and(|other| alike(value, other))
            })
        };
        let good = nodes.iter().all(|node| faithful(node) && selections(node));
        if good { Ok(()) } else { Err(layout(self.source)) }
    }

    /// The edited document, if it says what it should.
    fn finish(self) -> Result<String, Refusal> {
        let end = self.source.lines.len();
        let mut text = self.source.changed(&self.changes);
        if !text.ends_with('\n') {
            text.push_str(self.newline);
        }
        if let Some(last) = self.changes.get(&end) {
            text.push_str(&last.before);
        }
        let nodes = parse(&text).map_err(|_| layout(self.source))?;
        match nodes.as_slice() {
            [node] if alike(node, &self.expected) => Ok(text),
            _ => Err(layout(self.source)),
        }
    }
}

fn layout(source: &Source) -> Refusal {
    let what = "the document is not laid out so that it could be edited in place";
    Refusal::at(Reason::Layout, source.in_file(source.node.place), what)
        .help("write mappings as blocks, one key on a line, without anchors")
}

fn member<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Yaml::Map(members) => members.iter_mut().find(|(k, _)| k.text == name).map(|(_, v)| v),
        _ => None,
    }
}

fn unique<'t>(names: &[&'t str]) -> Vec<&'t str> {
    let mut seen = BTreeSet::new();
    names.iter().copied().filter(|n| seen.insert(*n)).collect()
}

/// The name, with a number behind it if it is taken.
fn unused(name: String, taken: &[String]) -> String {
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    let mut candidates = std::iter::once(name.clone()).chain(numbered);
    candidates.find(|c| !taken.contains(c)).unwrap_or(name)
}

/// The aggregation in one line, such as `value_count of user > 3 by host within 24h`.
fn describe(plan: &Plan<'_>) -> String {
    match &plan.aggregation {
        Aggregation::Near(selections) => {
            format!("temporal of {} rules within {}", unique(selections).len() + 1, plan.window)
        }
        Aggregation::Number { kind, field, group_by, operator, bound } => {
            let of = field.map(|f| format!(" of {f}")).unwrap_or_default();
            let by = if group_by.is_empty() { "" } else { " by " };
            let fields = group_by.join(", ");
            format!("{kind}{of} {operator} {bound}{by}{fields} within {}", plan.window)
        }
    }
}
