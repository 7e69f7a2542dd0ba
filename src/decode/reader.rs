//! Records → facts, without a tree: the fast way for JSON, and what it learns from the slow one.
//!
//! What a table, a tag or an event's own `product`, `category` and `service` say depends on few values.
//! Those that can make a difference are an event's signature. The first event of a signature is decoded
//! the slow way; what came out holds for all others of that signature. A record that is out of the
//! ordinary goes the slow way, too, so nothing is decided here that [`Decoder`] does not decide.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::scan::{ScanScratch, Scanner};
use super::table::Wanted;
use super::{Decoder, Format, TagOrigin, windows};
use crate::event::{EventSource, Facts, FieldPath, Kind, Scalar, Value, View};
use crate::limits::{EVENT_BYTES_MAX, LOGSOURCE_NAME_BYTES_MAX, SIGNATURES_MAX};
use crate::time::Timestamp;

/// So much of what records said is kept, each of so many bytes at most.
const HEARD_MAX: usize = 1024;
const HEARD_BYTES_MAX: usize = 512;

/// Reads the records of one source. One per worker; it keeps its buffers.
#[derive(Clone, Debug)]
pub struct Reader {
    scanner: Arc<Scanner>,
    layout: Arc<Layout>,
    view: View,
    scratch: ScanScratch,
    /// The fields of the record at hand that are in its signature.
    signed: Vec<u32>,
    signature: Vec<u8>,
    kinds: Vec<SourceKind>,
    by_signature: HashMap<Box<[u8]>, u32, FixedState>,
    heard: Heard,
}

/// What records said in the fields of their signatures, as it stands there: mostly the next says the same,
/// and else what some other has said.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// Of the record before that was known, and its kind.
    last: Vec<u8>,
    kind: Option<u32>,
    kinds: HashMap<Box<[u8]>, u32, FixedState>,
    /// Of the record at hand, unless it is like the one before.
    now: Vec<u8>,
}

/// What was learned of events of one signature.
#[derive(Clone, Debug)]
struct SourceKind {
    /// What they are.
    source: EventSource,
    /// Fields to be found under another name as well.
    renames: Box<[(u32, u32)]>,
}

/// Numbers of fields.
#[derive(Debug)]
struct Layout {
    fields: Vec<FieldPath>,
    number: HashMap<FieldPath, u32, FixedState>,
    /// What a field is for, by its number.
    uses: Box<[Use]>,
    asked: Box<[Asked]>,
    clock: Box<[u32]>,
}

/// What a field is for, besides for rules.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Whether it may say the time.
    clock: bool,
    /// What is asked of it for the signature: an index plus one, or 0.
    asked: u16,
}

/// What tells events apart in one field.
#[derive(Debug, Default)]
struct Asked {
    /// Whole texts in lower case.
    texts: HashMap<Box<[u8]>, u32, FixedState>,
    tests: Vec<Wanted>,
    /// Whether every text counts, as it is.
    any: bool,
    /// Whether it is asked after the tables have renamed fields.
    own: bool,
}

/// An event that was not decoded.
#[derive(Clone, Copy, Debug)]
pub struct Known<'r> {
    layout: &'r Layout,
    /// Its values.
    pub facts: Facts<'r>,
    /// Its own time.
    pub time: Option<Timestamp>,
    /// What it is.
    pub source: &'r EventSource,
    /// The number of its kind; kinds are numbered as they are learned.
    pub kind: usize,
}

impl<'r> Known<'r> {
    /// The number of a field, if it has one.
    pub fn number(self, field: &FieldPath) -> Option<u32> {
        self.layout.number.get(field).copied()
    }

    /// The first text of a field.
    pub fn text(self, field: u32) -> Option<Cow<'r, str>> {
        let Facts { view, .. } = self.facts;
        view.values(field).find_map(|at| match self.facts.value(view.scalars()[at]) {
            Value::Str(text) => Some(text),
            value => value.text().map(|text| text.into_owned().into()),
        })
    }

    /// The bytes of the first text of a field.
    pub fn bytes(self, field: u32) -> Option<Cow<'r, [u8]>> {
        let first = self.facts.view.values(field).next().map(|at| self.facts.view.scalars()[at]);
        match first.filter(|scalar| scalar.kind == Kind::Str).map(|scalar| self.facts.token(scalar))
        {
            Some(token) if memchr::memchr(b'\\', token).is_none() => Some(Cow::Borrowed(token)),
            _ => self.text(field).map(|text| text.into_owned().into_bytes().into()),
        }
    }

    /// Calls `sink` with the fields that stand under another name in the record, in order.
    pub fn renamed(self, sink: &mut dyn FnMut(&str, &Value<'_>)) {
        let view = self.facts.view;
        for &(_, to) in view.aliases() {
            let mut values: Vec<Value<'_>> =
                view.values(to).map(|at| self.facts.value(view.scalars()[at])).collect();
            let name = self.layout.fields[to as usize].as_str();
            match values.len() {
                1 => sink(name, &values.remove(0)),
                _ => sink(name, &Value::Array(values)),
            }
        }
    }
}

/// What a reader says of a record.
#[derive(Clone, Copy, Debug)]
pub enum Read<'r> {
    /// All that is needed.
    Known(Known<'r>),
    /// The record is well, but the first of its signature: [`Reader::learn`] wants it decoded.
    Unknown,
    /// It must be decoded.
    Slow,
}

impl Reader {
    /// For the records of a decoder; `asked` are the fields that rules ask for, `shown` those that are
    /// wanted when a rule matches, and `keywords` whether a rule asks for values wherever they are. `None`
    /// when every record of such a source must be decoded.
    pub fn new(
        decoder: &Decoder,
        asked: &[FieldPath],
        shown: &[FieldPath],
        keywords: bool,
    ) -> Option<Self> {
        let by_header = |tag: &super::Tag| matches!(tag.origin, TagOrigin::Header(_));
        if decoder.format != Format::Json
            || !decoder.mappings.is_empty()
            || decoder.tags.iter().any(by_header)
        {
            return None;
        }
        let layout = Layout::new(decoder, asked, shown)?;
        let scanner = Scanner::new(&layout.fields, windows::NAMES, windows::PREFIXES);
        let scanner = if keywords { scanner } else { scanner.of_fields_only() };
        Some(Self {
            scanner: Arc::new(scanner),
            layout: Arc::new(layout),
            view: View::default(),
            scratch: ScanScratch::default(),
            signed: Vec::new(),
            signature: Vec::new(),
            kinds: Vec::new(),
            by_signature: HashMap::default(),
            heard: Heard::default(),
        })
    }

    /// The number of a field, if it has one.
    pub fn number(&self, field: &FieldPath) -> Option<u32> {
        self.layout.number.get(field).copied()
    }

    /// Reads one record.
    pub fn read<'r>(&'r mut self, payload: &'r [u8]) -> Read<'r> {
        let record = trimmed(payload);
        if payload.len() > EVENT_BYTES_MAX
            || !self.scanner.scan(record, &mut self.view, &mut self.scratch)
        {
            return Read::Slow;
        }
        let facts = Facts { record, view: &self.view, raw: true };
        let says_time = self.layout.uses(facts, &mut self.signed);
        let kind = match self.heard.kind(facts, &self.signed) {
            Some(kind) => kind as usize,
            None => {
                if !self.layout.sign(facts, &self.signed, &mut self.signature) {
                    return Read::Slow;
                }
                let Some(kind) = self.by_signature.get(&*self.signature) else {
                    return Read::Unknown;
                };
                self.heard.note(*kind);
                *kind as usize
            }
        };
        let time = if says_time { self.layout.time(facts) } else { None };
        for (from, to) in &self.kinds[kind].renames {
            if self.view.is_present(*from) && self.view.values(*from).next().is_none() {
                return Read::Slow;
            }
            self.view.alias(*from, *to);
        }
        let facts = Facts { record, view: &self.view, raw: true };
        Read::Known(Known {
            layout: &self.layout,
            facts,
            time,
            source: &self.kinds[kind].source,
            kind,
        })
    }

    /// Notes what came out for the record that was read last, unless enough kinds are known.
    pub fn learn(&mut self, decoder: &Decoder, source: &EventSource, entries: &[usize]) -> bool {
        if self.kinds.len() >= SIGNATURES_MAX {
            return false;
        }
        let number = |field: &FieldPath| self.number(field);
        let renames = decoder.tables.renames(entries);
        let renames = renames.filter_map(|(from, to)| Some((number(from)?, number(to)?))).collect();
        let index = self.kinds.len() as u32;
        self.by_signature.insert(self.signature.as_slice().into(), index);
        self.kinds.push(SourceKind { source: source.clone(), renames });
        true
    }
}

impl Heard {
    /// The kind of the record at hand, if it is known from others; `signed` are the fields of its signature.
    #[inline]
    fn kind(&mut self, facts: Facts<'_>, signed: &[u32]) -> Option<u32> {
        if self.is_last(facts, signed) {
            return self.kind;
        }
        self.now.clear();
        for &field in signed {
            put_whole(&mut self.now, field, facts, facts.view.single(field)?);
        }
        let kind = *self.kinds.get(&*self.now)?;
        std::mem::swap(&mut self.last, &mut self.now);
        self.kind = Some(kind);
        Some(kind)
    }

    #[inline]
    fn is_last(&self, facts: Facts<'_>, signed: &[u32]) -> bool {
        let mut rest = &*self.last;
        let is_next = |field: &u32| {
            let scalar = facts.view.single(*field)?;
            rest = rest.strip_prefix(&head(*field, scalar))?;
            rest = rest.strip_prefix(facts.token(scalar))?;
            Some(())
        };
        self.kind.is_some() && signed.iter().try_for_each(is_next).is_some() && rest.is_empty()
    }

    /// Notes the kind of the record that was asked for and not known.
    fn note(&mut self, kind: u32) {
        if self.now.len() > HEARD_BYTES_MAX {
            return;
        }
        if self.kinds.len() >= HEARD_MAX {
            self.kinds.clear();
        }
        self.kinds.insert(self.now.as_slice().into(), kind);
    }
}

/// Without the line end. A byte order mark is out of the ordinary.
fn trimmed(payload: &[u8]) -> &[u8] {
    let mut record = payload;
    while let [rest @ .., b'\n' | b'\r' | 0] = record {
        record = rest;
    }
    record
}

/// Gives numbers to fields, in the order in which they come.
struct Numbers {
    fields: Vec<FieldPath>,
    number: HashMap<FieldPath, u32, FixedState>,
}

impl Numbers {
    fn of(&mut self, field: &FieldPath) -> u32 {
        *self.number.entry(field.clone()).or_insert_with(|| {
            self.fields.push(field.clone());
            self.fields.len() as u32 - 1
        })
    }
}

impl Layout {
    /// Numbers the fields of rules first, then those that the decoder needs. `None` when tags or names
    /// could depend on renamed fields.
    fn new(decoder: &Decoder, of_rules: &[FieldPath], shown: &[FieldPath]) -> Option<Self> {
        let number = of_rules.iter().cloned().zip(0..).collect();
        let mut numbers = Numbers { fields: of_rules.to_vec(), number };
        for field in shown {
            numbers.of(field);
        }
        let clock: Vec<u32> = decoder.clock.fields().iter().map(|f| numbers.of(f)).collect();
        let asked = Asked::of(decoder, &mut numbers);
        for (from, to) in decoder.tables.all_renames() {
            numbers.of(from);
            if asked.get(&numbers.of(to)).is_some_and(|asked| asked.own) {
                return None;
            }
        }
        if asked.values().any(|asked| asked.tests.len() > u32::BITS as usize) {
            return None;
        }
        let Numbers { fields, number } = numbers;
        let mut uses = vec![Use::default(); fields.len()];
        for (place, (number, _)) in (1..).zip(&asked) {
            uses[*number as usize].asked = place;
        }
        for &field in &clock {
            uses[field as usize].clock = true;
        }
        let asked = asked.into_values().collect();
        Some(Self { fields, number, uses: uses.into(), asked, clock: clock.into() })
    }

    /// Whether some field may say the time, and in `signed` those that are in the signature.
    fn uses(&self, facts: Facts<'_>, signed: &mut Vec<u32>) -> bool {
        signed.clear();
        let mut says_time = false;
        for &field in facts.view.touched() {
            let of_field = self.uses[field as usize];
            says_time |= of_field.clock;
            if of_field.asked != 0 {
                signed.push(field);
            }
        }
        says_time
    }

    /// Writes an event's signature; false when it has none that could be trusted.
    fn sign(&self, facts: Facts<'_>, signed: &[u32], signature: &mut Vec<u8>) -> bool {
        signature.clear();
        for &field in signed {
            let asked = &self.asked[usize::from(self.uses[field as usize].asked) - 1];
            let Some(scalar) = facts.view.single(field) else { return false };
            let plain = match scalar.kind {
                Kind::Str => !facts.is_unusual(scalar),
                kind => kind != Kind::Number,
            };
            // Signatures are kept: what is too long to be a name is not to be kept.
            let is_long = asked.any && facts.token(scalar).len() > LOGSOURCE_NAME_BYTES_MAX;
            if !plain || is_long {
                return false;
            }
            asked.sign(field, facts, scalar, signature);
        }
        true
    }

    /// The time that an event says, from the first field that holds one.
    fn time(&self, facts: Facts<'_>) -> Option<Timestamp> {
        let view = facts.view;
        self.clock.iter().find_map(|field| {
            view.values(*field)
                .find_map(|at| super::clock::time_of(&facts.value(view.scalars()[at])))
        })
    }
}

impl Asked {
    /// What the tables, the tags and the names of the event itself depend on, by field.
    fn of(decoder: &Decoder, numbers: &mut Numbers) -> HashMap<u32, Self> {
        let mut all: HashMap<u32, Self> = HashMap::new();
        decoder.tables.asked(&mut |field, node| {
            let asked = all.entry(numbers.of(field)).or_default();
            node.texts().for_each(|text| asked.know(text));
            for test in node.tests() {
                if !asked.tests.contains(test) {
                    asked.tests.push(test.clone());
                }
            }
        });
        for tag in &decoder.tags {
            if let TagOrigin::Field(field) = &tag.origin {
                let asked = all.entry(numbers.of(field)).or_default();
                (asked.any, asked.own) = (true, true);
            }
        }
        let names = decoder.tables.names();
        for (name, known) in [
            ("product", names.map(EventSource::products)),
            ("category", names.map(EventSource::categories)),
            ("service", names.map(EventSource::services)),
        ] {
            let asked = all.entry(numbers.of(&FieldPath::new(name))).or_default();
            asked.own = true;
            match known {
                None => asked.any = true,
                Some(known) => known.iter().for_each(|name| asked.know(name)),
            }
        }
        all
    }

    /// Tells a text in lower case apart.
    fn know(&mut self, text: &str) {
        let next = self.texts.len() as u32 + 1;
        self.texts.entry(text.as_bytes().into()).or_insert(next);
    }

    /// Adds what a value says, if it says anything.
    fn sign(&self, field: u32, facts: Facts<'_>, scalar: Scalar, signature: &mut Vec<u8>) {
        if self.any {
            return put_whole(signature, field, facts, scalar);
        }
        let is_escaped =
            scalar.kind == Kind::Str && memchr::memchr(b'\\', facts.token(scalar)).is_some();
        let decoded = is_escaped.then(|| facts.string(scalar).to_lowercase());
        let text = match (&decoded, scalar.kind) {
            (Some(text), _) => Some(text.as_bytes()),
            (None, Kind::Null) => None,
            (None, _) => Some(facts.lowered(scalar)),
        };
        let whole = text.and_then(|text| self.texts.get(text)).copied().unwrap_or(0);
        let holds = |test: &Wanted| match text {
            Some(text) => test.holds(text),
            None => *test == Wanted::Present,
        };
        let held =
            self.tests.iter().zip(0..).fold(0, |held, (t, n)| held | u32::from(holds(t)) << n);
        if whole != 0 || held != 0 {
            signature.extend_from_slice(&bytes_of([field, whole, held]));
        }
    }
}

/// Adds all that a value says.
#[inline]
fn put_whole(to: &mut Vec<u8>, field: u32, facts: Facts<'_>, scalar: Scalar) {
    to.extend_from_slice(&head(field, scalar));
    to.extend_from_slice(facts.token(scalar));
}

/// What stands before a value's bytes: its field, kind and length.
#[inline]
fn head(field: u32, scalar: Scalar) -> [u8; 12] {
    bytes_of([field, scalar.kind as u32, scalar.end - scalar.start])
}

#[inline]
fn bytes_of(numbers: [u32; 3]) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers).for_each(|(to, n)| *to = n.to_le_bytes());
    bytes
}
