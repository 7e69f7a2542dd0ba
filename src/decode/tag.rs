//! What an event is by one of its fields, or a header of its record, as configuration says.

use std::collections::BTreeMap;

use crate::event::{Event, FieldPath};

/// Which part of a logsource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `product`.
    Product,
    /// `category`.
    Category,
    /// `service`.
    Service,
}

/// Where the name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagOrigin {
    /// A field of the event.
    Field(FieldPath),
    /// A header of the record.
    Header(Box<str>),
}

/// One part of a logsource that differs from event to event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which part.
    pub part: Part,
    /// Where the name comes from.
    pub origin: TagOrigin,
    /// What the values there mean; a value that is not listed says nothing. Without a map the value
    /// is the name.
    pub map: Option<BTreeMap<String, String>>,
}

impl Tag {
    /// Adds what the field or header says.
    pub fn apply(&self, event: &mut Event<'_>, headers: &[(&str, &[u8])]) {
        let value = match &self.origin {
            TagOrigin::Field(path) => event.text(path).map(|text| self.name(&text).to_owned()),
            // Of headers with one name, Kafka's clients take the last.
            TagOrigin::Header(name) => {
                let found = headers.iter().rev().find(|(n, _)| *n == &**name);
                let text = found.and_then(|(_, value)| std::str::from_utf8(value).ok());
                text.map(|text| self.name(text).to_owned())
            }
        };
        let Some(name) = value else { return };
        match self.part {
            Part::Product => event.source.add_product(&name),
            Part::Category => event.source.add_category(&name),
            Part::Service => event.source.add_service(&name),
        }
    }

    /// The name that a value stands for; empty for none.
    fn name<'t>(&'t self, value: &'t str) -> &'t str {
        match &self.map {
            None => value,
            Some(map) => map.get(value).map_or("", String::as_str),
        }
    }
}
