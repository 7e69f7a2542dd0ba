//! What was found in values that were seen before: logs say the same things again and again.
//!
//! Adaptive: where the values of a field hardly ever come back, it is not asked.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// Values that one plan remembers.
const PLACES: usize = 1 << 10;

/// Bytes of a value at most, so that a place is two lines of memory, which the machine fetches as one: most
/// paths are shorter, most command lines are not.
const VALUE_BYTES: usize = 120;

/// Shorter values are read as fast as looked up.
const VALUE_BYTES_MIN: usize = 12;

/// How far the luck of a field goes, from where on it is out of luck, and how often it is tried then.
const LUCK_MAX: i16 = 256;
const LUCK_LOST: i16 = -64;
const TRIED_EVERY: u16 = 32;

/// Values of one plan's fields and the rules that they point to.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    places: Vec<Place>,
    /// The rules of each place, if there are any.
    rules: Vec<Vec<u32>>,
    /// By number of signs.
    luck: Vec<Luck>,
}

/// A value. Without one it has no length, which none that is looked up has.
#[derive(Clone, Copy, Debug)]
#[repr(align(128))]
struct Place {
    signs: u32,
    length: u16,
    /// Whether it points to any rules.
    points: bool,
    value: [u8; VALUE_BYTES],
}

const FREE: Place = Place { signs: 0, length: 0, points: false, value: [0; VALUE_BYTES] };

#[derive(Clone, Copy, Debug, Default)]
struct Luck {
    level: i16,
    skipped: u16,
}

impl Memo {
    /// The rules that a value points to: remembered, or as `find` appends them. `None` when the value is
    /// not one to remember.
    pub fn rules(
        &mut self,
        signs: usize,
        value: &[u8],
        find: impl FnOnce(&mut Vec<u32>),
    ) -> Option<&[u32]> {
        if !(VALUE_BYTES_MIN..=VALUE_BYTES).contains(&value.len()) || !self.is_lucky(signs) {
            return None;
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, FREE);
            self.rules.resize(PLACES, Vec::new());
        }
        let at = FixedState::default().hash_one((signs, value)) as usize % PLACES;
        let place = &mut self.places[at];
        let luck = &mut self.luck[signs].level;
        let (number, length) = (signs as u32, value.len() as u16);
        if place.signs == number
            && place.length == length
            && place.value.get(..value.len()) == Some(value)
        {
            *luck = (*luck + 1).min(LUCK_MAX);
            return Some(if place.points { &self.rules[at] } else { &[] });
        }
        *luck = (*luck - 1).max(-LUCK_MAX);
        let rules = &mut self.rules[at];
        rules.clear();
        find(rules);
        (place.signs, place.length, place.points) = (number, length, !rules.is_empty());
        place.value[..value.len()].copy_from_slice(value);
        Some(rules)
    }

    fn is_lucky(&mut self, signs: usize) -> bool {
        if self.luck.len() <= signs {
            self.luck.resize(signs + 1, Luck::default());
        }
        let luck = &mut self.luck[signs];
        if luck.level > LUCK_LOST {
            return true;
        }
        luck.skipped = (luck.skipped + 1) % TRIED_EVERY;
        luck.skipped == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_remembered_for_its_field_alone() {
        let mut memo = Memo::default();
        let value = b"C:\\Windows\\cmd.exe";
        assert_eq!(memo.rules(0, value, |rules| rules.push(7)), Some(&[7][..]));
        assert_eq!(memo.rules(0, value, |rules| rules.push(8)), Some(&[7][..]));
        assert_eq!(memo.rules(1, value, |rules| rules.push(9)), Some(&[9][..]));
        assert_eq!(memo.rules(0, b"short", |_| ()), None);
    }

    #[test]
    fn a_field_whose_values_do_not_come_back_is_asked_rarely() {
        let mut memo = Memo::default();
        let asked = (0..10_000)
            .filter(|n| memo.rules(3, format!("value number {n}").as_bytes(), |_| ()).is_some());
        assert!(asked.count() < 1_000);
    }
}
