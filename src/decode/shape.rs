//! Names by which rules find the fields of a JSON event: without spaces, and of Windows events without
//! the envelope of whoever shipped them.
//!
//! What is found gets a derived field; the body stays as it was, so that original paths go on working
//! and keywords search what the record said, once. An event without such names costs one look at each
//! of its keys.

use std::borrow::Cow;

use super::windows;
use crate::event::{Event, Object, Value};

/// Fields that are going to be derived; of equal names the last wins.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Adds the derived fields of an event that was JSON.
pub fn shape(event: &mut Event<'_>) {
    let mut fields = Fields::new();
    spaceless(&event.body, "", &mut fields);
    windows::fields(&event.body, &mut fields);
    if !fields.is_empty() {
        event.derived.extend(fields);
    }
}

/// Adds each value whose path has a space in it, under the path without: rules are read so too.
fn spaceless<'a>(object: &Object<'a>, path: &str, fields: &mut Fields<'a>) {
    for (name, value) in object.iter() {
        if name.contains(' ') {
            let whole = format!("{path}{}", name.replace(' ', ""));
            collect(whole, value.clone(), fields);
        } else if matches!(value, Value::Object(_) | Value::Array(_)) && has_space(value) {
            let path = format!("{path}{name}.");
            inner(value, &mut |object| spaceless(object, &path, fields));
        }
    }
}

/// Calls `with` for the object, or each object of the array.
fn inner<'v, 'a>(value: &'v Value<'a>, with: &mut impl FnMut(&'v Object<'a>)) {
    match value {
        Value::Object(object) => with(object),
        Value::Array(items) => items.iter().for_each(|v| inner(v, with)),
        _ => {}
    }
}

fn has_space(value: &Value<'_>) -> bool {
    match value {
        Value::Object(object) => object.iter().any(|(k, v)| k.contains(' ') || has_space(v)),
        Value::Array(items) => items.iter().any(has_space),
        _ => false,
    }
}

/// Adds a value; one more of the same name makes an array of them, as where a path fans out.
fn collect<'a>(name: String, value: Value<'a>, fields: &mut Fields<'a>) {
    match fields.iter_mut().find(|(n, _)| *n == *name) {
        None => fields.push((name.into(), value)),
        Some((_, Value::Array(values))) => values.push(value),
        Some((_, first)) => *first = Value::Array(vec![first.clone(), value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FieldPath;

    /// The texts at each path, joined.
    fn texts(json: &str, path: &str) -> String {
        let body = serde_json::from_str(json).expect("test JSON");
        let mut event = Event { body, ..Event::default() };
        shape(&mut event);
        let found = event.find(&FieldPath::new(path));
        found.values.iter().filter_map(|v| v.text()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn names_with_spaces_are_found_without_at_any_depth() {
        let json = r#"{"Threat Name": "x", "a": {"b c": 1, "d": [{"e f": 2}, {"e f": 3}]}}"#;
        for (path, expect) in
            [("ThreatName", "x"), ("a.bc", "1"), ("a.d.ef", "2|3"), ("a.b c", "1")]
        {
            assert_eq!(texts(json, path), expect, "{path}");
        }
    }

    #[test]
    fn an_event_without_such_names_gets_nothing() {
        let body = serde_json::from_str(r#"{"a": {"b": [1, {"c": 2}]}}"#).expect("test JSON");
        let mut event = Event { body, ..Event::default() };
        shape(&mut event);
        assert!(event.derived.is_empty());
    }
}
