//! Which rules may match an event: a few looks at its values instead of thousands of conditions.
//!
//! Each rule of a plan waits for its signs ([`super::witness`]). The signs of a field are one hash set
//! and one search for literals, so that a value is read once for all rules. What comes out is a superset
//! of the rules that match; rules without a sign are always in it.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use super::grams::{Grams, Spots};
use super::memo::Memo;
use super::texts::{Text, Texts};
use super::witness::{Rated, Sign};
use crate::event::{Facts, VIEW_PAD};

/// Rules by index.
type RuleList = Box<[u32]>;

/// The signs of all rules of one plan.
#[derive(Debug, Default)]
pub struct Prefilter {
    /// Where in `signs` those of a field are, by its number; [`NO_SIGNS`] for none.
    of_field: Box<[u16]>,
    signs: Vec<Signs>,
    /// Signs in any value.
    anywhere: Option<Literals>,
    /// Rules that wait for nothing.
    always: RuleList,
}

/// No rule waits for anything in that field.
const NO_SIGNS: u16 = u16::MAX;

/// What rules wait for in one field.
#[derive(Debug, Default)]
struct Signs {
    present: RuleList,
    foreign: RuleList,
    equal: HashMap<Box<[u8]>, RuleList, FixedState>,
    /// Bit n: some text of `equal` has n bytes, or more for the last bit.
    lengths: u64,
    contained: Option<Literals>,
    /// Whether reading a value costs more than to look it up among those that were read before.
    is_costly: bool,
}

/// Literals and the rules that wait for each.
#[derive(Debug)]
struct Literals {
    grams: Grams,
    rules: Box<[RuleList]>,
}

/// Rules that may match the event at hand, each once.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// A bit for each rule: all of them take as much as a few lines of memory.
    seen: Vec<u64>,
    rules: Vec<u32>,
}

#[derive(Default)]
struct Draft<'s> {
    present: RuleList,
    foreign: RuleList,
    equal: Vec<(Box<[u8]>, RuleList)>,
    contained: Vec<(&'s [u8], Spots, RuleList)>,
}

impl Prefilter {
    /// For rules that wait for signs, each pair once, and rules that wait for nothing; fields are
    /// numbered below `fields`.
    pub fn new(
        mut waiting: Vec<(u32, u32)>,
        always: Vec<u32>,
        all: &[Sign],
        fields: usize,
        rated: &Rated<'_>,
    ) -> Self {
        waiting.sort_unstable();
        waiting.dedup();
        let mut drafts: BTreeMap<u32, Draft<'_>> = BTreeMap::new();
        let mut anywhere = Vec::new();
        for same in waiting.chunk_by(|a, b| a.0 == b.0) {
            let rules: RuleList = same.iter().map(|(_, rule)| *rule).collect();
            match &all[same[0].0 as usize] {
                Sign::Present(field) => drafts.entry(*field).or_default().present = rules,
                Sign::Foreign(field) => drafts.entry(*field).or_default().foreign = rules,
                Sign::Equal(field, text) => {
                    drafts.entry(*field).or_default().equal.push((text.clone(), rules));
                }
                Sign::Contains(Some(field), text) => {
                    let spots = rated.spots(same[0].0);
                    drafts.entry(*field).or_default().contained.push((text, spots, rules));
                }
                Sign::Contains(None, text) => {
                    anywhere.push((&**text, rated.spots(same[0].0), rules))
                }
            }
        }
        let mut of_field = vec![NO_SIGNS; fields];
        let mut signs = Vec::with_capacity(drafts.len());
        for (field, draft) in drafts {
            of_field[field as usize] = signs.len() as u16;
            signs.push(Signs::new(draft));
        }
        Self {
            of_field: of_field.into(),
            signs,
            anywhere: Literals::new(anywhere),
            always: always.into(),
        }
    }

    /// Takes the rules whose signs the event has.
    pub fn candidates(
        &self,
        facts: Facts<'_>,
        texts: &mut Texts,
        memo: &mut Memo,
        candidates: &mut Candidates,
    ) {
        candidates.add(&self.always);
        let view = facts.view;
        for &field in view.touched() {
            let number = match self.of_field.get(field as usize) {
                None | Some(&NO_SIGNS) => continue,
                Some(number) => usize::from(*number),
            };
            let signs = &self.signs[number];
            candidates.add(&signs.present);
            if !signs.reads_text() {
                continue;
            }
            for at in view.values(field) {
                let Some(text) = texts.canonical(facts, at) else { continue };
                if signs.is_costly
                    && let Some(rules) = memo.rules(number, text.bytes(), |rules| {
                        signs.text(text, &mut |found| rules.extend_from_slice(found));
                    })
                {
                    candidates.add(rules);
                    continue;
                }
                signs.text(text, &mut |rules| candidates.add(rules));
            }
        }
        if let Some(literals) = &self.anywhere {
            literals.anywhere(facts, texts, candidates);
        }
    }
}

impl Signs {
    fn new(draft: Draft<'_>) -> Self {
        let texts = draft.equal.iter().map(|(text, _)| length_bit(text.len()));
        let lengths = texts.fold(0, |bits, bit| bits | bit);
        let contained = Literals::new(draft.contained);
        Self {
            present: draft.present,
            foreign: draft.foreign,
            equal: draft.equal.into_iter().collect(),
            lengths,
            is_costly: contained.as_ref().is_some_and(|literals| literals.grams.is_costly()),
            contained,
        }
    }

    /// Gives `found` the rules that waited for something in this text.
    fn text(&self, text: Text<'_>, found: &mut impl FnMut(&[u32])) {
        let bytes = text.bytes();
        if self.lengths & length_bit(bytes.len()) != 0
            && let Some(rules) = self.equal.get(bytes)
        {
            found(rules);
        }
        if !self.foreign.is_empty() && !bytes.is_ascii() {
            found(&self.foreign);
        }
        if let Some(contained) = &self.contained {
            contained.text(text, found);
        }
    }

    /// Whether texts have to be looked at.
    fn reads_text(&self) -> bool {
        self.lengths != 0 || self.contained.is_some() || !self.foreign.is_empty()
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

impl Literals {
    /// For literals, each with its best spots and its rules.
    fn new(literals: Vec<(&[u8], Spots, RuleList)>) -> Option<Self> {
        if literals.is_empty() {
            return None;
        }
        let placed = literals.iter().zip(0..);
        let grams = Grams::new(placed.map(|((text, spots, _), number)| (*text, *spots, number)));
        Some(Self { grams, rules: literals.into_iter().map(|(_, _, rules)| rules).collect() })
    }

    /// Gives `found` the rules that waited for something in this text.
    fn text(&self, text: Text<'_>, found: &mut impl FnMut(&[u32])) {
        self.grams.search(text.buffer, text.start, text.end, &mut |number, _| {
            found(&self.rules[number as usize]);
            false
        });
    }

    /// Reads the whole lowered record at once; what stands in no value, as in a name, does not count.
    /// Values that are written otherwise there than canonically are read once more by themselves.
    fn anywhere(&self, facts: Facts<'_>, texts: &mut Texts, candidates: &mut Candidates) {
        let buffer = &facts.view.low;
        let end = VIEW_PAD + facts.record.len();
        self.grams.search(buffer, VIEW_PAD, end, &mut |number, place| {
            if facts.said_at(place).is_some() {
                candidates.add(&self.rules[number as usize]);
            }
            false
        });
        for at in facts.said_unusual() {
            if let Some(text) = texts.canonical(facts, at)
                && !std::ptr::eq(text.buffer, &raw const **buffer)
            {
                self.text(text, &mut |rules| candidates.add(rules));
            }
        }
    }
}

impl Candidates {
    /// Begins with the next event.
    pub fn next(&mut self, rules: usize) {
        self.seen.resize(rules.div_ceil(64), 0);
        for rule in self.rules.drain(..) {
            self.seen[rule as usize / 64] = 0;
        }
    }

    /// Takes rules, each once.
    #[inline]
    pub fn add(&mut self, rules: &[u32]) {
        for &rule in rules {
            let (seen, bit) = (&mut self.seen[rule as usize / 64], 1 << (rule % 64));
            if *seen & bit == 0 {
                *seen |= bit;
                self.rules.push(rule);
            }
        }
    }

    /// The candidates in load order.
    pub fn sorted(&mut self) -> &[u32] {
        self.rules.sort_unstable();
        &self.rules
    }
}
