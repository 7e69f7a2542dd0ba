//! Different rules matching for one group within a timespan, in any order or in a given one.

use super::{Change, Episode, Evidence, Happening};
use crate::ids::Coordinate;
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

/// For each prefix of the inputs, the latest times at which it was completed in order.
#[derive(Clone, Debug, Default)]
pub struct OrderedWindow {
    /// `chains[i]`: events for inputs 0..=i in order, that with the latest start.
    chains: Vec<Vec<(Timestamp, Coordinate)>>,
    pub(super) episode: Option<Episode>,
    last: Timestamp,
}

impl OrderedWindow {
    pub(super) fn new(inputs: usize) -> Self {
        Self { chains: vec![Vec::new(); inputs], ..Self::default() }
    }

    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    /// An event for input i extends the chain for the inputs before it. Of all chains the one with the
    /// latest start is kept: it stays within the timespan longest.
    pub(super) fn apply(&mut self, timespan: i64, what: &Happening<'_>) -> Change {
        if what.time.since(self.last) > timespan {
            self.episode = None;
        }
        self.last = what.time;
        let mut chain = match what.input {
            0 => Vec::new(),
            i => self.chains.get(i - 1).cloned().unwrap_or_default(),
        };
        // One event is not two steps, even if it matches both rules.
        let possible =
            chain.len() == what.input && chain.last().is_none_or(|(_, at)| at != what.at);
        chain.push((what.time, what.at.clone()));
        let complete =
            possible && chain.len() == self.chains.len() && what.time.since(chain[0].0) <= timespan;
        if possible && let Some(slot) = self.chains.get_mut(what.input) {
            slot.clone_from(&chain);
        }
        change(&mut self.episode, complete, &chain, what)
    }
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
