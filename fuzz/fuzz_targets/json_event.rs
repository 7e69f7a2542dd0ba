//! Any bytes as a JSON record: an event that says what serde_json's own reader says, or a reject.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire::decode::{Format, RejectCode};
use watchfire::event::FieldPath;
use watchfire::time::Timestamp;
use watchfire_fuzz::decode;

/// A reject is copied into headers and logs.
const DETAIL_BYTES_MAX: usize = 1024;

fuzz_target!(|bytes: &[u8]| {
    let decoded = decode(Format::Json, bytes, Timestamp(0));
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end_matches(['\n', '\r', '\0']);
    let told = serde_json::from_str::<serde_json::Value>(text);
    let event = match decoded {
        Ok(event) => event,
        Err(reject) => {
            assert!(reject.detail.len() <= DETAIL_BYTES_MAX, "a long reject: {reject}");
            let good = told.is_ok_and(|v| v.is_object());
            assert!(!good || reject.code == RejectCode::InvalidUtf8, "an object, yet {reject}");
            return;
        }
    };
    let told = told.expect("what is an event is JSON");
    let read = serde_json::to_value(&event.body).expect("a body is JSON");
    assert_eq!(read, told, "the event does not say what the record said");
    for (name, _) in event.body.iter() {
        assert!(event.find(&FieldPath::new(name)).present, "`{name}` is there and not found");
    }
    let _ = event.time.map(|time| time.to_string());
});
