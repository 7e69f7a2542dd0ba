//! Faults a test asks for: the next requests of one API fail, or their connection is cut.

use std::collections::{BTreeMap, VecDeque};

/// What shall happen to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this error code and has no effect.
    Error(i16),
    /// It has no effect and its connection is closed.
    CloseBefore,
    /// It takes effect and its connection is closed instead of an answer: the client cannot know.
    CloseAfter,
}

/// The faults still to come, by API key, first in first out.
#[derive(Debug, Default)]
pub struct Faults {
    queued: BTreeMap<i16, VecDeque<Fault>>,
}

impl Faults {
    /// Queues a fault for the next `times` requests of an API.
    pub fn inject(&mut self, api_key: i16, fault: Fault, times: usize) {
        self.queued.entry(api_key).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// Takes the next fault of an API.
    pub fn take(&mut self, api_key: i16) -> Option<Fault> {
        self.queued.get_mut(&api_key)?.pop_front()
    }

    /// How many faults of an API are still to come.
    pub fn remaining(&self, api_key: i16) -> usize {
        self.queued.get(&api_key).map_or(0, VecDeque::len)
    }
}
