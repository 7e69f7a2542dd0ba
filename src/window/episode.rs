//! One stretch of time in which a condition held for a group.

use std::collections::VecDeque;

use crate::ids::Coordinate;
use crate::limits::EVIDENCE_EACH_END_MAX;
use crate::time::Timestamp;

/// Where contributing events lie: the first and last few exactly, and how many there were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The first few, in order.
    pub first: Vec<Coordinate>,
    /// The last few after those, in order.
    pub last: VecDeque<Coordinate>,
    /// How many contributed.
    pub total: u64,
}

impl Evidence {
    /// Adds the coordinate of one contributing event.
    pub fn add(&mut self, at: &Coordinate) {
        self.total += 1;
        if self.first.len() < EVIDENCE_EACH_END_MAX {
            self.first.push(at.clone());
            return;
        }
        if self.last.len() == EVIDENCE_EACH_END_MAX {
            self.last.pop_front();
        }
        self.last.push_back(at.clone());
    }
}

/// One stretch of time in which a condition held for a group.
#[derive(Clone, Debug, PartialEq)]
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
    pub value: u64,
    /// 1 when it begins, one more with every event that joins it.
    pub revision: u64,
    /// What a spike rule expected instead.
    pub expected: Option<f64>,
    /// Where its events lie.
    pub evidence: Evidence,
}

impl Episode {
    /// One that begins now.
    pub fn begin(start: Timestamp, end: Timestamp, value: u64, evidence: Evidence) -> Self {
        Self { start, end, began: end, value, revision: 1, expected: None, evidence }
    }

    /// Where it stands in event time: when it was decided, or its latest event.
    pub fn time(&self) -> Timestamp {
        self.began.max(self.end)
    }

    /// One more event belongs to it.
    pub fn grow(&mut self, at: &Coordinate, time: Timestamp, value: u64) {
        self.end = time;
        self.value = value;
        self.revision += 1;
        self.evidence.add(at);
    }
}
