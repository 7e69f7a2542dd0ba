//! Event time, durations and the clock.
//!
//! All time is UTC microseconds since 1970. The pure half of the crate never reads a clock: the time
//! of day comes in as a [`Timestamp`].

use std::fmt;
use std::time::Duration;

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
            return parse_date_time(b);
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
        let (days, micros) = (self.0.div_euclid(DAY_MICROS), self.0.rem_euclid(DAY_MICROS));
        let (year, month, day) = civil_from_days(days);
        if !(0..=9999).contains(&year) || self.0.div_euclid(1_000_000) > LAST_SECOND {
            return self.fmt_far(f);
        }
        let second = micros / 1_000_000;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        put(&mut text[0..4], year);
        put(&mut text[5..7], month);
        put(&mut text[8..10], day);
        put(&mut text[11..13], second / 3600);
        put(&mut text[14..16], second / 60 % 60);
        put(&mut text[17..19], second % 60);
        put(&mut text[20..26], micros % 1_000_000);
        let end = match micros % 1_000_000 {
            0 => 19,
            fraction if fraction % 1000 == 0 => 23,
            _ => 26,
        };
        text[end] = b'Z';
        f.write_str(std::str::from_utf8(&text[..=end]).unwrap_or_default())
    }
}

impl Timestamp {
    /// A time before the year 0, or beyond where the calendar ends.
    fn fmt_far(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(c) = self.civil() else { return write!(f, "{}us", self.0) };
        let (date, time) = (c.date(), c.time());
        let (year, month, day) = (date.year(), date.month(), date.day());
        write!(f, "{year:04}-{month:02}-{day:02}T")?;
        write!(f, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
        match self.0.rem_euclid(1_000_000) {
            0 => {}
            us if us % 1000 == 0 => write!(f, ".{:03}", us / 1000)?,
            us => write!(f, ".{us:06}")?,
        }
        f.write_str("Z")
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

/// The last second that every zone can show, 9999-12-30T22:00:00Z: where the calendar library ends.
const LAST_SECOND: i64 = 2_932_895 * 86_400 + 22 * 3600;

/// Writes the last digits of a number that is not negative.
fn put(text: &mut [u8], mut n: i64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

// Between dates and days the years are taken to begin in March, so that the leap day is the last of
// its year: month m of such a year begins on day (153 m + 2) / 5. 400 years are 146,097 days, and
// 1970-01-01 is day 719,468 of the year 0.

/// Days since 1970 of a date in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date of a day since 1970, as year, month and day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = year + era * 400;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn digits(b: &[u8]) -> Option<i64> {
    b.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

fn parse_date_time(b: &[u8]) -> Option<Timestamp> {
    let (head, rest) = b.split_first_chunk::<19>()?;
    let places = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    // All at once: a branch for each digit would cost more than what they say.
    let wrong = places.iter().fold(false, |wrong, at| wrong | !head[*at].is_ascii_digit());
    let colons = (head[13] == b':') & (head[16] == b':');
    if wrong | !colons || !matches!(head[10], b'T' | b't' | b' ') {
        return None;
    }
    let pair = |at: usize| i64::from(head[at] - b'0') * 10 + i64::from(head[at + 1] - b'0');
    let (year, month, day) = (pair(0) * 100 + pair(2), pair(5), pair(8));
    // A leap second (60) has no microsecond of its own in POSIX time: it is the next minute's first.
    let (hour, minute, second) = (pair(11), pair(14), pair(17));
    let is_date = (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = fraction(rest)?;
    let offset = zone(rest)?;
    let minutes = days_from_civil(year, month, day) * 1440 + hour * 60 + minute;
    if minutes * 60 + second.min(59) > LAST_SECOND {
        return None;
    }
    Some(Timestamp((minutes * 60 + second - offset) * 1_000_000 + micros))
}

/// The microseconds of a leading `.fraction`, cut beyond the sixth digit, and what follows.
fn fraction(b: &[u8]) -> Option<(i64, &[u8])> {
    if !matches!(b.first(), Some(b'.' | b',')) {
        return Some((0, b));
    }
    let (mut micros, mut unit, mut n) = (0, 100_000, 1);
    while let Some(digit) = b.get(n).map(|c| c.wrapping_sub(b'0')).filter(|d| *d <= 9) {
        micros += i64::from(digit) * unit;
        unit /= 10;
        n += 1;
    }
    (n > 1).then(|| (micros, &b[n..]))
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

    /// Time since some moment before, for measuring: it never goes back, whatever the wall clock does.
    fn steady(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by way of a calendar library: the truth for `parse_date_time`.
    fn by_calendar(text: &str) -> Option<Timestamp> {
        let b = text.as_bytes();
        if !matches!(b[10], b'T' | b't' | b' ') || b[13] != b':' || b[16] != b':' {
            return None;
        }
        let field = |from: usize, to: usize| digits(&b[from..to]);
        let second = field(17, 19).filter(|second| *second <= 60)?;
        let year = field(0, 4)? as i16;
        let [month, day] = [field(5, 7)? as i8, field(8, 10)? as i8];
        let [hour, minute] = [field(11, 13)? as i8, field(14, 16)? as i8];
        let at = DateTime::new(year, month, day, hour, minute, second.min(59) as i8, 0).ok()?;
        let fraction = b[19..].iter().take(1).any(|c| matches!(c, b'.' | b','));
        let behind = if fraction { &text[20..] } else { &text[19..] };
        let count = behind.bytes().take_while(u8::is_ascii_digit).count();
        let (micros, rest) = match fraction {
            true if count == 0 => return None,
            true => {
                (format!("{:0<6}", &behind[..count])[..6].parse::<i64>().ok()?, &behind[count..])
            }
            false => (0, behind),
        };
        let offset = zone(rest.as_bytes())?;
        let base = Offset::UTC.to_timestamp(at).ok()?.as_microsecond();
        Some(Timestamp(base + micros + (second / 60 - offset) * 1_000_000))
    }

    /// `Display` by way of a calendar library.
    fn shown_by_calendar(time: Timestamp) -> String {
        struct Far(Timestamp);
        impl fmt::Display for Far {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_far(f)
            }
        }
        Far(time).to_string()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn dates_are_read_as_a_calendar_reads_them(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]\
                ([.,][0-9]{0,9})?(Z|z| ?UTC| |[+-][0-9]{2}(:?[0-9]{2})?|é|x)?"
        ) {
            prop_assert_eq!(Timestamp::parse(&text), by_calendar(&text));
        }

        #[test]
        fn a_date_with_one_other_byte_is_read_as_a_calendar_reads_it(
            days in -719_528i64..2_932_900, second in 0i64..86_400,
            place in 0usize..19, byte in b' '..=b'~',
        ) {
            let time = Timestamp((days * 86_400 + second) * 1_000_000);
            let text = shown_by_calendar(time);
            let mut bytes = text.clone().into_bytes();
            if !matches!(place, 4 | 7) {
                bytes[place] = byte;
            }
            let other = String::from_utf8(bytes).expect("ASCII");
            prop_assert_eq!(Timestamp::parse(&text), by_calendar(&text));
            prop_assert_eq!(Timestamp::parse(&other), by_calendar(&other));
        }

        #[test]
        fn any_time_is_written_as_a_calendar_writes_it(micros: i64, far in any::<bool>()) {
            let time = Timestamp(if far { micros } else { micros % 300_000_000_000_000_000 });
            prop_assert_eq!(time.to_string(), shown_by_calendar(time));
        }
    }

    #[test]
    fn every_day_of_the_calendar_is_read_and_written() {
        for days in -719_528i64..=2_932_896 {
            let time = Timestamp(days * DAY_MICROS);
            let text = time.to_string();
            let read = Timestamp::parse(&text);
            assert_eq!(read, Some(time).filter(|_| days < 2_932_896), "{text}");
            assert_eq!(text, shown_by_calendar(time));
        }
        assert!(Timestamp::parse("9999-12-30T22:00:00Z").is_some());
        assert_eq!(Timestamp::parse("9999-12-30T22:00:01Z"), None);
    }

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
