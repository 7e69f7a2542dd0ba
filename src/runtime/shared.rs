//! What all workers of a process share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::filter::SourceSpec;
use crate::alert::{Alert, Gap};
use crate::bus::{PartitionStats, Place};
use crate::config::Config;
use crate::http;
use crate::ids::RuleId;
use crate::metrics::Metrics;
use crate::rule::{Level, RuleSet};
use crate::time::{Clock, Timestamp};

/// Names of the service's own topics.
#[derive(Clone, Debug)]
pub struct OwnTopics {
    /// Alerts.
    pub alerts: String,
    /// Between the stages.
    pub matches: String,
    /// What could not be decoded or delivered.
    pub dead_letters: String,
    /// Matches that came too late for correlations.
    pub late: String,
    /// What is kept of the state of correlations.
    pub state: String,
}

/// What an epoch will have published once it is committed.
#[derive(Default)]
pub struct Unreported {
    open: Published,
    /// Of the epoch that is being committed.
    sealed: Published,
}

#[derive(Default)]
struct Published {
    gaps: Vec<Gap>,
    alerts: BTreeMap<(Level, RuleId), u64>,
    updates: BTreeMap<Level, u64>,
}

impl Unreported {
    /// Notes an alert that was sent, for the first time or again.
    pub fn alert(&mut self, alert: &Alert) {
        if alert.revision > 1 {
            *self.open.updates.entry(alert.level).or_default() += 1;
            return;
        }
        *self.open.alerts.entry((alert.level, alert.rule.clone())).or_default() += 1;
    }

    /// Notes a loss whose alert was sent.
    pub fn gap(&mut self, gap: Gap) {
        self.open.gaps.push(gap);
    }

    /// The epoch is over; its commit has begun.
    pub fn seal(&mut self) {
        self.sealed = std::mem::take(&mut self.open);
    }

    /// The sealed epoch is committed: counts and reports all of it.
    pub fn report(&mut self, shared: &Shared) {
        let Published { gaps, alerts, updates } = std::mem::take(&mut self.sealed);
        for ((level, rule), n) in alerts {
            shared.metrics.alerts.add([level.as_str()], n);
            shared.metrics.rule_alerts.add([&rule.0], n);
        }
        for (level, n) in updates {
            shared.metrics.alert_updates.add([level.as_str()], n);
        }
        gaps.iter().for_each(|gap| shared.report_gap(gap));
    }
}

/// What all workers share; everything in it is safe to use from any thread.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The rules that run.
    pub rules: Arc<RuleSet>,
    /// The sources that are read.
    pub sources: Vec<SourceSpec>,
    /// Names of the service's own topics.
    pub topics: OwnTopics,
    /// Partitions of the topic between the stages.
    pub matches_partitions: i32,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Checks and losses.
    pub health: Arc<http::Health>,
    /// The rules as the API shows them.
    pub shown: Arc<http::Rules>,
    /// The time of day.
    pub clock: Box<dyn Clock>,
    /// Set when the process is to end.
    pub stop: AtomicBool,
    partition_counts: Mutex<BTreeMap<Arc<str>, i32>>,
    /// Groups and bytes held by each worker of the second stage, by correlation.
    state: DashMap<usize, Vec<(usize, usize)>>,
    fatal: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        rules: Arc<RuleSet>,
        sources: Vec<SourceSpec>,
        matches_partitions: i32,
        metrics: Arc<Metrics>,
        health: Arc<http::Health>,
        clock: Box<dyn Clock>,
    ) -> Self {
        let topics = OwnTopics {
            alerts: config.alerts_topic(),
            matches: config.matches_topic(),
            dead_letters: config.dead_letters_topic(),
            late: config.late_topic(),
            state: config.state_topic(),
        };
        Self {
            config,
            rules,
            sources,
            topics,
            matches_partitions,
            metrics,
            health,
            shown: Arc::new(http::Rules::new(Vec::new())),
            clock,
            stop: AtomicBool::new(false),
            partition_counts: Mutex::default(),
            state: DashMap::new(),
            fatal: Mutex::default(),
        }
    }

    /// Now, by the wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many partitions each source topic has.
    pub fn partition_counts(&self) -> Vec<(Arc<str>, i32)> {
        lock(&self.partition_counts).iter().map(|(t, n)| (Arc::clone(t), *n)).collect()
    }

    /// Takes how many partitions a source topic has; it can only grow.
    pub fn set_partition_count(&self, topic: &Arc<str>, partitions: i32) {
        let mut counts = lock(&self.partition_counts);
        let known = counts.entry(Arc::clone(topic)).or_default();
        *known = (*known).max(partitions);
    }

    /// Takes how many groups and bytes a worker of the second stage holds, by correlation.
    pub fn set_state(&self, worker: usize, used: Vec<(usize, usize)>) {
        if self.state.get(&worker).is_some_and(|before| *before == used) {
            return;
        }
        self.state.insert(worker, used);
        let mut all = vec![(0, 0); self.rules.correlations.len()];
        for worker in &self.state {
            for (sum, used) in all.iter_mut().zip(worker.iter()) {
                *sum = (sum.0 + used.0, sum.1 + used.1);
            }
        }
        let metrics = &self.metrics;
        for (rule, (groups, bytes)) in self.rules.correlations.iter().zip(&all) {
            metrics.rule_state_keys.set([&rule.header.id.0], *groups as f64);
            metrics.rule_state_bytes.set([&rule.header.id.0], *bytes as f64);
        }
        metrics.state_keys.set([], all.iter().map(|(groups, _)| groups).sum::<usize>() as f64);
        metrics.state_bytes.set([], all.iter().map(|(_, bytes)| bytes).sum::<usize>() as f64);
    }

    /// Makes a loss known to metrics, health and the log.
    fn report_gap(&self, gap: &Gap) {
        let count = gap.count();
        tracing::error!(
            topic = gap.topic,
            partition = gap.partition,
            from = gap.from,
            to = gap.to,
            count,
            "records were deleted before they were read"
        );
        let labels = [&*gap.topic, &gap.partition.to_string()];
        self.metrics.events_lost.add(labels, count.max(0) as u64);
        self.health.report_gap(http::Gap {
            topic: gap.topic.clone(),
            partition: gap.partition,
            from: gap.from,
            to: gap.to,
            detected_by: gap.detected_by.to_owned(),
            time: gap.time.millis(),
        });
        self.metrics.gaps_open.set([], self.health.gap_count() as f64);
    }

    /// Publishes lag and headroom of a partition whose next offset is `next`. `written_at` is Kafka's
    /// time of the last record read: the next one was written no earlier, so the time left is at least
    /// what is said here.
    pub fn report_partition(
        &self,
        place: &Place,
        stats: &PartitionStats,
        next: i64,
        written_at: Option<Timestamp>,
        retention_ms: Option<i64>,
    ) {
        let labels = [&*place.0, &*place.1.to_string()];
        let read = stats.read_to_end(next).is_some();
        let lag = if read { 0 } else { (stats.offset_high - next).max(0) };
        let metrics = &self.metrics;
        metrics.consumer_lag.set(labels, lag as f64);
        metrics.retention_headroom_events.set(labels, (next - stats.offset_low).max(0) as f64);
        let seconds = match (lag, written_at, retention_ms) {
            (1.., Some(written), Some(retention)) => {
                let age = self.now().since(written) as f64 / 1e6;
                retention as f64 / 1e3 - age
            }
            _ => f64::INFINITY,
        };
        metrics.retention_headroom_seconds.set(labels, seconds);
    }

    /// Notes why the process cannot go on, and lets it end.
    pub fn fail(&self, why: String) {
        tracing::error!(why, "cannot go on");
        lock(&self.fatal).get_or_insert(why);
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Why the process cannot go on, if so.
    pub fn failure(&self) -> Option<String> {
        lock(&self.fatal).clone()
    }
}
