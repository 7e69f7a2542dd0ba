//! A rule set, compiled: every field is looked up once per event, every item answered once.
//!
//! SigmaHQ's rules ask the same things again and again: thousands of items over a few hundred fields.
//! Here equal items of all rules are one, and its answer is kept until the next event. Lists of
//! literals become one automaton or one hash set. Conditions are trees over items, the cheap ones
//! first. A plan says which conditions to ask at all. [`super::run`] runs it over events;
//! [`super::reference`] is the truth that both must equal.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use foldhash::fast::FixedState;

use super::edges::{Edges, Side};
use super::grams::{Grams, rarest_spots};
use super::prefilter::Prefilter;
use super::rates::{Rates, guess};
use super::text::TextMatcher;
use super::texts::escaped;
use super::witness::{Clue, Clues, Known, Rated, Signs, required_literals};
use crate::event::FieldPath;
use crate::rule::{Expr, Item, Matcher, Part, RuleSet, TextRegex, Values, fold};

/// From so many literals on, a list is searched for at once.
const LIST_LITERALS_MIN: usize = 2;

/// The number of literals that need nothing else.
pub const HOLDS: u32 = u32::MAX;

/// Checks that wait for literals of one list.
const GATED_MAX: usize = 64;

/// All rules of a set, compiled.
#[derive(Debug)]
pub struct Program {
    pub(super) fields: Vec<FieldPath>,
    pub(super) items: Vec<Check>,
    pub(super) rules: Vec<Test>,
    /// How many junctions they have.
    pub(super) junctions: u32,
    signs: Signs,
    /// What each rule can be told by.
    clues: Vec<Option<Clue>>,
    /// How common signs are by a guess.
    guessed: OnceLock<Vec<Known>>,
}

/// What is run for one kind of source.
#[derive(Debug)]
pub struct Plan {
    /// Which of its rules to ask.
    pub(super) prefilter: Prefilter,
}

/// A condition over items.
#[derive(Debug)]
pub enum Test {
    And(Junction),
    Or(Junction),
    Not(Box<Test>),
    AtLeast(usize, Box<[Test]>),
    Item(u32),
}

/// Parts of which one may decide.
#[derive(Debug)]
pub struct Junction {
    pub parts: Box<[Test]>,
    /// Its number: what decided last is kept by it, to be tried first.
    pub number: u32,
}

/// One item, shared by all rules that ask the same.
#[derive(Debug)]
pub struct Check {
    /// Index of the field, `None` for keywords.
    pub field: Option<u32>,
    pub values: Vec<ValueCheck>,
    pub all: bool,
    pub negated: bool,
    cost: u32,
}

/// One value, or several that one structure answers.
#[derive(Debug)]
pub enum ValueCheck {
    Text(TextMatcher),
    /// One of these is the whole text; canonical.
    OneOf(HashSet<Box<[u8]>, FixedState>),
    /// One of some literals is in the text, or one of those that only let one of `gated` hold; canonical.
    Search {
        /// Literals are numbered as the checks that they let hold; [`HOLDS`] are those that are enough.
        grams: Grams,
        gated: Box<[ValueCheck]>,
    },
    /// The text begins, or ends, with one of these; canonical.
    Edge(Edges),
    Regex(TextRegex),
    /// Anything else, as the rule has it.
    Plain(Matcher),
    FieldRef {
        field: u32,
        matcher: Matcher,
    },
    Any(Vec<ValueCheck>),
}

impl Program {
    /// Compiles all rules of a set as one of its views sees them; those that it does not have never
    /// match.
    pub fn new(rules: &RuleSet, view: usize) -> Self {
        let mut compiler = Compiler::default();
        let seen = rules.detections.iter().map(|rule| rule.seen(view));
        let tests = seen
            .map(|seen| match seen {
                Some((_, condition)) => compiler.test(condition),
                None => Test::Or(compiler.junction(&[])),
            })
            .collect();
        let mut signs = Signs::default();
        let number = |field: &FieldPath| compiler.field_of[field];
        let mut clues = Clues { signs: &mut signs, number: &number };
        let seen = rules.detections.iter().map(|rule| rule.seen(view));
        let clues = seen.map(|seen| clues.of_rule(seen?.1)).collect();
        Self {
            fields: compiler.fields,
            items: compiler.items,
            rules: tests,
            junctions: compiler.junctions,
            signs,
            clues,
            guessed: OnceLock::new(),
        }
    }

    /// The plan for some of the rules before anything is known of the events.
    pub fn first_plan(&self, chosen: &[u32]) -> Plan {
        let rates = Rates::default();
        let guessed = self.guessed.get_or_init(|| Rated::new(&self.signs, &rates).all());
        self.planned(chosen, Rated::of(&self.signs, &rates, guessed.clone()))
    }

    /// The plan for some of the rules, given how common things are.
    pub fn plan(&self, chosen: &[u32], rates: &Rates) -> Plan {
        self.planned(chosen, Rated::new(&self.signs, rates))
    }

    fn planned(&self, chosen: &[u32], mut rated: Rated<'_>) -> Plan {
        let (mut waiting, mut always, mut signs) = (Vec::new(), Vec::new(), Vec::new());
        for rule in chosen {
            match &self.clues[*rule as usize] {
                None => always.push(*rule),
                Some(clue) => rated.rarest(clue, &mut signs),
            }
            waiting.extend(signs.drain(..).map(|sign| (sign, *rule)));
        }
        let (all, fields) = (&self.signs.all, self.fields.len());
        Plan { prefilter: Prefilter::new(waiting, always, all, fields, &rated) }
    }
}

#[derive(Default)]
struct Compiler<'r> {
    fields: Vec<FieldPath>,
    field_of: HashMap<&'r FieldPath, u32, FixedState>,
    items: Vec<Check>,
    item_of: HashMap<&'r Item, u32, FixedState>,
    keywords_of: HashMap<&'r Values, u32, FixedState>,
    junctions: u32,
}

impl<'r> Compiler<'r> {
    fn test(&mut self, expr: &'r Expr) -> Test {
        match expr {
            Expr::And(parts) => Test::And(self.junction(parts)),
            Expr::Or(parts) => Test::Or(self.junction(parts)),
            Expr::Not(part) => Test::Not(Box::new(self.test(part))),
            Expr::AtLeast(n, parts) => Test::AtLeast(*n, self.sorted(parts)),
            Expr::Item(item) => Test::Item(self.item(item)),
            Expr::Keywords(values) => Test::Item(self.keywords(values)),
        }
    }

    fn junction(&mut self, parts: &'r [Expr]) -> Junction {
        let parts = self.sorted(parts);
        self.junctions += 1;
        Junction { parts, number: self.junctions - 1 }
    }

    /// The order of parts changes no answer, only what it costs.
    fn sorted(&mut self, parts: &'r [Expr]) -> Box<[Test]> {
        let mut tests: Vec<Test> = parts.iter().map(|p| self.test(p)).collect();
        tests.sort_by_key(|t| self.cost(t));
        tests.into()
    }

    fn cost(&self, test: &Test) -> u32 {
        match test {
            Test::Item(item) => self.items[*item as usize].cost,
            Test::Not(part) => self.cost(part),
            Test::And(all) => all.parts.first().map_or(0, |p| self.cost(p)),
            Test::Or(Junction { parts, .. }) | Test::AtLeast(_, parts) => {
                parts.iter().fold(0, |sum, p| sum.saturating_add(self.cost(p)))
            }
        }
    }

    fn field(&mut self, field: &'r FieldPath) -> u32 {
        *self.field_of.entry(field).or_insert_with(|| {
            self.fields.push(field.clone());
            (self.fields.len() - 1) as u32
        })
    }

    fn item(&mut self, item: &'r Item) -> u32 {
        if let Some(index) = self.item_of.get(item) {
            return *index;
        }
        let field = self.field(&item.field);
        let index = self.check(Some(field), &item.values, item.negated);
        self.item_of.insert(item, index);
        index
    }

    fn keywords(&mut self, values: &'r Values) -> u32 {
        if let Some(index) = self.keywords_of.get(values) {
            return *index;
        }
        let index = self.check(None, values, false);
        self.keywords_of.insert(values, index);
        index
    }

    fn check(&mut self, field: Option<u32>, values: &'r Values, negated: bool) -> u32 {
        let checks = match values.all {
            true => values.matchers.iter().map(|m| self.any_of(std::slice::from_ref(m))).collect(),
            false => self.one_of(&values.matchers),
        };
        let cost = checks.iter().map(value_cost).sum::<u32>();
        let cost = if field.is_none() { cost.saturating_mul(50) } else { cost };
        self.items.push(Check { field, values: checks, all: values.all, negated, cost });
        (self.items.len() - 1) as u32
    }

    /// Values of which one is enough, as one check.
    fn any_of(&mut self, matchers: &'r [Matcher]) -> ValueCheck {
        let mut checks = self.one_of(matchers);
        match checks.len() {
            1 => checks.remove(0),
            _ => ValueCheck::Any(checks),
        }
    }

    /// Values of which one is enough: plain literals are put together.
    fn one_of(&mut self, matchers: &'r [Matcher]) -> Vec<ValueCheck> {
        let mut equal: Vec<&str> = Vec::new();
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        let mut contained: Vec<&Matcher> = Vec::new();
        let mut rest = Vec::new();
        let mut gated = Gated::default();
        for matcher in matchers.iter().flat_map(forms) {
            match literal(matcher) {
                Some(Literal::Equal(text)) => equal.push(text),
                Some(Literal::Start(_)) => starts.push(matcher),
                Some(Literal::End(_)) => ends.push(matcher),
                Some(Literal::Contained(_)) => contained.push(matcher),
                None => match needed(matcher).filter(|_| gated.checks.len() < GATED_MAX) {
                    Some(literals) => gated.add(literals, self.value(matcher)),
                    None => rest.push(matcher),
                },
            }
        }
        for edge in [&mut starts, &mut ends] {
            if edge.len() < LIST_LITERALS_MIN {
                rest.append(edge);
            }
        }
        if contained.len() + gated.checks.len() < LIST_LITERALS_MIN {
            rest.append(&mut contained);
        }
        let mut checks = Vec::new();
        if !equal.is_empty() {
            let canonical = equal.into_iter().map(|text| escaped(&fold(text)).into());
            checks.push(ValueCheck::OneOf(canonical.collect()));
        }
        for (side, edge) in [(Side::Start, starts), (Side::End, ends)] {
            if !edge.is_empty() {
                checks.push(ValueCheck::Edge(Edges::new(side, &texts(&edge))));
            }
        }
        checks.extend(rest.into_iter().map(|m| self.value(m)));
        checks.extend(gated.search(&texts(&contained)));
        checks.sort_by_key(value_cost);
        checks
    }

    fn value(&mut self, matcher: &'r Matcher) -> ValueCheck {
        match matcher {
            Matcher::Text { pattern, cased } => ValueCheck::Text(TextMatcher::new(pattern, *cased)),
            Matcher::FieldRef { field, .. } => {
                ValueCheck::FieldRef { field: self.field(field), matcher: matcher.clone() }
            }
            Matcher::Regex(regex) => ValueCheck::Regex(regex.clone()),
            Matcher::Any(forms) => self.any_of(forms),
            matcher => ValueCheck::Plain(matcher.clone()),
        }
    }
}

/// Checks that can only hold where a literal was found.
#[derive(Default)]
struct Gated {
    literals: Vec<(Vec<u8>, u32)>,
    checks: Vec<ValueCheck>,
}

impl Gated {
    fn add(&mut self, literals: Vec<String>, check: ValueCheck) {
        let number = self.checks.len() as u32;
        self.literals.extend(literals.iter().map(|literal| (escaped(literal), number)));
        self.checks.push(check);
    }

    /// One search for all of them, and for literals that are enough.
    fn search(self, enough: &[Box<[u8]>]) -> Option<ValueCheck> {
        let gates = self.literals.iter().map(|(text, number)| (&**text, *number));
        let literals: Vec<(&[u8], u32)> =
            enough.iter().map(|text| (&**text, HOLDS)).chain(gates).collect();
        let spots = |text: &[u8]| rarest_spots(text, &guess).0;
        let placed = literals.iter().map(|(text, number)| (*text, spots(text), *number));
        let is_empty = literals.is_empty();
        (!is_empty)
            .then(|| ValueCheck::Search { grams: Grams::new(placed), gated: self.checks.into() })
    }
}

/// Folded texts of which one is in every folded text that a value with wildcards, or a regular
/// expression, matches.
fn needed(matcher: &Matcher) -> Option<Vec<String>> {
    match matcher {
        Matcher::Regex(regex) => required_literals(regex),
        Matcher::Text { pattern, .. } => {
            let texts = pattern.parts().iter().filter_map(|part| match part {
                Part::Text(text) => Some(fold(text).into_owned()),
                Part::Any | Part::One => None,
            });
            let inner = pattern.parts().len() > 3 || pattern.parts().contains(&Part::One);
            texts
                .filter(|_| inner)
                .min_by(|a, b| rare(a).total_cmp(&rare(b)))
                .map(|text| vec![text])
        }
        _ => None,
    }
}

/// About how many values contain a text.
fn rare(text: &str) -> f64 {
    rarest_spots(text.as_bytes(), &guess).1
}

/// The forms of a value, of which one is enough.
fn forms(matcher: &Matcher) -> Vec<&Matcher> {
    match matcher {
        Matcher::Any(of) => of.iter().flat_map(forms).collect(),
        matcher => vec![matcher],
    }
}

/// What a text without inner wildcards asks for, when case does not count.
enum Literal<'m> {
    Equal(&'m str),
    Start(&'m str),
    End(&'m str),
    Contained(&'m str),
}

fn literal(matcher: &Matcher) -> Option<Literal<'_>> {
    let Matcher::Text { pattern, cased: false } = matcher else { return None };
    match pattern.parts() {
        [] => Some(Literal::Equal("")),
        [Part::Text(text)] => Some(Literal::Equal(text)),
        [Part::Text(text), Part::Any] => Some(Literal::Start(text)),
        [Part::Any, Part::Text(text)] => Some(Literal::End(text)),
        [Part::Any, Part::Text(text), Part::Any] => Some(Literal::Contained(text)),
        _ => None,
    }
}

/// The canonical texts of literals.
fn texts(matchers: &[&Matcher]) -> Vec<Box<[u8]>> {
    let text = |matcher: &&Matcher| match literal(matcher)? {
        Literal::Equal(t) | Literal::Start(t) | Literal::End(t) | Literal::Contained(t) => {
            Some(escaped(&fold(t)).into())
        }
    };
    matchers.iter().filter_map(text).collect()
}

/// About how long a value takes, relative to comparing two short texts.
fn value_cost(value: &ValueCheck) -> u32 {
    match value {
        ValueCheck::Text(matcher) => matcher.cost(),
        ValueCheck::OneOf(_) | ValueCheck::Edge(_) => 2,
        ValueCheck::Search { .. } => 20,
        ValueCheck::Regex(_) => 100,
        ValueCheck::Plain(_) => 2,
        ValueCheck::FieldRef { .. } => 10,
        ValueCheck::Any(forms) => forms.iter().map(value_cost).sum(),
    }
}
