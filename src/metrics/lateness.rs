//! How late matches are: counted in classes by the fold, added here once a batch, read by the scrape.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::MetricsError;
use super::catalogue::MATCH_LATENESS;
use super::latency::{describe, family, label};
use crate::correlate::{LATENESS_SECONDS, Late};

/// Topic and rule → what was late.
type Series = BTreeMap<(String, String), Late>;

/// A histogram over [`LATENESS_SECONDS`]; registered as one collector.
#[derive(Debug, Clone)]
pub struct Lateness {
    series: Arc<Mutex<Series>>,
    desc: Desc,
}

impl Lateness {
    pub(super) fn new() -> Result<Self, MetricsError> {
        Ok(Self { series: Arc::default(), desc: describe(&MATCH_LATENESS)? })
    }

    /// Adds what a fold has counted since the last time, of one topic and rule.
    pub fn add(&self, topic: &str, rule: &str, late: &Late) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.entry((topic.to_owned(), rule.to_owned())).or_default().add(late);
    }
}

impl Collector for Lateness {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        vec![family(&MATCH_LATENESS, series.iter().map(classic).collect())]
    }
}

fn classic(((topic, rule), late): (&(String, String), &Late)) -> proto::Metric {
    let mut below = 0;
    let bucket = |(bound, count): (&i64, &u64)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound as f64);
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(LATENESS_SECONDS.iter().zip(&late.classes).map(bucket).collect());
    histogram.set_sample_count(late.count);
    histogram.set_sample_sum(late.micros as f64 / 1e6);
    // In the order of the alphabet, as `prometheus` has them.
    let labels = vec![label("rule_id", rule), label("topic", topic)];
    let mut metric = proto::Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stands_in_its_bucket_and_in_all_above() {
        let lateness = Lateness::new().unwrap();
        for micros in [1_000_000, 1_000_001, 59_000_000, 900_000_000_000] {
            let mut late = Late::default();
            late.note(micros);
            lateness.add("logs", "r1", &late);
        }
        let families = lateness.collect();
        let histogram = families[0].get_metric()[0].get_histogram();
        let counts: Vec<u64> =
            histogram.get_bucket().iter().map(proto::Bucket::cumulative_count).collect();
        assert_eq!(counts, [1, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert_eq!(histogram.get_sample_count(), 4, "the one beyond all bounds, too");
        assert!((histogram.get_sample_sum() - 900_061.000_001).abs() < 1e-6);
    }
}
