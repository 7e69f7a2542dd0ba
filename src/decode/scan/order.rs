//! Keys in the order in which objects had them. Most objects have the keys of one before in the same order, so
//! that a key need not be looked up, only be compared with the one that came at this place before.
//!
//! The keys of an object are a way through a tree. What was found out of a key holds for whoever goes the same
//! way: which field it begins, that it is written plainly, and that none before it begins the same.

use super::keys::{NONE, Words, folded, mixed, sixteen};

/// Behind a key that the tree has no room for.
const LOST: u32 = u32::MAX;

/// Steps to keys on all ways, of 64 bytes each. When there are so many, all are forgotten before
/// the next record.
const STEPS_MAX: usize = 1 << 14;

/// Places to look for a step at, most of them empty: a power of two.
const SLOTS: usize = STEPS_MAX * 4;

/// Places that are looked at. Who makes keys that all belong in one place gains nothing.
const LOOKS_MAX: usize = 16;

/// Bytes of a key: its first sixteen and its last.
const LENGTH_MAX: usize = 32;

/// What a value is part of: the field whose value it is, and the object that it is if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub field: u32,
    pub object: u32,
}

pub(super) const NO_ROLE: Role = Role { field: NONE, object: NONE };

/// A key behind certain others.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Its first sixteen bytes; zeros are behind a shorter one.
    start: u128,
    length: u32,
    /// What came behind it last.
    next: u32,
    role: Role,
}

/// What is asked of a step less often.
#[derive(Clone, Copy, Debug)]
struct Kin {
    /// The last sixteen bytes of a key that has more.
    end: u128,
    parent: u32,
    /// The number of the key among those that are looked for, if it is one.
    key: u32,
}

/// The ways that were gone. The first steps are those before the first key: of each object by its number, and of
/// those that hold no field.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    steps: Vec<Step>,
    kin: Vec<Kin>,
    /// Open addressing: a step by its key and its parent, or 0, which has none.
    slots: Vec<u32>,
    /// Whose keys they are, and how many objects those have.
    keys: u64,
    objects: u32,
}

impl Order {
    /// Forgets everything when there is no more room, or keys of another identity are looked for.
    pub fn begin(&mut self, keys: u64, objects: u32) {
        if self.keys == keys && self.has_room() {
            return;
        }
        *self = Self { keys, objects, slots: vec![0; SLOTS], ..Self::default() };
        let step = Step { start: 0, length: 0, next: NONE, role: NO_ROLE };
        self.steps.resize(objects as usize + 1, step);
        self.kin.resize(objects as usize + 1, Kin { end: 0, parent: NONE, key: NONE });
    }

    /// Whether there is room for one more step.
    fn has_room(&self) -> bool {
        self.steps.len() <= self.objects as usize + STEPS_MAX
    }

    /// The step before the first key of an object.
    pub fn first(&self, object: u32) -> u32 {
        object.min(self.objects)
    }

    /// The step to the key at `start` in `text`, and what it begins, if it is the one that came here last.
    #[inline(always)]
    pub fn follow(
        &self,
        step: u32,
        text: &[u8],
        start: usize,
        length: usize,
    ) -> Option<(u32, Role)> {
        let next = self.steps.get(step as usize)?.next;
        Some((next, self.goes_to(next, text, start, length)?))
    }

    /// The same if it came here ever.
    pub fn follow_any(
        &mut self,
        step: u32,
        text: &[u8],
        start: usize,
        length: usize,
    ) -> Option<(u32, Role)> {
        if step == LOST {
            return None;
        }
        let found = slots(step, text, start, length).find_map(|slot| match self.slots.get(slot) {
            None | Some(0) => Some(None),
            Some(to) if self.kin[*to as usize].parent != step => None,
            Some(to) => self.goes_to(*to, text, start, length).map(|role| Some((*to, role))),
        });
        let (to, role) = found??;
        self.steps[step as usize].next = to;
        Some((to, role))
    }

    #[inline(always)]
    fn goes_to(&self, step: u32, text: &[u8], start: usize, length: usize) -> Option<Role> {
        let to = self.steps.get(step as usize)?;
        let same = to.length as usize == length
            && to.start == Words::new(text, start, length, 0).start()
            && (length <= 16 || self.ends(step, text, start + length));
        same.then_some(to.role)
    }

    #[inline(never)]
    fn ends(&self, step: u32, text: &[u8], end: usize) -> bool {
        self.kin[step as usize].end == sixteen(text, end - 16)
    }

    /// The numbers of the keys on the way to a step.
    pub fn way(&self, step: u32) -> impl Iterator<Item = u32> {
        let kin = |step: u32| self.kin.get(step as usize);
        let way = std::iter::successors(kin(step), move |step| kin(step.parent));
        way.map(|step| step.key).filter(|key| *key != NONE)
    }

    /// Adds the key at `start` in `text` behind a step, with its number and what it begins; the step to it.
    /// That may be one that nothing leads from or to, so who comes here has noted the keys before.
    pub fn add(
        &mut self,
        step: u32,
        text: &[u8],
        (start, length): (usize, usize),
        (key, role): (u32, Role),
    ) -> u32 {
        if step == LOST || !self.has_room() || length > LENGTH_MAX {
            return LOST;
        }
        let mut free = slots(step, text, start, length).filter(|slot| self.slots[*slot] == 0);
        let Some(slot) = free.next() else { return LOST };
        let to = self.steps.len() as u32;
        let end = if length > 16 { sixteen(text, start + length - 16) } else { 0 };
        let bytes = Words::new(text, start, length, 0).start();
        self.steps.push(Step { start: bytes, length: length as u32, next: NONE, role });
        self.kin.push(Kin { end, parent: step, key });
        self.slots[slot] = to;
        self.steps[step as usize].next = to;
        to
    }
}

/// Where to look for the step to a key behind a step, one place after the other.
fn slots(step: u32, text: &[u8], start: usize, length: usize) -> impl Iterator<Item = usize> {
    let mut hash = Words::new(text, start, length, step).hash();
    if length > 16 {
        // Long names often differ only in how they end.
        hash = mixed(hash ^ folded(sixteen(text, start + length - 16)));
    }
    let first = hash >> (64 - SLOTS.trailing_zeros());
    (0..LOOKS_MAX).map(move |look| (first as usize + look) % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::scan::{ScanScratch, Scanner};
    use crate::event::{FieldPath, View};

    #[test]
    fn made_up_keys_take_no_more_than_their_room() {
        let scanner = Scanner::new(&[FieldPath::new("wanted")], &[], &[]);
        let (mut view, mut scratch) = (View::default(), ScanScratch::default());
        let (mut steps, mut forgotten) = (0, 0);
        for number in 0..if cfg!(miri) { 150 } else { 3_000 } {
            let keys: String = (0..20).map(|n| format!("\"k{number}_{n}\":1,")).collect();
            let mut scan = |last: &str| {
                let record = format!("{{{keys}\"wanted\":2{last}}}");
                scanner.scan(record.as_bytes(), &mut view, &mut scratch) && view.is_present(0)
            };
            assert!(scan("") && !scan(",\"wanted\":3") && scan(""), "{number}");
            let order = &scratch.order;
            assert!(order.steps.len() <= STEPS_MAX + 2);
            forgotten += usize::from(order.steps.len() < steps);
            steps = order.steps.len();
        }
        assert!(forgotten > 1 || cfg!(miri), "{forgotten}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes a million hashes to find such keys")]
    fn keys_that_belong_in_one_place_are_looked_for_in_few() {
        let scanner = Scanner::new(&[FieldPath::new("wanted")], &[], &[]);
        let (mut view, mut scratch) = (View::default(), ScanScratch::default());
        let mut places = std::collections::HashMap::<usize, Vec<String>>::new();
        let crowded = (0..).find_map(|number| {
            let key = format!("k{number:07}");
            let place = slots(0, key.as_bytes(), 0, 8).next()?;
            let there = places.entry(place).or_default();
            there.push(key);
            (there.len() > 2 * LOOKS_MAX).then(|| there.clone())
        });
        for key in crowded.iter().flatten().chain(crowded.iter().flatten()) {
            let mut scan = |last: &str| {
                let record = format!("{{\"{key}\":1,\"wanted\":2{last}}}");
                scanner.scan(record.as_bytes(), &mut view, &mut scratch) && view.is_present(0)
            };
            assert!(scan("") && !scan(",\"wanted\":3"), "{key}");
        }
        assert_eq!(scratch.order.slots.iter().filter(|step| **step != 0).count(), 2 * LOOKS_MAX);
    }

    #[test]
    fn names_that_differ_in_how_they_end_have_places_of_their_own() {
        let scanner = Scanner::new(&[FieldPath::new("wanted")], &[], &[]);
        let (mut view, mut scratch) = (View::default(), ScanScratch::default());
        for number in 0..100 {
            let record = format!("{{\"winlog_event_data_{number:02}\":1}}");
            assert!(scanner.scan(record.as_bytes(), &mut view, &mut scratch), "{record}");
        }
        assert_eq!(scratch.order.slots.iter().filter(|step| **step != 0).count(), 100);
    }
}
