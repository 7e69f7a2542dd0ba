//! The first stage: record → event → detections → alerts and matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::{self, Alert};
use crate::correlate::Match;
use crate::decode::{Decoder, Reject, RejectCode};
use crate::detect::Engine;
use crate::event::{Event, FieldPath};
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

/// A match and the key that decides its partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    /// Family and values of the family's key.
    pub key: Vec<Arc<str>>,
    /// The match.
    pub event: Match,
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
    /// Matches for the second stage.
    pub matches: Vec<Routed>,
    /// Records for the dead-letter topic.
    pub rejects: Vec<Rejected>,
    /// Every detection, also of rules that only feed correlations.
    pub detections: Vec<Detected>,
    /// The account.
    pub counts: Counts,
}

/// The first stage for one kind of source. It keeps no state between records.
#[derive(Clone, Debug)]
pub struct Filter {
    engine: Engine,
    decoder: Arc<Decoder>,
    view: usize,
    hits: Vec<usize>,
}

impl Filter {
    /// For a rule set and a decoder.
    pub fn new(rules: Arc<RuleSet>, decoder: Arc<Decoder>) -> Self {
        Self::for_view(rules, decoder, 0)
    }

    /// For a rule set in one of its views, 0 being the plain one, and a decoder.
    pub fn for_view(rules: Arc<RuleSet>, decoder: Arc<Decoder>, view: usize) -> Self {
        Self { engine: Engine::for_view(rules, view), decoder, view, hits: Vec::new() }
    }

    /// Processes one record into `out`. Gives the time of its event, capped where it lies in the
    /// future; `None` for rejects and events without time.
    pub fn record(&mut self, record: &Record<'_>, out: &mut FilterOutput) -> Option<Timestamp> {
        out.counts.read += 1;
        out.counts.bytes += record.payload.map_or(0, <[u8]>::len) as u64;
        let mut event =
            match self.decoder.decode_record(record.payload, record.headers, record.reference) {
                Ok(event) => event,
                Err(reject) => {
                    *out.counts.rejected.entry(reject.code).or_default() += 1;
                    let payload = record.payload.map(<[u8]>::to_vec);
                    out.rejects.push(Rejected { at: record.at.clone(), reject, payload });
                    return None;
                }
            };
        event.time = self.time(&event, record, &mut out.counts);
        self.hits.clear();
        let hits = &mut self.hits;
        self.engine.detect(&event, |rule| hits.push(rule));
        match self.hits.is_empty() {
            true => out.counts.quiet += 1,
            false => self.outputs(&event, record, out),
        }
        event.time
    }

    /// The event's own time, else the record's; never further ahead of the clock than is allowed.
    fn time(
        &self,
        event: &Event<'_>,
        record: &Record<'_>,
        counts: &mut Counts,
    ) -> Option<Timestamp> {
        let time = event.time.or(record.timestamp);
        counts.untimed += u64::from(time.is_none());
        let latest = record.now.map_or(Timestamp::MAX, |n| n.plus(FUTURE_SKEW_MICROS_MAX));
        counts.skewed += u64::from(time.is_some_and(|t| t > latest));
        time.map(|t| t.min(latest))
    }

    fn outputs(&mut self, event: &Event<'_>, record: &Record<'_>, out: &mut FilterOutput) {
        out.counts.detected += 1;
        let rules = Arc::clone(self.engine.rules());
        for &index in &self.hits {
            let rule = &rules.detections[index];
            out.detections.push(Detected {
                rule: index,
                offset: record.at.offset,
                time: event.time,
            });
            if rule.alerts {
                let time = event.time.or(record.now).unwrap_or(Timestamp(0));
                out.alerts.push(alert::of_detection(rule, self.view, event, record.at, time));
            }
            let changed = rule.changed(self.view);
            for &family in changed.map_or(&rule.families, |v| &v.families) {
                route(&rules, (index, changed), family, event, record.at, out);
            }
        }
    }
}

/// Makes the match that a family gets; without the family's key it could feed none of its members. A
/// pipeline may have said which event fields hold the family's: the match has the names of the family.
fn route(
    rules: &RuleSet,
    (index, changed): (usize, Option<&RuleView>),
    family: usize,
    event: &Event<'_>,
    at: &Coordinate,
    out: &mut FilterOutput,
) {
    let Some(time) = event.time else { return };
    let spec = &rules.families[family];
    let value = |field: &FieldPath| {
        let holders = changed.map_or_else(|| std::slice::from_ref(field), |v| v.holders(field));
        holders.iter().find_map(|holder| event.text(holder)).map(|t| bounded(&t))
    };
    let key: Option<Vec<Arc<str>>> = spec.key.iter().map(value).collect();
    let Some(mut key) = key else {
        for member in &spec.members {
            *out.counts.missing_field.entry(*member).or_default() += 1;
        }
        return;
    };
    key.insert(0, Arc::clone(&spec.id));
    let named = |field: &FieldPath| Some((Arc::from(field.as_str()), value(field)?));
    let event = Match {
        time,
        at: at.clone(),
        family: Arc::clone(&spec.id),
        rule: rules.detections[index].header.id.clone(),
        values: spec.fields.iter().filter_map(named).collect(),
    };
    out.matches.push(Routed { key, event });
}

/// A value short enough for keys and alerts: what is too long is cut, and told apart by its hash.
fn bounded(text: &str) -> Arc<str> {
    if text.len() <= GROUP_VALUE_BYTES_MAX {
        return Arc::from(text);
    }
    let end = text.floor_char_boundary(GROUP_VALUE_BYTES_MAX);
    let hash = hex(&stable_hash(&[text.as_bytes()]));
    format!("{}… ({} bytes, {hash})", &text[..end], text.len()).into()
}
