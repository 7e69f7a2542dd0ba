//! Work on single detection items: their values with modifiers applied, and what becomes of them.

use super::gate::ValueTest;
use super::run::Refusal;
use super::transformation::{Hashes, ProcessingItem, Transformation};
use super::value;
use crate::rule::matcher::Number;
use crate::rule::pattern::Pattern;
use crate::rule::shown::{Shown, shown};
use crate::rule::tree::{DetectionItem, Selection};
use crate::rule::yaml::{Node, Yaml};

/// The values that take the place of one; `None` when it stays.
pub type Changed = Result<Option<Vec<Yaml>>, String>;

/// Whether a value passes a test.
pub fn test_holds(test: &ValueTest, shown: &Shown) -> bool {
    match (test, shown) {
        (ValueTest::Matches(regex, negated), Shown::Text(p)) => {
            regex.is_match(&value::plain(p)) != *negated
        }
        (ValueTest::Matches(_, negated), _) => *negated,
        (ValueTest::Is(wanted), shown) => is(shown, wanted),
        (ValueTest::HasWildcard, Shown::Text(p)) => {
            p.parts().iter().any(|part| !matches!(part, crate::rule::Part::Text(_)))
        }
        (ValueTest::HasWildcard, _) => false,
        (ValueTest::IsNull, shown) => *shown == Shown::Null,
    }
}

/// Whether a value is what a pipeline wrote; `null` is never.
pub fn is(shown: &Shown, wanted: &Yaml) -> bool {
    match (shown, wanted) {
        (Shown::Text(pattern), Yaml::Str(text)) => *pattern == Pattern::parse(text),
        (Shown::Number(Number::Int(a)), Yaml::Int(b)) => a == b,
        (Shown::Number(Number::Int(a)), Yaml::Float(b)) => *a as f64 == *b,
        (Shown::Number(Number::Float(a)), Yaml::Float(b)) => a == b,
        (Shown::Number(Number::Float(a)), Yaml::Int(b)) => *a == *b as f64,
        (Shown::Bool(a), Yaml::Bool(b)) => a == b,
        _ => false,
    }
}

/// Whether an item holds where its field is missing, so that of several fields all must hold.
pub fn holds_without(item: &DetectionItem) -> bool {
    let absent = |node: &Node| match node.value {
        Yaml::Null => true,
        Yaml::Bool(wanted) => item.has("exists") && !wanted,
        _ => false,
    };
    item.has("neq") != item.values.iter().all(absent)
}

/// An item with values whose modifiers are already applied.
pub fn plain_item(item: &DetectionItem, values: Vec<Node>) -> DetectionItem {
    let stays = |name: &str| matches!(name, "all" | "cased" | "neq" | "expand");
    let modifiers = item.modifiers.iter().filter(|m| stays(&m.name)).cloned().collect();
    DetectionItem { values, modifiers, ..item.clone() }
}

/// Calls `change` for every value; `None` leaves it. Items whose values are no plain text, number,
/// boolean or `null` stay as they are.
///
/// # Errors
/// Those of `change`.
pub fn change_values(
    item: &DetectionItem,
    change: &mut dyn FnMut(&Shown) -> Changed,
) -> Result<Option<DetectionItem>, String> {
    let shown = shown(item);
    if shown.iter().any(|v| matches!(v, Shown::Other | Shown::FieldRef(_))) {
        return Ok(None);
    }
    let mut changed = false;
    let mut values = Vec::with_capacity(item.values.len());
    for (node, shown) in item.values.iter().zip(&shown) {
        let new = change(shown)?;
        changed |= new.is_some();
        let same = || match shown {
            Shown::Text(pattern) => vec![Yaml::Str(pattern.written())],
            _ => vec![node.value.clone()],
        };
        let new = new.unwrap_or_else(same);
        values.extend(new.into_iter().map(|value| Node { value, place: node.place }));
    }
    Ok(changed.then(|| plain_item(item, values)))
}

/// What a value becomes.
///
/// # Errors
/// A text that is to be a number and is none.
pub fn changed(transformation: &Transformation, shown: &Shown) -> Changed {
    let text = |pattern: Pattern| Some(vec![Yaml::Str(pattern.written())]);
    let digits = |number: &Number| match number {
        Number::Int(n) => n.to_string(),
        Number::Float(n) => n.to_string(),
    };
    Ok(match (transformation, shown) {
        (Transformation::ReplaceString(replacement), Shown::Text(p)) => text(replacement.apply(p)),
        (Transformation::ReplaceString(replacement), Shown::Number(n)) => {
            text(replacement.apply(&Pattern::literal(&digits(n))))
        }
        (Transformation::MapString(table), Shown::Text(p)) => {
            let plain = value::plain(p);
            let new = table.iter().find(|(old, _)| *old == plain).map(|(_, new)| new);
            new.map(|new| new.iter().cloned().map(Yaml::Str).collect())
        }
        (Transformation::Case(case), Shown::Text(p)) => text(case.apply_to(p)),
        (Transformation::ConvertType(false), Shown::Number(n)) => Some(vec![Yaml::Str(digits(n))]),
        (Transformation::ConvertType(true), Shown::Text(p)) => {
            let plain = value::plain(p);
            let number = value::number(&plain);
            Some(vec![number.ok_or_else(|| format!("`{plain}` is no number"))?])
        }
        _ => None,
    })
}

/// A keyword that is to be looked for in one field is looked for anywhere in it.
pub fn anywhere(item: &DetectionItem) -> DetectionItem {
    let wide = change_values(item, &mut |value| {
        Ok(match value {
            Shown::Text(p) => Some(vec![Yaml::Str(p.clone().anywhere().written())]),
            _ => None,
        })
    });
    wide.ok().flatten().unwrap_or_else(|| item.clone())
}

/// An item for which case counts.
pub fn cased(item: &DetectionItem) -> DetectionItem {
    let mut item = item.clone();
    let text = shown(&item).iter().any(|v| matches!(v, Shown::Text(_)));
    if text && !item.has("cased") {
        item.modifiers.push(crate::rule::Modifier { name: "cased".to_owned(), at: 0..1 });
    }
    item
}

/// One item for each kind of hash, one of which must hold.
///
/// # Errors
/// When no value is a hash of a kind that has a field.
pub fn split_hashes(
    hashes: &Hashes,
    step: &ProcessingItem,
    item: DetectionItem,
) -> Result<Selection, Refusal> {
    let source = item.field.as_ref().is_some_and(|f| hashes.sources.contains(f));
    let shown = shown(&item);
    if !source || !shown.iter().all(|v| matches!(v, Shown::Text(_))) {
        return Ok(Selection::Item(item));
    }
    let mut fields: Vec<(String, Vec<Node>)> = Vec::new();
    for (node, shown) in item.values.iter().zip(&shown) {
        let Shown::Text(pattern) = shown else { continue };
        let (kind, digits) = value::hash(&value::plain(pattern));
        if !hashes.algorithms.contains(&kind) {
            continue;
        }
        let name = if hashes.bare { "" } else { &kind };
        let name = format!("{}{name}", hashes.prefix);
        let node = Node { value: Yaml::Str(digits), place: node.place };
        match fields.iter_mut().find(|(field, _)| *field == name) {
            Some((_, values)) => values.push(node),
            None => fields.push((name, vec![node])),
        }
    }
    if fields.is_empty() {
        let known = hashes.algorithms.join(", ");
        return Err(format!("no value of the field is a hash of {known}").into());
    }
    let mut processed_by = item.processed_by.clone();
    processed_by.extend(step.id.clone());
    let one = |(name, values): (String, Vec<Node>)| {
        Selection::Item(DetectionItem {
            place: item.place,
            field: (name != "keyword").then_some(name),
            modifiers: Vec::new(),
            values,
            processed_by: processed_by.clone(),
        })
    };
    Ok(Selection::Any(fields.into_iter().map(one).collect()))
}
