//! One decoded happening: its fields, its time, its logsource.
//!
//! An event borrows from the record it came from. What a mapping adds is kept apart from what the
//! record said, since keywords search only the latter.

mod facts;
mod fold;
mod logsource;
mod path;
mod value;
mod view;

use std::borrow::Cow;

pub use facts::{Facts, Rewritten};
pub use fold::fold;
pub use logsource::{EventSource, Logsource};
pub use path::{FieldPath, Found};
pub use value::{Object, Value};
pub use view::{Kind, Scalar, VIEW_PAD, View};

use crate::time::Timestamp;

/// A decoded event, borrowed from its bytes.
#[derive(Clone, Debug, Default)]
pub struct Event<'a> {
    /// What the record said.
    pub body: Object<'a>,
    /// What mappings read out of it; looked up before `body`, not searched by keywords.
    pub derived: Object<'a>,
    /// When it happened; `None` when the event does not say.
    pub time: Option<Timestamp>,
    /// What kind of log it is from, as far as known.
    pub source: EventSource,
}

impl<'a> Event<'a> {
    /// The values at `path`: derived fields first, then a key written with its dots, then the nested
    /// path; arrays on the way and at the end fan out.
    pub fn find<'e>(&'e self, path: &FieldPath) -> Found<'e, 'a> {
        let derived = path.find(&self.derived);
        if derived.present { derived } else { path.find(&self.body) }
    }

    /// The first scalar at `path` in its text form; `None` when absent, null or without text.
    pub fn text<'e>(&'e self, path: &FieldPath) -> Option<Cow<'e, str>> {
        self.find(path).values.iter().find_map(|v| v.text())
    }

    /// Adds a derived field unless the event has one of that name already from a mapping.
    pub fn derive(&mut self, name: impl Into<Cow<'a, str>>, value: Value<'a>) {
        let name = name.into();
        if self.derived.get(&name).is_none() {
            self.derived.set(name, value);
        }
    }

    /// Every scalar that the record said, keys excluded.
    pub fn scalars(&self) -> Vec<&Value<'a>> {
        let mut found = Vec::new();
        self.body.iter().for_each(|(_, v)| v.scalars(&mut found));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Event<'_> {
        Event { body: serde_json::from_str(json).expect("test JSON"), ..Event::default() }
    }

    fn texts(json: &str, path: &str) -> Vec<String> {
        let event = event(json);
        let found = event.find(&FieldPath::new(path));
        found.values.iter().filter_map(|v| v.text()).map(Cow::into_owned).collect()
    }

    #[test]
    fn a_flat_dotted_key_goes_before_the_nested_path() {
        assert_eq!(texts(r#"{"a.b": 1, "a": {"b": 2}}"#, "a.b"), ["1"]);
        assert_eq!(texts(r#"{"a": {"b": 2}}"#, "a.b"), ["2"]);
        assert_eq!(texts(r#"{"a": {"b.c": 3}}"#, "a.b.c"), ["3"]);
    }

    #[test]
    fn arrays_fan_out_on_the_way_and_at_the_end() {
        assert_eq!(texts(r#"{"a": [{"b": 1}, {"b": [2, 3]}, 4]}"#, "a.b"), ["1", "2", "3"]);
    }

    #[test]
    fn of_duplicate_keys_the_last_wins() {
        assert_eq!(texts(r#"{"a": 1, "a": 2}"#, "a"), ["2"]);
    }

    #[test]
    fn null_is_present_and_missing_is_not() {
        let e = event(r#"{"a": null, "e": []}"#);
        assert!(e.find(&FieldPath::new("a")).present);
        assert!(e.find(&FieldPath::new("e")).present);
        assert!(!e.find(&FieldPath::new("b")).present);
    }

    #[test]
    fn a_derived_field_hides_the_body_but_not_an_earlier_mapping() {
        let mut e = event(r#"{"user": "body"}"#);
        e.derive("user", Value::Str("first".into()));
        e.derive("user", Value::Str("second".into()));
        assert_eq!(e.text(&FieldPath::new("user")).as_deref(), Some("first"));
        assert_eq!(e.scalars().len(), 1, "keywords do not see derived fields");
    }
}
