//! The parameters of a list of alerts: text → filter, cursor, limit. All faults are named at once.

use jiff::Timestamp;

use super::index::AlertFilter;
use super::limits::{PAGE_ALERTS_DEFAULT, PAGE_ALERTS_MAX};
use super::problem::ParameterError;
use crate::rule::Level;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertQuery {
    /// Which alerts.
    pub filter: AlertFilter,
    /// Behind which one.
    pub cursor: Option<String>,
    /// How many.
    pub limit: usize,
}

/// Reads the parameters of a query string that was split and decoded.
///
/// # Errors
///
/// Fails with every parameter that is unknown, given twice or out of bounds.
pub fn parse(pairs: &[(String, String)]) -> Result<AlertQuery, Vec<ParameterError>> {
    let filter = AlertFilter::default();
    let mut query = AlertQuery { filter, cursor: None, limit: PAGE_ALERTS_DEFAULT };
    let mut errors = Vec::new();
    for (n, (name, value)) in pairs.iter().enumerate() {
        let taken = if pairs[..n].iter().any(|(earlier, _)| earlier == name) {
            Err("given at most once".to_owned())
        } else {
            take(&mut query, name, value)
        };
        if let Err(limit) = taken {
            errors.push(ParameterError::new(name, value, limit));
        }
    }
    if let (Some(from_ms), Some(to_ms)) = (query.filter.from_ms, query.filter.to_ms)
        && from_ms >= to_ms
    {
        errors.push(ParameterError::new(
            "to",
            &to_ms.to_string(),
            format!("later than from, {from_ms}"),
        ));
    }
    if errors.is_empty() { Ok(query) } else { Err(errors) }
}

/// Takes one parameter, or says what it would have to be.
fn take(query: &mut AlertQuery, name: &str, value: &str) -> Result<(), String> {
    match name {
        "from" => query.filter.from_ms = Some(time_ms(value)?),
        "to" => query.filter.to_ms = Some(time_ms(value)?),
        "rule" if value.is_empty() => return Err("a rule id".to_owned()),
        "rule" => query.filter.rule = Some(value.to_owned()),
        "level" => query.filter.level_min = Some(level(value)?),
        "limit" => query.limit = limit(value)?,
        "cursor" => query.cursor = Some(value.to_owned()),
        _ => return Err("one of from, to, rule, level, limit, cursor".to_owned()),
    }
    Ok(())
}

fn time_ms(value: &str) -> Result<i64, String> {
    let expected = || "RFC 3339, such as 2026-11-21T20:40:41Z, or ms since 1970".to_owned();
    if value.strip_prefix('-').unwrap_or(value).bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().map_err(|_| expected());
    }
    // In a query string, a '+' that was not encoded has become a space.
    let time: Timestamp = value.replace(' ', "+").parse().map_err(|_| expected())?;
    Ok(time.as_millisecond())
}

fn level(value: &str) -> Result<Level, String> {
    Level::parse(value).ok_or_else(|| {
        let names = Level::ALL.map(Level::as_str);
        format!("one of {}", names.join(", "))
    })
}

fn limit(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(limit @ 1..=PAGE_ALERTS_MAX) => Ok(limit),
        _ => Err(format!("1 to {PAGE_ALERTS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<AlertQuery, Vec<ParameterError>> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        parse(&text.split('&').filter(|text| !text.is_empty()).map(pair).collect::<Vec<_>>())
    }

    #[test]
    fn times_are_rfc_3339_or_ms() {
        for (value, ms) in [
            ("1795293641207", 1_795_293_641_207),
            ("-1", -1),
            ("2026-11-21T20:40:41.207Z", 1_795_293_641_207),
            ("2026-11-21T21:40:41.207+01:00", 1_795_293_641_207),
            ("2026-11-21T21:40:41.207 01:00", 1_795_293_641_207),
        ] {
            assert_eq!(
                query(&format!("from={value}")).unwrap().filter.from_ms,
                Some(ms),
                "{value}"
            );
        }
        for value in
            ["", "-", "yesterday", "2026-11-21", "2026-11-21T20:40:41", "99999999999999999999"]
        {
            assert!(query(&format!("from={value}")).is_err(), "{value}");
        }
    }

    #[test]
    fn every_fault_is_named_with_value_and_limit() {
        let errors = query("limit=5000&level=huge&colour=red&from=x&limit=3&rule=").unwrap_err();
        let shown: Vec<(&str, &str, &str)> =
            errors.iter().map(|e| (&*e.parameter, &*e.value, &*e.limit)).collect();
        assert_eq!(
            shown,
            [
                ("limit", "5000", "1 to 1000"),
                ("level", "huge", "one of informational, low, medium, high, critical"),
                ("colour", "red", "one of from, to, rule, level, limit, cursor"),
                ("from", "x", "RFC 3339, such as 2026-11-21T20:40:41Z, or ms since 1970"),
                ("limit", "3", "given at most once"),
                ("rule", "", "a rule id"),
            ]
        );
        assert_eq!(query("from=20&to=20").unwrap_err()[0].limit, "later than from, 20");
    }

    #[test]
    fn nothing_asked_is_the_newest_hundred() {
        let query = query("").unwrap();
        assert_eq!((query.filter, query.cursor, query.limit), (AlertFilter::default(), None, 100));
    }
}
