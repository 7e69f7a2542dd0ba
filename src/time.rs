//! Event time, durations and the clock.
//!
//! All time is UTC microseconds since 1970. The pure half of the crate never reads a clock: the time
//! of day comes in as a [`Timestamp`].

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::limits::TIMESPAN_SECONDS_MAX;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every event.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event.
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds, as Kafka writes them.
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1000))
    }

    /// Whole milliseconds, rounded down.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Later by `micros`, saturating at both ends.
    #[must_use]
    pub fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Earlier by `micros`, saturating at both ends.
    #[must_use]
    pub fn minus(self, micros: i64) -> Self {
        Self(self.0.saturating_sub(micros))
    }

    /// Microseconds from `earlier` to this, saturating.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads RFC 3339, `YYYY-MM-DD HH:MM:SS[.fraction][zone]`, or a decimal epoch number in seconds,
    /// milliseconds, microseconds or nanoseconds (told apart by size). Without a zone: UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() >= 19 && b[4] == b'-' && b[7] == b'-' {
            return parse_date_time(text);
        }
        if !b.first()?.is_ascii_digit() {
            return None;
        }
        if let Ok(n) = text.parse::<i64>() {
            return Some(Self::from_epoch_number(n));
        }
        text.parse::<f64>().ok().and_then(Self::from_epoch_float)
    }

    /// An epoch number whose unit is told by its size: seconds below 10¹¹, milliseconds below 10¹⁴,
    /// microseconds below 10¹⁷, else nanoseconds.
    pub fn from_epoch_number(n: i64) -> Self {
        match n.unsigned_abs() {
            0..100_000_000_000 => Self(n.saturating_mul(1_000_000)),
            100_000_000_000..100_000_000_000_000 => Self(n.saturating_mul(1000)),
            100_000_000_000_000..100_000_000_000_000_000 => Self(n),
            _ => Self(n / 1000),
        }
    }

    /// As [`Timestamp::from_epoch_number`], with a fraction (`1700000000.25`).
    pub fn from_epoch_float(n: f64) -> Option<Self> {
        if !n.is_finite() {
            return None;
        }
        let unit = match n.abs() {
            a if a < 1e11 => 1e6,
            a if a < 1e14 => 1e3,
            a if a < 1e17 => 1.0,
            _ => 1e-3,
        };
        let time = Self((n * unit).round() as i64);
        time.civil().map(|_| time)
    }

    /// The calendar fields in UTC; `None` outside the years that a calendar has (−9999 to 9999).
    pub fn civil(self) -> Option<DateTime> {
        let ts = jiff::Timestamp::from_microsecond(self.0).ok()?;
        Some(Offset::UTC.to_datetime(ts))
    }

    /// The instant of local time `at` in `zone`; of two (when clocks go back) the earlier.
    pub fn from_civil(at: DateTime, zone: &TimeZone) -> Option<Self> {
        let ts = zone.to_ambiguous_timestamp(at).compatible().ok()?;
        Some(Self(ts.as_microsecond()))
    }
}

/// RFC 3339 with the fraction that is there: none, milliseconds or microseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(c) = self.civil() else { return write!(f, "{}us", self.0) };
        let (date, time) = (c.date(), c.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        )?;
        match self.0.rem_euclid(1_000_000) {
            0 => {}
            us if us % 1000 == 0 => write!(f, ".{:03}", us / 1000)?,
            us => write!(f, ".{us:06}")?,
        }
        f.write_str("Z")
    }
}

fn digits(b: &[u8]) -> Option<i64> {
    b.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

fn parse_date_time(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    if !matches!(b[10], b'T' | b't' | b' ') || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let field = |from: usize, to: usize| digits(&b[from..to]);
    let second = field(17, 19)?;
    // A leap second (60) has no microsecond of its own in POSIX time: it is the next minute's first.
    let at = DateTime::new(
        field(0, 4)? as i16,
        field(5, 7)? as i8,
        field(8, 10)? as i8,
        field(11, 13)? as i8,
        field(14, 16)? as i8,
        second.min(59) as i8,
        0,
    )
    .ok()?;
    if second > 60 {
        return None;
    }
    let (micros, rest) = fraction(&b[19..])?;
    let offset = zone(rest)?;
    let base = Offset::UTC.to_timestamp(at).ok()?.as_microsecond();
    Some(Timestamp(base + micros + (second / 60 - offset) * 1_000_000))
}

/// The microseconds of a leading `.fraction`, cut beyond the sixth digit, and what follows.
fn fraction(b: &[u8]) -> Option<(i64, &[u8])> {
    if !matches!(b.first(), Some(b'.' | b',')) {
        return Some((0, b));
    }
    let n = b[1..].iter().take_while(|c| c.is_ascii_digit()).count();
    if n == 0 {
        return None;
    }
    let kept = n.min(6);
    let micros = digits(&b[1..=kept])? * 10i64.pow(6 - kept as u32);
    Some((micros, &b[1 + n..]))
}

/// Seconds east of UTC of `""`, `Z`, `+02:00`, `+0200`, `+02` or ` UTC`.
fn zone(b: &[u8]) -> Option<i64> {
    match b.strip_prefix(b" ").unwrap_or(b) {
        b"" | b"Z" | b"z" | b"UTC" => Some(0),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (h, m) = match rest.len() {
                2 => (digits(rest)?, 0),
                4 => (digits(&rest[..2])?, digits(&rest[2..])?),
                5 if rest[2] == b':' => (digits(&rest[..2])?, digits(&rest[3..])?),
                _ => return None,
            };
            let seconds = h * 3600 + m * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Why a duration could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("`{0}` is not a duration: write a number and a unit, such as 500ms, 10s, 5m, 1h or 7d")]
    Shape(String),
    /// Zero or above the limit.
    #[error(
        "duration `{0}` is out of range: it must be more than 0 and at most {TIMESPAN_SECONDS_MAX} s (90 d)"
    )]
    Range(String),
}

/// Microseconds of a duration: `500ms`, `10s`, `5m`, `1h`, `7d`, `2w`, and Sigma's `1M` (a month of
/// 2,629,746 s). A bare `0` or `0s` is zero.
///
/// # Errors
/// When it is no number with a unit, or above 90 days.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let shape = || DurationError::Shape(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: i64 = text[..split].parse().map_err(|_| shape())?;
    let unit: i64 = match &text[split..] {
        "us" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "w" => 604_800_000_000,
        "M" => 2_629_746_000_000,
        "" if n == 0 => 0,
        _ => return Err(shape()),
    };
    n.checked_mul(unit)
        .filter(|us| *us <= TIMESPAN_SECONDS_MAX as i64 * 1_000_000)
        .ok_or_else(|| DurationError::Range(text.to_owned()))
}

/// Where the time of day comes from. The pure half never calls it; edges hand the time in.
pub trait Clock: Send + Sync {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_forms_of_event_time_are_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:01Z", 1_000_000),
            ("1970-01-01T00:00:01.5Z", 1_500_000),
            ("1970-01-01 00:00:01.123456", 1_123_456),
            ("1970-01-01T02:00:01+02:00", 1_000_000),
            ("1970-01-01T00:00:01.1234567Z", 1_123_456),
            ("1969-12-31T23:00:00-0100", 0),
            ("1700000000", 1_700_000_000_000_000),
            ("1700000000123", 1_700_000_000_123_000),
            ("1700000000.25", 1_700_000_000_250_000),
        ] {
            assert_eq!(Timestamp::parse(text), Some(Timestamp(micros)), "{text}");
        }
        let blanks = format!("2026-01-01T00:00:00{}Z", " ".repeat(900_000));
        for text in [
            blanks.as_str(),
            "",
            "yesterday",
            "1e300",
            "-1e300",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "12:00:00",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn display_is_rfc_3339_and_parses_back() {
        for micros in [0, 1_500_000, 1_767_225_600_123_456, -1] {
            let t = Timestamp(micros);
            assert_eq!(Timestamp::parse(&t.to_string()), Some(t), "{t}");
        }
    }

    #[test]
    fn durations_carry_units() {
        assert_eq!(parse_duration("5m"), Ok(300_000_000));
        assert_eq!(parse_duration("0"), Ok(0));
        assert_eq!(parse_duration("250ms"), Ok(250_000));
        assert!(matches!(parse_duration("5"), Err(DurationError::Shape(_))));
        assert!(matches!(parse_duration("5 m"), Err(DurationError::Shape(_))));
        assert!(matches!(parse_duration("91d"), Err(DurationError::Range(_))));
        assert!(matches!(parse_duration("99999999999999999d"), Err(DurationError::Range(_))));
    }
}
