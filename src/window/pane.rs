//! Windows that are filled, asked and thrown away as a whole.
//!
//! Three things end one: a timespan after the group's first event (how conditions are decided that more
//! events can undo), the next multiple of the timespan (tumbling), or a gap without events (session). The
//! owner [closes](PaneWindow::close) a window before it hands on an event that lies behind its deadline.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::condition::Test;
use super::hll::HyperLogLog;
use super::quantile::Quantiles;
use super::temporal::Chains;
use super::{Change, Episode, Evidence, Happening, ValueHash};
use crate::decimal::Decimal;
use crate::time::Timestamp;

/// What ends a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A timespan after its first event; both ends belong to it.
    FromFirst,
    /// The next multiple of the timespan since 1970; that instant belongs to the next window.
    Tumbling,
    /// So many microseconds without an event, or a timespan after its first event.
    Session {
        /// Longest time between two events of one session.
        gap: i64,
    },
}

/// What a window measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Events.
    Count,
    /// Distinct values.
    Distinct {
        /// Up to how many are counted one by one.
        exact: usize,
    },
    /// Sum of a field.
    Sum,
    /// Mean of a field.
    Average,
    /// Percentile of a field, in thousandths of a percent.
    Percentile(u32),
    /// Different inputs.
    Inputs,
    /// Inputs in their order.
    Steps {
        /// How many there are.
        inputs: usize,
    },
}

/// How such windows work.
#[derive(Clone, Debug, PartialEq)]
pub struct PaneKind {
    /// What ends one.
    pub extent: Extent,
    /// What it measures.
    pub measure: Measure,
    /// What is asked of it.
    pub test: Test,
    /// Whether it is asked at every event, since more cannot undo the answer; else at its end.
    pub early: bool,
}

/// What has been measured so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Measured {
    Count(u64),
    Distinct(BTreeSet<ValueHash>),
    Estimated(HyperLogLog),
    Sum(Decimal, u64),
    Values(Quantiles),
    Inputs(Vec<usize>),
    Steps(Chains),
}

/// One window of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaneWindow {
    opened: Timestamp,
    last: Timestamp,
    measured: Measured,
    evidence: Evidence,
    complete: bool,
    pub(super) episode: Option<Box<Episode>>,
}

impl Measured {
    fn new(measure: Measure) -> Self {
        match measure {
            Measure::Count => Self::Count(0),
            Measure::Distinct { .. } => Self::Distinct(BTreeSet::new()),
            Measure::Sum | Measure::Average => Self::Sum(Decimal::ZERO, 0),
            Measure::Percentile(_) => Self::Values(Quantiles::default()),
            Measure::Inputs => Self::Inputs(Vec::new()),
            Measure::Steps { inputs } => Self::Steps(Chains::new(inputs)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Sum(..) => 0,
            // A node of the tree holds eleven entries and is two thirds full.
            Self::Distinct(values) => values.len() * size_of::<ValueHash>() * 3 / 2,
            Self::Estimated(sketch) => sketch.bytes(),
            Self::Values(values) => values.bytes(),
            Self::Inputs(inputs) => inputs.capacity() * size_of::<usize>(),
            Self::Steps(chains) => chains.bytes(),
        }
    }
}

impl PaneWindow {
    pub(super) fn new(kind: &PaneKind) -> Self {
        Self {
            opened: Timestamp::MIN,
            last: Timestamp::MIN,
            measured: Measured::new(kind.measure),
            evidence: Evidence::default(),
            complete: false,
            episode: None,
        }
    }

    pub(super) fn apply(&mut self, kind: &PaneKind, timespan: i64, what: &Happening) -> Change {
        if self.evidence.total == 0 {
            self.opened = what.time;
        }
        self.last = what.time;
        self.evidence.add(what.at);
        self.measure(kind.measure, timespan, what);
        if !kind.early {
            return Change::default();
        }
        let value = self.value(kind.measure);
        let holds = self.holds(&kind.test, value);
        match &mut self.episode {
            Some(episode) => episode.grow(what.at, what.time, value),
            None if holds => {
                let evidence = self.evidence.clone();
                let episode = Episode::begin(self.opened, what.time, value, evidence);
                self.episode = Some(Box::new(episode));
            }
            None => {}
        }
        if let Some(episode) = &mut self.episode {
            episode.approximate = matches!(self.measured, Measured::Estimated(_));
        }
        Change { holds, episode: self.episode.is_some() }
    }

    fn measure(&mut self, measure: Measure, timespan: i64, what: &Happening) {
        match &mut self.measured {
            Measured::Count(count) => *count += 1,
            Measured::Sum(sum, count) => {
                *sum = sum.plus(what.number.unwrap_or_default());
                *count += u64::from(what.number.is_some());
            }
            Measured::Values(values) => what.number.into_iter().for_each(|n| values.add(n)),
            Measured::Inputs(inputs) => {
                if !inputs.contains(&what.input) {
                    inputs.push(what.input);
                }
            }
            Measured::Steps(chains) => self.complete |= chains.add(timespan, what).is_some(),
            Measured::Estimated(sketch) => what.value.into_iter().for_each(|v| sketch.add(v)),
            Measured::Distinct(values) => {
                values.extend(what.value);
                if matches!(measure, Measure::Distinct { exact } if values.len() > exact) {
                    let mut sketch = HyperLogLog::default();
                    values.iter().for_each(|v| sketch.add(*v));
                    self.measured = Measured::Estimated(sketch);
                }
            }
        }
    }

    /// What it measures now.
    pub(super) fn value(&self, measure: Measure) -> Decimal {
        match (&self.measured, measure) {
            (Measured::Count(count), _) => (*count).into(),
            (Measured::Distinct(values), _) => (values.len() as u64).into(),
            (Measured::Estimated(sketch), _) => sketch.estimate().into(),
            (Measured::Sum(sum, count), Measure::Average) => sum.over(*count),
            (Measured::Sum(sum, _), _) => *sum,
            (Measured::Values(values), Measure::Percentile(thousandths)) => {
                values.percentile(thousandths).unwrap_or_default()
            }
            (Measured::Values(_), _) => Decimal::ZERO,
            (Measured::Inputs(inputs), _) => (inputs.len() as u64).into(),
            (Measured::Steps(chains), _) => (chains.steps(self.last, i64::MAX) as u64).into(),
        }
    }

    fn holds(&self, test: &Test, value: Decimal) -> bool {
        match (test, &self.measured) {
            (Test::Bounds(bounds), _) => bounds.hold(value),
            (Test::Seen(seen), Measured::Inputs(inputs)) => seen.holds(&|i| inputs.contains(&i)),
            (Test::Seen(_), _) => false,
            (Test::InOrder, _) => self.complete,
        }
    }

    pub(super) fn inputs(&self) -> &[usize] {
        match &self.measured {
            Measured::Inputs(inputs) => inputs,
            _ => &[],
        }
    }

    /// The last instant that belongs to it.
    pub(super) fn deadline(&self, extent: Extent, timespan: i64) -> Timestamp {
        match extent {
            Extent::FromFirst => self.opened.plus(timespan),
            Extent::Tumbling => self.boundary(timespan).minus(1),
            Extent::Session { gap } => self.last.plus(gap).min(self.opened.plus(timespan)),
        }
    }

    /// The multiple of the timespan after its first event.
    fn boundary(&self, timespan: i64) -> Timestamp {
        let number = self.opened.0.div_euclid(timespan.max(1));
        Timestamp(number.saturating_add(1).saturating_mul(timespan))
    }

    /// Says the last word once the deadline has passed: the episode, if the window as a whole passes
    /// the test that was not asked before.
    pub(super) fn close(&mut self, kind: &PaneKind, timespan: i64) -> Option<Episode> {
        if kind.early || self.evidence.total == 0 {
            return None;
        }
        let value = self.value(kind.measure);
        if !self.holds(&kind.test, value) {
            return None;
        }
        let began = match kind.extent {
            Extent::Tumbling => self.boundary(timespan),
            extent => self.deadline(extent, timespan),
        };
        let evidence = std::mem::take(&mut self.evidence);
        let mut episode = Episode::begin(self.opened, self.last, value, evidence);
        episode.began = began;
        episode.approximate = match &self.measured {
            Measured::Estimated(_) => true,
            Measured::Values(values) => values.is_approximate(),
            _ => false,
        };
        Some(episode)
    }

    pub(super) fn bytes(&self) -> usize {
        self.measured.bytes() + self.evidence.bytes() + Episode::bytes(self.episode.as_deref())
    }
}
