//! A rule set, compiled: every field is looked up once per event, every item answered once.
//!
//! SigmaHQ's rules ask the same things again and again: thousands of items over a few hundred fields.
//! Here equal items of all rules are one, and its answer is kept until the next event. Lists of
//! literals become one automaton or one hash set. Conditions are trees over items, the cheap ones
//! first. [`super::reference`] is the truth that this must equal.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use aho_corasick::AhoCorasick;

use super::text::TextMatcher;
use crate::event::{Event, FieldPath, Found, Value};
use crate::rule::{
    Expr, Item, Matcher, Part, RuleSet, Values, compare, date_part, fold, in_network, texts_relate,
};

/// From so many literals on, a list is searched for by one automaton.
const AUTOMATON_LITERALS_MIN: usize = 4;

/// All rules of a set, compiled.
#[derive(Debug)]
pub struct Program {
    fields: Vec<FieldPath>,
    items: Vec<Check>,
    rules: Vec<Test>,
}

/// A condition over items.
#[derive(Debug)]
enum Test {
    And(Box<[Test]>),
    Or(Box<[Test]>),
    Not(Box<Test>),
    AtLeast(usize, Box<[Test]>),
    Item(u32),
}

/// One item, shared by all rules that ask the same.
#[derive(Debug)]
struct Check {
    /// Index of the field, `None` for keywords.
    field: Option<u32>,
    values: Vec<ValueCheck>,
    all: bool,
    negated: bool,
    cost: u32,
}

/// One value, or several that one structure answers.
#[derive(Debug)]
enum ValueCheck {
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

/// Answers of the event at hand; kept by the engine so that nothing is allocated for it anew.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    epoch: u32,
    /// Twice the epoch in which the item was answered, plus the answer.
    items: Vec<u32>,
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
        Self { fields: compiler.fields, items: compiler.items, rules: tests }
    }

    /// Calls `sink` with each of the rules that matches.
    pub fn run(
        &self,
        event: &Event<'_>,
        rules: &[usize],
        answers: &mut Answers,
        mut sink: impl FnMut(usize),
    ) {
        answers.next(self.items.len());
        let mut run = Run {
            program: self,
            event,
            fields: self.fields.iter().map(|_| OnceCell::new()).collect(),
            scalars: OnceCell::new(),
            answers,
        };
        for &rule in rules {
            if run.test(&self.rules[rule]) {
                sink(rule);
            }
        }
    }
}

impl Answers {
    fn next(&mut self, items: usize) {
        self.items.resize(items, 0);
        self.epoch += 1;
        if self.epoch > u32::MAX / 2 {
            self.items.fill(0);
            self.epoch = 1;
        }
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

/// A value of the event: its text is made and folded at most once.
struct Subject<'e, 'a> {
    value: &'e Value<'a>,
    text: Option<std::borrow::Cow<'e, str>>,
    folded: OnceCell<Option<String>>,
}

impl<'e, 'a> Subject<'e, 'a> {
    fn new(value: &'e Value<'a>) -> Self {
        Self { value, text: value.text(), folded: OnceCell::new() }
    }

    fn folded(&self) -> Option<&str> {
        let text = self.text.as_deref()?;
        let folded = self.folded.get_or_init(|| match fold(text) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(folded) => Some(folded),
        });
        Some(folded.as_deref().unwrap_or(text))
    }
}

/// A field of the event.
struct Looked<'e, 'a> {
    present: bool,
    subjects: Vec<Subject<'e, 'a>>,
}

impl<'e, 'a> From<Found<'e, 'a>> for Looked<'e, 'a> {
    fn from(found: Found<'e, 'a>) -> Self {
        let subjects = found.values.into_iter().map(Subject::new).collect();
        Self { present: found.present, subjects }
    }
}

/// The program over one event.
struct Run<'p, 'e, 'a> {
    program: &'p Program,
    event: &'e Event<'a>,
    fields: Vec<OnceCell<Looked<'e, 'a>>>,
    scalars: OnceCell<Looked<'e, 'a>>,
    answers: &'p mut Answers,
}

impl<'e, 'a> Run<'_, 'e, 'a> {
    fn test(&mut self, test: &Test) -> bool {
        match test {
            Test::And(parts) => parts.iter().all(|p| self.test(p)),
            Test::Or(parts) => parts.iter().any(|p| self.test(p)),
            Test::Not(part) => !self.test(part),
            Test::AtLeast(n, parts) => parts.iter().filter(|p| self.test(p)).count() >= *n,
            Test::Item(item) => self.item(*item as usize),
        }
    }

    fn item(&mut self, index: usize) -> bool {
        let known = self.answers.items[index];
        if known / 2 == self.answers.epoch {
            return known % 2 == 1;
        }
        let check = &self.program.items[index];
        let looked = match check.field {
            Some(field) => self.field(field),
            None => self.scalars(),
        };
        let holds = |value: &ValueCheck| self.value(value, looked);
        let any = match check.all {
            true => check.values.iter().all(holds),
            false => check.values.iter().any(holds),
        };
        let answer = any != check.negated;
        self.answers.items[index] = self.answers.epoch * 2 + u32::from(answer);
        answer
    }

    fn field(&self, index: u32) -> &Looked<'e, 'a> {
        let path = &self.program.fields[index as usize];
        self.fields[index as usize].get_or_init(|| self.event.find(path).into())
    }

    fn scalars(&self) -> &Looked<'e, 'a> {
        self.scalars.get_or_init(|| Found { present: true, values: self.event.scalars() }.into())
    }

    fn value(&self, check: &ValueCheck, looked: &Looked<'e, 'a>) -> bool {
        let mut subjects = looked.subjects.iter();
        match check {
            ValueCheck::Text(matcher) => subjects.any(|s| {
                let text = if matcher.cased { s.text.as_deref() } else { s.folded() };
                text.is_some_and(|t| matcher.matches_folded(t))
            }),
            ValueCheck::OneOf(set) => subjects.any(|s| s.folded().is_some_and(|t| set.contains(t))),
            ValueCheck::Contains(automaton) => {
                subjects.any(|s| s.folded().is_some_and(|t| automaton.is_match(t)))
            }
            ValueCheck::Any(forms) => forms.iter().any(|f| self.value(f, looked)),
            ValueCheck::FieldRef { field, matcher } => self.refers(matcher, looked, *field),
            ValueCheck::Plain(matcher) => plain(matcher, looked),
        }
    }

    fn refers(&self, matcher: &Matcher, looked: &Looked<'e, 'a>, field: u32) -> bool {
        let Matcher::FieldRef { relation, cased, .. } = matcher else { return false };
        let others = &self.field(field).subjects;
        let texts = |subjects: &'_ [Subject<'e, 'a>]| -> Vec<String> {
            subjects.iter().filter_map(|s| s.text.as_deref().map(str::to_owned)).collect()
        };
        let (left, right) = (texts(&looked.subjects), texts(others));
        left.iter().any(|l| right.iter().any(|r| texts_relate(l, r, *relation, *cased)))
    }
}

fn plain(matcher: &Matcher, looked: &Looked<'_, '_>) -> bool {
    let any = |holds: &dyn Fn(&Subject<'_, '_>) -> bool| looked.subjects.iter().any(holds);
    match matcher {
        Matcher::Exists(wanted) => looked.present == *wanted,
        Matcher::Null => !looked.present || any(&|s| *s.value == Value::Null),
        Matcher::Number(n) => any(&|s| n.equals(s.value)),
        Matcher::Bool(b) => any(&|s| match s.value {
            Value::Bool(v) => v == b,
            Value::Str(t) => t.eq_ignore_ascii_case(if *b { "true" } else { "false" }),
            _ => false,
        }),
        Matcher::Regex(regex) => any(&|s| s.text.as_deref().is_some_and(|t| regex.is_match(t))),
        Matcher::Cidr(net) => any(&|s| matches!(s.value, Value::Str(t) if in_network(t, net))),
        Matcher::Compare(op, n) => any(&|s| compare(s.value, *n).is_some_and(|o| op.holds(o))),
        Matcher::Date(part, op, n) => {
            any(&|s| date_part(s.value, *part).is_some_and(|is| op.holds(is.cmp(n))))
        }
        Matcher::Text { .. } | Matcher::FieldRef { .. } | Matcher::Any(_) => false,
    }
}
