//! What a detection costs: an estimate from the rule as written, without running it.
//!
//! The unit is one comparison of a field with a short text. The numbers are rough: they rank rules,
//! and show the few that cost more than all others. Nothing here knows how often a field is there, nor
//! what the engine leaves out because another item decided already.

use regex_syntax::ParserBuilder;
use regex_syntax::ast::ErrorKind;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::condition::Condition;
use super::tree::{DetectionItem, DetectionTree, Selection};
use super::yaml::{Node, Yaml};

/// A text that must stand in every match is worth searching for first from so many characters on.
pub const ANCHOR_CHARACTERS_MIN: usize = 3;

const PLAIN: u64 = 1;
const SEARCH: u64 = 4;
const REGEX: u64 = 20;
const BACKTRACKING: u64 = 200;
/// Keywords are searched in every value of an event, not in one field.
const KEYWORD_FIELDS: u64 = 16;

/// An estimate of what a detection costs on an event that does not match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Items of the selections that conditions use.
    pub items: usize,
    /// Their values.
    pub values: usize,
    /// Of these, regular expressions.
    pub regexes: usize,
    /// Of these, keywords.
    pub keywords: usize,
    /// All values together, in comparisons of a field with a short text.
    pub units: u64,
    /// Whether every event must be searched by a regular expression: nothing cheaper can refuse it.
    pub regex_on_every_event: bool,
}

impl Cost {
    /// Estimates a detection.
    pub fn of(tree: &DetectionTree) -> Self {
        let mut used = Vec::new();
        tree.conditions.iter().for_each(|c| c.names(&mut used));
        let mut items = Vec::new();
        for (name, selection) in &tree.selections {
            if used.contains(&name.text.as_str()) {
                selection.items(&mut items);
            }
        }
        let every = regex_on_every_event(tree).is_some();
        let mut cost = Self { items: items.len(), regex_on_every_event: every, ..Self::default() };
        for item in items {
            cost.values += item.values.len();
            cost.regexes += if item.has("re") { item.values.len() } else { 0 };
            cost.keywords += if item.field.is_none() { item.values.len() } else { 0 };
            let fields = if item.field.is_none() { KEYWORD_FIELDS } else { 1 };
            cost.units += fields * item.values.iter().map(|v| units(v, item)).sum::<u64>();
        }
        cost
    }
}

fn units(value: &Node, item: &DetectionItem) -> u64 {
    let Yaml::Str(text) = &value.value else { return PLAIN };
    if item.has("re") {
        return match regex_shape(text, item) {
            RegexShape::Backtracking => BACKTRACKING,
            _ => REGEX,
        };
    }
    let searched = item.has("contains") || item.field.is_none() || item.has("base64offset");
    let wild = text.trim_matches('*').contains(['*', '?']);
    let forms = if item.has("base64offset") { 3 } else { 1 };
    forms * if searched || wild { SEARCH } else { PLAIN }
}

/// What an engine can make of a regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegexShape {
    /// A text of at least [`ANCHOR_CHARACTERS_MIN`] stands in every match.
    Anchored,
    /// It runs in linear time, on every value.
    Linear,
    /// It needs an engine that goes back.
    Backtracking,
    /// It is no regular expression: the compiler says so.
    Wrong,
}

/// The shape of an expression with the flags of its item.
pub fn regex_shape(source: &str, item: &DetectionItem) -> RegexShape {
    let has = |short: &str, long: &str| item.has(short) || item.has(long);
    let parsed = ParserBuilder::new()
        .case_insensitive(has("i", "ignorecase"))
        .multi_line(has("m", "multiline"))
        .dot_matches_new_line(has("s", "dotall"))
        .build()
        .parse(source);
    match parsed {
        Err(regex_syntax::Error::Parse(e)) if goes_back(e.kind()) => RegexShape::Backtracking,
        Err(_) => RegexShape::Wrong,
        Ok(hir) if longest_text(&hir) >= ANCHOR_CHARACTERS_MIN => RegexShape::Anchored,
        Ok(_) => RegexShape::Linear,
    }
}

fn goes_back(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnsupportedBackreference | ErrorKind::UnsupportedLookAround)
}

/// The longest text, in characters, that must stand in every match.
fn longest_text(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Literal(literal) => characters(&literal.0),
        HirKind::Concat(parts) => {
            let (mut longest, mut run) = (0, 0);
            for part in parts {
                run = fixed(part).map_or(0, |n| run + n);
                longest = longest.max(run).max(longest_text(part));
            }
            longest
        }
        HirKind::Alternation(parts) => parts.iter().map(longest_text).min().unwrap_or(0),
        HirKind::Capture(capture) => longest_text(&capture.sub),
        HirKind::Repetition(repeated) if repeated.min > 0 => longest_text(&repeated.sub),
        _ => 0,
    }
}

/// How many characters it is, when it is the same text up to case.
fn fixed(hir: &Hir) -> Option<usize> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(characters(&literal.0)),
        // `(?i)s` is [Ssſ]: the one character in its cases.
        HirKind::Class(Class::Unicode(class)) => {
            let count: u32 =
                class.ranges().iter().map(|r| r.end() as u32 - r.start() as u32 + 1).sum();
            (count <= 3).then_some(1)
        }
        HirKind::Class(Class::Bytes(class)) => {
            let count: u32 =
                class.ranges().iter().map(|r| u32::from(r.end() - r.start()) + 1).sum();
            (count <= 3).then_some(1)
        }
        HirKind::Capture(capture) => fixed(&capture.sub),
        HirKind::Empty => Some(0),
        _ => None,
    }
}

fn characters(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).chars().count()
}

/// A regular expression that must be run on every event of the logsource, since nothing cheaper can
/// refuse the event.
pub fn regex_on_every_event(tree: &DetectionTree) -> Option<&Node> {
    let selections: Vec<(&str, Option<&Node>)> =
        tree.selections.iter().map(|(k, s)| (k.text.as_str(), of_selection(s))).collect();
    tree.conditions.iter().find_map(|c| of_condition(c, &selections))
}

fn of_condition<'t>(
    condition: &Condition,
    selections: &[(&str, Option<&'t Node>)],
) -> Option<&'t Node> {
    match condition {
        Condition::And(parts) => every(parts.iter().map(|p| of_condition(p, selections))),
        Condition::Or(parts) | Condition::AtLeast(_, parts) => {
            parts.iter().find_map(|p| of_condition(p, selections))
        }
        Condition::Not(part) => of_condition(part, selections),
        Condition::Name(name) => selections.iter().find(|(n, _)| n == name)?.1,
    }
}

fn of_selection(selection: &Selection) -> Option<&Node> {
    match selection {
        Selection::All(parts) => every(parts.iter().map(of_selection)),
        Selection::Any(parts) => parts.iter().find_map(of_selection),
        Selection::Item(item) if !item.has("re") => None,
        Selection::Item(item) => {
            let unanchored = |n: &&Node| {
                let shape = n.as_str().map(|text| regex_shape(text, item));
                matches!(shape, Some(RegexShape::Linear | RegexShape::Backtracking))
            };
            if item.has("all") {
                return every(item.values.iter().map(|n| Some(n).filter(unanchored)));
            }
            item.values.iter().find(unanchored)
        }
    }
}

/// The first, when none is missing.
fn every<'t>(mut parts: impl Iterator<Item = Option<&'t Node>>) -> Option<&'t Node> {
    let first = parts.next()??;
    parts.all(|p| p.is_some()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::parse_yaml;

    fn tree(text: &str) -> DetectionTree {
        let nodes = parse_yaml(text).expect("YAML");
        let mut found = Vec::new();
        DetectionTree::read(&nodes[0], &[], &mut found).unwrap_or_else(|| panic!("{found:?}"))
    }

    #[test]
    fn the_longest_text_of_an_expression_is_what_every_match_holds() {
        for (source, expect) in [
            ("abc", 3),
            ("(?i)powershell", 10),
            ("a.*bcd", 3),
            ("(abc|de)", 2),
            ("(abc|defg)x?", 3),
            ("[0-9]+", 0),
            ("(abcd)+", 4),
            ("(abcd)*", 0),
            ("ä(öü)e", 4),
            ("^$", 0),
        ] {
            let hir = regex_syntax::parse(source).expect(source);
            assert_eq!(longest_text(&hir), expect, "{source}");
        }
    }

    #[test]
    fn a_regex_runs_on_every_event_only_when_nothing_cheaper_decides() {
        for (text, expect) in [
            ("s: {a|re: '[0-9]+'}\ncondition: s", true),
            ("s: {a|re: '[0-9]+', b: x}\ncondition: s", false),
            ("s: {a|re: 'abc[0-9]+'}\ncondition: s", false),
            ("s: {a|re: ['abc', '[0-9]']}\ncondition: s", true),
            ("s: {a|re|all: ['abc', '[0-9]']}\ncondition: s", false),
            ("s: {a|re: '[0-9]'}\nt: {b: x}\ncondition: s or t", true),
            ("s: {a|re: '[0-9]'}\nt: {b: x}\ncondition: t and not s", false),
            ("s: {a|re: 'abcd(?!e)'}\ncondition: not s", true),
            ("s: {a: x}\ncondition: s", false),
        ] {
            assert_eq!(regex_on_every_event(&tree(text)).is_some(), expect, "{text}");
        }
    }

    #[test]
    fn units_rank_comparisons_below_searches_below_regexes_below_keywords() {
        let units = |text: &str| Cost::of(&tree(text)).units;
        let rising = [
            units("s: {a: x}\ncondition: s"),
            units("s: {a|contains: x}\ncondition: s"),
            units("s: {a|re: x}\ncondition: s"),
            units("s: [x]\ncondition: s"),
            units("s: {a|re: '(?=x)'}\ncondition: s"),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b), "{rising:?}");
        assert_eq!(units("s: {a: x}\n_t: {b: [1, 2]}\ncondition: s"), 1, "only what is used");
    }
}
