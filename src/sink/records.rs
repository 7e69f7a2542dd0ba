//! Alerts, dead letters and late matches as Kafka records.

use crate::alert::Alert;
use crate::bus::{Outbox, Outgoing, TransactionError};
use crate::correlate::Match;
use crate::limits::DEAD_LETTER_BYTES_MAX;
use crate::pipeline::{Message, Rejected};

/// Adds an alert to the epoch. The headers are those of CloudEvents' binary mode.
///
/// # Errors
/// When it cannot be queued.
pub fn send_alert(
    out: &mut impl Outbox,
    topic: &str,
    alert: &Alert,
) -> Result<(), TransactionError> {
    let id = alert.id.to_string();
    let revision = alert.revision.to_string();
    let time = alert.time.to_string();
    let kind = if alert.revision == 1 { "alert.created" } else { "alert.updated" };
    let ce_id = format!("{id}-{:0>4}", revision);
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", &ce_id),
        ("ce_type", kind),
        ("ce_source", "watchfire"),
        ("ce_time", &time),
        ("ce_subject", &alert.rule.0),
        ("content-type", "application/json"),
        ("watchfire-level", alert.level.as_str()),
    ];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    let (key, payload) = (id.as_bytes(), Some(&alert.body[..]));
    out.send(Outgoing { topic, partition: None, key, payload, headers: &headers })
}

/// Adds a record that could not be decoded to the epoch: its bytes, and in headers why and where from.
///
/// # Errors
/// When it cannot be queued.
pub fn send_reject(
    out: &mut impl Outbox,
    topic: &str,
    rejected: &Rejected,
) -> Result<(), TransactionError> {
    let payload = rejected.payload.as_deref();
    let kept = payload.map(|p| &p[..p.len().min(DEAD_LETTER_BYTES_MAX)]);
    let size = payload.map_or(0, <[u8]>::len);
    let truncated = size > DEAD_LETTER_BYTES_MAX;
    let headers: [(&str, &str); 7] = [
        ("watchfire-reason", rejected.reject.code.as_str()),
        ("watchfire-detail", &rejected.reject.detail),
        ("watchfire-topic", &rejected.at.topic),
        ("watchfire-partition", &rejected.at.partition.to_string()),
        ("watchfire-offset", &rejected.at.offset.to_string()),
        ("watchfire-bytes", &size.to_string()),
        ("watchfire-truncated", if truncated { "true" } else { "false" }),
    ];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    let key = rejected.at.to_string();
    let key = key.as_bytes();
    out.send(Outgoing { topic, partition: None, key, payload: kept, headers: &headers })
}

/// Adds a match that came too late for correlations to the epoch: the match as the stages hand it on, and
/// in headers which event it is of.
///
/// # Errors
/// When it cannot be queued.
pub fn send_late(
    out: &mut impl Outbox,
    topic: &str,
    event: &Match,
) -> Result<(), TransactionError> {
    let headers: [(&str, &str); 5] = [
        ("watchfire-rule", &event.rule.0),
        ("watchfire-time", &event.time.to_string()),
        ("watchfire-topic", &event.at.topic),
        ("watchfire-partition", &event.at.partition.to_string()),
        ("watchfire-offset", &event.at.offset.to_string()),
    ];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    let payload = Message::Match(event.clone()).encode();
    let key = event.at.to_string();
    let (key, payload) = (key.as_bytes(), Some(&payload[..]));
    out.send(Outgoing { topic, partition: None, key, payload, headers: &headers })
}
