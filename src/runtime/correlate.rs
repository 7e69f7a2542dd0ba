//! The second stage at work: matches → alerts.
//!
//! Its state is a fold of its partition of the matches topic. It is rebuilt the simple way: by reading
//! the partition from its start again, with the outputs before the group's position left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stopwatch;
use super::shared::{Shared, Unreported};
use super::stage::{Assigned, Run, Stage};
use crate::alert::{self, Gap};
use crate::bus::{BusError, Outbox, Place, Record, Stats};
use crate::config::{Config, Start};
use crate::correlate::{FoldCounts, FoldOptions, Updates};
use crate::decode::{Reject, RejectCode};
use crate::ids::Coordinate;
use crate::pipeline::{Correlate, CorrelateOutput, Message, Rejected};
use crate::sink::{send_alert, send_late, send_reject};
use crate::time::Timestamp;

struct PartitionState {
    correlate: Correlate,
    counted: FoldCounts,
    /// Whether records are new, not read again to rebuild state.
    live: bool,
}

/// The second stage of one worker.
pub struct CorrelateStage {
    shared: Arc<Shared>,
    number: usize,
    partitions: BTreeMap<Place, PartitionState>,
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
            output: CorrelateOutput::default(),
            restore: None,
            unreported: Unreported::default(),
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
        metrics.events_late.add([topic], late.count - old.count);
        for ((behind, n), (_, old)) in late.named().zip(old.named()).filter(|(n, o)| n.1 > o.1) {
            metrics.late_matches.add([topic, &rule.0, behind], n - old);
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

    fn assign(&mut self, partition: &Assigned, out: &mut impl Outbox) -> Result<i64, BusError> {
        if let Some((from, to)) = partition.beginning.lost {
            let gap = Gap {
                topic: partition.place.0.to_string(),
                partition: partition.place.1,
                from,
                to,
                detected_by: "assignment",
                time: self.shared.now(),
            };
            send_alert(out, &self.shared.topics.alerts, &alert::of_gap(&gap))?;
            self.unreported.gap(gap);
        }
        let options = fold_options(&self.shared.config);
        let correlate = Correlate::new(Arc::clone(&self.shared.rules), options);
        let state = PartitionState { correlate, counted: FoldCounts::default(), live: false };
        self.partitions.insert(partition.place.clone(), state);
        self.restore.get_or_insert_with(Stopwatch::start);
        Ok(partition.bounds.offset_low)
    }

    fn revoke(&mut self, place: &Place) {
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

    fn tick(&mut self, _now: Timestamp, _out: &mut impl Outbox) -> Result<(), BusError> {
        self.publish_counts();
        Ok(())
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
