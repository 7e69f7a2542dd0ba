//! The first stage: record → event → detections → alerts and matches.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::undecoded::Undecoded;
use crate::alert::{Alert, Decoded, Exhibit, Templates};
use crate::correlate::{PackedMatch, encode};
use crate::decode::{Decoder, Format, Read, Reader, Reject, RejectCode};
use crate::detect::{Engine, PlanId};
use crate::event::FieldPath;
use crate::ids::{Coordinate, hex, stable_hash};
use crate::limits::{FUTURE_SKEW_MICROS_MAX, GROUP_VALUE_BYTES_MAX};
use crate::rule::{RuleSet, RuleView};
use crate::time::Timestamp;

/// One record of a source.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Where it lies.
    pub at: &'a Coordinate,
    /// Its payload.
    pub payload: Option<&'a [u8]>,
    /// Its headers, at least those that [`Decoder::headers`] names.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// When Kafka says it was written.
    pub timestamp: Option<Timestamp>,
    /// About when it was written, for times without a year.
    pub reference: Timestamp,
    /// When it is read, by the clock: event time may not lie far ahead of it. `None` for files, where
    /// any time is as good as another.
    pub now: Option<Timestamp>,
}

/// A record that could not be decoded, with why.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Where it lies.
    pub at: Coordinate,
    /// Why.
    pub reject: Reject,
    /// Its payload, `None` when it had none.
    pub payload: Option<Vec<u8>>,
}

/// One rule matched one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The rule, by index.
    pub rule: usize,
    /// Offset of the record.
    pub offset: i64,
    /// Time of the event, if it says.
    pub time: Option<Timestamp>,
}

/// What happened to the records; every record is in exactly one of quiet, detected and rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events that no rule matched.
    pub quiet: u64,
    /// Events that at least one rule matched.
    pub detected: u64,
    /// Events that were decoded into a tree, since nothing faster would do.
    pub decoded: u64,
    /// Records that are no event, by code.
    pub rejected: BTreeMap<RejectCode, u64>,
    /// Events too far in the future; their time was capped.
    pub skewed: u64,
    /// Events that neither they nor Kafka gave a time.
    pub untimed: u64,
    /// Matches that lack a field of their family's key, by correlation.
    pub missing_field: BTreeMap<usize, u64>,
}

/// What a batch of records gave.
#[derive(Clone, Debug, Default)]
pub struct FilterOutput {
    /// Alerts of rules that need nothing else.
    pub alerts: Vec<Alert>,
    /// Matches for the second stage, of records whose place the caller knows.
    pub matches: Vec<PackedMatch>,
    /// Records for the dead-letter topic.
    pub rejects: Vec<Rejected>,
    /// Every detection, also of rules that only feed correlations.
    pub detections: Vec<Detected>,
    /// The account.
    pub counts: Counts,
    /// Where the values of a match are put together.
    buffer: Vec<u8>,
}

/// The first stage for one kind of source. It keeps no state between records but what makes it fast.
#[derive(Clone, Debug)]
pub struct Filter {
    engine: Engine,
    decoder: Arc<Decoder>,
    /// Reads records without decoding them, where that can be done.
    reader: Option<Reader>,
    /// The plan of each kind of event that the reader knows.
    plans: Vec<PlanId>,
    view: usize,
    /// What alerts are made from; `None` when none are wanted.
    templates: Option<Templates>,
    /// What the reader numbers the fields of each family with.
    numbers: Arc<[Vec<Option<u32>>]>,
    hits: Vec<usize>,
}

impl Filter {
    /// For a rule set and a decoder.
    pub fn new(rules: Arc<RuleSet>, decoder: Arc<Decoder>) -> Self {
        Self::for_view(rules, decoder, 0)
    }

    /// For a rule set in one of its views, 0 being the plain one, and a decoder.
    pub fn for_view(rules: Arc<RuleSet>, decoder: Arc<Decoder>, view: usize) -> Self {
        let templates = Some(Templates::new(Arc::clone(&rules), view));
        let shown = shown_fields(&rules, view);
        let engine = Engine::for_view(Arc::clone(&rules), view);
        let reader = Reader::new(&decoder, engine.fields(), &shown, engine.asks_keywords());
        let number = |field: &FieldPath| reader.as_ref().and_then(|reader| reader.number(field));
        let numbers = rules.families.iter().map(|f| f.fields.iter().map(number).collect());
        let numbers = numbers.collect();
        let (plans, hits) = (Vec::new(), Vec::new());
        Self { engine, decoder, reader, plans, view, templates, numbers, hits }
    }

    /// The same without alerts: only matches and detections are asked for.
    #[must_use]
    pub fn without_alerts(mut self) -> Self {
        self.templates = None;
        self
    }

    /// The same with every rule on every event, whatever the kinds of logs that they are for.
    #[must_use]
    pub fn without_routing(mut self) -> Self {
        self.engine = self.engine.unrouted();
        self
    }

    /// The same with every record decoded into a tree: the plain way, which the fast one must equal.
    #[must_use]
    pub fn without_reader(mut self) -> Self {
        self.reader = None;
        self
    }

    /// How many plans were made so far: see [`Engine::plans_made`].
    pub fn plans_made(&self) -> (usize, usize) {
        self.engine.plans_made()
    }

    /// Processes one record into `out`. Gives the time of its event, capped where it lies in the
    /// future; `None` for rejects and events without time.
    pub fn record(&mut self, record: &Record<'_>, out: &mut FilterOutput) -> Option<Timestamp> {
        out.counts.read += 1;
        out.counts.bytes += record.payload.map_or(0, <[u8]>::len) as u64;
        let Self { engine, decoder, reader, plans, view, templates, numbers, hits } = self;
        hits.clear();
        let mut is_new = false;
        if let (Some(reader), Some(payload)) = (reader, record.payload) {
            match reader.read(payload) {
                Read::Known(known) => {
                    let detect = |rule| hits.push(rule);
                    if engine.detect_facts(known.facts, plans[known.kind], known.source, detect) {
                        let time = timed(known.time, record, &mut out.counts);
                        let rules = engine.rules();
                        let outputs = Outputs { rules, templates, numbers, view: *view };
                        let event = Undecoded::new(known, decoder, record);
                        outputs.put(hits, &event, time, record, out);
                        return time;
                    }
                    hits.clear();
                }
                Read::Unknown => is_new = true,
                Read::Slow => {}
            }
        }
        self.decode(record, is_new, out)
    }

    /// Processes one record by way of a tree. One that `is_new` teaches the reader what is like it.
    fn decode(
        &mut self,
        record: &Record<'_>,
        is_new: bool,
        out: &mut FilterOutput,
    ) -> Option<Timestamp> {
        let Self { engine, decoder, reader, plans, view, templates, numbers, hits } = self;
        let decoded = decoder.decode_told(record.payload, record.headers, record.reference);
        let (event, entries) = match decoded {
            Ok(decoded) => decoded,
            Err(reject) => {
                *out.counts.rejected.entry(reject.code).or_default() += 1;
                let payload = record.payload.map(<[u8]>::to_vec);
                out.rejects.push(Rejected { at: record.at.clone(), reject, payload });
                return None;
            }
        };
        out.counts.decoded += 1;
        if let (true, Some(reader)) = (is_new, reader)
            && reader.learn(decoder, &event.source, &entries)
        {
            plans.push(engine.plan_for(&event.source));
        }
        engine.detect(&event, |rule| hits.push(rule));
        let time = timed(event.time, record, &mut out.counts);
        let json = record.payload.filter(|_| decoder.format == Format::Json);
        let outputs = Outputs { rules: engine.rules(), templates, numbers, view: *view };
        outputs.put(hits, &Decoded { event: &event, json }, time, record, out);
        time
    }
}

/// The event's own time, else the record's; never further ahead of the clock than is allowed.
fn timed(own: Option<Timestamp>, record: &Record<'_>, counts: &mut Counts) -> Option<Timestamp> {
    let time = own.or(record.timestamp);
    counts.untimed += u64::from(time.is_none());
    let latest = record.now.map_or(Timestamp::MAX, |n| n.plus(FUTURE_SKEW_MICROS_MAX));
    counts.skewed += u64::from(time.is_some_and(|t| t > latest));
    time.map(|t| t.min(latest))
}

/// The fields that alerts show and that correlations get.
fn shown_fields(rules: &RuleSet, view: usize) -> Vec<FieldPath> {
    let mut shown = Templates::shown_fields(rules, view);
    for family in &rules.families {
        shown.extend(family.key.iter().chain(&family.fields).cloned());
    }
    for changed in rules.detections.iter().filter_map(|rule| rule.changed(view)) {
        for family in changed.families.iter().map(|family| &rules.families[*family]) {
            let asked = family.key.iter().chain(&family.fields);
            shown.extend(asked.flat_map(|field| changed.holders(field)).cloned());
        }
    }
    shown
}

/// What becomes of hits.
struct Outputs<'f> {
    rules: &'f RuleSet,
    templates: &'f Option<Templates>,
    numbers: &'f [Vec<Option<u32>>],
    view: usize,
}

impl Outputs<'_> {
    fn put(
        &self,
        hits: &[usize],
        event: &impl Exhibit,
        time: Option<Timestamp>,
        record: &Record<'_>,
        out: &mut FilterOutput,
    ) {
        if hits.is_empty() {
            out.counts.quiet += 1;
            return;
        }
        out.counts.detected += 1;
        for &index in hits {
            let rule = &self.rules.detections[index];
            out.detections.push(Detected { rule: index, offset: record.at.offset, time });
            if let Some(templates) = self.templates.as_ref().filter(|_| rule.alerts) {
                let time = time.or(record.now).unwrap_or(Timestamp(0));
                out.alerts.push(templates.of(index).alert(event, record.at, time));
            }
            let changed = rule.changed(self.view);
            for &family in changed.map_or(&rule.families, |v| &v.families) {
                if let Some(time) = time {
                    self.feed((index, changed), family, event, time, out);
                }
            }
        }
    }

    /// Makes the match that a family gets; without the family's key it could feed none of its members. A
    /// pipeline may have said which event fields hold the family's: the match has the names of the family.
    fn feed(
        &self,
        (index, changed): (usize, Option<&RuleView>),
        family: usize,
        event: &impl Exhibit,
        time: Timestamp,
        out: &mut FilterOutput,
    ) {
        let spec = &self.rules.families[family];
        let matched = PackedMatch::new(time, (index, family), &mut out.buffer, |buffer| {
            for (field, number) in spec.fields.iter().zip(&self.numbers[family]) {
                let text = match changed {
                    None => event.bytes(field, *number),
                    Some(view) => view.holders(field).iter().find_map(|f| event.bytes(f, None)),
                };
                encode(text.as_deref().map(bounded).as_deref(), buffer);
            }
        });
        if !spec.null_group && matched.key(spec).any(|part| !part.is_some()) {
            for member in &spec.members {
                *out.counts.missing_field.entry(*member).or_default() += 1;
            }
            return;
        }
        out.matches.push(matched);
    }
}

/// A value short enough for keys and alerts: what is too long is cut, and told apart by its hash.
fn bounded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.len() <= GROUP_VALUE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let hash = hex(&stable_hash(&[text]));
    let whole = String::from_utf8_lossy(text);
    let end = whole.floor_char_boundary(GROUP_VALUE_BYTES_MAX);
    Cow::Owned(format!("{}… ({} bytes, {hash})", &whole[..end], text.len()).into_bytes())
}
