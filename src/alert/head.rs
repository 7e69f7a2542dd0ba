//! The few fields of an alert that its carriers need: identity, revision, time, rule, level.
//!
//! The alert stays the bytes that the alerts topic holds; this reads past everything else in them.

use serde::Deserialize;

use crate::rule::Level;

/// Why bytes are not an alert.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Neither JSON nor UTF-8, or a field of the head is missing or of another type.
    #[error("alert of {bytes} bytes cannot be read: {source}")]
    Json {
        /// Size of the alert.
        bytes: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The identity is empty.
    #[error("alert has an empty finding_info.uid")]
    NoId,
    /// The time has no calendar date.
    #[error("alert time {time_ms} ms lies outside of the years -9999 to 9999")]
    Time {
        /// The time found.
        time_ms: i64,
    },
}

/// What carriers read of an alert (an OCSF Detection Finding).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertHead {
    /// `finding_info.uid`: the same for all revisions.
    pub id: String,
    /// `metadata.sequence`, counted from 1; 1 when it is missing.
    pub revision: u64,
    /// `time`, ms since 1970: when the finding was made.
    pub time_ms: i64,
    /// `finding_info.analytic.uid`.
    pub rule_id: Option<String>,
    /// The tag `level` of `finding_info.tags`.
    pub level: Option<Level>,
}

impl AlertHead {
    /// Reads the head of an alert. The whole of the bytes is checked to be one JSON value in UTF-8.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are not such a value or lack `time` or `finding_info.uid`.
    pub fn read(alert: &[u8]) -> Result<AlertHead, HeadError> {
        let bytes = alert.len();
        let unreadable = |source| HeadError::Json { bytes, source };
        // serde_json skips strings that nobody asks for without looking at their bytes.
        let text = std::str::from_utf8(alert)
            .map_err(|error| unreadable(serde::de::Error::custom(error)))?;
        let raw: Raw = serde_json::from_str(text).map_err(unreadable)?;
        let id = raw.finding_info.uid;
        if id.is_empty() {
            return Err(HeadError::NoId);
        }
        if jiff::Timestamp::from_millisecond(raw.time).is_err() {
            return Err(HeadError::Time { time_ms: raw.time });
        }
        let level = raw.finding_info.tags.into_iter().find(|tag| tag.name == "level");
        Ok(AlertHead {
            id,
            revision: raw.metadata.sequence.unwrap_or(1),
            time_ms: raw.time,
            rule_id: raw.finding_info.analytic.and_then(|analytic| analytic.uid),
            level: level.and_then(|tag| tag.value).and_then(|value| Level::parse(&value)),
        })
    }

    /// Says whether the alert is at least of `min`; one of unknown level always is, so that none is kept
    /// back in silence.
    pub fn is_at_least(&self, min: Option<Level>) -> bool {
        match (self.level, min) {
            (Some(level), Some(min)) => level >= min,
            _ => true,
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    time: i64,
    #[serde(default)]
    metadata: Metadata,
    finding_info: FindingInfo,
}

#[derive(Deserialize, Default)]
struct Metadata {
    sequence: Option<u64>,
}

#[derive(Deserialize)]
struct FindingInfo {
    uid: String,
    analytic: Option<Analytic>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Analytic {
    uid: Option<String>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    value: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_ocsf_finding_is_read() {
        let alert = br#"{"time":1795293641207,"metadata":{"version":"1.8.0","sequence":3},
            "finding_info":{"uid":"01a9","analytic":{"uid":"9f3b","type_id":1},
            "tags":[{"name":"sigma","values":["a"]},{"name":"level","value":"high"}]},"x":{"y":[1]}}"#;
        let head = AlertHead::read(alert).unwrap();
        assert_eq!((head.id.as_str(), head.revision, head.time_ms), ("01a9", 3, 1_795_293_641_207));
        assert_eq!((head.rule_id.as_deref(), head.level), (Some("9f3b"), Some(Level::High)));
        assert!(head.is_at_least(Some(Level::High)) && !head.is_at_least(Some(Level::Critical)));
    }

    #[test]
    fn an_alert_without_level_passes_any_minimum() {
        let head = AlertHead::read(br#"{"time":1,"finding_info":{"uid":"a"}}"#).unwrap();
        assert_eq!((head.revision, head.level, head.rule_id.clone()), (1, None, None));
        assert!(head.is_at_least(Some(Level::Critical)));
    }

    #[test]
    fn what_is_no_alert_is_refused() {
        for bytes in [
            &b""[..],
            b"{",
            b"[]",
            b"{\"time\":1}",
            b"{\"time\":\"1\",\"finding_info\":{\"uid\":\"a\"}}",
            b"{\"time\":1,\"finding_info\":{\"uid\":\"\"}}",
            b"{\"time\":9223372036854775807,\"finding_info\":{\"uid\":\"a\"}}",
            b"{\"time\":1,\"finding_info\":{\"uid\":\"a\"}} x",
            b"{\"time\":1,\"finding_info\":{\"uid\":\"a\"},\"x\":\"\xff\"}",
        ] {
            assert!(AlertHead::read(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
