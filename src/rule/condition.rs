//! The condition of a rule: grammar and meaning (Sigma rules specification, Condition).
//!
//! ```text
//! or    := and ("or" and)*
//! and   := not ("and" not)*
//! not   := "not" not | atom
//! atom  := "(" or ")" | quantifier "of" ("them" | pattern) | identifier
//! quantifier := "all" | "any" | integer
//! ```

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

/// Parses a condition against the names of the selections that are there.
///
/// # Errors
/// A diagnostic at the token that is wrong, for text that starts at `place`.
pub fn parse(text: &str, place: Place, names: &[&str]) -> Result<Condition, Diagnostic> {
    let tokens = tokens(text, place)?;
    let mut parser = Parser { tokens, at: 0, names, depth: 0, end: place };
    let condition = parser.or()?;
    match parser.peek() {
        None => Ok(condition),
        Some(t) => Err(unexpected(t)),
    }
}

struct Token<'t> {
    text: &'t str,
    place: Place,
}

fn tokens(text: &str, place: Place) -> Result<Vec<Token<'_>>, Diagnostic> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut column = place.column;
    while let Some(c) = rest.chars().next() {
        let here = Place::new(place.line, column);
        let length = match c {
            c if c.is_whitespace() => c.len_utf8(),
            '(' | ')' => 1,
            '|' => return Err(aggregation(here)),
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            c => {
                let what = format!("unexpected character `{c}` in a condition");
                return Err(Diagnostic::error(Code::Condition, here, what));
            }
        };
        if !c.is_whitespace() {
            tokens.push(Token { text: &rest[..length], place: here });
        }
        column += rest[..length].chars().count();
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '?' | '.')
}

fn aggregation(place: Place) -> Diagnostic {
    let what = "aggregations such as `| count() by x > 5` are gone since Sigma 2";
    Diagnostic::error(Code::Unsupported, place, what)
        .help("write a correlation document with `type: event_count` or `value_count`")
}

fn unexpected(token: &Token<'_>) -> Diagnostic {
    let lower = token.text.to_lowercase();
    let what = format!("unexpected `{}` in a condition", token.text);
    let diagnostic = Diagnostic::error(Code::Condition, token.place, what);
    if matches!(lower.as_str(), "and" | "or" | "not" | "of" | "them" | "all") && lower != token.text
    {
        return diagnostic.help(format!("operators are lower case: write `{lower}`"));
    }
    diagnostic.help("between two names stands `and` or `or`")
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    names: &'t [&'t str],
    depth: usize,
    end: Place,
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
            return Err(Diagnostic::error(Code::Condition, self.here(), what));
        }
        let condition =
            if self.eat("not") { Condition::Not(Box::new(self.not()?)) } else { self.atom()? };
        self.depth -= 1;
        Ok(condition)
    }

    fn here(&self) -> Place {
        self.peek().map_or(self.end, |t| t.place)
    }

    fn atom(&mut self) -> Result<Condition, Diagnostic> {
        if self.eat("(") {
            let inner = self.or()?;
            if self.eat(")") {
                return Ok(inner);
            }
            return Err(Diagnostic::error(Code::Condition, self.here(), "a `)` is missing"));
        }
        if self.tokens.get(self.at + 1).is_some_and(|t| t.text == "of") {
            return self.quantified();
        }
        let Some(token) = self.tokens.get(self.at) else {
            let what = "the condition ends where a selection is expected";
            return Err(Diagnostic::error(Code::Condition, self.end, what));
        };
        if matches!(token.text, "and" | "or" | "of" | "them" | ")") {
            return Err(unexpected(token));
        }
        self.at += 1;
        if self.names.contains(&token.text) {
            return Ok(Condition::Name(token.text.to_owned()));
        }
        Err(unknown(token, self.names))
    }

    /// `1 of x*`, `all of them`: at `at` the quantifier, after it `of`.
    fn quantified(&mut self) -> Result<Condition, Diagnostic> {
        let Some(quantifier) = self.tokens.get(self.at) else { return self.atom() };
        let quantifier = Token { text: quantifier.text, place: quantifier.place };
        let count = match quantifier.text {
            "all" => None,
            "any" => Some(1),
            n => Some(n.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| {
                let what = format!("`{n} of`: expected `all`, `any` or a number from 1");
                Diagnostic::error(Code::Condition, quantifier.place, what)
            })?),
        };
        let Some(target) = self.tokens.get(self.at + 2) else {
            let what = "after `of` stands `them` or a pattern such as `selection_*`";
            return Err(Diagnostic::error(Code::Condition, self.end, what));
        };
        self.at += 3;
        let chosen = self.chosen(target.text);
        if chosen.is_empty() {
            let what = format!("`{}` matches no selection", target.text);
            let all = self.names.join(", ");
            return Err(Diagnostic::error(Code::UnknownSelection, target.place, what)
                .help(format!("the selections are: {all}")));
        }
        if let Some(n) = count.filter(|n| *n > chosen.len()) {
            let what = format!(
                "`{n} of` can never hold: `{}` is {} selections",
                target.text,
                chosen.len()
            );
            return Err(Diagnostic::error(Code::Condition, quantifier.place, what));
        }
        Ok(match count {
            None => only_or(chosen, Condition::And),
            Some(1) => only_or(chosen, Condition::Or),
            Some(n) => Condition::AtLeast(n, chosen),
        })
    }

    /// Names that the target stands for; those with `_` in front only when it asks for them.
    fn chosen(&self, target: &str) -> Vec<Condition> {
        let pattern = if target == "them" { "*" } else { target };
        let matcher =
            super::pattern::TextMatcher::new(&super::pattern::Pattern::parse(pattern), true);
        let hidden = |n: &str| n.starts_with('_') && !pattern.starts_with('_');
        let names = self.names.iter().filter(|n| !hidden(n) && matcher.matches_folded(n));
        names.map(|n| Condition::Name((*n).to_owned())).collect()
    }
}

fn unknown(token: &Token<'_>, names: &[&str]) -> Diagnostic {
    let what = format!("no selection is named `{}`", token.text);
    let diagnostic = Diagnostic::error(Code::UnknownSelection, token.place, what);
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
            let parsed = parse(text, Place::new(1, 1), NAMES).expect(text);
            assert_eq!(show(&parsed), expect, "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_token() {
        for (text, code, column) in [
            ("sel and", Code::Condition, 1),
            ("sel AND sel_a", Code::Condition, 5),
            ("sel and seel_a", Code::UnknownSelection, 9),
            ("1 of nothing*", Code::UnknownSelection, 6),
            ("(sel", Code::Condition, 1),
            ("sel | count() > 5", Code::Unsupported, 5),
            ("0 of sel*", Code::Condition, 1),
            ("sel & sel_a", Code::Condition, 5),
        ] {
            let e = parse(text, Place::new(1, 1), NAMES).expect_err(text);
            assert_eq!((e.code, e.place.column), (code, column), "{text}: {e}");
        }
        let deep = format!("{}sel", "not ".repeat(1000));
        assert!(parse(&deep, Place::new(1, 1), NAMES).is_err());
    }
}
