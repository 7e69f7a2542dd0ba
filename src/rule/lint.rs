//! What is legal and yet seldom meant: warnings and hints about rules that load.

use super::diagnostic::{Code, Diagnostic};
use super::tree::{DetectionItem, DetectionTree};
use super::yaml::{Node, Yaml};
use crate::event::Logsource;

/// Looks at the selections of a rule or filter.
pub fn tree(tree: &DetectionTree, found: &mut Vec<Diagnostic>) {
    let mut items = Vec::new();
    tree.selections.iter().for_each(|(_, s)| s.items(&mut items));
    items.into_iter().for_each(|item| self::item(item, found));
}

fn item(item: &DetectionItem, found: &mut Vec<Diagnostic>) {
    if let [_, _, ..] = item.values.as_slice() {
        for value in item.values.iter().filter(|v| v.value == Yaml::Null) {
            let what = "`null` inside a list: the specification does not allow it";
            found.push(
                Diagnostic::warning(Code::Portability, value.place, what).help(
                    "write a selection of its own for the absent field and join them by `or`",
                ),
            );
        }
    }
    let all = item.modifiers.iter().find(|m| m.name == "all");
    if let (Some(all), [_]) = (all, item.values.as_slice()) {
        let what = "`all` has no effect on a single value";
        found.push(
            Diagnostic::hint(Code::IdleModifier, item.place, what)
                .within(all.at.clone())
                .help("remove it, or write a list of values"),
        );
    }
}

/// A filter joins the rule by `and`: without a `not` it keeps what it names (Sigma filters
/// specification; pySigma).
pub fn filter(body: &Node, tree: &DetectionTree, found: &mut Vec<Diagnostic>) {
    if tree.conditions.iter().any(super::condition::Condition::negates) {
        return;
    }
    let place = body.get("condition").map_or(body.place, |n| n.place);
    let what = "without a `not` this filter keeps only the events that it names";
    found.push(
        Diagnostic::warning(Code::FilterKeeps, place, what)
            .help("to leave them out write `condition: not selection`"),
    );
}

/// A logsource without any part applies to every event.
pub fn logsource(document: &Node, logsource: &Logsource, found: &mut Vec<Diagnostic>) {
    if *logsource != Logsource::default() {
        return;
    }
    let place = document.get("logsource").map_or(document.place, |n| n.place);
    let what = "the logsource names no product, category or service: the rule sees every event";
    found.push(
        Diagnostic::warning(Code::Logsource, place, what)
            .help("name at least one of them, such as `product: linux`"),
    );
}
