//! A rule set, compiled: every field is looked up once per event, every item answered once.
//!
//! SigmaHQ's rules ask the same things again and again: thousands of items over a few hundred fields.
//! Here equal items of all rules are one, and its answer is kept until the next event. Lists of
//! literals become one automaton or one hash set. Conditions are trees over items, the cheap ones
//! first. A plan says which conditions to ask at all. [`super::run`] runs it over events;
//! [`super::reference`] is the truth that both must equal.

use std::collections::{HashMap, HashSet};

use aho_corasick::AhoCorasick;

use super::prefilter::Prefilter;
use super::text::TextMatcher;
use super::witness::witness;
use crate::event::FieldPath;
use crate::rule::{Expr, Item, Matcher, Part, RuleSet, Values, fold};

/// From so many literals on, a list is searched for by one automaton.
const AUTOMATON_LITERALS_MIN: usize = 4;

/// All rules of a set, compiled.
#[derive(Debug)]
pub struct Program {
    pub(super) fields: Vec<FieldPath>,
    /// Fields without a dot, by name.
    pub(super) flat: HashMap<Box<str>, u32>,
    numbers: HashMap<FieldPath, u32>,
    pub(super) items: Vec<Check>,
    pub(super) rules: Vec<Test>,
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
    And(Box<[Test]>),
    Or(Box<[Test]>),
    Not(Box<Test>),
    AtLeast(usize, Box<[Test]>),
    Item(u32),
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
    /// One of these is the whole text; folded.
    OneOf(HashSet<Box<str>>),
    /// One of these is in the text; folded.
    Contains(AhoCorasick),
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
                None => Test::Or(Default::default()),
            })
            .collect();
        let flat = compiler.fields.iter().enumerate().filter(|(_, f)| f.is_flat());
        let flat = flat.map(|(i, f)| (f.as_str().into(), i as u32)).collect();
        let numbers = compiler.field_of.iter().map(|(f, i)| ((*f).clone(), *i)).collect();
        Self { fields: compiler.fields, flat, numbers, items: compiler.items, rules: tests }
    }

    /// The plan for some of the rules.
    pub fn plan(&self, rules: &RuleSet, view: usize, chosen: impl Iterator<Item = usize>) -> Plan {
        let witness = |index: usize| {
            let (_, condition) = rules.detections[index].seen(view)?;
            witness(condition)
        };
        let rules = chosen.map(|index| (index as u32, witness(index)));
        Plan { prefilter: Prefilter::new(rules, |field| self.numbers[field]) }
    }
}

#[derive(Default)]
struct Compiler<'r> {
    fields: Vec<FieldPath>,
    field_of: HashMap<&'r FieldPath, u32>,
    items: Vec<Check>,
    item_of: HashMap<&'r Item, u32>,
    keywords_of: HashMap<&'r Values, u32>,
}

impl<'r> Compiler<'r> {
    fn test(&mut self, expr: &'r Expr) -> Test {
        match expr {
            Expr::And(parts) => Test::And(self.sorted(parts)),
            Expr::Or(parts) => Test::Or(self.sorted(parts)),
            Expr::Not(part) => Test::Not(Box::new(self.test(part))),
            Expr::AtLeast(n, parts) => Test::AtLeast(*n, self.sorted(parts)),
            Expr::Item(item) => Test::Item(self.item(item)),
            Expr::Keywords(values) => Test::Item(self.keywords(values)),
        }
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
            Test::And(parts) => parts.first().map_or(0, |p| self.cost(p)),
            Test::Or(parts) | Test::AtLeast(_, parts) => {
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
            true => values.matchers.iter().map(|m| self.value(m)).collect(),
            false => self.one_of(&values.matchers),
        };
        let cost = checks.iter().map(value_cost).sum::<u32>();
        let cost = if field.is_none() { cost.saturating_mul(50) } else { cost };
        self.items.push(Check { field, values: checks, all: values.all, negated, cost });
        (self.items.len() - 1) as u32
    }

    /// Values of which one is enough: plain literals are put together.
    fn one_of(&mut self, matchers: &'r [Matcher]) -> Vec<ValueCheck> {
        let mut equal: Vec<String> = Vec::new();
        let mut contained: Vec<String> = Vec::new();
        let mut rest = Vec::new();
        for matcher in matchers {
            match literal(matcher) {
                Some(Literal::Equal(text)) => equal.push(fold(text).into_owned()),
                Some(Literal::Contained(text)) => contained.push(fold(text).into_owned()),
                None => rest.push(matcher),
            }
        }
        let mut checks = Vec::new();
        if !equal.is_empty() {
            checks.push(ValueCheck::OneOf(equal.into_iter().map(Into::into).collect()));
        }
        checks.extend(contains(&contained));
        checks.extend(rest.into_iter().map(|m| self.value(m)));
        checks
    }

    fn value(&mut self, matcher: &'r Matcher) -> ValueCheck {
        match matcher {
            Matcher::Text { pattern, cased } => ValueCheck::Text(TextMatcher::new(pattern, *cased)),
            Matcher::FieldRef { field, .. } => {
                ValueCheck::FieldRef { field: self.field(field), matcher: matcher.clone() }
            }
            Matcher::Any(forms) => ValueCheck::Any(self.one_of(forms)),
            matcher => ValueCheck::Plain(matcher.clone()),
        }
    }
}

/// What a text without inner wildcards asks for, when case does not count.
enum Literal<'m> {
    Equal(&'m str),
    Contained(&'m str),
}

fn literal(matcher: &Matcher) -> Option<Literal<'_>> {
    let Matcher::Text { pattern, cased: false } = matcher else { return None };
    match pattern.parts() {
        [] => Some(Literal::Equal("")),
        [Part::Text(text)] => Some(Literal::Equal(text)),
        [Part::Any, Part::Text(text), Part::Any] => Some(Literal::Contained(text)),
        _ => None,
    }
}

/// An automaton for many literals, a search each for few.
fn contains(literals: &[String]) -> Vec<ValueCheck> {
    let each = || {
        let pattern = |text: &String| crate::rule::Pattern::literal(text).anywhere();
        let check = |text| ValueCheck::Text(TextMatcher::new(&pattern(text), false));
        literals.iter().map(check).collect()
    };
    if literals.len() < AUTOMATON_LITERALS_MIN {
        return each();
    }
    match AhoCorasick::new(literals) {
        Ok(automaton) => vec![ValueCheck::Contains(automaton)],
        Err(_) => each(),
    }
}

/// About how long a value takes, relative to comparing two short texts.
fn value_cost(value: &ValueCheck) -> u32 {
    match value {
        ValueCheck::Text(matcher) => matcher.cost(),
        ValueCheck::OneOf(_) => 2,
        ValueCheck::Contains(_) => 20,
        ValueCheck::Plain(Matcher::Regex(_)) => 100,
        ValueCheck::Plain(_) => 2,
        ValueCheck::FieldRef { .. } => 10,
        ValueCheck::Any(forms) => forms.iter().map(value_cost).sum(),
    }
}
