//! Alerts, dead letters and late matches as Kafka records.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use crate::alert::Alert;
use crate::correlate::Match;
use crate::kafka::{TransactionError, Transactional};
use crate::limits::DEAD_LETTER_BYTES_MAX;
use crate::pipeline::{Message, Rejected};

/// Adds an alert to the epoch. The headers are those of CloudEvents' binary mode.
///
/// # Errors
/// When it cannot be queued.
pub fn send_alert(
    out: &mut Transactional,
    topic: &str,
    alert: &Alert,
) -> Result<(), TransactionError> {
    let id = alert.id.to_string();
    let revision = alert.revision.to_string();
    let time = alert.time.to_string();
    let kind = if alert.revision == 1 { "alert.created" } else { "alert.updated" };
    let headers = headers(&[
        ("ce_specversion", "1.0"),
        ("ce_id", &format!("{id}-{:0>4}", revision)),
        ("ce_type", kind),
        ("ce_source", "watchfire"),
        ("ce_time", &time),
        ("ce_subject", &alert.rule.0),
        ("content-type", "application/json"),
        ("watchfire-level", alert.level.as_str()),
    ]);
    out.send(BaseRecord::to(topic).key(id.as_bytes()).payload(&alert.body[..]).headers(headers))
}

/// Adds a record that could not be decoded to the epoch: its bytes, and in headers why and where from.
///
/// # Errors
/// When it cannot be queued.
pub fn send_reject(
    out: &mut Transactional,
    topic: &str,
    rejected: &Rejected,
) -> Result<(), TransactionError> {
    let payload = rejected.payload.as_deref();
    let kept = payload.map(|p| &p[..p.len().min(DEAD_LETTER_BYTES_MAX)]);
    let size = payload.map_or(0, <[u8]>::len);
    let truncated = size > DEAD_LETTER_BYTES_MAX;
    let headers = headers(&[
        ("watchfire-reason", rejected.reject.code.as_str()),
        ("watchfire-detail", &rejected.reject.detail),
        ("watchfire-topic", &rejected.at.topic),
        ("watchfire-partition", &rejected.at.partition.to_string()),
        ("watchfire-offset", &rejected.at.offset.to_string()),
        ("watchfire-bytes", &size.to_string()),
        ("watchfire-truncated", if truncated { "true" } else { "false" }),
    ]);
    let key = rejected.at.to_string();
    let record = BaseRecord::to(topic).key(key.as_bytes()).headers(headers);
    match kept {
        Some(bytes) => out.send(record.payload(bytes)),
        None => out.send(record),
    }
}

/// Adds a match that came too late for correlations to the epoch: the match as the stages hand it on, and
/// in headers which event it is of.
///
/// # Errors
/// When it cannot be queued.
pub fn send_late(
    out: &mut Transactional,
    topic: &str,
    event: &Match,
) -> Result<(), TransactionError> {
    let headers = headers(&[
        ("watchfire-rule", &event.rule.0),
        ("watchfire-time", &event.time.to_string()),
        ("watchfire-topic", &event.at.topic),
        ("watchfire-partition", &event.at.partition.to_string()),
        ("watchfire-offset", &event.at.offset.to_string()),
    ]);
    let payload = Message::Match(event.clone()).encode();
    let key = event.at.to_string();
    out.send(BaseRecord::to(topic).key(key.as_bytes()).payload(&payload[..]).headers(headers))
}

fn headers(pairs: &[(&str, &str)]) -> OwnedHeaders {
    let insert = |headers: OwnedHeaders, (key, value): &(&str, &str)| {
        headers.insert(Header { key, value: Some(value.as_bytes()) })
    };
    pairs.iter().fold(OwnedHeaders::new_with_capacity(pairs.len()), insert)
}
