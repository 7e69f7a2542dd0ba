//! The state of a fold as records of a compacted topic, and back.
//!
//! Writing all of it at once would be a burst, and writing each change would be a record for each match.
//! So groups are spread over shards, and one shard after the other is written: what has changed of it since
//! its last turn, and where the fold stands, its *head*.
//!
//! ```text
//!   matches    ──┬──────────┬───────────┬──────────▶ offsets
//!              from      shard 7     shard 8       now
//!                        W₇          W₈               event time that had happened by then
//! ```
//!
//! A fold is restored from the heads' groups and a replay of the matches. Windows are fed in the order of
//! event time, so the groups of a shard hold exactly what lies before the watermark of its head: in the
//! replay a match is for them when it lies at or after it. The replay begins where the oldest head stood,
//! with the clock of then, and before that with the matches that were still waiting there: from the oldest
//! of those on.
//!
//! Groups of correlations that feed each other depend on each other, so the shard is that of their
//! family's key, which they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PackedMatch;
use super::fold::{Fold, FoldOptions};
use super::plan::Plan;
use crate::rule::{RuleSet, StateVersion};
use crate::time::Timestamp;
use crate::window::{Places, SourceClock, Stretch, Window};

/// Into how many parts the groups of a fold are spread.
pub const SHARDS: u8 = 60;

/// The layout of records: another number, another meaning. Heads and names begin with it; groups have it
/// in their rule's state version.
const FORMAT: u8 = 4;

const HEAD: u8 = b'h';
const NAMES: u8 = b'n';
const GROUP: u8 = b'g';
const VERSION_BYTES: usize = 8;

/// One record: a value under a key, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// What it is of.
    pub key: Vec<u8>,
    /// How that stands; `None` when it is over.
    pub value: Option<Vec<u8>>,
}

impl StateRecord {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Where a fold stands in the log that it is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standpoint {
    /// The next record.
    pub next: i64,
    /// How far event time had come there.
    pub clock: SourceClock,
}

/// Why kept state cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A record is not what this version writes.
    #[error("a record of kept state, {what}, cannot be read: {reason}")]
    Unreadable {
        /// What it is of.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Parts are missing.
    #[error("of {SHARDS} shards of kept state {0} are there")]
    Incomplete(usize),
    /// The log ends before it.
    #[error("kept state stands at record {0}, which the log does not have yet")]
    Ahead(i64),
    /// The position in the log was set back behind it.
    #[error("kept state stands at record {kept}, and the log is to be read from {wanted} on")]
    SetBack {
        /// Where it stands.
        kept: i64,
        /// Where to go on.
        wanted: i64,
    },
}

fn unreadable(what: impl Into<String>, reason: impl ToString) -> StateError {
    StateError::Unreadable { what: what.into(), reason: reason.to_string() }
}

/// Where a fold stood when a shard was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    /// The oldest record that was still waiting.
    from: i64,
    at: Standpoint,
    /// What lies before this had happened.
    watermark: Option<Timestamp>,
    /// When correlations last said that they refuse groups.
    overflow_at: Vec<([u8; VERSION_BYTES], Timestamp)>,
}

/// What all shards share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Names {
    /// The stretches that places are in, by number.
    places: Vec<Stretch>,
    /// Since when, in event time, each correlation has been fed; none: since the first event.
    since: Vec<([u8; VERSION_BYTES], Option<Timestamp>)>,
}

/// What a fold that keeps its state has to remember for that.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The names as they were written last.
    names: Option<Names>,
    /// Whether every shard has a head.
    complete: bool,
    /// Groups of correlations that are not run any more: to be taken out.
    foreign: BTreeSet<Vec<u8>>,
}

fn written(head: u8, value: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_extend(value, vec![head]).ok()
}

fn group_key(version: StateVersion, key: &[u8]) -> Vec<u8> {
    [&[GROUP], &version.0[..], key].concat()
}

/// The shard of a match: by its family and the values of the family's key. FNV-1a, which is the same
/// everywhere and quick for a few bytes; who chooses values to fill one shard gains nothing by it.
pub(super) fn shard_of(plan: &Plan, event: &PackedMatch) -> u8 {
    let family = &plan.rules.families[event.family as usize];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(family.id.as_bytes());
    event.key(family).for_each(|part| add(part.bytes().unwrap_or(&[0xff])));
    (hash % u64::from(SHARDS)) as u8
}

impl Fold {
    /// How many groups have changed since their shards were written.
    pub fn unwritten(&self) -> usize {
        self.store.unwritten()
    }

    /// Writes what has changed of a shard since it was last written, and where the fold stands. The
    /// first time all shards are written. The records must reach the topic together or not at all.
    pub fn write(&mut self, shard: u8, at: &Standpoint, out: &mut impl FnMut(StateRecord)) {
        let shards = if self.kept.complete { shard..shard + 1 } else { 0..SHARDS };
        self.write_names(out);
        let from = self.waiting.oldest().unwrap_or(at.next).min(at.next);
        let overflow_at = self.overflow_at.iter().map(|(i, t)| (self.plan.versions[*i].0, *t));
        let watermark = self.happened;
        let head = Head { from, at: at.clone(), watermark, overflow_at: overflow_at.collect() };
        let head = written(FORMAT, &head);
        for shard in shards {
            let versions = &self.plan.versions;
            self.store.write(shard, |rule, key, window| {
                let value = window.map(|w| written(shard, w));
                if value != Some(None) {
                    let key = group_key(versions[rule], key.bytes());
                    out(StateRecord { key, value: value.flatten() });
                }
            });
            out(StateRecord { key: vec![HEAD, shard], value: head.clone() });
        }
        self.kept.complete = true;
    }

    fn write_names(&mut self, out: &mut impl FnMut(StateRecord)) {
        for key in std::mem::take(&mut self.kept.foreign) {
            out(StateRecord { key, value: None });
        }
        let versions = self.plan.versions.iter().zip(&self.since);
        let names = Names {
            places: self.places.names().to_vec(),
            since: versions.map(|(version, since)| (version.0, *since)).collect(),
        };
        if self.kept.names.as_ref() != Some(&names) {
            out(StateRecord { key: vec![NAMES], value: written(FORMAT, &names) });
            self.kept.names = Some(names);
        }
    }
}

/// A fold that is being restored.
pub struct Restore {
    rules: Arc<RuleSet>,
    options: FoldOptions,
    fold: Fold,
    heads: BTreeMap<u8, Head>,
    versions: BTreeMap<StateVersion, usize>,
    names: Option<Names>,
    /// By key; a record that comes later may mend it.
    wrong: BTreeMap<Vec<u8>, StateError>,
}

/// What has to be read again of the log, so that a restored fold stands where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The first record. Those from here to `at` are [offered again](Fold::offer_again).
    pub from: i64,
    /// Where it goes on as usual.
    pub at: Standpoint,
    /// Where it stood when something was written last.
    pub latest: i64,
}

/// What came of restoring.
pub struct Restored {
    /// The fold as far as it was kept.
    pub fold: Fold,
    /// What to read again; without it the fold is empty, and all of the log is to be read.
    pub replay: Option<Replay>,
    /// Why what was kept could not be used, if so; it will be taken out.
    pub wrong: Option<StateError>,
}

impl Restore {
    /// Into a fold of these rules; what is kept of others is left out.
    pub fn new(rules: Arc<RuleSet>, options: FoldOptions) -> Self {
        let fold = Fold::new(Arc::clone(&rules), options);
        let versions = fold.plan.versions.iter().copied().zip(0..).collect();
        let (heads, names, wrong) = (BTreeMap::new(), None, BTreeMap::new());
        Self { rules, options, fold, heads, versions, names, wrong }
    }

    /// Takes the next record of the topic.
    pub fn record(&mut self, key: &[u8], value: Option<&[u8]>) {
        match self.take(key, value) {
            Err(wrong) => drop(self.wrong.insert(key.to_vec(), wrong)),
            Ok(()) if !self.wrong.is_empty() => drop(self.wrong.remove(key)),
            Ok(()) => {}
        }
    }

    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        match *key {
            [HEAD, shard] if shard < SHARDS => match value {
                Some(value) => drop(self.heads.insert(shard, read(value, "a head")?)),
                None => drop(self.heads.remove(&shard)),
            },
            [NAMES] => self.names = value.map(|v| read(v, "the names")).transpose()?,
            [GROUP, ref rest @ ..] if rest.len() >= VERSION_BYTES => {
                let mut version = [0; VERSION_BYTES];
                version.copy_from_slice(&rest[..VERSION_BYTES]);
                match self.versions.get(&StateVersion(version)) {
                    Some(rule) => self.group(*rule, &rest[VERSION_BYTES..], value)?,
                    None => self.foreign(key, value),
                }
            }
            _ if value.is_none() => {}
            _ => return Err(unreadable("with an unknown key", format!("{key:?}"))),
        }
        Ok(())
    }

    /// A group of a correlation that does not run, or not in this meaning.
    fn foreign(&mut self, key: &[u8], value: Option<&[u8]>) {
        let foreign = &mut self.fold.kept.foreign;
        match value {
            Some(_) => drop(foreign.insert(key.to_vec())),
            None => drop(foreign.remove(key)),
        }
    }

    fn group(&mut self, rule: usize, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let Some(value) = value else {
            self.fold.store.drop_kept(rule, key);
            return Ok(());
        };
        let what = || format!("a group of {}", self.rules.correlations[rule].header.id);
        let [shard, window @ ..] = value else { return Err(unreadable(what(), "it is empty")) };
        if *shard >= SHARDS {
            return Err(unreadable(what(), format!("shard {shard} of {SHARDS}")));
        }
        let window: Window = postcard::from_bytes(window).map_err(|e| unreadable(what(), e))?;
        self.fold.store.put_kept(rule, key, *shard, window);
        Ok(())
    }

    /// The fold, for a log that ends before record `end`, to go on at `next`; `None` is where it was
    /// written last.
    pub fn finish(self, next: Option<i64>, end: i64) -> Restored {
        let wrong = self.wrong.values().next_back().cloned().or_else(|| self.missing(next, end));
        if wrong.is_some() {
            return Restored { fold: self.discard(), replay: None, wrong };
        }
        let Some(oldest) = self.heads.values().min_by_key(|h| h.at.next).cloned() else {
            return Restored { fold: self.fold, replay: None, wrong };
        };
        let latest = self.heads.values().map(|h| h.at.next).max().unwrap_or(oldest.at.next);
        let Self { mut fold, heads, versions, names, .. } = self;
        let names = names.unwrap_or_default();
        let known = |version: &[u8; VERSION_BYTES]| versions.get(&StateVersion(*version)).copied();
        // A correlation that nothing was kept of begins where the replay does.
        fold.since.fill(oldest.watermark);
        for (version, since) in &names.since {
            if let Some(rule) = known(version) {
                fold.since[rule] = *since;
            }
        }
        for (version, time) in &oldest.overflow_at {
            fold.overflow_at.extend(known(version).map(|rule| (rule, *time)));
        }
        fold.places = Places::restore(names.places.clone());
        fold.kept.complete = true;
        fold.kept.names = Some(names);
        (fold.watermark, fold.happened) = (oldest.watermark, oldest.watermark);
        fold.done = heads.values().map(|h| h.watermark).collect();
        fold.store.arm_kept(&fold.plan.specs, &fold.done);
        if fold.done.iter().all(|w| *w <= oldest.watermark) {
            fold.done.clear();
        }
        let replay = Replay { from: oldest.from, at: oldest.at, latest };
        Restored { fold, replay: Some(replay), wrong }
    }

    /// What keeps the state from being whole; nothing kept at all is whole, too.
    fn missing(&self, next: Option<i64>, end: i64) -> Option<StateError> {
        let (heads, named) = (self.heads.len(), self.names.is_some());
        let groups = self.fold.groups();
        if heads == 0 && !named && groups == 0 {
            return None;
        }
        if heads != usize::from(SHARDS) || !named {
            return Some(StateError::Incomplete(if named { heads } else { 0 }));
        }
        let latest = self.heads.values().map(|h| h.at.next).max()?;
        if latest > end {
            return Some(StateError::Ahead(latest));
        }
        let wanted = next.filter(|next| *next < latest)?;
        Some(StateError::SetBack { kept: latest, wanted })
    }

    /// An empty fold, which takes out all that was kept when it is first written.
    fn discard(self) -> Fold {
        let mut empty = Fold::new(self.rules, self.options);
        empty.kept.foreign = self.fold.kept.foreign;
        empty.kept.foreign.extend(self.wrong.into_keys());
        for (groups, version) in self.fold.store.all().iter().zip(&self.fold.plan.versions) {
            let keys = groups.iter().map(|(_, group)| group_key(*version, group.key.bytes()));
            empty.kept.foreign.extend(keys);
        }
        empty
    }
}

fn read<'v, T: Deserialize<'v>>(value: &'v [u8], what: &str) -> Result<T, StateError> {
    match value {
        [FORMAT, rest @ ..] => postcard::from_bytes(rest).map_err(|e| unreadable(what, e)),
        [other, ..] => Err(unreadable(what, format!("format {other}, this is {FORMAT}"))),
        [] => Err(unreadable(what, "it is empty")),
    }
}
