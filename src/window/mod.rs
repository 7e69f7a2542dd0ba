//! Windows over event time: what one group of one correlation remembers.
//!
//! A window is fed in the order of event time; who feeds it waits for the watermark first. So the
//! answers do not depend on the order of arrival, and no window ever has to insert into its past. Who
//! feeds it also lets it go: once the [deadline](Window::deadline) is behind, it is closed and dropped,
//! before anything later is handed on.
//!
//! **Windows are sliding and closed**: events t₁ ≤ t₂ are together when t₂ − t₁ ≤ timespan. A rule may ask
//! for tumbling windows or sessions instead.
//!
//! **Episodes.** A condition that more events cannot undo (`gt`, `gte`, temporal without `not`) is decided
//! the moment it becomes true, once per episode: the episode begins with the earliest event of the window
//! that fired, later events of the group belong to it, and it ends when the group has been quiet for
//! longer than the timespan. Any other condition (`lt`, `lte`, `eq`, `neq`, upper bounds, averages,
//! percentiles, `not`) is decided when its window is complete; such a window opens with a group's first
//! event and closes a timespan later.
//!
//! **No work grows with the window.** An event costs the same whether ten or ten thousand came before it,
//! and what a group may hold is bounded: beyond that the answer is an estimate, and says so.

mod condition;
mod count;
mod distinct;
mod entries;
mod episode;
mod hash;
mod hll;
mod pane;
mod place;
mod quantile;
mod spike;
mod stamps;
mod sum;
mod temporal;
mod watermark;
mod words;

use serde::{Deserialize, Serialize};

pub use condition::{Bound, Bounds, Seen, Test};
pub use episode::{Episode, Evidence};
pub use hash::ValueHash;
pub use pane::{Extent, Measure, PaneKind};
pub use place::{Place, Places, Stretch};
pub use watermark::{Frontier, PartitionClock, Progress, SourceClock};

use crate::decimal::Decimal;
use crate::prefetch::prefetch;
use crate::time::Timestamp;
use count::CountWindow;
use distinct::DistinctWindow;
use pane::PaneWindow;
use spike::SpikeWindow;
use sum::SumWindow;
use temporal::{OrderedWindow, TemporalWindow};

/// One thing that happened to a group.
#[derive(Clone, Copy, Debug)]
pub struct Happening {
    /// When.
    pub time: Timestamp,
    /// Where its record lies.
    pub at: Place,
    /// Which of the correlation's rules it comes from, by position.
    pub input: usize,
    /// The value whose distinct count is asked, if any.
    pub value: Option<ValueHash>,
    /// The number that is added up, averaged or ranked, if any.
    pub number: Option<Decimal>,
}

impl Happening {
    /// One without value or number.
    pub fn plain(time: Timestamp, at: Place, input: usize) -> Self {
        Self { time, at, input, value: None, number: None }
    }
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
#[derive(Clone, Debug, PartialEq)]
pub enum WindowKind {
    /// Count of events, lower bounds only; fires at the least count that is enough.
    Count {
        /// That count.
        enough: u64,
    },
    /// Count of distinct values, lower bounds only.
    Distinct {
        /// The count that is enough.
        enough: u64,
    },
    /// Sum of a field, lower bounds only.
    Sum(Bounds),
    /// So many of the inputs, or certain ones, without `not`.
    Temporal(Seen),
    /// All inputs in order.
    Ordered {
        /// How many inputs there are.
        inputs: usize,
    },
    /// A window that is asked as a whole.
    Pane(PaneKind),
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

/// The state of one group. What is rare or large stands apart, so that counts, of which there may be
/// millions, stay small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Window {
    /// See [`WindowKind::Count`].
    Count(CountWindow),
    /// See [`WindowKind::Distinct`].
    Distinct(DistinctWindow),
    /// See [`WindowKind::Sum`].
    Sum(Box<SumWindow>),
    /// See [`WindowKind::Temporal`].
    Temporal(TemporalWindow),
    /// See [`WindowKind::Ordered`].
    Ordered(Box<OrderedWindow>),
    /// See [`WindowKind::Pane`].
    Pane(Box<PaneWindow>),
    /// See [`WindowKind::Spike`].
    Spike(Box<SpikeWindow>),
}

impl Window {
    /// An empty window.
    pub fn new(kind: &WindowKind) -> Self {
        match kind {
            WindowKind::Count { .. } => Self::Count(CountWindow::default()),
            WindowKind::Distinct { .. } => Self::Distinct(DistinctWindow::default()),
            WindowKind::Sum(_) => Self::Sum(Box::default()),
            WindowKind::Temporal(_) => Self::Temporal(TemporalWindow::default()),
            WindowKind::Ordered { inputs } => Self::Ordered(Box::new(OrderedWindow::new(*inputs))),
            WindowKind::Pane(kind) => Self::Pane(Box::new(PaneWindow::new(kind))),
            WindowKind::Spike { .. } => Self::Spike(Box::default()),
        }
    }

    /// Takes a happening; times must not go back, nor lie behind the deadline.
    pub fn apply(&mut self, kind: &WindowKind, timespan: i64, what: &Happening) -> Change {
        match (self, kind) {
            (Self::Count(w), WindowKind::Count { enough }) => w.apply(*enough, timespan, what),
            (Self::Distinct(w), WindowKind::Distinct { enough }) => {
                w.apply(*enough, timespan, what)
            }
            (Self::Sum(w), WindowKind::Sum(bounds)) => w.apply(bounds, timespan, what),
            (Self::Temporal(w), WindowKind::Temporal(seen)) => w.apply(seen, timespan, what),
            (Self::Ordered(w), WindowKind::Ordered { .. }) => w.apply(timespan, what),
            (Self::Pane(w), WindowKind::Pane(kind)) => w.apply(kind, timespan, what),
            (Self::Spike(w), kind @ WindowKind::Spike { .. }) => w.apply(kind, what),
            _ => Change::default(),
        }
    }

    /// The running episode.
    pub fn episode(&self) -> Option<&Episode> {
        match self {
            Self::Count(w) => w.episode.as_deref(),
            Self::Distinct(w) => w.episode(),
            Self::Sum(w) => w.episode.as_deref(),
            Self::Temporal(w) => w.episode.as_deref(),
            Self::Ordered(w) => w.episode.as_deref(),
            Self::Pane(w) => w.episode.as_deref(),
            Self::Spike(w) => w.episode.as_deref(),
        }
    }

    /// The running episode, to note that it was reported.
    pub fn episode_mut(&mut self) -> Option<&mut Episode> {
        match self {
            Self::Count(w) => w.episode.as_deref_mut(),
            Self::Distinct(w) => w.episode_mut(),
            Self::Sum(w) => w.episode.as_deref_mut(),
            Self::Temporal(w) => w.episode.as_deref_mut(),
            Self::Ordered(w) => w.episode.as_deref_mut(),
            Self::Pane(w) => w.episode.as_deref_mut(),
            Self::Spike(w) => w.episode.as_deref_mut(),
        }
    }

    /// The last instant at which this window has anything to say; behind it, it is
    /// [closed](Self::close) and dropped.
    pub fn deadline(&self, kind: &WindowKind, timespan: i64) -> Timestamp {
        let latest = match (self, kind) {
            (Self::Pane(w), WindowKind::Pane(kind)) => return w.deadline(kind.extent, timespan),
            (Self::Spike(w), kind) => return w.forgotten_at(kind),
            (Self::Count(w), _) => w.stamps.last(timespan),
            (Self::Distinct(w), _) => w.latest_time(timespan),
            (Self::Sum(w), _) => w.latest_time(),
            (Self::Temporal(w), _) => w.latest_time(),
            (Self::Ordered(w), _) => w.latest_time(),
            (Self::Pane(_), _) => Timestamp::MIN,
        };
        latest.plus(timespan)
    }

    /// Says the last word once the deadline has passed.
    pub fn close(&mut self, kind: &WindowKind, timespan: i64) -> Option<Episode> {
        match (self, kind) {
            (Self::Pane(w), WindowKind::Pane(kind)) => w.close(kind, timespan),
            _ => None,
        }
    }

    /// How far the condition is from holding, for a person who asks at `now`.
    pub fn standing(&self, kind: &WindowKind, timespan: i64, now: Timestamp) -> Standing {
        let number = |n: u64| Standing { value: n.into(), ..Standing::default() };
        match (self, kind) {
            (Self::Count(w), _) => {
                let within = |(t, _): &(Timestamp, Place)| now.since(*t) <= timespan;
                number(w.stamps.iter(timespan).filter(within).count() as u64)
            }
            (Self::Distinct(w), _) => number(w.count(now, timespan)),
            (Self::Sum(w), _) => Standing { value: w.sum(now, timespan), ..Standing::default() },
            (Self::Temporal(w), _) => {
                let inputs = w.inputs(now, timespan);
                Standing { value: (inputs.len() as u64).into(), inputs, trip: None }
            }
            (Self::Ordered(w), _) => {
                let steps = w.chains.steps(now, timespan);
                Standing { value: (steps as u64).into(), inputs: (0..steps).collect(), trip: None }
            }
            (Self::Pane(w), WindowKind::Pane(kind)) => {
                let inputs = w.inputs().to_vec();
                Standing { value: w.value(kind.measure), inputs, trip: None }
            }
            (Self::Spike(w), kind) => Standing { trip: w.trip(kind), ..number(w.count()) },
            (Self::Pane(_), _) => Standing::default(),
        }
    }

    /// Has what the next happening will need beside the window itself brought near.
    pub fn prefetch(&self) {
        match self {
            Self::Count(w) => w.prefetch(),
            Self::Distinct(w) => w.prefetch(),
            Self::Sum(w) => prefetch(&**w),
            Self::Temporal(w) => w.prefetch(),
            Self::Ordered(w) => prefetch(&**w),
            Self::Pane(w) => prefetch(&**w),
            Self::Spike(w) => prefetch(&**w),
        }
    }

    /// Bytes that it takes on the heap.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Count(w) => w.bytes(),
            Self::Distinct(w) => w.bytes(),
            Self::Sum(w) => size_of::<SumWindow>() + w.bytes(),
            Self::Temporal(w) => w.bytes(),
            Self::Ordered(w) => size_of::<OrderedWindow>() + w.bytes(),
            Self::Pane(w) => size_of::<PaneWindow>() + w.bytes(),
            Self::Spike(w) => size_of::<SpikeWindow>() + w.bytes(),
        }
    }
}

/// What a window holds at some instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The number that the condition is about.
    pub value: Decimal,
    /// Of a temporal condition: the inputs that were seen, by position; of an ordered one, the first
    /// ones in order.
    pub inputs: Vec<usize>,
    /// Of a spike: the count that would be one, once enough is known.
    pub trip: Option<f64>,
}
