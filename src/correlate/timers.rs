//! When groups end.
//!
//! Every group has one entry, in the second in which it was to end when the entry was made. Events put
//! the end off, and nobody touches the entry then; when its second comes it is made anew. So an event
//! costs nothing here, a group a few bytes, and nothing is ever searched for what has expired.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use foldhash::fast::FixedState;

use super::packed::Key;
use crate::time::Timestamp;

const TICK_MICROS: i64 = 1_000_000;

/// Groups that are looked at together when their second comes.
const NEAR: usize = 64;

/// Lists of seconds gone by that are kept for others, and entries that one of them may have room for.
const SPARE_MAX: usize = 64;
const SPARE_ENTRIES_MAX: usize = 4096;

/// A group that ends, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The last instant of its window.
    pub deadline: Timestamp,
    /// Its correlation.
    pub rule: u32,
    /// Its number there.
    pub group: u32,
}

/// When a group of a correlation really ends, and its key.
pub trait Ends {
    /// `None` when there is no such group.
    fn end(&self, rule: u32, group: u32) -> Option<(Timestamp, &Key)>;

    /// Has a group brought near.
    fn prefetch(&self, rule: u32, group: u32);

    /// Has what taking a group out will need brought near.
    fn prefetch_slot(&self, rule: u32, group: u32);

    /// The order in which groups end: by time, then by what is the same everywhere.
    fn order(&self, a: &Due, b: &Due) -> Ordering {
        let key = |due: &Due| self.end(due.rule, due.group).map(|(_, key)| key);
        let by_time = a.deadline.cmp(&b.deadline).then(a.rule.cmp(&b.rule));
        by_time.then_with(|| key(a).cmp(&key(b)))
    }
}

/// One entry for every group of every correlation.
#[derive(Debug)]
pub struct Timers {
    /// Second → correlation and group. Nobody asks for their order here.
    ticks: HashMap<i64, Vec<(u32, u32)>, FixedState>,
    /// The seconds of these, the next first.
    order: BinaryHeap<Reverse<i64>>,
    spare: Vec<Vec<(u32, u32)>>,
    /// Those of seconds that have been opened, the first to end last.
    open: Vec<Due>,
    /// Seconds before this have been opened.
    opened: i64,
    /// Nothing is due before this.
    next: Timestamp,
    len: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            ticks: HashMap::default(),
            order: BinaryHeap::new(),
            spare: Vec::new(),
            open: Vec::new(),
            opened: i64::MIN,
            next: Timestamp::MAX,
            len: 0,
        }
    }
}

fn start(tick: i64) -> Timestamp {
    Timestamp(tick.saturating_mul(TICK_MICROS))
}

impl Timers {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds the entry of a group of a correlation that ends then.
    pub fn arm(&mut self, due: Due, groups: &impl Ends) {
        self.len += 1;
        let tick = due.deadline.0.div_euclid(TICK_MICROS);
        if tick < self.opened {
            self.next = self.next.min(due.deadline);
            let later = |other: &Due| groups.order(other, &due) == Ordering::Greater;
            self.open.insert(self.open.partition_point(later), due);
        } else {
            self.next = self.next.min(start(tick));
            let Self { ticks, order, spare, .. } = self;
            let new = || {
                order.push(Reverse(tick));
                spare.pop().unwrap_or_default()
            };
            ticks.entry(tick).or_insert_with(new).push((due.rule, due.group));
        }
    }

    /// Takes out the first that ends before `time`.
    pub fn pop_before(&mut self, time: Timestamp, groups: &impl Ends) -> Option<Due> {
        while self.next < time {
            let first = self.order.peek().map(|Reverse(tick)| *tick);
            let due = self.open.last().map(|due| due.deadline);
            if let Some(tick) = first.filter(|tick| start(*tick) < time)
                && due.is_none_or(|due| start(tick) <= due)
            {
                self.open_tick(tick, groups);
                self.look_ahead();
                continue;
            }
            let due = self.open.pop_if(|due| due.deadline < time);
            self.look_ahead();
            self.len -= usize::from(due.is_some());
            return due;
        }
        None
    }

    /// Puts those of a second that end in it in their order, and the others off.
    fn open_tick(&mut self, tick: i64, groups: &impl Ends) {
        self.opened = tick.saturating_add(1);
        self.order.pop();
        let mut entries = self.ticks.remove(&tick).unwrap_or_default();
        let before = self.open.len();
        for chunk in entries.chunks(NEAR) {
            chunk.iter().for_each(|(rule, group)| groups.prefetch(*rule, *group));
            for &(rule, group) in chunk {
                let Some((deadline, _)) = groups.end(rule, group) else {
                    self.len -= 1;
                    continue;
                };
                let due = Due { deadline, rule, group };
                if deadline.0.div_euclid(TICK_MICROS) < self.opened {
                    self.open.push(due);
                } else {
                    self.len -= 1;
                    self.arm(due, groups);
                }
            }
        }
        for ending in &self.open[before..] {
            groups.prefetch_slot(ending.rule, ending.group);
        }
        self.open.sort_unstable_by(|a, b| groups.order(b, a));
        if self.spare.len() < SPARE_MAX && entries.capacity() <= SPARE_ENTRIES_MAX {
            entries.clear();
            self.spare.push(entries);
        }
    }

    fn look_ahead(&mut self) {
        let tick = self.order.peek().map(|Reverse(tick)| start(*tick));
        let open = self.open.last().map(|due| due.deadline);
        self.next = tick.into_iter().chain(open).min().unwrap_or(Timestamp::MAX);
    }
}
