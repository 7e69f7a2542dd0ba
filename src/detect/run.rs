//! The program over one event: which rules may match, then which do.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::prefilter::{Candidates, Prefilter};
use super::program::{Plan, Program, Test, ValueCheck};
use crate::event::{Event, Found, Value};
use crate::rule::{Matcher, compare, date_part, fold, in_network, texts_relate};

/// What one worker keeps between events, so that little is allocated for each.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    answers: Answers,
    candidates: Candidates,
}

/// Answers to items about the event at hand.
#[derive(Clone, Debug, Default)]
struct Answers {
    epoch: u32,
    /// Twice the epoch in which the item was answered, plus the answer.
    items: Vec<u32>,
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

impl Program {
    /// Calls `sink` with each rule of the plan that matches, in load order.
    pub fn run(
        &self,
        event: &Event<'_>,
        plan: &Plan,
        scratch: &mut Scratch,
        mut sink: impl FnMut(usize),
    ) {
        scratch.answers.next(self.items.len());
        scratch.candidates.next(self.rules.len());
        let mut run = Run::new(self, event, &mut scratch.answers);
        run.candidates(&plan.prefilter, &mut scratch.candidates);
        for &rule in scratch.candidates.sorted() {
            if run.test(&self.rules[rule as usize]) {
                sink(rule as usize);
            }
        }
    }
}

/// A value of the event: its text is made and folded at most once.
struct Subject<'e, 'a> {
    value: &'e Value<'a>,
    text: Option<Cow<'e, str>>,
    folded: OnceCell<Option<String>>,
}

impl<'e, 'a> Subject<'e, 'a> {
    fn new(value: &'e Value<'a>) -> Self {
        Self { value, text: value.text(), folded: OnceCell::new() }
    }

    fn folded(&self) -> Option<&str> {
        let text = self.text.as_deref()?;
        let folded = self.folded.get_or_init(|| match fold(text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(folded) => Some(folded),
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
    /// Fields without a dot that the event has.
    flat: Vec<Option<&'e Value<'a>>>,
    fields: Vec<OnceCell<Looked<'e, 'a>>>,
    scalars: OnceCell<Looked<'e, 'a>>,
    answers: &'p mut Answers,
}

impl<'p, 'e, 'a> Run<'p, 'e, 'a> {
    fn new(program: &'p Program, event: &'e Event<'a>, answers: &'p mut Answers) -> Self {
        let mut flat = vec![None; program.fields.len()];
        // What mappings read goes before what the record said.
        for (name, value) in event.body.iter().chain(event.derived.iter()) {
            if let Some(field) = program.flat.get(name) {
                flat[*field as usize] = Some(value);
            }
        }
        let fields = program.fields.iter().map(|_| OnceCell::new()).collect();
        Self { program, event, flat, fields, scalars: OnceCell::new(), answers }
    }

    /// Takes the rules whose signs the event has.
    fn candidates(&self, prefilter: &Prefilter, candidates: &mut Candidates) {
        candidates.add(&prefilter.always);
        for (field, signs) in &prefilter.fields {
            let looked = self.field(*field);
            if !looked.present {
                continue;
            }
            signs.present(candidates);
            if signs.reads_text() {
                let texts = looked.subjects.iter().filter_map(Subject::folded);
                texts.for_each(|text| signs.text(text, candidates));
            }
        }
        if let Some(literals) = &prefilter.anywhere {
            let texts = self.scalars().subjects.iter().filter_map(Subject::folded);
            texts.for_each(|text| literals.text(text, candidates));
        }
    }

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
        self.fields[index as usize].get_or_init(|| match self.flat[index as usize] {
            Some(value) => Found::of(value).into(),
            None if path.is_flat() => Found::default().into(),
            None => self.event.find(path).into(),
        })
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
