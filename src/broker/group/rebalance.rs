//! How a group comes from one generation to the next: who is dropped, when a rebalance is over, who leads, what is chosen.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;

use super::member::{Member, Waiting};
use super::{Group, Joined, JoinedMember, Phase};

impl Group {
    /// Lets time pass: drops the silent, completes what is due. Gives `true` if anything changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        let before = (self.phase, self.generation, self.members.len(), self.pending.len());
        self.pending.retain(|_, lapses_ms| *lapses_ms > now_ms);
        let silent = |m: &Member| m.deadline_ms().is_some_and(|deadline| deadline <= now_ms);
        let mut gone: Vec<_> =
            self.members.iter().filter(|(_, m)| silent(m)).map(|(id, _)| id.clone()).collect();
        if self.waits_for_syncs() && self.deadline_ms <= now_ms {
            gone.extend(self.unsynced.iter().cloned());
        }
        for member_id in gone {
            self.remove(&member_id, now_ms);
        }
        self.complete_if_due(now_ms);
        before != (self.phase, self.generation, self.members.len(), self.pending.len())
    }

    /// When [`Group::tick`] next has something to do.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let members = self.members.values().filter_map(Member::deadline_ms);
        let rebalance = match self.phase {
            Phase::Preparing if self.all_joined() => Some(self.not_before_ms.min(self.deadline_ms)),
            Phase::Preparing => Some(self.deadline_ms),
            _ if self.waits_for_syncs() => Some(self.deadline_ms),
            _ => None,
        };
        members.chain(self.pending.values().copied()).chain(rebalance).min()
    }

    fn waits_for_syncs(&self) -> bool {
        matches!(self.phase, Phase::Completing | Phase::Stable) && !self.unsynced.is_empty()
    }

    pub(super) fn remove(&mut self, member_id: &str, now_ms: i64) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(instance_id) = member.instance_id {
            self.instances.remove(&instance_id);
        }
        self.unsynced.remove(member_id);
        self.prepare(now_ms);
        self.complete_if_due(now_ms);
    }

    /// Begins a rebalance, unless one has begun.
    pub(super) fn prepare(&mut self, now_ms: i64) {
        if self.phase == Phase::Preparing {
            return;
        }
        for member in self.members.values_mut() {
            if matches!(member.waiting, Waiting::Sync) {
                member.waiting = Waiting::Synced(Err(ResponseError::RebalanceInProgress));
            }
        }
        self.unsynced.clear();
        self.phase = Phase::Preparing;
        self.not_before_ms = now_ms;
        self.deadline_ms = now_ms.saturating_add(self.rebalance_ms());
    }

    fn rebalance_ms(&self) -> i64 {
        self.members.values().map(|m| m.rebalance_ms).max().unwrap_or(0)
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(Member::has_joined)
    }

    pub(super) fn complete_if_due(&mut self, now_ms: i64) {
        if self.phase != Phase::Preparing {
            return;
        }
        let due = self.members.is_empty() || (self.all_joined() && now_ms >= self.not_before_ms);
        if due || now_ms >= self.deadline_ms {
            self.complete(now_ms);
        }
    }

    /// Makes the next generation of those who have joined, and of static members, who may come back until they expire.
    fn complete(&mut self, now_ms: i64) {
        self.members.retain(|_, m| m.has_joined() || m.instance_id.is_some());
        self.deadline_ms = now_ms.saturating_add(self.rebalance_ms());
        if self.members.is_empty() {
            self.generation += 1;
            self.phase = Phase::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        }
        let joined: BTreeSet<_> =
            self.members.iter().filter(|(_, m)| m.has_joined()).map(|(id, _)| id.clone()).collect();
        let Some(first) = joined.first() else { return };
        if !joined.contains(&self.leader) {
            self.leader.clone_from(first);
        }
        self.generation += 1;
        self.phase = Phase::Completing;
        self.protocol = self.select_protocol();
        for member_id in &joined {
            let answer = self.joined(member_id);
            if let Some(member) = self.members.get_mut(member_id) {
                member.waiting = Waiting::Joined(answer);
                member.silent_from_ms = now_ms;
            }
        }
        self.unsynced = joined;
    }

    /// The answer to a join from the present generation.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let seen_by_leader = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&self.protocol),
        };
        let is_leader = self.leader == member_id;
        Joined {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: if is_leader {
                self.members.iter().map(seen_by_leader).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// Each member votes for the first of its protocols which all support; the most votes win, then the lesser name.
    pub(super) fn select_protocol(&self) -> String {
        let common = |name: &str| self.members.values().all(|m| m.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .iter()
            .rev()
            .max_by_key(|(_, count)| **count)
            .map(|(name, _)| (*name).to_owned())
            .unwrap_or_default()
    }
}
