//! What a condition says of an event that has none of the fields that it asks for.
//!
//! Most conditions do not hold then, also those of nothing but exceptions: so one of their fields has to
//! be there, which is looked for in one step.

use crate::event::FieldPath;
use crate::rule::{Expr, Item, Matcher, Values};

/// Fields of which an event must have one for the condition to hold; `None` when it may hold without any.
pub fn needed_fields(expr: &Expr) -> Option<Vec<&FieldPath>> {
    let mut fields = Vec::new();
    let holds = holds_without(expr, &mut fields)?;
    (!holds).then_some(fields)
}

/// Whether a condition holds without any of its fields, which are added to `fields`; `None` when that
/// depends on more than fields.
fn holds_without<'e>(expr: &'e Expr, fields: &mut Vec<&'e FieldPath>) -> Option<bool> {
    let mut count = |parts: &'e [Expr]| {
        let mut holding = parts.iter().map(|part| holds_without(part, fields).map(usize::from));
        holding.try_fold(0, |sum, one| Some(sum + one?))
    };
    Some(match expr {
        Expr::And(parts) => count(parts)? == parts.len(),
        Expr::Or(parts) => count(parts)? > 0,
        Expr::AtLeast(least, parts) => count(parts)? >= *least,
        Expr::Not(part) => !holds_without(part, fields)?,
        Expr::Item(item) => {
            fields.push(&item.field);
            add_referred(&item.values.matchers, fields);
            holds(item)
        }
        Expr::Keywords(_) => return None,
    })
}

fn holds(Item { values: Values { matchers, all, .. }, negated, .. }: &Item) -> bool {
    let any = if *all { matchers.iter().all(is_absence) } else { matchers.iter().any(is_absence) };
    any != *negated
}

/// Whether a value asks for a field not to be there.
fn is_absence(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Null | Matcher::Exists(false) => true,
        Matcher::Any(forms) => forms.iter().any(is_absence),
        _ => false,
    }
}

/// Adds the fields that values are compared with.
fn add_referred<'e>(matchers: &'e [Matcher], fields: &mut Vec<&'e FieldPath>) {
    for matcher in matchers {
        match matcher {
            Matcher::FieldRef { field, .. } => fields.push(field),
            Matcher::Any(forms) => add_referred(forms, fields),
            _ => {}
        }
    }
}
