//! Windows over event time: what one group of one correlation remembers.
//!
//! A window is fed in the order of event time; who feeds it waits for the watermark first. So the
//! answers do not depend on the order of arrival, and no window ever has to insert into its past.
//!
//! **Windows are sliding and closed**: events t₁ ≤ t₂ are together when t₂ − t₁ ≤ timespan.
//!
//! **Episodes.** A condition that more events cannot undo (`gt`, `gte`, temporal) is decided the
//! moment it becomes true, once per episode: the episode begins with the earliest event of the window
//! that fired, later events of the group belong to it, and it ends when the group has been quiet for
//! longer than the timespan. Any other condition (`lt`, `lte`, `eq`, `neq`, upper bounds) is decided
//! when its window is complete; such a window opens with a group's first event and closes a timespan
//! later.

mod count;
mod episode;
mod spike;
mod temporal;
mod values;
mod watermark;

pub use episode::{Episode, Evidence};
pub use watermark::{Frontier, PartitionClock, Progress, SourceClock};

use crate::ids::Coordinate;
use crate::time::Timestamp;
use count::{CompleteWindow, CountWindow};
use spike::SpikeWindow;
use temporal::{OrderedWindow, TemporalWindow};
use values::ValueWindow;

/// When a count is enough.
pub trait Condition {
    /// Whether it holds for this count.
    fn holds(&self, count: u64) -> bool;
}

/// One thing that happened to a group.
#[derive(Clone, Debug)]
pub struct Happening<'a> {
    /// When.
    pub time: Timestamp,
    /// Where its record lies.
    pub at: &'a Coordinate,
    /// Which of the correlation's rules it comes from, by position.
    pub input: usize,
    /// The value whose distinct count is asked, if any.
    pub value: Option<&'a str>,
}

/// What a happening or the passing of time did to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether the condition holds now, at this event: what feeds correlations above.
    pub holds: bool,
    /// Whether an episode has begun or grown: see [`Window::episode`].
    pub episode: bool,
}

/// How a group's window works; the parameters of one correlation.
#[derive(Clone, Debug)]
pub enum WindowKind {
    /// Count of events, lower bounds only; fires at the least count that is enough.
    Count {
        /// That count.
        enough: u64,
    },
    /// Count of distinct values, lower bounds only.
    Values {
        /// The count that is enough.
        enough: u64,
    },
    /// Count of events or distinct values, decided when the window is complete.
    Complete {
        /// Whether distinct values are counted.
        distinct: bool,
    },
    /// So many of the inputs.
    Temporal {
        /// How many inputs there are.
        inputs: usize,
        /// How many must occur.
        at_least: usize,
    },
    /// All inputs in order.
    Ordered {
        /// How many inputs there are.
        inputs: usize,
    },
    /// Volume against history.
    Spike {
        /// Length of a bucket, microseconds.
        bucket_micros: i64,
        /// Closed buckets remembered.
        history: usize,
        /// Closed buckets needed before anything fires.
        history_min: usize,
        /// Times the mean that is a spike.
        ratio: f64,
        /// Count that is needed at least.
        count_min: u64,
    },
}

/// The state of one group.
#[derive(Clone, Debug)]
pub enum Window {
    /// See [`WindowKind::Count`].
    Count(CountWindow),
    /// See [`WindowKind::Values`].
    Values(ValueWindow),
    /// See [`WindowKind::Complete`].
    Complete(CompleteWindow),
    /// See [`WindowKind::Temporal`].
    Temporal(TemporalWindow),
    /// See [`WindowKind::Ordered`].
    Ordered(OrderedWindow),
    /// See [`WindowKind::Spike`].
    Spike(SpikeWindow),
}

impl Window {
    /// An empty window.
    pub fn new(kind: &WindowKind) -> Self {
        match *kind {
            WindowKind::Count { .. } => Self::Count(CountWindow::default()),
            WindowKind::Values { .. } => Self::Values(ValueWindow::default()),
            WindowKind::Complete { .. } => Self::Complete(CompleteWindow::default()),
            WindowKind::Temporal { inputs, .. } => Self::Temporal(TemporalWindow::new(inputs)),
            WindowKind::Ordered { inputs } => Self::Ordered(OrderedWindow::new(inputs)),
            WindowKind::Spike { .. } => Self::Spike(SpikeWindow::default()),
        }
    }

    /// Takes a happening; times must not go back.
    pub fn apply(&mut self, kind: &WindowKind, timespan: i64, what: &Happening<'_>) -> Change {
        match (self, kind) {
            (Self::Count(w), WindowKind::Count { enough }) => w.apply(*enough, timespan, what),
            (Self::Values(w), WindowKind::Values { enough }) => w.apply(*enough, timespan, what),
            (Self::Complete(w), WindowKind::Complete { distinct }) => w.apply(*distinct, what),
            (Self::Temporal(w), WindowKind::Temporal { at_least, .. }) => {
                w.apply(*at_least, timespan, what)
            }
            (Self::Ordered(w), WindowKind::Ordered { .. }) => w.apply(timespan, what),
            (Self::Spike(w), kind @ WindowKind::Spike { .. }) => w.apply(kind, what),
            _ => Change::default(),
        }
    }

    /// The running episode.
    pub fn episode(&self) -> Option<&Episode> {
        match self {
            Self::Count(w) => w.episode.as_ref(),
            Self::Values(w) => w.episode.as_ref(),
            Self::Complete(_) => None,
            Self::Temporal(w) => w.episode.as_ref(),
            Self::Ordered(w) => w.episode.as_ref(),
            Self::Spike(w) => w.episode.as_ref(),
        }
    }

    /// The time after which this window has nothing left to say; then it is [closed](Self::close).
    pub fn deadline(&self, kind: &WindowKind, timespan: i64) -> Timestamp {
        match self {
            Self::Count(w) => w.last().plus(timespan),
            Self::Values(w) => w.last().plus(timespan),
            Self::Complete(w) => w.opened().plus(timespan),
            Self::Temporal(w) => w.last().plus(timespan),
            Self::Ordered(w) => w.last().plus(timespan),
            Self::Spike(w) => w.forgotten_at(kind),
        }
    }

    /// Says the last word once the deadline has passed.
    pub fn close(&mut self, condition: &dyn Condition, timespan: i64) -> Option<Episode> {
        match self {
            Self::Complete(w) => w.close(condition, timespan),
            _ => None,
        }
    }
}
