//! The keyed state of one partition of the correlation stage.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use super::{Finding, Match, value_of};
use crate::ids::{Coordinate, GroupKey};
use crate::limits::{GROUPS_MAX, PENDING_MATCHES_MAX};
use crate::rule::{CorrelationKind, CorrelationRule, RuleRef, RuleSet, Threshold};
use crate::time::Timestamp;
use crate::window::{Condition, Happening, Window, WindowKind};

impl Condition for Threshold {
    fn holds(&self, count: u64) -> bool {
        Threshold::holds(self, count)
    }
}

/// What a fold could not use, by reason. It only counts up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldCounts {
    /// Matches before the watermark when they came, by topic.
    pub late: BTreeMap<Arc<str>, u64>,
    /// Matches without a group-by field or value, by correlation.
    pub missing_field: BTreeMap<usize, u64>,
    /// Matches that would have opened a group over the limit, by correlation.
    pub overflow: BTreeMap<usize, u64>,
    /// Matches given to windows before the watermark passed them, since too many waited.
    pub released_early: u64,
    /// Matches of rules or families that are not loaded here.
    pub unknown_rule: u64,
}

struct Group {
    window: Window,
    armed: Timestamp,
}

/// Matches wait here in the order of event time, then of place, which is the same wherever and in
/// whatever order they arrive.
#[derive(PartialEq, Eq)]
struct Waiting(Match);

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.time, &self.0.at, &self.0.rule, &self.0.family, &self.0.values).cmp(&(
            other.0.time,
            &other.0.at,
            &other.0.rule,
            &other.0.family,
            &other.0.values,
        ))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A thing that reaches a correlation: a match, or a finding of a correlation below.
struct Signal<'s> {
    time: Timestamp,
    at: &'s Coordinate,
    values: &'s [(Arc<str>, Arc<str>)],
    /// Whether an episode began; correlations that count take only these from below.
    first: bool,
}

/// The keyed state of one partition. See the module's documentation.
pub struct Fold {
    rules: Arc<RuleSet>,
    kinds: Vec<WindowKind>,
    /// Rule → the correlations that it feeds, each with its place among their inputs.
    feeds: BTreeMap<RuleRef, Vec<(usize, usize)>>,
    detections: HashMap<Arc<str>, usize>,
    families: HashMap<Arc<str>, usize>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    groups: Vec<HashMap<GroupKey, Group>>,
    group_count: usize,
    timers: BTreeSet<(Timestamp, usize, GroupKey)>,
    watermark: Option<Timestamp>,
    revisions: bool,
    counts: FoldCounts,
}

impl Fold {
    /// An empty state. With `revisions`, episodes are reported each time they grow, else once.
    pub fn new(rules: Arc<RuleSet>, revisions: bool) -> Self {
        let mut feeds: BTreeMap<RuleRef, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, rule) in rules.correlations.iter().enumerate() {
            for (place, input) in rule.inputs.iter().enumerate() {
                feeds.entry(input.rule).or_default().push((index, place));
            }
        }
        let detections = rules.detections.iter().enumerate();
        let families = rules.families.iter().enumerate();
        Self {
            kinds: rules.correlations.iter().map(window_kind).collect(),
            feeds,
            detections: detections.map(|(i, r)| (Arc::clone(&r.header.id.0), i)).collect(),
            families: families.map(|(i, f)| (Arc::clone(&f.id), i)).collect(),
            waiting: BinaryHeap::new(),
            groups: rules.correlations.iter().map(|_| HashMap::new()).collect(),
            group_count: 0,
            timers: BTreeSet::new(),
            watermark: None,
            revisions,
            counts: FoldCounts::default(),
            rules,
        }
    }

    /// What could not be used so far.
    pub fn counts(&self) -> &FoldCounts {
        &self.counts
    }

    /// How many groups hold state.
    pub fn groups(&self) -> usize {
        self.group_count
    }

    /// How many matches wait for the watermark.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes one match. It waits until the watermark has passed it; one that is before the watermark
    /// already is late: counted, and not used. Returns whether it was taken.
    pub fn offer(&mut self, event: Match, out: &mut Vec<Finding>) -> bool {
        if self.watermark.is_some_and(|w| event.time < w) {
            *self.counts.late.entry(Arc::clone(&event.at.topic)).or_default() += 1;
            return false;
        }
        self.waiting.push(Reverse(Waiting(event)));
        if self.waiting.len() > PENDING_MATCHES_MAX {
            self.counts.released_early += 1;
            if let Some(Reverse(Waiting(earliest))) = self.waiting.pop() {
                // What comes before it from now on is late: windows never go back.
                self.watermark = self.watermark.max(Some(earliest.time));
                self.run_timers_before(earliest.time, out);
                self.take(&earliest, out);
            }
        }
        true
    }

    /// Lets event time come to `watermark`: everything before it happens now, in order.
    pub fn advance(&mut self, watermark: Timestamp, out: &mut Vec<Finding>) {
        if self.watermark.is_some_and(|w| w >= watermark) {
            return;
        }
        self.watermark = Some(watermark);
        while self.waiting.peek().is_some_and(|Reverse(Waiting(m))| m.time < watermark) {
            let Some(Reverse(Waiting(event))) = self.waiting.pop() else { break };
            self.run_timers_before(event.time, out);
            self.take(&event, out);
        }
        self.run_timers_before(watermark, out);
    }

    /// Lets everything that waits happen, as if all sources had ended.
    pub fn finish(&mut self, out: &mut Vec<Finding>) {
        self.advance(Timestamp::MAX, out);
    }

    fn take(&mut self, event: &Match, out: &mut Vec<Finding>) {
        let known = self.detections.get(&event.rule.0).zip(self.families.get(&event.family));
        let Some((&rule, &family)) = known else {
            self.counts.unknown_rule += 1;
            return;
        };
        let signal = Signal { time: event.time, at: &event.at, values: &event.values, first: true };
        self.spread(RuleRef::Detection(rule), Some(family), &signal, out);
    }

    /// Gives a signal to every correlation that its rule feeds, within one family.
    fn spread(
        &mut self,
        from: RuleRef,
        family: Option<usize>,
        signal: &Signal<'_>,
        out: &mut Vec<Finding>,
    ) {
        let Some(targets) = self.feeds.get(&from).cloned() else { return };
        for (index, input) in targets {
            if family.is_none_or(|f| self.rules.correlations[index].family == f) {
                self.feed(index, input, signal, out);
            }
        }
    }

    fn feed(&mut self, index: usize, input: usize, signal: &Signal<'_>, out: &mut Vec<Finding>) {
        let counts = matches!(
            self.kinds[index],
            WindowKind::Count { .. }
                | WindowKind::Complete { distinct: false }
                | WindowKind::Spike { .. }
        );
        if counts && !signal.first {
            return;
        }
        let rules = Arc::clone(&self.rules);
        let rule = &rules.correlations[index];
        let (Some(group), Some(value)) =
            (group_of(rule, input, signal.values), counted_value(rule, signal.values))
        else {
            *self.counts.missing_field.entry(index).or_default() += 1;
            return;
        };
        let what = Happening { time: signal.time, at: signal.at, input, value: value.as_deref() };
        let Some((holds, finding)) = self.apply(index, rule, &group, &what) else {
            *self.counts.overflow.entry(index).or_default() += 1;
            return;
        };
        let first = finding.as_ref().is_some_and(|f| f.episode.revision == 1);
        out.extend(finding.filter(|f| self.revisions || f.episode.revision == 1));
        if holds {
            let values = values_above(rule, &group, signal.values);
            let above = Signal { time: signal.time, at: signal.at, values: &values, first };
            self.spread(RuleRef::Correlation(index), None, &above, out);
        }
    }

    /// Lets the group's window take a happening; `None` when the group would be one too many.
    fn apply(
        &mut self,
        index: usize,
        rule: &CorrelationRule,
        key: &GroupKey,
        what: &Happening<'_>,
    ) -> Option<(bool, Option<Finding>)> {
        let kind = &self.kinds[index];
        if !self.groups[index].contains_key(key) {
            if self.group_count >= GROUPS_MAX {
                return None;
            }
            self.group_count += 1;
            let group = Group { window: Window::new(kind), armed: Timestamp::MIN };
            self.groups[index].insert(key.clone(), group);
        }
        let group = self.groups[index].get_mut(key)?;
        let change = group.window.apply(kind, rule.timespan_micros, what);
        let deadline = group.window.deadline(kind, rule.timespan_micros);
        if group.armed == Timestamp::MIN {
            group.armed = deadline;
            self.timers.insert((deadline, index, key.clone()));
        }
        let wanted = |revision: u64| self.revisions || revision == 1;
        let episode = group.window.episode().filter(|e| change.episode && wanted(e.revision));
        let finding = episode.map(|episode| Finding {
            rule: index,
            group: key.clone(),
            episode: episode.clone(),
            trigger: what.at.clone(),
        });
        Some((change.holds, finding))
    }

    /// Closes or re-arms every group whose timer lies before `time`.
    fn run_timers_before(&mut self, time: Timestamp, out: &mut Vec<Finding>) {
        while self.timers.first().is_some_and(|(deadline, ..)| *deadline < time) {
            let Some((deadline, index, key)) = self.timers.pop_first() else { return };
            let rules = Arc::clone(&self.rules);
            let rule = &rules.correlations[index];
            let Some(group) = self.groups[index].get_mut(&key) else { continue };
            let due = group.window.deadline(&self.kinds[index], rule.timespan_micros);
            if due > deadline {
                group.armed = due;
                self.timers.insert((due, index, key));
                continue;
            }
            let last_word = match &rule.kind {
                CorrelationKind::EventCount(threshold)
                | CorrelationKind::ValueCount { threshold, .. } => {
                    group.window.close(threshold, rule.timespan_micros)
                }
                _ => None,
            };
            self.groups[index].remove(&key);
            self.group_count -= 1;
            let Some(episode) = last_word else { continue };
            let last = episode.evidence.last.back().or(episode.evidence.first.last());
            let Some(trigger) = last.cloned() else { continue };
            let values = values_above(rule, &key, &[]);
            out.push(Finding { rule: index, group: key, episode, trigger: trigger.clone() });
            let above = Signal { time: deadline, at: &trigger, values: &values, first: true };
            self.spread(RuleRef::Correlation(index), None, &above, out);
        }
    }
}

fn window_kind(rule: &CorrelationRule) -> WindowKind {
    let inputs = rule.inputs.len();
    match &rule.kind {
        CorrelationKind::EventCount(t) if t.is_monotone() => {
            WindowKind::Count { enough: t.least() }
        }
        CorrelationKind::EventCount(_) => WindowKind::Complete { distinct: false },
        CorrelationKind::ValueCount { threshold: t, .. } if t.is_monotone() => {
            WindowKind::Values { enough: t.least() }
        }
        CorrelationKind::ValueCount { .. } => WindowKind::Complete { distinct: true },
        CorrelationKind::Temporal { at_least } => {
            WindowKind::Temporal { inputs, at_least: *at_least }
        }
        CorrelationKind::TemporalOrdered => WindowKind::Ordered { inputs },
        CorrelationKind::Spike(spike) => WindowKind::Spike {
            bucket_micros: spike.bucket_micros,
            history: spike.history,
            history_min: spike.history_min,
            ratio: spike.ratio,
            count_min: spike.count_min,
        },
    }
}

/// The group that a signal belongs to; `None` when it lacks a group-by field.
fn group_of(
    rule: &CorrelationRule,
    input: usize,
    values: &[(Arc<str>, Arc<str>)],
) -> Option<GroupKey> {
    let fields = &rule.inputs[input].group_fields;
    fields
        .iter()
        .map(|f| value_of(values, f.as_str()).cloned())
        .collect::<Option<_>>()
        .map(GroupKey)
}

/// `Some(None)` when no value is counted; `None` when one is and the signal lacks it.
fn counted_value(
    rule: &CorrelationRule,
    values: &[(Arc<str>, Arc<str>)],
) -> Option<Option<String>> {
    let CorrelationKind::ValueCount { fields, .. } = &rule.kind else { return Some(None) };
    let parts: Option<Vec<&str>> =
        fields.iter().map(|f| value_of(values, f.as_str()).map(|v| &**v)).collect();
    // The unit separator cannot make two tuples look alike unless a value holds one.
    parts.map(|p| Some(p.join("\u{1f}")))
}

/// What correlations above can group by: the group of the finding, then the fields of its trigger.
fn values_above(
    rule: &CorrelationRule,
    group: &GroupKey,
    trigger: &[(Arc<str>, Arc<str>)],
) -> Vec<(Arc<str>, Arc<str>)> {
    let names = rule.group_by.iter().map(|f| Arc::from(f.as_str()));
    names.zip(group.0.iter().cloned()).chain(trigger.iter().cloned()).collect()
}
