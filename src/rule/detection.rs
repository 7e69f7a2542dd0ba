//! The detection of a rule, compiled to an expression.
//!
//! Semantics follow the Sigma 2.1 rules specification; where it is silent, pySigma decides. What is
//! not supported is a diagnostic with its place, never narrowed in silence.

use super::condition::Condition;
use super::diagnostic::{Code, Diagnostic};
use super::item;
use super::matcher::Matcher;
use super::placeholder::Placeholders;
use super::regex::TextRegex;
use super::tree::{DetectionTree, Selection};
use super::yaml::{Node, Yaml};
use crate::event::{FieldPath, Logsource};

/// What must hold for an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// All of them; of none: true.
    And(Vec<Expr>),
    /// One of them; of none: false.
    Or(Vec<Expr>),
    /// Not that.
    Not(Box<Expr>),
    /// At least so many of them.
    AtLeast(usize, Vec<Expr>),
    /// A field against values.
    Item(Item),
    /// Values searched in the whole event.
    Keywords(Values),
}

/// A field against values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// The field.
    pub field: FieldPath,
    /// The values.
    pub values: Values,
    /// Whether the item is turned around (`neq`).
    pub negated: bool,
}

/// Values and how they join.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Values {
    /// Each value ready to match.
    pub matchers: Vec<Matcher>,
    /// Whether all must match (`all`), else one.
    pub all: bool,
}

impl Expr {
    /// Adds every regular expression whose time is bounded by steps alone.
    pub fn bounded_regexes<'e>(&'e self, into: &mut Vec<&'e TextRegex>) {
        match self {
            Self::And(parts) | Self::Or(parts) | Self::AtLeast(_, parts) => {
                parts.iter().for_each(|p| p.bounded_regexes(into));
            }
            Self::Not(part) => part.bounded_regexes(into),
            Self::Item(Item { values, .. }) | Self::Keywords(values) => {
                let bounded = values.matchers.iter().filter_map(|m| match m {
                    Matcher::Regex(regex) if !regex.is_linear() => Some(regex),
                    _ => None,
                });
                into.extend(bounded);
            }
        }
    }
}

/// Reads `logsource:`.
///
/// # Errors
/// When it is no mapping of strings.
pub fn logsource(node: &Node) -> Result<Logsource, Diagnostic> {
    if !matches!(node.value, Yaml::Map(_)) {
        let what = format!("`logsource` must be a mapping, this is {}", node.kind());
        return Err(Diagnostic::error(Code::Shape, node.place, what)
            .help("such as `logsource: {product: windows, category: process_creation}`"));
    }
    let part = |name: &str| match node.get(name) {
        None => Ok(None),
        Some(n) if n.value == Yaml::Null => Ok(None),
        Some(n) => match n.scalar_text() {
            Some(text) => Ok(Some(text.to_lowercase().into_boxed_str())),
            None => {
                let what = format!("`logsource.{name}` must be a string, this is {}", n.kind());
                Err(Diagnostic::error(Code::Shape, n.place, what).help("write one name"))
            }
        },
    };
    Ok(Logsource {
        product: part("product")?,
        category: part("category")?,
        service: part("service")?,
    })
}

/// Compiles a tree. Every item that is wrong is added to `found`; `None` when any is.
pub fn compile(
    tree: &DetectionTree,
    lists: &Placeholders,
    found: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let mut selections = Vec::with_capacity(tree.selections.len());
    for (name, selection) in &tree.selections {
        selections.push((name.text.as_str(), self::selection(selection, lists, found)));
    }
    let selections: Option<Vec<(&str, Expr)>> =
        selections.into_iter().map(|(name, expr)| Some((name, expr?))).collect();
    let selections = selections?;
    let mut parts: Vec<Expr> = tree.conditions.iter().map(|c| fill(c, &selections)).collect();
    Some(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
}

fn selection(
    selection: &Selection,
    lists: &Placeholders,
    found: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let mut all = |parts: &[Selection]| {
        // Not a lazy collect: every wrong item is to be told.
        let parts: Vec<Option<Expr>> =
            parts.iter().map(|p| self::selection(p, lists, found)).collect();
        parts.into_iter().collect::<Option<Vec<Expr>>>()
    };
    match selection {
        Selection::All(parts) => all(parts).map(Expr::And),
        Selection::Any(parts) => all(parts).map(Expr::Or),
        Selection::Item(item) => item::compile(item, lists, found),
    }
}

/// Puts the selections in the place of their names.
fn fill(condition: &Condition, selections: &[(&str, Expr)]) -> Expr {
    let all = |parts: &[Condition]| parts.iter().map(|c| fill(c, selections)).collect();
    match condition {
        Condition::And(parts) => Expr::And(all(parts)),
        Condition::Or(parts) => Expr::Or(all(parts)),
        Condition::Not(part) => Expr::Not(Box::new(fill(part, selections))),
        Condition::AtLeast(n, parts) => Expr::AtLeast(*n, all(parts)),
        Condition::Name(name) => {
            let found = selections.iter().find(|(n, _)| n == name).map(|(_, e)| e.clone());
            found.unwrap_or_else(|| Expr::Or(Vec::new()))
        }
    }
}
