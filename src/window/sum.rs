//! Adding up a field of a group's events within a timespan.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::condition::Bounds;
use super::{Change, Episode, Happening, Place};
use crate::decimal::Decimal;
use crate::limits::SUM_ENTRIES_MAX;
use crate::time::Timestamp;

/// One value, or those of a slice of time together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    first: Timestamp,
    last: Timestamp,
    at: Place,
    sum: Decimal,
}

/// Slices of a timespan that are told apart when there are too many values to keep each.
const PANES: i64 = 256;

/// A full list grows by so many at least.
const GROWTH: usize = 2;

/// The values within a timespan and their sum, which is exact. Beyond [`SUM_ENTRIES_MAX`] values those
/// of one slice (a 256th of the timespan) are put together; they leave together, with the last of
/// them, so that the sum is then over up to one slice too much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SumWindow {
    parts: VecDeque<Part>,
    sum: Decimal,
    sliced: bool,
    pub(super) episode: Option<Box<Episode>>,
}

impl SumWindow {
    pub(super) fn apply(&mut self, bounds: &Bounds, timespan: i64, what: &Happening) -> Change {
        let Some(number) = what.number else { return Change::default() };
        self.forget(what.time, timespan);
        self.add(Part { first: what.time, last: what.time, at: what.at, sum: number }, timespan);
        let holds = bounds.hold(self.sum);
        match &mut self.episode {
            Some(episode) => {
                episode.approximate |= self.sliced;
                episode.grow(what.at, what.time, self.sum);
            }
            None if holds => {
                let start = self.parts.front().map_or(what.time, |p| p.first);
                let evidence = self.parts.iter().map(|p| p.at).collect();
                let mut episode = Episode::begin(start, what.time, self.sum, evidence);
                episode.approximate = self.sliced;
                self.episode = Some(Box::new(episode));
            }
            None => {}
        }
        Change { holds, episode: self.episode.is_some() }
    }

    fn forget(&mut self, now: Timestamp, timespan: i64) {
        while let Some(part) = self.parts.pop_front_if(|p| now.since(p.last) > timespan) {
            self.sum = self.sum.minus(part.sum);
        }
        self.sliced &= !self.parts.is_empty();
    }

    fn add(&mut self, part: Part, timespan: i64) {
        self.sum = self.sum.plus(part.sum);
        if !self.sliced && self.parts.len() >= SUM_ENTRIES_MAX {
            self.sliced = true;
            for part in std::mem::take(&mut self.parts) {
                self.put(part, timespan);
            }
        }
        if self.sliced { self.put(part, timespan) } else { self.push(part) }
    }

    /// Adds to the slice that it belongs to.
    fn put(&mut self, part: Part, timespan: i64) {
        let slice = |t: Timestamp| t.0.div_euclid((timespan / PANES).max(1));
        match self.parts.back_mut().filter(|p| slice(p.first) == slice(part.first)) {
            Some(open) => {
                open.last = part.last;
                open.sum = open.sum.plus(part.sum);
            }
            None => self.push(part),
        }
    }

    /// By a little and not twice as many: there are millions of these.
    fn push(&mut self, part: Part) {
        if self.parts.len() == self.parts.capacity() {
            self.parts.reserve_exact(GROWTH.max(self.parts.len() / 4));
        }
        self.parts.push_back(part);
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        self.parts.back().map_or(Timestamp::MIN, |p| p.last)
    }

    /// The sum over the timespan that ends at `now`.
    pub(super) fn sum(&self, now: Timestamp, timespan: i64) -> Decimal {
        let within = self.parts.iter().filter(|p| now.since(p.last) <= timespan);
        within.fold(Decimal::ZERO, |sum, p| sum.plus(p.sum))
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.capacity() * size_of::<Part>() + Episode::bytes(self.episode.as_deref())
    }
}
