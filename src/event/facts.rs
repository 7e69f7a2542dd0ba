//! One event without a tree: the bytes of its record, and where in it things are.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::fold::is_folded_beyond_ascii;
use super::{Event, FieldPath, Kind, Scalar, VIEW_PAD, Value, View};

/// One event: its record and where in it things are.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'r> {
    /// The record that the view was made of.
    pub record: &'r [u8],
    /// Where its scalars are.
    pub view: &'r View,
    /// Whether keys may stand in the record twice, so that a scalar of it may not count.
    pub raw: bool,
}

impl<'r> Facts<'r> {
    /// A scalar's bytes in the record.
    pub fn token(self, scalar: Scalar) -> &'r [u8] {
        &self.record[scalar.start as usize..scalar.end as usize]
    }

    /// A scalar's bytes in the lowered record.
    pub fn lowered(self, scalar: Scalar) -> &'r [u8] {
        &self.view.low[VIEW_PAD + scalar.start as usize..VIEW_PAD + scalar.end as usize]
    }

    /// Whether a string is written otherwise than with the escapes that JSON must have, or with letters
    /// beyond ASCII that folding changes: its lowered bytes are not its folded text then.
    pub fn is_unusual(self, scalar: Scalar) -> bool {
        self.view.is_unusual(scalar.start, scalar.end) && is_unusual(self.token(scalar))
    }

    /// Whether a scalar's lowered bytes may be otherwise than its folded text; sometimes true when they are
    /// not.
    pub fn may_be_unusual(self, scalar: Scalar) -> bool {
        match scalar.kind {
            Kind::Str => self.view.is_unusual(scalar.start, scalar.end),
            kind => kind == Kind::Number,
        }
    }

    /// Those of the scalars that the record said whose lowered bytes may be otherwise than their folded
    /// text.
    pub fn said_unusual(self) -> impl Iterator<Item = usize> {
        let blocks = &self.view.unusual[..=self.record.len() / 4096];
        let any = self.view.numbers || blocks.iter().any(|bits| *bits != 0);
        let said = if any { self.view.said() } else { 0..0 };
        said.filter(move |at| self.may_be_unusual(self.view.scalars()[*at]))
    }

    /// Which of the scalars that the record said stands at a place of the lowered record.
    pub fn said_at(self, place: usize) -> Option<usize> {
        let (at, said) = ((place - VIEW_PAD) as u32, self.view.said());
        let before = self.view.scalars()[said.clone()].partition_point(|s| s.start <= at);
        let last = said.start + before.checked_sub(1)?;
        (at < self.view.scalars()[last].end).then_some(last)
    }

    /// The scalar as a value.
    pub fn value(self, scalar: Scalar) -> Value<'r> {
        match scalar.kind {
            Kind::Null => Value::Null,
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            // It was checked when the record was read.
            Kind::Int | Kind::Number => {
                serde_json::from_slice(self.token(scalar)).unwrap_or(Value::Null)
            }
            Kind::Str => Value::Str(self.string(scalar)),
        }
    }

    /// The text of a string.
    pub fn string(self, scalar: Scalar) -> Cow<'r, str> {
        let token = self.token(scalar);
        if memchr::memchr(b'\\', token).is_none() {
            return std::str::from_utf8(token).map_or_else(|_| "".into(), Cow::Borrowed);
        }
        let mut quoted = Vec::with_capacity(token.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(token);
        quoted.push(b'"');
        serde_json::from_slice::<String>(&quoted).unwrap_or_default().into()
    }
}

fn is_unusual(token: &[u8]) -> bool {
    let usual = |b: &u8| matches!(b, b'\\' | b'"' | b'n' | b'r' | b't');
    let mut rest = token;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        if !rest.get(at + 1).is_some_and(usual) {
            return true;
        }
        rest = &rest[at + 2..];
    }
    std::str::from_utf8(token).is_ok_and(|text| !is_folded_beyond_ascii(text))
}

/// A record of nothing but the scalars of an event that was decoded into a tree.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    record: Vec<u8>,
    view: View,
    /// The fields that may be there, by the keys that they begin with at the top.
    by_key: HashMap<Box<str>, Vec<u32>, FixedState>,
    there: Vec<u32>,
}

impl Rewritten {
    /// For fields by number.
    pub fn new(fields: &[FieldPath]) -> Self {
        let mut by_key: HashMap<Box<str>, Vec<u32>, FixedState> = HashMap::default();
        for (number, path) in (0..).zip(fields.iter().map(FieldPath::as_str)) {
            let first = path.split_once('.').map(|(first, _)| first);
            for key in [path].into_iter().chain(first) {
                by_key.entry(key.into()).or_default().push(number);
            }
        }
        Self { by_key, ..Self::default() }
    }

    /// Writes an event anew; `fields` are the same as before.
    pub fn of<'r>(&'r mut self, event: &Event<'_>, fields: &[FieldPath]) -> Facts<'r> {
        self.record.clear();
        self.view.begin(fields.len());
        self.there.clear();
        for (key, _) in event.derived.iter().chain(event.body.iter()) {
            self.there.extend(self.by_key.get(key).into_iter().flatten());
        }
        self.there.sort_unstable();
        self.there.dedup();
        let there = std::mem::take(&mut self.there);
        for &number in &there {
            let found = event.find(&fields[number as usize]);
            if found.present {
                self.view.touch(number);
            }
            for value in found.values {
                let (kind, start, end) = self.write(value);
                if let Some(kind) = kind {
                    self.view.push_to(number, kind, start, end);
                }
            }
        }
        self.there = there;
        self.view.begin_said();
        for value in event.scalars() {
            if let (Some(kind), start, end) = self.write(value) {
                self.view.push(kind, start, end);
            }
        }
        self.lower();
        Facts { record: &self.record, view: &self.view, raw: false }
    }

    /// Appends a scalar's token; arrays and objects have none.
    fn write(&mut self, value: &Value<'_>) -> (Option<Kind>, u32, u32) {
        let start = self.record.len() as u32;
        let (kind, quotes) = match value {
            Value::Null => (Kind::Null, 0),
            Value::Bool(true) => (Kind::True, 0),
            Value::Bool(false) => (Kind::False, 0),
            Value::Int(n) if n.unsigned_abs() < 1_000_000_000_000_000_000 => (Kind::Int, 0),
            Value::Int(_) | Value::UInt(_) | Value::Float(_) => (Kind::Number, 0),
            Value::Str(_) => (Kind::Str, 1),
            Value::Array(_) | Value::Object(_) => return (None, start, start),
        };
        // Writing to memory does not fail.
        serde_json::to_writer(&mut self.record, value).unwrap_or_default();
        let end = self.record.len() as u32;
        self.record.push(b'\n');
        (Some(kind), start + quotes, end - quotes)
    }

    fn lower(&mut self) {
        let low = &mut self.view.low;
        low.clear();
        low.resize(VIEW_PAD, 0);
        low.extend_from_slice(&self.record);
        low.make_ascii_lowercase();
        low.resize(low.len() + VIEW_PAD, 0);
        // Values that are not are told apart when they are looked at.
        self.view.unusual.clear();
        self.view.unusual.resize(self.record.len() / 4096 + 1, u64::MAX);
    }
}
