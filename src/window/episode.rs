//! One stretch of time in which a condition held for a group.

use serde::{Deserialize, Serialize};

use super::Place;
use crate::decimal::Decimal;
use crate::limits::EVIDENCE_EACH_END_MAX;
use crate::time::Timestamp;

/// Where contributing events lie: the first and last few exactly, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The first few; then the last few, each in the place of the one before which is too many.
    places: Vec<Place>,
    /// How many contributed.
    pub total: u64,
}

impl Evidence {
    /// Adds the place of one contributing event.
    pub fn add(&mut self, at: Place) {
        let oldest = self.oldest();
        self.total += 1;
        if let Some(place) = oldest.and_then(|oldest| self.places.get_mut(oldest)) {
            *place = at;
            return;
        }
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(EVIDENCE_EACH_END_MAX);
        }
        self.places.push(at);
    }

    /// Which of the last few is the oldest, once there are more.
    fn oldest(&self) -> Option<usize> {
        let last = self.total.checked_sub(2 * EVIDENCE_EACH_END_MAX as u64)?;
        Some(EVIDENCE_EACH_END_MAX + last as usize % EVIDENCE_EACH_END_MAX)
    }

    /// The first few, then the last few after those, each in order.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let (before, oldest) = self.places.split_at(self.oldest().unwrap_or(self.places.len()));
        let (first, latest) = before.split_at(EVIDENCE_EACH_END_MAX.min(before.len()));
        first.iter().chain(oldest).chain(latest).copied()
    }

    /// The last of all.
    pub fn latest(&self) -> Option<Place> {
        self.places().last()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
    }
}

impl FromIterator<Place> for Evidence {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut evidence = Self::default();
        places.into_iter().for_each(|at| evidence.add(at));
        evidence
    }
}

/// One stretch of time in which a condition held for a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Time of its earliest event.
    pub start: Timestamp,
    /// Time of its latest event so far.
    pub end: Timestamp,
    /// When the condition was decided: time of the event that made it true, or the end of a window
    /// that had to be complete. With rule and group it identifies the episode:
    /// events of the same instant may come in another order elsewhere, but not change this.
    pub began: Timestamp,
    /// The number that the condition is about.
    pub value: Decimal,
    /// Whether the number is an estimate, since exact counting would have taken too much memory.
    pub approximate: bool,
    /// 1 when it begins, one more with every event that joins it.
    pub revision: u64,
    /// The revision that was reported last.
    pub reported: u64,
    /// When, in event time.
    pub reported_at: Timestamp,
    /// What a spike rule expected instead.
    pub expected: Option<f64>,
    /// Where its events lie.
    pub evidence: Evidence,
}

impl Episode {
    /// One that begins now.
    pub fn begin(start: Timestamp, end: Timestamp, value: Decimal, evidence: Evidence) -> Self {
        Self {
            start,
            end,
            began: end,
            value,
            approximate: false,
            revision: 1,
            reported: 0,
            reported_at: Timestamp::MIN,
            expected: None,
            evidence,
        }
    }

    /// Where it stands in event time: when it was decided, or its latest event.
    pub fn time(&self) -> Timestamp {
        self.began.max(self.end)
    }

    /// One more event belongs to it; of all the values that it had, the largest is kept.
    pub fn grow(&mut self, at: Place, time: Timestamp, value: Decimal) {
        self.end = time;
        self.value = self.value.max(value);
        self.revision += 1;
        self.evidence.add(at);
    }

    /// Bytes on the heap, its own included.
    pub(super) fn bytes(episode: Option<&Self>) -> usize {
        episode.map_or(0, |e| size_of::<Self>() + e.evidence.bytes())
    }
}
