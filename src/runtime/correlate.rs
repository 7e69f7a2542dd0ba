//! The second stage at work: matches → alerts.
//!
//! Its state is a fold of its partition of the matches topic. What has changed of it is written, a shard
//! after the other, to the partition of `<app>.state` with the same number, in the epoch's transaction. The
//! next owner reads that, then the matches from where it stands, with the outputs before the group's
//! position left out. Nothing kept, or nothing that can be used: then from the start of the matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stopwatch;
use super::shared::{Shared, Unreported};
use super::stage::{Assigned, Entry, Run, Stage};
use crate::alert::{self, Gap};
use crate::bus::{BusError, Outbox, Outgoing, Place, Record, Stats};
use crate::config::{Config, Start};
use crate::correlate::{FoldCounts, FoldOptions, Restore, Restored, SHARDS, Updates};
use crate::decode::{Reject, RejectCode};
use crate::ids::Coordinate;
use crate::limits::LEAVE_GROUPS_MAX;
use crate::pipeline::{Correlate, CorrelateOutput, Message, Rejected};
use crate::sink::{send_alert, send_late, send_reject};
use crate::time::Timestamp;

struct PartitionState {
    correlate: Correlate,
    counted: FoldCounts,
    /// Whether records are new, not read again to rebuild state.
    live: bool,
    /// The record that comes next.
    next: i64,
    /// The shard whose turn it is to be written, and since when.
    turn: u8,
    turn_since: Option<Timestamp>,
    /// How many shards were written since the last record came; all of them is enough.
    written: u8,
}

impl PartitionState {
    fn new(correlate: Correlate, next: i64) -> Self {
        let counted = FoldCounts::default();
        let (turn, turn_since, written) = (0, None, 0);
        Self { correlate, counted, live: false, next, turn, turn_since, written }
    }

    /// How many shards are due, when each has its turn once in `interval`.
    fn due(&mut self, now: Timestamp, interval: i64) -> u8 {
        let since = *self.turn_since.get_or_insert(now);
        let turn = (interval / i64::from(SHARDS)).max(1);
        let turns = now.since(since) / turn;
        // When the clock was set, or the machine slept, it begins anew.
        let is_usual = (0..=i64::from(SHARDS)).contains(&turns);
        self.turn_since = Some(if is_usual { since.plus(turns * turn) } else { now });
        let due = turns.clamp(0, i64::from(SHARDS)) as u8;
        if self.live { due.min(SHARDS - self.written) } else { 0 }
    }
}

/// The second stage of one worker.
pub struct CorrelateStage {
    shared: Arc<Shared>,
    number: usize,
    partitions: BTreeMap<Place, PartitionState>,
    /// What is being read of the state that was kept.
    restoring: BTreeMap<Place, Restore>,
    output: CorrelateOutput,
    restore: Option<Stopwatch>,
    unreported: Unreported,
}

impl CorrelateStage {
    /// For worker `number`.
    pub fn new(shared: &Arc<Shared>, number: usize) -> Self {
        Self {
            shared: Arc::clone(shared),
            number,
            partitions: BTreeMap::new(),
            restoring: BTreeMap::new(),
            output: CorrelateOutput::default(),
            restore: None,
            unreported: Unreported::default(),
        }
    }

    fn report_gap(
        &mut self,
        (topic, partition): &Place,
        (from, to): (i64, i64),
        detected_by: &'static str,
        out: &mut impl Outbox,
    ) -> Result<(), BusError> {
        let (topic, partition, time) = (topic.to_string(), *partition, self.shared.now());
        let gap = Gap { topic, partition, from, to, detected_by, time };
        send_alert(out, &self.shared.topics.alerts, &alert::of_gap(&gap))?;
        self.unreported.gap(gap);
        Ok(())
    }

    /// Publishes how long correlations that were begun anew still lack a part of their timespan.
    fn publish_warming(&self) {
        let rules = &self.shared.rules.correlations;
        for (index, rule) in rules.iter().enumerate() {
            let left = |state: &PartitionState| {
                let fold = state.correlate.fold();
                let (since, now) = (fold.since()[index]?, fold.happened()?);
                Some(since.plus(rule.timespan_micros).since(now).max(0))
            };
            if let Some(left) = self.partitions.values().filter_map(left).max() {
                let id = &rule.header.id.0;
                self.shared.metrics.rule_warming_seconds.set([id], left as f64 / 1e6);
                self.shared.shown.set_warming(id, left.cast_unsigned().div_ceil(1_000_000));
            }
        }
    }

    /// Publishes what the folds counted since the last time.
    fn publish_counts(&mut self) {
        let mut used = vec![(0, 0); self.shared.rules.correlations.len()];
        for state in self.partitions.values_mut() {
            let fold = state.correlate.fold();
            for (sum, one) in used.iter_mut().zip(fold.usage()) {
                *sum = (sum.0 + one.0, sum.1 + one.1);
            }
            if state.live && *fold.counts() != state.counted {
                publish(&self.shared, fold.counts(), &state.counted);
                state.counted = fold.counts().clone();
            }
        }
        self.shared.set_state(self.number, used);
        let limit = self.shared.config.correlation.state_bytes_max;
        self.shared.metrics.state_limit_bytes.set([], limit as f64);
    }
}

/// Adds to the metrics what a fold counted since `before`.
fn publish(shared: &Shared, now: &FoldCounts, before: &FoldCounts) {
    let metrics = &shared.metrics;
    for ((topic, rule), late) in &now.late {
        let old = before.late.get(&(Arc::clone(topic), rule.clone())).copied().unwrap_or_default();
        let since = late.since(&old);
        if since.count > 0 {
            metrics.events_late.add([topic], since.count);
            metrics.lateness().add(topic, &rule.0, &since);
        }
    }
    let dropped = [
        ("missing_field", &now.missing_field, &before.missing_field),
        ("no_number", &now.no_number, &before.no_number),
        ("overflow", &now.overflow, &before.overflow),
    ];
    for (reason, now, before) in dropped {
        for (rule, n) in now {
            let before = before.get(rule).copied().unwrap_or(0);
            let id = &shared.rules.correlations[*rule].header.id.0;
            metrics.correlation_dropped.add([id, reason], n - before);
        }
    }
    let others = [
        ("unknown_rule", now.unknown_rule - before.unknown_rule),
        ("released_early", now.released_early - before.released_early),
        ("duplicate", now.duplicates - before.duplicates),
    ];
    for (reason, n) in others {
        metrics.correlation_dropped.add(["other", reason], n);
    }
}

/// Writes the next few shards of a partition's state, in the epoch at hand.
fn write_shards(
    shared: &Shared,
    (_, partition): &Place,
    state: &mut PartitionState,
    count: u8,
    out: &mut impl Outbox,
) -> Result<(), BusError> {
    let (mut records, mut bytes, mut sent) = (0, 0, Ok(()));
    for _ in 0..count {
        state.correlate.write(state.turn, state.next, &mut |record| {
            (records, bytes) = (records + 1, bytes + record.bytes() as u64);
            if sent.is_ok() {
                sent = out.send(Outgoing {
                    topic: &shared.topics.state,
                    partition: Some(*partition),
                    key: &record.key,
                    payload: record.value.as_deref(),
                    headers: &[],
                });
            }
        });
        state.turn = (state.turn + 1) % SHARDS;
        state.written += 1;
    }
    shared.metrics.changelog_records.add([], records);
    shared.metrics.changelog_bytes.add([], bytes);
    Ok(sent?)
}

/// How folds run, by the configuration: the same for every partition, wherever it is.
fn fold_options(config: &Config) -> FoldOptions {
    let correlation = &config.correlation;
    let updates = match correlation.update_interval.0 {
        0 => Updates::None,
        micros => Updates::Every(micros),
    };
    FoldOptions {
        updates,
        rule_groups_max: correlation.rule_groups_max,
        bytes_max: correlation.state_bytes_max,
        is_kept: true,
        ..FoldOptions::default()
    }
}

impl Stage for CorrelateStage {
    const NAME: &'static str = "correlate";

    fn topics(&self) -> Vec<String> {
        vec![self.shared.topics.matches.clone()]
    }

    fn start(&self, _topic: &str) -> Start {
        Start::Earliest
    }

    fn keeps_state_in(&self) -> Option<&str> {
        Some(&self.shared.topics.state)
    }

    fn assign(&mut self, partition: &Assigned, _out: &mut impl Outbox) -> Result<(), BusError> {
        let options = fold_options(&self.shared.config);
        let kept = Restore::new(Arc::clone(&self.shared.rules), options);
        self.restoring.insert(partition.place.clone(), kept);
        self.restore.get_or_insert_with(Stopwatch::start);
        Ok(())
    }

    fn kept(&mut self, place: &Place, key: &[u8], value: Option<&[u8]>) {
        if let Some(kept) = self.restoring.get_mut(place) {
            kept.record(key, value);
        }
    }

    fn enter(&mut self, partition: &Assigned, out: &mut impl Outbox) -> Result<Entry, BusError> {
        let Assigned { place, committed, beginning, bounds } = partition;
        let Some(kept) = self.restoring.remove(place) else { return Err(BusError::Lost) };
        // Here, not when it was assigned: the position that goes with it is committed from now on.
        if let Some(lost) = beginning.lost {
            self.report_gap(place, lost, "assignment", out)?;
        }
        let known = committed.map(|_| beginning.offset);
        let Restored { fold, replay, wrong } = kept.finish(known, bounds.offset_high);
        let outcome = match (&wrong, &replay) {
            (Some(_), _) => "unusable",
            (None, Some(_)) => "kept",
            (None, None) => "nothing",
        };
        self.shared.metrics.restores.add([outcome], 1);
        if let Some(wrong) = wrong {
            let (topic, number) = (&*self.shared.topics.state, place.1);
            tracing::error!(topic, partition = number, %wrong, "state is rebuilt from the matches");
        }
        let mut entry = Entry { from: bounds.offset_low, published: beginning.offset };
        if let Some(replay) = &replay {
            entry.from = replay.from.max(bounds.offset_low);
            tracing::info!(
                topic = &*place.0,
                partition = place.1,
                from = entry.from,
                oldest = replay.at.next,
                latest = replay.latest,
                "state as it was kept; reading on"
            );
            if committed.is_none() {
                // Positions of groups expire; what was kept knows better than to begin anew.
                entry.published = replay.latest;
                tracing::error!(
                    topic = &*place.0,
                    partition = place.1,
                    offset = replay.latest,
                    "the group has no position any more: going on where state was written last"
                );
            }
            if replay.from < bounds.offset_low {
                let lost = (replay.from, bounds.offset_low);
                self.report_gap(place, lost, "restore", out)?;
            }
        }
        let rules = Arc::clone(&self.shared.rules);
        let correlate = Correlate::restore(rules, fold, replay.as_ref());
        self.partitions.insert(place.clone(), PartitionState::new(correlate, entry.from));
        Ok(entry)
    }

    fn leave(&mut self, places: &[Place], out: &mut impl Outbox) -> Result<(), BusError> {
        for place in places {
            let Some(state) = self.partitions.get_mut(place) else { continue };
            if state.live && state.correlate.fold().unwritten() <= LEAVE_GROUPS_MAX {
                write_shards(&self.shared, place, state, SHARDS - state.written, out)?;
            }
        }
        Ok(())
    }

    fn revoke(&mut self, place: &Place) {
        self.restoring.remove(place);
        self.partitions.remove(place);
    }

    fn run<R: Record>(
        &mut self,
        run: Run<'_, R>,
        out: &mut impl Outbox,
    ) -> Result<usize, BusError> {
        let Some(state) = self.partitions.get_mut(run.place) else { return Ok(run.records.len()) };
        if !run.restoring && !state.live {
            // What was counted while state was rebuilt had been counted before.
            state.live = true;
            state.counted = state.correlate.fold().counts().clone();
        }
        let (topic, partition) = run.place;
        let mut taken = 0;
        for message in run.records {
            match Message::decode(message.payload().unwrap_or_default()) {
                Ok(record) => state.correlate.record(message.offset(), record, &mut self.output),
                Err(e) if !run.restoring => {
                    let (topic, offset) = (Arc::clone(topic), message.offset());
                    let at = Coordinate { topic, partition: *partition, offset };
                    let reject = Reject { code: RejectCode::InvalidJson, detail: e.to_string() };
                    let payload = message.payload().map(<[u8]>::to_vec);
                    let rejected = Rejected { at, reject, payload };
                    send_reject(out, &self.shared.topics.dead_letters, &rejected)?;
                    let reason = rejected.reject.code.as_str();
                    self.shared.metrics.dead_letters.add([run.place.0.as_ref(), reason], 1);
                }
                Err(_) => {}
            }
            for alert in self.output.alerts.drain(..).filter(|_| !run.restoring) {
                send_alert(out, &self.shared.topics.alerts, &alert)?;
                self.unreported.alert(&alert);
            }
            for event in self.output.late.drain(..).filter(|_| !run.restoring) {
                send_late(out, &self.shared.topics.late, &event)?;
            }
            taken += 1;
            (state.next, state.written) = (message.offset() + 1, 0);
            if out.is_full() {
                break;
            }
        }
        Ok(taken)
    }

    fn observe(&mut self, stats: &Stats, next: &BTreeMap<Place, i64>) {
        for (place, at) in next {
            if let Some(stats) = stats.get(place) {
                self.shared.report_partition(place, stats, *at, None, None);
            }
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut impl Outbox) -> Result<(), BusError> {
        self.publish_counts();
        let interval = self.shared.config.correlation.snapshot_interval.0;
        let mut all = 0;
        for (place, state) in &mut self.partitions {
            let due = state.due(now, interval);
            write_shards(&self.shared, place, state, due, out)?;
            all += due;
        }
        if all > 0 {
            self.publish_warming();
        }
        Ok(())
    }

    fn sealed(&mut self) {
        self.unreported.seal();
    }

    fn committed(&mut self) {
        self.unreported.report(&self.shared);
    }

    fn aborted(&mut self) {
        self.unreported = Unreported::default();
    }

    fn ready(&mut self, restoring: usize) {
        if restoring == 0
            && let Some(clock) = self.restore.take()
        {
            self.shared.metrics.restore_seconds.set([], clock.elapsed().as_secs_f64());
        }
        let name = format!("correlate-{}", self.number);
        let what = match restoring {
            0 => format!("{} partitions", self.partitions.len()),
            n => format!("{n} of {} partitions are being restored", self.partitions.len()),
        };
        self.shared.health.set_check(&name, restoring == 0, what);
    }
}
