//! Epochs: when one is committed, what is done meanwhile, and what follows when it fails.
//!
//! ```text
//!   worker   ── epoch 1 ──┬── epoch 2 ───────┬── epoch 3 ──▶
//!                         begin_commit       end_commit: committed, or both are thrown away
//!   commit                └── epoch 1 ───────┘
//! ```
//!
//! Of a commit nearly all is waiting for the brokers. So a thread of its own waits, and the worker goes on.

use std::time::Duration;

use super::super::stage::Stage;
use super::Worker;
use crate::bus::{Bus, BusError, Outbox, Place, TransactionError};
use crate::limits::{ABORTS_MAX, OFFSETS_ONLY_COMMIT_MS};

impl<B: Bus, S: Stage> Worker<'_, B, S> {
    /// Outputs are committed after the interval; positions alone may wait a little longer.
    pub(super) fn is_commit_due(&self) -> bool {
        let age = self.age(self.epoch);
        let waiting = self.outbox.messages() + self.stage.gathered();
        let outputs = waiting > 0 && age >= self.interval;
        let offsets =
            !self.dirty.is_empty() && age >= Duration::from_millis(OFFSETS_ONLY_COMMIT_MS);
        self.fresh || self.outbox.is_full() || outputs || offsets
    }

    /// Commits all that is done by now, and waits for it.
    pub(super) fn commit(&mut self) -> Result<(), BusError> {
        self.end_commit(true)?;
        self.begin_commit()?;
        self.end_commit(true)
    }

    /// Begins to commit what is done; nothing else is being committed. Work goes on meanwhile.
    pub(super) fn begin_commit(&mut self) -> Result<(), BusError> {
        self.stage.send_gathered(&mut self.outbox)?;
        if self.dirty.is_empty() && self.outbox.messages() == 0 {
            return Ok(());
        }
        if self.dirty.is_empty() {
            // Only with a position does the group ask who commits: whom it has expelled would otherwise still
            // write its outputs, as state over that of the new owner.
            let entered = self.positions.iter().filter(|(_, at)| !at.waits);
            self.dirty = entered.map(|(p, at)| (p.clone(), at.next.max(at.committed))).collect();
        }
        let now = self.clock.steady();
        let begun = self.bus.begin_commit(&mut self.outbox, &self.dirty);
        self.committing = Some(now);
        self.metrics.transaction_wait.observe([S::NAME], self.age(now));
        if begun.is_err() {
            return self.ended(begun);
        }
        self.stage.sealed();
        self.dirty.clear();
        self.fresh = false;
        self.epoch = now;
        Ok(())
    }

    /// Sees whether what is being committed is, and waits for that if it is awaited.
    pub(super) fn end_commit(&mut self, is_awaited: bool) -> Result<(), BusError> {
        if self.committing.is_none() {
            return Ok(());
        }
        let since = self.clock.steady();
        let done = self.bus.end_commit(&mut self.outbox, is_awaited);
        if is_awaited {
            self.metrics.transaction_wait.observe([S::NAME], self.age(since));
        }
        done.map_or(Ok(()), |done| self.ended(done))
    }

    fn ended(&mut self, done: Result<(), BusError>) -> Result<(), BusError> {
        let began = self.committing.take().unwrap_or(self.epoch);
        if !matches!(done, Err(BusError::Lost)) {
            let outcome = if done.is_ok() { "committed" } else { "failed" };
            self.metrics.transactions.add([S::NAME, outcome], 1);
            self.latency.record(self.age(began));
            self.latency.publish();
        }
        done?;
        self.stage.committed();
        self.aborts = 0;
        Ok(())
    }

    /// After an aborted epoch: takes all partitions anew, from the committed offsets. The group is not
    /// left for this; a member that leaves between two generations can strand its partitions.
    pub(super) fn recover(&mut self, done: Result<(), BusError>) -> Result<(), BusError> {
        let Err(BusError::Transaction(TransactionError::Aborted(why))) = done else {
            return done;
        };
        tracing::info!(worker = S::NAME, why, "an epoch was aborted");
        self.aborts += 1;
        if self.aborts >= ABORTS_MAX {
            // It is not for a moment: whoever builds workers is to know, and to take its time.
            return Err(TransactionError::Failed(why).into());
        }
        self.dirty.clear();
        self.stage.aborted();
        if self.bus.is_lost() {
            return Err(BusError::Lost);
        }
        let all: Vec<Place> = self.positions.keys().cloned().collect();
        all.iter().for_each(|place| self.stage.revoke(place));
        self.entering.clear();
        if all.is_empty() {
            return Ok(());
        }
        let own = self.give_back(&all)?;
        if own.is_empty() {
            return Ok(());
        }
        let mut known = self.bus.committed(&own)?;
        for (place, committed) in &mut known {
            // Where the group has no position yet, the beginning stays that which was decided at first.
            *committed = committed.or(self.positions.get(place).map(|p| p.committed));
        }
        self.take(known)
    }
}
