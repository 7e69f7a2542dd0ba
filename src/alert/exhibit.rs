//! The event inside an alert.
//!
//! Of a JSON source it is the record as it came, so that nothing of it is lost on the way; fields that
//! were derived stand behind its own members. How the event was decoded plays no part.

use std::borrow::Cow;

use memchr::memchr2;

use super::cut::json;
use crate::event::{Event, FieldPath, Value};
use crate::limits::ALERT_EVENT_BYTES_MAX;

/// What an alert shows of its event.
pub trait Exhibit {
    /// The first text at `path`, as [`Event::text`] finds it.
    fn text(&self, path: &FieldPath) -> Option<Cow<'_, str>>;

    /// The bytes of that text: for who only copies them, since to say that they are a text takes time. The
    /// reader may have a number for the path.
    fn bytes(&self, path: &FieldPath, _number: Option<u32>) -> Option<Cow<'_, [u8]>> {
        Some(match self.text(path)? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    /// The record, where it is a JSON object; of others the decoded fields are shown.
    fn record(&self) -> Option<&[u8]>;

    /// Gives `sink` all fields that are to be shown beside the record: the derived ones whose names it
    /// does not have, or every field where there is no record.
    fn fields(&self, sink: &mut dyn FnMut(&str, &Value<'_>));
}

/// An event as the decoder made it.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'e, 'a> {
    /// The event.
    pub event: &'e Event<'a>,
    /// The payload, where the source's format is JSON.
    pub json: Option<&'e [u8]>,
}

impl Exhibit for Decoded<'_, '_> {
    fn text(&self, path: &FieldPath) -> Option<Cow<'_, str>> {
        self.event.text(path)
    }

    fn record(&self) -> Option<&[u8]> {
        self.json
    }

    fn fields(&self, sink: &mut dyn FnMut(&str, &Value<'_>)) {
        let Event { body, derived, .. } = self.event;
        if self.json.is_some() {
            let further = derived.iter().filter(|(name, _)| body.get(name).is_none());
            return further.for_each(|(name, value)| sink(name, value));
        }
        let own = body.iter().filter(|(name, _)| derived.get(name).is_none());
        own.chain(derived.iter()).for_each(|(name, value)| sink(name, value));
    }
}

/// Appends the event as one line of JSON, or a note in its place when it is too large.
pub fn write(exhibit: &impl Exhibit, out: &mut Vec<u8>) {
    let start = out.len();
    match exhibit.record() {
        Some(record) => write_record(record, exhibit, out),
        None => write_fields(exhibit, out),
    }
    let size = out.len() - start;
    if size > ALERT_EVENT_BYTES_MAX {
        out.truncate(start);
        json(&serde_json::json!({"truncated": true, "bytes": size}), out);
    }
}

fn write_record(record: &[u8], exhibit: &impl Exhibit, out: &mut Vec<u8>) {
    let record = record.strip_prefix("\u{feff}".as_bytes()).unwrap_or(record);
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'\0');
    let first = record.iter().position(|b| !blank(b)).unwrap_or(0);
    let end = record.iter().rposition(|b| !blank(b)).map_or(0, |last| last + 1);
    let mut rest = &record[first..end];
    // Between tokens a line end is a blank, and inside a string there is none.
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    exhibit.fields(&mut |name, value| {
        out.pop();
        let is_empty = out.trim_ascii_end().last() == Some(&b'{');
        out.extend_from_slice(if is_empty { b"" } else { b"," });
        json(name, out);
        out.push(b':');
        json(value, out);
        out.push(b'}');
    });
}

/// All fields in the order of their names, also within fields.
fn write_fields(exhibit: &impl Exhibit, out: &mut Vec<u8>) {
    let mut all = serde_json::Map::new();
    exhibit.fields(&mut |name, value| {
        all.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    });
    json(&all, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Decoder, Format, Mapping, shipped_mappings};
    use crate::time::Timestamp;

    /// The event as an alert on this payload shows it.
    fn shown(decoder: &Decoder, payload: &str) -> String {
        let event = decoder.decode(Some(payload.as_bytes()), Timestamp(0)).expect("decodes");
        let json = (decoder.format == Format::Json).then_some(payload.as_bytes());
        let mut out = b"before{".to_vec();
        write(&Decoded { event: &event, json }, &mut out);
        String::from_utf8(out.split_off(7)).expect("text")
    }

    #[test]
    fn a_json_record_stays_as_it_came_on_one_line() {
        let decoder = Decoder::new(Format::Json, Vec::new());
        for (payload, expect) in [
            (r#"{"z": 1.50, "a":[ 1e2 ]}"#, r#"{"z": 1.50, "a":[ 1e2 ]}"#),
            (
                "\u{feff} {\"b\":\r\n1,\n\t\"a\": \"\\n\\u00e9é\"} \n\0",
                "{\"b\":  1, \t\"a\": \"\\n\\u00e9é\"}",
            ),
            (
                r#"{"a": 1, "a": 123456789012345678901234567890}"#,
                r#"{"a": 1, "a": 123456789012345678901234567890}"#,
            ),
            ("{ }", "{ }"),
        ] {
            assert_eq!(shown(&decoder, payload), expect, "{payload:?}");
        }
    }

    #[test]
    fn derived_fields_that_the_record_does_not_have_stand_behind_its_own() {
        let yaml = "name: m\nset: {user: of the mapping, kind: k}\n";
        let mapping = || vec![Mapping::parse("m.yml", yaml).expect("a mapping")];
        let decoder = Decoder::new(Format::Json, mapping());
        for (payload, expect) in [
            (r#"{"user": "x" }"#, r#"{"user": "x" ,"kind":"k"}"#),
            ("{\n}", r#"{ "kind":"k","user":"of the mapping"}"#),
            (r#"{"a": "{"}"#, r#"{"a": "{","kind":"k","user":"of the mapping"}"#),
        ] {
            assert_eq!(shown(&decoder, payload), expect);
        }
    }

    #[test]
    fn of_a_syslog_line_the_fields_are_shown_in_the_order_of_their_names() {
        let decoder = Decoder::new(Format::Syslog, shipped_mappings().expect("shipped"));
        let event = shown(&decoder, "Mar 27 13:06:56 h sshd[7]: Invalid user bob from 10.0.0.1");
        let parsed: serde_json::Value = serde_json::from_str(&event).expect("JSON");
        assert_eq!((&parsed["user"], &parsed["src_ip"]), (&"bob".into(), &"10.0.0.1".into()));
        assert_eq!(parsed.to_string(), event);
    }

    #[test]
    fn an_event_that_is_too_large_is_named_by_its_size() {
        let decoder = Decoder::new(Format::Json, Vec::new());
        let payload = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        let fits = payload(ALERT_EVENT_BYTES_MAX);
        assert_eq!(shown(&decoder, &fits), fits);
        let note = format!("{{\"bytes\":{},\"truncated\":true}}", ALERT_EVENT_BYTES_MAX + 1);
        assert_eq!(shown(&decoder, &payload(ALERT_EVENT_BYTES_MAX + 1)), note);
    }
}
