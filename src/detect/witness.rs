//! Signs of a rule: what is in every event that it matches.
//!
//! A condition is weakened until it asks for a few signs, of which at least one must be there: of an
//! `and` the part with the rarest signs is enough, of an `or` all parts are needed, and a `not` says
//! nothing. The signs may hold for events that the rule does not match, never the other way round.
//! Texts of signs are folded: folding is letter by letter, so what contains a text contains the
//! folded text once it is folded itself.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::event::FieldPath;
use crate::rule::{Expr, Item, Matcher, Number, Part, Pattern, TextRegex, Values, fold};

/// One sign.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign<'r> {
    /// The field is there.
    Present(&'r FieldPath),
    /// A value of the field is this text.
    Equal(&'r FieldPath, String),
    /// A value of the field contains this text; without a field, any value of the event.
    Contains(Option<&'r FieldPath>, String),
}

/// Signs of which at least one is in every event that a rule matches.
#[derive(Clone, Debug)]
pub struct Witness<'r> {
    /// The signs.
    pub signs: Vec<Sign<'r>>,
    /// About how many events have one of them, from 0 to 1.
    pub rate: f64,
}

/// Sets of required literals with more members than this are not worth it.
const LITERALS_MAX: usize = 64;

/// Characters of one class that are looked at to see whether they are one letter.
const CLASS_CHARACTERS_MAX: usize = 8;

/// The rarest signs of a condition; `None` when it asks for nothing that can be looked for.
pub fn witness(expr: &Expr) -> Option<Witness<'_>> {
    match expr {
        Expr::And(parts) => rarest(parts.iter().filter_map(witness)),
        Expr::Or(parts) => union(parts.iter().map(witness)),
        // So many of them hold, hence at least one does.
        Expr::AtLeast(1.., parts) => union(parts.iter().map(witness)),
        Expr::AtLeast(0, _) | Expr::Not(_) => None,
        Expr::Item(Item { negated: true, .. }) => None,
        Expr::Item(item) => values(Some(&item.field), &item.values),
        Expr::Keywords(keywords) => values(None, keywords),
    }
}

fn values<'r>(field: Option<&'r FieldPath>, values: &'r Values) -> Option<Witness<'r>> {
    let each = values.matchers.iter().map(|m| matcher(field, m));
    if values.all { rarest(each.flatten()) } else { union(each) }
}

fn rarest<'r>(witnesses: impl Iterator<Item = Witness<'r>>) -> Option<Witness<'r>> {
    witnesses.min_by(|a, b| a.rate.total_cmp(&b.rate))
}

fn union<'r>(parts: impl Iterator<Item = Option<Witness<'r>>>) -> Option<Witness<'r>> {
    let mut all = Witness { signs: Vec::new(), rate: 0.0 };
    for part in parts {
        let part = part?;
        all.rate += part.rate;
        all.signs.extend(part.signs);
    }
    all.signs.sort();
    all.signs.dedup();
    Some(all)
}

fn matcher<'r>(field: Option<&'r FieldPath>, matcher: &'r Matcher) -> Option<Witness<'r>> {
    let present = || {
        let field = field?;
        Some(Witness { signs: vec![Sign::Present(field)], rate: 0.9 })
    };
    match matcher {
        Matcher::Text { pattern, .. } => text(field, pattern).or_else(present),
        Matcher::Number(n) => number(field?, *n).or_else(present),
        Matcher::Bool(b) => equal(field?, vec![b.to_string()]),
        Matcher::Null | Matcher::Exists(false) => None,
        Matcher::Regex(regex) => required_literals(field, regex).or_else(present),
        Matcher::Any(forms) => union(forms.iter().map(|m| self::matcher(field, m))),
        Matcher::Exists(true)
        | Matcher::Cidr(_)
        | Matcher::Compare(..)
        | Matcher::Date(..)
        | Matcher::FieldRef { .. } => present(),
    }
}

fn equal(field: &FieldPath, texts: Vec<String>) -> Option<Witness<'_>> {
    let short = texts.iter().any(|t| t.len() <= 5);
    let signs = texts.into_iter().map(|t| Sign::Equal(field, t)).collect();
    Some(Witness { signs, rate: if short { 0.1 } else { 0.02 } })
}

/// An integer is the text of its digits, or with `.0` when the event has it as a float.
fn number(field: &FieldPath, n: Number) -> Option<Witness<'_>> {
    match n {
        // Floats of this size are written with a point and without an exponent.
        Number::Int(0) => equal(field, ["0", "0.0", "-0.0"].map(str::to_owned).into()),
        Number::Int(n) if n.abs() < 1_000_000_000_000_000 => {
            equal(field, vec![n.to_string(), format!("{n}.0")])
        }
        _ => None,
    }
}

fn text<'r>(field: Option<&'r FieldPath>, pattern: &'r Pattern) -> Option<Witness<'r>> {
    if let (Some(field), Some(text)) = (field, pattern.as_literal()) {
        return equal(field, vec![fold(text).into_owned()]);
    }
    let texts = pattern.parts().iter().filter_map(|part| match part {
        Part::Text(text) => Some(contains(field, vec![fold(text).into_owned()])),
        Part::Any | Part::One => None,
    });
    rarest(texts)
}

/// One of these texts is there.
fn contains(field: Option<&FieldPath>, texts: Vec<String>) -> Witness<'_> {
    let rate: f64 = texts.iter().map(|t| literal_rate(t)).sum();
    let rate = if field.is_none() { rate * 10.0 } else { rate };
    Witness { signs: texts.into_iter().map(|t| Sign::Contains(field, t)).collect(), rate }
}

/// What logs are full of: a text that stands in one of these says little.
const COMMON: &[&str] = &[
    r"c:\windows\system32\",
    r"c:\windows\syswow64\",
    r"c:\program files (x86)\",
    r"c:\programdata\microsoft\",
    r"c:\users\",
    r"\appdata\local\temp\",
    r"\appdata\roaming\",
    r"hklm\software\microsoft\windows\currentversion\",
    r"hklm\system\currentcontrolset\services\",
    r"\powershell.exe",
    r"\cmd.exe /c ",
    r"\svchost.exe -k ",
    r"\rundll32.exe",
    ".dll",
    "microsoft® windows® operating system",
    "microsoft corporation",
    "https://www.",
    "http://",
    "/usr/bin/",
    "/usr/sbin/",
    "/bin/bash -c ",
    "localhost",
    "127.0.0.1",
    "0x00000000",
];

/// About how many values contain a text: rarer the longer it is, unless it is one of the common ones.
fn literal_rate(text: &str) -> f64 {
    if COMMON.iter().any(|common| common.contains(text)) {
        return 0.3;
    }
    match text.chars().count() {
        0 => 1.0,
        1 => 0.5,
        2 => 0.3,
        3 => 0.08,
        4 => 0.03,
        5 => 0.015,
        6 => 0.008,
        7 => 0.005,
        n => 0.02 / n as f64,
    }
}

/// Texts of which one is in everything that a regular expression matches.
fn required_literals<'r>(
    field: Option<&'r FieldPath>,
    regex: &'r TextRegex,
) -> Option<Witness<'r>> {
    let flags = regex.flags();
    let hir = ParserBuilder::new()
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .build()
        .parse(regex.as_str())
        .ok()?;
    let mut sets = Vec::new();
    required(&hir, &mut sets);
    rarest(sets.into_iter().map(|texts| contains(field, texts)))
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
