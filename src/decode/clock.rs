//! Where the time of an event comes from.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::event::{Event, FieldPath, Value};
use crate::time::Timestamp;

/// Fields that hold the time of an event, looked at in this order unless configured.
pub const TIME_FIELDS: &[&str] = &[
    "@timestamp",
    "timestamp",
    "time",
    "_time",
    "ts",
    "UtcTime",
    "TimeCreated",
    "EventTime",
    "eventTime",
    "event.created",
    "TimeCreated_SystemTime",
    "datetime",
    "date",
];

/// How the time of events is read.
#[derive(Clone, Debug)]
pub struct EventClock {
    fields: Vec<FieldPath>,
    /// The zone of times that name none (syslog, RFC 3164).
    pub zone: TimeZone,
    /// The year of times that name none; by default the latest that is not in the future.
    pub year: Option<i16>,
}

impl Default for EventClock {
    fn default() -> Self {
        Self::new(TIME_FIELDS.iter().copied())
    }
}

impl EventClock {
    /// Reads time from these fields, the first that holds one.
    pub fn new<'f>(fields: impl Iterator<Item = &'f str>) -> Self {
        Self { fields: fields.map(FieldPath::new).collect(), zone: TimeZone::UTC, year: None }
    }

    /// Sets the event's time from the first field that holds one.
    pub fn timed<'a>(&self, mut event: Event<'a>) -> Event<'a> {
        event.time =
            self.fields.iter().find_map(|f| event.find(f).values.iter().find_map(|v| time_of(v)));
        event
    }

    /// The fields that hold the time, the first that does.
    pub(super) fn fields(&self) -> &[FieldPath] {
        &self.fields
    }

    /// The instant of month, day and time of day without a year. It is the latest such instant that
    /// is not more than a day after `reference` (a day, since clocks and zones differ); a 29 February
    /// looks back to the last leap year.
    pub fn without_year(&self, at: [i8; 5], reference: Timestamp) -> Option<Timestamp> {
        let [month, day, hour, minute, second] = at;
        let in_year = |year: i16| {
            let at = DateTime::new(year, month, day, hour, minute, second.min(59), 0).ok()?;
            Timestamp::from_civil(at, &self.zone)
        };
        if let Some(year) = self.year {
            return in_year(year);
        }
        let this_year = reference.civil()?.year();
        let latest = reference.plus(86_400_000_000);
        (this_year.saturating_sub(8)..=this_year.saturating_add(1))
            .rev()
            .find_map(|y| in_year(y).filter(|t| *t <= latest))
    }
}

/// The time that a value is.
pub(super) fn time_of(value: &Value<'_>) -> Option<Timestamp> {
    match value {
        Value::Str(s) => Timestamp::parse(s),
        Value::Int(n) => Some(Timestamp::from_epoch_number(*n)),
        Value::Float(n) => Timestamp::from_epoch_float(*n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_is_found_across_new_year_and_leap_days() {
        let clock = EventClock::default();
        for (reference, at, expect) in [
            ("2017-04-20T12:00:00Z", [3, 27, 13, 6, 56], "2017-03-27T13:06:56Z"),
            ("2026-01-01T00:00:05Z", [12, 31, 23, 59, 59], "2025-12-31T23:59:59Z"),
            ("2025-12-31T23:59:59Z", [1, 1, 0, 0, 1], "2026-01-01T00:00:01Z"),
            ("2026-06-01T00:00:00Z", [2, 29, 1, 2, 3], "2024-02-29T01:02:03Z"),
        ] {
            let reference = Timestamp::parse(reference).expect("test time");
            let found = clock.without_year(at, reference).map(|t| t.to_string());
            assert_eq!(found.as_deref(), Some(expect));
        }
    }
}
