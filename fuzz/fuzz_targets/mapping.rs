//! A mapping, a line `%%`, a message: parsed or explained; applied, it adds fields and changes none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire::decode::Mapping;
use watchfire::event::{Event, FieldPath, Object, Value};

/// An event with that message, and with a derived field that no mapping may change.
fn message_event(message: &str) -> Event<'_> {
    let mut body = Object::default();
    body.set("program", Value::Str("sshd".into()));
    body.set("message", Value::Str(message.into()));
    body.set("other", Value::Array(vec![Value::Int(7), Value::Null]));
    let mut event = Event { body, ..Event::default() };
    event.derive("user", Value::Str("first".into()));
    event
}

fuzz_target!(|input: &str| {
    let (yaml, message) = input.split_once("\n%%\n").unwrap_or((input, "a message"));
    let mapping = match Mapping::parse("fuzz.yml", yaml) {
        Ok(mapping) => mapping,
        Err(e) => {
            assert!(e.to_string().starts_with("mapping fuzz.yml"), "no file in front: {e}");
            return;
        }
    };
    let mut event = message_event(message);
    let before = event.body.clone();
    mapping.apply(&mut event);
    assert_eq!(event.body, before, "a mapping changed what the record said");
    assert_eq!(event.text(&FieldPath::new("user")).as_deref(), Some("first"));
    // A pattern's own names, `set`, and the field that was there: nothing grows beyond the text.
    assert!(event.derived.iter().count() <= 1 + yaml.len(), "more fields than text");
    let mut again = message_event(message);
    mapping.apply(&mut again);
    assert_eq!(event.derived, again.derived, "the same event gave other fields");
    assert_eq!(event.source, again.source, "the same event gave another source");
});
