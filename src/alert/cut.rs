//! A JSON document that differs in few places: written once, cut at those places, and written out
//! again and again with values between the pieces.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

/// A place where a document differs.
#[derive(Clone, Copy, Debug)]
pub struct Place<S> {
    /// Where it is, as a JSON pointer.
    pub pointer: &'static str,
    /// What is to be written there.
    pub slot: S,
    /// Whether it may be missing. Then whoever fills the place also writes the member's comma and name
    /// (so it cannot be the first of its object).
    pub optional: bool,
}

/// A document in pieces.
#[derive(Clone, Debug)]
pub struct Cut<S> {
    /// Each piece and what follows it.
    pieces: Vec<(Box<[u8]>, S)>,
    end: Box<[u8]>,
}

impl<S: Copy> Cut<S> {
    /// Writes `document` and cuts it at the places; one that it lacks is left out.
    pub fn new(document: &Value, places: &[Place<S>]) -> Self {
        let mut cutter = Cutter { places, path: String::new(), text: Vec::new(), pieces: vec![] };
        cutter.value(document);
        Self { pieces: cutter.pieces, end: cutter.text.into() }
    }

    /// Bytes of the document without what belongs in the places.
    pub fn text_bytes(&self) -> usize {
        self.pieces.iter().map(|(text, _)| text.len()).sum::<usize>() + self.end.len()
    }

    /// Appends the document to `out`; `fill` appends what belongs in each place.
    pub fn write(&self, out: &mut Vec<u8>, mut fill: impl FnMut(S, &mut Vec<u8>)) {
        for (text, slot) in &self.pieces {
            out.extend_from_slice(text);
            fill(*slot, out);
        }
        out.extend_from_slice(&self.end);
    }
}

/// Appends a value as JSON.
pub fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and neither can strings and numbers.
    let _ = serde_json::to_writer(out, value);
}

/// Appends a text as a JSON string; what it is made of needs no escapes.
pub fn plain(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    let _ = write!(out, "\"{text}\"");
}

/// Writes a document, as `Value`'s own `Display` does, up to the next place.
struct Cutter<'p, S> {
    places: &'p [Place<S>],
    /// The pointer of the value at hand. No place is below a member whose name needs escapes there.
    path: String,
    text: Vec<u8>,
    pieces: Vec<(Box<[u8]>, S)>,
}

impl<S: Copy> Cutter<'_, S> {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                self.text.push(b'{');
                let mut first = true;
                for (name, value) in members {
                    self.below(name, |cutter| cutter.member(name, value, first));
                    first = false;
                }
                self.text.push(b'}');
            }
            Value::Array(items) => {
                self.text.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.text.push(b',');
                    }
                    self.below(&index.to_string(), |cutter| cutter.place_or(item));
                }
                self.text.push(b']');
            }
            scalar => json(scalar, &mut self.text),
        }
    }

    fn member(&mut self, name: &str, value: &Value, first: bool) {
        if let Some(place) = self.place().filter(|place| place.optional) {
            return self.cut(place.slot);
        }
        if !first {
            self.text.push(b',');
        }
        json(name, &mut self.text);
        self.text.push(b':');
        self.place_or(value);
    }

    fn place_or(&mut self, value: &Value) {
        match self.place() {
            Some(place) => self.cut(place.slot),
            None => self.value(value),
        }
    }

    fn place(&self) -> Option<Place<S>> {
        self.places.iter().find(|place| place.pointer == self.path).copied()
    }

    fn cut(&mut self, slot: S) {
        let text = std::mem::take(&mut self.text);
        self.pieces.push((text.into(), slot));
    }

    fn below(&mut self, name: &str, then: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push('/');
        self.path.push_str(name);
        then(self);
        self.path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pointer: &'static str, slot: u8, optional: bool) -> Place<u8> {
        Place { pointer, slot, optional }
    }

    #[test]
    fn a_document_is_written_with_values_between_its_pieces() {
        let document = serde_json::json!({
            "a": [1, {"b": "\"x\n"}], "b": {"c": null, "d": 1.5}, "c": {}, "z": "end",
        });
        let places = [place("/a/1/b", 1, false), place("/b/d", 2, true), place("/x", 3, false)];
        let write = |cut: Cut<u8>| {
            let mut out = Vec::new();
            cut.write(&mut out, |slot, out| match slot {
                1 => json("\u{1}é", out),
                _ => out.extend_from_slice(b",\"d\":2"),
            });
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            write(Cut::new(&document, &places)),
            r#"{"a":[1,{"b":"\u0001é"}],"b":{"c":null,"d":2},"c":{},"z":"end"}"#
        );
        assert_eq!(write(Cut::new(&document, &[])), document.to_string());
    }
}
