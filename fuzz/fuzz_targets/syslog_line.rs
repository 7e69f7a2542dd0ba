//! Any bytes as a syslog line: fields that stand in the line, or a reject.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire::decode::Format;
use watchfire::event::{FieldPath, Value};
use watchfire::time::Timestamp;
use watchfire_fuzz::decode;

/// A reject is copied into headers and logs.
const DETAIL_BYTES_MAX: usize = 1024;
const REFERENCE: Timestamp = Timestamp(1_700_000_000_000_000);
const DAY_MICROS: i64 = 86_400_000_000;

fuzz_target!(|bytes: &[u8]| {
    let event = match decode(Format::Syslog, bytes, REFERENCE) {
        Ok(event) => event,
        Err(reject) => {
            assert!(reject.detail.len() <= DETAIL_BYTES_MAX, "a long reject: {reject}");
            return;
        }
    };
    let line = std::str::from_utf8(bytes).expect("what is an event is text");
    let Some(Value::Str(message)) = event.body.get("message") else {
        panic!("an event without a message: {line}");
    };
    assert!(line.contains(&**message), "the message is not of the line: {message}");
    for (name, max) in [("facility", 23), ("severity", 7)] {
        let value = event.body.get(name);
        let good = value.is_none_or(|v| matches!(v, Value::Int(n) if (0..=max).contains(n)));
        assert!(good, "{name}: {value:?}");
    }
    if let Some(host) = event.text(&FieldPath::new("host")) {
        assert!(!host.is_empty() && !host.contains(' '), "host `{host}`");
    }
    let rest = line.trim_start_matches('\u{feff}');
    let rest = rest.split_once('>').filter(|_| rest.starts_with('<')).map_or(rest, |(_, r)| r);
    if rest.starts_with(|c: char| c.is_ascii_uppercase()) {
        let latest = REFERENCE.plus(DAY_MICROS);
        assert!(event.time.is_some_and(|t| t <= latest), "later than now: {:?}", event.time);
    }
});
