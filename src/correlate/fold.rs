//! The keyed state of one partition of the correlation stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counts::FoldCounts;
use super::groups::Group;
use super::key::{self, Key};
use super::plan::Plan;
use super::state::{Kept, SHARDS, shard_of};
use super::store::{Applied, Bounds, Store, TOUCHED};
use super::timers::Due;
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
use crate::window::{Episode, Happening, Place, Places, ValueHash};

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
    /// Whether what changes is listed, to be [written](Fold::write).
    pub is_kept: bool,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self {
            updates: Updates::None,
            rule_groups_max: RULE_GROUPS_MAX,
            groups_max: GROUPS_MAX,
            bytes_max: STATE_BYTES_MAX,
            is_kept: false,
        }
    }
}

impl FoldOptions {
    fn bounds(&self) -> Bounds {
        Bounds { rule_groups: self.rule_groups_max, groups: self.groups_max, bytes: self.bytes_max }
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

/// What a signal goes back to, and with it the shard of the groups that it makes.
#[derive(Clone, Copy)]
enum Origin<'s> {
    /// A match that feeds a family.
    Match(usize, &'s Match),
    /// A group that ended, of that shard.
    Group(u8),
}

/// A thing that reaches a correlation: a match, or a finding of a correlation below.
struct Signal<'s> {
    origin: Origin<'s>,
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
    pub(super) store: Store,
    pub(super) places: Places,
    /// What lies before this is late.
    pub(super) watermark: Option<Timestamp>,
    /// What lies before this has happened.
    pub(super) happened: Option<Timestamp>,
    /// When refusing groups of a correlation was last reported.
    pub(super) overflow_at: BTreeMap<usize, Timestamp>,
    overflows: Vec<Overflow>,
    /// Since when, in event time, each correlation has been fed; `None`: since the first event.
    pub(super) since: Vec<Option<Timestamp>>,
    /// Where the record at hand stands in the log.
    offset: i64,
    pub(super) kept: Kept,
    /// While the log is replayed: what lies before these is in the groups of each shard already.
    pub(super) done: Vec<Option<Timestamp>>,
    options: FoldOptions,
    counts: FoldCounts,
    /// Where the key of a group is written; used again and again, as are those below.
    key: Vec<u8>,
    batch: Vec<Match>,
    wanted: Vec<(usize, u32)>,
}

/// Fewer matches at a time are not worth the trouble of bringing their groups near.
const TOUCH_FROM: usize = 4;

impl Fold {
    /// An empty state.
    pub fn new(rules: Arc<RuleSet>, options: FoldOptions) -> Self {
        let correlations = rules.correlations.len();
        let store = Store::new(correlations, if options.is_kept { SHARDS } else { 0 });
        Self {
            plan: Arc::new(Plan::new(rules)),
            waiting: Waiting::default(),
            store,
            places: Places::default(),
            watermark: None,
            happened: None,
            overflow_at: BTreeMap::new(),
            overflows: Vec::new(),
            since: vec![None; correlations],
            offset: 0,
            kept: Kept::default(),
            done: Vec::new(),
            options,
            counts: FoldCounts::default(),
            key: Vec::new(),
            batch: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// What could not be used so far.
    pub fn counts(&self) -> &FoldCounts {
        &self.counts
    }

    /// How many groups hold state.
    pub fn groups(&self) -> usize {
        self.store.used().0
    }

    /// Groups and bytes of each correlation, by index.
    pub fn usage(&self) -> impl Iterator<Item = (usize, usize)> {
        self.store.all().iter().map(|g| (g.len(), g.bytes()))
    }

    /// About how many bytes all groups take.
    pub fn bytes(&self) -> usize {
        self.store.used().1
    }

    /// How many matches wait for the watermark.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many groups are to end at some time: as many as there are.
    pub fn timers(&self) -> usize {
        self.store.timers()
    }

    /// Correlations that had to refuse groups, since this was last asked; each at most once an hour of
    /// event time.
    pub fn take_overflows(&mut self) -> Vec<Overflow> {
        std::mem::take(&mut self.overflows)
    }

    /// Says where the next record stands in the log, for a fold whose state is kept.
    pub fn stand_at(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// Takes a match from before the place where a restored fold stands: one that was waiting there waits
    /// again.
    pub fn offer_again(&mut self, event: Match) {
        if self.watermark.is_none_or(|w| event.time >= w) {
            self.waiting.push(event, self.offset);
        }
    }

    /// Since when, in event time, each correlation has been fed, by index; `None`: since the first event.
    /// Before a timespan has passed since then it may have missed the beginning of something.
    pub fn since(&self) -> &[Option<Timestamp>] {
        &self.since
    }

    /// What lies before this has happened.
    pub fn happened(&self) -> Option<Timestamp> {
        self.happened
    }

    /// Takes one match. It waits until the watermark has passed it; one that is before the watermark
    /// already is late.
    pub fn offer(&mut self, event: Match, out: &mut Vec<Finding>) -> Offered {
        if let Some(watermark) = self.watermark.filter(|w| event.time < *w) {
            self.counts.late(&event, watermark.since(event.time));
            return Offered::Late(event);
        }
        self.waiting.push(event, self.offset);
        if self.waiting.len() > PENDING_MATCHES_MAX
            && let Some(earliest) = self.waiting.earliest()
        {
            // What comes before them from now on is late: windows never go back.
            let before = self.waiting.len();
            self.reach(earliest.plus(1));
            self.run(out);
            self.counts.released_early += (before - self.waiting.len()) as u64;
        }
        Offered::Taken
    }

    /// Lets event time come to `watermark`: everything before it happens now, in order.
    pub fn advance(&mut self, watermark: Timestamp, out: &mut Vec<Finding>) {
        self.reach(watermark);
        self.run(out);
    }

    /// Lets event time come to `watermark`: what is offered from now on and lies before it is late. What
    /// it lets happen happens when the fold is next [run](Self::run), in the same way.
    pub fn reach(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(Some(watermark));
    }

    /// Lets everything before the watermark happen, in order.
    pub fn run(&mut self, out: &mut Vec<Finding>) {
        let Some(watermark) = self.watermark.filter(|w| self.happened < Some(*w)) else { return };
        self.happened = Some(watermark);
        let plan = Arc::clone(&self.plan);
        let mut batch = std::mem::take(&mut self.batch);
        loop {
            let next = || self.waiting.pop_before(watermark, &mut self.counts.duplicates);
            batch.extend(std::iter::from_fn(next).take(TOUCHED / 2));
            if batch.is_empty() {
                break;
            }
            self.touch(&plan, &batch);
            for event in batch.drain(..) {
                self.run_timers_before(&plan, event.time, out);
                self.take(&plan, &event, out);
            }
        }
        self.batch = batch;
        self.run_timers_before(&plan, watermark, out);
        if self.done.iter().all(|done| *done <= self.happened) {
            self.done.clear();
        }
    }

    /// Has the groups of the next few matches brought near.
    fn touch(&mut self, plan: &Plan, batch: &[Match]) {
        if batch.len() < TOUCH_FROM {
            return;
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        for event in batch {
            let Some((rule, family)) = plan.find(&event.rule.0, &event.family) else { continue };
            for target in plan.targets(RuleRef::Detection(rule)) {
                let rule = &plan.rules.correlations[target.rule];
                self.key.clear();
                let of_family = rule.family == family;
                if of_family && group_of(rule, target.input, &event.values, &mut self.key) {
                    wanted.push((target.rule, self.store.hash(target.rule, &self.key)));
                }
            }
        }
        wanted.chunks(TOUCHED).for_each(|chunk| self.store.touch(chunk));
        wanted.clear();
        self.wanted = wanted;
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
        if !self.done.is_empty() {
            let shard = usize::from(shard_of(plan, family, event));
            if self.done.get(shard).is_some_and(|done| Some(event.time) < *done) {
                return;
            }
        }
        let place = self.places.place(&event.at);
        let (time, at, values) = (event.time, &event.at, &event.values);
        let origin = Origin::Match(family, event);
        let signal = Signal { origin, time, at, place, values, first: true };
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
        let shard = || match signal.origin {
            Origin::Match(family, event) => shard_of(plan, family, event),
            Origin::Group(shard) => shard,
        };
        // Shards that are ahead in a replay hold groups that came later: no reason to refuse these.
        let bounds = if self.done.is_empty() { self.options.bounds() } else { Bounds::NONE };
        let applied = self.store.apply(index, &plan.specs, &bounds, key, what, shard);
        let Some(Applied { group, change, before }) = applied else {
            return self.refuse(index, what.time);
        };
        let rule = &plan.rules.correlations[index];
        self.report_ended(index, rule, group, before, out);
        let first = change.episode && self.report_grown(index, rule, group, signal, out);
        if change.holds && !plan.targets(RuleRef::Correlation(index)).is_empty() {
            let Some(group) = self.store.get(index, group) else { return };
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

    fn refuse(&mut self, index: usize, time: Timestamp) {
        *self.counts.overflow.entry(index).or_default() += 1;
        let reported = self.overflow_at.get(&index);
        if reported.is_none_or(|t| time.since(*t) >= OVERFLOW_REPORT_MICROS) {
            self.overflow_at.insert(index, time);
            let held = &self.store.all()[index];
            let (groups, bytes) = (held.len(), held.bytes());
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
        let changed = self.store.episode(index, number, |episode| {
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
        let Some(group) = self.store.get(index, number) else { return first };
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
        let Some(group) = self.store.get(index, number) else { return };
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
        while let Some((due, group)) = self.store.end_before(time, &plan.specs) {
            self.end(plan, &due, group, out);
        }
    }

    fn end(&mut self, plan: &Plan, due: &Due, group: Group, out: &mut Vec<Finding>) {
        let index = due.rule as usize;
        let rule = &plan.rules.correlations[index];
        let Group { key, mut window, shard, .. } = group;
        if let Some(episode) = window.episode().filter(|e| e.reported < e.revision)
            && matches!(self.updates(rule), Updates::Every(_))
        {
            let mut episode = episode.clone();
            episode.reported = episode.revision;
            out.push(self.finding(index, &key, episode, None));
        }
        let spec = &plan.specs[index];
        let Some(mut episode) = window.close(&spec.kind, spec.timespan) else { return };
        episode.reported = episode.revision;
        let place = episode.evidence.latest().unwrap_or_default();
        let finding = self.finding(index, &key, episode, None);
        if !plan.targets(RuleRef::Correlation(index)).is_empty() {
            let values = values_above(rule, &key, &[]);
            let (time, at) = (due.deadline, &finding.trigger);
            let origin = Origin::Group(shard);
            let above = Signal { origin, time, at, place, values: &values, first: true };
            out.push(finding.clone());
            return self.spread(plan, index, &above, out);
        }
        out.push(finding);
    }
}

/// Why a signal cannot be counted or measured.
enum Unusable {
    Missing,
    NoNumber,
}

/// Writes the group that values belong to; false when they lack a group-by field.
fn group_of(
    rule: &CorrelationRule,
    input: usize,
    values: &[(Arc<str>, Arc<str>)],
    into: &mut Vec<u8>,
) -> bool {
    rule.inputs[input].group_fields.iter().all(|field| {
        let value = value_of(values, field.as_str());
        key::encode(value.map(|v| &**v), into);
        value.is_some() || rule.null_group
    })
}

/// What a signal is to a correlation; the group that it belongs to is written into `key`.
fn happening(
    rule: &CorrelationRule,
    input: usize,
    signal: &Signal<'_>,
    key: &mut Vec<u8>,
) -> Result<Happening, Unusable> {
    if !group_of(rule, input, signal.values, key) {
        return Err(Unusable::Missing);
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
