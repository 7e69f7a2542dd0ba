//! Record bytes → an event, or a reject with a stable code.
//!
//! Nothing is dropped here: what cannot be decoded comes back as a [`Reject`] that says why, and goes
//! to the dead-letter topic. The border: no rule is known here.

mod clock;
mod json;
mod mapping;
mod reader;
pub mod scan;
mod shape;
mod syslog;
mod table;
mod table_yaml;
mod tag;
mod windows;

use std::fmt;

pub use clock::{EventClock, TIME_FIELDS};
pub use mapping::{Mapping, MappingError, shipped_mappings};
pub use reader::{Known, Read, Reader};
pub use table::{Table, TableError, Tables, shipped_tables};
pub use tag::{Part, Tag, TagOrigin};

use crate::event::{Event, EventSource, Logsource, Value};
use crate::limits::EVENT_BYTES_MAX;
use crate::time::Timestamp;

/// How records of a source are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// One syslog line: RFC 5424, RFC 3164 with or without priority, or with an RFC 3339 time.
    Syslog,
}

impl Format {
    /// The name as configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Syslog => "syslog",
        }
    }

    /// Reads the name as configuration writes it.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Json, Self::Syslog].into_iter().find(|f| f.as_str() == name)
    }
}

/// Why a record is no event. The codes are stable; metrics and dead letters carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectCode {
    /// The record has no payload (a tombstone).
    NullPayload,
    /// The payload is empty or blank.
    Empty,
    /// The payload is over the limit.
    TooLarge,
    /// The payload is not UTF-8.
    InvalidUtf8,
    /// The payload is not JSON.
    InvalidJson,
    /// The payload is JSON, but no object.
    NotAnObject,
    /// The payload is no syslog line.
    InvalidSyslog,
}

impl RejectCode {
    /// Every code, for metrics that start at zero.
    pub const ALL: [Self; 7] = [
        Self::NullPayload,
        Self::Empty,
        Self::TooLarge,
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::NotAnObject,
        Self::InvalidSyslog,
    ];

    /// The code as metrics and headers carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullPayload => "null_payload",
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::NotAnObject => "not_an_object",
            Self::InvalidSyslog => "invalid_syslog",
        }
    }
}

/// Why a record is no event, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The stable code.
    pub code: RejectCode,
    /// The value, the limit and the place, for people.
    pub detail: String,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

fn reject(code: RejectCode, detail: impl Into<String>) -> Reject {
    Reject { code, detail: detail.into() }
}

/// Decodes the records of one source.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// How records are written.
    pub format: Format,
    /// What is read out of free text.
    pub mappings: Vec<Mapping>,
    /// What the source is known to be.
    pub source: EventSource,
    /// What single events are by a field or header, as configured.
    pub tags: Vec<Tag>,
    /// What single events are by what kinds of logs look like.
    pub tables: Tables,
    /// Where event time comes from.
    pub clock: EventClock,
}

impl Decoder {
    /// For a format, with the default time fields, no tables and nothing known about the source.
    pub fn new(format: Format, mappings: Vec<Mapping>) -> Self {
        Self {
            format,
            mappings,
            source: EventSource::default(),
            tags: Vec::new(),
            tables: Tables::default(),
            clock: EventClock::default(),
        }
    }

    /// Takes what kinds of logs look like from these tables.
    #[must_use]
    pub fn with_tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// The record headers that [`Decoder::decode_record`] looks at.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().filter_map(|tag| match &tag.origin {
            TagOrigin::Header(name) => Some(&**name),
            TagOrigin::Field(_) => None,
        })
    }

    /// Whether an event of this source may be one that a rule for `wanted` is meant for, going by what
    /// is configured. What events say of themselves is not foreseen, and counts only where nothing
    /// else is known.
    pub fn can_feed(&self, wanted: &Logsource) -> bool {
        let settled = |mut source: EventSource| {
            if self.tags.is_empty() {
                source.settle();
            }
            wanted.admits(&source)
        };
        let told = self.mappings.iter().map(Mapping::source).chain(self.tables.sources());
        let mut kinds = told.filter(|kind| kind.agrees(&self.source)).map(|kind| {
            let mut both = self.source.clone();
            both.extend(kind);
            both
        });
        settled(self.source.clone()) || kinds.any(settled)
    }

    /// Decodes one payload of a record without headers, see [`Decoder::decode_record`].
    ///
    /// # Errors
    /// A [`Reject`] when the payload is no event of this format.
    pub fn decode<'a>(
        &self,
        payload: Option<&'a [u8]>,
        reference: Timestamp,
    ) -> Result<Event<'a>, Reject> {
        self.decode_record(payload, &[], reference)
    }

    /// Decodes one payload. `reference` is about when it was written: the record's time, or now. A
    /// syslog time without year is read as the latest such time that is not after `reference`.
    ///
    /// # Errors
    /// A [`Reject`] when the payload is no event of this format.
    pub fn decode_record<'a>(
        &self,
        payload: Option<&'a [u8]>,
        headers: &[(&str, &[u8])],
        reference: Timestamp,
    ) -> Result<Event<'a>, Reject> {
        self.decode_told(payload, headers, reference).map(|(event, _)| event)
    }

    /// As [`Decoder::decode_record`]; also gives which entries of the tables hold for the event.
    ///
    /// # Errors
    /// A [`Reject`] when the payload is no event of this format.
    pub fn decode_told<'a>(
        &self,
        payload: Option<&'a [u8]>,
        headers: &[(&str, &[u8])],
        reference: Timestamp,
    ) -> Result<(Event<'a>, Vec<usize>), Reject> {
        let text = self.text(payload)?;
        let mut event = match self.format {
            Format::Json => {
                let mut event = json::decode(text)?;
                shape::shape(&mut event);
                self.clock.timed(event)
            }
            Format::Syslog => syslog::decode(text, reference, &self.clock)?,
        };
        event.source.extend(&self.source);
        for mapping in &self.mappings {
            mapping.apply(&mut event);
        }
        let entries = self.tables.holding(&event);
        self.tables.apply(&mut event, &entries);
        for tag in &self.tags {
            tag.apply(&mut event, headers);
        }
        let told = !event.source.is_unknown();
        event.source.settle();
        own_logsource(&mut event, self.tables.names());
        if !told {
            event.source.settle();
        }
        Ok((event, entries))
    }

    /// The payload as text within bounds, line end and byte order mark cut off.
    fn text<'a>(&self, payload: Option<&'a [u8]>) -> Result<&'a str, Reject> {
        let Some(payload) = payload else {
            return Err(reject(RejectCode::NullPayload, "the record has no payload"));
        };
        if payload.len() > EVENT_BYTES_MAX {
            let what = format!("{} bytes, the limit is {EVENT_BYTES_MAX}", payload.len());
            return Err(reject(RejectCode::TooLarge, what));
        }
        let text = std::str::from_utf8(payload)
            .map_err(|e| reject(RejectCode::InvalidUtf8, format!("at byte {}", e.valid_up_to())))?;
        let text =
            text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches(['\n', '\r', '\0']);
        if text.trim().is_empty() {
            return Err(reject(RejectCode::Empty, format!("{} bytes of blank", payload.len())));
        }
        Ok(text)
    }
}

/// An event that names its product, category or service itself says what it is, if the tables know
/// that name: many logs have a field `service` that has nothing to do with Sigma.
fn own_logsource(event: &mut Event<'_>, known: Option<&EventSource>) {
    let Event { body, derived, source, .. } = event;
    let named = |name: &str, known: &dyn Fn(&str) -> bool| {
        let value = derived.get(name).or_else(|| body.get(name)).and_then(Value::text);
        value.filter(|v| known(v))
    };
    let product = named("product", &|n| known.is_none_or(|k| k.has_product(n)));
    let category = named("category", &|n| known.is_none_or(|k| k.has_category(n)));
    let service = named("service", &|n| known.is_none_or(|k| k.has_service(n)));
    product.iter().for_each(|n| source.add_product(n));
    category.iter().for_each(|n| source.add_category(n));
    service.iter().for_each(|n| source.add_service(n));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_malformed_payload_has_its_code() {
        let large = vec![b'x'; EVENT_BYTES_MAX + 1];
        for (format, payload, code) in [
            (Format::Json, None, RejectCode::NullPayload),
            (Format::Json, Some(&b""[..]), RejectCode::Empty),
            (Format::Syslog, Some(b" \r\n"), RejectCode::Empty),
            (Format::Json, Some(b"{\"a\": 1"), RejectCode::InvalidJson),
            (Format::Json, Some(b"{\"a\": 1} x"), RejectCode::InvalidJson),
            (Format::Json, Some(b"[1]"), RejectCode::NotAnObject),
            (Format::Json, Some(b"{\"a\": \"\xff\"}"), RejectCode::InvalidUtf8),
            (Format::Json, Some(&large), RejectCode::TooLarge),
            (Format::Syslog, Some(b"hello"), RejectCode::InvalidSyslog),
        ] {
            let decoder = Decoder::new(format, Vec::new());
            let e = decoder.decode(payload, Timestamp(0)).expect_err("malformed");
            assert_eq!(e.code, code, "{e}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        let decoder = Decoder::new(Format::Json, Vec::new());
        let e = decoder.decode(Some(deep.as_bytes()), Timestamp(0)).expect_err("too deep");
        assert_eq!(e.code, RejectCode::InvalidJson);
    }

    #[test]
    fn of_an_events_own_names_those_count_that_the_tables_know() {
        let tables = || Tables::new(shipped_tables().expect("shipped")).expect("few");
        for (tables, json, expect) in [
            (tables(), r#"{"service": "billing", "product": "shop"}"#, "-/-/-"),
            (tables(), r#"{"service": "CloudTrail"}"#, "-/-/cloudtrail"),
            (tables(), r#"{"product": "linux", "service": "billing"}"#, "linux/-/-"),
            (Tables::default(), r#"{"service": "billing"}"#, "-/-/billing"),
        ] {
            let decoder = Decoder::new(Format::Json, Vec::new()).with_tables(tables);
            let event = decoder.decode(Some(json.as_bytes()), Timestamp(0)).expect("decodes");
            assert_eq!(event.source.to_string(), expect, "{json}");
        }
    }

    #[test]
    fn a_field_or_a_header_tells_what_an_event_is() {
        let mut decoder = Decoder::new(Format::Json, Vec::new());
        let map = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let field = TagOrigin::Field(crate::event::FieldPath::new("meta.log"));
        let (product, service) = (Part::Product, Part::Service);
        decoder.tags = vec![
            Tag { part: product, origin: TagOrigin::Header("os".into()), map: None },
            Tag { part: service, origin: field, map: map(&[("auth.log", "sshd")]) },
        ];
        assert_eq!(decoder.headers().collect::<Vec<_>>(), ["os"]);
        for (headers, json, expect) in [
            (&[("os", &b"Linux"[..])][..], r#"{"meta": {"log": "auth.log"}}"#, "linux/-/sshd"),
            (&[("os", b"x"), ("os", b"linux")], r#"{"meta.log": "other"}"#, "linux/-/-"),
            (&[("OS", b"linux"), ("os", b"\xff")], r#"{"meta": 1}"#, "-/-/-"),
        ] {
            let event = decoder.decode_record(Some(json.as_bytes()), headers, Timestamp(0));
            let source = event.expect("decodes").source;
            assert_eq!(source.to_string(), expect, "{json}");
            let foreign = Logsource { category: Some("x".into()), ..Logsource::default() };
            assert_eq!(foreign.admits(&source), expect != "linux/-/sshd", "{json}");
        }
    }
}
