//! A client as librdkafka is one, over the state of the embedded broker: it fetches ahead of its worker,
//! keeps its place in the group, hands rebalances over as messages and waits for the answers, and sends
//! outputs before they are committed.
//!
//! ```text
//!   broker ◀── work(): join, sync, heartbeat, fetch, send ──▶ queue, asked ──▶ worker (by way of `bus`)
//! ```
//!
//! What its threads do is [`Client::work`]; nothing else moves by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use watchfire::broker::group::{Caller, Join, Joined, JoinedMember, Outcome, Refused, Ticket};
use watchfire::broker::ids::{Producer, TopicPartition};
use watchfire::broker::log::Isolation;
use watchfire::broker::state::State;
use watchfire::bus::{BusError, Offsets, PartitionStats, Place, Rebalance, Stats};
use watchfire::limits::STATISTICS_INTERVAL_MS;
use watchfire::time::Timestamp;

use super::assignor::{self, Member};
use super::batch::{self, Entry};
use super::mutant::Mutation;
use super::plan::{Fault, Plan};

/// The assignor that all members name.
const ASSIGNOR: &str = "cooperative-sticky";
const REBALANCE_MS: i64 = 300_000;

/// A record on its way to the worker, or an error of its partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub place: Place,
    pub entry: Entry,
    pub is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
enum Membership {
    Out,
    Joining(Ticket),
    /// In a generation, and to send what the leader has decided, if it leads.
    Joined,
    Syncing(Ticket),
    Steady,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Assign,
    Revoke,
}

/// A partition that is being read.
#[derive(Debug, Default)]
struct Reading {
    next: i64,
    /// As of the last fetch: start and stable end.
    seen: Option<(i64, i64)>,
    heard: Option<Timestamp>,
    /// It ran into an offset that is gone, and waits to be assigned anew.
    is_gone: bool,
    /// What comes first goes astray.
    astray: bool,
}

/// A record that is not acknowledged yet.
#[derive(Clone, Debug)]
pub struct Sent {
    pub to: TopicPartition,
    pub entry: Entry,
}

/// The transaction of a client.
#[derive(Debug)]
pub struct Epoch {
    pub producer: Producer,
    pub in_flight: Vec<Sent>,
    added: BTreeSet<TopicPartition>,
    sequences: BTreeMap<TopicPartition, i32>,
    /// The coordinator knows of it.
    pub registered: bool,
    /// Why it cannot be committed.
    pub broken: Option<ResponseError>,
    pub messages: usize,
    pub full_at: usize,
}

/// An epoch that is being committed, as it was when that began.
pub struct Committing {
    pub offsets: Offsets,
    pub generation: i32,
    pub member: String,
    /// So often the worker asks in vain, if it does not wait.
    pub patience: usize,
    /// How it ended, if it has and nobody was told yet.
    pub ended: Option<Result<(), BusError>>,
}

pub struct Client {
    /// Transactional id and instance id.
    pub name: String,
    pub group: String,
    pub topic: Arc<str>,
    session_ms: i64,
    pub mutation: Option<Mutation>,
    pub member_id: String,
    pub generation: i32,
    membership: Membership,
    /// Who gets what, if it leads.
    decided: Vec<(String, Bytes)>,
    /// What it has as far as the group is concerned, whatever is being read.
    owned: BTreeSet<Place>,
    pub is_lost: bool,
    /// Replaced in the group.
    pub fatal: Option<String>,
    /// What the worker was asked and has not answered.
    asked: Option<Asked>,
    /// What is given after what was asked for has gone.
    then: Option<Vec<Place>>,
    /// Whether to join again after the answer.
    rejoin: bool,
    /// Asked and not handed to the worker yet.
    pub events: VecDeque<(Asked, Vec<Place>)>,
    /// Handed to the worker and not taken up.
    pub rebalances: VecDeque<Rebalance>,
    known_partitions: i32,
    reading: BTreeMap<Place, Reading>,
    pub queue: VecDeque<Fetched>,
    /// Source records that were handed to the worker, since the last abort.
    pub handed: BTreeSet<(i32, i64)>,
    pub records_max: usize,
    pub stats: Option<Stats>,
    stats_at_ms: i64,
    pub epoch: Epoch,
    pub committing: Option<Committing>,
    /// Commits that have begun.
    pub commits: usize,
    /// Outputs of the next epoch.
    pub held: Vec<Sent>,
    pub armed: Vec<Fault>,
    /// The broker cannot be reached any more.
    pub is_cut_off: bool,
    /// The process was killed; nothing has any effect any more.
    pub is_dead: bool,
    /// Positions of an epoch that was aborted, for one of the mutations.
    pub kept: BTreeMap<Place, i64>,
    /// State that goes past the transaction, for another.
    pub apart: Vec<Sent>,
}

impl Client {
    pub fn new(
        name: &str,
        group: &str,
        topic: &str,
        producer: Producer,
        plan: &Plan,
        mutation: Option<Mutation>,
    ) -> Self {
        let epoch = Epoch {
            producer,
            in_flight: Vec::new(),
            added: BTreeSet::new(),
            sequences: BTreeMap::new(),
            registered: false,
            broken: None,
            messages: 0,
            full_at: plan.full_at,
        };
        Self {
            name: name.into(),
            group: group.into(),
            topic: topic.into(),
            session_ms: plan.session_ms,
            mutation,
            member_id: String::new(),
            generation: -1,
            membership: Membership::Out,
            decided: Vec::new(),
            owned: BTreeSet::new(),
            is_lost: false,
            fatal: None,
            asked: None,
            then: None,
            rejoin: false,
            events: VecDeque::new(),
            rebalances: VecDeque::new(),
            known_partitions: 0,
            reading: BTreeMap::new(),
            queue: VecDeque::new(),
            handed: BTreeSet::new(),
            records_max: 100,
            stats: None,
            stats_at_ms: 0,
            epoch,
            committing: None,
            commits: 0,
            held: Vec::new(),
            armed: Vec::new(),
            is_cut_off: false,
            is_dead: false,
            kept: BTreeMap::new(),
            apart: Vec::new(),
        }
    }

    pub fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// What its threads do at once.
    pub fn work(&mut self, broker: &mut State, now_ms: i64, wall: Timestamp) {
        if self.is_dead {
            return;
        }
        if self.fatal.is_none() {
            // An answer and what follows from it; what others answer to that comes later.
            for _ in 0..2 {
                if !self.keep_place(broker, now_ms) {
                    break;
                }
            }
        }
        self.fetch(broker, wall);
        let half = self.epoch.in_flight.len() / 2;
        self.epoch.send(&self.name, broker, half, 1, now_ms);
        if now_ms - self.stats_at_ms >= STATISTICS_INTERVAL_MS as i64 {
            self.stats_at_ms = now_ms;
            let queue = &self.queue;
            let of = |(place, r): (&Place, &Reading)| {
                let (offset_low, offset_high) = r.seen?;
                let drained = r.next >= offset_high && !queue.iter().any(|f| f.place == *place);
                let at = r.heard.filter(|_| !r.is_gone);
                Some((place.clone(), PartitionStats { offset_low, offset_high, drained, at }))
            };
            self.stats = Some(self.reading.iter().filter_map(of).collect());
        }
    }
}

/// Its place in the group; `rdkafka_cgrp.c` is the model, where it joins by the classic protocol and
/// rebalances step by step.
impl Client {
    /// One request to the coordinator and what follows from the answer; true if there is more to do.
    fn keep_place(&mut self, broker: &mut State, now_ms: i64) -> bool {
        let (id, name) = (self.member_id.clone(), self.name.clone());
        let caller = Caller { member_id: &id, instance_id: Some(&name) };
        match self.membership {
            Membership::Out if self.asked.is_some() => false,
            Membership::Out => self.join(broker, now_ms),
            Membership::Joining(ticket) => {
                let Some(group) = broker.waited_group(&self.group) else { return false };
                let answer = group.take_join(caller, ticket);
                self.joined(answer, broker)
            }
            Membership::Joined => self.sync(broker, now_ms),
            Membership::Syncing(ticket) => {
                let Some(group) = broker.waited_group(&self.group) else { return false };
                let answer = group.take_sync(caller, ticket);
                self.synced(answer)
            }
            Membership::Steady => self.heartbeat(broker, now_ms),
        }
    }

    fn join(&mut self, broker: &mut State, now_ms: i64) -> bool {
        let owned = self.owned.iter().map(|(_, p)| *p).collect();
        let join = Join {
            member_id: self.member_id.clone(),
            instance_id: Some(self.name.clone()),
            client_id: self.name.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![(ASSIGNOR.into(), Member::metadata(self.generation, &owned).into())],
            session_ms: self.session_ms,
            rebalance_ms: REBALANCE_MS,
            takes_member_id: true,
        };
        let answer = broker.join(&self.group, join, now_ms);
        self.joined(answer, broker)
    }

    fn joined(&mut self, answer: Outcome<Joined, Refused>, broker: &State) -> bool {
        let joined = match answer {
            Outcome::Wait { member_id, ticket } => {
                self.member_id = member_id;
                self.membership = Membership::Joining(ticket);
                return false;
            }
            Outcome::Ready(Err(refused)) => {
                self.refused(refused.error);
                return false;
            }
            Outcome::Ready(Ok(joined)) => joined,
        };
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        self.known_partitions = self.partitions(broker);
        self.decided = if joined.leader == self.member_id && !joined.members.is_empty() {
            let read = |m: &JoinedMember| Member::read(m.member_id.clone(), &m.metadata);
            let members: Vec<Member> = joined.members.iter().map(read).collect();
            let assigned = assignor::assign(&members, self.known_partitions);
            assigned.into_iter().map(|(id, p)| (id, assignor::encode(&p).into())).collect()
        } else {
            Vec::new()
        };
        self.membership = Membership::Joined;
        true
    }

    fn sync(&mut self, broker: &mut State, now_ms: i64) -> bool {
        let caller = Caller { member_id: &self.member_id, instance_id: Some(&self.name) };
        let Some(group) = broker.existing_group(&self.group) else { return false };
        let decided = std::mem::take(&mut self.decided);
        let answer = group.sync(caller, self.generation, decided, now_ms);
        self.synced(answer)
    }

    fn partitions(&self, broker: &State) -> i32 {
        broker.topic(&self.topic).map_or(0, |t| t.partitions().len() as i32)
    }

    fn synced(&mut self, answer: Outcome<Bytes, ResponseError>) -> bool {
        let bytes = match answer {
            Outcome::Wait { ticket, .. } => {
                self.membership = Membership::Syncing(ticket);
                return false;
            }
            Outcome::Ready(Err(error)) => {
                self.refused(error);
                return false;
            }
            Outcome::Ready(Ok(bytes)) => bytes,
        };
        self.membership = Membership::Steady;
        let place = |p: i32| (Arc::clone(&self.topic), p);
        let wanted: BTreeSet<Place> = assignor::decode(&bytes).into_iter().map(place).collect();
        let added = wanted.difference(&self.owned).cloned().collect();
        let revoked: Vec<Place> = self.owned.difference(&wanted).cloned().collect();
        if revoked.is_empty() {
            self.ask(Asked::Assign, added, false);
        } else {
            self.then = Some(added);
            self.ask(Asked::Revoke, revoked, false);
        }
        false
    }

    fn heartbeat(&mut self, broker: &mut State, now_ms: i64) -> bool {
        let has_grown = self.partitions(broker) > self.known_partitions;
        let caller = Caller { member_id: &self.member_id, instance_id: Some(&self.name) };
        let Some(group) = broker.waited_group(&self.group) else { return false };
        let alive = group.heartbeat(caller, self.generation, now_ms);
        match alive {
            Ok(()) | Err(ResponseError::RebalanceInProgress) if self.asked.is_some() => false,
            Ok(()) if has_grown => self.join(broker, now_ms),
            Ok(()) => false,
            Err(ResponseError::RebalanceInProgress) => self.join(broker, now_ms),
            Err(error) => {
                self.refused(error);
                false
            }
        }
    }

    fn refused(&mut self, error: ResponseError) {
        match error {
            ResponseError::FencedInstanceId => self.fatal = Some(error.to_string()),
            ResponseError::UnknownMemberId => self.member_id.clear(),
            ResponseError::IllegalGeneration => self.generation = -1,
            _ => {
                self.membership = Membership::Out;
                return;
            }
        }
        // What is being asked comes first; then the next heartbeat is refused in the same way.
        if self.asked.is_none() {
            self.membership = Membership::Out;
            if !self.owned.is_empty() {
                self.is_lost = true;
                self.ask(Asked::Revoke, self.owned.iter().cloned().collect(), true);
            }
        }
    }

    fn ask(&mut self, what: Asked, places: Vec<Place>, rejoin: bool) {
        match what {
            Asked::Assign => self.owned.extend(places.iter().cloned()),
            Asked::Revoke => self.owned.retain(|p| !places.contains(p)),
        }
        self.asked = Some(what);
        self.rejoin = rejoin;
        self.events.push_back((what, places));
        let gives_back = what == Asked::Revoke && !self.is_lost || what == Asked::Assign && rejoin;
        if self.mutated(Mutation::RevokeAnsweredEarly) && gives_back {
            self.answered(what);
        }
    }

    /// The worker has assigned or unassigned something, whatever it was.
    fn answered(&mut self, what: Asked) {
        if self.asked == Some(what) {
            self.asked = None;
            if let Some(then) = self.then.take() {
                self.ask(Asked::Assign, then, true);
            } else if self.rejoin {
                self.membership = Membership::Out;
            }
        }
    }

    /// The next thing that the worker is asked, as it looks when it is told.
    pub fn next_event(&mut self) -> Option<Rebalance> {
        let (what, places) = self.events.pop_front()?;
        Some(match what {
            Asked::Assign => Rebalance::Assign(places),
            Asked::Revoke if self.is_lost => Rebalance::Lost(places),
            Asked::Revoke => Rebalance::Revoke(places),
        })
    }

    /// Whether nothing is handed out, since the worker is to answer first.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }
}

/// Reading.
impl Client {
    /// Takes partitions on. False if one is being read already.
    pub fn assign(&mut self, from: &BTreeMap<Place, i64>) -> bool {
        let done = !from.keys().any(|place| self.reading.contains_key(place));
        if done {
            for (place, next) in from {
                let astray = self.mutated(Mutation::ForwardedAfterAssign);
                let reading = Reading { next: *next, astray, ..Reading::default() };
                self.reading.insert(place.clone(), reading);
            }
            self.answered(Asked::Assign);
            self.is_lost = false;
        }
        done
    }

    /// Gives partitions back. False if one was not being read.
    pub fn unassign(&mut self, places: &[Place]) -> bool {
        let done = places.iter().all(|place| self.reading.contains_key(place));
        if done {
            self.reading.retain(|place, _| !places.contains(place));
            if !self.mutated(Mutation::QueueNotPurged) {
                self.queue.retain(|f| !places.contains(&f.place));
            }
            self.answered(Asked::Revoke);
            self.is_lost = false;
        }
        done
    }

    fn fetch(&mut self, broker: &State, wall: Timestamp) {
        let isolation = match self.mutated(Mutation::ReadsUncommitted) {
            true => Isolation::ReadUncommitted,
            false => Isolation::ReadCommitted,
        };
        for (place, reading) in self.reading.iter_mut().filter(|(_, r)| !r.is_gone) {
            let at = TopicPartition::new(&*place.0, place.1);
            let Ok(log) = broker.log(&at) else { continue };
            let bounds = log.bounds();
            reading.seen = Some((bounds.start, bounds.stable));
            reading.heard = Some(wall);
            let slice = match log.read(reading.next, isolation, 4_000, true) {
                Ok(slice) => slice,
                Err(_) if self.mutation == Some(Mutation::PositionResetInSilence) => {
                    reading.next = bounds.start;
                    continue;
                }
                Err(_) => {
                    reading.is_gone = true;
                    let entry =
                        Entry { offset: reading.next, time_ms: 0, key: vec![], payload: None };
                    self.queue.push_back(Fetched { place: place.clone(), entry, is_gone: true });
                    continue;
                }
            };
            for bytes in &slice.batches {
                let stored = batch::decode(bytes);
                let is_aborted = stored.is_aborted(&slice.aborted);
                let fresh = stored.entries.into_iter().filter(|e| e.offset >= reading.next);
                let seen = fresh.filter(|_| !is_aborted && !reading.astray);
                self.queue.extend(seen.map(|entry| Fetched {
                    place: place.clone(),
                    entry,
                    is_gone: false,
                }));
                reading.next = reading.next.max(stored.end);
            }
            reading.astray &= slice.batches.is_empty();
        }
    }
}

impl Epoch {
    /// Sends the first `count` records that are in flight, one batch for each partition, each so often as
    /// if the answers before had been lost.
    pub fn send(
        &mut self,
        name: &str,
        broker: &mut State,
        count: usize,
        times: usize,
        now_ms: i64,
    ) {
        let mut batches: BTreeMap<TopicPartition, Vec<Entry>> = BTreeMap::new();
        for sent in self.in_flight.drain(..count) {
            batches.entry(sent.to).or_default().push(Entry { time_ms: now_ms, ..sent.entry });
        }
        for (to, entries) in batches {
            if self.broken.is_none() {
                self.broken = self.produce(name, broker, &to, &entries, times, now_ms).err();
            }
        }
    }

    fn produce(
        &mut self,
        name: &str,
        broker: &mut State,
        to: &TopicPartition,
        entries: &[Entry],
        times: usize,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        if self.added.insert(to.clone()) {
            broker.add_partitions(name, self.producer, vec![to.clone()], now_ms)?;
            self.registered = true;
        }
        let sequence = self.sequences.entry(to.clone()).or_default();
        let batch = batch::encode(entries, Some((self.producer, *sequence)));
        for _ in 0..times {
            broker.produce(Some(name), to, &batch)?;
        }
        *sequence += entries.len() as i32;
        Ok(())
    }

    /// It is over, one way or the other.
    pub fn clear(&mut self) {
        self.in_flight.clear();
        self.added.clear();
        self.registered = false;
        self.broken = None;
        self.messages = 0;
    }
}
