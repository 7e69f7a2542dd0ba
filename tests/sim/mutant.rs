//! Faults of the worker, of a stage or of the way to Kafka, each of which the oracle must notice.
//!
//! They are put on from outside, around the stage or in the bus, so that nothing in `src/` knows of them.

use std::collections::{BTreeMap, BTreeSet};

use watchfire::bus::{BusError, Outbox, Place, Record, Stats};
use watchfire::config::Start;
use watchfire::correlate::SHARDS;
use watchfire::pipeline::Message;
use watchfire::runtime::{Assigned, Entry, Run, Stage};
use watchfire::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A commit does not wait for the outputs to be delivered.
    DrainDropped,
    /// The offset of the last record is committed, not the next.
    OffsetNotNext,
    /// Positions are committed by themselves, before the outputs.
    PositionsApart,
    /// A commit that failed passes for one that was made.
    FailureTakenForSuccess,
    /// A new owner takes positions that an open transaction may still change.
    OpenPositionsTaken,
    /// Partitions that were taken away are kept until the next assignment.
    LossOfAssignmentIgnored,
    /// Positions are committed without saying by which member of which generation.
    GenerationNotSent,
    /// Whoever was expelled from the group and has joined again commits what it had before.
    MembershipNotChecked,
    /// An epoch is given up, its transaction is not aborted.
    AbortForgotten,
    /// Positions of an aborted epoch are committed by the next.
    PositionsKeptAfterAbort,
    /// The group is told that partitions are given back before their epoch is committed.
    RevokeAnsweredEarly,
    /// What was fetched before an assignment is still read after it.
    QueueNotPurged,
    /// What is fetched before the partition is forwarded goes astray.
    ForwardedAfterAssign,
    /// A position that is gone is set to the oldest record, and nobody is told.
    PositionResetInSilence,
    /// A worker begins at the end of the log whatever the group's position is.
    BeginsAtTheEnd,
    /// Records of aborted and open transactions are read.
    ReadsUncommitted,
    /// A loss that was found is not reported.
    GapNotReported,
    /// A partition that has something to read passes for read to its end.
    IdleByTimeOut,
    /// The watermark takes no notice of partitions that nobody has read yet.
    PartitionsNotCounted,
    /// What is read again to rebuild state is published again.
    ReplayNotSuppressed,
    /// State is not rebuilt when a partition is taken over.
    StateNotRebuilt,
    /// State stays as it is after an abort.
    StateKeptAfterAbort,
    /// Of what was kept of a partition the groups are not read.
    GroupsNotRead,
    /// All shards of kept state pass for written at the same time.
    HeadsNotOfTheirShards,
    /// Matches that waited when state was written are not read again.
    WaitingNotReadAgain,
    /// State is written beside the transaction, and is there when that is aborted.
    StateWrittenApart,
    /// What is sent while an epoch is being committed goes out with that.
    SentIntoTheCommit,
    /// What was held for a commit that failed is sent with the next.
    HeldKeptAfterAbort,
    /// Matches that were gathered are not sent before the epoch is committed.
    BundlesForgotten,
    /// Matches below the highest offset seen of their source partition pass for repeated.
    DedupByHighestOffset,
}

pub const MUTATIONS: [Mutation; 30] = [
    Mutation::DrainDropped,
    Mutation::OffsetNotNext,
    Mutation::PositionsApart,
    Mutation::FailureTakenForSuccess,
    Mutation::OpenPositionsTaken,
    Mutation::LossOfAssignmentIgnored,
    Mutation::GenerationNotSent,
    Mutation::MembershipNotChecked,
    Mutation::AbortForgotten,
    Mutation::PositionsKeptAfterAbort,
    Mutation::RevokeAnsweredEarly,
    Mutation::QueueNotPurged,
    Mutation::ForwardedAfterAssign,
    Mutation::PositionResetInSilence,
    Mutation::BeginsAtTheEnd,
    Mutation::ReadsUncommitted,
    Mutation::GapNotReported,
    Mutation::IdleByTimeOut,
    Mutation::PartitionsNotCounted,
    Mutation::ReplayNotSuppressed,
    Mutation::StateNotRebuilt,
    Mutation::StateKeptAfterAbort,
    Mutation::GroupsNotRead,
    Mutation::HeadsNotOfTheirShards,
    Mutation::WaitingNotReadAgain,
    Mutation::StateWrittenApart,
    Mutation::SentIntoTheCommit,
    Mutation::HeldKeptAfterAbort,
    Mutation::BundlesForgotten,
    Mutation::DedupByHighestOffset,
];

/// A stage with one of the faults, or with none.
pub struct Mutant<S> {
    inner: S,
    mutation: Option<Mutation>,
    /// Whether an epoch was aborted and its partitions are not back yet.
    is_aborting: bool,
    kept: BTreeSet<Place>,
    highest: BTreeMap<Place, i64>,
}

impl<S: Stage> Mutant<S> {
    pub fn new(inner: S, mutation: Option<Mutation>) -> Self {
        let (kept, highest) = (BTreeSet::new(), BTreeMap::new());
        Self { inner, mutation, is_aborting: false, kept, highest }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn rebuilds_state(&self) -> bool {
        S::NAME == "correlate"
    }

    fn seen<R: Record>(&mut self, record: &R) -> bool {
        let at = match Message::decode(record.payload().unwrap_or_default()) {
            Ok(Message::Match(event)) => Some(event.at),
            Ok(Message::Bundle(bundle)) => bundle.matches().next().map(|event| event.at),
            _ => None,
        };
        let Some(at) = at else { return false };
        let highest = self.highest.entry((at.topic, at.partition)).or_insert(-1);
        let seen = at.offset < *highest;
        *highest = at.offset.max(*highest);
        seen
    }
}

impl<S: Stage> Stage for Mutant<S> {
    const NAME: &'static str = S::NAME;

    fn topics(&self) -> Vec<String> {
        self.inner.topics()
    }

    fn start(&self, topic: &str) -> Start {
        self.inner.start(topic)
    }

    fn keeps_state_in(&self) -> Option<&str> {
        self.inner.keeps_state_in()
    }

    fn assign(&mut self, partition: &Assigned, out: &mut impl Outbox) -> Result<(), BusError> {
        self.is_aborting = false;
        if self.kept.contains(&partition.place) {
            return Ok(());
        }
        let mut partition = partition.clone();
        if self.is(Mutation::GapNotReported) {
            partition.beginning.lost = None;
        }
        self.inner.assign(&partition, out)
    }

    fn kept(&mut self, place: &Place, key: &[u8], value: Option<&[u8]>) {
        let is_head = key.first() == Some(&b'h');
        match self.mutation {
            Some(Mutation::GroupsNotRead) if key.first() == Some(&b'g') => {}
            Some(Mutation::HeadsNotOfTheirShards) if is_head => {
                // As if one standpoint were that of all: the one that was written last.
                for shard in 0..SHARDS {
                    self.inner.kept(place, &[b'h', shard], value);
                }
            }
            _ => self.inner.kept(place, key, value),
        }
    }

    fn enter(&mut self, partition: &Assigned, out: &mut impl Outbox) -> Result<Entry, BusError> {
        let offset = partition.beginning.offset;
        if self.kept.remove(&partition.place) {
            return Ok(Entry { from: offset, published: offset });
        }
        let entry = self.inner.enter(partition, out)?;
        Ok(match self.mutation {
            Some(Mutation::StateNotRebuilt) => Entry { from: offset, ..entry },
            Some(Mutation::WaitingNotReadAgain) => {
                Entry { from: entry.from.max(offset - 1), ..entry }
            }
            _ => entry,
        })
    }

    fn leave(&mut self, places: &[Place], out: &mut impl Outbox) -> Result<(), BusError> {
        self.inner.leave(places, out)
    }

    fn gathered(&self) -> usize {
        self.inner.gathered()
    }

    fn send_gathered(&mut self, out: &mut impl Outbox) -> Result<(), BusError> {
        if self.is(Mutation::BundlesForgotten) { Ok(()) } else { self.inner.send_gathered(out) }
    }

    fn revoke(&mut self, place: &Place) {
        if self.is(Mutation::StateKeptAfterAbort) && self.rebuilds_state() && self.is_aborting {
            self.kept.insert(place.clone());
            return;
        }
        self.inner.revoke(place);
    }

    fn run<R: Record>(
        &mut self,
        run: Run<'_, R>,
        out: &mut impl Outbox,
    ) -> Result<usize, BusError> {
        let restoring = run.restoring && !self.is(Mutation::ReplayNotSuppressed);
        let Run { place, records, now, .. } = run;
        if self.is(Mutation::DedupByHighestOffset) && self.rebuilds_state() {
            for record in records {
                if !self.seen(record) {
                    let records = std::slice::from_ref(record);
                    self.inner.run(Run { place, records, restoring, now }, out)?;
                }
            }
            return Ok(records.len());
        }
        self.inner.run(Run { place, records, restoring, now }, out)
    }

    fn observe(&mut self, stats: &Stats, next: &BTreeMap<Place, i64>) {
        let mut stats = stats.clone();
        if self.is(Mutation::IdleByTimeOut) {
            for known in stats.values_mut() {
                known.drained = true;
            }
        }
        self.inner.observe(&stats, next);
    }

    fn tick(&mut self, now: Timestamp, out: &mut impl Outbox) -> Result<(), BusError> {
        self.inner.tick(now, out)
    }

    fn sealed(&mut self) {
        self.inner.sealed();
    }

    fn committed(&mut self) {
        self.inner.committed();
    }

    fn aborted(&mut self) {
        self.is_aborting = true;
        self.inner.aborted();
    }

    fn ready(&mut self, restoring: usize) {
        self.inner.ready(restoring);
    }
}
