//! The detection of a rule as it is written: selections made of items, and conditions over them.
//!
//! The tree stands between YAML and what the engine runs. Processing pipelines and filters work on
//! it; every node knows its place, so that what they or the compiler find can be pointed at.

use std::ops::Range;

use super::condition::{self, Condition};
use super::diagnostic::{Code, Diagnostic, Place};
use super::placeholder::Placeholders;
use super::yaml::{Key, Node, Yaml};
use crate::limits::RULE_REGEXES_MAX;

/// The detection part of a rule or filter.
#[derive(Clone, Debug)]
pub struct DetectionTree {
    /// Selections by name, in file order.
    pub selections: Vec<(Key, Selection)>,
    /// Conditions over their names; one must hold.
    pub conditions: Vec<Condition>,
}

/// A selection or a part of one.
#[derive(Clone, Debug)]
pub enum Selection {
    /// All parts must hold: a mapping.
    All(Vec<Selection>),
    /// One part must hold: a list.
    Any(Vec<Selection>),
    /// One item.
    Item(DetectionItem),
}

/// One member of a selection: a field, modifiers and values; or keywords.
#[derive(Clone, Debug)]
pub struct DetectionItem {
    /// Where the key stands, or the keyword.
    pub place: Place,
    /// The field; `None` for keywords.
    pub field: Option<String>,
    /// Modifiers, left to right.
    pub modifiers: Vec<Modifier>,
    /// Values as written.
    pub values: Vec<Node>,
    /// Ids of the processing items that changed it.
    pub processed_by: Vec<String>,
}

/// A modifier and the characters of the key that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modifier {
    /// Its name as written.
    pub name: String,
    /// Its characters within the key.
    pub at: Range<usize>,
}

/// Words of the condition language; a selection of that name could not be named.
const RESERVED: &[&str] = &["and", "or", "not", "of", "them", "all", "any"];

impl DetectionTree {
    /// Reads `detection:` or the same part of a filter. `reserved` names keys that are no selections.
    /// What is wrong is added to `found`; `None` when anything was.
    pub fn read(node: &Node, reserved: &[&str], found: &mut Vec<Diagnostic>) -> Option<Self> {
        let wrong_before = errors(found);
        let tree = Self::read_parts(node, reserved, found)?;
        if errors(found) > wrong_before {
            tree.report_items(found);
            return None;
        }
        tree.report_unused(found);
        Some(tree)
    }

    /// What can be read of it.
    fn read_parts(node: &Node, reserved: &[&str], found: &mut Vec<Diagnostic>) -> Option<Self> {
        if !matches!(node.value, Yaml::Map(_)) {
            let what = format!("a detection is a mapping, this is {}", node.kind());
            found.push(
                Diagnostic::error(Code::Shape, node.place, what)
                    .help("it has selections by name, and a `condition` that joins them"),
            );
            return None;
        }
        if let Some(timeframe) = node.members().iter().find(|(k, _)| k.text == "timeframe") {
            let what = "`timeframe` went with the aggregations of Sigma 1";
            let help = "write a correlation document with `timespan`; `watchfire migrate` does";
            found.push(Diagnostic::error(Code::Unsupported, timeframe.0.place, what).help(help));
        }
        let is_selection =
            |name: &str| !matches!(name, "condition" | "timeframe") && !reserved.contains(&name);
        let written = || node.members().iter().filter(|(k, _)| is_selection(&k.text));
        let names: Vec<&str> = written().map(|(k, _)| k.text.as_str()).collect();
        let mut selections = Vec::new();
        for (key, body) in written() {
            if RESERVED.contains(&key.text.as_str()) || key.text.trim().is_empty() {
                let what = format!("a selection cannot be called `{}`", key.text);
                let help = "conditions read this word as an operator; give it another name";
                found.push(Diagnostic::error(Code::Shape, key.place, what).help(help));
            }
            match Selection::read(body) {
                Ok(selection) => selections.push((key.clone(), selection)),
                Err(diagnostic) => found.push(diagnostic),
            }
        }
        if names.is_empty() {
            let what = "the detection has no selection";
            found.push(
                Diagnostic::error(Code::Shape, node.place, what)
                    .help("name what to look for: `selection: {Image|endswith: '\\cmd.exe'}`"),
            );
            return None;
        }
        let conditions = conditions(node, &names, found);
        let bounded = bound_regexes(&selections, found);
        bounded.then_some(Self { selections, conditions })
    }

    /// Adds what is wrong with items, for a rule that will not be compiled since something else is
    /// wrong with it. Placeholders are left out: what lists there are is not known here.
    pub fn report_items(&self, found: &mut Vec<Diagnostic>) {
        let mut wrong = Vec::new();
        super::detection::compile(self, &Placeholders::new(), &mut wrong);
        found.extend(wrong.into_iter().filter(|d| d.code != Code::Placeholder));
    }

    /// A selection that no condition names says nothing; names with `_` in front are meant to be so.
    fn report_unused(&self, found: &mut Vec<Diagnostic>) {
        let mut used = Vec::new();
        self.conditions.iter().for_each(|c| c.names(&mut used));
        for (key, _) in &self.selections {
            if !key.text.starts_with('_') && !used.contains(&key.text.as_str()) {
                let what = format!("the condition does not use the selection `{}`", key.text);
                let help = "name it in the condition, or remove it";
                found.push(Diagnostic::warning(Code::UnusedSelection, key.place, what).help(help));
            }
        }
    }
}

/// False when there are too many regular expressions to compile.
fn bound_regexes(selections: &[(Key, Selection)], found: &mut Vec<Diagnostic>) -> bool {
    let mut items = Vec::new();
    selections.iter().for_each(|(_, s)| s.items(&mut items));
    let mut left = RULE_REGEXES_MAX;
    for item in items.iter().filter(|i| i.has("re")) {
        let Some(less) = left.checked_sub(item.values.len()) else {
            let what = format!("more than {RULE_REGEXES_MAX} regular expressions in one rule");
            let help = "join them by `|`, or split the rule";
            found.push(Diagnostic::error(Code::Value, item.place, what).help(help));
            return false;
        };
        left = less;
    }
    true
}

/// How many errors there are.
pub fn errors(found: &[Diagnostic]) -> usize {
    found.iter().filter(|d| d.severity == super::Severity::Error).count()
}

fn conditions(node: &Node, names: &[&str], found: &mut Vec<Diagnostic>) -> Vec<Condition> {
    let Some(condition) = node.get("condition") else {
        let what = "the detection has no `condition`";
        let help = "say how the selections join, such as `condition: selection and not filter`";
        found.push(Diagnostic::error(Code::Shape, node.place, what).help(help));
        return Vec::new();
    };
    let texts = match &condition.value {
        Yaml::Seq(items) if !items.is_empty() => items.iter().collect(),
        _ => vec![condition],
    };
    let mut parsed = Vec::new();
    for text in texts {
        let Some(source) = text.as_str() else {
            let what = format!("a condition must be a string, this is {}", text.kind());
            let help = "write the names of selections, such as `selection and not filter`";
            found.push(Diagnostic::error(Code::Condition, text.place, what).help(help));
            continue;
        };
        match condition::parse(source, text.place, names, found) {
            Ok(condition) => parsed.push(condition),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    parsed
}

impl Selection {
    /// A map (all of its items), a list of maps or keywords (one of them), or one keyword.
    ///
    /// # Errors
    /// What is no selection: empty, or a list inside a list.
    pub fn read(node: &Node) -> Result<Self, Diagnostic> {
        match &node.value {
            Yaml::Map(members) if members.is_empty() => Err(empty(node)),
            Yaml::Map(members) => {
                let items = members.iter().map(|(k, v)| DetectionItem::read(k, v));
                Ok(Self::All(items.collect::<Result<_, _>>()?))
            }
            Yaml::Seq(parts) if parts.is_empty() => Err(empty(node)),
            Yaml::Seq(parts) => {
                Ok(Self::Any(parts.iter().map(Self::list_part).collect::<Result<_, _>>()?))
            }
            _ => Self::list_part(node),
        }
    }

    fn list_part(node: &Node) -> Result<Self, Diagnostic> {
        match &node.value {
            Yaml::Map(_) => Self::read(node),
            Yaml::Seq(_) => {
                let what = "a list inside a list has no meaning in a selection";
                Err(Diagnostic::error(Code::Shape, node.place, what)
                    .help("write the values as one list, or as `field: [a, b]`"))
            }
            Yaml::Null => {
                let what = "`null` is no keyword: it can only be the value of a field";
                Err(Diagnostic::error(Code::Value, node.place, what)
                    .help("write the field that shall be absent: `field: null`"))
            }
            _ => Ok(Self::Item(DetectionItem {
                place: node.place,
                field: None,
                modifiers: Vec::new(),
                values: vec![node.clone()],
                processed_by: Vec::new(),
            })),
        }
    }

    /// Calls `change` for every item; what it gives takes the item's place.
    #[must_use]
    pub fn map_items(self, change: &mut dyn FnMut(DetectionItem) -> Self) -> Self {
        let mut all = |parts: Vec<Self>| parts.into_iter().map(|p| p.map_items(change)).collect();
        match self {
            Self::All(parts) => Self::All(all(parts)),
            Self::Any(parts) => Self::Any(all(parts)),
            Self::Item(item) => change(item),
        }
    }

    /// Every item, in order.
    pub fn items<'s>(&'s self, into: &mut Vec<&'s DetectionItem>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|p| p.items(into)),
            Self::Item(item) => into.push(item),
        }
    }
}

impl DetectionItem {
    fn read(key: &Key, value: &Node) -> Result<Selection, Diagnostic> {
        let mut parts = key.text.split('|');
        // Spaces are no part of a field's name (Sigma rules specification, Field Usage).
        let written = parts.next().unwrap_or_default();
        let mut at = written.chars().count();
        let mut modifiers = Vec::new();
        for name in parts {
            let length = name.chars().count();
            modifiers.push(Modifier { name: name.to_owned(), at: at + 1..at + 1 + length });
            at += 1 + length;
        }
        let mut values = match &value.value {
            Yaml::Seq(items) if !items.is_empty() => items.clone(),
            _ => vec![value.clone()],
        };
        if modifiers.iter().any(|m: &Modifier| m.name == "fieldref") {
            values.iter_mut().for_each(|n| {
                if let Yaml::Str(name) = &mut n.value {
                    *name = name.replace(' ', "");
                }
            });
        }
        if written.trim().is_empty() && !written.is_empty() {
            return Err(Diagnostic::error(
                Code::Shape,
                key.place,
                "the name of the field is blank",
            )
            .help("name a field, or begin with `|` for keywords"));
        }
        let field = (!written.is_empty()).then(|| written.replace(' ', ""));
        let processed_by = Vec::new();
        Ok(Selection::Item(Self { place: key.place, field, modifiers, values, processed_by }))
    }

    /// Whether it has that modifier.
    pub fn has(&self, modifier: &str) -> bool {
        self.modifiers.iter().any(|m| m.name == modifier)
    }
}

fn empty(node: &Node) -> Diagnostic {
    Diagnostic::error(Code::Shape, node.place, "an empty selection says nothing")
        .help("remove it, or give it at least one field")
}
