//! Metric families whose number of labels is part of their type.
//!
//! `prometheus` panics when the number of label values is wrong; here it is a compile error. These are for
//! the cold path: once a batch, once a request. Nothing here belongs into a loop over events.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::{MetricSpec, MetricsError};

/// Upper bounds of the classic buckets, in seconds: 1 ms to 60 s.
pub const BUCKETS_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// A counter with `N` labels.
#[derive(Debug, Clone)]
pub struct Counter<const N: usize>(IntCounterVec);

impl<const N: usize> Counter<N> {
    pub(super) fn register(registry: &Registry, spec: &MetricSpec) -> Result<Self, MetricsError> {
        let family = IntCounterVec::new(Opts::new(spec.name, spec.help), spec.labels)
            .and_then(|family| registry.register(Box::new(family.clone())).map(|()| family))
            .map_err(|source| MetricsError::Register { name: spec.name, source })?;
        if N == 0 {
            family.with_label_values::<&str>(&[]);
        }
        Ok(Counter(family))
    }

    /// Adds `n` to the series of `labels`.
    pub fn add(&self, labels: [&str; N], n: u64) {
        self.0.with_label_values(&labels).inc_by(n);
    }

    /// Reads the series of `labels`; it is created at 0 when it did not exist.
    pub fn get(&self, labels: [&str; N]) -> u64 {
        self.0.with_label_values(&labels).get()
    }

    #[cfg(test)]
    pub(super) fn touch(&self) {
        self.add(["x"; N], 1);
    }
}

/// A gauge with `N` labels.
#[derive(Debug, Clone)]
pub struct Gauge<const N: usize>(GaugeVec);

impl<const N: usize> Gauge<N> {
    pub(super) fn register(registry: &Registry, spec: &MetricSpec) -> Result<Self, MetricsError> {
        let family = GaugeVec::new(Opts::new(spec.name, spec.help), spec.labels)
            .and_then(|family| registry.register(Box::new(family.clone())).map(|()| family))
            .map_err(|source| MetricsError::Register { name: spec.name, source })?;
        if N == 0 {
            family.with_label_values::<&str>(&[]);
        }
        Ok(Gauge(family))
    }

    /// Sets the series of `labels`.
    pub fn set(&self, labels: [&str; N], value: f64) {
        self.0.with_label_values(&labels).set(value);
    }

    /// Adds to the value, which may be negative.
    pub fn add(&self, labels: [&str; N], value: f64) {
        self.0.with_label_values(&labels).add(value);
    }

    /// Reads the series of `labels`; it is created at 0 when it did not exist.
    pub fn get(&self, labels: [&str; N]) -> f64 {
        self.0.with_label_values(&labels).get()
    }

    /// Ends the series of `labels`, so that a revoked partition shows no stale value.
    pub fn remove(&self, labels: [&str; N]) {
        // The only error says that there was no such series, which is what is wanted.
        let _ = self.0.remove_label_values(&labels);
    }

    /// Ends all series, as before a new rule set is described.
    pub fn clear(&self) {
        self.0.reset();
    }

    #[cfg(test)]
    pub(super) fn touch(&self) {
        self.set(["x"; N], 1.0);
    }
}

/// A histogram with `N` labels over [`BUCKETS_SECONDS`].
#[derive(Debug, Clone)]
pub struct Histogram<const N: usize>(HistogramVec);

impl<const N: usize> Histogram<N> {
    pub(super) fn register(registry: &Registry, spec: &MetricSpec) -> Result<Self, MetricsError> {
        let opts = HistogramOpts::new(spec.name, spec.help).buckets(BUCKETS_SECONDS.to_vec());
        HistogramVec::new(opts, spec.labels)
            .and_then(|family| registry.register(Box::new(family.clone())).map(|()| family))
            .map(Histogram)
            .map_err(|source| MetricsError::Register { name: spec.name, source })
    }

    /// Counts one duration in the series of `labels`.
    pub fn observe(&self, labels: [&str; N], duration: Duration) {
        self.0.with_label_values(&labels).observe(duration.as_secs_f64());
    }

    /// Reads how many durations the series of `labels` holds.
    pub fn count(&self, labels: [&str; N]) -> u64 {
        self.0.with_label_values(&labels).get_sample_count()
    }

    #[cfg(test)]
    pub(super) fn touch(&self) {
        self.observe(["x"; N], Duration::from_millis(1));
    }
}
