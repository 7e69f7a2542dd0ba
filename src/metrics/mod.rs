//! Every metric of the service: one catalogue, one registry, one encoder.
//!
//! Owns the names, labels and help texts ([`CATALOGUE`]), the registry, and the text form 0.0.4. Only the cold
//! path touches it: workers count in plain integers and publish per batch; their latencies go through a
//! [`LatencyRecorder`] each.

mod catalogue;
mod family;
mod latency;
mod lateness;

use std::ops::Deref;

use prometheus::{Encoder, Registry, TextEncoder};

pub use catalogue::{CATALOGUE, Families, MetricKind, MetricSpec};
pub use family::{BUCKETS_SECONDS, Counter, Gauge, Histogram};
pub use latency::LatencyRecorder;
pub use lateness::Lateness;

/// Why the metrics could not be set up or written out. Always our own fault.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A row of the catalogue is not a valid metric, or is there twice.
    #[error("metric {name} cannot be registered: {source}")]
    Register {
        /// The row's name.
        name: &'static str,
        /// What `prometheus` says.
        source: prometheus::Error,
    },
    /// The bounds of the latency histogram are not valid.
    #[error("latency histogram up to {us_max} µs cannot be created: {source}")]
    Histogram {
        /// The upper bound.
        us_max: u64,
        /// What `hdrhistogram` says.
        source: hdrhistogram::CreationError,
    },
    /// The registry's content could not be written as text.
    #[error("metrics cannot be encoded: {0}")]
    Encode(prometheus::Error),
}

/// The metrics of one process. Families are reached as fields: `metrics.alerts.add(["high"], 1)`.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    latencies: latency::Latencies,
    lateness: lateness::Lateness,
}

impl Metrics {
    /// Creates a registry of its own with every metric of the catalogue.
    ///
    /// # Errors
    ///
    /// Fails only when the catalogue itself is wrong.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        let (latencies, lateness) = (latency::Latencies::new()?, lateness::Lateness::new()?);
        let failed = |name| move |source| MetricsError::Register { name, source };
        registry
            .register(Box::new(latencies.clone()))
            .map_err(failed(catalogue::TRANSACTION_SECONDS.name))?;
        registry
            .register(Box::new(lateness.clone()))
            .map_err(failed(catalogue::MATCH_LATENESS.name))?;
        families.build_info.set([version], 1.0);
        Ok(Metrics { registry, families, latencies, lateness })
    }

    /// Returns every metric that can appear, with its kind, labels and help.
    pub fn catalogue() -> &'static [MetricSpec] {
        CATALOGUE
    }

    /// Returns a recorder of transaction latency for one worker of `stage`.
    pub fn latency(&self, stage: &'static str) -> LatencyRecorder {
        self.latencies.recorder(stage)
    }

    /// How late matches are.
    pub fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// Writes all series in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    ///
    /// Fails when the registry holds a family without name or series, which none of ours is.
    pub fn encode(&self) -> Result<Vec<u8>, MetricsError> {
        let mut families = self.registry.gather();
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).map_err(MetricsError::Encode)?;
        Ok(text)
    }
}

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.families
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::correlate::Late;

    fn full() -> Metrics {
        let metrics = Metrics::new("0.0.0-test").unwrap();
        metrics.touch_all();
        metrics.latency("detect").record(Duration::from_millis(3));
        metrics.lateness().add("x", "x", &Late::default());
        metrics
    }

    #[test]
    fn every_registered_metric_is_in_the_catalogue_with_its_kind_labels_and_help() {
        let metrics = full();
        let catalogue: BTreeMap<_, _> = CATALOGUE.iter().map(|spec| (spec.name, spec)).collect();
        let gathered = metrics.registry.gather();
        for family in &gathered {
            let spec = catalogue[family.name()];
            assert_eq!(spec.help, family.help());
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            assert_eq!(spec.kind.as_str(), kind, "{}", spec.name);
            let labels: BTreeSet<_> =
                family.get_metric()[0].get_label().iter().map(|l| l.name()).collect();
            assert_eq!(labels, spec.labels.iter().copied().collect(), "{}", spec.name);
        }
        assert_eq!(gathered.len(), CATALOGUE.len(), "every row is registered, none twice");
    }

    /// The rules of `promtool check metrics`, as far as they concern names and labels.
    #[test]
    fn names_keep_the_rules_of_promtool() {
        for spec in CATALOGUE {
            let name = spec.name;
            assert!(name.starts_with("watchfire_"), "{name}");
            assert!(!spec.help.trim().is_empty() && spec.help.ends_with('.'), "{name}: help");
            assert_eq!(
                name.ends_with("_total"),
                spec.kind == MetricKind::Counter,
                "{name}: _total"
            );
            for suffix in ["_bucket", "_count", "_sum"] {
                assert!(!name.ends_with(suffix), "{name}: {suffix} belongs to histograms");
            }
            for word in
                ["_gauge", "_counter", "_histogram", "_ms", "_milliseconds", "_kb", "_minutes"]
            {
                assert!(!format!("{name}_").contains(&format!("{word}_")), "{name}: {word}");
            }
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(!spec.labels.iter().any(|label| ["le", "quantile"].contains(label)), "{name}");
            if spec.kind == MetricKind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}: histograms are durations");
            }
        }
    }

    #[test]
    fn the_text_form_escapes_what_a_rule_title_may_hold() {
        let metrics = Metrics::new("0.0.0-test").unwrap();
        metrics.rule_info.set(["r1", "say \"hi\"\nC:\\x", "high", "event"], 1.0);
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        assert!(text.contains(r#"title="say \"hi\"\nC:\\x""#), "{text}");
        assert!(text.contains("watchfire_gaps_open 0\n"), "{text}");
        assert!(text.contains("watchfire_build_info{version=\"0.0.0-test\"} 1\n"), "{text}");
    }

    #[test]
    fn one_latency_shows_in_buckets_and_quantiles() {
        let text = String::from_utf8(full().encode().unwrap()).unwrap();
        for line in [
            "watchfire_transaction_seconds_bucket{stage=\"detect\",le=\"0.0025\"} 0",
            "watchfire_transaction_seconds_bucket{stage=\"detect\",le=\"0.005\"} 1",
            "watchfire_transaction_seconds_count{stage=\"detect\"} 1",
            "watchfire_transaction_seconds_sum{stage=\"detect\"} 0.003",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert!(
            text.contains("watchfire_transaction_p99_seconds{stage=\"detect\"} 0.003"),
            "{text}"
        );
    }

    #[test]
    fn a_removed_gauge_shows_no_stale_value() {
        let metrics = Metrics::new("0.0.0-test").unwrap();
        metrics.consumer_lag.set(["logs", "3"], 7.0);
        metrics.consumer_lag.remove(["logs", "3"]);
        metrics.consumer_lag.remove(["logs", "3"]);
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        assert!(!text.contains("watchfire_consumer_lag_events{"), "{text}");
    }
}
