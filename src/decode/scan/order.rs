//! Keys in the order in which objects had them. Most objects have the keys of one before in the same order, so
//! that a key need not be looked up, only be compared with the one that came at this place before.
//!
//! The keys of an object are a way through a tree. What was found out of a key holds for whoever goes the same
//! way: which field it begins, that it is written plainly, and that none before it begins the same.

use super::keys::{NONE, Words, sixteen};

/// Behind a key that the tree has no room for.
const LOST: u32 = u32::MAX;

/// Steps of all ways, of 64 bytes each. When there are so many, all are forgotten.
const STEPS_MAX: usize = 1 << 14;

/// Different keys behind the same ones. When there are so many, no more of them are found, for they seem to
/// be made up.
const SIBLINGS_MAX: usize = 128;

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
    /// Another step behind the same parent.
    sibling: u32,
    /// One that is behind it.
    child: u32,
    /// The number of the key among those that are looked for, if it is one.
    key: u32,
}

/// The ways that were gone. The first steps are those before the first key: of each object by its number, and of
/// those that hold no field.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    steps: Vec<Step>,
    kin: Vec<Kin>,
    /// Whose keys they are, and how many objects those have.
    keys: u64,
    objects: u32,
}

impl Order {
    /// Forgets everything when there is no more room, or keys of another identity are looked for.
    pub fn begin(&mut self, keys: u64, objects: u32) {
        if self.keys == keys && self.steps.len() < STEPS_MAX {
            return;
        }
        *self = Self { keys, objects, ..Self::default() };
        for _ in 0..=objects {
            self.push(Step { start: 0, length: 0, next: NONE, role: NO_ROLE }, NONE, NONE, 0);
        }
    }

    fn push(&mut self, step: Step, parent: u32, key: u32, end: u128) {
        self.steps.push(step);
        self.kin.push(Kin { end, parent, sibling: NONE, child: NONE, key });
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
        let goes = |to| Some((to, self.goes_to(to, text, start, length)?));
        let found = self.behind(step).find_map(goes)?;
        self.steps[step as usize].next = found.0;
        Some(found)
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

    /// The steps behind a step.
    fn behind(&self, step: u32) -> impl Iterator<Item = u32> {
        let kin = |step: u32| self.kin.get(step as usize);
        let there = |step: u32| (step != NONE).then_some(step);
        let first = kin(step).and_then(|kin| there(kin.child));
        std::iter::successors(first, move |step| there(kin(*step)?.sibling))
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
        if step == LOST || self.steps.len() >= STEPS_MAX || length > LENGTH_MAX {
            return LOST;
        }
        let to = self.steps.len() as u32;
        let end = if length > 16 { sixteen(text, start + length - 16) } else { 0 };
        let bytes = Words::new(text, start, length, 0).start();
        self.push(Step { start: bytes, length: length as u32, next: NONE, role }, step, key, end);
        // What came often is likely to have come early: it stays in front.
        match self.behind(step).enumerate().last() {
            Some((number, last)) if number + 1 < SIBLINGS_MAX => {
                self.kin[last as usize].sibling = to
            }
            _ => self.kin[step as usize].child = to,
        }
        self.steps[step as usize].next = to;
        to
    }
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
            assert!(order.steps.len() <= STEPS_MAX && order.behind(0).count() <= SIBLINGS_MAX);
            forgotten += usize::from(order.steps.len() < steps);
            steps = order.steps.len();
        }
        assert!(forgotten > 1 || cfg!(miri), "{forgotten}");
    }
}
