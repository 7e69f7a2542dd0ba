//! The condition of a Sigma 1 rule: what stands before the `|`, and the aggregation behind it.
//!
//! ```text
//! condition   := search ("|" aggregation)?
//! aggregation := function "(" field? ")" ("by" field ("," field)*)? operator number
//!              | "near" selection ("and" "not"? selection)*
//! function    := "count" | "sum" | "avg" | "min" | "max"
//! operator    := ">" | ">=" | "<" | "<=" | "="
//! ```
//!
//! The search itself is the same in Sigma 2: it is not read here, only looked at for what no version
//! of Sigma has.

use super::Reason;

/// A condition in its two parts.
#[derive(Debug, PartialEq)]
pub struct Legacy<'t> {
    /// The search, without blanks around it.
    pub search: &'t str,
    /// What was asked of its matches; `None` when the rule asked for single events.
    pub aggregation: Option<Aggregation<'t>>,
}

/// What a Sigma 1 rule asked of many events.
#[derive(Debug, PartialEq)]
pub enum Aggregation<'t> {
    /// A number per group, compared with a bound.
    Number {
        /// The correlation type that means the same.
        kind: &'static str,
        /// What is counted or added up; `None` for events.
        field: Option<&'t str>,
        /// The fields that make a group.
        group_by: Vec<&'t str>,
        /// The operator in the words of Sigma 2.
        operator: &'static str,
        /// The bound, digits with or without a fraction.
        bound: &'t str,
    },
    /// The search and these selections within the timeframe.
    Near(Vec<&'t str>),
}

/// What is wrong with a condition.
#[derive(Debug, PartialEq)]
pub struct Fault {
    /// Characters from the start of the condition.
    pub at: usize,
    /// Which of the known reasons it is.
    pub reason: Reason,
    /// What is wrong, with the text.
    pub what: String,
}

/// Reads a condition.
///
/// # Errors
/// The first thing that cannot be converted.
pub fn parse(text: &str) -> Result<Legacy<'_>, Fault> {
    let (search, tail) = match text.split_once('|') {
        Some((search, tail)) => (search, Some(tail)),
        None => (text, None),
    };
    look_at(search)?;
    let fault = |at, reason, what: &str| Fault { at, reason, what: what.to_owned() };
    if search.trim().is_empty() {
        return Err(fault(0, Reason::Condition, "the condition has no search before the `|`"));
    }
    let Some(tail) = tail else {
        return Ok(Legacy { search: search.trim(), aggregation: None });
    };
    let start = search.chars().count() + 1;
    let mut parser = Parser { tokens: tokens(tail, start), at: 0, end: text.chars().count() };
    let aggregation = parser.aggregation()?;
    if let Some(token) = parser.tokens.get(parser.at) {
        let what = format!("unexpected `{}` after the aggregation", token.text);
        return Err(fault(token.at, Reason::Aggregation, &what));
    }
    Ok(Legacy { search: search.trim(), aggregation: Some(aggregation) })
}

/// Refuses what is prose: characters that no condition has, or a function where a search is expected.
fn look_at(search: &str) -> Result<(), Fault> {
    let allowed = |c: char| {
        c.is_alphanumeric() || c.is_whitespace() || matches!(c, '_' | '-' | '*' | '?' | '.')
    };
    let mut word = String::new();
    for (at, c) in search.chars().enumerate() {
        let fault = |what| Err(Fault { at, reason: Reason::Condition, what });
        match c {
            '(' if ["count", "sum", "avg", "min", "max"].contains(&word.as_str()) => {
                return fault(format!(
                    "`{word}(` stands where a search is expected, before any `|`"
                ));
            }
            '(' | ')' => word.clear(),
            c if c.is_whitespace() => word.clear(),
            c if allowed(c) => word.push(c),
            c => return fault(format!("`{c}` in a condition has no meaning in any Sigma version")),
        }
    }
    Ok(())
}

struct Token<'t> {
    text: &'t str,
    at: usize,
}

/// Words, operators and single signs, with their place in characters.
fn tokens(text: &str, start: usize) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut at) = (text, start);
    while let Some(c) = rest.chars().next() {
        let class = class(c);
        let length = match class {
            Class::Sign => c.len_utf8(),
            _ => rest.find(|c| self::class(c) != class).unwrap_or(rest.len()),
        };
        if class != Class::Blank {
            tokens.push(Token { text: &rest[..length], at });
        }
        at += rest[..length].chars().count();
        rest = &rest[length..];
    }
    tokens
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Blank,
    Sign,
    Operator,
    Word,
}

fn class(c: char) -> Class {
    match c {
        c if c.is_whitespace() => Class::Blank,
        '(' | ')' | ',' | '|' => Class::Sign,
        '<' | '>' | '=' | '!' => Class::Operator,
        _ => Class::Word,
    }
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    end: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t str> {
        self.tokens.get(self.at).map(|t| t.text)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.at += usize::from(found);
        found
    }

    fn fault(&self, reason: Reason, what: impl Into<String>) -> Fault {
        let at = self.tokens.get(self.at).map_or(self.end, |t| t.at);
        Fault { at, reason, what: what.into() }
    }

    /// Something else stands where `expected` should.
    fn unexpected(&self, expected: &str) -> Fault {
        let found = self.peek().map_or("the end".to_owned(), |t| format!("`{t}`"));
        let what = format!("the aggregation has {found} where {expected} is expected");
        self.fault(Reason::Aggregation, what)
    }

    fn word(&mut self, expected: &str) -> Result<&'t str, Fault> {
        let word = self.peek().filter(|t| t.chars().all(|c| class(c) == Class::Word));
        let word = word.ok_or_else(|| self.unexpected(expected))?;
        self.at += 1;
        Ok(word)
    }

    fn sign(&mut self, sign: &str) -> Result<(), Fault> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn aggregation(&mut self) -> Result<Aggregation<'t>, Fault> {
        if self.eat("near") {
            return self.near();
        }
        let name = self.peek().unwrap_or_default();
        let (counts, kind) = match name {
            "count" => (true, "event_count"),
            "sum" => (false, "value_sum"),
            "avg" => (false, "value_avg"),
            "min" | "max" => {
                let what = format!("Sigma 2 has no correlation type for `{name}(…)`");
                return Err(self.fault(Reason::NoType, what));
            }
            _ => return Err(self.unexpected("`count`, `sum`, `avg`, `min`, `max` or `near`")),
        };
        self.at += 1;
        self.sign("(")?;
        let field = match self.peek() {
            Some(")") if counts => None,
            _ => Some(self.word("a field")?),
        };
        self.sign(")")?;
        let kind = if counts && field.is_some() { "value_count" } else { kind };
        let group_by = if self.eat("by") { self.fields()? } else { Vec::new() };
        let operator = self.operator()?;
        let bound = self.number()?;
        Ok(Aggregation::Number { kind, field, group_by, operator, bound })
    }

    fn fields(&mut self) -> Result<Vec<&'t str>, Fault> {
        let mut fields = vec![self.word("a field to group by")?];
        while self.eat(",") {
            fields.push(self.word("a field to group by")?);
        }
        Ok(fields)
    }

    fn operator(&mut self) -> Result<&'static str, Fault> {
        let operator = match self.peek() {
            Some(">") => "gt",
            Some(">=") => "gte",
            Some("<") => "lt",
            Some("<=") => "lte",
            Some("=") => "eq",
            _ => return Err(self.unexpected("`>`, `>=`, `<`, `<=` or `=`")),
        };
        self.at += 1;
        Ok(operator)
    }

    /// Digits with or without a fraction. Zeros in front go: to a YAML 1.1 loader `010` is eight.
    fn number(&mut self) -> Result<&'t str, Fault> {
        let text = self.peek().filter(|t| is_number(t));
        let text = text.ok_or_else(|| self.unexpected("a number"))?;
        self.at += 1;
        let zeros = text.bytes().take_while(|b| *b == b'0').count();
        let keeps_one = !text[zeros..].starts_with(|c: char| c.is_ascii_digit());
        Ok(&text[zeros - usize::from(keeps_one && zeros > 0)..])
    }

    fn near(&mut self) -> Result<Aggregation<'t>, Fault> {
        let mut selections = Vec::new();
        loop {
            if self.peek() == Some("not") {
                let what = "`near … and not …` asks for an absence: no correlation type does";
                return Err(self.fault(Reason::NegatedNear, what));
            }
            selections.push(self.word("a selection")?);
            if !self.eat("and") {
                return Ok(Aggregation::Near(selections));
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number<'t>(
        kind: &'static str,
        field: Option<&'t str>,
        group_by: &[&'t str],
        operator: &'static str,
        bound: &'t str,
    ) -> Aggregation<'t> {
        Aggregation::Number { kind, field, group_by: group_by.to_vec(), operator, bound }
    }

    #[test]
    fn every_form_of_the_sigma_1_specification_is_read() {
        for (text, search, expect) in [
            ("a|count() > 5", "a", number("event_count", None, &[], "gt", "5")),
            (
                "a and not 1 of b* | count(x.y) by c, d >= 10",
                "a and not 1 of b*",
                number("value_count", Some("x.y"), &["c", "d"], "gte", "10"),
            ),
            ("a | count() by cs-uri<5", "a", number("event_count", None, &["cs-uri"], "lt", "5")),
            ("a | count() <= 010", "a", number("event_count", None, &[], "lte", "10")),
            ("a | count() = 000", "a", number("event_count", None, &[], "eq", "0")),
            ("a | sum(n) by s > 3", "a", number("value_sum", Some("n"), &["s"], "gt", "3")),
            ("a | avg(n) > 00.5", "a", number("value_avg", Some("n"), &[], "gt", "0.5")),
            ("( a ) | near b and c", "( a )", Aggregation::Near(vec!["b", "c"])),
        ] {
            let read = Legacy { search, aggregation: Some(expect) };
            assert_eq!(parse(text), Ok(read), "{text}");
        }
        for text in ["a", "all of them", "not (a or b)", "(count) and sum", "1 of sel-*"] {
            assert_eq!(parse(text), Ok(Legacy { search: text, aggregation: None }), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_converted_is_told_with_its_place() {
        for (text, at, reason) in [
            ("count(x) per y > 200", 5, Reason::Condition),
            ("write A from b to %c%; then", 18, Reason::Condition),
            ("| count() > 1", 0, Reason::Condition),
            ("ä | count( > 1", 11, Reason::Aggregation),
            ("a | count()", 11, Reason::Aggregation),
            ("a | count() per x > 1", 12, Reason::Aggregation),
            ("a | count() == 1", 12, Reason::Aggregation),
            ("a | count() > many", 14, Reason::Aggregation),
            ("a | count() > 1 and b", 16, Reason::Aggregation),
            ("a | count() > 1 | near b", 16, Reason::Aggregation),
            ("a | sum() > 1", 8, Reason::Aggregation),
            ("a | median(x) > 1", 4, Reason::Aggregation),
            ("a |", 3, Reason::Aggregation),
            ("a | near", 8, Reason::Aggregation),
            ("a | near b or c", 11, Reason::Aggregation),
            ("a | near b and not c", 15, Reason::NegatedNear),
            ("a | max(x) > 1", 4, Reason::NoType),
        ] {
            let fault = parse(text).expect_err(text);
            assert_eq!((fault.at, fault.reason), (at, reason), "{text}: {}", fault.what);
        }
    }
}
