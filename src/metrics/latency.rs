//! Latency of transactions: recorded by workers without a lock, read by the scrape.
//!
//! 1. Each worker owns a [`LatencyRecorder`]; `record` is a plain HDR record of about 4 ns.
//! 2. Once a batch it calls `publish`, which adds its counts to the stage's shared histogram.
//! 3. The scrape derives the classic buckets and p50/p99/max from the same counts, so a Grafana panel over
//!    buckets and the console never tell different stories.
//!
//! Values have two significant digits (1 %), so a value within 1 % of a bucket's bound may count below it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram as Hdr;
use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::catalogue::{TRANSACTION_MAX, TRANSACTION_P50, TRANSACTION_P99, TRANSACTION_SECONDS};
use super::family::BUCKETS_SECONDS;
use super::{MetricKind, MetricSpec, MetricsError};

/// Longest latency told apart, in µs: ten minutes, twice the longest transaction timeout.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Significant digits kept: 26 KiB a histogram; three would cost 160 KiB of each worker's cache.
const SIGNIFICANT_DIGITS: u8 = 2;

/// The merged counts of one stage.
#[derive(Debug)]
struct Merged {
    counts: Hdr<u64>,
    sum_us: u64,
}

type Shared = Arc<Mutex<Merged>>;

/// One worker's latencies of one stage. Not shared: each worker asks for its own.
#[derive(Debug)]
pub struct LatencyRecorder {
    local: Hdr<u64>,
    sum_us: u64,
    shared: Shared,
}

impl LatencyRecorder {
    /// Records one duration; longer ones than ten minutes count as ten minutes.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(LATENCY_US_MAX).min(LATENCY_US_MAX);
        self.local.saturating_record(us);
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Adds what was recorded since the last call to the shared counts and empties the own ones.
    pub fn publish(&mut self) {
        if self.local.is_empty() {
            return;
        }
        let mut merged = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Both have the same bounds; recording slot by slot needs no error that could lose counts.
        for slot in self.local.iter_recorded() {
            merged.counts.saturating_record_n(slot.value_iterated_to(), slot.count_at_value());
        }
        merged.sum_us = merged.sum_us.saturating_add(self.sum_us);
        drop(merged);
        self.local.reset();
        self.sum_us = 0;
    }
}

impl Drop for LatencyRecorder {
    fn drop(&mut self) {
        self.publish();
    }
}

/// The stages and their merged counts; registered as one collector.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    empty: Hdr<u64>,
    stages: Arc<Mutex<BTreeMap<&'static str, Shared>>>,
    descs: Vec<Desc>,
}

impl Latencies {
    pub(super) fn new() -> Result<Self, MetricsError> {
        let empty = Hdr::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)
            .map_err(|source| MetricsError::Histogram { us_max: LATENCY_US_MAX, source })?;
        let specs = [TRANSACTION_SECONDS, TRANSACTION_P50, TRANSACTION_P99, TRANSACTION_MAX];
        let descs = specs.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Latencies { empty, stages: Arc::default(), descs })
    }

    pub(super) fn recorder(&self, stage: &'static str) -> LatencyRecorder {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = stages.entry(stage).or_insert_with(|| {
            Arc::new(Mutex::new(Merged { counts: self.empty.clone(), sum_us: 0 }))
        });
        LatencyRecorder { local: self.empty.clone(), sum_us: 0, shared: Arc::clone(shared) }
    }

    /// Copies the counts out, so that no worker waits for the encoding.
    fn snapshot(&self) -> Vec<(&'static str, Hdr<u64>, u64)> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = |(stage, shared): (&&'static str, &Shared)| {
            let merged = shared.lock().unwrap_or_else(PoisonError::into_inner);
            (*stage, merged.counts.clone(), merged.sum_us)
        };
        stages.iter().map(copy).collect()
    }
}

impl Collector for Latencies {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut buckets = Vec::new();
        let mut gauges =
            [(TRANSACTION_P50, vec![]), (TRANSACTION_P99, vec![]), (TRANSACTION_MAX, vec![])];
        for (stage, counts, sum_us) in self.snapshot() {
            buckets.push(classic(stage, &counts, sum_us));
            let values =
                [counts.value_at_quantile(0.5), counts.value_at_quantile(0.99), counts.max()];
            for ((_, series), us) in gauges.iter_mut().zip(values) {
                series.push(gauge(stage, seconds(us)));
            }
        }
        let mut families = vec![family(&TRANSACTION_SECONDS, buckets)];
        families.extend(gauges.into_iter().map(|(spec, series)| family(&spec, series)));
        families
    }
}

pub(super) fn describe(spec: &MetricSpec) -> Result<Desc, MetricsError> {
    let labels = spec.labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(spec.name.to_owned(), spec.help.to_owned(), labels, Default::default())
        .map_err(|source| MetricsError::Register { name: spec.name, source })
}

pub(super) fn family(spec: &MetricSpec, series: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(spec.name.to_owned());
    family.set_help(spec.help.to_owned());
    family.set_field_type(match spec.kind {
        MetricKind::Counter => proto::MetricType::COUNTER,
        MetricKind::Gauge => proto::MetricType::GAUGE,
        MetricKind::Histogram => proto::MetricType::HISTOGRAM,
    });
    family.set_metric(series);
    family
}

fn classic(stage: &str, counts: &Hdr<u64>, sum_us: u64) -> proto::Metric {
    let bucket = |bound: &f64| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(counts.count_between(0, (bound * 1e6).round() as u64));
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(BUCKETS_SECONDS.iter().map(bucket).collect());
    histogram.set_sample_count(counts.len());
    histogram.set_sample_sum(seconds(sum_us));
    let mut metric = proto::Metric::from_label(vec![label("stage", stage)]);
    metric.set_histogram(histogram);
    metric
}

fn gauge(stage: &str, value: f64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut metric = proto::Metric::from_label(vec![label("stage", stage)]);
    metric.set_gauge(gauge);
    metric
}

pub(super) fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut label = proto::LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_quantiles_come_from_the_merged_counts_of_all_workers() {
        let latencies = Latencies::new().unwrap();
        let (mut first, mut second) = (latencies.recorder("detect"), latencies.recorder("detect"));
        for ms in 1..=100 {
            let worker = if ms % 2 == 0 { &mut first } else { &mut second };
            worker.record(Duration::from_millis(ms));
        }
        assert!(latencies.snapshot()[0].1.is_empty(), "nothing is shared before publish");
        first.publish();
        first.publish();
        second.publish();

        let (_, counts, sum_us) = latencies.snapshot().remove(0);
        assert_eq!((counts.len(), sum_us), (100, 5_050_000));
        let metric = classic("detect", &counts, sum_us);
        let buckets = metric.get_histogram().get_bucket().iter();
        let buckets: Vec<u64> = buckets.map(proto::Bucket::cumulative_count).collect();
        assert_eq!(buckets[0..7], [1, 2, 5, 10, 25, 50, 100]);
        let p50 = counts.value_at_quantile(0.5);
        assert!((49_500..=50_500).contains(&p50), "p50 is {p50} µs");
    }

    #[test]
    fn dropping_a_recorder_publishes_what_it_still_holds() {
        let latencies = Latencies::new().unwrap();
        latencies.recorder("correlate").record(Duration::from_secs(9_999));
        let (_, counts, sum_us) = latencies.snapshot().remove(0);
        assert_eq!((counts.len(), sum_us), (1, LATENCY_US_MAX));
    }
}
