//! When groups end.
//!
//! Every group has one entry, in the second in which it was to end when the entry was made. Events put
//! the end off, and nobody touches the entry then; when its second comes it is made anew. So an event
//! costs nothing here, a group a few bytes, and nothing is ever searched for what has expired.

use std::collections::{BTreeMap, BTreeSet};

use super::key::Key;
use crate::time::Timestamp;

const TICK_MICROS: i64 = 1_000_000;

/// Groups that are looked at together when their second comes.
const NEAR: usize = 64;

/// A group that ends, and when: ordered by time, then by what is the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The last instant of its window.
    pub deadline: Timestamp,
    /// Its correlation.
    pub rule: u32,
    /// Its values.
    pub key: Key,
    /// Its number there.
    pub group: u32,
}

/// One entry for every group of every correlation.
#[derive(Debug)]
pub struct Timers {
    /// Second → correlation and group.
    ticks: BTreeMap<i64, Vec<(u32, u32)>>,
    /// Those of seconds that have been opened, in their exact order.
    open: BTreeSet<Due>,
    /// Seconds before this have been opened.
    opened: i64,
    /// Nothing is due before this.
    next: Timestamp,
    len: usize,
}

impl Default for Timers {
    fn default() -> Self {
        let (ticks, open) = (BTreeMap::new(), BTreeSet::new());
        Self { ticks, open, opened: i64::MIN, next: Timestamp::MAX, len: 0 }
    }
}

impl Timers {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds the entry of a group of a correlation that ends then; its key is only asked for when the
    /// exact order matters by now.
    pub fn arm(&mut self, rule: u32, group: u32, deadline: Timestamp, key: impl FnOnce() -> Key) {
        self.len += 1;
        let tick = deadline.0.div_euclid(TICK_MICROS);
        if tick < self.opened {
            self.next = self.next.min(deadline);
            self.open.insert(Due { deadline, rule, key: key(), group });
        } else {
            self.next = self.next.min(Timestamp(tick.saturating_mul(TICK_MICROS)));
            self.ticks.entry(tick).or_default().push((rule, group));
        }
    }

    /// Takes out the first that ends before `time`. `find` says when a group really ends, and its key.
    pub fn pop_before<'k>(
        &mut self,
        time: Timestamp,
        find: impl Fn(u32, u32) -> Option<(Timestamp, &'k Key)>,
    ) -> Option<Due> {
        while self.next < time {
            let first = self.ticks.first_key_value().map(|(tick, _)| *tick);
            let start = |tick: i64| Timestamp(tick.saturating_mul(TICK_MICROS));
            let due = self.open.first().map(|d| d.deadline);
            match first {
                Some(tick) if start(tick) < time && due.is_none_or(|d| start(tick) <= d) => {
                    self.open_tick(tick, &find);
                }
                _ => {
                    let is_due = due.is_some_and(|deadline| deadline < time);
                    let due = if is_due { self.open.pop_first() } else { None };
                    self.look_ahead();
                    self.len -= usize::from(due.is_some());
                    return due;
                }
            }
            self.look_ahead();
        }
        None
    }

    fn open_tick<'k>(
        &mut self,
        tick: i64,
        find: &impl Fn(u32, u32) -> Option<(Timestamp, &'k Key)>,
    ) {
        self.opened = tick.saturating_add(1);
        let entries = self.ticks.remove(&tick).unwrap_or_default();
        for chunk in entries.chunks(NEAR) {
            // All at once, so that they wait for memory together.
            let deadline = |(rule, group): &(u32, u32)| find(*rule, *group).map(|(t, _)| t);
            std::hint::black_box(chunk.iter().filter_map(deadline).max());
            for (rule, group) in chunk {
                self.len -= 1;
                if let Some((deadline, key)) = find(*rule, *group) {
                    self.arm(*rule, *group, deadline, || key.clone());
                }
            }
        }
    }

    fn look_ahead(&mut self) {
        let tick = self.ticks.first_key_value();
        let tick = tick.map(|(tick, _)| Timestamp(tick.saturating_mul(TICK_MICROS)));
        let open = self.open.first().map(|d| d.deadline);
        let first = tick.into_iter().chain(open).min();
        self.next = first.unwrap_or(Timestamp::MAX);
    }
}
