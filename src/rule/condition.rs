//! The condition of a rule: grammar and meaning (Sigma rules specification, Condition).
//!
//! ```text
//! or    := and ("or" and)*
//! and   := not ("and" not)*
//! not   := "not" not | atom
//! atom  := "(" or ")" | quantifier "of" ("them" | pattern) | identifier
//! quantifier := "all" | "any" | integer
//! ```

use std::ops::Range;

use super::diagnostic::{Code, Diagnostic, Place, nearest};
use crate::limits::CONDITION_DEPTH_MAX;

/// A condition over names of selections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// One of them.
    Or(Vec<Condition>),
    /// Not that.
    Not(Box<Condition>),
    /// At least so many of them; from two on an extension.
    AtLeast(usize, Vec<Condition>),
    /// A selection by name.
    Name(String),
}

impl Condition {
    /// Adds every selection that it names.
    pub fn names<'c>(&'c self, into: &mut Vec<&'c str>) {
        match self {
            Self::And(parts) | Self::Or(parts) | Self::AtLeast(_, parts) => {
                parts.iter().for_each(|p| p.names(into));
            }
            Self::Not(part) => part.names(into),
            Self::Name(name) => into.push(name),
        }
    }

    /// Whether there is a `not` in it.
    pub fn negates(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) | Self::AtLeast(_, parts) => {
                parts.iter().any(Self::negates)
            }
            Self::Not(_) => true,
            Self::Name(_) => false,
        }
    }
}

/// Parses a condition against the names of the selections that are there. `place` is that of the
/// scalar it was read from; warnings are added to `found`.
///
/// # Errors
/// A diagnostic at the token that is wrong.
pub fn parse(
    text: &str,
    place: Place,
    names: &[&str],
    found: &mut Vec<Diagnostic>,
) -> Result<Condition, Diagnostic> {
    let tokens = tokens(text, place)?;
    let end = text.trim_end().chars().count();
    let mut parser = Parser { tokens, at: 0, names, depth: 0, place, end, found };
    let condition = parser.or()?;
    match parser.peek() {
        None => Ok(condition),
        Some(t) => Err(unexpected(t, place)),
    }
}

/// A token and its characters within the condition.
#[derive(Clone)]
struct Token<'t> {
    text: &'t str,
    at: Range<usize>,
}

fn tokens(text: &str, place: Place) -> Result<Vec<Token<'_>>, Diagnostic> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let here = at..at + 1;
        let length = match c {
            c if c.is_whitespace() => c.len_utf8(),
            '(' | ')' => 1,
            '|' => return Err(aggregation(place, at..at + rest.trim_end().chars().count())),
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            c => {
                let what = format!("unexpected character `{c}` in a condition");
                let diagnostic = Diagnostic::error(Code::Condition, place, what).within(here);
                return Err(match c {
                    '&' => diagnostic.help("write `and`"),
                    '!' => diagnostic.help("write `not`"),
                    _ => diagnostic.help("names are letters, digits, `_` and `-`"),
                });
            }
        };
        let end = at + rest[..length].chars().count();
        if !c.is_whitespace() {
            tokens.push(Token { text: &rest[..length], at: at..end });
        }
        at = end;
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '?' | '.')
}

fn aggregation(place: Place, at: Range<usize>) -> Diagnostic {
    let what = "aggregations such as `| count() by x > 5` are gone since Sigma 2";
    Diagnostic::error(Code::Unsupported, place, what).within(at).help(
        "write a correlation document with `type: event_count` or `value_count`; \
         `watchfire migrate` does",
    )
}

/// Operators are lower case (Sigma rules specification, Condition).
fn unexpected(token: &Token<'_>, place: Place) -> Diagnostic {
    let lower = token.text.to_lowercase();
    let what = format!("unexpected `{}` in a condition", token.text);
    let diagnostic = Diagnostic::error(Code::Condition, place, what).within(token.at.clone());
    let operator = matches!(lower.as_str(), "and" | "or" | "not" | "of" | "them" | "all" | "any");
    if operator && lower != token.text {
        return diagnostic.help(format!("operators are lower case: write `{lower}`")).fix(lower);
    }
    match token.text {
        ")" => diagnostic.help("no `(` stands before it"),
        "and" | "or" => diagnostic.help(format!("before `{}` a selection is missing", token.text)),
        _ => diagnostic.help("between two names stands `and` or `or`"),
    }
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    names: &'t [&'t str],
    depth: usize,
    place: Place,
    end: usize,
    found: &'t mut Vec<Diagnostic>,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&Token<'t>> {
        self.tokens.get(self.at)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.peek().is_some_and(|t| t.text == text);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Condition, Diagnostic> {
        let mut parts = vec![self.and()?];
        while self.eat("or") {
            parts.push(self.and()?);
        }
        Ok(only_or(parts, Condition::Or))
    }

    fn and(&mut self) -> Result<Condition, Diagnostic> {
        let mut parts = vec![self.not()?];
        while self.eat("and") {
            parts.push(self.not()?);
        }
        Ok(only_or(parts, Condition::And))
    }

    fn not(&mut self) -> Result<Condition, Diagnostic> {
        self.depth += 1;
        if self.depth > CONDITION_DEPTH_MAX {
            let what = format!("condition nested deeper than the limit of {CONDITION_DEPTH_MAX}");
            let help = "join selections by `1 of name*`, or split the rule";
            return Err(self.wrong(Code::Condition, self.here(), what).help(help));
        }
        let condition =
            if self.eat("not") { Condition::Not(Box::new(self.not()?)) } else { self.atom()? };
        self.depth -= 1;
        Ok(condition)
    }

    /// The characters of the next token, or of the end.
    fn here(&self) -> Range<usize> {
        let end = self.end.saturating_sub(1)..self.end;
        self.peek().map_or(end, |t| t.at.clone())
    }

    fn wrong(&self, code: Code, at: Range<usize>, what: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.place, what).within(at)
    }

    fn atom(&mut self) -> Result<Condition, Diagnostic> {
        if let Some(open) = self.peek().filter(|t| t.text == "(").cloned() {
            self.at += 1;
            let inner = self.or()?;
            if self.eat(")") {
                return Ok(inner);
            }
            return Err(match self.peek() {
                Some(token) => unexpected(token, self.place),
                None => self
                    .wrong(Code::Condition, open.at, "this `(` is never closed")
                    .help("add a `)`"),
            });
        }
        match self.tokens.get(self.at + 1) {
            Some(t) if t.text == "of" => return self.quantified(),
            Some(t) if t.text.eq_ignore_ascii_case("of") => return Err(unexpected(t, self.place)),
            _ => {}
        }
        let Some(token) = self.tokens.get(self.at) else {
            let what = "the condition ends where a selection is expected";
            return Err(self
                .wrong(Code::Condition, self.here(), what)
                .help(format!("the selections are: {}", self.names.join(", "))));
        };
        if matches!(token.text, "and" | "or" | "of" | "them" | ")") {
            return Err(unexpected(token, self.place));
        }
        self.at += 1;
        if self.names.contains(&token.text) {
            return Ok(Condition::Name(token.text.to_owned()));
        }
        Err(unknown(&token.clone(), self.place, self.names))
    }

    /// `1 of x*`, `all of them`: at `at` the quantifier, after it `of`.
    fn quantified(&mut self) -> Result<Condition, Diagnostic> {
        let Some(quantifier) = self.tokens.get(self.at).cloned() else { return self.atom() };
        let count = match quantifier.text {
            "all" => None,
            "any" => Some(1),
            n => Some(n.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| {
                let what = format!("`{n} of`: expected `all`, `any` or a number from 1");
                self.wrong(Code::Condition, quantifier.at.clone(), what)
                    .help("such as `1 of selection_*` or `all of them`")
            })?),
        };
        let Some(target) = self.tokens.get(self.at + 2).cloned() else {
            let what = "after `of` stands `them` or a pattern such as `selection_*`";
            return Err(self
                .wrong(Code::Condition, self.end.saturating_sub(2)..self.end, what)
                .help(format!("the selections are: {}", self.names.join(", "))));
        };
        self.at += 3;
        let chosen = self.chosen(target.text);
        if chosen.is_empty() {
            return Err(self.chooses_nothing(&target));
        }
        let Some(n) = count else { return Ok(only_or(chosen, Condition::And)) };
        if n > chosen.len() {
            let what = format!(
                "`{n} of` can never hold: `{}` stands for {} of the selections",
                target.text,
                chosen.len()
            );
            return Err(self.wrong(Code::Condition, quantifier.at, what).help("ask for fewer"));
        }
        if n == 1 {
            return Ok(only_or(chosen, Condition::Or));
        }
        let what = format!("`{n} of` is an extension: Sigma knows `1 of`, `any of` and `all of`");
        self.found.push(
            Diagnostic::hint(Code::Portability, self.place, what)
                .within(quantifier.at)
                .help("other tools refuse it: write the pairs out if they must read the rule"),
        );
        Ok(Condition::AtLeast(n, chosen))
    }

    fn chooses_nothing(&self, target: &Token<'_>) -> Diagnostic {
        let lower = target.text.to_lowercase();
        let diagnostic = self.wrong(
            Code::UnknownSelection,
            target.at.clone(),
            format!("`{}` matches no selection", target.text),
        );
        if lower == "them" && lower != target.text {
            return diagnostic.help("operators are lower case: write `them`").fix("them");
        }
        let stem = target.text.trim_end_matches('*');
        match nearest(stem, self.names.iter().copied()) {
            Some(near) if !stem.is_empty() => diagnostic.help(format!("did you mean `{near}`?")),
            _ => diagnostic.help(format!("the selections are: {}", self.names.join(", "))),
        }
    }

    /// Names that the target stands for; those with `_` in front only when it asks for them.
    fn chosen(&self, target: &str) -> Vec<Condition> {
        let pattern = if target == "them" { "*" } else { target };
        let glob = super::pattern::Pattern::parse(pattern);
        let hidden = |n: &str| n.starts_with('_') && !pattern.starts_with('_');
        let names = self.names.iter().filter(|n| !hidden(n) && glob.matches(n, true));
        names.map(|n| Condition::Name((*n).to_owned())).collect()
    }
}

fn unknown(token: &Token<'_>, place: Place, names: &[&str]) -> Diagnostic {
    let lower = token.text.to_lowercase();
    if matches!(lower.as_str(), "and" | "or" | "not" | "of" | "them") {
        return unexpected(token, place);
    }
    let what = format!("no selection is named `{}`", token.text);
    let diagnostic =
        Diagnostic::error(Code::UnknownSelection, place, what).within(token.at.clone());
    if token.text.contains(['*', '?']) {
        return diagnostic.help(format!("a pattern needs a number: `1 of {}`", token.text));
    }
    match nearest(token.text, names.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("the selections are: {}", names.join(", "))),
    }
}

fn only_or(mut parts: Vec<Condition>, join: impl Fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["sel", "sel_a", "sel_b", "notsel", "_hidden", "filter-1"];

    fn show(c: &Condition) -> String {
        let join = |v: &[Condition], s: &str| v.iter().map(show).collect::<Vec<_>>().join(s);
        match c {
            Condition::And(v) => format!("({})", join(v, " & ")),
            Condition::Or(v) => format!("({})", join(v, " | ")),
            Condition::Not(c) => format!("!{}", show(c)),
            Condition::AtLeast(n, v) => format!("{n}[{}]", join(v, ",")),
            Condition::Name(n) => n.clone(),
        }
    }

    #[test]
    fn precedence_and_quantifiers_are_those_of_the_specification() {
        for (text, expect) in [
            ("sel or sel_a and not sel_b", "(sel | (sel_a & !sel_b))"),
            ("(sel or sel_a) and sel_b", "((sel | sel_a) & sel_b)"),
            ("not sel and sel_a", "(!sel & sel_a)"),
            ("notsel", "notsel"),
            ("1 of sel_*", "(sel_a | sel_b)"),
            ("all of sel*", "(sel & sel_a & sel_b)"),
            ("1 of *el_*", "(sel_a | sel_b)"),
            ("any of them", "(sel | sel_a | sel_b | notsel | filter-1)"),
            ("1 of _*", "_hidden"),
            ("2 of sel*", "2[sel,sel_a,sel_b]"),
            ("sel and not 1 of filter-*", "(sel & !filter-1)"),
        ] {
            let parsed = parse(text, Place::new(1, 1), NAMES, &mut Vec::new()).expect(text);
            assert_eq!(show(&parsed), expect, "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_token() {
        for (text, code, token) in [
            ("sel and", Code::Condition, "d"),
            ("sel AND sel_a", Code::Condition, "AND"),
            ("sel and seel_a", Code::UnknownSelection, "seel_a"),
            ("1 of nothing*", Code::UnknownSelection, "nothing*"),
            ("(sel", Code::Condition, "("),
            ("sel or (sel and sel_a", Code::Condition, "("),
            ("sel)", Code::Condition, ")"),
            ("sel | count() > 5", Code::Unsupported, "| count() > 5"),
            ("0 of sel*", Code::Condition, "0"),
            ("sel & sel_a", Code::Condition, "&"),
            ("sel NOT sel_a", Code::Condition, "NOT"),
            ("NOT sel", Code::Condition, "NOT"),
            ("1 OF them", Code::Condition, "OF"),
            ("sel_*", Code::UnknownSelection, "sel_*"),
        ] {
            let place = Place::new(1, 1).spanning(text.chars().count());
            let mut e = parse(text, place, NAMES, &mut Vec::new()).expect_err(text);
            e.resolve(text);
            assert_eq!((e.code, &text[e.place.bytes_in(text)]), (code, token), "{text}: {e}");
        }
        let deep = format!("{}sel", "not ".repeat(1000));
        assert!(parse(&deep, Place::new(1, 1), NAMES, &mut Vec::new()).is_err());
    }
}
