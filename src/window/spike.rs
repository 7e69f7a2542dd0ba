//! Volume far above what a group had before.
//!
//! Time is cut in buckets. The baseline is the mean of the closed buckets, so the open one can only
//! make the condition truer: a spike fires inside its bucket. Closed buckets enter the history clipped
//! at what would have fired, so that one spike does not raise the baseline for the next.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Change, Episode, Evidence, Happening, WindowKind};
use crate::time::Timestamp;

/// The open bucket and the history of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpikeWindow {
    /// Number of the open bucket: event time ÷ length.
    bucket: i64,
    count: u64,
    /// Counts of closed buckets, the oldest first.
    history: VecDeque<u64>,
    evidence: Evidence,
    pub(super) episode: Option<Box<Episode>>,
    started: bool,
}

impl SpikeWindow {
    pub(super) fn forgotten_at(&self, kind: &WindowKind) -> Timestamp {
        match kind {
            WindowKind::Spike { bucket_micros, history, .. } => {
                let buckets = self.bucket.saturating_add(*history as i64 + 1);
                Timestamp(buckets.saturating_mul(*bucket_micros))
            }
            _ => Timestamp::MIN,
        }
    }

    pub(super) fn apply(&mut self, kind: &WindowKind, what: &Happening) -> Change {
        let &WindowKind::Spike { bucket_micros, history, history_min, ratio, count_min } = kind
        else {
            return Change::default();
        };
        let bucket = what.time.0.div_euclid(bucket_micros);
        if !self.started {
            self.started = true;
            self.bucket = bucket;
        }
        let trip = |w: &Self| (w.mean() * ratio).max(count_min as f64);
        while self.bucket < bucket {
            let skipped = bucket - self.bucket > history as i64;
            let known = self.history.len() >= history_min;
            self.close_bucket(if known { trip(self) } else { f64::MAX }, history);
            self.bucket = if skipped { bucket - history as i64 } else { self.bucket + 1 };
        }
        self.count += 1;
        self.evidence.add(what.at);
        let holds = self.history.len() >= history_min && self.count as f64 >= trip(self);
        match &mut self.episode {
            Some(episode) => {
                episode.grow(what.at, what.time, self.count.into());
            }
            None if holds => {
                let start = Timestamp(self.bucket.saturating_mul(bucket_micros));
                let (count, evidence) = (self.count.into(), self.evidence.clone());
                let mut episode = Episode::begin(start, what.time, count, evidence);
                episode.expected = Some(self.mean());
                self.episode = Some(Box::new(episode));
            }
            None => {}
        }
        Change { holds, episode: self.episode.is_some() }
    }

    fn mean(&self) -> f64 {
        let sum: u64 = self.history.iter().sum();
        sum as f64 / self.history.len().max(1) as f64
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The count that would be a spike; `None` while too little is known.
    pub(super) fn trip(&self, kind: &WindowKind) -> Option<f64> {
        let WindowKind::Spike { history_min, ratio, count_min, .. } = kind else { return None };
        let known = self.history.len() >= *history_min;
        known.then(|| (self.mean() * ratio).max(*count_min as f64))
    }

    pub(super) fn bytes(&self) -> usize {
        self.history.capacity() * size_of::<u64>()
            + self.evidence.bytes()
            + Episode::bytes(self.episode.as_deref())
    }

    fn close_bucket(&mut self, trip: f64, history: usize) {
        if (self.count as f64) < trip {
            self.episode = None;
        }
        self.history.push_back(self.count.min(trip as u64));
        if self.history.len() > history {
            self.history.pop_front();
        }
        self.count = 0;
        self.evidence = Evidence::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Place;

    const KIND: WindowKind = WindowKind::Spike {
        bucket_micros: 60_000_000,
        history: 10,
        history_min: 3,
        ratio: 3.0,
        count_min: 10,
    };

    /// Feeds so many events into each minute; gives the minutes in which an episode began.
    fn begun(counts: &[u64]) -> Vec<usize> {
        let mut window = SpikeWindow::default();
        let mut minutes = Vec::new();
        for (minute, count) in counts.iter().enumerate() {
            for i in 0..*count {
                let time = Timestamp(minute as i64 * 60_000_000 + i as i64 * 1000);
                let what = Happening::plain(time, Place::UNKNOWN, 0);
                window.apply(&KIND, &what);
                if window.episode.as_ref().is_some_and(|e| e.revision == 1) {
                    minutes.push(minute);
                }
            }
        }
        minutes
    }

    #[test]
    fn a_spike_fires_once_and_again_only_after_calm() {
        assert_eq!(begun(&[5, 5, 5, 5, 40, 40, 5, 5, 40]), [4, 8]);
        assert_eq!(begun(&[40, 40, 40]), [] as [usize; 0], "no history yet");
        assert_eq!(begun(&[100, 100, 100, 100, 150]), [] as [usize; 0], "below the ratio");
        assert_eq!(begun(&[1, 1, 1, 1, 9]), [] as [usize; 0], "below the least count");
        assert_eq!(begun(&[5, 0, 0, 0, 0, 0, 12]), [6], "silent minutes count as zero");
    }

    #[test]
    fn a_long_silence_costs_no_more_than_the_history() {
        let mut window = SpikeWindow::default();
        for time in [0, i64::MAX / 2] {
            let what = Happening::plain(Timestamp(time), Place::UNKNOWN, 0);
            window.apply(&KIND, &what);
        }
        assert_eq!(window.history.len(), 10);
    }
}
