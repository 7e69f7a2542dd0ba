//! The program over one event: which rules may match, then which do.

use smallvec::SmallVec;

use super::equal_keys::has_equal_keys;
use super::memo::Memo;
use super::prefilter::Candidates;
use super::program::{HOLDS, Junction, Plan, Program, Test, ValueCheck};
use super::texts::{Form, Texts, is_whole};
use crate::event::{Facts, Kind, VIEW_PAD, Value};
use crate::rule::{Matcher, TextRelation, compare, date_part, in_network, texts_relate};

/// What one worker keeps between events, so that nothing is allocated for each.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    answers: Answers,
    /// Which part of each junction decided it last.
    deciders: Vec<u16>,
    refuters: Vec<Refuter>,
    candidates: Candidates,
    pub(super) texts: Texts,
}

/// Answers to items about the event at hand.
#[derive(Clone, Debug, Default)]
struct Answers {
    epoch: u32,
    /// Twice the epoch in which the item was answered, plus the answer.
    items: Vec<u32>,
}

/// Answers to items of which each is one part of why a rule does not hold: what refuted it last. They are
/// asked first, as they are far nearer than the rule's condition, and most rules that are asked do not hold.
#[derive(Clone, Copy, Debug)]
struct Refuter {
    /// Twice the item, plus the answer; the first of these count.
    answers: [u32; REFUTER_ITEMS],
    count: u32,
}

/// What takes more items to refute is asked as a whole.
const REFUTER_ITEMS: usize = 3;

impl Refuter {
    const NONE: Self = Self { answers: [0; REFUTER_ITEMS], count: 0 };

    /// Adds an answer; whether there was room.
    fn add(&mut self, item: u32, answer: bool) -> bool {
        let Some(place) = self.answers.get_mut(self.count as usize) else { return false };
        *place = item * 2 + u32::from(answer);
        self.count += 1;
        true
    }

    fn refutes(self, mut answer: impl FnMut(usize) -> bool) -> bool {
        let answers = &self.answers[..self.count as usize];
        self.count > 0 && answers.iter().all(|a| answer(*a as usize / 2) == (a % 2 == 1))
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

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Rules that were looked at closely.
    pub candidates: usize,
    /// Whether the answer may be wrong, since a key stands twice in the record.
    pub unsure: bool,
}

impl Program {
    /// Calls `sink` with each rule of the plan that matches, in load order.
    pub fn run(
        &self,
        facts: Facts<'_>,
        plan: &Plan,
        memo: &mut Memo,
        scratch: &mut Scratch,
        mut sink: impl FnMut(usize),
    ) -> Outcome {
        scratch.texts.begin(facts.view.scalars().len());
        scratch.candidates.next(self.rules.len());
        plan.prefilter.candidates(facts, &mut scratch.texts, memo, &mut scratch.candidates);
        let candidates = scratch.candidates.sorted();
        if candidates.is_empty() {
            return Outcome { candidates: 0, unsure: false };
        }
        scratch.answers.next(self.items.len());
        scratch.deciders.resize(self.junctions as usize, 0);
        scratch.refuters.resize(self.rules.len(), Refuter::NONE);
        let mut run = Run {
            program: self,
            facts,
            answers: &mut scratch.answers,
            deciders: &mut scratch.deciders,
            texts: &mut scratch.texts,
            said_matched: false,
        };
        for &rule in candidates {
            let refuter = &mut scratch.refuters[rule as usize];
            if refuter.refutes(|item| run.item(item)) {
                continue;
            }
            let test = &self.rules[rule as usize];
            if run.test(test) {
                sink(rule as usize);
            } else {
                let mut found = Refuter::NONE;
                *refuter = if run.explain(test, false, &mut found) { found } else { Refuter::NONE };
            }
        }
        let unsure = run.said_matched && facts.raw && has_equal_keys(facts);
        Outcome { candidates: candidates.len(), unsure }
    }
}

/// The program over one event.
struct Run<'p, 'r> {
    program: &'p Program,
    facts: Facts<'r>,
    answers: &'p mut Answers,
    deciders: &'p mut [u16],
    texts: &'p mut Texts,
    /// Whether a keyword was found.
    said_matched: bool,
}

impl Run<'_, '_> {
    fn test(&mut self, test: &Test) -> bool {
        match test {
            Test::And(all) => !self.is_decided(all, false),
            Test::Or(any) => self.is_decided(any, true),
            Test::Not(part) => !self.test(part),
            Test::AtLeast(n, parts) => parts.iter().filter(|p| self.test(p)).count() >= *n,
            Test::Item(item) => self.item(*item as usize),
        }
    }

    /// Whether some part gives this answer. What did so last is asked first, as events come in runs of
    /// their like.
    fn is_decided(&mut self, junction: &Junction, answer: bool) -> bool {
        let number = junction.number as usize;
        let last = usize::from(self.deciders[number]);
        if junction.parts.get(last).is_some_and(|part| self.test(part) == answer) {
            return true;
        }
        for (at, part) in junction.parts.iter().enumerate() {
            if at != last && self.test(part) == answer {
                self.deciders[number] = at as u16;
                return true;
            }
        }
        false
    }

    /// Adds the answers to items that gave a condition this answer; false when they are too many.
    fn explain(&self, test: &Test, answer: bool, by: &mut Refuter) -> bool {
        match (test, answer) {
            (Test::Item(item), _) => by.add(*item, answer),
            (Test::Not(part), _) => self.explain(part, !answer, by),
            (Test::And(junction), false) | (Test::Or(junction), true) => {
                let last = usize::from(self.deciders[junction.number as usize]);
                junction.parts.get(last).is_some_and(|part| self.explain(part, answer, by))
            }
            (Test::And(junction), true) | (Test::Or(junction), false) => {
                junction.parts.iter().all(|part| self.explain(part, answer, by))
            }
            (Test::AtLeast(..), _) => false,
        }
    }

    fn item(&mut self, index: usize) -> bool {
        let known = self.answers.items[index];
        if known / 2 == self.answers.epoch {
            return known % 2 == 1;
        }
        let program = self.program;
        let check = &program.items[index];
        let mut values = check.values.iter();
        let any = match check.all {
            true => values.all(|value| self.holds(value, check.field)),
            false => values.any(|value| self.holds(value, check.field)),
        };
        self.said_matched |= any && check.field.is_none();
        let answer = any != check.negated;
        self.answers.items[index] = self.answers.epoch * 2 + u32::from(answer);
        answer
    }

    fn holds(&mut self, value: &ValueCheck, field: Option<u32>) -> bool {
        match field {
            Some(_) => self.value(value, field),
            None => self.says(value),
        }
    }

    fn is_present(&self, field: Option<u32>) -> bool {
        field.is_none_or(|field| self.facts.view.is_present(field))
    }

    /// Whether it holds for one of the values of a field, or of all that the record said.
    fn any(&mut self, field: Option<u32>, mut holds: impl FnMut(&mut Self, usize) -> bool) -> bool {
        let view = self.facts.view;
        match field {
            Some(field) => view.values(field).any(|at| holds(self, at)),
            None => view.said().any(|at| holds(self, at)),
        }
    }

    fn any_value(&mut self, field: Option<u32>, holds: impl Fn(&Value<'_>) -> bool) -> bool {
        self.any(field, |run, at| holds(&run.facts.value(run.facts.view.scalars()[at])))
    }

    fn value(&mut self, check: &ValueCheck, field: Option<u32>) -> bool {
        match check {
            ValueCheck::Any(forms) => forms.iter().any(|form| self.value(form, field)),
            ValueCheck::FieldRef { field: other, matcher } => {
                let Matcher::FieldRef { relation, cased, .. } = matcher else { return false };
                self.refers(field, *other, *relation, *cased)
            }
            ValueCheck::Plain(matcher) => self.plain(matcher, field),
            check => self.any(field, |run, at| run.text(check, at)),
        }
    }

    /// Whether a keyword is in one of the values that the record said. Literals are searched for in the
    /// whole lowered record; where one is enough, and stands in a string that is written there as it is
    /// canonically, that is the answer. Other values in which something was found are looked at.
    fn says(&mut self, check: &ValueCheck) -> bool {
        let facts = self.facts;
        let (low, end) = (&facts.view.low, VIEW_PAD + facts.record.len());
        let mut values: SmallVec<[usize; 8]> = SmallVec::new();
        let mut holds = |place: usize, is_enough: bool| {
            let Some(value) = facts.said_at(place) else { return false };
            let scalar = facts.view.scalars()[value];
            if is_enough && scalar.kind == Kind::Str && !facts.may_be_unusual(scalar) {
                return is_whole(facts.lowered(scalar), place - VIEW_PAD - scalar.start as usize);
            }
            if values.last() != Some(&value) {
                values.push(value);
            }
            false
        };
        let found = match check {
            ValueCheck::Search { grams, .. } => {
                let mut holds = |number, place| holds(place, number == HOLDS);
                grams.search(low, VIEW_PAD, end, &mut holds)
            }
            ValueCheck::Text(matcher) if let Some(literal) = matcher.contained() => {
                literal.find_iter(&low[VIEW_PAD..end]).any(|at| holds(VIEW_PAD + at, true))
            }
            check => return self.value(check, None),
        };
        let mut values = values.into_iter().chain(facts.said_unusual());
        found || values.any(|at| self.text(check, at))
    }

    /// Whether a check holds that asks for nothing but the text of one value.
    fn text(&mut self, check: &ValueCheck, at: usize) -> bool {
        let form = match check {
            ValueCheck::Regex(_) => Form::Text,
            ValueCheck::Text(matcher) => matcher.form,
            _ => Form::Canonical,
        };
        let Some(text) = self.texts.form(self.facts, at, form) else { return false };
        match check {
            ValueCheck::Text(matcher) => matcher.matches(text.bytes()),
            ValueCheck::OneOf(set) => set.contains(text.bytes()),
            ValueCheck::Edge(edges) => edges.are_at(text.bytes()),
            ValueCheck::Regex(regex) => {
                std::str::from_utf8(text.bytes()).is_ok_and(|text| regex.is_match(text))
            }
            ValueCheck::Search { grams, gated } => {
                let mut open = 0u64;
                grams.search(text.buffer, text.start, text.end, &mut |number, place| {
                    open |= 1u64.checked_shl(number).unwrap_or(0);
                    number == HOLDS && is_whole(text.bytes(), place - text.start)
                }) || (0..).zip(gated).any(|(n, check)| open >> n & 1 == 1 && self.text(check, at))
            }
            ValueCheck::Any(_) | ValueCheck::FieldRef { .. } | ValueCheck::Plain(_) => false,
        }
    }

    fn refers(&mut self, left: Option<u32>, right: u32, how: TextRelation, cased: bool) -> bool {
        let mut texts = |field: Option<u32>| {
            let mut texts = Vec::new();
            self.any(field, |run, at| {
                let text = run.texts.form(run.facts, at, Form::Text);
                texts.extend(text.map(|t| String::from_utf8_lossy(t.bytes()).into_owned()));
                false
            });
            texts
        };
        let (left, right) = (texts(left), texts(Some(right)));
        left.iter().any(|l| right.iter().any(|r| texts_relate(l, r, how, cased)))
    }

    fn plain(&mut self, matcher: &Matcher, field: Option<u32>) -> bool {
        match matcher {
            Matcher::Exists(wanted) => self.is_present(field) == *wanted,
            Matcher::Null => {
                !self.is_present(field)
                    || self.any(field, |run, at| run.facts.view.scalars()[at].kind == Kind::Null)
            }
            Matcher::Number(n) => self.any_value(field, |v| n.equals(v)),
            Matcher::Bool(b) => self.any_value(field, |v| match v {
                Value::Bool(v) => v == b,
                Value::Str(t) => t.eq_ignore_ascii_case(if *b { "true" } else { "false" }),
                _ => false,
            }),
            Matcher::Cidr(net) => {
                self.any_value(field, |v| matches!(v, Value::Str(t) if in_network(t, net)))
            }
            Matcher::Compare(op, n) => {
                self.any_value(field, |v| compare(v, *n).is_some_and(|order| op.holds(order)))
            }
            Matcher::Date(part, op, n) => {
                self.any_value(field, |v| date_part(v, *part).is_some_and(|is| op.holds(is.cmp(n))))
            }
            Matcher::Text { .. }
            | Matcher::Regex(_)
            | Matcher::FieldRef { .. }
            | Matcher::Any(_) => false,
        }
    }
}
