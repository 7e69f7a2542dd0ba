//! Where events lie, in six bytes each.
//!
//! A window remembers many coordinates and says them only when it fires, so it keeps a number and the lower
//! half of the offset. The number stands for the rest of the coordinate: topic, partition and the upper half.
//! Numbers are given in the order in which these come up; nothing that is decided depends on them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::Coordinate;

/// Stretches that can be told apart: the last number means that it is not known.
const NAMES_MAX: usize = u16::MAX as usize;

/// Words that a place takes.
pub(super) const PLACE_WORDS: usize = 3;

/// A coordinate, as one of [`Places`] has numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    stretch: u16,
    /// The lower half of the offset, itself in halves: so it may stand anywhere.
    low: [u16; 2],
}

/// 2³² offsets of a partition: the topic, the partition, and the upper half of their offsets.
pub type Stretch = (Arc<str>, i32, u32);

impl Place {
    /// That of a record whose place could not be kept.
    pub const UNKNOWN: Self = Self { stretch: u16::MAX, low: [u16::MAX; 2] };

    fn new(stretch: u16, low: u32) -> Self {
        Self { stretch, low: [(low >> 16) as u16, low as u16] }
    }

    fn low(self) -> u32 {
        u32::from(self.low[0]) << 16 | u32::from(self.low[1])
    }

    /// Whether a record there may have been written after that of `other`, for all that places say: not
    /// when it stands before it in the same stretch.
    pub fn may_follow(self, other: Self) -> bool {
        self.stretch != other.stretch || other.low() < self.low()
    }

    /// Whether it is that of a record; of some it could not be kept.
    pub fn is_known(self) -> bool {
        usize::from(self.stretch) != NAMES_MAX
    }

    pub(super) fn words(self) -> [u16; PLACE_WORDS] {
        [self.stretch, self.low[0], self.low[1]]
    }

    /// Of what [`words`](Self::words) gave.
    pub(super) fn of_words(words: &[u16]) -> Self {
        match *words {
            [stretch, high, low] => Self { stretch, low: [high, low] },
            _ => Self::UNKNOWN,
        }
    }
}

/// The stretches that have come up, numbered.
#[derive(Clone, Debug, Default)]
pub struct Places {
    names: Vec<Stretch>,
    numbers: HashMap<Stretch, u16>,
    last: u16,
}

impl Places {
    /// The coordinate in short. Beyond 65 535 stretches it is kept as unknown: it counts, and no alert names
    /// it.
    pub fn place(&mut self, at: &Coordinate) -> Place {
        let Ok(offset) = u64::try_from(at.offset) else { return Place::UNKNOWN };
        let high = (offset >> 32) as u32;
        let number = match self.names.get(usize::from(self.last)) {
            Some((topic, partition, half))
                if Arc::ptr_eq(topic, &at.topic) && (*partition, *half) == (at.partition, high) =>
            {
                self.last
            }
            _ => self.number((Arc::clone(&at.topic), at.partition, high)),
        };
        Place::new(number, offset as u32)
    }

    fn number(&mut self, name: Stretch) -> u16 {
        if let Some(number) = self.numbers.get(&name) {
            self.last = *number;
            return *number;
        }
        if self.names.len() >= NAMES_MAX {
            return u16::MAX;
        }
        self.last = self.names.len() as u16;
        self.names.push(name.clone());
        self.numbers.insert(name, self.last);
        self.last
    }

    /// The coordinate again; `None` when it could not be kept.
    pub fn coordinate(&self, place: Place) -> Option<Coordinate> {
        let (topic, partition, high) = self.names.get(usize::from(place.stretch))?;
        let offset = (u64::from(*high) << 32 | u64::from(place.low())).cast_signed();
        Some(Coordinate { topic: Arc::clone(topic), partition: *partition, offset })
    }

    /// The order of records by topic, partition and offset, whatever the numbers.
    pub fn rank(&self, a: Place, b: Place) -> Ordering {
        let name = |place: Place| self.names.get(usize::from(place.stretch));
        let same = a.stretch == b.stretch;
        let stretches = if same { Ordering::Equal } else { name(a).cmp(&name(b)) };
        stretches.then_with(|| a.low().cmp(&b.low()))
    }

    /// The stretches in the order of their numbers, to be kept.
    pub fn names(&self) -> &[Stretch] {
        &self.names
    }

    /// Numbered again as they were.
    pub fn restore(names: Vec<Stretch>) -> Self {
        let numbers = names.iter().cloned().zip(0..).collect();
        Self { names, numbers, last: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_coordinate_again() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut places = Places::default();
        for (topic, partition, offset) in
            [(&a, 0, 0), (&b, 0, 7), (&a, 1, (1 << 48) - 1), (&a, 0, 5), (&b, 0, i64::MAX)]
        {
            let at = Coordinate { topic: Arc::clone(topic), partition, offset };
            let place = places.place(&at);
            assert_eq!(places.coordinate(place).as_ref(), Some(&at));
            assert_eq!(Place::of_words(&place.words()), place);
            assert_eq!(Places::restore(places.names().to_vec()).coordinate(place), Some(at));
            assert!(place.is_known());
        }
        let none = places.place(&Coordinate { topic: a, partition: 0, offset: -1 });
        assert_eq!((places.coordinate(none), none.is_known()), (None, false));
    }

    #[test]
    fn places_have_the_order_of_their_names() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut sorted = Vec::new();
        for topic in [&a, &b] {
            for (partition, offset) in [(0, 0), (0, 9), (0, 7 << 32), (1, 3), (10, 1)] {
                sorted.push(Coordinate { topic: Arc::clone(topic), partition, offset });
            }
        }
        let mut places = Places::default();
        let mut placed: Vec<Place> = sorted.iter().rev().map(|at| places.place(at)).collect();
        placed.sort_by(|x, y| places.rank(*x, *y));
        let again: Vec<_> = placed.iter().filter_map(|p| places.coordinate(*p)).collect();
        assert_eq!(again, sorted);
    }
}
