//! Faults that an engine may have, each put in front of the real one or behind it: if the comparison
//! does not notice one of them, it would not notice it in the engine either.

use std::collections::HashMap;

use super::event::Json;
use super::rule::{Body, Condition, Item, Part, Scalar};
use super::{Answers, Case};

/// Where a fault is put.
pub enum Fault {
    /// The engine is given something else than the truth is.
    Before(fn(&mut Case)),
    /// The engine's answers are changed.
    After(fn(&mut Answers)),
}

/// Every fault by its name.
pub const FAULTS: &[(&str, Fault)] = &[
    ("neq is forgotten", Fault::Before(|c| drop_modifier(c, &["neq"]))),
    ("cased is forgotten", Fault::Before(|c| drop_modifier(c, &["cased"]))),
    ("one of all is enough", Fault::Before(|c| drop_modifier(c, &["all"]))),
    ("flags of re are forgotten", Fault::Before(|c| drop_modifier(c, &["i", "m", "s"]))),
    ("windash is forgotten", Fault::Before(|c| drop_modifier(c, &["windash"]))),
    ("startswith is contains", Fault::Before(|c| rename_modifier(c, "startswith", "contains"))),
    ("endswith is contains", Fault::Before(|c| rename_modifier(c, "endswith", "contains"))),
    ("gte is gt", Fault::Before(|c| rename_modifier(c, "gte", "gt"))),
    ("lte is lt", Fault::Before(|c| rename_modifier(c, "lte", "lt"))),
    ("hour is minute", Fault::Before(|c| rename_modifier(c, "hour", "minute"))),
    ("wide is utf16be", Fault::Before(|c| rename_modifier(c, "wide", "utf16be"))),
    ("base64offset is base64", Fault::Before(|c| rename_modifier(c, "base64offset", "base64"))),
    ("two of is one of", Fault::Before(one_of_is_enough)),
    ("filters are left out", Fault::Before(|c| c.filters.clear())),
    (
        "rules are for every service",
        Fault::Before(|c| c.rules.iter_mut().for_each(|r| r.source[2] = None)),
    ),
    ("nothing is unknown", Fault::Before(|c| c.drafts.iter_mut().for_each(|d| d.settled = true))),
    (
        "derived fields are not seen",
        Fault::Before(|c| c.drafts.iter_mut().for_each(|d| d.derived.clear())),
    ),
    ("derived fields hide nothing", Fault::Before(bodies_only_where_both)),
    ("keywords see derived fields", Fault::Before(derived_in_the_body)),
    ("the first of equal keys wins", Fault::Before(first_key_wins)),
    ("flat dotted keys are not seen", Fault::Before(|c| each_member(c, &|k, _| !k.contains('.')))),
    (
        "nested objects are not seen",
        Fault::Before(|c| each_member(c, &|_, v| !matches!(v, Json::Map(_)))),
    ),
    ("objects in lists are not seen", Fault::Before(|c| each_value(c, &objects_out_of_lists))),
    ("of a list only the first is seen", Fault::Before(|c| each_value(c, &first_of_list))),
    ("a list in a list is not seen", Fault::Before(|c| each_value(c, &lists_out_of_lists))),
    ("null is absent", Fault::Before(|c| each_member(c, &|_, v| *v != Json::Raw("null".into())))),
    (
        "an empty list is absent",
        Fault::Before(|c| each_member(c, &|_, v| *v != Json::List(vec![]))),
    ),
    ("empty text is null", Fault::Before(|c| each_value(c, &empty_is_null))),
    (
        "text is never a number",
        Fault::Before(|c| each_text(c, &|t| if t.parse::<f64>().is_ok() { "x".into() } else { t })),
    ),
    ("numbers are floats", Fault::Before(|c| each_value(c, &rounded))),
    (
        "only ASCII is folded",
        Fault::Before(|c| {
            each_text(c, &|t| t.replace(|c: char| !c.is_ascii() && c.is_uppercase(), "?"))
        }),
    ),
    ("the Kelvin sign is no k", Fault::Before(|c| each_text(c, &|t| t.replace('\u{212A}', "?")))),
    ("a wildcard ends at the line", Fault::Before(|c| each_text(c, &|t| t.replace('\n', "")))),
    (
        "upper case is not folded",
        Fault::Before(|c| each_text(c, &|t| t.replace(|c: char| c.is_ascii_uppercase(), "?"))),
    ),
    ("escapes are wildcards", Fault::Before(escapes_are_wildcards)),
    ("equal text is an equal item", Fault::Before(modifiers_of_the_first)),
    ("equal values are an equal item", Fault::Before(field_of_the_first)),
    ("plans are remembered by product", Fault::Before(source_of_the_first)),
    ("each thousandth match is lost", Fault::After(lose_each_thousandth)),
    ("the last event's answer is given again", Fault::After(answer_again)),
    (
        "rules come in another order",
        Fault::After(|a| a.iter_mut().for_each(|found| found.reverse())),
    ),
    (
        "a rule comes twice",
        Fault::After(|a| a.iter_mut().for_each(|found| found.extend(found.last().copied()))),
    ),
];

fn each_item(case: &mut Case, mut change: impl FnMut(&mut Item)) {
    for selection in case.rules.iter_mut().flat_map(|r| &mut r.selections) {
        match &mut selection.body {
            Body::Map(items) => items.iter_mut().for_each(&mut change),
            Body::List(parts) => {
                for part in parts {
                    if let Part::Map(items) = part {
                        items.iter_mut().for_each(&mut change);
                    }
                }
            }
        }
    }
}

fn drop_modifier(case: &mut Case, names: &[&str]) {
    each_item(case, |item| item.modifiers.retain(|m| !names.contains(m)));
}

fn rename_modifier(case: &mut Case, from: &'static str, to: &'static str) {
    each_item(case, |item| {
        item.modifiers.iter_mut().filter(|m| **m == from).for_each(|m| *m = to);
    });
}

fn escapes_are_wildcards(case: &mut Case) {
    each_item(case, |item| {
        for value in &mut item.values {
            if let Scalar::Text(text) = value {
                *text = text.replace("\\*", "*").replace("\\?", "?");
            }
        }
    });
}

/// An answer that is remembered without regard to the modifiers.
fn modifiers_of_the_first(case: &mut Case) {
    let mut seen = HashMap::new();
    each_item(case, |item| {
        let key = format!("{}{:?}", item.field, item.values);
        item.modifiers = seen.entry(key).or_insert_with(|| item.modifiers.clone()).clone();
    });
}

/// An answer that is remembered without regard to the field.
fn field_of_the_first(case: &mut Case) {
    let mut seen = HashMap::new();
    each_item(case, |item| {
        let key = format!("{:?}{:?}", item.modifiers, item.values);
        item.field = seen.entry(key).or_insert_with(|| item.field.clone()).clone();
    });
}

/// A choice of rules that is remembered without regard to category and service.
fn source_of_the_first(case: &mut Case) {
    let mut seen = HashMap::new();
    for draft in &mut case.drafts {
        let product = draft.source[0].clone();
        draft.source = seen.entry(product).or_insert_with(|| draft.source.clone()).clone();
    }
}

fn one_of_is_enough(case: &mut Case) {
    fn change(condition: &mut Condition) {
        match condition {
            Condition::Name(_) => {}
            Condition::Not(part) => change(part),
            Condition::And(parts) | Condition::Or(parts) => parts.iter_mut().for_each(change),
            Condition::Of(quantifier, _) if *quantifier == "2" => *quantifier = "1",
            Condition::Of(..) => {}
        }
    }
    case.rules.iter_mut().flat_map(|r| &mut r.conditions).for_each(change);
}

fn bodies_only_where_both(case: &mut Case) {
    for draft in &mut case.drafts {
        let body = &draft.body;
        draft.derived.retain(|(name, _)| !body.iter().any(|(n, _)| n == name));
    }
}

/// Under a name that no rule asks for, so that only keywords find it.
fn derived_in_the_body(case: &mut Case) {
    for draft in &mut case.drafts {
        let derived = draft.derived.iter().map(|(_, value)| value.clone()).collect();
        draft.body.push(("no rule asks for this".to_owned(), Json::List(derived)));
    }
}

fn first_key_wins(case: &mut Case) {
    for draft in &mut case.drafts {
        let mut kept: Vec<(String, Json)> = Vec::new();
        for member in draft.body.drain(..) {
            if kept.iter().all(|(name, _)| *name != member.0) {
                kept.push(member);
            }
        }
        draft.body = kept;
    }
}

/// Keeps the members of bodies, at any depth, for which `keep` holds.
fn each_member(case: &mut Case, keep: &dyn Fn(&str, &Json) -> bool) {
    fn below(members: &mut Vec<(String, Json)>, keep: &dyn Fn(&str, &Json) -> bool) {
        members.retain(|(name, value)| keep(name, value));
        for (_, value) in members {
            if let Json::Map(inner) = value {
                below(inner, keep);
            }
        }
    }
    case.drafts.iter_mut().for_each(|d| below(&mut d.body, keep));
}

/// Changes every value of bodies, the inner ones first.
fn each_value(case: &mut Case, change: &dyn Fn(&mut Json)) {
    fn below(value: &mut Json, change: &dyn Fn(&mut Json)) {
        match value {
            Json::List(items) => items.iter_mut().for_each(|v| below(v, change)),
            Json::Map(members) => members.iter_mut().for_each(|(_, v)| below(v, change)),
            Json::Raw(_) | Json::Text(_) => {}
        }
        change(value);
    }
    let values = case.drafts.iter_mut().flat_map(|d| &mut d.body);
    values.for_each(|(_, value)| below(value, change));
}

fn each_text(case: &mut Case, change: &dyn Fn(String) -> String) {
    each_value(case, &|value| {
        if let Json::Text(text) = value {
            *text = change(std::mem::take(text));
        }
    });
}

fn objects_out_of_lists(value: &mut Json) {
    if let Json::List(items) = value {
        items.retain(|v| !matches!(v, Json::Map(_)));
    }
}

fn lists_out_of_lists(value: &mut Json) {
    if let Json::List(items) = value {
        items.retain(|v| !matches!(v, Json::List(_)));
    }
}

fn first_of_list(value: &mut Json) {
    if let Json::List(items) = value {
        items.truncate(1);
    }
}

fn empty_is_null(value: &mut Json) {
    if *value == Json::Text(String::new()) {
        *value = Json::Raw("null".to_owned());
    }
}

fn rounded(value: &mut Json) {
    if let Json::Raw(raw) = value
        && let Ok(n) = raw.parse::<i64>()
        && n as f64 as i64 != n
    {
        *raw = (n as f64 as i64).to_string();
    }
}

fn lose_each_thousandth(answers: &mut Answers) {
    let mut seen = 0;
    for found in answers {
        found.retain(|_| {
            seen += 1;
            seen % 1000 != 0
        });
    }
}

fn answer_again(answers: &mut Answers) {
    for at in (1..answers.len()).rev().filter(|at| at % 50 == 0) {
        answers[at] = answers[at - 1].clone();
    }
}
