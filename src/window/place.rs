//! Where events lie, in one word each.
//!
//! A window remembers many coordinates and says them only when it fires, so it keeps a number for the
//! partition and the offset in eight bytes. The numbers are given in the order in which partitions
//! come up; nothing that is decided depends on them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::Coordinate;

/// Bits of an offset: at a million records a second they last for nine years.
const OFFSET_BITS: u32 = 48;
/// Partitions that can be told apart: the last number means that it is not known.
const NAMES_MAX: usize = u16::MAX as usize;

/// A coordinate, as one of [`Places`] has numbered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place(u64);

impl Place {
    /// That of a record whose place could not be kept.
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// Whether both are of one partition.
    pub fn same_partition(self, other: Self) -> bool {
        self.0 >> OFFSET_BITS == other.0 >> OFFSET_BITS
    }

    /// The offset, as far as it could be kept.
    pub fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }

    /// Whether it is that of a record; of some it could not be kept.
    pub fn is_known(self) -> bool {
        (self.0 >> OFFSET_BITS) as usize != NAMES_MAX
    }

    /// The high and low half.
    pub(super) fn words(self) -> [u32; 2] {
        [(self.0 >> 32) as u32, self.0 as u32]
    }

    pub(super) fn of_words([high, low]: [u32; 2]) -> Self {
        Self(u64::from(high) << 32 | u64::from(low))
    }
}

/// The partitions that have come up, numbered.
#[derive(Clone, Debug, Default)]
pub struct Places {
    names: Vec<(Arc<str>, i32)>,
    numbers: HashMap<(Arc<str>, i32), u16>,
    last: u16,
}

impl Places {
    /// The coordinate in one word. Beyond 65 535 partitions or an offset of 2⁴⁸ it is kept as unknown:
    /// it counts, and no alert names it.
    pub fn place(&mut self, at: &Coordinate) -> Place {
        let number = match self.names.get(usize::from(self.last)) {
            Some((topic, partition))
                if Arc::ptr_eq(topic, &at.topic) && *partition == at.partition =>
            {
                self.last
            }
            _ => self.number(at),
        };
        match u64::try_from(at.offset) {
            Ok(offset) if offset >> OFFSET_BITS == 0 => {
                Place(u64::from(number) << OFFSET_BITS | offset)
            }
            _ => Place::UNKNOWN,
        }
    }

    fn number(&mut self, at: &Coordinate) -> u16 {
        let name = (Arc::clone(&at.topic), at.partition);
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
        let (topic, partition) = self.names.get((place.0 >> OFFSET_BITS) as usize)?;
        let offset = place.offset() as i64;
        Some(Coordinate { topic: Arc::clone(topic), partition: *partition, offset })
    }

    /// The order of records by topic, partition and offset, whatever the numbers.
    pub fn rank(&self, a: Place, b: Place) -> Ordering {
        let name = |place: Place| self.names.get((place.0 >> OFFSET_BITS) as usize);
        let partitions = if a.same_partition(b) { Ordering::Equal } else { name(a).cmp(&name(b)) };
        partitions.then_with(|| a.offset().cmp(&b.offset()))
    }

    /// The partitions in the order of their numbers, to be kept.
    pub fn names(&self) -> &[(Arc<str>, i32)] {
        &self.names
    }

    /// Numbered again as they were.
    pub fn restore(names: Vec<(Arc<str>, i32)>) -> Self {
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
            [(&a, 0, 0), (&b, 0, 7), (&a, 1, (1 << 48) - 1), (&a, 0, 5), (&b, 0, 1 << 40)]
        {
            let at = Coordinate { topic: Arc::clone(topic), partition, offset };
            let place = places.place(&at);
            assert_eq!(places.coordinate(place).as_ref(), Some(&at));
            assert_eq!(Place::of_words(place.words()), place);
            assert_eq!(Places::restore(places.names().to_vec()).coordinate(place), Some(at));
            assert!(place.is_known());
        }
        let far = places.place(&Coordinate { topic: a, partition: 0, offset: 1 << 48 });
        assert_eq!((places.coordinate(far), far.is_known()), (None, false));
    }

    #[test]
    fn places_have_the_order_of_their_names() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut sorted = Vec::new();
        for topic in [&a, &b] {
            for (partition, offset) in [(0, 0), (0, 9), (1, 3), (10, 1)] {
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
