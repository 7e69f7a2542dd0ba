//! One value of a rule against one value of an event.

use std::borrow::Cow;
use std::cell::OnceCell;

use ipnet::IpNet;

use super::pattern::{TextMatcher, lower};
use super::regex::TextRegex;
use crate::event::{FieldPath, Value};
use crate::time::Timestamp;

/// A number of a rule, exact where it is an integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i64),
    /// Anything else.
    Float(f64),
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
}

/// A part of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatePart {
    /// Minute of the hour.
    Minute,
    /// Hour of the day, UTC.
    Hour,
    /// Day of the month.
    Day,
    /// ISO 8601 week of the year.
    Week,
    /// Month of the year.
    Month,
    /// Year.
    Year,
}

/// How a `fieldref` compares the two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRelation {
    /// They are equal.
    Equals,
    /// The field contains the other.
    Contains,
    /// The field starts with the other.
    StartsWith,
    /// The field ends with the other.
    EndsWith,
}

/// What one value of a detection item asks of one value of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Matcher {
    /// Text, with or without wildcards.
    Text(TextMatcher),
    /// A number: equal as a number, or as its decimal text.
    Number(Number),
    /// `true` or `false`, or their text.
    Bool(bool),
    /// Absent or null.
    Null,
    /// The field is there (or not).
    Exists(bool),
    /// A regular expression, unanchored.
    Regex(TextRegex),
    /// An address in a network.
    Cidr(IpNet),
    /// A number compared.
    Compare(Comparison, Number),
    /// A part of a date compared.
    Date(DatePart, Comparison, i64),
    /// One of several forms of one value (`windash`, `base64offset`).
    Any(Vec<Matcher>),
    /// Another field of the same event.
    FieldRef {
        /// The other field.
        field: FieldPath,
        /// How the texts relate.
        relation: TextRelation,
        /// Whether case counts.
        cased: bool,
    },
}

/// A value of an event while several matchers look at it: its text is made and folded only once.
pub struct Subject<'v, 'a> {
    value: &'v Value<'a>,
    text: Option<Cow<'v, str>>,
    folded: OnceCell<Option<String>>,
}

impl<'v, 'a> Subject<'v, 'a> {
    /// For a value.
    pub fn new(value: &'v Value<'a>) -> Self {
        Self { value, text: value.text(), folded: OnceCell::new() }
    }

    /// The value itself.
    pub fn value(&self) -> &'v Value<'a> {
        self.value
    }

    /// Its text form, if it has one.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The text in the case that a matcher wants.
    fn text_for(&self, cased: bool) -> Option<&str> {
        let text = self.text.as_deref()?;
        if cased {
            return Some(text);
        }
        let folded = self.folded.get_or_init(|| match lower(text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(folded) => Some(folded),
        });
        Some(folded.as_deref().unwrap_or(text))
    }
}

impl Matcher {
    /// Whether a single value of an event matches. `Null`, `Exists` and `FieldRef` need the whole
    /// field or event: for them this says what the value alone can say.
    pub fn matches(&self, subject: &Subject<'_, '_>) -> bool {
        let value = subject.value;
        match self {
            Self::Text(matcher) => {
                subject.text_for(matcher.cased).is_some_and(|t| matcher.matches_folded(t))
            }
            Self::Number(n) => n.equals(value),
            Self::Bool(b) => match value {
                Value::Bool(v) => v == b,
                Value::Str(s) => s.eq_ignore_ascii_case(if *b { "true" } else { "false" }),
                _ => false,
            },
            Self::Null => *value == Value::Null,
            Self::Exists(wanted) => *wanted,
            Self::Regex(regex) => subject.text().is_some_and(|t| regex.is_match(t)),
            Self::Cidr(net) => matches!(value, Value::Str(s) if in_network(s, net)),
            Self::Compare(op, n) => compare(value, *n).is_some_and(|o| op.holds(o)),
            Self::Date(part, op, n) => date_part(value, *part).is_some_and(|p| op.holds(p.cmp(n))),
            Self::Any(forms) => forms.iter().any(|m| m.matches(subject)),
            Self::FieldRef { .. } => false,
        }
    }
}

impl Number {
    /// Equal as numbers, where the event's value is a number or its decimal text.
    fn equals(self, value: &Value<'_>) -> bool {
        match value {
            Value::Str(s) => match self {
                Self::Int(n) => canonical_int(s) == Some(n),
                Self::Float(f) => s.parse() == Ok(f) && s.starts_with(|c: char| c != '+'),
            },
            value => compare(value, self) == Some(std::cmp::Ordering::Equal),
        }
    }
}

/// The integer that this text is the decimal form of: no sign `+`, no leading zero, no blank.
fn canonical_int(text: &str) -> Option<i64> {
    let n: i64 = text.parse().ok()?;
    (n.to_string() == text).then_some(n)
}

impl Comparison {
    /// Whether the relation holds for that order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Lt => order.is_lt(),
            Self::Lte => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Gte => order.is_ge(),
            Self::Eq => order.is_eq(),
            Self::Neq => order.is_ne(),
        }
    }
}

/// Compares the event's number (or text that is one) with the rule's, integers exactly.
fn compare(value: &Value<'_>, n: Number) -> Option<std::cmp::Ordering> {
    let ints = |a: i128| match n {
        Number::Int(b) => Some(a.cmp(&i128::from(b))),
        Number::Float(b) => (a as f64).partial_cmp(&b),
    };
    let float = |a: f64| match n {
        Number::Int(b) => compare_float_int(a, b),
        Number::Float(b) => a.partial_cmp(&b),
    };
    match value {
        Value::Int(a) => ints(i128::from(*a)),
        Value::UInt(a) => ints(i128::from(*a)),
        Value::Float(a) => float(*a),
        Value::Str(s) => match s.trim().parse::<i64>() {
            Ok(a) => ints(i128::from(a)),
            // Rust reads `inf` and `nan`, too; as a value of an event they are text.
            Err(_) => s.trim().parse().ok().filter(|n: &f64| n.is_finite()).and_then(float),
        },
        _ => None,
    }
}

/// Exact beyond 2⁵³, where an i64 does not fit in a float.
fn compare_float_int(a: f64, b: i64) -> Option<std::cmp::Ordering> {
    if a.is_nan() {
        return None;
    }
    if a.abs() < 9.2e18 {
        let whole = a.floor();
        let order = (whole as i64).cmp(&b);
        return Some(order.then(if a > whole {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Equal
        }));
    }
    a.partial_cmp(&(b as f64))
}

fn in_network(text: &str, net: &IpNet) -> bool {
    text.parse::<std::net::IpAddr>().is_ok_and(|ip| net.contains(&ip))
}

fn date_part(value: &Value<'_>, part: DatePart) -> Option<i64> {
    let time = match value {
        Value::Int(n) => Timestamp::from_epoch_number(*n),
        Value::Float(n) => Timestamp::from_epoch_float(*n)?,
        Value::Str(s) => Timestamp::parse(s)?,
        _ => return None,
    };
    let at = time.civil()?;
    Some(match part {
        DatePart::Minute => at.minute().into(),
        DatePart::Hour => at.hour().into(),
        DatePart::Day => at.day().into(),
        DatePart::Week => at.date().iso_week_date().week().into(),
        DatePart::Month => at.month().into(),
        DatePart::Year => at.year().into(),
    })
}

/// Whether `left` relates to `right` as a `fieldref` asks.
pub fn texts_relate(left: &str, right: &str, relation: TextRelation, cased: bool) -> bool {
    let relate = |a: &str, b: &str| match relation {
        TextRelation::Equals => a == b,
        TextRelation::Contains => a.contains(b),
        TextRelation::StartsWith => a.starts_with(b),
        TextRelation::EndsWith => a.ends_with(b),
    };
    if cased { relate(left, right) } else { relate(&lower(left), &lower(right)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn integers_beyond_two_to_the_53_compare_exactly() {
        let big = 9_007_199_254_740_992;
        for (value, order) in [
            (Value::Int(big + 1), Greater),
            (Value::Int(big), Equal),
            (Value::Float(big as f64 + 2.0), Greater),
            (Value::Float(0.5), Less),
            (Value::UInt(u64::MAX), Greater),
            (Value::Str("9007199254740993".into()), Greater),
        ] {
            assert_eq!(compare(&value, Number::Int(big)), Some(order), "{value:?}");
        }
        assert_eq!(compare(&Value::Float(-0.5), Number::Int(-1)), Some(Greater));
        assert_eq!(compare(&Value::Str("x".into()), Number::Int(1)), None);
    }

    #[test]
    fn a_number_equals_its_canonical_text_only() {
        let n = Number::Int(42);
        for (text, expect) in [("42", true), ("042", false), (" 42", false), ("0x2a", false)] {
            assert_eq!(n.equals(&Value::Str(text.into())), expect, "{text}");
        }
        assert!(n.equals(&Value::Float(42.0)));
    }
}
