//! Different rules matching for one group within a timespan, in any order or in a given one.

use serde::{Deserialize, Serialize};

use super::condition::Seen;
use super::{Change, Episode, Happening, Place};
use crate::limits::INSTANT_EVENTS_MAX;
use crate::prefetch::prefetch;
use crate::time::Timestamp;

/// An event: its time and place.
type Event = (Timestamp, Place);

/// When each input was last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TemporalWindow {
    /// Input, time and place, in the order last seen.
    seen: Vec<(u32, Timestamp, Place)>,
    pub(super) episode: Option<Box<Episode>>,
}

impl TemporalWindow {
    pub(super) fn apply(&mut self, condition: &Seen, timespan: i64, what: &Happening) -> Change {
        let input = what.input as u32;
        self.seen.retain(|(i, time, _)| *i != input && what.time.since(*time) <= timespan);
        self.seen.push((input, what.time, what.at));
        let present: Vec<Event> = self.seen.iter().map(|(_, t, at)| (*t, *at)).collect();
        let holds = self.holds(condition);
        change(&mut self.episode, holds, &present, what)
    }

    fn holds(&self, condition: &Seen) -> bool {
        condition.holds(&|input| self.seen.iter().any(|(i, ..)| *i as usize == input))
    }

    pub(super) fn prefetch(&self) {
        self.seen.first().into_iter().chain(self.seen.last()).for_each(prefetch);
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        self.seen.last().map_or(Timestamp::MIN, |(_, time, _)| *time)
    }

    /// The inputs seen within the timespan that ends at `now`.
    pub(super) fn inputs(&self, now: Timestamp, timespan: i64) -> Vec<usize> {
        let within = self.seen.iter().filter(|(_, time, _)| now.since(*time) <= timespan);
        within.map(|(input, ..)| *input as usize).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.seen.capacity() * size_of::<(u32, Timestamp, Place)>()
            + Episode::bytes(self.episode.as_deref())
    }
}

/// Events for inputs 0..=i, in order.
type Chain = Vec<Event>;

/// For each prefix of the inputs, the chain of events that completes it.
///
/// Of all chains the one with the latest start is kept: it stays within the timespan longest. Events of
/// one instant are put in order once more each time another comes: those of one partition stand in
/// its order, between partitions either may have been first, and one event is not two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chains {
    /// `chains[i]`: of the events before this instant.
    chains: Vec<Chain>,
    /// Which input matched which event of this instant.
    instant: Vec<(usize, Place)>,
    last: Timestamp,
}

impl Chains {
    pub(super) fn new(inputs: usize) -> Self {
        Self { chains: vec![Chain::new(); inputs], instant: Vec::new(), last: Timestamp::MIN }
    }

    /// Takes an event; gives the chain of all inputs that it belongs to, if it completes one that
    /// starts within the timespan.
    pub(super) fn add(&mut self, timespan: i64, what: &Happening) -> Option<Chain> {
        if what.time > self.last {
            let chains = self.candidates().into_iter();
            self.chains = chains.map(|c| latest(c.into_iter()).unwrap_or_default()).collect();
            self.instant.clear();
        }
        self.last = what.time;
        if self.instant.len() < INSTANT_EVENTS_MAX {
            self.instant.push((what.input, what.at));
        }
        let complete = self.candidates().pop().unwrap_or_default().into_iter().filter(|chain| {
            let within = chain.first().is_some_and(|(t, _)| what.time.since(*t) <= timespan);
            within && chain.iter().any(|(_, at)| *at == what.at)
        });
        latest(complete)
    }

    /// For each prefix, the chain from before this instant and those that end with an event of it.
    fn candidates(&self) -> Vec<Vec<Chain>> {
        let mut all: Vec<Vec<Chain>> = Vec::with_capacity(self.chains.len());
        for (input, before) in self.chains.iter().enumerate() {
            let mut here: Vec<Chain> = Vec::new();
            here.extend((!before.is_empty()).then(|| before.clone()));
            for (_, at) in self.instant.iter().filter(|(i, _)| *i == input) {
                let shorter = match input {
                    0 => Some(Chain::new()),
                    i => latest(all[i - 1].iter().filter(|c| self.may_follow(c, *at)).cloned()),
                };
                here.extend(shorter.map(|mut chain| {
                    chain.push((self.last, *at));
                    chain
                }));
            }
            all.push(here);
        }
        all
    }

    /// Whether an event of this instant may come after the last one of a chain.
    fn may_follow(&self, chain: &Chain, at: Place) -> bool {
        chain.last().is_some_and(|(time, last)| *time < self.last || at.may_follow(*last))
    }

    /// How many steps of the order lie within the timespan that ends at `now`.
    pub(super) fn steps(&self, now: Timestamp, timespan: i64) -> usize {
        let chains = self.candidates();
        let within = |c: &Chain| c.first().is_some_and(|(t, _)| now.since(*t) <= timespan);
        chains.iter().take_while(|here| here.iter().any(within)).count()
    }

    pub(super) fn bytes(&self) -> usize {
        let chains: usize = self.chains.iter().map(|c| c.capacity() * size_of::<Event>()).sum();
        chains
            + self.chains.capacity() * size_of::<Chain>()
            + self.instant.capacity() * size_of::<(usize, Place)>()
    }
}

fn latest(chains: impl Iterator<Item = Chain>) -> Option<Chain> {
    chains.max_by_key(|chain| chain.first().map(|(time, _)| *time))
}

/// All inputs in their order within a timespan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderedWindow {
    pub(super) chains: Chains,
    pub(super) episode: Option<Box<Episode>>,
}

impl OrderedWindow {
    pub(super) fn new(inputs: usize) -> Self {
        Self { chains: Chains::new(inputs), episode: None }
    }

    pub(super) fn apply(&mut self, timespan: i64, what: &Happening) -> Change {
        let chain = self.chains.add(timespan, what);
        let holds = chain.is_some();
        change(&mut self.episode, holds, &chain.unwrap_or_default(), what)
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        self.chains.last
    }

    pub(super) fn bytes(&self) -> usize {
        self.chains.bytes() + Episode::bytes(self.episode.as_deref())
    }
}

/// Begins an episode when the condition holds, or lets a running one grow.
fn change(
    episode: &mut Option<Box<Episode>>,
    holds: bool,
    events: &[Event],
    what: &Happening,
) -> Change {
    let value = (events.len() as u64).into();
    match episode {
        Some(episode) => episode.grow(what.at, what.time, value),
        None if holds => {
            let evidence = events.iter().map(|(_, at)| *at).collect();
            let start = events.first().map_or(what.time, |(t, _)| *t);
            *episode = Some(Box::new(Episode::begin(start, what.time, value, evidence)));
        }
        None => {}
    }
    Change { holds, episode: episode.is_some() }
}
