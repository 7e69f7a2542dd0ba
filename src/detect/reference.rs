//! The slow, honest full scan: the truth that everything faster is measured against.
//!
//! It keeps nothing between two questions and takes no short cut beyond `and` and `or`.

use crate::event::{Event, FieldPath, Value};
use crate::rule::{Expr, Item, Matcher, Subject, TextRelation, Values, texts_relate};

/// Whether the expression holds for the event.
pub fn matches(expr: &Expr, event: &Event<'_>) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().all(|p| matches(p, event)),
        Expr::Or(parts) => parts.iter().any(|p| matches(p, event)),
        Expr::Not(part) => !matches(part, event),
        Expr::AtLeast(n, parts) => parts.iter().filter(|p| matches(p, event)).count() >= *n,
        Expr::Item(item) => item_matches(item, event),
        Expr::Keywords(values) => {
            let subjects: Vec<Subject<'_, '_>> =
                event.scalars().into_iter().map(Subject::new).collect();
            join(values, |m| subjects.iter().any(|s| m.matches(s)))
        }
    }
}

fn join(values: &Values, holds: impl Fn(&Matcher) -> bool) -> bool {
    if values.all { values.matchers.iter().all(holds) } else { values.matchers.iter().any(holds) }
}

/// A field against its values. A missing field matches `null`, `exists: false` and every `neq`.
fn item_matches(item: &Item, event: &Event<'_>) -> bool {
    let found = event.find(&item.field);
    let subjects: Vec<Subject<'_, '_>> = found.values.iter().map(|v| Subject::new(v)).collect();
    let holds = |matcher: &Matcher| match matcher {
        Matcher::Exists(wanted) => found.present == *wanted,
        Matcher::Null => !found.present || found.values.iter().any(|v| **v == Value::Null),
        Matcher::FieldRef { field, relation, cased } => {
            found.values.iter().any(|v| refers(v, event, field, *relation, *cased))
        }
        matcher => subjects.iter().any(|s| matcher.matches(s)),
    };
    join(&item.values, holds) != item.negated
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
