//! One consumer group under the classic protocol: members, generations, rebalances (KIP-62, KIP-345, KIP-394).
//!
//! Pure: time comes in as `now_ms`. A request which must wait for others gives [`Outcome::Wait`]; the caller asks
//! again with [`Group::take_join`] or [`Group::take_sync`] after any change or when a deadline passes. The answer is
//! kept with the member until then, so a rebalance which begins in between loses nothing.
//!
//! ```text
//!   Empty ──join──▶ Preparing ──all joined, or time──▶ Completing ──leader's sync──▶ Stable
//!     ▲               │  ▲                                 │                           │
//!     └──none left────┘  └──────join, leave, expiry────────┴───────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::offsets::Offsets;

mod kinds;
mod member;
mod rebalance;
#[cfg(test)]
mod tests;

use member::{Member, Waiting};

pub use kinds::{
    Caller, Described, GroupSettings, Join, Joined, JoinedMember, Outcome, Phase, Refused, Ticket,
};

/// Longest session timeout a member may ask for, as Kafka's `group.max.session.timeout.ms`.
const SESSION_MS_MAX: i64 = 1_800_000;

/// One consumer group.
#[derive(Debug)]
pub struct Group {
    settings: GroupSettings,
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Which member holds an instance id.
    instances: BTreeMap<String, String>,
    /// Ids handed out and not yet used, with the time they lapse.
    pending: BTreeMap<String, i64>,
    /// A rebalance does not complete before, so that the first members of a group meet in one generation.
    not_before_ms: i64,
    /// A rebalance completes without those who have not joined; a generation goes on without those who never sync.
    deadline_ms: i64,
    unsynced: BTreeSet<String>,
    next_ticket: u64,
    /// The group's offsets.
    pub offsets: Offsets,
}

impl Group {
    /// Makes an empty group.
    pub fn new(settings: GroupSettings) -> Self {
        Group {
            settings,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            not_before_ms: 0,
            deadline_ms: 0,
            unsynced: BTreeSet::new(),
            next_ticket: 0,
            offsets: Offsets::default(),
        }
    }

    /// Where the group is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Always `consumer` for consumers; empty before the first member.
    pub fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The chosen assignor.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The members in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = Described<'_>> {
        self.members.iter().map(|(member_id, member)| Described {
            member_id,
            instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            metadata: member.metadata(&self.protocol),
            assignment: &member.assignment,
        })
    }

    /// Takes a member in, or back. `fresh_id` is used if it needs an id.
    pub fn join(&mut self, join: Join, fresh_id: String, now_ms: i64) -> Outcome<Joined, Refused> {
        let refuse = |error, member_id| Outcome::Ready(Err(Refused { error, member_id }));
        if let Err(error) = self.check_join(&join) {
            return refuse(error, join.member_id);
        }
        let holder = join.instance_id.as_ref().and_then(|i| self.instances.get(i)).cloned();
        match (join.member_id.is_empty(), holder) {
            (true, Some(holder)) => self.replace(&holder, fresh_id, &join, now_ms),
            (true, None) if join.takes_member_id && join.instance_id.is_none() => {
                self.pending.insert(fresh_id.clone(), now_ms.saturating_add(join.session_ms));
                refuse(ResponseError::MemberIdRequired, fresh_id)
            }
            (true, None) => self.add(fresh_id, &join, now_ms),
            (false, _) if self.pending.contains_key(&join.member_id) => {
                self.add(join.member_id.clone(), &join, now_ms)
            }
            (false, _) => self.rejoin(&join, now_ms),
        }
    }

    fn check_join(&self, join: &Join) -> Result<(), ResponseError> {
        if !(self.settings.session_ms_min..=SESSION_MS_MAX).contains(&join.session_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        let alone = self.members.keys().all(|id| *id == join.member_id);
        let common = |name: &str| self.members.values().all(|m| m.supports(name));
        let fits = self.protocol_type == join.protocol_type
            && join.protocols.iter().any(|(name, _)| common(name));
        if join.protocols.is_empty() || !(alone || fits) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn add(&mut self, member_id: String, join: &Join, now_ms: i64) -> Outcome<Joined, Refused> {
        self.pending.remove(&member_id);
        let first_ones = self.phase == Phase::Empty
            || (self.phase == Phase::Preparing && self.not_before_ms > now_ms);
        let member = Member {
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            protocols: join.protocols.clone(),
            session_ms: join.session_ms,
            rebalance_ms: join.rebalance_ms,
            silent_from_ms: now_ms,
            assignment: Bytes::new(),
            waiting: Waiting::Nothing,
            ticket: Ticket(0),
        };
        if let Some(instance_id) = &join.instance_id {
            self.instances.insert(instance_id.clone(), member_id.clone());
        }
        self.members.insert(member_id.clone(), member);
        self.protocol_type.clone_from(&join.protocol_type);
        self.prepare(now_ms);
        if first_ones {
            self.not_before_ms =
                now_ms.saturating_add(self.settings.initial_delay_ms).min(self.deadline_ms);
        }
        self.wait_for_join(&member_id, now_ms)
    }

    /// A static member has come back under a new id: it takes over the old one's place, and fences it.
    fn replace(
        &mut self,
        old_id: &str,
        new_id: String,
        join: &Join,
        now_ms: i64,
    ) -> Outcome<Joined, Refused> {
        let Some(mut member) = self.members.remove(old_id) else {
            return self.add(new_id, join, now_ms);
        };
        member.follow(join, now_ms);
        member.waiting = Waiting::Nothing;
        self.members.insert(new_id.clone(), member);
        if let Some(instance_id) = &join.instance_id {
            self.instances.insert(instance_id.clone(), new_id.clone());
        }
        self.unsynced.remove(old_id);
        let old_leader = self.leader.clone();
        if self.leader == old_id {
            self.leader.clone_from(&new_id);
        }
        if self.phase == Phase::Stable && self.select_protocol() == self.protocol {
            // The assignment stands. The old leader's id is given, so that a leader which restarted does not assign
            // anew: nobody would fetch that assignment.
            let joined = Joined { leader: old_leader, members: Vec::new(), ..self.joined(&new_id) };
            return Outcome::Ready(Ok(joined));
        }
        self.prepare(now_ms);
        self.wait_for_join(&new_id, now_ms)
    }

    fn rejoin(&mut self, join: &Join, now_ms: i64) -> Outcome<Joined, Refused> {
        let caller =
            Caller { member_id: &join.member_id, instance_id: join.instance_id.as_deref() };
        let (phase, is_leader) = (self.phase, self.leader == join.member_id);
        let member = match self.member_mut(caller) {
            Ok(member) => member,
            Err(error) => {
                return Outcome::Ready(Err(Refused { error, member_id: join.member_id.clone() }));
            }
        };
        let changed = member.protocols != join.protocols;
        member.follow(join, now_ms);
        let stands = match phase {
            // The answer was lost on its way.
            Phase::Completing => !changed,
            // A leader asks because something it watches has changed.
            Phase::Stable => !changed && !is_leader,
            Phase::Empty | Phase::Preparing => false,
        };
        if stands {
            return Outcome::Ready(Ok(self.joined(&join.member_id)));
        }
        self.prepare(now_ms);
        self.wait_for_join(&join.member_id, now_ms)
    }

    fn wait_for_join(&mut self, member_id: &str, now_ms: i64) -> Outcome<Joined, Refused> {
        let ticket = self.new_ticket();
        if let Some(member) = self.members.get_mut(member_id) {
            member.waiting = Waiting::Join;
            member.ticket = ticket;
        }
        self.complete_if_due(now_ms);
        self.take_join(Caller { member_id, instance_id: None }, ticket)
    }

    /// Asks again for the answer to a join which had to wait.
    pub fn take_join(&mut self, caller: Caller<'_>, ticket: Ticket) -> Outcome<Joined, Refused> {
        let member_id = caller.member_id.to_owned();
        let answer = match self.member_mut(caller) {
            Err(error) => Err(error),
            Ok(member) if member.ticket != ticket => Err(ResponseError::RebalanceInProgress),
            Ok(member) => match std::mem::replace(&mut member.waiting, Waiting::Nothing) {
                Waiting::Joined(joined) => Ok(joined),
                Waiting::Join => {
                    member.waiting = Waiting::Join;
                    return Outcome::Wait { member_id, ticket };
                }
                _ => Err(ResponseError::RebalanceInProgress),
            },
        };
        Outcome::Ready(answer.map_err(|error| Refused { error, member_id }))
    }

    /// Takes the leader's assignments, or waits for them.
    pub fn sync(
        &mut self,
        caller: Caller<'_>,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
        now_ms: i64,
    ) -> Outcome<Bytes, ResponseError> {
        let (phase, current) = (self.phase, self.generation);
        let ticket = self.new_ticket();
        let member = match self.member_mut(caller) {
            Ok(member) => member,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        if generation != current {
            return Outcome::Ready(Err(ResponseError::IllegalGeneration));
        }
        member.silent_from_ms = now_ms;
        match phase {
            Phase::Empty => return Outcome::Ready(Err(ResponseError::UnknownMemberId)),
            Phase::Preparing => return Outcome::Ready(Err(ResponseError::RebalanceInProgress)),
            Phase::Stable => {
                let assignment = member.assignment.clone();
                self.unsynced.remove(caller.member_id);
                return Outcome::Ready(Ok(assignment));
            }
            Phase::Completing => {}
        }
        member.waiting = Waiting::Sync;
        member.ticket = ticket;
        self.unsynced.remove(caller.member_id);
        if self.leader == caller.member_id {
            self.assign(assignments, now_ms);
        }
        self.take_sync(caller, ticket)
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now_ms: i64) {
        let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        for (member_id, member) in &mut self.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
            if matches!(member.waiting, Waiting::Sync) {
                member.waiting = Waiting::Synced(Ok(member.assignment.clone()));
                member.silent_from_ms = now_ms;
            }
        }
        self.phase = Phase::Stable;
    }

    /// Asks again for the answer to a sync which had to wait.
    pub fn take_sync(
        &mut self,
        caller: Caller<'_>,
        ticket: Ticket,
    ) -> Outcome<Bytes, ResponseError> {
        let answer = match self.member_mut(caller) {
            Err(error) => Err(error),
            Ok(member) if member.ticket != ticket => Err(ResponseError::RebalanceInProgress),
            Ok(member) => match std::mem::replace(&mut member.waiting, Waiting::Nothing) {
                Waiting::Synced(answer) => answer,
                Waiting::Sync => {
                    member.waiting = Waiting::Sync;
                    return Outcome::Wait { member_id: caller.member_id.to_owned(), ticket };
                }
                _ => Err(ResponseError::RebalanceInProgress),
            },
        };
        Outcome::Ready(answer)
    }

    /// Notes that a member lives.
    ///
    /// # Errors
    /// `RebalanceInProgress` tells it to join again; `UnknownMemberId`, `FencedInstanceId`, `IllegalGeneration`.
    pub fn heartbeat(
        &mut self,
        caller: Caller<'_>,
        generation: i32,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let (phase, current) = (self.phase, self.generation);
        let member = self.member_mut(caller)?;
        if generation != current {
            return Err(ResponseError::IllegalGeneration);
        }
        member.silent_from_ms = now_ms;
        if phase == Phase::Preparing { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Lets a member go. A static member may be named by its instance id alone.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`.
    pub fn leave(&mut self, caller: Caller<'_>, now_ms: i64) -> Result<(), ResponseError> {
        if self.pending.remove(caller.member_id).is_some() {
            self.complete_if_due(now_ms);
            return Ok(());
        }
        let holder = caller.instance_id.and_then(|i| self.instances.get(i)).cloned();
        let member_id = match holder {
            Some(holder) if caller.member_id.is_empty() => holder,
            _ => {
                self.member_mut(caller)?;
                caller.member_id.to_owned()
            }
        };
        self.remove(&member_id, now_ms);
        Ok(())
    }

    /// Checks that the caller may commit offsets; `transactional` commits need no membership, and may come mid-rebalance.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`, `IllegalGeneration`, `RebalanceInProgress`.
    pub fn check_commit(
        &mut self,
        caller: Caller<'_>,
        generation: i32,
        transactional: bool,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        if generation < 0 && caller.member_id.is_empty() && caller.instance_id.is_none() {
            return if transactional { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        let (phase, current) = (self.phase, self.generation);
        let member = self.member_mut(caller)?;
        if generation != current {
            return Err(ResponseError::IllegalGeneration);
        }
        if transactional {
            return Ok(());
        }
        if phase == Phase::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        member.silent_from_ms = now_ms;
        Ok(())
    }

    fn member_mut(&mut self, caller: Caller<'_>) -> Result<&mut Member, ResponseError> {
        if let Some(instance_id) = caller.instance_id {
            let holder = self.instances.get(instance_id).ok_or(ResponseError::UnknownMemberId)?;
            if holder != caller.member_id {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        self.members.get_mut(caller.member_id).ok_or(ResponseError::UnknownMemberId)
    }

    fn new_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}
