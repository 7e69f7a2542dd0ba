//! The bus of a worker in the simulator: its calls of the client, and the places in them at which
//! something may happen. A commit goes the way that `kafka::Transactional` goes.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use watchfire::broker::group::Caller;
use watchfire::broker::ids::TopicPartition;
use watchfire::broker::log::Isolation;
use watchfire::broker::offsets::Position;
use watchfire::bus::{
    Bounds, Bus, BusError, GivenBack, KeptReader, Offsets, Outbox, Outgoing, Place, ReadError,
    Rebalance, Record, Remedy, Stats, TransactionError,
};
use watchfire::limits::BROKER_CALL_MS_MAX;
use watchfire::time::Timestamp;

use super::batch::{self, Entry};
use super::client::{Client, Committing, Fetched, Sent};
use super::mutant::Mutation;
use super::plan::{Fault, Point};
use super::setup::STATE;
use super::world::World;

/// How often a fenced worker looks whether it has been replaced, 100 ms apart.
const LOOKS: usize = 30;

pub struct SimBus {
    pub world: Rc<World>,
    /// Number of the process.
    pub process: usize,
    pub client: Rc<RefCell<Client>>,
    /// The id with which it got its first partitions, as `KafkaBus` keeps it.
    pub member: OnceCell<String>,
}

/// What was kept, as far as it was committed when reading began; a few records come at a time.
pub struct SimKept {
    world: Rc<World>,
    process: usize,
    client: Rc<RefCell<Client>>,
    left: VecDeque<(i32, Option<Entry>)>,
}

impl KeptReader for SimKept {
    fn read(
        &mut self,
        max: usize,
        take: &mut impl FnMut(i32, &[u8], Option<&[u8]>),
    ) -> Result<Vec<i32>, BusError> {
        if self.client.borrow().is_dead {
            return Err(BusError::Call("killed".into()));
        }
        self.world.work(self.process);
        let mut ended = Vec::new();
        for _ in 0..max.min(KEPT_AT_A_TIME) {
            match self.left.pop_front() {
                Some((partition, Some(record))) => {
                    take(partition, &record.key, record.payload.as_deref());
                }
                Some((partition, None)) => ended.push(partition),
                None => break,
            }
        }
        Ok(ended)
    }
}

/// So often at most a worker looks in vain whether a commit is over.
const PATIENCE: usize = 5;

/// Records of kept state that come in one round.
const KEPT_AT_A_TIME: usize = 40;

pub struct SimOutbox(pub Rc<RefCell<Client>>);

fn failed(why: impl Into<String>) -> BusError {
    TransactionError::Failed(why.into()).into()
}

impl SimBus {
    /// Takes a fault that is armed, if there is one like that.
    fn take(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut client = self.client.borrow_mut();
        let at = client.armed.iter().position(wanted)?;
        Some(client.armed.remove(at))
    }

    fn strikes(&self, fault: Fault, name: &'static str) -> bool {
        let found = self.take(|f| *f == fault).is_some();
        if found {
            self.world.happened(name);
        }
        found
    }

    /// Comes to a place at which the process may be held or die.
    fn reach(&self, at: Point) -> Result<(), BusError> {
        let here = |fault: &Fault| match fault {
            Fault::Hold { point, .. } => *point == at,
            Fault::Crash(point) => *point == at,
            _ => false,
        };
        match self.take(here) {
            Some(Fault::Hold { ms, stopped, .. }) => {
                self.world.happened(if stopped { "stopped in a call" } else { "a slow call" });
                self.world.hold(self.process, ms, stopped);
            }
            Some(_) => {
                self.world.happened("killed in a call");
                self.world.kill(self.process);
            }
            None => {}
        }
        self.alive()
    }

    fn alive(&self) -> Result<(), BusError> {
        let is_dead = self.client.borrow().is_dead;
        if is_dead { Err(BusError::Call("killed".into())) } else { Ok(()) }
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.world.mutation == Some(mutation)
    }

    /// What an error of the broker means to the producer.
    fn error(&self, error: ResponseError) -> BusError {
        use ResponseError::{FencedInstanceId, InvalidProducerEpoch, ProducerFenced};
        let client = self.client.borrow();
        match error {
            FencedInstanceId | InvalidProducerEpoch | ProducerFenced => {
                self.world.happened("fenced");
                let (name, reason) = (client.name.clone(), error.to_string());
                TransactionError::Fenced { name, reason }.into()
            }
            _ => failed(error.to_string()),
        }
    }

    fn send_offsets(
        &self,
        offsets: &Offsets,
        generation: i32,
        member: &str,
    ) -> Result<(), ResponseError> {
        let (client, now_ms) = (self.client.borrow(), self.world.now_ms());
        let mut broker = self.world.broker.borrow_mut();
        let (name, group, producer) = (&client.name, &client.group, client.epoch.producer);
        broker.add_group(name, producer, group, now_ms)?;
        broker.verify_group(name, producer, group)?;
        let mut caller = Caller { member_id: member, instance_id: Some(name) };
        let mut generation = generation;
        if self.mutated(Mutation::GenerationNotSent) {
            (caller, generation) = (Caller { member_id: "", instance_id: None }, -1);
        }
        let group = broker.group_or_new(group)?;
        group.check_commit(caller, generation, true, now_ms)?;
        for ((topic, partition), offset) in offsets {
            let at = TopicPartition::new(&**topic, *partition);
            group.offsets.commit_with_transaction(producer.id, at, Position::new(*offset, -1, "")?);
        }
        Ok(())
    }

    fn end(&self, offsets: &Offsets, commit: bool) -> Result<(), ResponseError> {
        self.world.end_transaction(&self.client.borrow(), offsets, commit)
    }

    /// Aborts, and says so.
    fn aborted(&self, offsets: &Offsets, why: &str) -> BusError {
        if self.mutated(Mutation::PositionsKeptAfterAbort) {
            self.client.borrow_mut().kept = offsets.clone();
        }
        if self.mutated(Mutation::AbortForgotten) {
            self.client.borrow_mut().epoch.messages = 0;
            return TransactionError::Aborted(why.into()).into();
        }
        if self.strikes(Fault::AbortFails, "an abort that fails") {
            return failed(why);
        }
        let registered = self.client.borrow().epoch.registered;
        match if registered { self.end(&Offsets::new(), false) } else { Ok(()) } {
            Ok(()) => {
                self.world.happened("aborted");
                let mut client = self.client.borrow_mut();
                client.epoch.clear();
                // What was read came to nothing.
                client.handed.clear();
                TransactionError::Aborted(why.into()).into()
            }
            Err(error) => self.error(error),
        }
    }

    /// What the thread that commits does, with the faults of mutations.
    fn commit(&self, begun: &mut Committing) -> Result<(), BusError> {
        for Sent { to, entry } in std::mem::take(&mut self.client.borrow_mut().apart) {
            let bytes = batch::encode(&[entry], None);
            let written = self.world.broker.borrow_mut().produce(None, &to, &bytes);
            written.map_err(|e| BusError::Call(e.to_string()))?;
        }
        if self.mutated(Mutation::OffsetNotNext) {
            begun.offsets.values_mut().for_each(|o| *o = (*o - 1).max(0));
        }
        for (place, offset) in std::mem::take(&mut self.client.borrow_mut().kept) {
            let next = begun.offsets.entry(place).or_insert(offset);
            *next = offset.max(*next);
        }
        if self.mutated(Mutation::PositionsApart) {
            let group = self.client.borrow().group.clone();
            self.world.commit_apart(&group, &self.client.borrow(), &begun.offsets);
            self.reach(Point::BeforeOffsets)?;
            begun.offsets.clear();
        }
        match self.try_commit(begun) {
            Err(_) if self.mutated(Mutation::FailureTakenForSuccess) => self.alive(),
            done => done,
        }
    }

    fn try_commit(&self, begun: &Committing) -> Result<(), BusError> {
        let (world, now_ms) = (&self.world, self.world.now_ms());
        let Committing { offsets, generation, member, .. } = begun;
        self.reach(Point::BeforeDrain)?;
        if !self.mutated(Mutation::DrainDropped) {
            let times = 1 + usize::from(self.strikes(Fault::Resent, "sent twice"));
            let client = &mut *self.client.borrow_mut();
            let count = client.epoch.in_flight.len();
            client.epoch.send(&client.name, &mut world.broker.borrow_mut(), count, times, now_ms);
        }
        if let Some(error) = self.client.borrow().epoch.broken {
            return Err(self.error(error));
        }
        if self.strikes(Fault::NotDelivered, "not delivered") {
            return Err(failed("not delivered"));
        }
        if self.strikes(Fault::Retriable, "coordinator away") {
            world.meanwhile(600);
            self.alive()?;
        }
        if self.strikes(Fault::Fatal, "a fatal error") {
            return Err(failed("fatal"));
        }
        let by_plan = self.strikes(Fault::Abortable, "an abortable error")
            || self.client.borrow().armed.contains(&Fault::AbortFails);
        if by_plan {
            return Err(self.aborted(offsets, "an abortable error"));
        }
        self.reach(Point::BeforeOffsets)?;
        if !offsets.is_empty() {
            self.client.borrow_mut().epoch.registered = true;
            match self.send_offsets(offsets, *generation, member) {
                Ok(()) => {}
                Err(
                    error @ (ResponseError::IllegalGeneration | ResponseError::UnknownMemberId),
                ) => {
                    world.happened("a commit of an old generation");
                    return Err(self.aborted(offsets, &error.to_string()));
                }
                Err(error) => return Err(self.error(error)),
            }
        }
        self.reach(Point::BeforeEnd)?;
        if let Some(Fault::AnswerLost { applied, again }) =
            self.take(|f| matches!(f, Fault::AnswerLost { .. }))
        {
            if applied {
                self.end(offsets, true).map_err(|e| self.error(e))?;
            }
            world.happened(match (applied, again) {
                (true, true) => "answer lost, applied, asked again",
                (true, false) => "answer lost, applied",
                (false, true) => "answer lost, not applied, asked again",
                (false, false) => "answer lost, not applied",
            });
            if !again {
                self.client.borrow_mut().is_cut_off = true;
                return Err(failed("no answer"));
            }
        }
        self.end(offsets, true).map_err(|e| self.error(e))?;
        self.client.borrow_mut().epoch.clear();
        self.reach(Point::AfterEnd)
    }
}

impl Bus for SimBus {
    type Record<'b> = Fetched;
    type Outbox = SimOutbox;
    type KeptReader = SimKept;

    fn read_kept(&self, topic: &str, partitions: &[i32]) -> Result<SimKept, BusError> {
        self.reach(Point::Bounds)?;
        let broker = self.world.broker.borrow();
        let mut left = VecDeque::new();
        for partition in partitions {
            let log = broker.log(&TopicPartition::new(topic, *partition));
            let log = log.map_err(|e| BusError::Call(e.to_string()))?;
            let mut next = log.bounds().start;
            while next < log.bounds().stable {
                let slice = log.read(next, Isolation::ReadCommitted, 1 << 20, true);
                let slice = slice.map_err(|e| BusError::Call(e.to_string()))?;
                if slice.batches.is_empty() {
                    break;
                }
                for bytes in &slice.batches {
                    let stored = batch::decode(bytes);
                    next = stored.end;
                    if !stored.is_aborted(&slice.aborted) {
                        left.extend(stored.entries.into_iter().map(|e| (*partition, Some(e))));
                    }
                }
            }
            left.push_back((*partition, None));
        }
        let (world, client) = (Rc::clone(&self.world), Rc::clone(&self.client));
        Ok(SimKept { world, process: self.process, client, left })
    }

    fn serve(&self) -> Result<(), ReadError> {
        self.world.work(self.process);
        let mut client = self.client.borrow_mut();
        while let Some(event) = client.next_event() {
            let name = match &event {
                Rebalance::Assign(_) => "assigned",
                Rebalance::Revoke(_) => "revoked",
                Rebalance::Lost(_) => "lost",
            };
            self.world.tell(|| format!("    {} {event:?}", client.name));
            self.world.happened(name);
            match event {
                Rebalance::Lost(places) if self.mutated(Mutation::LossOfAssignmentIgnored) => {
                    client.unassign(&places);
                }
                event => client.rebalances.push_back(event),
            }
        }
        match client.fatal.clone() {
            Some(why) => Err(ReadError {
                code: "Fatal".into(),
                remedy: Remedy::Rebuild,
                error: BusError::Replaced(why),
            }),
            None => Ok(()),
        }
    }

    fn next_rebalance(&self) -> Option<Rebalance> {
        let mut client = self.client.borrow_mut();
        let next = client.rebalances.pop_front()?;
        if let Rebalance::Assign(_) = next {
            self.member.get_or_init(|| client.member_id.clone());
        }
        Some(next)
    }

    fn is_lost(&self) -> bool {
        self.client.borrow().is_lost
    }

    fn take_stats(&self) -> Stats {
        self.client.borrow_mut().stats.take().unwrap_or_default()
    }

    fn batch(&self, _wait: Duration, max: usize) -> Vec<Fetched> {
        if self.reach(Point::Batch).is_err() {
            return Vec::new();
        }
        let client = &mut *self.client.borrow_mut();
        let held_back = client.is_asked() && !self.mutated(Mutation::RevokeAnsweredEarly);
        let ready = if held_back { 0 } else { client.queue.len() };
        let count = max.min(client.records_max).min(ready);
        let batch: Vec<Fetched> = client.queue.drain(..count).collect();
        let handed = batch.iter().filter(|f| !f.is_gone);
        client.handed.extend(handed.map(|f| (f.place.1, f.entry.offset)));
        batch
    }

    fn committed(&self, places: &[Place]) -> Result<BTreeMap<Place, Option<i64>>, BusError> {
        self.reach(Point::Committed)?;
        if self.strikes(Fault::CommittedFails, "positions not to be had") {
            return Err(BusError::Call("positions".into()));
        }
        let group = self.client.borrow().group.clone();
        let stable = !self.mutated(Mutation::OpenPositionsTaken);
        let until_ms = self.world.now_ms() + BROKER_CALL_MS_MAX as i64;
        loop {
            let position = |place: &Place| {
                let found = self.world.position(&group, place, stable)?;
                Ok((place.clone(), found))
            };
            let found: Result<BTreeMap<_, _>, ResponseError> =
                places.iter().map(position).collect();
            match found {
                Ok(found) if self.mutated(Mutation::BeginsAtTheEnd) => {
                    let end = |(place, _)| {
                        let end = self.world.bounds(&place).1;
                        (place, Some(end))
                    };
                    return Ok(found.into_iter().map(end).collect());
                }
                Ok(found) => return Ok(found),
                Err(_) if self.world.now_ms() >= until_ms => {
                    return Err(BusError::Call("positions: timed out".into()));
                }
                Err(_) => {
                    self.world.happened("waited for open positions");
                    self.world.meanwhile(100);
                    self.alive()?;
                }
            }
        }
    }

    fn bounds(&self, place: &Place) -> Result<Bounds, BusError> {
        self.reach(Point::Bounds)?;
        if self.strikes(Fault::BoundsFails, "bounds not to be had") {
            return Err(BusError::Call("bounds".into()));
        }
        let (offset_low, offset_high) = self.world.bounds(place);
        Ok(Bounds { offset_low, offset_high })
    }

    fn assign(&self, from: &Offsets) -> Result<(), BusError> {
        self.reach(Point::Assign)?;
        self.world.tell(|| format!("    {} reads {from:?}", self.client.borrow().name));
        let done = self.client.borrow_mut().assign(from);
        if done { Ok(()) } else { Err(BusError::Call("assigned twice".into())) }
    }

    fn unassign(&self, places: &[Place]) -> Result<(), BusError> {
        self.reach(Point::Unassign)?;
        self.world.tell(|| format!("    {} gives back {places:?}", self.client.borrow().name));
        let done = self.client.borrow_mut().unassign(places);
        if done { Ok(()) } else { Err(BusError::Call("not assigned".into())) }
    }

    fn give_back(&self, places: &[Place]) -> Result<GivenBack, BusError> {
        self.unassign(places)?;
        self.serve().map_err(|error| error.error)?;
        let mut revoked = Vec::new();
        loop {
            let next = self
                .client
                .borrow_mut()
                .rebalances
                .pop_front_if(|r| matches!(r, Rebalance::Revoke(_)));
            let Some(Rebalance::Revoke(asked)) = next else { break };
            let others: Vec<Place> =
                asked.iter().filter(|p| !places.contains(p)).cloned().collect();
            self.unassign(&others)?;
            revoked.extend(asked);
        }
        Ok(GivenBack::new(places, revoked))
    }

    fn begin_commit(&self, _outbox: &mut SimOutbox, offsets: &Offsets) -> Result<(), BusError> {
        let (generation, member) = {
            let client = self.client.borrow();
            (client.generation, client.member_id.clone())
        };
        let is_other = self.member.get().is_some_and(|first| *first != member);
        let unchecked = [Mutation::MembershipNotChecked, Mutation::LossOfAssignmentIgnored];
        if is_other && !unchecked.iter().any(|mutation| self.mutated(*mutation)) {
            self.world.happened("a commit of an old membership");
            return Err(BusError::Lost);
        }
        let commits = {
            let mut client = self.client.borrow_mut();
            client.commits += 1;
            client.commits
        };
        let is_settling = self.world.is_settling.get();
        let patience = if is_settling { 0 } else { commits % PATIENCE };
        let offsets = offsets.clone();
        let mut begun = Committing { offsets, generation, member, patience, ended: None };
        // It may be over long before the worker is told, or not begin before the worker has gone on.
        if is_settling || commits.is_multiple_of(2) {
            begun.ended = Some(self.commit(&mut begun));
        }
        self.client.borrow_mut().committing = Some(begun);
        Ok(())
    }

    fn end_commit(
        &self,
        _outbox: &mut SimOutbox,
        is_awaited: bool,
    ) -> Option<Result<(), BusError>> {
        let Some(mut begun) = self.client.borrow_mut().committing.take() else {
            return Some(Ok(()));
        };
        if begun.patience > 0 && !is_awaited {
            begun.patience -= 1;
            self.world.happened("worked on during a commit");
            self.client.borrow_mut().committing = Some(begun);
            return None;
        }
        let done = begun.ended.take().unwrap_or_else(|| self.commit(&mut begun));
        let client = &mut *self.client.borrow_mut();
        if done.is_err() {
            // What was read meanwhile came to nothing, too.
            client.handed.clear();
        }
        let held = std::mem::take(&mut client.held);
        if done.is_ok() || client.mutated(Mutation::HeldKeptAfterAbort) {
            client.epoch.messages += held.len();
            client.epoch.in_flight.extend(held);
        }
        Some(done)
    }

    fn abort(&self, _outbox: &mut SimOutbox) {
        let client = self.client.borrow();
        if client.is_dead || client.is_cut_off || !client.epoch.registered {
            return;
        }
        // Whatever the answer is: the producer is not used again.
        let _ = self.world.end_transaction(&client, &Offsets::new(), false);
    }

    fn is_replaced(&self) -> bool {
        let is_fenced = (0..LOOKS).any(|_| {
            self.world.meanwhile(100);
            self.world.work(self.process);
            self.client.borrow().fatal.is_some()
        });
        is_fenced && self.world.has_namesake(self.process)
    }

    fn close(&self, _open: Option<Rebalance>) {
        // A static member does not leave: its place is kept until its session is over.
        self.client.borrow_mut().is_dead = true;
    }
}

impl Outbox for SimOutbox {
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), TransactionError> {
        let mut client = self.0.borrow_mut();
        let to = TopicPartition::new(record.topic, record.partition.unwrap_or(0));
        let payload = record.payload.map(<[u8]>::to_vec);
        let entry = Entry { offset: 0, time_ms: 0, key: record.key.to_vec(), payload };
        if record.topic == STATE && client.mutation == Some(Mutation::StateWrittenApart) {
            client.apart.push(Sent { to, entry });
            return Ok(());
        }
        if client.committing.is_some() && !client.mutated(Mutation::SentIntoTheCommit) {
            client.held.push(Sent { to, entry });
            return Ok(());
        }
        client.epoch.in_flight.push(Sent { to, entry });
        client.epoch.messages += 1;
        Ok(())
    }

    fn messages(&self) -> usize {
        let client = self.0.borrow();
        let is_held = client.committing.is_some();
        if is_held { client.held.len() } else { client.epoch.messages }
    }

    fn is_full(&self) -> bool {
        self.messages() >= self.0.borrow().epoch.full_at
    }
}

impl Record for Fetched {
    fn error(&self) -> Option<ReadError> {
        self.is_gone.then(|| ReadError {
            code: "AutoOffsetReset".into(),
            remedy: Remedy::FindLosses,
            error: BusError::Call("the position is gone".into()),
        })
    }

    fn topic(&self) -> &str {
        &self.place.0
    }

    fn partition(&self) -> i32 {
        self.place.1
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.place == other.place
    }

    fn offset(&self) -> i64 {
        self.entry.offset
    }

    fn payload(&self) -> Option<&[u8]> {
        self.entry.payload.as_deref()
    }

    fn written_at(&self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(self.entry.time_ms))
    }

    fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        std::iter::empty()
    }
}
