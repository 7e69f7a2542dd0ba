//! Percentiles of values: exact for few, within 1 % of the value for many.
//!
//! Many values are counted in buckets whose bounds grow by a fixed ratio (DDSketch, Masson et al., 2019),
//! so a percentile is known to within half a bucket of its value, whatever the values are; two sketches
//! merge by adding up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::limits::QUANTILE_EXACT_MAX;

/// Of a value's size; the ratio of a bucket's bounds is (1 + e) ÷ (1 − e).
const ERROR: f64 = 0.01;
const RATIO: f64 = (1.0 + ERROR) / (1.0 - ERROR);

/// Parts of one percent: a percentile may have three digits after the point.
const PARTS: u64 = 1000;

/// Values, to be asked for a percentile once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Quantiles {
    /// Each of them, in the order in which they came.
    Exact(Vec<Decimal>),
    /// How many there were in each bucket: sign and number of the bucket, which orders them.
    Sketch(BTreeMap<i32, u64>),
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Quantiles {
    /// Adds a value.
    pub fn add(&mut self, value: Decimal) {
        match self {
            Self::Exact(values) if values.len() < QUANTILE_EXACT_MAX => values.push(value),
            Self::Exact(values) => {
                let values = std::mem::take(values);
                *self = Self::Sketch(BTreeMap::new());
                values.into_iter().for_each(|v| self.add(v));
                self.add(value);
            }
            Self::Sketch(buckets) => *buckets.entry(bucket(value)).or_default() += 1,
        }
    }

    /// Whether the answer is an estimate.
    pub fn is_approximate(&self) -> bool {
        matches!(self, Self::Sketch(_))
    }

    /// The percentile, given in thousandths of a percent: between the two closest values, in proportion
    /// (as spreadsheets and NumPy do by default). Nothing of nothing.
    pub fn percentile(&self, thousandths: u32) -> Option<Decimal> {
        let part = u64::from(thousandths).min(100 * PARTS);
        match self {
            Self::Exact(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                let way = (sorted.len() as u64).checked_sub(1)? * part;
                let (below, rest) = (way / (100 * PARTS), way % (100 * PARTS));
                let low = *sorted.get(below as usize)?;
                let high = sorted.get(below as usize + 1).copied().unwrap_or(low);
                Some(low.towards(high, rest, 100 * PARTS))
            }
            Self::Sketch(buckets) => {
                let count: u64 = buckets.values().sum();
                let rank = count.checked_sub(1)? * part / (100 * PARTS);
                let mut before = 0;
                let reached = |(_, n): &(&i32, &u64)| {
                    before += **n;
                    before > rank
                };
                let (bucket, _) = buckets.iter().find(reached)?;
                Some(middle(*bucket))
            }
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Exact(values) => values.capacity() * size_of::<Decimal>(),
            // A node of the tree holds eleven entries and is two thirds full.
            Self::Sketch(buckets) => buckets.len() * size_of::<(i32, u64)>() * 3 / 2,
        }
    }
}

/// Zero for zero; for others from 1 on, by size, with the sign of the value.
fn bucket(value: Decimal) -> i32 {
    let size = value.to_float().abs() * 1e9;
    let number = if size < 1.0 { 0 } else { (size.ln() / RATIO.ln()).ceil() as i32 + 1 };
    if value < Decimal::ZERO { -number } else { number }
}

/// The value that is as near to one bound of a bucket as to the other, in proportion.
fn middle(bucket: i32) -> Decimal {
    let size = match bucket.unsigned_abs() {
        0 => 0.0,
        number => RATIO.powi(number as i32 - 1) * 2.0 / (RATIO + 1.0) / 1e9,
    };
    let size = Decimal::from_float(size).unwrap_or_default();
    if bucket < 0 { Decimal::ZERO.minus(size) } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = i64>) -> Quantiles {
        let mut quantiles = Quantiles::default();
        values.into_iter().for_each(|v| quantiles.add(Decimal::whole(v.into())));
        quantiles
    }

    #[test]
    fn few_values_are_exact() {
        let at = |values: &[i64], percent: u32| {
            of(values.iter().copied()).percentile(percent * 1000).map(|d| d.to_string())
        };
        assert_eq!(at(&[], 50), None);
        assert_eq!(at(&[7], 99).as_deref(), Some("7"));
        assert_eq!(at(&[4, 1, 3, 2], 50).as_deref(), Some("2.5"));
        assert_eq!(at(&[4, 1, 3], 50).as_deref(), Some("3"));
        assert_eq!(at(&[10, 20, 30, 40, 50], 90).as_deref(), Some("46"));
        assert_eq!(at(&[10, 20], 0).as_deref(), Some("10"));
        assert_eq!(at(&[10, 20], 100).as_deref(), Some("20"));
    }

    #[test]
    fn many_values_are_within_one_percent() {
        let many = QUANTILE_EXACT_MAX as i64 * 10;
        for (values, shift) in
            [((0..many).collect::<Vec<_>>(), 0), ((0..many).collect(), -many / 2)]
        {
            let quantiles = of(values.iter().map(|v| (v * 7919) % many + shift));
            assert!(quantiles.is_approximate());
            for percent in [1, 10, 50, 90, 99] {
                let exact = (many - 1) * percent / 100 + shift;
                let got = quantiles.percentile(percent as u32 * 1000).map(Decimal::to_float);
                let error = (got.expect("a value") - exact as f64).abs();
                assert!(error <= (exact as f64).abs() * ERROR + 1e-6, "{percent}: {error}");
            }
        }
    }
}
