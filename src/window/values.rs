//! Counting distinct values of a group.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Change, Episode, Evidence, Happening};
use crate::ids::Coordinate;
use crate::limits::GROUP_ENTRIES_MAX;
use crate::time::Timestamp;

/// The distinct values of a group, each with when it was last seen: N distinct values lie within a
/// timespan exactly when the N-th latest of these times does.
#[derive(Clone, Debug, Default)]
pub struct ValueWindow {
    /// Value → its number in `seen`.
    numbers: HashMap<Box<str>, u64>,
    /// In the order last seen.
    seen: BTreeMap<u64, (Timestamp, Box<str>, Coordinate)>,
    next: u64,
    /// The instants at which anything was seen within the timespan, for the start of an episode.
    instants: VecDeque<Timestamp>,
    pub(super) episode: Option<Episode>,
    last: Timestamp,
}

impl ValueWindow {
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    pub(super) fn apply(&mut self, enough: u64, timespan: i64, what: &Happening<'_>) -> Change {
        let Some(value) = what.value else { return Change::default() };
        if what.time.since(self.last) > timespan {
            *self = Self::default();
        }
        self.last = what.time;
        if self.instants.back() != Some(&what.time) && self.instants.len() < GROUP_ENTRIES_MAX {
            self.instants.push_back(what.time);
        }
        while self.instants.front().is_some_and(|t| what.time.since(*t) > timespan) {
            self.instants.pop_front();
        }
        self.see(value, what);
        self.forget(what.time, timespan, (enough as usize).max(GROUP_ENTRIES_MAX));
        let distinct = self.seen.len() as u64;
        let holds = distinct >= enough;
        match &mut self.episode {
            Some(episode) => {
                let most = episode.value.max(distinct);
                episode.grow(what.at, what.time, most);
            }
            None if holds => self.episode = self.begin(what.time),
            None => {}
        }
        Change { holds, episode: self.episode.is_some() }
    }

    fn see(&mut self, value: &str, what: &Happening<'_>) {
        let number = self.next;
        self.next += 1;
        let value: Box<str> = value.into();
        if let Some(old) = self.numbers.insert(value.clone(), number) {
            self.seen.remove(&old);
        }
        self.seen.insert(number, (what.time, value, what.at.clone()));
    }

    fn forget(&mut self, now: Timestamp, timespan: i64, most: usize) {
        while let Some(first) = self.seen.first_entry() {
            let expired = now.since(first.get().0) > timespan;
            if !expired && self.numbers.len() <= most {
                break;
            }
            let (_, value, _) = first.remove();
            self.numbers.remove(&value);
        }
    }

    fn begin(&self, now: Timestamp) -> Option<Episode> {
        let mut evidence = Evidence::default();
        self.seen.values().for_each(|(_, _, at)| evidence.add(at));
        let start = *self.instants.front()?;
        Some(Episode::begin(start, now, self.seen.len() as u64, evidence))
    }
}
