//! Correlation rules and anomaly rules: conditions over many events (Sigma correlation
//! specification 2.1, and what is approved for 2.2; anomaly rules and kinds of windows are ours).
//!
//! Here is what such a rule is; `read.rs` reads the parts that all share, `kind.rs` what depends on the
//! type, `window.rs` our own attributes, `anomaly.rs` anomaly rules.

mod anomaly;
mod kind;
mod read;
mod window;

use std::cmp::Ordering;

use super::diagnostic::{Code, Diagnostic};
use super::matcher::Comparison;
use super::yaml::{Key, Node};
use crate::decimal::Decimal;
use crate::event::FieldPath;
pub use anomaly::compile as compile_anomaly;
use read::Reader;

/// What is counted or looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum CorrelationKind {
    /// Events per group.
    EventCount(Threshold),
    /// Distinct values (or tuples of values) per group.
    ValueCount {
        /// The fields whose values are counted.
        fields: Vec<FieldPath>,
        /// How many.
        threshold: Threshold,
    },
    /// A number made of the numbers in a field.
    Value {
        /// How it is made.
        measure: ValueMeasure,
        /// The field.
        field: FieldPath,
        /// How large.
        threshold: Threshold,
    },
    /// Certain of the rules, in any order.
    Temporal {
        /// Which; all of them by default.
        needs: Occurrence,
        /// The condition as it is written, for people.
        text: String,
    },
    /// All of the rules, in the order given.
    TemporalOrdered,
    /// Volume far above what the group had before: an anomaly rule.
    Spike(Spike),
}

/// How many numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueMeasure {
    /// Their sum.
    Sum,
    /// Their mean.
    Average,
    /// A percentile of them, in thousandths of a percent.
    Percentile(u32),
    /// The one in the middle.
    Median,
}

/// Which rules must have matched; rules are numbered as the correlation lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// That one.
    Rule(usize),
    /// At least so many of these.
    AtLeast(usize, Vec<Occurrence>),
    /// Not that.
    Not(Box<Occurrence>),
}

impl Occurrence {
    /// Whether one more match can never make it untrue.
    pub fn is_monotone(&self) -> bool {
        match self {
            Self::Rule(_) => true,
            Self::AtLeast(_, parts) => parts.iter().all(Self::is_monotone),
            Self::Not(_) => false,
        }
    }

    /// Whether it holds when nothing matched at all: then no event could ever begin its window.
    fn holds_of_nothing(&self) -> bool {
        match self {
            Self::Rule(_) => false,
            Self::AtLeast(n, parts) => parts.iter().filter(|p| p.holds_of_nothing()).count() >= *n,
            Self::Not(part) => !part.holds_of_nothing(),
        }
    }
}

/// One or more bounds, all of which must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold(Vec<(Comparison, Decimal)>);

/// Parameters of a spike rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Length of one bucket, microseconds.
    pub bucket_micros: i64,
    /// How many closed buckets the baseline looks back.
    pub history: usize,
    /// How many closed buckets a group must have before it can alert.
    pub history_min: usize,
    /// How many times the baseline the count must reach.
    pub ratio: f64,
    /// What the count must reach at least.
    pub count_min: u64,
}

/// How windows lie in time: our attribute `watchfire.window`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Windowing {
    /// Wherever events are: as Sigma means it.
    #[default]
    Sliding,
    /// From one multiple of the timespan since 1970 to the next.
    Tumbling,
    /// As long as events follow each other, at most a timespan.
    Session {
        /// Longest time between two events, microseconds: `watchfire.gap`.
        gap_micros: i64,
    },
}

/// A correlation or anomaly rule without its header.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// What is counted or looked for.
    pub kind: CorrelationKind,
    /// Ids or names of the rules it is about, in order.
    pub rules: Vec<Key>,
    /// The fields that make a group; none means one group for all.
    pub group_by: Vec<FieldPath>,
    /// Length of the closed sliding window, microseconds.
    pub timespan_micros: i64,
    /// Whether the rules it refers to alert on their own, too.
    pub generate: bool,
    /// Names for fields that are called differently in different rules.
    pub aliases: Vec<Alias>,
    /// How windows lie in time.
    pub windowing: Windowing,
    /// Whether an event that lacks a group-by field belongs to the group without that value; else it is
    /// left out. Our attribute `watchfire.null_group`.
    pub null_group: bool,
    /// Least event time between two reports of one episode, microseconds; `None` leaves it to the
    /// configuration. Our attribute `watchfire.update_interval`.
    pub update_micros: Option<i64>,
}

/// One name for fields that are called differently in different rules.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The name, as group-by uses it.
    pub name: Key,
    /// Rule by id or name → its field.
    pub fields: Vec<(Key, FieldPath)>,
}

impl Threshold {
    /// The bounds.
    pub fn bounds(&self) -> &[(Comparison, Decimal)] {
        &self.0
    }

    /// Whether all bounds hold.
    pub fn holds(&self, value: Decimal) -> bool {
        self.0.iter().all(|(op, bound)| op.holds(value.cmp(bound)))
    }

    /// Whether more can never make it untrue: only lower bounds. Such a condition is decided the
    /// moment it becomes true; any other when the window is complete.
    pub fn is_monotone(&self) -> bool {
        self.0.iter().all(|(op, _)| matches!(op, Comparison::Gt | Comparison::Gte))
    }

    /// The least count that is enough, for a monotone threshold; at least 1.
    pub fn least(&self) -> u64 {
        let least = |(op, bound): &(Comparison, Decimal)| {
            let ceil = bound.ceil();
            let beyond =
                *op == Comparison::Gt && Decimal::whole(ceil).cmp(bound) == Ordering::Equal;
            u64::try_from((ceil + i128::from(beyond)).max(1)).unwrap_or(u64::MAX)
        };
        self.0.iter().map(least).max().unwrap_or(1)
    }

    /// The bounds as `>= 10`, for people and alerts.
    pub fn describe(&self) -> String {
        let one = |(op, bound): &(Comparison, Decimal)| {
            let op = match op {
                Comparison::Lt => "<",
                Comparison::Lte => "<=",
                Comparison::Gt => ">",
                Comparison::Gte => ">=",
                Comparison::Eq => "==",
                Comparison::Neq => "!=",
            };
            format!("{op} {bound}")
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" and ")
    }
}

impl CorrelationKind {
    /// The type as rules write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EventCount(_) => "event_count",
            Self::ValueCount { .. } => "value_count",
            Self::Value { measure: ValueMeasure::Sum, .. } => "value_sum",
            Self::Value { measure: ValueMeasure::Average, .. } => "value_avg",
            Self::Value { measure: ValueMeasure::Percentile(_), .. } => "value_percentile",
            Self::Value { measure: ValueMeasure::Median, .. } => "value_median",
            Self::Temporal { .. } => "temporal",
            Self::TemporalOrdered => "temporal_ordered",
            Self::Spike(_) => "spike",
        }
    }

    /// What the condition asks for, as `>= 10`, for people and alerts.
    pub fn describe(&self) -> String {
        match self {
            Self::EventCount(threshold)
            | Self::ValueCount { threshold, .. }
            | Self::Value { threshold, .. } => threshold.describe(),
            Self::Temporal { text, .. } => text.clone(),
            Self::TemporalOrdered => "all rules in order".to_owned(),
            Self::Spike(s) => format!(">= {} x expected and >= {}", s.ratio, s.count_min),
        }
    }

    /// The fields of events that it looks into.
    pub fn fields(&self) -> &[FieldPath] {
        match self {
            Self::ValueCount { fields, .. } => fields,
            Self::Value { field, .. } => std::slice::from_ref(field),
            _ => &[],
        }
    }

    /// The bounds that it compares with, if it has any.
    pub fn threshold(&self) -> Option<&Threshold> {
        match self {
            Self::EventCount(threshold)
            | Self::ValueCount { threshold, .. }
            | Self::Value { threshold, .. } => Some(threshold),
            Self::Temporal { .. } | Self::TemporalOrdered | Self::Spike(_) => None,
        }
    }
}

/// Compiles the mapping under `correlation:`; `generate` may also stand at the top of the document.
/// Everything that is missing, unknown or not supported is added to `found`, with its place.
pub fn compile(node: &Node, document: &Node, found: &mut Vec<Diagnostic>) -> Option<Correlation> {
    let known = ["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];
    let mut reader = Reader::new("correlation", node, document, &known, found)?;
    let kind = reader.text("type", "such as `type: event_count`");
    let rules = reader.rules(kind.as_deref() == Some("temporal"));
    let kind = kind.and_then(|k| reader.kind(&k, rules.as_deref().unwrap_or_default()));
    let group_by = reader.fields(node, "group-by");
    let timespan_micros = reader.duration("timespan");
    let generate = reader.generate();
    let aliases = reader.aliases();
    let ours = reader.ours();
    if reader.unknown {
        return None;
    }
    let ours = ours?;
    let correlation = Correlation {
        kind: kind?,
        rules: rules?,
        group_by: group_by?,
        timespan_micros: timespan_micros?,
        generate: generate?,
        aliases: aliases?,
        windowing: ours.windowing,
        null_group: ours.null_group,
        update_micros: ours.update_micros,
    };
    super::lint::correlation(node, &correlation, found);
    Some(correlation)
}
