//! The engine over a case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use watchfire::correlate::{
    Finding, Fold, FoldOptions, Match, Offered, Restore, Restored, SHARDS, Standpoint, Updates,
};
use watchfire::ids::{Coordinate, RuleId};
use watchfire::rule::RuleSet;
use watchfire::time::Timestamp;

use super::case::{Case, Event};
use super::oracle::Found;
use super::rules::{BASES, Set};

const HALF: i64 = 500_000;

fn matches(rules: &RuleSet, event: &Event, topic: &Arc<str>) -> Vec<Match> {
    let mut values = Vec::new();
    let mut add = |name: &str, value: String| values.push((Arc::from(name), Arc::from(value)));
    event.group.iter().for_each(|g| add("g", format!("g{g}")));
    event.value.iter().for_each(|v| add("v", v.to_string()));
    match event.number {
        Some(Ok(quarters)) => add("n", format!("{}", quarters as f64 / 4.0)),
        Some(Err(text)) => add("n", text.into()),
        None => {}
    }
    let at =
        Coordinate { topic: Arc::clone(topic), partition: event.partition, offset: event.offset };
    let of = |base: &usize| {
        let rule = &rules.detections[*base];
        assert_eq!(&*rule.header.id.0, BASES[*base]);
        let one = |family: &usize| Match {
            time: Timestamp(event.time * HALF),
            at: at.clone(),
            family: Arc::clone(&rules.families[*family].id),
            rule: RuleId(BASES[*base].into()),
            values: values.clone(),
        };
        rule.families.iter().map(one).collect::<Vec<_>>()
    };
    event.bases.iter().flat_map(of).collect()
}

/// A record of the log that a fold is made of; its offset is its place in it.
#[derive(Clone)]
enum Record {
    Match(Match),
    Watermark(Timestamp),
}

/// A fold, the log that it has read, and what was written of its state in the meantime.
struct Partition<'s> {
    set: &'s Set,
    fold: Fold,
    log: Vec<Record>,
    /// As a compacted topic holds it.
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    next_shard: u8,
    findings: Vec<Finding>,
    /// Duplicates that were seen before this fold began to read what is new.
    duplicates: (u64, u64),
}

/// At the end only: what is compared is what an episode came to.
const OPTIONS: FoldOptions = FoldOptions {
    updates: Updates::Every(i64::MAX),
    rule_groups_max: usize::MAX,
    groups_max: usize::MAX,
    bytes_max: usize::MAX,
    is_kept: true,
};

/// Shards that are written at a time: heads stand at three places of the log, mostly.
const WRITTEN: u8 = SHARDS / 3;

impl<'s> Partition<'s> {
    fn new(set: &'s Set) -> Self {
        let fold = Fold::new(Arc::clone(&set.rules), OPTIONS);
        let (log, state, findings) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { set, fold, log, state, next_shard: 0, findings, duplicates: (0, 0) }
    }

    fn read(&mut self, record: Record) -> Result<(), String> {
        self.fold.stand_at(self.log.len() as i64);
        self.log.push(record.clone());
        give(&mut self.fold, record, &mut self.findings)
    }

    fn write(&mut self) {
        let at = Standpoint { next: self.log.len() as i64, ..Standpoint::default() };
        for _ in 0..WRITTEN {
            let state = &mut self.state;
            self.fold.write(self.next_shard, &at, &mut |record| match record.value {
                Some(value) => drop(state.insert(record.key, value)),
                None => drop(state.remove(&record.key)),
            });
            self.next_shard = (self.next_shard + 1) % SHARDS;
        }
    }

    fn duplicates(&self) -> u64 {
        let (before, read_again) = self.duplicates;
        before + self.fold.counts().duplicates - read_again
    }

    /// Throws the fold away, and makes it again of what was written and the log.
    fn restore(&mut self) -> Result<(), String> {
        let before = self.duplicates();
        let mut kept = Restore::new(Arc::clone(&self.set.rules), OPTIONS);
        for (key, value) in &self.state {
            kept.record(key, Some(value));
        }
        let Restored { mut fold, replay, wrong } = kept.finish(None, self.log.len() as i64);
        if let Some(wrong) = wrong {
            return Err(wrong.to_string());
        }
        let (from, again_until) = replay.map_or((0, 0), |r| (r.from, r.at.next));
        let mut suppressed = Vec::new();
        for (offset, record) in (0..).zip(&self.log).skip(from as usize) {
            fold.stand_at(offset);
            match record {
                Record::Match(event) if offset < again_until => fold.offer_again(event),
                Record::Watermark(_) if offset < again_until => {}
                record => give(&mut fold, record.clone(), &mut suppressed)?,
            }
        }
        let stands = |fold: &Fold| (fold.groups(), fold.timers(), fold.waiting());
        if stands(&fold) != stands(&self.fold) {
            return Err(format!("{:?} again, {:?} before", stands(&fold), stands(&self.fold)));
        }
        self.duplicates = (before, fold.counts().duplicates);
        self.fold = fold;
        Ok(())
    }
}

fn give(fold: &mut Fold, record: Record, findings: &mut Vec<Finding>) -> Result<(), String> {
    match record {
        Record::Watermark(time) => fold.advance(time, findings),
        Record::Match(event) => {
            if let Offered::Late(event) = fold.offer(event, findings) {
                return Err(format!("{event:?} is late"));
            }
        }
    }
    Ok(())
}

/// The episodes that the engine finds, each as it was reported last.
pub fn episodes(set: &Set, case: &Case) -> Result<BTreeSet<Found>, String> {
    let mut partition = Partition::new(set);
    let topic: Arc<str> = "t".into();
    let mut latest = BTreeMap::new();
    let (mut sent, mut twice) = (0, 0);
    let is_time = |every: usize, i: usize| every > 0 && (i + 1).is_multiple_of(every);
    for (i, event) in case.events.iter().enumerate() {
        for event in matches(&set.rules, event, &topic) {
            sent += 1;
            if sent % case.duplicate_every == 0 {
                // What comes again is in order again: it may be late by then, never early.
                twice += 1;
                partition.read(Record::Match(event.clone()))?;
            }
            partition.read(Record::Match(event))?;
        }
        let reached = latest.entry(event.partition).or_insert(event.time);
        *reached = event.time.max(*reached);
        if is_time(case.write_every, i + 1) {
            partition.write();
        }
        if is_time(case.marker_every, i)
            && latest.len() as i32 == case.partitions
            && let Some(slowest) = latest.values().min()
        {
            partition.read(Record::Watermark(Timestamp((slowest - case.lateness) * HALF)))?;
        }
        if is_time(case.write_every, i) {
            partition.write();
        }
        if is_time(case.restore_every, i) {
            partition.restore()?;
        }
    }
    partition.fold.finish(&mut partition.findings);
    if partition.duplicates() != twice {
        return Err(format!("{} of {twice} duplicates were seen", partition.duplicates()));
    }
    let fold = &partition.fold;
    let left = (fold.groups(), fold.waiting(), fold.timers(), fold.bytes());
    if left != (0, 0, 0, 0) {
        return Err(format!("{left:?} groups, events, timers and bytes are left at the end"));
    }
    (0..SHARDS.div_ceil(WRITTEN)).for_each(|_| partition.write());
    let left = partition.state.keys().filter(|key| key.first() == Some(&b'g')).count();
    if left > 0 {
        return Err(format!("{left} groups are left in what was written"));
    }
    last_reports(&set.rules, partition.findings)
}

fn last_reports(rules: &RuleSet, findings: Vec<Finding>) -> Result<BTreeSet<Found>, String> {
    let mut last: BTreeMap<_, Finding> = BTreeMap::new();
    for finding in findings {
        let key = (finding.rule, finding.group.clone(), finding.episode.began);
        let revision = finding.episode.revision;
        match last.insert(key, finding) {
            None if revision != 1 => return Err(format!("first reported is revision {revision}")),
            Some(before) if before.episode.revision >= revision => {
                return Err(format!("revision {revision} is reported twice"));
            }
            _ => {}
        }
    }
    let found = |f: Finding| Found {
        rule: rules.correlations[f.rule].header.id.to_string(),
        group: f.group.0.iter().map(|v| v.as_deref().map(str::to_owned)).collect(),
        start: f.episode.start.0 / HALF,
        end: f.episode.end.0 / HALF,
        began: f.episode.began.0 / HALF,
        value: (f.episode.value.to_float() * 1e6).round() as i64,
        events: f.episode.evidence.total,
    };
    Ok(last.into_values().map(found).collect())
}
