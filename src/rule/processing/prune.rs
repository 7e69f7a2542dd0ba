//! Trees before and after the steps: keywords of one list are one item; what lost all its items goes.

use crate::rule::condition::Condition;
use crate::rule::tree::{DetectionItem, DetectionTree, Selection};

/// The tree with each list of keywords as one item with several values, as conditions see it.
pub fn joined(tree: &DetectionTree) -> DetectionTree {
    let selections = tree.selections.iter();
    let selections = selections.map(|(key, selection)| (key.clone(), join(selection))).collect();
    DetectionTree { selections, conditions: tree.conditions.clone() }
}

fn join(selection: &Selection) -> Selection {
    let keyword = |part: &Selection| match part {
        Selection::Item(item) if item.field.is_none() && item.modifiers.is_empty() => {
            Some(item.clone())
        }
        _ => None,
    };
    match selection {
        Selection::All(parts) => Selection::All(parts.iter().map(join).collect()),
        Selection::Any(parts) => {
            let keywords: Option<Vec<DetectionItem>> = parts.iter().map(keyword).collect();
            match keywords.map(Vec::into_iter).and_then(|mut k| Some((k.next()?, k))) {
                Some((mut first, others)) => {
                    first.values.extend(others.flat_map(|item| item.values));
                    Selection::Item(first)
                }
                None => Selection::Any(parts.iter().map(join).collect()),
            }
        }
        item => item.clone(),
    }
}

/// The tree without selections that lost all their items; `None` when nothing is left.
pub fn pruned(tree: DetectionTree) -> Option<DetectionTree> {
    let mut selections = Vec::new();
    for (key, selection) in tree.selections {
        selections.extend(prune(selection).map(|s| (key, s)));
    }
    let left: Vec<&str> = selections.iter().map(|(key, _)| key.text.as_str()).collect();
    let conditions: Vec<Condition> =
        tree.conditions.into_iter().filter_map(|c| without(c, &left)).collect();
    (!conditions.is_empty()).then_some(DetectionTree { selections, conditions })
}

fn prune(selection: Selection) -> Option<Selection> {
    let left = |parts: Vec<Selection>| {
        let parts: Vec<Selection> = parts.into_iter().filter_map(prune).collect();
        (!parts.is_empty()).then_some(parts)
    };
    match selection {
        Selection::All(parts) => left(parts).map(Selection::All),
        Selection::Any(parts) => left(parts).map(Selection::Any),
        Selection::Item(item) => Some(Selection::Item(item)),
    }
}

/// A part that is gone says nothing: neither in an `and`, nor in an `or`, nor under a `not`.
fn without(condition: Condition, left: &[&str]) -> Option<Condition> {
    let parts = |parts: Vec<Condition>| {
        let parts: Vec<Condition> = parts.into_iter().filter_map(|c| without(c, left)).collect();
        (!parts.is_empty()).then_some(parts)
    };
    match condition {
        Condition::And(all) => parts(all).map(Condition::And),
        Condition::Or(all) => parts(all).map(Condition::Or),
        Condition::AtLeast(n, all) => {
            parts(all).map(|all| Condition::AtLeast(n.min(all.len()), all))
        }
        Condition::Not(part) => without(*part, left).map(|c| Condition::Not(Box::new(c))),
        Condition::Name(name) => left.contains(&name.as_str()).then_some(Condition::Name(name)),
    }
}
