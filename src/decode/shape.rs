//! Names by which rules find the fields of a JSON event: without spaces, and of Windows events without
//! the envelope of whoever shipped them.
//!
//! What is found gets a derived field; the body stays as it was, so that original paths go on working
//! and keywords search what the record said, once. An event without such names costs one look at each
//! of its keys.

use std::borrow::Cow;

use super::windows;
use crate::event::{Event, Object, Value};
use crate::limits::FIELD_NAME_BYTES_MAX;

/// Fields that are going to be derived; of equal names the last wins.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Adds the derived fields of an event that was JSON.
pub fn shape(event: &mut Event<'_>) {
    let mut fields = Fields::new();
    spaceless(&event.body, &mut Vec::new(), &mut fields);
    let mut fields = if fields.len() > 1 { grouped(fields) } else { fields };
    windows::fields(&event.body, &mut fields);
    if !fields.is_empty() {
        event.derived.extend(fields);
    }
}

/// Adds each value whose path has a space in it, under the path without: rules are read so too.
fn spaceless<'v, 'a>(object: &'v Object<'a>, path: &mut Vec<&'v str>, fields: &mut Fields<'a>) {
    for (name, value) in object.iter() {
        path.push(name);
        if name.contains(' ') {
            let length = path.iter().map(|name| name.len() + 1).sum::<usize>();
            if length <= FIELD_NAME_BYTES_MAX {
                fields.push((path.join(".").replace(' ', "").into(), value.clone()));
            }
        } else {
            below(value, path, fields);
        }
        path.pop();
    }
}

fn below<'v, 'a>(value: &'v Value<'a>, path: &mut Vec<&'v str>, fields: &mut Fields<'a>) {
    match value {
        Value::Object(object) => spaceless(object, path, fields),
        Value::Array(items) => items.iter().for_each(|item| below(item, path, fields)),
        _ => {}
    }
}

/// Makes one array of the values of one name, as where a path fans out.
fn grouped(mut fields: Fields<'_>) -> Fields<'_> {
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut groups = Fields::with_capacity(fields.len());
    for (name, value) in fields {
        match groups.last_mut().filter(|(last, _)| *last == name) {
            None => groups.push((name, Value::Array(vec![value]))),
            Some((_, Value::Array(values))) => values.push(value),
            Some(_) => {}
        }
    }
    groups
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
    fn a_long_path_is_not_written_out_for_each_name_below_it() {
        let names: Vec<String> = (0..10_000).map(|n| format!("\"a {n}\": 0")).collect();
        let json = format!("{{\"{}\": {{{}}}}}", "x".repeat(100_000), names.join(", "));
        let body = serde_json::from_str(&json).expect("test JSON");
        let mut event = Event { body, ..Event::default() };
        shape(&mut event);
        assert!(event.derived.is_empty());
    }

    #[test]
    fn an_event_without_such_names_gets_nothing() {
        let body = serde_json::from_str(r#"{"a": {"b": [1, {"c": 2}]}}"#).expect("test JSON");
        let mut event = Event { body, ..Event::default() };
        shape(&mut event);
        assert!(event.derived.is_empty());
    }
}
