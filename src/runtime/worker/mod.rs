//! The loop of one worker: one thread, one consumer, one transactional producer, its partitions' state.
//!
//! ```text
//!   poll ─▶ batch ─▶ runs ─▶ stage ─▶ outputs ─┐
//!    ▲  └─▶ rebalance: commit, then            ├─▶ commit (outputs and offsets, one transaction) ─┐
//!    │      assign or unassign                 │                                                  │
//!    └─────────────────────────────────────────┴──────────────────────────────────────────────────┘
//! ```
//!
//! While an epoch is being committed the next one is worked on; its outputs are held until the outcome is
//! known, and thrown away with those before them if that is a failure. Whatever gives partitions back waits
//! for both.
//!
//! What a batch holds of one partition in a row is a *run*: positions, state and clocks are looked up
//! once for it. Only the stage works record by record.
//!
//! Where a stage keeps state, a partition that was taken is *entered* in steps: what is kept is read a
//! slice in each round, beside the records of the other partitions; then its own records are read from
//! where that state stands.
//!
//! When an epoch is aborted, the worker keeps its place in the group and goes back to the committed
//! offsets with fresh state. When anything else fails, it is dropped with all it holds and built anew.

mod epoch;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::stage::{Assigned, Entry, Run, Stage};
use crate::bus::{
    Bus, BusError, GivenBack, KeptReader, Offsets, Outbox, Place, ReadError, Rebalance, Record,
    Remedy, TransactionError,
};
use crate::config::Start;
use crate::limits::{
    KEPT_BATCH_RECORDS_MAX, POLL_BATCH_RECORDS_MAX, POLL_WAIT_MS, STATISTICS_INTERVAL_MS,
};
use crate::metrics::{LatencyRecorder, Metrics};
use crate::source::beginning;
use crate::time::{Clock, Timestamp};

/// Where an assigned partition stands.
struct Position {
    /// Next offset to process.
    next: i64,
    /// Records before this were committed by an earlier owner.
    committed: i64,
    /// Whether what was kept of it is still being read; records are left aside until then.
    waits: bool,
}

impl Position {
    fn is_restoring(&self) -> bool {
        self.waits || self.next < self.committed
    }
}

/// What was kept of partitions, being read.
struct Entering<K> {
    reader: K,
    unread: BTreeMap<i32, Assigned>,
}

/// One worker.
pub struct Worker<'w, B: Bus, S: Stage> {
    stage: S,
    /// Shared with the batch at hand only.
    bus: Rc<B>,
    outbox: B::Outbox,
    positions: BTreeMap<Place, Position>,
    entering: Vec<Entering<B::KeptReader>>,
    topics: Vec<Arc<str>>,
    /// Positions that the next commit writes.
    dirty: Offsets,
    /// Whether a partition got its first position, which is to be kept at once.
    fresh: bool,
    /// Epochs in a row that were aborted.
    aborts: u32,
    /// Since when statistics may speak of a reading that has been thrown away.
    rewound: Option<Duration>,
    /// When the epoch began.
    epoch: Duration,
    /// Since when the epoch before it is being committed.
    committing: Option<Duration>,
    interval: Duration,
    clock: &'w dyn Clock,
    metrics: &'w Metrics,
    latency: LatencyRecorder,
    joined: bool,
    /// Partitions held and being restored, as last told to the stage.
    told: Option<(usize, usize)>,
    /// What the group asked and was not answered yet. Closing waits for the answer.
    unacknowledged: Option<Rebalance>,
}

impl<'w, B: Bus, S: Stage> Worker<'w, B, S> {
    /// Takes a bus whose consumer has joined nothing but the group. Outputs are committed `interval` after
    /// the commit before, at the latest.
    pub fn new(
        bus: B,
        outbox: B::Outbox,
        stage: S,
        interval: Duration,
        clock: &'w dyn Clock,
        metrics: &'w Metrics,
    ) -> Self {
        Self {
            topics: stage.topics().into_iter().map(Arc::from).collect(),
            stage,
            bus: Rc::new(bus),
            outbox,
            positions: BTreeMap::new(),
            entering: Vec::new(),
            dirty: Offsets::new(),
            fresh: false,
            aborts: 0,
            rewound: None,
            epoch: clock.steady(),
            committing: None,
            interval,
            clock,
            latency: metrics.latency(S::NAME),
            metrics,
            joined: false,
            told: None,
            unacknowledged: None,
        }
    }

    /// Works until told to stop; then commits what is done and gives the partitions back.
    ///
    /// # Errors
    /// The first failure; the worker is spent then.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), BusError> {
        let mut done = Ok(());
        while done.is_ok() && !stop.load(Ordering::Relaxed) {
            done = self.step();
        }
        self.finish(done)
    }

    /// One round: what the group asks, the records at hand, what is due by time.
    ///
    /// # Errors
    /// A failure after which nothing is left but [`Worker::finish`].
    pub fn step(&mut self) -> Result<(), BusError> {
        if let Err(error) = self.bus.serve() {
            self.read_error(error)?;
        }
        while let Some(message) = self.bus.next_rebalance() {
            self.rebalance(message)?;
        }
        self.enter()?;
        self.poll()?;
        self.observe();
        if self.joined {
            self.stage.tick(self.clock.now(), &mut self.outbox)?;
            let restoring = self.positions.values().filter(|p| p.is_restoring()).count();
            let stands = (self.positions.len(), restoring);
            if self.told != Some(stands) {
                self.told = Some(stands);
                self.stage.ready(restoring);
            }
        }
        let done = self.end_commit(false);
        self.recover(done)?;
        if self.committing.is_none() && self.is_commit_due() {
            let done = self.begin_commit();
            self.recover(done)?;
        }
        Ok(())
    }

    /// Ends the work, which went so far: commits what is done, or throws it away after a failure.
    ///
    /// # Errors
    /// The failure, as whoever builds workers is to see it.
    pub fn finish(mut self, done: Result<(), BusError>) -> Result<(), BusError> {
        let places: Vec<Place> = self.positions.keys().cloned().collect();
        // What was being committed may have happened, whatever has failed since.
        let ended = self.end_commit(true);
        let done = done.and(ended).and_then(|()| self.leave(&places)).and_then(|()| self.commit());
        let Err(error) = done else { return Ok(()) };
        self.bus.abort(&mut self.outbox);
        if error.is_fenced() && !self.bus.is_replaced() {
            // A transaction that took too long, as after a pause of the whole machine, looks the
            // same to the producer; but then nobody has taken this worker's place in the group.
            return Err(TransactionError::Failed(error.to_string()).into());
        }
        Err(error)
    }

    /// Hands statistics to the stage.
    fn observe(&mut self) {
        let stats = self.bus.take_stats();
        // Records that were at hand when the epoch was aborted counted as read by then.
        let stale = Duration::from_millis(2 * STATISTICS_INTERVAL_MS);
        if stats.is_empty() || self.rewound.is_some_and(|since| self.age(since) < stale) {
            return;
        }
        for (place, position) in &mut self.positions {
            // Before the group's position there may be nothing but markers, which no reader sees: at the
            // end of the partition all of it has been read in any case.
            if !position.waits && stats.get(place).is_some_and(|s| s.drained) {
                position.next = position.next.max(position.committed);
            }
        }
        let next = self.positions.iter().map(|(p, at)| (p.clone(), at.next)).collect();
        self.stage.observe(&stats, &next);
    }

    /// Takes the records that are at hand, and commits when the epoch is full before they are done.
    fn poll(&mut self) -> Result<(), BusError> {
        let bus = Rc::clone(&self.bus);
        // What was kept comes without waiting for what is new.
        let wait = if self.entering.is_empty() { POLL_WAIT_MS } else { 0 };
        let batch = bus.batch(Duration::from_millis(wait), POLL_BATCH_RECORDS_MAX);
        let now = self.clock.now();
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let run = run_of(rest);
            let taken = if run.is_empty() { 1 } else { self.process(run, now)? };
            rest = &rest[taken..];
            if self.outbox.is_full() {
                let done = self.end_commit(true).and_then(|()| self.begin_commit());
                if done.is_err() {
                    // All is read anew from the committed positions, the rest of the batch too.
                    return self.recover(done);
                }
            }
        }
        // Not before the records: a lost position is to be judged by all that was read before it.
        batch.iter().try_for_each(|message| match message.error() {
            Some(error) => {
                self.read_error(error)?;
                self.begin_again(message)
            }
            None => Ok(()),
        })
    }

    /// Reads the partition of an error on from where the worker stands. librdkafka counts an error that
    /// comes by the batch as a record read: after its next pause it would go on one record too far.
    fn begin_again(&mut self, error: &B::Record<'_>) -> Result<(), BusError> {
        let place = place_of(&self.topics, error);
        let Some(place) = place.filter(|place| self.positions.contains_key(place)) else {
            return Ok(());
        };
        let done = self.commit();
        if done.is_err() {
            return self.recover(done);
        }
        let own = self.give_back(&[place])?.into_iter();
        let from = own
            .filter_map(|p| self.positions.get_key_value(&p).map(|(p, at)| (p.clone(), at.next)));
        self.read(&from.collect())
    }

    /// Hands records of one partition to the stage; gives how many it took.
    fn process(&mut self, records: &[B::Record<'_>], now: Timestamp) -> Result<usize, BusError> {
        let place = place_of(&self.topics, &records[0]);
        let known = place.as_ref().and_then(|place| self.positions.get_mut(place));
        let known = known.filter(|position| !position.waits);
        let (Some(place), Some(position)) = (&place, known) else { return Ok(records.len()) };
        let restoring = records[0].offset() < position.committed;
        let turn = records.partition_point(|m| m.offset() < position.committed);
        let records = if restoring { &records[..turn] } else { records };
        let taken = self.stage.run(Run { place, records, restoring, now }, &mut self.outbox)?;
        position.next = records[taken - 1].offset() + 1;
        if !restoring {
            self.dirty.insert(place.clone(), position.next);
        }
        Ok(taken)
    }

    fn read_error(&mut self, found: ReadError) -> Result<(), BusError> {
        let ReadError { code, remedy, error } = found;
        self.metrics.kafka_errors.add([&code], 1);
        match remedy {
            Remedy::Rebuild => Err(error),
            Remedy::FindLosses => self.find_losses(),
            Remedy::None => {
                tracing::warn!(%error, stage = S::NAME, "poll");
                Ok(())
            }
        }
    }

    /// A position is gone: finds out which, and begins anew at what is left.
    fn find_losses(&mut self) -> Result<(), BusError> {
        let mut gone = BTreeMap::new();
        for (place, position) in &self.positions {
            let bounds = self.bus.bounds(place)?;
            if position.next < bounds.offset_low || position.next > bounds.offset_high {
                // While state is rebuilt, records before the group's position are read a second time:
                // losing those is no loss of events.
                gone.insert(place.clone(), Some(position.next.max(position.committed)));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let done = self.commit();
        if done.is_err() {
            return self.recover(done);
        }
        let places: Vec<Place> = gone.keys().cloned().collect();
        self.stop_entering(&places);
        let own = self.give_back(&places)?;
        gone.retain(|place, _| own.contains(place));
        self.take(gone)
    }

    fn rebalance(&mut self, message: Rebalance) -> Result<(), BusError> {
        self.unacknowledged = Some(message.clone());
        match message {
            Rebalance::Assign(places) => {
                self.metrics.rebalances.add(["assign"], 1);
                self.joined = true;
                let known = self.bus.committed(&places)?;
                self.take(known)?;
                self.unacknowledged = None;
            }
            Rebalance::Revoke(places) => {
                self.metrics.rebalances.add(["revoke"], 1);
                let done = self.leave(&places).and_then(|()| self.commit());
                self.release(&places);
                self.bus.unassign(&places)?;
                self.unacknowledged = None;
                self.recover(done)?;
            }
            Rebalance::Lost(places) => {
                self.metrics.rebalances.add(["lost"], 1);
                self.bus.unassign(&places)?;
                self.unacknowledged = None;
                return Err(BusError::Lost);
            }
        }
        Ok(())
    }

    /// Decides where to begin in each partition, whose positions are given, reports what was lost, and
    /// starts reading.
    fn take(&mut self, known: BTreeMap<Place, Option<i64>>) -> Result<(), BusError> {
        let (mut reading, mut entering) = (Offsets::new(), BTreeMap::new());
        for (place, committed) in known {
            let assigned = self.assigned(place, committed)?;
            self.stage.assign(&assigned, &mut self.outbox)?;
            let from = assigned.beginning.offset;
            let position = Position { next: from, committed: from, waits: true };
            if self.positions.insert(assigned.place.clone(), position).is_none() {
                self.metrics.partitions_assigned.add([&assigned.place.0], 1.0);
            }
            if self.stage.keeps_state_in().is_none() {
                reading.insert(assigned.place.clone(), self.begin(&assigned)?);
            } else {
                // The group waits for the assignment. What comes before the state is there is left
                // aside and read again.
                reading.insert(assigned.place.clone(), from);
                entering.insert(assigned.place.1, assigned);
            }
        }
        if let (Some(topic), false) = (self.stage.keeps_state_in(), entering.is_empty()) {
            let partitions: Vec<i32> = entering.keys().copied().collect();
            let reader = self.bus.read_kept(topic, &partitions)?;
            self.entering.push(Entering { reader, unread: entering });
        }
        self.told = None;
        self.read(&reading)
    }

    fn assigned(&self, place: Place, committed: Option<i64>) -> Result<Assigned, BusError> {
        let bounds = self.bus.bounds(&place)?;
        let mut start = self.stage.start(&place.0);
        if committed.is_none() && start == Start::Latest && self.is_added(&place)? {
            start = Start::Earliest;
        }
        let beginning = beginning(committed, bounds, start);
        if beginning.rewound {
            tracing::error!(
                topic = &*place.0,
                partition = place.1,
                ?committed,
                offset_high = bounds.offset_high,
                "the position lies beyond the end of the partition: it was made anew or cut"
            );
        }
        Ok(Assigned { place, committed, beginning, bounds })
    }

    /// Begins with a partition whose state is there; gives from where to read.
    fn begin(&mut self, assigned: &Assigned) -> Result<i64, BusError> {
        let Entry { from, published } = self.stage.enter(assigned, &mut self.outbox)?;
        let Assigned { place, committed, beginning, .. } = assigned;
        if beginning.lost.is_some() || committed.is_none() || beginning.rewound {
            // From now on the group has a position: a later loss before it will be exact.
            self.dirty.insert(place.clone(), published);
            self.fresh = true;
        }
        let position = Position { next: from, committed: published, waits: false };
        self.positions.insert(place.clone(), position);
        self.told = None;
        Ok(from)
    }

    /// Reads on in what was kept, and begins with the partitions of which all is read.
    fn enter(&mut self) -> Result<(), BusError> {
        let mut ready = Vec::new();
        for Entering { reader, unread } in &mut self.entering {
            let stage = &mut self.stage;
            let ended = reader.read(KEPT_BATCH_RECORDS_MAX, &mut |partition, key, value| {
                if let Some(assigned) = unread.get(&partition) {
                    stage.kept(&assigned.place, key, value);
                }
            })?;
            ready.extend(ended.iter().filter_map(|partition| unread.remove(partition)));
        }
        self.entering.retain(|e| !e.unread.is_empty());
        if ready.is_empty() {
            return Ok(());
        }
        let done = self.commit();
        if done.is_err() {
            return self.recover(done);
        }
        let places: Vec<Place> = ready.iter().map(|assigned| assigned.place.clone()).collect();
        let own = self.give_back(&places)?;
        let mut reading = Offsets::new();
        for assigned in ready.iter().filter(|assigned| own.contains(&assigned.place)) {
            let from = self.begin(assigned)?;
            reading.insert(assigned.place.clone(), from);
        }
        self.read(&reading)
    }

    /// Begins to read. Statistics of before may say that these are read to their ends; what came between giving
    /// them back and this, as a call that was held up, makes those no younger.
    fn read(&mut self, from: &Offsets) -> Result<(), BusError> {
        self.bus.assign(from)?;
        self.rewound = Some(self.clock.steady());
        Ok(())
    }

    /// Gives partitions back in order to take them anew, all committed or aborted; gives those that are
    /// still this worker's.
    fn give_back(&mut self, places: &[Place]) -> Result<Vec<Place>, BusError> {
        let GivenBack { own, revoked } = self.bus.give_back(places)?;
        if !revoked.is_empty() {
            self.metrics.rebalances.add(["revoke"], 1);
            self.release(&revoked);
        }
        Ok(own)
    }

    /// These are somebody else's from now on.
    fn release(&mut self, places: &[Place]) {
        self.stop_entering(places);
        for place in places {
            self.stage.revoke(place);
            self.dirty.remove(place);
            self.positions.remove(place);
            self.forget(place);
        }
    }

    /// Partitions that are given back are not entered any more.
    fn stop_entering(&mut self, places: &[Place]) {
        for entering in &mut self.entering {
            entering.unread.retain(|_, assigned| !places.contains(&assigned.place));
        }
        self.entering.retain(|e| !e.unread.is_empty());
    }

    /// Has the stage keep its state of partitions that are entirely in its hands.
    fn leave(&mut self, places: &[Place]) -> Result<(), BusError> {
        let done = |place: &&Place| self.positions.get(*place).is_some_and(|p| !p.is_restoring());
        let places: Vec<Place> = places.iter().filter(done).cloned().collect();
        self.stage.leave(&places, &mut self.outbox)
    }

    /// A partition belongs to somebody else now, who tells how it stands.
    fn forget(&self, (topic, partition): &Place) {
        let metrics = self.metrics;
        metrics.partitions_assigned.add([topic], -1.0);
        let labels = [&**topic, &*partition.to_string()];
        metrics.consumer_lag.remove(labels);
        metrics.retention_headroom_events.remove(labels);
        metrics.retention_headroom_seconds.remove(labels);
        metrics.watermark_lag.remove(labels);
    }

    /// Whether a partition without a position has been added to a topic that was being read already:
    /// those before it have positions. Its first records are new, whatever `start` says of old ones.
    fn is_added(&self, (topic, partition): &Place) -> Result<bool, BusError> {
        let before: Vec<Place> = (0..*partition).map(|n| (Arc::clone(topic), n)).collect();
        if before.is_empty() {
            return Ok(false);
        }
        Ok(self.bus.committed(&before)?.values().all(Option::is_some))
    }

    fn age(&self, since: Duration) -> Duration {
        self.clock.steady().saturating_sub(since)
    }
}

impl<B: Bus, S: Stage> Drop for Worker<'_, B, S> {
    fn drop(&mut self) {
        self.bus.close(self.unacknowledged.take());
        for place in self.positions.keys() {
            self.forget(place);
        }
    }
}

/// The records in a row, from the first on, that are of one partition; none if that is an error.
fn run_of<R: Record>(rest: &[R]) -> &[R] {
    let same = |m: &&R| m.is_beside(&rest[0]) && m.error().is_none();
    &rest[..rest.iter().take_while(same).count()]
}

fn place_of(topics: &[Arc<str>], record: &impl Record) -> Option<Place> {
    let topic = topics.iter().find(|t| ***t == *record.topic())?;
    Some((Arc::clone(topic), record.partition()))
}
