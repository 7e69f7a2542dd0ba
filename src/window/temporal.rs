//! Different rules matching for one group within a timespan, in any order or in a given one.

use super::{Change, Episode, Evidence, Happening};
use crate::ids::Coordinate;
use crate::limits::INSTANT_EVENTS_MAX;
use crate::time::Timestamp;

type Seen = Option<(Timestamp, Coordinate)>;

/// When each input was last seen.
#[derive(Clone, Debug, Default)]
pub struct TemporalWindow {
    seen: Vec<Seen>,
    pub(super) episode: Option<Episode>,
    last: Timestamp,
}

impl TemporalWindow {
    pub(super) fn new(inputs: usize) -> Self {
        Self { seen: vec![None; inputs], ..Self::default() }
    }

    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    pub(super) fn apply(&mut self, at_least: usize, timespan: i64, what: &Happening<'_>) -> Change {
        if what.time.since(self.last) > timespan {
            self.episode = None;
        }
        self.last = what.time;
        if let Some(slot) = self.seen.get_mut(what.input) {
            *slot = Some((what.time, what.at.clone()));
        }
        let within = |seen: &&(Timestamp, Coordinate)| what.time.since(seen.0) <= timespan;
        let mut present: Vec<_> = self.seen.iter().flatten().filter(within).cloned().collect();
        present.sort();
        change(&mut self.episode, present.len() >= at_least, &present, what)
    }
}

/// Events for inputs 0..=i, in order.
type Chain = Vec<(Timestamp, Coordinate)>;

/// For each prefix of the inputs, the chain of events that completes it.
///
/// Of all chains the one with the latest start is kept: it stays within the timespan longest. Events of
/// one instant are put in order once more each time another comes: those of one partition stand in
/// its order, between partitions either may have been first, and one event is not two steps.
#[derive(Clone, Debug, Default)]
pub struct OrderedWindow {
    /// `chains[i]`: of the events before this instant.
    chains: Vec<Chain>,
    /// Which input matched which event of this instant.
    instant: Vec<(usize, Coordinate)>,
    pub(super) episode: Option<Episode>,
    last: Timestamp,
}

impl OrderedWindow {
    pub(super) fn new(inputs: usize) -> Self {
        Self { chains: vec![Chain::new(); inputs], ..Self::default() }
    }

    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    pub(super) fn apply(&mut self, timespan: i64, what: &Happening<'_>) -> Change {
        if what.time.since(self.last) > timespan {
            self.episode = None;
        }
        if what.time > self.last {
            let chains = self.candidates().into_iter();
            self.chains = chains.map(|c| latest(c.into_iter()).unwrap_or_default()).collect();
            self.instant.clear();
        }
        self.last = what.time;
        if self.instant.len() < INSTANT_EVENTS_MAX {
            self.instant.push((what.input, what.at.clone()));
        }
        let complete = self.candidates().pop().unwrap_or_default().into_iter().filter(|chain| {
            let within = chain.first().is_some_and(|(t, _)| what.time.since(*t) <= timespan);
            within && chain.iter().any(|(_, at)| at == what.at)
        });
        let chain = latest(complete);
        let holds = chain.is_some();
        change(&mut self.episode, holds, &chain.unwrap_or_default(), what)
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
                    i => latest(all[i - 1].iter().filter(|c| self.may_follow(c, at)).cloned()),
                };
                here.extend(shorter.map(|mut chain| {
                    chain.push((self.last, at.clone()));
                    chain
                }));
            }
            all.push(here);
        }
        all
    }

    /// Whether an event of this instant may come after the last one of a chain.
    fn may_follow(&self, chain: &Chain, at: &Coordinate) -> bool {
        chain.last().is_some_and(|(time, last)| {
            let elsewhere = (&last.topic, last.partition) != (&at.topic, at.partition);
            *time < self.last || elsewhere || last.offset < at.offset
        })
    }
}

fn latest(chains: impl Iterator<Item = Chain>) -> Option<Chain> {
    chains.max_by_key(|chain| chain.first().map(|(time, _)| *time))
}

/// Begins an episode when the condition holds, or lets a running one grow.
fn change(
    episode: &mut Option<Episode>,
    holds: bool,
    events: &[(Timestamp, Coordinate)],
    what: &Happening<'_>,
) -> Change {
    match episode {
        Some(episode) => {
            let most = episode.value.max(events.len() as u64);
            episode.grow(what.at, what.time, most);
        }
        None if holds => {
            let mut evidence = Evidence::default();
            events.iter().for_each(|(_, at)| evidence.add(at));
            let start = events.first().map_or(what.time, |(t, _)| *t);
            *episode = Some(Episode::begin(start, what.time, events.len() as u64, evidence));
        }
        None => {}
    }
    Change { holds, episode: episode.is_some() }
}
