//! Why a group has alerted, or not yet.

use super::fold::Fold;
use super::packed;
use crate::decimal::Decimal;
use crate::ids::GroupKey;
use crate::rule::{CorrelationKind, Occurrence};
use crate::time::Timestamp;

/// How a group of a correlation stands at the watermark.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The number that the condition is about, now: events, distinct values, a sum, rules that matched.
    pub value: Decimal,
    /// What it is compared with, as `>= 10`.
    pub threshold: String,
    /// What has not happened yet: rules by id. Empty when the condition is about a number.
    pub missing: Vec<String>,
    /// Microseconds of event time until the window ends unless something happens.
    pub left_micros: i64,
    /// Whether an episode runs.
    pub fired: bool,
    /// Until when this holds true: matches at or after it still wait.
    pub as_of: Timestamp,
}

impl Fold {
    /// How a group stands; `None` when nothing is held of it, or before the first watermark.
    pub fn explain(&self, rule: usize, group: &GroupKey) -> Option<Explanation> {
        let mut bytes = Vec::new();
        let values = group.0.iter().map(|value| value.as_deref().map(str::as_bytes));
        values.for_each(|value| packed::encode(value, &mut bytes));
        let groups = self.store.all().get(rule)?;
        let window = &groups.get(groups.find(groups.keyed(&bytes))?)?.window;
        let (kind, now) = (&self.plan.specs[rule].kind, self.happened?);
        let rule = &self.plan.rules.correlations[rule];
        let standing = window.standing(kind, rule.timespan_micros, now);
        let id = |input: usize| self.plan.rules.header(rule.inputs[input].rule).id.to_string();
        let missing = match &rule.kind {
            CorrelationKind::Temporal { needs, .. } => {
                let mut inputs = Vec::new();
                missing(needs, &standing.inputs, &mut inputs);
                inputs.into_iter().map(id).collect()
            }
            CorrelationKind::TemporalOrdered => {
                (standing.inputs.len()..rule.inputs.len()).map(id).collect()
            }
            _ => Vec::new(),
        };
        let threshold = match standing.trip {
            Some(trip) => format!(">= {}", trip.ceil()),
            None => rule.kind.describe(),
        };
        let deadline = window.deadline(kind, rule.timespan_micros);
        Some(Explanation {
            value: standing.value,
            threshold,
            missing,
            left_micros: deadline.since(now).max(0),
            fired: window.episode().is_some(),
            as_of: now,
        })
    }
}

/// Adds the inputs that were not seen, of each part that does not hold.
fn missing(needs: &Occurrence, seen: &[usize], into: &mut Vec<usize>) {
    match needs {
        Occurrence::Rule(input) if !seen.contains(input) && !into.contains(input) => {
            into.push(*input);
        }
        Occurrence::AtLeast(n, parts) => {
            if parts.iter().filter(|p| holds(p, seen)).count() < *n {
                parts.iter().for_each(|p| missing(p, seen, into));
            }
        }
        Occurrence::Rule(_) | Occurrence::Not(_) => {}
    }
}

fn holds(needs: &Occurrence, seen: &[usize]) -> bool {
    match needs {
        Occurrence::Rule(input) => seen.contains(input),
        Occurrence::AtLeast(n, parts) => parts.iter().filter(|p| holds(p, seen)).count() >= *n,
        Occurrence::Not(part) => !holds(part, seen),
    }
}
