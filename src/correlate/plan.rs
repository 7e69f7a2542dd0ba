//! A rule set as the fold runs it: how each correlation's windows work, and what feeds what.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::matches::{PackedMatch, value_of};
use super::packed::encode;
use super::store::Spec;
use crate::event::FieldPath;
use crate::limits::{DISTINCT_EXACT_MAX, GROUP_ENTRIES_MAX};
use crate::rule::{
    Comparison, CorrelationKind, CorrelationRule, Input, Occurrence, RuleRef, RuleSet,
    StateVersion, Threshold, ValueMeasure, Windowing,
};
use crate::time::Timestamp;
use crate::window::{Bound, Bounds, Extent, Measure, PaneKind, Seen, Test, WindowKind};

/// A correlation that a rule feeds, and the rule's place among its inputs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The correlation, by index.
    pub rule: usize,
    /// The input, by position.
    pub input: usize,
}

/// Where the fields that one input of a correlation needs are among those of its family.
#[derive(Clone, Debug, Default)]
pub struct FieldPlaces {
    /// Those that it groups by.
    pub group: Vec<usize>,
    /// Those whose values it looks at.
    pub values: Vec<usize>,
}

/// What does not change while rules run.
#[derive(Debug)]
pub struct Plan {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// How the windows of each correlation work.
    pub specs: Vec<Spec>,
    /// Which meaning the groups of each correlation have.
    pub versions: Vec<StateVersion>,
    /// Whether a correlation counts the episodes of one below; others look at every event at which the
    /// one below holds.
    pub counts: Vec<bool>,
    /// Where each rule stands when all are sorted by id.
    pub order: Vec<u32>,
    /// By correlation and input.
    pub places: Vec<Vec<FieldPlaces>>,
    of_detection: Vec<Vec<Target>>,
    of_correlation: Vec<Vec<Target>>,
    detections: HashMap<Arc<str>, usize, RandomState>,
    families: HashMap<Arc<str>, usize, RandomState>,
}

impl Plan {
    /// Of a rule set.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        let mut of_detection = vec![Vec::new(); rules.detections.len()];
        let mut of_correlation = vec![Vec::new(); rules.correlations.len()];
        for (index, rule) in rules.correlations.iter().enumerate() {
            for (input, from) in rule.inputs.iter().enumerate() {
                let target = Target { rule: index, input };
                match from.rule {
                    RuleRef::Detection(i) => of_detection[i].push(target),
                    RuleRef::Correlation(i) => of_correlation[i].push(target),
                }
            }
        }
        let detections = rules.detections.iter().enumerate();
        let families = rules.families.iter().enumerate();
        Self {
            specs: rules.correlations.iter().map(spec).collect(),
            versions: rules.state_versions(),
            counts: rules.correlations.iter().map(counts).collect(),
            order: order_of(&rules),
            places: rules.correlations.iter().map(|rule| places(&rules, rule)).collect(),
            of_detection,
            of_correlation,
            detections: detections.map(|(i, r)| (Arc::clone(&r.header.id.0), i)).collect(),
            families: families.map(|(i, f)| (Arc::clone(&f.id), i)).collect(),
            rules,
        }
    }

    /// What a rule feeds.
    pub fn targets(&self, from: RuleRef) -> &[Target] {
        match from {
            RuleRef::Detection(i) => &self.of_detection[i],
            RuleRef::Correlation(i) => &self.of_correlation[i],
        }
    }

    /// A match that comes with names; `None` when the rule or the family is not one of these.
    pub fn pack(
        &self,
        time: Timestamp,
        (rule, family): (&str, &str),
        values: &[(Arc<str>, Arc<str>)],
        buffer: &mut Vec<u8>,
    ) -> Option<PackedMatch> {
        let rule = self.detections.get(rule).copied()?;
        let family = self.families.get(family).copied()?;
        Some(PackedMatch::new(time, (rule, family), buffer, |buffer| {
            for name in &self.rules.families[family].names {
                encode(value_of(values, name).map(|value| value.as_bytes()), buffer);
            }
        }))
    }
}

fn order_of(rules: &RuleSet) -> Vec<u32> {
    let id = |rule: &usize| &rules.detections[*rule].header.id;
    let mut sorted: Vec<usize> = (0..rules.detections.len()).collect();
    sorted.sort_by(|a, b| id(a).cmp(id(b)));
    let mut order = vec![0; sorted.len()];
    for (place, rule) in (0..).zip(sorted) {
        order[rule] = place;
    }
    order
}

fn places(rules: &RuleSet, rule: &CorrelationRule) -> Vec<FieldPlaces> {
    let fields = &rules.families[rule.family].fields;
    // Every field that a member needs is among them.
    let place = |field: &FieldPath| fields.iter().position(|f| f == field);
    let places = |input: &Input| FieldPlaces {
        group: input.group_fields.iter().filter_map(place).collect(),
        values: rule.kind.fields().iter().filter_map(place).collect(),
    };
    rule.inputs.iter().map(places).collect()
}

/// Whether each episode of a correlation below is one happening, not each event of it.
fn counts(rule: &CorrelationRule) -> bool {
    matches!(
        rule.kind,
        CorrelationKind::EventCount(_) | CorrelationKind::Value { .. } | CorrelationKind::Spike(_)
    )
}

fn spec(rule: &CorrelationRule) -> Spec {
    Spec { kind: window_kind(rule), timespan: rule.timespan_micros }
}

/// How a correlation's windows work. Sliding windows answer at every event, so they are for conditions
/// that more events cannot undo; all others, and windows of other kinds, are asked as a whole.
fn window_kind(rule: &CorrelationRule) -> WindowKind {
    let inputs = rule.inputs.len();
    if rule.windowing == Windowing::Sliding {
        match &rule.kind {
            CorrelationKind::EventCount(t) if t.is_monotone() => {
                return WindowKind::Count { enough: t.least() };
            }
            CorrelationKind::ValueCount { threshold: t, .. } if t.is_monotone() => {
                return WindowKind::Distinct { enough: t.least() };
            }
            CorrelationKind::Value { measure: ValueMeasure::Sum, threshold: t, .. }
                if t.is_monotone() =>
            {
                return WindowKind::Sum(bounds(t));
            }
            CorrelationKind::Temporal { needs, .. } if needs.is_monotone() => {
                return WindowKind::Temporal(seen(needs));
            }
            CorrelationKind::TemporalOrdered => return WindowKind::Ordered { inputs },
            _ => {}
        }
    }
    if let CorrelationKind::Spike(spike) = &rule.kind {
        return WindowKind::Spike {
            bucket_micros: spike.bucket_micros,
            history: spike.history,
            history_min: spike.history_min,
            ratio: spike.ratio,
            count_min: spike.count_min,
        };
    }
    WindowKind::Pane(pane_kind(rule, inputs))
}

fn pane_kind(rule: &CorrelationRule, inputs: usize) -> PaneKind {
    let extent = match rule.windowing {
        Windowing::Sliding => Extent::FromFirst,
        Windowing::Tumbling => Extent::Tumbling,
        Windowing::Session { gap_micros } => Extent::Session { gap: gap_micros },
    };
    let (measure, test) = match &rule.kind {
        CorrelationKind::ValueCount { threshold, .. } => {
            let exact = threshold.bounds().iter().map(|(_, n)| n.ceil()).max().unwrap_or_default();
            let exact = usize::try_from(exact.max(0)).unwrap_or(usize::MAX);
            let exact = exact.clamp(DISTINCT_EXACT_MAX, GROUP_ENTRIES_MAX);
            (Measure::Distinct { exact }, Test::Bounds(bounds(threshold)))
        }
        CorrelationKind::Value { measure, threshold, .. } => {
            let measure = match measure {
                ValueMeasure::Sum => Measure::Sum,
                ValueMeasure::Average => Measure::Average,
                ValueMeasure::Percentile(thousandths) => Measure::Percentile(*thousandths),
                ValueMeasure::Median => Measure::Percentile(50_000),
            };
            (measure, Test::Bounds(bounds(threshold)))
        }
        CorrelationKind::Temporal { needs, .. } => (Measure::Inputs, Test::Seen(seen(needs))),
        CorrelationKind::TemporalOrdered => (Measure::Steps { inputs }, Test::InOrder),
        CorrelationKind::EventCount(threshold) => (Measure::Count, Test::Bounds(bounds(threshold))),
        CorrelationKind::Spike(_) => (Measure::Count, Test::InOrder),
    };
    let monotone = match &test {
        Test::Seen(seen) => seen.is_monotone(),
        Test::InOrder => true,
        Test::Bounds(_) => {
            let grows = !matches!(measure, Measure::Average | Measure::Percentile(_));
            grows && rule.kind.threshold().is_some_and(Threshold::is_monotone)
        }
    };
    PaneKind { extent, measure, test, early: monotone }
}

fn bounds(threshold: &Threshold) -> Bounds {
    let bound = |op: Comparison| match op {
        Comparison::Lt => Bound::Below,
        Comparison::Lte => Bound::AtMost,
        Comparison::Gt => Bound::Above,
        Comparison::Gte => Bound::AtLeast,
        Comparison::Eq => Bound::Equal,
        Comparison::Neq => Bound::Unequal,
    };
    Bounds(threshold.bounds().iter().map(|(op, limit)| (bound(*op), *limit)).collect())
}

fn seen(needs: &Occurrence) -> Seen {
    match needs {
        Occurrence::Rule(input) => Seen::Input(*input),
        Occurrence::AtLeast(n, parts) => Seen::AtLeast(*n, parts.iter().map(seen).collect()),
        Occurrence::Not(part) => Seen::Not(Box::new(seen(part))),
    }
}
