//! When what a window holds is enough.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;

/// One or more bounds, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds(pub Vec<(Bound, Decimal)>);

/// Which side of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// Less.
    Below,
    /// Less or equal.
    AtMost,
    /// Greater.
    Above,
    /// Greater or equal.
    AtLeast,
    /// Equal.
    Equal,
    /// Not equal.
    Unequal,
}

impl Bounds {
    /// Whether all of them hold.
    pub fn hold(&self, value: Decimal) -> bool {
        self.0.iter().all(|(bound, limit)| {
            let order = value.cmp(limit);
            match bound {
                Bound::Below => order == Ordering::Less,
                Bound::AtMost => order != Ordering::Greater,
                Bound::Above => order == Ordering::Greater,
                Bound::AtLeast => order != Ordering::Less,
                Bound::Equal => order == Ordering::Equal,
                Bound::Unequal => order != Ordering::Equal,
            }
        })
    }
}

/// Which inputs must have been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// That one, by position.
    Input(usize),
    /// At least so many of these: all of them is *and*, one of them is *or*.
    AtLeast(usize, Vec<Seen>),
    /// Not that.
    Not(Box<Seen>),
}

impl Seen {
    /// So many of `inputs` inputs, whichever.
    pub fn any(at_least: usize, inputs: usize) -> Self {
        Self::AtLeast(at_least, (0..inputs).map(Self::Input).collect())
    }

    /// Whether it holds for what was seen.
    pub fn holds(&self, seen: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Input(input) => seen(*input),
            Self::AtLeast(n, parts) => parts.iter().filter(|p| p.holds(seen)).count() >= *n,
            Self::Not(part) => !part.holds(seen),
        }
    }

    /// Whether seeing more can never make it untrue.
    pub fn is_monotone(&self) -> bool {
        match self {
            Self::Input(_) => true,
            Self::AtLeast(_, parts) => parts.iter().all(Self::is_monotone),
            Self::Not(_) => false,
        }
    }
}

/// What a complete window is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Its number.
    Bounds(Bounds),
    /// Which inputs it saw.
    Seen(Seen),
    /// Whether it saw all inputs in their order.
    InOrder,
}
