//! A failing case made small: what can be left out while it still fails is left out.

use super::Case;
use super::event::Json;
use super::rule::{Body, Condition, Item, Part, Selection};

/// Tries after which the case is small enough.
const TRIES_MAX: usize = 5_000;

/// The smallest case that was found for which `fails` still holds.
pub fn shrink(case: &Case, fails: impl Fn(&Case) -> bool) -> Case {
    let mut small = case.clone();
    let mut tries = 0;
    // Big pieces first: half of the events, half of the rules, and so on.
    halve(&mut small, &mut tries, &fails, |c| &mut c.drafts);
    halve(&mut small, &mut tries, &fails, |c| &mut c.rules);
    halve(&mut small, &mut tries, &fails, |c| &mut c.filters);
    loop {
        let smaller = candidates(&small).into_iter().find(|candidate| {
            tries += 1;
            tries <= TRIES_MAX && fails(candidate)
        });
        match smaller {
            Some(smaller) => small = smaller,
            None => return small,
        }
    }
}

/// Removes runs of items, each half as long as the one before.
fn halve<T: Clone>(
    case: &mut Case,
    tries: &mut usize,
    fails: &impl Fn(&Case) -> bool,
    part: impl Fn(&mut Case) -> &mut Vec<T>,
) {
    let mut length = part(case).len();
    while length > 0 {
        let mut at = 0;
        while at < part(case).len() && *tries < TRIES_MAX {
            let mut candidate = case.clone();
            let items = part(&mut candidate);
            items.drain(at..(at + length).min(items.len()));
            *tries += 1;
            if fails(&candidate) {
                *case = candidate;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
}

/// The case with one thing left out, for each thing.
fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    for (n, rule) in case.rules.iter().enumerate() {
        let mut with = |change: &dyn Fn(&mut super::Rule)| {
            let mut candidate = case.clone();
            change(&mut candidate.rules[n]);
            all.push(candidate);
        };
        for selection in &rule.selections {
            let only = Condition::Name(selection.name.clone());
            if rule.selections.len() > 1 || !matches!(rule.conditions[..], [Condition::Name(_)]) {
                with(&|r| {
                    r.selections = vec![selection.clone()];
                    r.conditions = vec![only.clone()];
                });
            }
        }
        for (at, _) in rule.selections.iter().enumerate().filter(|_| rule.selections.len() > 1) {
            with(&|r| drop(r.selections.remove(at)));
        }
        for (at, condition) in rule.conditions.iter().enumerate() {
            for smaller in conditions(condition) {
                with(&|r| r.conditions[at] = smaller.clone());
            }
        }
        for (at, selection) in rule.selections.iter().enumerate() {
            for smaller in bodies(&selection.body) {
                let name = selection.name.clone();
                with(&|r| {
                    r.selections[at] = Selection { name: name.clone(), body: smaller.clone() };
                });
            }
        }
        for part in (0..3).filter(|part| rule.source[*part].is_some()) {
            with(&|r| r.source[part] = None);
        }
    }
    for (n, draft) in case.drafts.iter().enumerate() {
        for smaller in members(&draft.body) {
            let mut candidate = case.clone();
            candidate.drafts[n].body = smaller;
            all.push(candidate);
        }
        for smaller in members(&draft.derived) {
            let mut candidate = case.clone();
            candidate.drafts[n].derived = smaller;
            all.push(candidate);
        }
    }
    all
}

fn conditions(condition: &Condition) -> Vec<Condition> {
    match condition {
        Condition::Name(_) | Condition::Of(..) => Vec::new(),
        Condition::Not(part) => vec![(**part).clone()],
        Condition::And(parts) | Condition::Or(parts) => parts.clone(),
    }
}

/// The list without each of its items, if that leaves one.
fn without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let without = |at: usize| {
        let mut fewer = items.to_vec();
        fewer.remove(at);
        fewer
    };
    (0..items.len()).filter(|_| items.len() > 1).map(without).collect()
}

fn bodies(body: &Body) -> Vec<Body> {
    match body {
        Body::Map(items) => maps(items).into_iter().map(Body::Map).collect(),
        Body::List(parts) => {
            let mut all: Vec<Body> = without_one(parts).into_iter().map(Body::List).collect();
            if let [Part::Map(items)] = &parts[..] {
                all.push(Body::Map(items.clone()));
            }
            all
        }
    }
}

fn maps(items: &[Item]) -> Vec<Vec<Item>> {
    let mut all = without_one(items);
    for (at, item) in items.iter().enumerate() {
        let mut with = |smaller: Item| {
            let mut changed = items.to_vec();
            changed[at] = smaller;
            all.push(changed);
        };
        for values in without_one(&item.values) {
            with(Item { values, ..item.clone() });
        }
        for modifiers in 0..item.modifiers.len() {
            let mut smaller = item.clone();
            smaller.modifiers.remove(modifiers);
            with(smaller);
        }
    }
    all
}

fn members(members: &[(String, Json)]) -> Vec<Vec<(String, Json)>> {
    let mut all = Vec::new();
    for (at, (_, value)) in members.iter().enumerate() {
        let mut fewer = members.to_vec();
        fewer.remove(at);
        all.push(fewer);
        let smaller = match value {
            Json::List(items) if items.len() == 1 => vec![items[0].clone()],
            Json::List(items) => without_one(items).into_iter().map(Json::List).collect(),
            Json::Map(inner) => self::members(inner).into_iter().map(Json::Map).collect(),
            Json::Raw(_) | Json::Text(_) => Vec::new(),
        };
        for value in smaller {
            let mut changed = members.to_vec();
            changed[at].1 = value;
            all.push(changed);
        }
    }
    all
}
