//! `rule_attribute`: what the head of a rule says, compared with what a pipeline asks.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::gate::Relation;
use crate::rule::header::{Header, Level};
use crate::rule::yaml::{Node, Yaml};

/// The statuses of Sigma, in rising order.
const STATUSES: &[&str] = &["unsupported", "deprecated", "experimental", "test", "stable"];

/// Whether an attribute compares so with a value; one that the rule lacks never does.
///
/// # Errors
/// When the two cannot be compared in this way.
pub fn holds(
    header: &Header,
    attributes: &BTreeMap<String, Node>,
    name: &str,
    relation: Relation,
    wanted: &Yaml,
) -> Result<bool, String> {
    let scalar = |text: Option<&str>| text.map(|t| Yaml::Str(t.to_owned()));
    let list = |texts: &[String]| {
        let node = |t: &String| Node { place: header.place, value: Yaml::Str(t.clone()) };
        Some(Yaml::Seq(texts.iter().map(node).collect()))
    };
    let found = match name {
        "id" => scalar(Some(&header.id.0)),
        "name" => scalar(header.name.as_deref()),
        "title" => scalar(Some(&header.title)),
        "description" => scalar(header.description.as_deref()),
        "author" => scalar(header.author.as_deref()),
        "license" => scalar(header.license.as_deref()),
        "references" => list(&header.references),
        "tags" => list(&header.tags),
        "falsepositives" => list(&header.falsepositives),
        "fields" => list(&header.fields),
        "level" => {
            let rank = |text: &str| Level::parse(&text.to_lowercase()).map(|l| l as i64);
            return ranked(name, Some(header.level as i64), &rank, relation, wanted);
        }
        "status" => {
            let rank = |text: &str| {
                STATUSES.iter().position(|s| *s == text.to_lowercase()).map(|p| p as i64)
            };
            let Some(status) = &header.status else { return Ok(false) };
            return ranked(name, rank(status), &rank, relation, wanted);
        }
        custom => attributes.get(custom).map(|n| n.value.clone()),
    };
    let Some(found) = found else { return Ok(false) };
    compare(name, &found, relation, wanted)
}

fn ranked(
    name: &str,
    found: Option<i64>,
    rank: &dyn Fn(&str) -> Option<i64>,
    relation: Relation,
    wanted: &Yaml,
) -> Result<bool, String> {
    let Yaml::Str(text) = wanted else { return Err(format!("`{name}` is compared with a name")) };
    let wanted = rank(text).ok_or_else(|| format!("`{text}` is no {name}"))?;
    Ok(found.is_some_and(|found| relation.holds(found.cmp(&wanted))))
}

fn compare(name: &str, found: &Yaml, relation: Relation, wanted: &Yaml) -> Result<bool, String> {
    if let Yaml::Seq(items) = found {
        let member = items.iter().any(|n| n.value == *wanted);
        return Ok(match relation {
            Relation::In => member,
            Relation::NotIn => !member,
            relation => relation == Relation::Ne,
        });
    }
    let equality = matches!(relation, Relation::Eq | Relation::Ne);
    let dates = |a: &Yaml, b: &Yaml| match (a, b) {
        (Yaml::Str(a), Yaml::Str(b)) => is_date(a) && is_date(b),
        _ => false,
    };
    let number = matches!(found, Yaml::Int(_) | Yaml::Float(_));
    let ordered = number || dates(found, wanted);
    match order(found, wanted) {
        Some(order) if equality || ordered => Ok(relation.holds(order)),
        None if equality => Ok(relation == Relation::Ne),
        _ => Err(format!("the attribute `{name}` cannot be compared in this way")),
    }
}

/// `2024-05-17`; such dates are in the order of their text.
fn is_date(text: &str) -> bool {
    let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts.as_slice(), [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2))
}

/// The order of two scalars of one kind.
pub fn order(a: &Yaml, b: &Yaml) -> Option<Ordering> {
    let float = |v: &Yaml| match v {
        Yaml::Int(n) => Some(*n as f64),
        Yaml::Float(n) => Some(*n),
        Yaml::Str(s) => s.parse::<f64>().ok(),
        _ => None,
    };
    match (a, b) {
        (Yaml::Str(a), Yaml::Str(b)) => Some(a.cmp(b)),
        (Yaml::Bool(a), Yaml::Bool(b)) => Some(a.cmp(b)),
        (Yaml::Int(a), Yaml::Int(b)) => Some(a.cmp(b)),
        (Yaml::Int(_) | Yaml::Float(_), _) => float(a)?.partial_cmp(&float(b)?),
        _ => None,
    }
}
