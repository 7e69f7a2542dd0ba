//! Texts of an event's values: decoded and folded when first asked for.
//!
//! A value has three forms. *Canonical* is folded, with backslashes, quotes, line ends and tabs escaped as
//! in JSON and nothing else: for nearly every value a stretch of the lowered record itself. The prefilter
//! and most conditions read that. *Text* and *folded* have no escapes: regular expressions, cased
//! texts, and texts with inner wildcards are matched with them.

use super::grams::GRAM_PAD;
use crate::event::{Facts, Kind, Scalar, VIEW_PAD};
use crate::rule::fold;

/// Bytes of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Text<'t> {
    /// More than the text, so that it can be read in whole words.
    pub buffer: &'t [u8],
    /// First byte of the text.
    pub start: usize,
    /// Behind its last byte.
    pub end: usize,
}

impl<'t> Text<'t> {
    /// The text alone.
    pub fn bytes(self) -> &'t [u8] {
        &self.buffer[self.start..self.end]
    }
}

/// A form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Folded and escaped.
    Canonical,
    /// Folded.
    Folded,
    /// As it is.
    Text,
}

/// Texts of one event that had to be made.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    made: Vec<u8>,
    of: Vec<Made>,
}

/// What was made of one scalar so far.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    canonical: Place,
    text: Place,
    folded: Place,
}

/// Where a form of a scalar stands.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Unknown,
    /// It has none.
    None,
    /// As it is in the record.
    Record,
    /// As it is in the lowered record.
    Low,
    /// In `made`.
    Made(u32, u32),
}

impl Texts {
    /// Begins with the next event.
    pub fn begin(&mut self, scalars: usize) {
        self.made.clear();
        self.of.clear();
        self.of.resize(scalars, Made::default());
    }

    /// A form of a scalar; `None` for null.
    pub fn form<'t>(&'t mut self, facts: Facts<'t>, at: usize, form: Form) -> Option<Text<'t>> {
        match form {
            Form::Canonical => self.canonical(facts, at),
            Form::Folded => self.folded(facts, at),
            Form::Text => self.text(facts, at),
        }
    }

    /// The canonical form of a scalar; `None` for null.
    pub fn canonical<'t>(&'t mut self, facts: Facts<'t>, at: usize) -> Option<Text<'t>> {
        let scalar = facts.view.scalars()[at];
        if let Place::Unknown = self.of[at].canonical {
            self.of[at].canonical = match scalar.kind {
                Kind::Null => Place::None,
                Kind::Str if facts.is_unusual(scalar) => {
                    let folded = fold(&facts.string(scalar)).into_owned();
                    self.put(&escaped(&folded))
                }
                Kind::Number => self.number(facts, scalar),
                _ => Place::Low,
            };
        }
        self.at(facts, scalar, self.of[at].canonical)
    }

    /// The text of a scalar as it is; `None` for null.
    fn text<'t>(&'t mut self, facts: Facts<'t>, at: usize) -> Option<Text<'t>> {
        let scalar = facts.view.scalars()[at];
        if let Place::Unknown = self.of[at].text {
            self.of[at].text = match scalar.kind {
                Kind::Null => Place::None,
                Kind::Number => self.number(facts, scalar),
                Kind::Str if facts.is_unusual(scalar) => self.put(facts.string(scalar).as_bytes()),
                Kind::Str if has_escape(facts, scalar) => self.unescape(facts.token(scalar)),
                _ => Place::Record,
            };
        }
        self.at(facts, scalar, self.of[at].text)
    }

    /// The folded text of a scalar; `None` for null.
    fn folded<'t>(&'t mut self, facts: Facts<'t>, at: usize) -> Option<Text<'t>> {
        let scalar = facts.view.scalars()[at];
        if let Place::Unknown = self.of[at].folded {
            self.of[at].folded = match scalar.kind {
                Kind::Null => Place::None,
                Kind::Number => self.number(facts, scalar),
                Kind::Str if facts.is_unusual(scalar) => {
                    self.put(fold(&facts.string(scalar)).as_bytes())
                }
                Kind::Str if has_escape(facts, scalar) => self.unescape(facts.lowered(scalar)),
                _ => Place::Low,
            };
        }
        self.at(facts, scalar, self.of[at].folded)
    }

    fn at<'t>(&'t self, facts: Facts<'t>, scalar: Scalar, place: Place) -> Option<Text<'t>> {
        let (start, end) = (scalar.start as usize, scalar.end as usize);
        match place {
            Place::Unknown | Place::None => None,
            Place::Record => Some(Text { buffer: facts.record, start, end }),
            Place::Low => {
                let low = &facts.view.low;
                Some(Text { buffer: low, start: VIEW_PAD + start, end: VIEW_PAD + end })
            }
            Place::Made(start, end) => {
                Some(Text { buffer: &self.made, start: start as usize, end: end as usize })
            }
        }
    }

    /// The text of a number that is not written as its text is.
    fn number(&mut self, facts: Facts<'_>, scalar: Scalar) -> Place {
        self.put(facts.value(scalar).text().unwrap_or_default().as_bytes())
    }

    fn put(&mut self, text: &[u8]) -> Place {
        let start = self.made.len();
        self.made.extend_from_slice(text);
        self.close(start)
    }

    fn close(&mut self, start: usize) -> Place {
        let end = self.made.len();
        self.made.resize(end + GRAM_PAD, 0);
        Place::Made(start as u32, end as u32)
    }

    /// The text of a string with none but the usual escapes, which lower case leaves as they are.
    fn unescape(&mut self, token: &[u8]) -> Place {
        let start = self.made.len();
        let mut rest = token;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            self.made.extend_from_slice(&rest[..at]);
            let (byte, used) = match rest.get(at + 1) {
                Some(b'n') => (b'\n', 2),
                Some(b'r') => (b'\r', 2),
                Some(b't') => (b'\t', 2),
                Some(byte) => (*byte, 2),
                None => (b'\\', 1),
            };
            self.made.push(byte);
            rest = &rest[at + used..];
        }
        self.made.extend_from_slice(rest);
        self.close(start)
    }
}

fn has_escape(facts: Facts<'_>, scalar: Scalar) -> bool {
    memchr::memchr(b'\\', facts.token(scalar)).is_some()
}

/// The canonical form of a folded text.
pub fn escaped(text: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        let letter = match byte {
            b'\\' | b'"' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                escaped.push(byte);
                continue;
            }
        };
        escaped.extend([b'\\', letter]);
    }
    escaped
}

/// Whether a character of a canonical text begins at a place, which may be its end: what stands there
/// is not the second half of an escape.
#[inline]
pub fn is_whole(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    before % 2 == 0
}
