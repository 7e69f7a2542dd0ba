//! Names of fields, dotted or not, and finding their values.

use std::hash::{Hash, Hasher};

use super::{Object, Value};

/// A field name of a rule: a flat key, or segments of a nested path.
#[derive(Clone, Debug, Eq, PartialOrd, Ord)]
pub struct FieldPath {
    whole: Box<str>,
    /// Byte positions of the dots in `whole`, hence equal where that is.
    dots: Box<[usize]>,
}

impl PartialEq for FieldPath {
    fn eq(&self, other: &Self) -> bool {
        self.whole == other.whole
    }
}

impl Hash for FieldPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.whole.hash(state);
    }
}

/// What a lookup found. A present field without values is an empty array.
#[derive(Clone, Debug, Default)]
pub struct Found<'e, 'a> {
    /// Whether the field exists, be it null or empty.
    pub present: bool,
    /// Its values; arrays are flattened.
    pub values: Vec<&'e Value<'a>>,
}

impl<'e, 'a> Found<'e, 'a> {
    /// A field that is this value; arrays are flattened.
    pub fn of(value: &'e Value<'a>) -> Self {
        let mut found = Self { present: true, values: Vec::with_capacity(1) };
        flatten(value, &mut found.values);
        found
    }
}

impl FieldPath {
    /// Whether it can only be a key at the top: it has no dot.
    pub fn is_flat(&self) -> bool {
        self.dots.is_empty()
    }

    /// Takes the name as the rule wrote it.
    pub fn new(name: &str) -> Self {
        let dots = name.match_indices('.').map(|(i, _)| i).collect();
        Self { whole: name.into(), dots }
    }

    /// The name as the rule wrote it.
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The values at this path below `object`.
    pub fn find<'e, 'a>(&self, object: &'e Object<'a>) -> Found<'e, 'a> {
        let mut found = Found::default();
        self.descend(object, 0, 0, &mut found);
        found
    }

    /// Looks for the rest of the path from byte `from`, whose next dot is `dots[dot]`: first as one
    /// flat key, then one segment deeper.
    fn descend<'e, 'a>(
        &self,
        object: &'e Object<'a>,
        from: usize,
        dot: usize,
        found: &mut Found<'e, 'a>,
    ) {
        if let Some(value) = object.get(&self.whole[from..]) {
            found.present = true;
            flatten(value, &mut found.values);
            return;
        }
        let Some(&end) = self.dots.get(dot) else { return };
        if let Some(value) = object.get(&self.whole[from..end]) {
            self.below(value, end + 1, dot + 1, found);
        }
    }

    fn below<'e, 'a>(
        &self,
        value: &'e Value<'a>,
        from: usize,
        dot: usize,
        found: &mut Found<'e, 'a>,
    ) {
        match value {
            Value::Object(object) => self.descend(object, from, dot, found),
            Value::Array(items) => items.iter().for_each(|v| self.below(v, from, dot, found)),
            _ => {}
        }
    }
}

fn flatten<'e, 'a>(value: &'e Value<'a>, into: &mut Vec<&'e Value<'a>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| flatten(v, into)),
        value => into.push(value),
    }
}
