//! Matches that wait for the watermark.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use super::PackedMatch;
use crate::time::Timestamp;
use crate::window::{Place, Places};

/// Length of a bucket, microseconds.
const BUCKET_MICROS: i64 = 1_000_000;

/// A match, and where its record lies.
#[derive(Clone, Debug)]
pub struct Waits {
    /// Where.
    pub at: Place,
    /// The match.
    pub event: PackedMatch,
}

/// What puts matches in order.
#[derive(Clone, Copy)]
pub struct Order<'o> {
    /// The names of the partitions that their records lie in.
    pub places: &'o Places,
    /// Where each rule stands when all are sorted by id.
    pub rules: &'o [u32],
}

impl Order<'_> {
    /// By time and place; what is of one event is told apart by rule. Families have nothing to do with each
    /// other, so they stay in the order in which they come.
    fn rank(&self, a: &Waits, b: &Waits) -> Ordering {
        let rule = |w: &Waits| self.rules.get(w.event.rule as usize);
        a.event
            .time
            .cmp(&b.event.time)
            .then_with(|| self.places.rank(a.at, b.at))
            .then_with(|| rule(a).cmp(&rule(b)))
    }

    /// Whether both are of one event and rule. Of places that could not be kept nobody can say.
    fn is_same(&self, a: &Waits, b: &Waits) -> bool {
        self.rank(a, b) == Ordering::Equal && a.at.is_known()
    }
}

/// Matches of one second.
#[derive(Clone, Debug, Default)]
struct Bucket {
    events: VecDeque<Waits>,
    /// Whether one came before another that belongs before it.
    mixed: bool,
    /// Where the first that was put in stands in the log.
    oldest: i64,
}

/// Matches in buckets of event time, each put in order only when it is taken out, and only when it is not
/// in order already.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    buckets: BTreeMap<i64, Bucket>,
    len: usize,
}

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a match that stands in the log at `offset`.
    pub fn push(&mut self, event: Waits, offset: i64, order: &Order<'_>) {
        let second = event.event.time.0.div_euclid(BUCKET_MICROS);
        let bucket = self.buckets.entry(second).or_default();
        if bucket.events.is_empty() {
            bucket.oldest = offset;
        }
        let last = bucket.events.back();
        bucket.mixed |= last.is_some_and(|last| order.rank(last, &event) == Ordering::Greater);
        bucket.events.push_back(event);
        self.len += 1;
    }

    /// Takes out so many of those before `time`, in the order of event time, then of place, which is the same
    /// wherever and in whatever order matches arrive. A match that came twice is there once; how often that
    /// was is added to `duplicates`.
    pub fn pop_before(
        &mut self,
        time: Timestamp,
        most: usize,
        order: &Order<'_>,
        duplicates: &mut u64,
        out: &mut Vec<Waits>,
    ) {
        while out.len() < most {
            let Some(mut entry) = self.buckets.first_entry() else { return };
            let bucket = entry.get_mut();
            if bucket.mixed && bucket.events.iter().any(|w| w.event.time < time) {
                bucket.events.make_contiguous().sort_by(|a, b| order.rank(a, b));
                bucket.mixed = false;
            }
            let before = bucket.events.len();
            while out.len() < most
                && let Some(first) = bucket.events.pop_front_if(|w| w.event.time < time)
            {
                *duplicates += take_same(&mut bucket.events, &first, order);
                out.push(first);
            }
            let after = bucket.events.len();
            self.len -= before - after;
            if after > 0 {
                return;
            }
            entry.remove();
        }
    }

    /// The earliest time at which one waits.
    pub fn earliest(&self) -> Option<Timestamp> {
        let (_, first) = self.buckets.first_key_value()?;
        first.events.iter().map(|w| w.event.time).min()
    }

    /// From where in the log on all that wait can be read again; it may be a little before the first.
    pub fn oldest(&self) -> Option<i64> {
        self.buckets.values().map(|b| b.oldest).min()
    }
}

/// Takes out those at the front that are `first` again; says how many that were.
fn take_same(events: &mut VecDeque<Waits>, first: &Waits, order: &Order<'_>) -> u64 {
    let (mut at, mut same) = (0, 0);
    while events.get(at).is_some_and(|other| order.is_same(other, first)) {
        if events[at].event.family == first.event.family {
            events.remove(at);
            same += 1;
        } else {
            at += 1;
        }
    }
    same
}
