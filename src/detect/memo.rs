//! What was found in values that were seen before: logs say the same things again and again.
//!
//! Adaptive: where the values of a field hardly ever come back, it is not asked.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// Values that one plan remembers.
const PLACES: usize = 1 << 10;

/// Shorter values are read as fast as looked up; longer ones come back too rarely.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = 12..=256;

/// How far the luck of a field goes, from where on it is out of luck, and how often it is tried then.
const LUCK_MAX: i16 = 256;
const LUCK_LOST: i16 = -64;
const TRIED_EVERY: u16 = 32;

/// Values of one plan's fields and the rules that they point to.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    places: Vec<Place>,
    /// By number of signs.
    luck: Vec<Luck>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    signs: u32,
    value: Vec<u8>,
    rules: Vec<u32>,
}

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
        if !VALUE_BYTES.contains(&value.len()) || !self.is_lucky(signs) {
            return None;
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, Place::default());
        }
        let hash = FixedState::default().hash_one((signs, value));
        let place = &mut self.places[hash as usize % PLACES];
        let luck = &mut self.luck[signs].level;
        if place.signs == signs as u32 && place.value == value {
            *luck = (*luck + 1).min(LUCK_MAX);
            return Some(&place.rules);
        }
        *luck = (*luck - 1).max(-LUCK_MAX);
        place.signs = signs as u32;
        place.value.clear();
        place.value.extend_from_slice(value);
        place.rules.clear();
        find(&mut place.rules);
        Some(&place.rules)
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
