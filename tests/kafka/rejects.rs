//! Records that are no events: each is counted and kept once, and the events among them are found.

use std::collections::BTreeMap;

use crate::kit::{Published, Writer, kafka};
use crate::service::App;

/// `DEAD_LETTER_BYTES_MAX`: what is kept of a payload.
const KEPT_BYTES: usize = 256 << 10;

fn good(n: usize) -> Vec<u8> {
    format!(r#"{{"mark":"yes","n":{n}}}"#).into_bytes()
}

/// Payloads that are no events, with the reason.
fn bad() -> Vec<(&'static str, Option<Vec<u8>>)> {
    let large = format!(r#"{{"mark":"yes","pad":"{}"}}"#, "x".repeat(2_000_000));
    vec![
        ("invalid_json", Some(br#"{"mark":"yes","n":"#.to_vec())),
        ("invalid_json", Some(br#"{"mark":"yes"} {"mark":"yes"}"#.to_vec())),
        ("invalid_utf8", Some(b"{\"mark\":\"yes\xff\xfe\"}".to_vec())),
        ("too_large", Some(large.into_bytes())),
        ("null_payload", None),
        ("empty", Some(Vec::new())),
        ("empty", Some(b" \n".to_vec())),
        ("not_an_object", Some(br#"[{"mark":"yes"}]"#.to_vec())),
    ]
}

#[test]
fn what_is_no_event_is_kept_and_counted_once_and_the_events_among_it_alert() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "rejects", 2);
    let instance = app.start("a");
    let mut writer = Writer::new(&bootstrap, &app.topic);
    // A good event before each bad record and one at the end: a bad record has offset 1, 3, 5, …
    let mut expected = BTreeMap::new();
    let mut reasons: BTreeMap<&str, f64> = BTreeMap::new();
    for partition in 0..2 {
        for (n, (reason, payload)) in bad().into_iter().enumerate() {
            writer.send(partition, Some(&good(n)));
            writer.send(partition, payload.as_deref());
            expected.insert((partition, 2 * n + 1), (reason, payload));
            *reasons.entry(reason).or_default() += 1.0;
        }
        writer.send(partition, Some(&good(99)));
    }
    writer.finish(&bootstrap);

    let mut alerts = app.alerts();
    let mut letters = app.dead_letters();
    letters.wait_for(expected.len());
    alerts.wait_for(2 * (bad().len() + 1));
    app.settle();
    let errors = instance.metric("watchfire_parse_errors_total");
    let series = |(reason, n): (&&str, &f64)| {
        (format!("{{format=\"json\",reason=\"{reason}\",topic=\"{}\"}}", app.topic), *n)
    };
    assert_eq!(errors, reasons.iter().map(series).collect());
    instance.stop();

    // Once more from the committed positions: nothing is kept or raised again.
    let _instance = app.start("a");
    app.settle();
    alerts.poll();
    letters.poll();
    assert_eq!(alerts.records.len(), 2 * (bad().len() + 1));
    assert_eq!(letters.records.len(), expected.len());
    for letter in &letters.records {
        let header = |name: &str| letter.headers[&format!("watchfire-{name}")].as_str();
        let place = (header("partition").parse().unwrap(), header("offset").parse().unwrap());
        let (reason, payload) = expected.remove(&place).expect("a bad record, kept once");
        assert_eq!((header("reason"), header("topic")), (reason, app.topic.as_str()));
        assert!(!header("detail").is_empty());
        assert_kept(letter, payload.as_deref(), header("bytes"), header("truncated"));
    }
    assert!(expected.is_empty(), "{:?}", expected.keys());
}

fn assert_kept(letter: &Published, payload: Option<&[u8]>, bytes: &str, truncated: &str) {
    let whole = payload.unwrap_or_default();
    assert_eq!(bytes, whole.len().to_string());
    assert_eq!(truncated, (whole.len() > KEPT_BYTES).to_string());
    assert!(letter.payload == whole[..whole.len().min(KEPT_BYTES)], "another payload");
}
