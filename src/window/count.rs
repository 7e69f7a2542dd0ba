//! Counting events of a group.

use std::collections::{HashSet, VecDeque};

use super::{Change, Condition, Episode, Evidence, Happening};
use crate::ids::Coordinate;
use crate::limits::GROUP_ENTRIES_MAX;
use crate::time::Timestamp;

/// The last few events of a group: to know whether N lie within a timespan, the last N are enough.
#[derive(Clone, Debug, Default)]
pub struct CountWindow {
    recent: VecDeque<(Timestamp, Coordinate)>,
    pub(super) episode: Option<Episode>,
    last: Timestamp,
}

impl CountWindow {
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    pub(super) fn apply(&mut self, enough: u64, timespan: i64, what: &Happening<'_>) -> Change {
        if what.time.since(self.last) > timespan {
            self.episode = None;
            self.recent.clear();
        }
        self.last = what.time;
        self.recent.push_back((what.time, what.at.clone()));
        while self.recent.len() as u64 > enough
            || self.recent.front().is_some_and(|(t, _)| what.time.since(*t) > timespan)
        {
            self.recent.pop_front();
        }
        let holds = self.recent.len() as u64 >= enough;
        match &mut self.episode {
            Some(episode) => {
                let count = episode.value + 1;
                episode.grow(what.at, what.time, count);
            }
            None if holds => self.episode = self.begin(what.time),
            None => {}
        }
        Change { holds, episode: self.episode.is_some() }
    }

    fn begin(&self, now: Timestamp) -> Option<Episode> {
        let mut evidence = Evidence::default();
        self.recent.iter().for_each(|(_, at)| evidence.add(at));
        let start = self.recent.front()?.0;
        Some(Episode::begin(start, now, self.recent.len() as u64, evidence))
    }
}

/// A window that is decided when it is complete: it opens with a group's first event.
#[derive(Clone, Debug, Default)]
pub struct CompleteWindow {
    opened: Timestamp,
    last: Timestamp,
    count: u64,
    distinct: HashSet<Box<str>>,
    evidence: Evidence,
}

impl CompleteWindow {
    pub(super) fn opened(&self) -> Timestamp {
        self.opened
    }

    pub(super) fn apply(&mut self, distinct: bool, what: &Happening<'_>) -> Change {
        if self.evidence.total == 0 {
            self.opened = what.time;
        }
        self.last = what.time;
        self.evidence.add(what.at);
        match what.value {
            Some(value) if distinct => {
                if self.distinct.len() < GROUP_ENTRIES_MAX {
                    self.distinct.insert(value.into());
                }
                self.count = self.distinct.len() as u64;
            }
            _ => self.count += 1,
        }
        Change::default()
    }

    pub(super) fn close(&mut self, condition: &dyn Condition, timespan: i64) -> Option<Episode> {
        let evidence = std::mem::take(&mut self.evidence);
        let holds = evidence.total > 0 && condition.holds(self.count);
        let episode = Episode::begin(self.opened, self.last, self.count, evidence);
        holds.then(|| Episode { began: self.opened.plus(timespan), ..episode })
    }
}
