//! What reaches a correlation, and what of it is looked at.

use std::sync::Arc;

use super::PackedMatch;
use super::matches::value_of;
use super::packed::{encode, part};
use super::plan::{Plan, Target};
use super::store::{Keyed, PREFETCHED, Store, Wanted};
use super::waiting::Waits;
use crate::decimal::Decimal;
use crate::rule::{CorrelationKind, RuleRef};
use crate::time::Timestamp;
use crate::window::{Happening, Place, ValueHash};

/// What a signal goes back to, and with it the shard of the groups that it makes.
#[derive(Clone, Copy)]
pub enum Origin<'s> {
    /// A match.
    Match(&'s PackedMatch),
    /// A group that ended, of that shard.
    Group(u8),
}

/// The values that come with a signal.
#[derive(Clone, Copy)]
pub enum SignalValues<'s> {
    /// Of a match: those of its family's fields.
    Packed(&'s [u8]),
    /// Of a finding: with names.
    Named(&'s [(Arc<str>, Arc<str>)]),
}

/// A thing that reaches a correlation: a match, or a finding of a correlation below.
pub struct Signal<'s> {
    /// Where it comes from.
    pub origin: Origin<'s>,
    /// When it happened.
    pub time: Timestamp,
    /// Where its record lies.
    pub place: Place,
    /// What it says.
    pub values: SignalValues<'s>,
    /// Whether an episode began; correlations that count take only these from below.
    pub first: bool,
}

/// Why a signal cannot be counted or measured.
pub enum Unusable {
    /// It lacks a field.
    Missing,
    /// What is measured is none.
    NoNumber,
}

/// Writes the group that values belong to; false when they lack a group-by field.
pub fn group_of(
    plan: &Plan,
    (index, input): (usize, usize),
    values: &SignalValues<'_>,
    into: &mut Vec<u8>,
) -> bool {
    let rule = &plan.rules.correlations[index];
    match values {
        SignalValues::Packed(bytes) => plan.places[index][input].group.iter().all(|place| {
            let Some(part) = part(bytes, *place) else { return false };
            into.extend_from_slice(part.packed);
            part.is_some() || rule.null_group
        }),
        SignalValues::Named(values) => rule.inputs[input].group_fields.iter().all(|field| {
            let value = value_of(values, field.as_str());
            encode(value.map(|v| v.as_bytes()), into);
            value.is_some() || rule.null_group
        }),
    }
}

/// What a signal is to a correlation.
pub fn happening(
    plan: &Plan,
    (index, input): (usize, usize),
    signal: &Signal<'_>,
) -> Result<Happening, Unusable> {
    let (kind, places) = (&plan.rules.correlations[index].kind, &plan.places[index][input].values);
    let text = |field: usize| match signal.values {
        SignalValues::Packed(bytes) => part(bytes, *places.get(field)?)?.bytes(),
        SignalValues::Named(values) => {
            value_of(values, kind.fields().get(field)?.as_str()).map(|v| v.as_bytes())
        }
    };
    let mut what = Happening::plain(signal.time, signal.place, input);
    match kind {
        CorrelationKind::ValueCount { fields, .. } => {
            if (0..fields.len()).any(|field| text(field).is_none()) {
                return Err(Unusable::Missing);
            }
            what.value = Some(ValueHash::of((0..fields.len()).filter_map(text)));
        }
        CorrelationKind::Value { .. } => {
            let text = text(0).ok_or(Unusable::Missing)?;
            let number = std::str::from_utf8(text).ok().and_then(Decimal::parse);
            what.number = Some(number.ok_or(Unusable::NoNumber)?);
        }
        _ => {}
    }
    Ok(what)
}

/// A correlation that a match feeds, and the group there; none when the match lacks a field of it.
#[derive(Clone, Copy)]
pub struct Feed<'f> {
    /// The correlation, by index.
    pub rule: usize,
    /// The input, by position.
    pub input: usize,
    /// The group.
    pub key: Option<Keyed<'f>>,
}

/// One line of [`Feeds`].
struct Line {
    target: Target,
    /// Where the key ends; it begins where that of the line before ends.
    end: usize,
    /// Which of those wanted.
    wanted: Option<usize>,
}

/// What the matches at hand feed, found for all of them before the first happens, so that their groups can
/// be brought near together.
#[derive(Default)]
pub struct Feeds {
    lines: Vec<Line>,
    /// Where the lines of each match begin.
    starts: Vec<usize>,
    keys: Vec<u8>,
    wanted: Vec<Wanted>,
}

/// Fewer matches at a time are not worth the trouble of bringing their groups near.
const PREFETCH_FROM: usize = 4;

impl Feeds {
    /// Finds what these matches feed.
    pub fn prepare(&mut self, plan: &Plan, store: &Store, batch: &[Waits]) {
        self.lines.clear();
        self.starts.clear();
        self.keys.clear();
        self.wanted.clear();
        for Waits { event, .. } in batch {
            self.starts.push(self.lines.len());
            for target in plan.targets(RuleRef::Detection(event.rule as usize)) {
                if plan.rules.correlations[target.rule].family != event.family as usize {
                    continue;
                }
                let start = self.keys.len();
                let values = SignalValues::Packed(event.values());
                let place = (target.rule, target.input);
                let is_whole = group_of(plan, place, &values, &mut self.keys);
                let end = self.keys.len();
                let wanted = is_whole.then(|| {
                    let hash = store.keyed(target.rule, &self.keys[start..end]).hash;
                    self.wanted.push(Wanted::new(target.rule, hash));
                    self.wanted.len() - 1
                });
                self.lines.push(Line { target: *target, end, wanted });
            }
        }
        if batch.len() >= PREFETCH_FROM {
            self.wanted.chunks_mut(PREFETCHED).for_each(|chunk| store.prefetch(chunk));
        }
    }

    /// What the match of that number feeds.
    pub fn of(&self, number: usize) -> impl Iterator<Item = Feed<'_>> {
        let bound = |number: usize| self.starts.get(number).copied().unwrap_or(self.lines.len());
        let first = bound(number);
        let mut start = first.checked_sub(1).map_or(0, |before| self.lines[before].end);
        let of_number = self.lines[first..bound(number + 1)].iter();
        of_number.map(move |Line { target: Target { rule, input }, end, wanted }| {
            let bytes = &self.keys[start..*end];
            start = *end;
            let key = wanted.map(|wanted| self.wanted[wanted].keyed(bytes));
            Feed { rule: *rule, input: *input, key }
        })
    }
}
