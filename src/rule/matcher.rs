//! What one value of a rule asks of one value of an event, and the comparisons that have one right
//! answer: numbers, networks, parts of dates. How text is matched is the business of `detect`.

use std::hash::{Hash, Hasher};

use ipnet::IpNet;

use super::pattern::Pattern;
use super::regex::TextRegex;
use crate::event::fold;
use crate::event::{FieldPath, Value};
use crate::time::Timestamp;

/// A number of a rule, exact where it is an integer. Two are equal when they were written the same.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// An integer.
    Int(i128),
    /// Anything else.
    Float(f64),
}

impl Number {
    fn bits(self) -> (bool, u128) {
        match self {
            Self::Int(n) => (false, n.cast_unsigned()),
            Self::Float(n) => (true, n.to_bits().into()),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl DatePart {
    /// The values that it can have (Sigma modifiers appendix).
    pub fn range(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Self::Minute => 0..=59,
            Self::Hour => 0..=23,
            Self::Day => 1..=31,
            Self::Week => 1..=53,
            Self::Month => 1..=12,
            Self::Year => 0..=9999,
        }
    }
}

/// How a `fieldref` compares the two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matcher {
    /// Text, with or without wildcards.
    Text {
        /// The Sigma string.
        pattern: Pattern,
        /// Whether case counts.
        cased: bool,
    },
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

impl Number {
    /// Equal as numbers, where the event's value is a number or its decimal text.
    pub fn equals(self, value: &Value<'_>) -> bool {
        match value {
            Value::Str(s) => match self {
                Self::Int(n) => canonical_int(s) == Some(n),
                Self::Float(f) => {
                    Value::Float(f).text().as_deref() == Some(s) || f.to_string() == **s
                }
            },
            value => compare(value, self) == Some(std::cmp::Ordering::Equal),
        }
    }
}

/// The integer that this text is the decimal form of: no sign `+`, no leading zero, no blank.
fn canonical_int(text: &str) -> Option<i128> {
    let n: i128 = text.parse().ok()?;
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
pub fn compare(value: &Value<'_>, n: Number) -> Option<std::cmp::Ordering> {
    let ints = |a: i128| match n {
        Number::Int(b) => Some(a.cmp(&b)),
        Number::Float(b) => compare_float_int(b, a).map(std::cmp::Ordering::reverse),
    };
    let float = |a: f64| match n {
        Number::Int(b) => compare_float_int(a, b),
        Number::Float(b) => a.partial_cmp(&b),
    };
    match value {
        Value::Int(a) => ints(i128::from(*a)),
        Value::UInt(a) => ints(i128::from(*a)),
        Value::Float(a) => float(*a),
        Value::Str(s) => match s.trim().parse::<i128>() {
            Ok(a) => ints(a),
            // Rust reads `inf` and `nan`, too; as a value of an event they are text.
            Err(_) => s.trim().parse().ok().filter(|n: &f64| n.is_finite()).and_then(float),
        },
        _ => None,
    }
}

/// Exact beyond 2⁵³, where not every integer is a float.
fn compare_float_int(a: f64, b: i128) -> Option<std::cmp::Ordering> {
    if a.is_nan() {
        return None;
    }
    // Below the limits of i128 a float's floor is an exact integer.
    if a.abs() < 1e36 {
        let whole = a.floor();
        let rest = if a > whole { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Equal };
        return Some((whole as i128).cmp(&b).then(rest));
    }
    a.partial_cmp(&0.0)
}

/// Whether the text is an address, and in that network.
pub fn in_network(text: &str, net: &IpNet) -> bool {
    text.parse::<std::net::IpAddr>().is_ok_and(|ip| net.contains(&ip))
}

/// Digits from which on a text is an epoch number: nine were reached in 1973.
const EPOCH_DIGITS_MIN: usize = 9;

/// A part of the date that a value is, UTC; `None` when it is no date.
pub fn date_part(value: &Value<'_>, part: DatePart) -> Option<i64> {
    let time = match value {
        Value::Int(n) => Timestamp::from_epoch_number(*n),
        Value::Float(n) => Timestamp::from_epoch_float(*n)?,
        Value::Str(s) => match s.parse::<jiff::civil::Date>() {
            Ok(date) if s.len() == 10 => return day_part(date, part),
            // A text of few digits is a day or a month perhaps, but no seconds since 1970.
            _ if s.len() < EPOCH_DIGITS_MIN => return None,
            _ => Timestamp::parse(s)?,
        },
        _ => return None,
    };
    let at = time.civil()?;
    Some(match part {
        DatePart::Minute => at.minute().into(),
        DatePart::Hour => at.hour().into(),
        part => return day_part(at.date(), part),
    })
}

/// A part of a date without a time.
fn day_part(date: jiff::civil::Date, part: DatePart) -> Option<i64> {
    Some(match part {
        DatePart::Day => date.day().into(),
        DatePart::Week => date.iso_week_date().week().into(),
        DatePart::Month => date.month().into(),
        DatePart::Year => date.year().into(),
        DatePart::Minute | DatePart::Hour => return None,
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
    if cased { relate(left, right) } else { relate(&fold(left), &fold(right)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn integers_beyond_two_to_the_53_compare_exactly() {
        let big: i64 = 9_007_199_254_740_992;
        for (value, order) in [
            (Value::Int(big + 1), Greater),
            (Value::Int(big), Equal),
            (Value::Float(big as f64 + 2.0), Greater),
            (Value::Float(0.5), Less),
            (Value::UInt(u64::MAX), Greater),
            (Value::Str("9007199254740993".into()), Greater),
            (Value::Float(-1e300), Less),
        ] {
            assert_eq!(compare(&value, Number::Int(big.into())), Some(order), "{value:?}");
        }
        assert_eq!(compare(&Value::Float(-0.5), Number::Int(-1)), Some(Greater));
        assert_eq!(compare(&Value::Int(big + 1), Number::Float(big as f64)), Some(Greater));
        assert_eq!(compare(&Value::Int(1), Number::Float(1.5)), Some(Less));
        assert_eq!(compare(&Value::Str("x".into()), Number::Int(1)), None);
    }

    #[test]
    fn a_number_equals_its_canonical_text_only() {
        let n = Number::Int(42);
        for (text, expect) in [("42", true), ("042", false), (" 42", false), ("0x2a", false)] {
            assert_eq!(n.equals(&Value::Str(text.into())), expect, "{text}");
        }
        assert!(n.equals(&Value::Float(42.0)));
        let n = Number::Float(-0.5);
        for (text, expect) in [("-0.5", true), ("-.5", false), ("-0.50", false)] {
            assert_eq!(n.equals(&Value::Str(text.into())), expect, "{text}");
        }
        assert!(Number::Float(42.0).equals(&Value::Str("42".into())));
    }
}
