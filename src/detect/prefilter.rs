//! Which rules may match an event: a few looks at its values instead of thousands of conditions.
//!
//! Each rule of a plan waits for its signs ([`super::witness`]). The signs of a field are one hash set
//! and one automaton, so that a value is read once for all rules. What comes out is a superset of the
//! rules that match; rules without a sign are always in it.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::AhoCorasick;

use super::witness::{Sign, Witness};
use crate::event::FieldPath;

/// The signs of all rules of one plan.
#[derive(Debug, Default)]
pub struct Prefilter {
    /// Signs by field, as the program numbers fields.
    pub fields: Vec<(u32, Signs)>,
    /// Signs in any value.
    pub anywhere: Option<Literals>,
    /// Rules that wait for nothing.
    pub always: Vec<u32>,
}

/// What rules wait for in one field.
#[derive(Debug, Default)]
pub struct Signs {
    present: Vec<u32>,
    equal: HashMap<Box<str>, Vec<u32>>,
    contained: Option<Literals>,
}

/// Literals and the rules that wait for each.
#[derive(Debug)]
pub struct Literals {
    automaton: AhoCorasick,
    rules: Vec<Vec<u32>>,
}

/// Rules that may match the event at hand, each once.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    epoch: u32,
    seen: Vec<u32>,
    rules: Vec<u32>,
}

#[derive(Default)]
struct Draft {
    present: Vec<u32>,
    equal: HashMap<Box<str>, Vec<u32>>,
    contained: BTreeMap<String, Vec<u32>>,
}

impl Prefilter {
    /// For rules with their witnesses; `field` gives the number of a field.
    pub fn new<'r>(
        rules: impl Iterator<Item = (u32, Option<Witness<'r>>)>,
        field: impl Fn(&FieldPath) -> u32,
    ) -> Self {
        let mut always = Vec::new();
        let mut drafts: BTreeMap<u32, Draft> = BTreeMap::new();
        let mut anywhere: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (rule, witness) in rules {
            let Some(witness) = witness else {
                always.push(rule);
                continue;
            };
            for sign in witness.signs {
                match sign {
                    Sign::Present(f) => drafts.entry(field(f)).or_default().present.push(rule),
                    Sign::Equal(f, text) => {
                        let equal = &mut drafts.entry(field(f)).or_default().equal;
                        equal.entry(text.into()).or_default().push(rule);
                    }
                    Sign::Contains(Some(f), text) => {
                        let contained = &mut drafts.entry(field(f)).or_default().contained;
                        contained.entry(text).or_default().push(rule);
                    }
                    Sign::Contains(None, text) => anywhere.entry(text).or_default().push(rule),
                }
            }
        }
        let (anywhere, unbuilt) = Literals::new(anywhere);
        always.extend(unbuilt);
        let fields = drafts.into_iter().map(|(field, draft)| (field, Signs::new(draft))).collect();
        Self { fields, anywhere, always }
    }
}

impl Signs {
    /// Where no automaton can be built, its rules wait for the field alone.
    fn new(draft: Draft) -> Self {
        let (contained, unbuilt) = Literals::new(draft.contained);
        let mut present = draft.present;
        present.extend(unbuilt);
        Self { present, equal: draft.equal, contained }
    }

    /// Takes the rules that waited for the field to be there.
    pub fn present(&self, candidates: &mut Candidates) {
        candidates.add(&self.present);
    }

    /// Takes the rules that waited for something in this folded text.
    pub fn text(&self, text: &str, candidates: &mut Candidates) {
        if let Some(rules) = self.equal.get(text) {
            candidates.add(rules);
        }
        if let Some(contained) = &self.contained {
            contained.text(text, candidates);
        }
    }

    /// Whether texts have to be looked at.
    pub fn reads_text(&self) -> bool {
        !self.equal.is_empty() || self.contained.is_some()
    }
}

impl Literals {
    /// The literals, or the rules whose literals no automaton can hold.
    fn new(literals: BTreeMap<String, Vec<u32>>) -> (Option<Self>, Vec<u32>) {
        if literals.is_empty() {
            return (None, Vec::new());
        }
        let (texts, rules): (Vec<String>, Vec<Vec<u32>>) = literals.into_iter().unzip();
        match AhoCorasick::new(&texts) {
            Ok(automaton) => (Some(Self { automaton, rules }), Vec::new()),
            Err(_) => (None, rules.into_iter().flatten().collect()),
        }
    }

    /// Takes the rules that waited for something in this folded text.
    pub fn text(&self, text: &str, candidates: &mut Candidates) {
        for found in self.automaton.find_overlapping_iter(text) {
            candidates.add(&self.rules[found.pattern().as_usize()]);
        }
    }
}

impl Candidates {
    /// Begins with the next event.
    pub fn next(&mut self, rules: usize) {
        self.rules.clear();
        self.seen.resize(rules, 0);
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.seen.fill(0);
            self.epoch = 1;
        }
    }

    /// Takes rules, each once.
    pub fn add(&mut self, rules: &[u32]) {
        for &rule in rules {
            let seen = &mut self.seen[rule as usize];
            if *seen != self.epoch {
                *seen = self.epoch;
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
