//! A detection rule: its selections and condition, compiled to an expression.
//!
//! Semantics follow the Sigma 2.1 rules specification; where it is silent, pySigma decides. What is
//! not supported is a diagnostic with its place, never narrowed in silence.

use super::condition::{self, Condition};
use super::diagnostic::{Code, Diagnostic};
use super::item;
use super::matcher::Matcher;
use super::yaml::{Node, Yaml};
use crate::event::{FieldPath, Logsource};

/// What must hold for an event.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Item {
    /// The field.
    pub field: FieldPath,
    /// The values.
    pub values: Values,
    /// Whether the item is turned around (`neq`).
    pub negated: bool,
}

/// Values and how they join.
#[derive(Clone, Debug)]
pub struct Values {
    /// Each value ready to match.
    pub matchers: Vec<Matcher>,
    /// Whether all must match (`all`), else one.
    pub all: bool,
}

/// The detection part of a rule or filter.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The condition with its selections filled in.
    pub condition: Expr,
}

/// Reads `logsource:`.
///
/// # Errors
/// When it is no mapping of strings.
pub fn logsource(node: &Node) -> Result<Logsource, Diagnostic> {
    if !matches!(node.value, Yaml::Map(_)) {
        let what = format!("`logsource` must be a mapping, this is {}", node.kind());
        return Err(Diagnostic::error(Code::Shape, node.place, what));
    }
    let part = |name: &str| match node.get(name) {
        None => Ok(None),
        Some(n) if n.value == Yaml::Null => Ok(None),
        Some(n) => match n.scalar_text() {
            Some(text) => Ok(Some(text.to_lowercase().into_boxed_str())),
            None => {
                let what = format!("`logsource.{name}` must be a string, this is {}", n.kind());
                Err(Diagnostic::error(Code::Shape, n.place, what))
            }
        },
    };
    Ok(Logsource {
        product: part("product")?,
        category: part("category")?,
        service: part("service")?,
    })
}

/// Compiles `detection:` or the same part of a filter. `reserved` names keys that are no selections.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn compile(node: &Node, reserved: &[&str]) -> Result<Detection, Diagnostic> {
    let Some(condition) = node.get("condition") else {
        let what = "the detection has no `condition`";
        return Err(Diagnostic::error(Code::Shape, node.place, what));
    };
    if let Some(timeframe) = node.get("timeframe") {
        let what = "`timeframe` went with the aggregations of Sigma 1";
        return Err(Diagnostic::error(Code::Unsupported, timeframe.place, what)
            .help("write a correlation document with `timespan`"));
    }
    let is_selection = |name: &str| name != "condition" && !reserved.contains(&name);
    let mut selections = Vec::new();
    for (key, body) in node.members().iter().filter(|(k, _)| is_selection(&k.text)) {
        selections.push((key.text.as_str(), selection(body)?));
    }
    if selections.is_empty() {
        let what = "the detection has no selection";
        return Err(Diagnostic::error(Code::Shape, node.place, what));
    }
    let names: Vec<&str> = selections.iter().map(|(name, _)| *name).collect();
    let texts = match &condition.value {
        Yaml::Seq(items) if !items.is_empty() => items.iter().collect(),
        _ => vec![condition],
    };
    let mut parts = Vec::new();
    for text in texts {
        let Some(source) = text.as_str() else {
            let what = format!("a condition must be a string, this is {}", text.kind());
            return Err(Diagnostic::error(Code::Condition, text.place, what));
        };
        parts.push(fill(&condition::parse(source, text.place, &names)?, &selections));
    }
    let condition = if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) };
    Ok(Detection { condition })
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

/// A selection: a map (all of its items), a list of maps or keywords (one of them), or one keyword.
fn selection(node: &Node) -> Result<Expr, Diagnostic> {
    match &node.value {
        Yaml::Map(members) if members.is_empty() => Err(empty(node)),
        Yaml::Map(members) => {
            let items: Result<Vec<Expr>, _> =
                members.iter().map(|(k, v)| item::compile(k, v)).collect();
            Ok(Expr::And(items?))
        }
        Yaml::Seq(parts) if parts.is_empty() => Err(empty(node)),
        Yaml::Seq(parts) => {
            let parts: Result<Vec<Expr>, _> = parts.iter().map(list_part).collect();
            Ok(Expr::Or(parts?))
        }
        _ => list_part(node),
    }
}

fn list_part(node: &Node) -> Result<Expr, Diagnostic> {
    match &node.value {
        Yaml::Map(_) => selection(node),
        Yaml::Seq(_) => {
            let what = "a list inside a list has no meaning in a selection";
            Err(Diagnostic::error(Code::Shape, node.place, what))
        }
        Yaml::Null => {
            let what = "`null` is no keyword: it can only be the value of a field";
            Err(Diagnostic::error(Code::Value, node.place, what))
        }
        _ => Ok(Expr::Keywords(item::keywords(node)?)),
    }
}

fn empty(node: &Node) -> Diagnostic {
    Diagnostic::error(Code::Shape, node.place, "an empty selection says nothing")
        .help("remove it, or give it at least one field")
}
