//! Counting events of a group.

use serde::{Deserialize, Serialize};

use super::stamps::Stamps;
use super::{Change, Episode, Happening};
use crate::prefetch::prefetch;

/// The last few events of a group: to know whether N lie within a timespan, the last N are enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CountWindow {
    pub(super) stamps: Stamps,
    pub(super) episode: Option<Box<Episode>>,
}

impl CountWindow {
    pub(super) fn apply(&mut self, enough: u64, timespan: i64, what: &Happening) -> Change {
        let enough = enough as usize;
        self.stamps.push(what.time, what.at, enough, timespan);
        let nth = self.stamps.nth_back(enough, timespan);
        let holds = nth.is_some_and(|t| what.time.since(t) <= timespan);
        match &mut self.episode {
            Some(episode) => {
                let count = (episode.evidence.total + 1).into();
                episode.grow(what.at, what.time, count);
            }
            None if holds => {
                let older = self.stamps.len(timespan) - enough;
                let counted = self.stamps.iter(timespan).skip(older).map(|(_, at)| at);
                let episode = Episode::begin(
                    nth.unwrap_or(what.time),
                    what.time,
                    (enough as u64).into(),
                    counted.collect(),
                );
                self.episode = Some(Box::new(episode));
            }
            None => {}
        }
        Change { holds, episode: self.episode.is_some() }
    }

    pub(super) fn prefetch(&self) {
        self.stamps.prefetch();
        self.episode.iter().for_each(|episode| prefetch(&**episode));
    }

    pub(super) fn bytes(&self) -> usize {
        self.stamps.bytes() + Episode::bytes(self.episode.as_deref())
    }
}
