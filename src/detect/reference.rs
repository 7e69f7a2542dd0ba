//! The slow, honest full scan: the truth that everything faster is measured against.
//!
//! It keeps nothing between two questions, compiles nothing, folds every text anew, and takes no short
//! cut beyond `and` and `or`. The compiled program shares with it the rule's values and how numbers,
//! networks and dates compare; everything else it does in its own way.

use crate::event::{Event, FieldPath, Found, Value};
use crate::rule::{
    Expr, Item, Matcher, TextRelation, Values, compare, date_part, in_network, texts_relate,
};

/// Whether the expression holds for the event.
pub fn matches(expr: &Expr, event: &Event<'_>) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().all(|p| matches(p, event)),
        Expr::Or(parts) => parts.iter().any(|p| matches(p, event)),
        Expr::Not(part) => !matches(part, event),
        Expr::AtLeast(n, parts) => parts.iter().filter(|p| matches(p, event)).count() >= *n,
        Expr::Item(item) => item_matches(item, event),
        Expr::Keywords(values) => {
            let scalars = event.scalars();
            join(values, |m| scalars.iter().any(|v| value_matches(m, v)))
        }
    }
}

fn join(values: &Values, holds: impl Fn(&Matcher) -> bool) -> bool {
    if values.all { values.matchers.iter().all(holds) } else { values.matchers.iter().any(holds) }
}

/// A field against its values. A missing field matches `null`, `exists: false` and every `neq`.
fn item_matches(item: &Item, event: &Event<'_>) -> bool {
    let found = event.find(&item.field);
    join(&item.values, |m| field_matches(m, &found, event)) != item.negated
}

fn field_matches(matcher: &Matcher, found: &Found<'_, '_>, event: &Event<'_>) -> bool {
    match matcher {
        Matcher::Exists(wanted) => found.present == *wanted,
        Matcher::Null => !found.present || found.values.iter().any(|v| **v == Value::Null),
        Matcher::FieldRef { field, relation, cased } => {
            found.values.iter().any(|v| refers(v, event, field, *relation, *cased))
        }
        Matcher::Any(forms) => forms.iter().any(|m| field_matches(m, found, event)),
        matcher => found.values.iter().any(|v| value_matches(matcher, v)),
    }
}

/// What a single value says. `Exists` and `FieldRef` ask more than that; see [`field_matches`].
fn value_matches(matcher: &Matcher, value: &Value<'_>) -> bool {
    match matcher {
        Matcher::Text { pattern, cased } => {
            value.text().is_some_and(|t| pattern.matches(&t, *cased))
        }
        Matcher::Number(n) => n.equals(value),
        Matcher::Bool(wanted) => match value {
            Value::Bool(b) => b == wanted,
            Value::Str(s) => s.to_ascii_lowercase() == wanted.to_string(),
            _ => false,
        },
        Matcher::Null => *value == Value::Null,
        Matcher::Exists(_) | Matcher::FieldRef { .. } => false,
        Matcher::Regex(regex) => value.text().is_some_and(|t| regex.is_match(&t)),
        Matcher::Cidr(net) => matches!(value, Value::Str(s) if in_network(s, net)),
        Matcher::Compare(op, n) => compare(value, *n).is_some_and(|order| op.holds(order)),
        Matcher::Date(part, op, n) => date_part(value, *part).is_some_and(|is| op.holds(is.cmp(n))),
        Matcher::Any(forms) => forms.iter().any(|m| value_matches(m, value)),
    }
}

fn refers(
    left: &Value<'_>,
    event: &Event<'_>,
    field: &FieldPath,
    relation: TextRelation,
    cased: bool,
) -> bool {
    let Some(left) = left.text() else { return false };
    let others = event.find(field);
    let relates = |right: &&Value<'_>| {
        right.text().is_some_and(|right| texts_relate(&left, &right, relation, cased))
    };
    others.values.iter().any(relates)
}
