//! The keyed state of one partition of the correlation stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counts::FoldCounts;
use super::groups::Group;
use super::matches::named;
use super::packed::Key;
use super::plan::Plan;
use super::signal::{Feeds, Origin, Signal, SignalValues, Unusable, group_of, happening};
use super::state::{Kept, SHARDS, shard_of};
use super::store::{Applied, Bounds, Ended, Keyed, PREFETCHED, Store};
use super::waiting::{Order, Waiting, Waits};
use super::{Finding, Match, Overflow, PackedMatch};
use crate::ids::{Coordinate, RuleId};
use crate::limits::{
    GROUPS_MAX, OVERFLOW_REPORT_MICROS, PENDING_MATCHES_MAX, RULE_GROUPS_MAX, STATE_BYTES_MAX,
};
use crate::rule::{CorrelationRule, RuleRef, RuleSet};
use crate::time::Timestamp;
use crate::window::{Episode, Place, Places};

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

impl Offered {
    /// The match if it is late.
    pub fn late(self) -> Option<Match> {
        match self {
            Self::Taken => None,
            Self::Late(event) => Some(event),
        }
    }
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
    /// Where the key of a group or the values of a match are written; used again and again, as are those
    /// below.
    buffer: Vec<u8>,
    batch: Vec<Waits>,
    feeds: Feeds,
}

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
            buffer: Vec::new(),
            batch: Vec::new(),
            feeds: Feeds::default(),
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
    pub fn offer_again(&mut self, event: &Match) {
        if self.watermark.is_none_or(|w| event.time >= w)
            && let Some(packed) = self.pack(event.time, &event.rule, &event.family, &event.values)
        {
            self.wait(packed, &event.at);
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
        if let Some(behind) = self.behind(event.time) {
            self.counts.late(&event.at.topic, &event.rule, behind);
            return Offered::Late(event);
        }
        match self.pack(event.time, &event.rule, &event.family, &event.values) {
            Some(packed) => self.take_in(packed, &event.at, out),
            None => self.counts.unknown_rule += 1,
        }
        Offered::Taken
    }

    /// Takes a match of this process's rules, as [`offer`](Self::offer) does.
    pub fn offer_packed(
        &mut self,
        event: PackedMatch,
        at: &Coordinate,
        out: &mut Vec<Finding>,
    ) -> Offered {
        if let Some(behind) = self.behind(event.time) {
            let rule = &self.plan.rules.detections[event.rule as usize].header.id;
            self.counts.late(&at.topic, rule, behind);
            return Offered::Late(event.unpack(&self.plan.rules, at.clone()));
        }
        self.take_in(event, at, out);
        Offered::Taken
    }

    /// The match as [`offer_packed`](Self::offer_packed) takes it; `None` when its rule or family is not one
    /// of these.
    pub fn pack(
        &mut self,
        time: Timestamp,
        rule: &RuleId,
        family: &str,
        values: &[(Arc<str>, Arc<str>)],
    ) -> Option<PackedMatch> {
        self.plan.pack(time, (&rule.0, family), values, &mut self.buffer)
    }

    /// By how many microseconds a match of that time is late.
    fn behind(&self, time: Timestamp) -> Option<i64> {
        self.watermark.filter(|w| time < *w).map(|w| w.since(time))
    }

    fn wait(&mut self, event: PackedMatch, at: &Coordinate) {
        let at = self.places.place(at);
        let order = Order { places: &self.places, rules: &self.plan.order };
        self.waiting.push(Waits { at, event }, self.offset, &order);
    }

    fn take_in(&mut self, event: PackedMatch, at: &Coordinate, out: &mut Vec<Finding>) {
        self.wait(event, at);
        if self.waiting.len() > PENDING_MATCHES_MAX
            && let Some(earliest) = self.waiting.earliest()
        {
            // What comes before them from now on is late: windows never go back.
            let before = self.waiting.len();
            self.reach(earliest.plus(1));
            self.run(out);
            self.counts.released_early += (before - self.waiting.len()) as u64;
        }
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
        let (mut batch, mut feeds) =
            (std::mem::take(&mut self.batch), std::mem::take(&mut self.feeds));
        loop {
            let order = Order { places: &self.places, rules: &plan.order };
            let duplicates = &mut self.counts.duplicates;
            self.waiting.pop_before(watermark, PREFETCHED / 2, &order, duplicates, &mut batch);
            if batch.is_empty() {
                break;
            }
            feeds.prepare(&plan, &self.store, &batch);
            for (number, event) in batch.drain(..).enumerate() {
                self.run_timers_before(&plan, event.event.time, out);
                self.take(&plan, &event, (&feeds, number), out);
            }
        }
        (self.batch, self.feeds) = (batch, feeds);
        self.run_timers_before(&plan, watermark, out);
        if self.done.iter().all(|done| *done <= self.happened) {
            self.done.clear();
        }
    }

    /// Lets everything that waits happen, as if all sources had ended.
    pub fn finish(&mut self, out: &mut Vec<Finding>) {
        self.advance(Timestamp::MAX, out);
    }

    fn take(
        &mut self,
        plan: &Plan,
        Waits { at, event }: &Waits,
        (feeds, number): (&Feeds, usize),
        out: &mut Vec<Finding>,
    ) {
        if !self.done.is_empty() {
            let shard = usize::from(shard_of(plan, event));
            if self.done.get(shard).is_some_and(|done| Some(event.time) < *done) {
                return;
            }
        }
        let values = SignalValues::Packed(event.values());
        let (origin, time) = (Origin::Match(event), event.time);
        let signal = Signal { origin, time, place: *at, values, first: true };
        for feed in feeds.of(number) {
            self.happen(plan, (feed.rule, feed.input), feed.key, &signal, out);
        }
    }

    /// Gives a signal from below to a correlation.
    fn feed(
        &mut self,
        plan: &Plan,
        (index, input): (usize, usize),
        signal: &Signal<'_>,
        out: &mut Vec<Finding>,
    ) {
        if plan.counts[index] && !signal.first {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let is_whole = group_of(plan, (index, input), &signal.values, &mut buffer);
        let key = is_whole.then(|| self.store.keyed(index, &buffer));
        self.happen(plan, (index, input), key, signal, out);
        self.buffer = buffer;
    }

    /// Lets a signal reach the window of its group, and says what came of it.
    fn happen(
        &mut self,
        plan: &Plan,
        (index, input): (usize, usize),
        key: Option<Keyed<'_>>,
        signal: &Signal<'_>,
        out: &mut Vec<Finding>,
    ) {
        let found = key.ok_or(Unusable::Missing);
        let found = found.and_then(|key| Ok((key, happening(plan, (index, input), signal)?)));
        let (key, what) = match found {
            Ok(found) => found,
            Err(unusable) => return self.count_unusable(index, &unusable),
        };
        let shard = || match signal.origin {
            Origin::Match(event) => shard_of(plan, event),
            Origin::Group(shard) => shard,
        };
        // Shards that are ahead in a replay hold groups that came later: no reason to refuse these.
        let bounds = if self.done.is_empty() { self.options.bounds() } else { Bounds::NONE };
        let applied = self.store.apply(index, &plan.specs, &bounds, key, &what, shard);
        let Some(Applied { group, change, before }) = applied else {
            return self.refuse(index, what.time);
        };
        let rule = &plan.rules.correlations[index];
        self.report_ended(index, rule, group, before, out);
        let first = change.episode && self.report_grown(index, rule, group, signal, out);
        if change.holds && !plan.targets(RuleRef::Correlation(index)).is_empty() {
            let Some(group) = self.store.get(index, group) else { return };
            let values = values_above(plan, index, &group.key, &signal.values);
            let above = Signal { values: SignalValues::Named(&values), first, ..*signal };
            self.spread(plan, index, &above, out);
        }
    }

    fn count_unusable(&mut self, index: usize, unusable: &Unusable) {
        let counts = match unusable {
            Unusable::Missing => &mut self.counts.missing_field,
            Unusable::NoNumber => &mut self.counts.no_number,
        };
        *counts.entry(index).or_default() += 1;
    }

    /// Gives a signal to every correlation that this one feeds.
    fn spread(&mut self, plan: &Plan, from: usize, signal: &Signal<'_>, out: &mut Vec<Finding>) {
        for target in plan.targets(RuleRef::Correlation(from)) {
            self.feed(plan, (target.rule, target.input), signal, out);
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
        let trigger = self.places.coordinate(signal.place);
        out.push(self.finding(index, &group.key, episode, trigger));
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
        trigger: Option<Coordinate>,
    ) -> Finding {
        let evidence: Vec<Coordinate> =
            episode.evidence.places().filter_map(|p| self.places.coordinate(p)).collect();
        let unknown = || Coordinate { topic: "".into(), partition: -1, offset: -1 };
        let trigger = trigger.or_else(|| evidence.last().cloned()).unwrap_or_else(unknown);
        Finding { rule, group: key.group(), episode, evidence, trigger }
    }

    /// Ends every group whose deadline lies before `time`.
    fn run_timers_before(&mut self, plan: &Plan, time: Timestamp, out: &mut Vec<Finding>) {
        while let Some(ended) = self.store.end_before(time, &plan.specs) {
            self.end(plan, ended, out);
        }
    }

    fn end(&mut self, plan: &Plan, ended: Ended, out: &mut Vec<Finding>) {
        let Ended { due, group: Group { key, mut window }, shard } = ended;
        let index = due.rule as usize;
        let rule = &plan.rules.correlations[index];
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
        let place = episode.evidence.latest().unwrap_or(Place::UNKNOWN);
        let finding = self.finding(index, &key, episode, None);
        if !plan.targets(RuleRef::Correlation(index)).is_empty() {
            let named = values_above(plan, index, &key, &SignalValues::Named(&[]));
            let (time, values) = (due.deadline, SignalValues::Named(&named));
            let origin = Origin::Group(shard);
            let above = Signal { origin, time, place, values, first: true };
            out.push(finding);
            return self.spread(plan, index, &above, out);
        }
        out.push(finding);
    }
}

/// What correlations above can group by: the group of the finding, then the fields of its trigger.
fn values_above(
    plan: &Plan,
    index: usize,
    key: &Key,
    trigger: &SignalValues<'_>,
) -> Vec<(Arc<str>, Arc<str>)> {
    let rule = &plan.rules.correlations[index];
    let names = rule.group_by.iter().map(|f| Arc::<str>::from(f.as_str()));
    let own = names.zip(key.group().0).filter_map(|(name, value)| Some((name, value?)));
    let trigger = match trigger {
        SignalValues::Packed(values) => named(&plan.rules.families[rule.family].names, values),
        SignalValues::Named(values) => values.to_vec(),
    };
    own.chain(trigger).collect()
}
