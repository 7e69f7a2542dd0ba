//! The second stage: matches and markers of one partition → findings → alerts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Bundle;
use crate::alert::{self, Alert};
use crate::correlate::{Finding, Fold, FoldOptions, Match, Replay, Standpoint, StateRecord};
use crate::rule::RuleSet;
use crate::time::Timestamp;
use crate::window::{Progress, SourceClock};

/// How far one source partition has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progressed {
    /// Source topic.
    #[serde(rename = "t")]
    pub topic: Arc<str>,
    /// Source partition.
    #[serde(rename = "p")]
    pub partition: i32,
    /// How far.
    #[serde(rename = "w")]
    pub progress: Progress,
    /// As of when, by the reader's clock.
    #[serde(rename = "d")]
    pub at: Timestamp,
}

/// A statement about event time that a first-stage worker makes to every partition of the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// All source topics with how many partitions each has.
    #[serde(rename = "n")]
    pub topics: Vec<(Arc<str>, i32)>,
    /// How far the worker's own partitions have come.
    #[serde(rename = "w")]
    pub progress: Vec<Progressed>,
}

/// One record of the topic between the stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A match of a rule.
    #[serde(rename = "m")]
    Match(Match),
    /// Matches that differ by time and place alone.
    #[serde(rename = "b")]
    Bundle(Bundle),
    /// A statement about event time.
    #[serde(rename = "k")]
    Marker(Marker),
}

impl Message {
    /// The record's value. JSON, so that the topic can be read by people asking why an alert fired.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is not what [`Message::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// What a record brought about.
#[derive(Clone, Debug, Default)]
pub struct CorrelateOutput {
    /// Alerts to be published.
    pub alerts: Vec<Alert>,
    /// Matches that came too late for correlations.
    pub late: Vec<Match>,
}

/// The second stage for one partition: a pure function of its records in their order.
pub struct Correlate {
    rules: Arc<RuleSet>,
    fold: Fold,
    clock: SourceClock,
    /// Records before this were read before the state was kept: see [`Replay`].
    again_until: i64,
    findings: Vec<Finding>,
}

impl Correlate {
    /// An empty state.
    pub fn new(rules: Arc<RuleSet>, options: FoldOptions) -> Self {
        Self::of(Fold::new(Arc::clone(&rules), options), rules)
    }

    fn of(fold: Fold, rules: Arc<RuleSet>) -> Self {
        let clock = SourceClock::default();
        Self { rules, fold, clock, again_until: i64::MIN, findings: Vec::new() }
    }

    /// The state as it was kept, and from which record on the log is to be read again; all of it when
    /// there is none.
    pub fn restore(rules: Arc<RuleSet>, fold: Fold, replay: Option<&Replay>) -> Self {
        let mut correlate = Self::of(fold, rules);
        if let Some(Replay { at, .. }) = replay {
            correlate.clock = at.clock.clone();
            correlate.again_until = at.next;
        }
        correlate
    }

    /// Writes a shard of the state; `next` is the record that comes next.
    pub fn write(&mut self, shard: u8, next: i64, out: &mut impl FnMut(StateRecord)) {
        self.fold.write(shard, &Standpoint { next, clock: self.clock.clone() }, out);
    }

    /// Takes the record at `offset`, which is the next; what it brings about is added to `out`.
    pub fn record(&mut self, offset: i64, message: Message, out: &mut CorrelateOutput) {
        self.fold.stand_at(offset);
        match message {
            Message::Match(event) if offset < self.again_until => self.fold.offer_again(&event),
            Message::Match(event) => {
                let offered = self.fold.offer(event, &mut self.findings);
                out.late.extend(offered.late());
            }
            Message::Bundle(bundle) => self.bundle(offset, &bundle, out),
            Message::Marker(_) if offset < self.again_until => {}
            Message::Marker(marker) => {
                self.clock.expect(&marker.topics);
                for p in &marker.progress {
                    self.clock.advance(&p.topic, p.partition, p.progress, p.at);
                }
                if let Some(watermark) = self.clock.watermark() {
                    self.fold.advance(watermark, &mut self.findings);
                }
            }
        }
        let Self { rules, findings, fold, .. } = self;
        let published = |f: &Finding| rules.correlations[f.rule].alerts;
        let found = findings.drain(..).filter(published).map(|f| alert::of_finding(rules, &f));
        out.alerts.extend(found);
        let full = fold.take_overflows();
        out.alerts.extend(full.iter().map(|o| alert::of_overflow(rules, o)));
    }

    /// Takes the matches of a bundle, of which all but time and place is the same.
    fn bundle(&mut self, offset: i64, bundle: &Bundle, out: &mut CorrelateOutput) {
        if offset < self.again_until {
            return bundle.matches().for_each(|event| self.fold.offer_again(&event));
        }
        let Self { fold, findings, .. } = self;
        let Some(packed) = fold.pack(Timestamp(0), &bundle.rule, &bundle.family, &bundle.values)
        else {
            return out
                .late
                .extend(bundle.matches().filter_map(|m| fold.offer(m, findings).late()));
        };
        for (time, at) in bundle.places() {
            let offered = fold.offer_packed(packed.at_time(time), &at, findings);
            out.late.extend(offered.late());
        }
    }

    /// The keyed state, for its counts.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }
}
