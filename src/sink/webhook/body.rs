//! What is sent for an alert: its stable id and the bytes of the message. Pure.
//!
//! The body is a function of the alert's bytes alone, so every attempt, restart and instance sends the same
//! bytes under the same id. The alert stands in it verbatim unless it is too large; then evidence is cut.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::alert::AlertHead;

/// Largest message body: the size that Standard Webhooks asks senders to stay below.
pub const BODY_BYTES_MAX: usize = 20_000;

/// Longest text kept in the smallest form of a large alert, in characters; JSON escapes take at most six
/// bytes for each.
const TEXT_CHARS_MAX: usize = 200;

/// The only event type so far; updates, resolutions and gaps get their own.
const EVENT_TYPE: &str = "alert.created";

/// Returns the stable id of a message: the same for all attempts of one revision of one alert.
pub fn message_id(head: &AlertHead) -> String {
    let mut hash = Sha256::new();
    // The length keeps ("a", 11) and ("a1", 1) apart.
    hash.update((head.id.len() as u64).to_be_bytes());
    hash.update(head.id.as_bytes());
    hash.update(head.revision.to_be_bytes());
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("msg_{hex}")
}

/// Builds the body of a message from the bytes of an alert whose head was read.
pub fn message_body(head: &AlertHead, alert: &[u8]) -> Vec<u8> {
    let verbatim = envelope(head, alert, false);
    if verbatim.len() <= BODY_BYTES_MAX {
        return verbatim;
    }
    // The head was read from these bytes, so they are JSON; if not, the smallest form still stands.
    let mut alert: Value = serde_json::from_slice(alert).unwrap_or_default();
    for cut in CUTS {
        cut(&mut alert);
        let body = envelope(head, alert.to_string().as_bytes(), true);
        if body.len() <= BODY_BYTES_MAX {
            return body;
        }
    }
    envelope(head, smallest(head, &alert).to_string().as_bytes(), true)
}

/// Cuts in the order of what a reader misses least; each keeps what the ones before have cut.
const CUTS: [fn(&mut Value); 5] = [
    // Whole events: the message keeps their coordinates and matched fields.
    |alert| each_evidence(alert, |data| drop(data.remove("event"))),
    |alert| each_evidence(alert, |data| drop(data.remove("matched"))),
    |alert| keep_first(alert, "/finding_info/related_events"),
    |alert| {
        keep_first(alert, "/evidences");
        keep_first(alert, "/unmapped/watchfire/evidence/ranges");
    },
    |alert| {
        for key in ["evidences", "observables", "resources", "unmapped"] {
            alert.as_object_mut().and_then(|alert| alert.remove(key));
        }
    },
];

fn each_evidence(alert: &mut Value, cut: fn(&mut Map<String, Value>)) {
    let evidences = alert.pointer_mut("/evidences").and_then(Value::as_array_mut);
    for evidence in evidences.into_iter().flatten() {
        if let Some(data) = evidence.pointer_mut("/data").and_then(Value::as_object_mut) {
            cut(data);
        }
    }
}

fn keep_first(alert: &mut Value, pointer: &str) {
    if let Some(list) = alert.pointer_mut(pointer).and_then(Value::as_array_mut) {
        list.truncate(1);
    }
}

/// The least that still lets a reader find the alert, with every text clipped.
fn smallest(head: &AlertHead, alert: &Value) -> Value {
    let text = |pointer: &str| alert.pointer(pointer).and_then(Value::as_str).map(clip);
    json!({
        "class_uid": 2004,
        "time": head.time_ms,
        "message": text("/message"),
        "severity": text("/severity"),
        "metadata": {"version": text("/metadata/version"), "sequence": head.revision},
        "finding_info": {
            "uid": clip(&head.id),
            "title": text("/finding_info/title"),
            "src_url": text("/finding_info/src_url"),
            "analytic": {"uid": head.rule_id.as_deref().map(clip)},
        },
    })
}

fn clip(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

fn envelope(head: &AlertHead, data: &[u8], truncated: bool) -> Vec<u8> {
    // The head's time was checked to have a date.
    let time = jiff::Timestamp::from_millisecond(head.time_ms).unwrap_or_default();
    let mark = if truncated { ",\"truncated\":true" } else { "" };
    let start = format!("{{\"type\":\"{EVENT_TYPE}\",\"timestamp\":\"{time}\"{mark},\"data\":");
    let mut body = Vec::with_capacity(start.len() + data.len() + 1);
    body.extend_from_slice(start.as_bytes());
    body.extend_from_slice(data);
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(id: &str, revision: u64) -> AlertHead {
        AlertHead {
            id: id.to_owned(),
            revision,
            time_ms: 1_795_293_641_207,
            rule_id: None,
            level: None,
        }
    }

    #[test]
    fn the_id_depends_on_alert_and_revision_only() {
        let id = message_id(&head("01a9", 1));
        assert_eq!(id, "msg_95de0481727b08c11a258eb0c2470d16");
        assert_ne!(id, message_id(&head("01a9", 2)));
        assert_ne!(message_id(&head("a1", 1)), message_id(&head("a", 11)));
    }

    #[test]
    fn an_alert_stands_in_the_body_verbatim() {
        let alert = br#"{ "z":1, "time":1795293641207,"a": 1.50, "finding_info":{"uid":"01a9"}}"#;
        let body = message_body(&AlertHead::read(alert).unwrap(), alert);
        let expected = format!(
            r#"{{"type":"alert.created","timestamp":"2026-11-21T20:40:41.207Z","data":{}}}"#,
            String::from_utf8_lossy(alert)
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn evidence_is_cut_first_and_its_coordinates_stay() {
        let evidence = |n: u32| json!({"uid": format!("kafka:c/t/0/{n}"), "data": {"event": {"m": "x".repeat(9_000)}}});
        let alert = json!({
            "time": 1, "finding_info": {"uid": "a"}, "evidences": [evidence(1), evidence(2), evidence(3)],
        });
        let alert = alert.to_string();
        let body = message_body(&AlertHead::read(alert.as_bytes()).unwrap(), alert.as_bytes());
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["truncated"], true);
        assert_eq!(body["data"]["evidences"][2], json!({"uid": "kafka:c/t/0/3", "data": {}}));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            (0usize..30_000).prop_map(|n| Value::from("\u{1}\"€".repeat(n / 3))),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,9}", inner, 0..6).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_body_is_too_large_or_broken(
            values in prop::collection::vec(json_value(), 8),
            title in ".{0,3000}",
            id in ".{1,9000}",
        ) {
            let mut values = values.into_iter();
            let mut next = || values.next().unwrap();
            let alert = json!({
                "time": 1_795_293_641_207i64, "message": title,
                "finding_info": {"uid": id, "title": title, "related_events": next(), "x": next()},
                "evidences": [next(), {"data": {"event": next(), "matched": next()}}],
                "unmapped": {"watchfire": {"evidence": {"ranges": next()}}}, "y": next(),
            }).to_string();
            let head = AlertHead::read(alert.as_bytes()).unwrap();
            let body = message_body(&head, alert.as_bytes());
            prop_assert!(body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
            let body: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&body["type"], EVENT_TYPE);
            let uid = body["data"]["finding_info"]["uid"].as_str().unwrap();
            prop_assert!(head.id.starts_with(uid) && !uid.is_empty());
        }
    }
}
