//! Numbers that can be added and taken away without a rest: what sums and averages are made of.
//!
//! A running sum of floating-point numbers depends on the order of its terms, and what was added does
//! not go away when it is subtracted. These are integers in units of 10⁻⁹, so a sum is the same
//! however it came about.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Units in one.
const ONE: i128 = 1_000_000_000;
/// Digits after the point.
const PLACES: usize = 9;
/// Largest size of one value, 10¹⁸: 10¹¹ such values can be summed before the sum stops growing.
const WHOLE_MAX: i128 = 1_000_000_000_000_000_000;

/// A number with nine digits after the point.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Decimal(i128);

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A whole number; one too large becomes the largest that there is.
    pub fn whole(n: i128) -> Self {
        Self(n.saturating_mul(ONE))
    }

    /// The nearest to a floating-point number; `None` when it is not finite or beyond 10¹⁸.
    pub fn from_float(n: f64) -> Option<Self> {
        let fits = n.is_finite() && n.abs() <= WHOLE_MAX as f64;
        fits.then(|| Self((n * ONE as f64).round() as i128))
    }

    /// Reads `42`, `-1.5` or `1e3`, also with spaces around it. Digits after the ninth place are cut
    /// off. `None` for anything else, and beyond 10¹⁸.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 {
            let starts = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            return text.parse().ok().filter(|_| starts).and_then(Self::from_float);
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        if whole > WHOLE_MAX {
            return None;
        }
        let mut units = 0;
        for place in 0..PLACES {
            let digit = fraction.as_bytes().get(place).map_or(0, |b| i128::from(b - b'0'));
            units = units * 10 + digit;
        }
        let size = whole * ONE + units;
        Some(Self(if negative { -size } else { size }))
    }

    /// Their sum; it stops growing at 1.7·10²⁹.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Their difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// This, divided by a count: cut off after the ninth place. By zero it is zero.
    #[must_use]
    pub fn over(self, count: u64) -> Self {
        Self(self.0.checked_div(i128::from(count)).unwrap_or(0))
    }

    /// The point so many parts of `of` on the way from this to `to`, cut off after the ninth place.
    #[must_use]
    pub fn towards(self, to: Self, parts: u64, of: u64) -> Self {
        let way = to.0.saturating_sub(self.0).saturating_mul(i128::from(parts));
        self.plus(Self(way.checked_div(i128::from(of)).unwrap_or(0)))
    }

    /// The least whole number that is not below this.
    pub fn ceil(self) -> i128 {
        -((-self.0).div_euclid(ONE))
    }

    /// The same as the nearest floating-point number.
    pub fn to_float(self) -> f64 {
        self.0 as f64 / ONE as f64
    }

    /// Whether nothing but zeros stands after the point.
    pub fn is_whole(self) -> bool {
        self.0 % ONE == 0
    }

    /// As JSON: an integer where it is whole and fits, else a number with a point.
    pub fn to_json(self) -> serde_json::Value {
        match i64::try_from(self.0 / ONE) {
            Ok(n) if self.is_whole() => n.into(),
            _ => self.to_float().into(),
        }
    }
}

impl From<u64> for Decimal {
    fn from(n: u64) -> Self {
        Self::whole(n.into())
    }
}

/// As short as it can be said: `12`, `-0.5`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.unsigned_abs();
        let (whole, units) = (size / ONE.unsigned_abs(), size % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if units == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{units:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        Decimal::parse(text).map(|d| d.to_string())
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let same = ["0", "42", "-1.5", "0.000000001", "1000000000000000000", "9.5"];
        same.iter().for_each(|text| assert_eq!(read(text).as_deref(), Some(*text)));
        assert_eq!(read(" 42.0 ").as_deref(), Some("42"));
        assert_eq!(read("1e3").as_deref(), Some("1000"));
        assert_eq!(read("+.5").as_deref(), Some("0.5"));
        assert_eq!(read("0.1234567891").as_deref(), Some("0.123456789"));
        for text in ["", "-", ".", "x", "1x", "0x2a", "inf", "nan", "1e400", "1000000000000000001"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_what_is_taken_away_is_gone() {
        let parts = ["0.1", "1e17", "-3.3", "0.2"].map(|t| Decimal::parse(t).expect(t));
        let forward = parts.iter().fold(Decimal::ZERO, |sum, p| sum.plus(*p));
        let back = parts.iter().rev().fold(Decimal::ZERO, |sum, p| sum.plus(*p));
        assert_eq!(forward, back);
        let rest = forward.minus(parts[1]).minus(parts[2]);
        assert_eq!(rest.to_string(), "0.3");
    }

    #[test]
    fn division_and_rounding() {
        assert_eq!(Decimal::whole(5).over(3).to_string(), "1.666666666");
        assert_eq!(Decimal::whole(5).over(0), Decimal::ZERO);
        assert_eq!(Decimal::whole(2).towards(Decimal::whole(5), 1, 2).to_string(), "3.5");
        let ceil = |text: &str| Decimal::parse(text).map(Decimal::ceil);
        assert_eq!((ceil("9.5"), ceil("9"), ceil("-0.5")), (Some(10), Some(9), Some(0)));
        assert_eq!(Decimal::whole(12).to_json().to_string(), "12");
        assert_eq!(
            Decimal::parse("-2.5").map(|d| d.to_json().to_string()).as_deref(),
            Some("-2.5")
        );
    }
}
