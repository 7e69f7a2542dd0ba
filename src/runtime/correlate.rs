//! The second stage at work: matches → alerts.
//!
//! Its state is a fold of its partition of the matches topic. It is rebuilt the simple way: by reading
//! the partition from its start again, with the outputs before the group's position left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stopwatch;
use super::shared::{Shared, Unreported};
use super::worker::{Assigned, Place, Run, Stage, WorkerError};
use crate::alert::{self, Alert, Gap};
use crate::config::Start;
use crate::correlate::FoldCounts;
use crate::decode::{Reject, RejectCode};
use crate::ids::Coordinate;
use crate::kafka::{PartitionStats, Transactional};
use crate::pipeline::{Correlate, Message, Rejected};
use crate::sink::{send_alert, send_reject};
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
    alerts: Vec<Alert>,
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
            alerts: Vec::new(),
            restore: None,
            unreported: Unreported::default(),
        }
    }

    /// Publishes what the folds counted since the last time.
    fn publish_counts(&mut self) {
        let metrics = &self.shared.metrics;
        let rules = &self.shared.rules;
        let mut groups = 0;
        for state in self.partitions.values_mut() {
            groups += state.correlate.fold().groups();
            let now = state.correlate.fold().counts();
            if !state.live || *now == state.counted {
                continue;
            }
            for (topic, n) in &now.late {
                let before = state.counted.late.get(topic).copied().unwrap_or(0);
                metrics.events_late.add([topic], n - before);
            }
            let dropped = [
                ("missing_field", &now.missing_field, &state.counted.missing_field),
                ("overflow", &now.overflow, &state.counted.overflow),
            ];
            for (reason, now, before) in dropped {
                for (rule, n) in now {
                    let before = before.get(rule).copied().unwrap_or(0);
                    let id = &rules.correlations[*rule].header.id.0;
                    metrics.correlation_dropped.add([id, reason], n - before);
                }
            }
            let unknown = now.unknown_rule - state.counted.unknown_rule;
            metrics.correlation_dropped.add(["other", "unknown_rule"], unknown);
            let early = now.released_early - state.counted.released_early;
            metrics.correlation_dropped.add(["other", "released_early"], early);
            state.counted = now.clone();
        }
        self.shared.set_state_keys(self.number, groups);
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

    fn assign(
        &mut self,
        partition: &Assigned,
        out: &mut Transactional,
    ) -> Result<i64, WorkerError> {
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
        let correlate = Correlate::new(Arc::clone(&self.shared.rules));
        let state = PartitionState { correlate, counted: FoldCounts::default(), live: false };
        self.partitions.insert(partition.place.clone(), state);
        self.restore.get_or_insert_with(Stopwatch::start);
        Ok(partition.bounds.offset_low)
    }

    fn revoke(&mut self, place: &Place) {
        self.partitions.remove(place);
    }

    fn run(&mut self, run: Run<'_>, out: &mut Transactional) -> Result<usize, WorkerError> {
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
                Ok(record) => state.correlate.record(record, &mut self.alerts),
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
            for alert in self.alerts.drain(..).filter(|_| !run.restoring) {
                send_alert(out, &self.shared.topics.alerts, &alert)?;
                self.unreported.alert(&alert);
            }
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        Ok(taken)
    }

    fn observe(&mut self, stats: &BTreeMap<Place, PartitionStats>, next: &BTreeMap<Place, i64>) {
        for (place, at) in next {
            if let Some(stats) = stats.get(place) {
                self.shared.report_partition(place, stats, *at, None, None);
            }
        }
    }

    fn tick(&mut self, _now: Timestamp, _out: &mut Transactional) -> Result<(), WorkerError> {
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
