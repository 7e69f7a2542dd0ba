//! The keyed state of one partition of the correlation stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counts::FoldCounts;
use super::groups::{Group, Groups};
use super::key::{self, Key};
use super::plan::Plan;
use super::timers::{Due, Timers};
use super::waiting::Waiting;
use super::{Finding, Match, Overflow, value_of};
use crate::decimal::Decimal;
use crate::event::FieldPath;
use crate::ids::Coordinate;
use crate::limits::{
    GROUPS_MAX, OVERFLOW_REPORT_MICROS, PENDING_MATCHES_MAX, RULE_GROUPS_MAX, STATE_BYTES_MAX,
};
use crate::rule::{CorrelationKind, CorrelationRule, RuleRef, RuleSet};
use crate::time::Timestamp;
use crate::window::{Episode, Happening, Place, Places, ValueHash, Window, WindowKind};

/// When a running episode is reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// Never.
    None,
    /// When it has grown and so many microseconds of event time have passed since the last report, and
    /// once more when it ends.
    Every(i64),
    /// Each time that it grows.
    All,
}

/// How a fold runs.
#[derive(Clone, Copy, Debug)]
pub struct FoldOptions {
    /// When a running episode is reported again; a rule may ask for its own interval.
    pub updates: Updates,
    /// Groups of one correlation.
    pub rule_groups_max: usize,
    /// Groups of all of them.
    pub groups_max: usize,
    /// Bytes that all groups together take.
    pub bytes_max: usize,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self {
            updates: Updates::None,
            rule_groups_max: RULE_GROUPS_MAX,
            groups_max: GROUPS_MAX,
            bytes_max: STATE_BYTES_MAX,
        }
    }
}

/// What became of a match that was offered.
#[derive(Clone, Debug, PartialEq)]
pub enum Offered {
    /// It waits until the watermark has passed it.
    Taken,
    /// It lies before the watermark already: counted, not used, given back.
    Late(Match),
}

/// A thing that reaches a correlation: a match, or a finding of a correlation below.
struct Signal<'s> {
    time: Timestamp,
    at: &'s Coordinate,
    place: Place,
    values: &'s [(Arc<str>, Arc<str>)],
    /// Whether an episode began; correlations that count take only these from below.
    first: bool,
}

/// The keyed state of one partition. See the module's documentation.
pub struct Fold {
    pub(super) plan: Arc<Plan>,
    pub(super) waiting: Waiting,
    pub(super) groups: Vec<Groups>,
    pub(super) timers: Timers,
    pub(super) places: Places,
    pub(super) watermark: Option<Timestamp>,
    /// When refusing groups of a correlation was last reported.
    pub(super) overflow_at: BTreeMap<usize, Timestamp>,
    overflows: Vec<Overflow>,
    options: FoldOptions,
    counts: FoldCounts,
    /// Groups and bytes of all correlations together.
    used: (usize, usize),
    /// Where the key of a group is written; used again and again.
    key: Vec<u8>,
}

impl Fold {
    /// An empty state.
    pub fn new(rules: Arc<RuleSet>, options: FoldOptions) -> Self {
        let groups = rules.correlations.iter().map(|_| Groups::default()).collect();
        Self {
            plan: Arc::new(Plan::new(rules)),
            waiting: Waiting::default(),
            groups,
            timers: Timers::default(),
            places: Places::default(),
            watermark: None,
            overflow_at: BTreeMap::new(),
            overflows: Vec::new(),
            options,
            counts: FoldCounts::default(),
            used: (0, 0),
            key: Vec::new(),
        }
    }

    /// Works on the groups of a correlation, and keeps account.
    pub(super) fn of<T>(&mut self, index: usize, work: impl FnOnce(&mut Groups) -> T) -> T {
        let groups = &mut self.groups[index];
        let before = (groups.len(), groups.bytes());
        let result = work(groups);
        self.used.0 = self.used.0 + groups.len() - before.0;
        self.used.1 = self.used.1 + groups.bytes() - before.1;
        result
    }

    /// What could not be used so far.
    pub fn counts(&self) -> &FoldCounts {
        &self.counts
    }

    /// How many groups hold state.
    pub fn groups(&self) -> usize {
        self.used.0
    }

    /// Groups and bytes of each correlation, by index.
    pub fn usage(&self) -> impl Iterator<Item = (usize, usize)> {
        self.groups.iter().map(|g| (g.len(), g.bytes()))
    }

    /// About how many bytes all groups take.
    pub fn bytes(&self) -> usize {
        self.used.1
    }

    /// How many matches wait for the watermark.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many groups are to end at some time: as many as there are.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Correlations that had to refuse groups, since this was last asked; each at most once an hour of
    /// event time.
    pub fn take_overflows(&mut self) -> Vec<Overflow> {
        std::mem::take(&mut self.overflows)
    }

    /// Takes one match. It waits until the watermark has passed it; one that is before the watermark
    /// already is late.
    pub fn offer(&mut self, event: Match, out: &mut Vec<Finding>) -> Offered {
        if let Some(watermark) = self.watermark.filter(|w| event.time < *w) {
            self.counts.late(&event, watermark.since(event.time));
            return Offered::Late(event);
        }
        self.waiting.push(event);
        if self.waiting.len() > PENDING_MATCHES_MAX
            && let Some(earliest) = self.waiting.earliest()
        {
            // What comes before them from now on is late: windows never go back.
            let before = self.waiting.len();
            self.advance(earliest.plus(1), out);
            self.counts.released_early += (before - self.waiting.len()) as u64;
        }
        Offered::Taken
    }

    /// Lets event time come to `watermark`: everything before it happens now, in order.
    pub fn advance(&mut self, watermark: Timestamp, out: &mut Vec<Finding>) {
        if self.watermark.is_some_and(|w| w >= watermark) {
            return;
        }
        self.watermark = Some(watermark);
        let plan = Arc::clone(&self.plan);
        for event in self.waiting.take_before(watermark, &mut self.counts.duplicates) {
            self.run_timers_before(&plan, event.time, out);
            self.take(&plan, &event, out);
        }
        self.run_timers_before(&plan, watermark, out);
    }

    /// Lets everything that waits happen, as if all sources had ended.
    pub fn finish(&mut self, out: &mut Vec<Finding>) {
        self.advance(Timestamp::MAX, out);
    }

    fn take(&mut self, plan: &Plan, event: &Match, out: &mut Vec<Finding>) {
        let Some((rule, family)) = plan.find(&event.rule.0, &event.family) else {
            self.counts.unknown_rule += 1;
            return;
        };
        let place = self.places.place(&event.at);
        let (time, at, values) = (event.time, &event.at, &event.values);
        let signal = Signal { time, at, place, values, first: true };
        for target in plan.targets(RuleRef::Detection(rule)) {
            if plan.rules.correlations[target.rule].family == family {
                self.feed(plan, target.rule, target.input, &signal, out);
            }
        }
    }

    fn feed(
        &mut self,
        plan: &Plan,
        index: usize,
        input: usize,
        signal: &Signal<'_>,
        out: &mut Vec<Finding>,
    ) {
        if plan.counts[index] && !signal.first {
            return;
        }
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let rule = &plan.rules.correlations[index];
        match happening(rule, input, signal, &mut key) {
            Ok(what) => self.happen(plan, index, &key, &what, signal, out),
            Err(unusable) => {
                let counts = match unusable {
                    Unusable::Missing => &mut self.counts.missing_field,
                    Unusable::NoNumber => &mut self.counts.no_number,
                };
                *counts.entry(index).or_default() += 1;
            }
        }
        self.key = key;
    }

    /// Lets a happening reach the window of its group, and says what came of it.
    fn happen(
        &mut self,
        plan: &Plan,
        index: usize,
        key: &[u8],
        what: &Happening,
        signal: &Signal<'_>,
        out: &mut Vec<Finding>,
    ) {
        let (rule, kind) = (&plan.rules.correlations[index], &plan.kinds[index]);
        let known = self.groups[index].find(key);
        if known.is_none() && self.is_full(index) {
            return self.refuse(index, what.time);
        }
        let changed = self.of(index, |groups| {
            let number = known.unwrap_or_else(|| groups.insert(key, Window::new(kind)));
            groups.change(number, |group| {
                let ended = may_end_within(kind, &group.window);
                (number, group.window.apply(kind, rule.timespan_micros, what), ended)
            })
        });
        let Some((number, change, ended)) = changed else { return };
        if let Some(due) = due(plan, &self.groups, index as u32, number).filter(|_| known.is_none())
        {
            self.timers.arm(due);
        }
        self.report_ended(index, rule, number, ended, out);
        let first = change.episode && self.report_grown(index, rule, number, signal, out);
        if change.holds && !plan.targets(RuleRef::Correlation(index)).is_empty() {
            let Some(group) = self.groups[index].get(number) else { return };
            let values = values_above(rule, &group.key, signal.values);
            let above = Signal { values: &values, first, ..*signal };
            self.spread(plan, index, &above, out);
        }
    }

    /// Gives a signal to every correlation that this one feeds.
    fn spread(&mut self, plan: &Plan, from: usize, signal: &Signal<'_>, out: &mut Vec<Finding>) {
        for target in plan.targets(RuleRef::Correlation(from)) {
            self.feed(plan, target.rule, target.input, signal, out);
        }
    }

    fn is_full(&self, index: usize) -> bool {
        self.groups[index].len() >= self.options.rule_groups_max
            || self.groups() >= self.options.groups_max
            || self.bytes() >= self.options.bytes_max
    }

    fn refuse(&mut self, index: usize, time: Timestamp) {
        *self.counts.overflow.entry(index).or_default() += 1;
        let reported = self.overflow_at.get(&index);
        if reported.is_none_or(|t| time.since(*t) >= OVERFLOW_REPORT_MICROS) {
            self.overflow_at.insert(index, time);
            let (groups, bytes) = (self.groups[index].len(), self.groups[index].bytes());
            self.overflows.push(Overflow { rule: index, time, groups, bytes });
        }
    }

    /// Reports an episode that has begun or grown, if it is time to. Says whether it began.
    fn report_grown(
        &mut self,
        index: usize,
        rule: &CorrelationRule,
        number: u32,
        signal: &Signal<'_>,
        out: &mut Vec<Finding>,
    ) -> bool {
        let updates = self.updates(rule);
        let changed = self.groups[index].change(number, |group| {
            let episode = group.window.episode_mut()?;
            let wanted = episode.revision == 1
                || match updates {
                    Updates::None => false,
                    Updates::All => true,
                    Updates::Every(micros) => signal.time.since(episode.reported_at) >= micros,
                };
            if wanted {
                (episode.reported, episode.reported_at) = (episode.revision, signal.time);
            }
            wanted.then(|| (episode.revision == 1, episode.clone()))
        });
        let Some((first, episode)) = changed.flatten() else { return false };
        let Some(group) = self.groups[index].get(number) else { return first };
        out.push(self.finding(index, &group.key, episode, Some(signal.at)));
        first
    }

    fn updates(&self, rule: &CorrelationRule) -> Updates {
        match (self.options.updates, rule.update_micros) {
            (Updates::Every(_), Some(micros)) => Updates::Every(micros),
            (updates, _) => updates,
        }
    }

    /// Reports how an episode ended, when it grew since its last report.
    fn report_ended(
        &mut self,
        index: usize,
        rule: &CorrelationRule,
        number: u32,
        before: Option<Box<Episode>>,
        out: &mut Vec<Finding>,
    ) {
        let Some(mut before) = before else { return };
        let Some(group) = self.groups[index].get(number) else { return };
        let goes_on = group.window.episode().is_some_and(|e| e.began == before.began);
        let grew = before.reported < before.revision;
        if !goes_on && grew && matches!(self.updates(rule), Updates::Every(_)) {
            before.reported = before.revision;
            out.push(self.finding(index, &group.key, *before, None));
        }
    }

    fn finding(
        &self,
        rule: usize,
        key: &Key,
        episode: Episode,
        trigger: Option<&Coordinate>,
    ) -> Finding {
        let evidence: Vec<Coordinate> =
            episode.evidence.places().filter_map(|p| self.places.coordinate(p)).collect();
        let unknown = || Coordinate { topic: "".into(), partition: -1, offset: -1 };
        let trigger = trigger.or(evidence.last()).cloned().unwrap_or_else(unknown);
        Finding { rule, group: key.group(), episode, evidence, trigger }
    }

    /// Ends every group whose deadline lies before `time`.
    fn run_timers_before(&mut self, plan: &Plan, time: Timestamp, out: &mut Vec<Finding>) {
        loop {
            let groups = &self.groups;
            let find = |rule: u32, number: u32| due(plan, groups, rule, number);
            let Some(popped) = self.timers.pop_before(time, find) else { return };
            match due(plan, &self.groups, popped.rule, popped.group) {
                Some(later) if later.deadline > popped.deadline => self.timers.arm(later),
                Some(_) => self.end(plan, &popped, out),
                None => {}
            }
        }
    }

    fn end(&mut self, plan: &Plan, due: &Due, out: &mut Vec<Finding>) {
        let index = due.rule as usize;
        let rule = &plan.rules.correlations[index];
        let removed = self.of(index, |groups| groups.remove(due.group));
        let Some(Group { key, mut window, .. }) = removed else { return };
        if let Some(episode) = window.episode().filter(|e| e.reported < e.revision)
            && matches!(self.updates(rule), Updates::Every(_))
        {
            let mut episode = episode.clone();
            episode.reported = episode.revision;
            out.push(self.finding(index, &key, episode, None));
        }
        let Some(mut episode) = window.close(&plan.kinds[index], rule.timespan_micros) else {
            return;
        };
        episode.reported = episode.revision;
        let place = episode.evidence.latest().unwrap_or_default();
        let finding = self.finding(index, &key, episode, None);
        if !plan.targets(RuleRef::Correlation(index)).is_empty() {
            let values = values_above(rule, &key, &[]);
            let (time, at) = (due.deadline, &finding.trigger);
            let above = Signal { time, at, place, values: &values, first: true };
            out.push(finding.clone());
            return self.spread(plan, index, &above, out);
        }
        out.push(finding);
    }
}

/// When a group really ends.
fn due(plan: &Plan, groups: &[Groups], rule: u32, number: u32) -> Option<Due> {
    let index = rule as usize;
    let group = groups.get(index)?.get(number)?;
    let timespan = plan.rules.correlations[index].timespan_micros;
    let deadline = group.window.deadline(&plan.kinds[index], timespan);
    Some(Due { deadline, rule, key: group.key.clone(), group: number })
}

/// Episodes of most windows end with the window; those of a spike may end before.
fn may_end_within(kind: &WindowKind, window: &Window) -> Option<Box<Episode>> {
    matches!(kind, WindowKind::Spike { .. }).then(|| window.episode().cloned().map(Box::new))?
}

/// Why a signal cannot be counted or measured.
enum Unusable {
    Missing,
    NoNumber,
}

/// What a signal is to a correlation; the group that it belongs to is written into `key`.
fn happening(
    rule: &CorrelationRule,
    input: usize,
    signal: &Signal<'_>,
    key: &mut Vec<u8>,
) -> Result<Happening, Unusable> {
    for field in &rule.inputs[input].group_fields {
        let value = value_of(signal.values, field.as_str());
        if value.is_none() && !rule.null_group {
            return Err(Unusable::Missing);
        }
        key::encode(value.map(|v| &**v), key);
    }
    let mut what = Happening::plain(signal.time, signal.place, input);
    match &rule.kind {
        CorrelationKind::ValueCount { fields, .. } => {
            let value = |f: &FieldPath| value_of(signal.values, f.as_str()).map(|v| &**v);
            if fields.iter().any(|f| value(f).is_none()) {
                return Err(Unusable::Missing);
            }
            what.value = Some(ValueHash::of(fields.iter().filter_map(value)));
        }
        CorrelationKind::Value { field, .. } => {
            let text = value_of(signal.values, field.as_str()).ok_or(Unusable::Missing)?;
            what.number = Some(Decimal::parse(text).ok_or(Unusable::NoNumber)?);
        }
        _ => {}
    }
    Ok(what)
}

/// What correlations above can group by: the group of the finding, then the fields of its trigger.
fn values_above(
    rule: &CorrelationRule,
    key: &Key,
    trigger: &[(Arc<str>, Arc<str>)],
) -> Vec<(Arc<str>, Arc<str>)> {
    let names = rule.group_by.iter().map(|f| Arc::<str>::from(f.as_str()));
    let own = names.zip(key.group().0).filter_map(|(name, value)| Some((name, value?)));
    own.chain(trigger.iter().cloned()).collect()
}
