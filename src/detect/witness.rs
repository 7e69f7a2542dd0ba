//! Signs of a rule: what is in every event that it matches.
//!
//! A condition is weakened until it asks for a few signs, of which at least one must be there: of an
//! `and` the part with the rarest signs is enough, of an `or` all parts are needed, and a `not` says
//! nothing. The signs may hold for events that the rule does not match, never the other way round.
//! Texts of signs are canonical: folded, with the escapes of JSON. Folding is letter by letter, and
//! escaping character by character, so what contains a text has its canonical form in its own.
//!
//! What a rule can be told by is found once ([`Clue`]); which of it is rarest, each time that a plan
//! is made.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::absence::needed_fields;
use super::grams::{Spots, rarest_spots};
use super::rates::{Rates, guess};
use super::texts::escaped;
use crate::event::FieldPath;
use crate::rule::{Expr, Item, Matcher, Number, Part, Pattern, TextRegex, Values, fold};

/// One sign. Fields are numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The field is there.
    Present(u32),
    /// A value of the field has a byte that is not ASCII.
    Foreign(u32),
    /// A value of the field is this text.
    Equal(u32, Box<[u8]>),
    /// A value of the field contains this text; without a field, any value of the event.
    Contains(Option<u32>, Box<[u8]>),
}

/// What a rule can be told by. Signs are numbers.
#[derive(Clone, Debug)]
pub enum Clue {
    /// This sign is there.
    Sign(u32),
    /// All of these hold, so that any one of them is enough.
    Each(Box<[Clue]>),
    /// One of these holds, so that all of them are needed.
    OneOf(Box<[Clue]>),
}

/// The signs of all rules, each once.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// The signs by number.
    pub all: Vec<Sign>,
    number: HashMap<Sign, u32, FixedState>,
}

/// How common signs are, looked up when first asked for.
pub struct Rated<'r> {
    signs: &'r [Sign],
    rates: &'r Rates,
    known: Vec<Known>,
}

/// What is known of a sign.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    rate: f32,
    /// Where a literal is best looked for.
    window: u16,
    gram: u16,
}

const UNKNOWN: Known = Known { rate: f32::NAN, window: 0, gram: 0 };

impl<'r> Rated<'r> {
    /// For the signs of a program.
    pub fn new(signs: &'r Signs, rates: &'r Rates) -> Self {
        let known = vec![UNKNOWN; signs.all.len()];
        Self { signs: &signs.all, rates, known }
    }

    /// The same with what is known already.
    pub fn of(signs: &'r Signs, rates: &'r Rates, known: Vec<Known>) -> Self {
        Self { signs: &signs.all, rates, known }
    }

    /// What there is to know of all signs.
    pub fn all(mut self) -> Vec<Known> {
        (0..self.signs.len() as u32).for_each(|number| {
            self.sign(number);
        });
        self.known
    }

    fn sign(&mut self, number: u32) -> f64 {
        let known = &mut self.known[number as usize];
        if known.rate.is_nan() {
            let whole = Spots::default();
            let (spots, rate) = match &self.signs[number as usize] {
                Sign::Present(field) => (whole, self.rates.present(*field)),
                Sign::Foreign(field) => (whole, self.rates.foreign(*field)),
                Sign::Equal(field, text) => (whole, self.rates.equal(*field, text)),
                Sign::Contains(field, literal) => self.rates.contains(*field, literal),
            };
            let Spots { window, gram } = spots;
            *known = Known { rate: rate as f32, window: window as u16, gram: gram as u16 };
        }
        known.rate.into()
    }

    /// Where the literal of a sign is best looked for; the sign was rated.
    pub fn spots(&self, number: u32) -> Spots {
        let Known { window, gram, .. } = self.known[number as usize];
        Spots { window: window.into(), gram: gram.into() }
    }

    /// About how many events have one of the rarest signs of a clue; at least `enough` once it is as much.
    fn rate(&mut self, clue: &Clue, enough: f64) -> f64 {
        match clue {
            Clue::Sign(sign) => self.sign(*sign),
            Clue::Each(parts) => self.rarest_part(parts, enough).1,
            Clue::OneOf(parts) => {
                let mut sum = 0.0;
                for part in parts {
                    sum += self.rate(part, enough - sum);
                    if sum >= enough {
                        break;
                    }
                }
                sum
            }
        }
    }

    /// The part with the rarest signs, and about how many events have one of them.
    fn rarest_part<'c>(&mut self, parts: &'c [Clue], enough: f64) -> (Option<&'c Clue>, f64) {
        let mut rarest = (None, f64::INFINITY);
        for part in parts {
            let rate = self.rate(part, enough.min(rarest.1));
            if rate < rarest.1 {
                rarest = (Some(part), rate);
            }
        }
        rarest
    }

    /// Adds the rarest signs of a clue.
    pub fn rarest(&mut self, clue: &Clue, into: &mut Vec<u32>) {
        match clue {
            Clue::Sign(sign) => {
                self.sign(*sign);
                into.push(*sign);
            }
            Clue::OneOf(parts) => parts.iter().for_each(|part| self.rarest(part, into)),
            Clue::Each(parts) => {
                if let Some(part) = self.rarest_part(parts, f64::INFINITY).0.or(parts.first()) {
                    self.rarest(part, into);
                }
            }
        }
    }
}

/// Sets of required literals with more members than this are not worth it.
const LITERALS_MAX: usize = 64;

/// Characters of one class that are looked at to see whether they are one letter.
const CLASS_CHARACTERS_MAX: usize = 8;

/// Finds clues.
pub struct Clues<'w> {
    /// Where signs are kept.
    pub signs: &'w mut Signs,
    /// The numbers of fields.
    pub number: &'w dyn Fn(&FieldPath) -> u32,
}

impl Clues<'_> {
    /// What a rule can be told by; `None` when it may match any event.
    pub fn of_rule(&mut self, expr: &Expr) -> Option<Clue> {
        self.of(expr).or_else(|| {
            let fields = needed_fields(expr)?;
            let present = |field| Some(self.sign(Sign::Present((self.number)(field))));
            one_of(fields.into_iter().map(present))
        })
    }

    /// What a condition can be told by; `None` when it asks for nothing that can be looked for.
    fn of(&mut self, expr: &Expr) -> Option<Clue> {
        match expr {
            Expr::And(parts) => each(parts.iter().filter_map(|p| self.of(p))),
            Expr::Or(parts) => one_of(parts.iter().map(|p| self.of(p))),
            // So many of them hold, hence at least one does.
            Expr::AtLeast(1.., parts) => one_of(parts.iter().map(|p| self.of(p))),
            Expr::AtLeast(0, _) | Expr::Not(_) => None,
            Expr::Item(Item { negated: true, .. }) => None,
            Expr::Item(item) => self.values(Some((self.number)(&item.field)), &item.values),
            Expr::Keywords(keywords) => self.values(None, keywords),
        }
    }

    fn values(&mut self, field: Option<u32>, values: &Values) -> Option<Clue> {
        let clues = values.matchers.iter().map(|m| self.matcher(field, m));
        if values.all { each(clues.flatten()) } else { one_of(clues) }
    }

    fn matcher(&mut self, field: Option<u32>, matcher: &Matcher) -> Option<Clue> {
        let clue = match matcher {
            Matcher::Text { pattern, .. } => self.text(field, pattern),
            Matcher::Number(n) => self.integer(field?, *n),
            Matcher::Bool(b) => Some(self.equal(field?, &[&b.to_string()])),
            Matcher::Null | Matcher::Exists(false) => return None,
            Matcher::Regex(regex) => self.required_literals(field, regex),
            Matcher::Any(forms) => return one_of(forms.iter().map(|m| self.matcher(field, m))),
            Matcher::Exists(true)
            | Matcher::Cidr(_)
            | Matcher::Compare(..)
            | Matcher::Date(..)
            | Matcher::FieldRef { .. } => None,
        };
        clue.or_else(|| Some(self.sign(Sign::Present(field?))))
    }

    fn sign(&mut self, sign: Sign) -> Clue {
        let Signs { all, number } = &mut *self.signs;
        let number = *number.entry(sign).or_insert_with_key(|sign| {
            all.push(sign.clone());
            all.len() as u32 - 1
        });
        Clue::Sign(number)
    }

    /// One of these folded texts is the value.
    fn equal(&mut self, field: u32, texts: &[&str]) -> Clue {
        Clue::OneOf(
            texts.iter().map(|t| self.sign(Sign::Equal(field, escaped(t).into()))).collect(),
        )
    }

    /// An integer is the text of its digits, or with `.0` when the event has it as a float.
    fn integer(&mut self, field: u32, n: Number) -> Option<Clue> {
        match n {
            // Floats of this size are written with a point and without an exponent.
            Number::Int(0) => Some(self.equal(field, &["0", "0.0", "-0.0"])),
            Number::Int(n) if n.abs() < 1_000_000_000_000_000 => {
                Some(self.equal(field, &[&n.to_string(), &format!("{n}.0")]))
            }
            _ => None,
        }
    }

    fn text(&mut self, field: Option<u32>, pattern: &Pattern) -> Option<Clue> {
        if let (Some(field), Some(text)) = (field, pattern.as_literal()) {
            return Some(self.equal(field, &[&fold(text)]));
        }
        each(pattern.parts().iter().filter_map(|part| match part {
            Part::Text(text) => Some(self.contains(field, &fold(text))),
            Part::Any | Part::One => None,
        }))
    }

    /// This folded text is there. A text that is not ASCII may be told by that alone.
    fn contains(&mut self, field: Option<u32>, text: &str) -> Clue {
        let contained = self.sign(Sign::Contains(field, escaped(text).into()));
        match field {
            Some(field) if !text.is_ascii() => {
                Clue::Each([contained, self.sign(Sign::Foreign(field))].into())
            }
            _ => contained,
        }
    }

    /// Texts of which one is in everything that a regular expression matches.
    fn required_literals(&mut self, field: Option<u32>, regex: &TextRegex) -> Option<Clue> {
        each(required_sets(regex).into_iter().map(|texts| {
            Clue::OneOf(texts.iter().map(|text| self.contains(field, text)).collect())
        }))
    }
}

/// Folded texts of which one is in every folded text that a regular expression matches: the rarest.
pub fn required_literals(regex: &TextRegex) -> Option<Vec<String>> {
    let rate = |text: &String| rarest_spots(text.as_bytes(), &guess).1;
    let rate = |set: &Vec<String>| set.iter().map(rate).sum::<f64>();
    required_sets(regex).into_iter().min_by(|a, b| rate(a).total_cmp(&rate(b)))
}

/// Sets of folded texts; of each set one is in everything that a regular expression matches.
fn required_sets(regex: &TextRegex) -> Vec<Vec<String>> {
    let flags = regex.flags();
    let mut sets = Vec::new();
    let parsed = ParserBuilder::new()
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .build()
        .parse(regex.as_str());
    if let Ok(hir) = parsed {
        required(&hir, &mut sets);
    }
    sets
}

impl Clue {
    /// How many signs there are to look up.
    fn size(&self) -> usize {
        match self {
            Self::Sign(_) => 1,
            Self::Each(parts) | Self::OneOf(parts) => parts.iter().map(Self::size).sum(),
        }
    }
}

/// All of these hold; those that say nothing were left out. The small ones come first: they may show
/// that the others need not be looked at.
fn each(clues: impl Iterator<Item = Clue>) -> Option<Clue> {
    let mut clues: Box<[Clue]> = clues.collect();
    clues.sort_by_key(Clue::size);
    (!clues.is_empty()).then_some(Clue::Each(clues))
}

/// One of these holds, unless one of them says nothing.
fn one_of(clues: impl Iterator<Item = Option<Clue>>) -> Option<Clue> {
    clues.collect::<Option<_>>().map(Clue::OneOf)
}

/// Adds sets of folded texts; of each set one is in every match.
fn required(hir: &Hir, sets: &mut Vec<Vec<String>>) {
    if let Some(text) = one_text(hir) {
        sets.extend((!text.is_empty()).then(|| vec![text]));
        return;
    }
    match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub, sets),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub, sets),
        HirKind::Alternation(parts) => sets.extend(alternatives(parts)),
        HirKind::Concat(parts) => {
            let mut run = String::new();
            for part in parts {
                match (one_text(part), part.kind()) {
                    (Some(text), _) => run.push_str(&text),
                    // An assertion takes no room: what stands around it stands side by side.
                    (None, HirKind::Look(_)) => {}
                    (None, _) => {
                        sets.extend((!run.is_empty()).then(|| vec![std::mem::take(&mut run)]));
                        required(part, sets);
                    }
                }
            }
            sets.extend((!run.is_empty()).then(|| vec![run]));
        }
        _ => {}
    }
}

/// One set for all alternatives, if each has one.
fn alternatives(parts: &[Hir]) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for part in parts {
        let mut sets = Vec::new();
        required(part, &mut sets);
        let shortest = |set: &Vec<String>| set.iter().map(String::len).min();
        all.extend(sets.into_iter().max_by_key(shortest)?);
    }
    (all.len() <= LITERALS_MAX).then_some(all)
}

/// The text that an expression is, folded, when it is one.
fn one_text(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Empty => Some(String::new()),
        HirKind::Literal(literal) => {
            std::str::from_utf8(&literal.0).ok().map(|t| fold(t).into_owned())
        }
        HirKind::Class(Class::Unicode(class)) => {
            // Long ranges are no single letter, and need not be walked.
            let short = class.iter().all(|r| r.len() <= CLASS_CHARACTERS_MAX);
            let mut letters = class.iter().flat_map(|r| r.start()..=r.end()).map(fold_char);
            let first = letters.next().filter(|_| short)?;
            letters.all(|letter| letter == first).then_some(first)
        }
        HirKind::Capture(capture) => one_text(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(one_text).collect(),
        _ => None,
    }
}

fn fold_char(c: char) -> String {
    fold(c.encode_utf8(&mut [0; 4])).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(source: &str) -> Vec<Vec<String>> {
        let hir = ParserBuilder::new().build().parse(source).expect(source);
        let mut sets = Vec::new();
        required(&hir, &mut sets);
        sets
    }

    #[test]
    fn literals_that_a_regular_expression_requires_are_found() {
        for (source, expect) in [
            ("Foo", &[&["foo"][..]][..]),
            ("(?i)foo", &[&["foo"]]),
            // The long s is an s to a regular expression, and folds to itself.
            ("(?i)sub", &[&["ub"]]),
            (r"^abc\d+def$", &[&["abc"], &["def"]]),
            ("(abc|def)+x", &[&["abc", "def"], &["x"]]),
            ("a*", &[]),
            ("(abc|x*)", &[]),
            (r"ab\bcd", &[&["abcd"]]),
            ("[xX]yz", &[&["xyz"]]),
        ] {
            assert_eq!(sets(source), expect.to_vec(), "{source}");
        }
    }
}
