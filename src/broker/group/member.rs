//! What a group keeps of one member. Private to the group: it alone moves a member from one state to the next.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::kinds::{Join, Joined, Ticket};

/// What a member waits for, or the answer it has not taken yet.
#[derive(Debug)]
pub enum Waiting {
    Nothing,
    Join,
    Joined(Joined),
    Sync,
    Synced(Result<Bytes, ResponseError>),
}

/// One member.
#[derive(Debug)]
pub struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub protocols: Vec<(String, Bytes)>,
    pub session_ms: i64,
    pub rebalance_ms: i64,
    pub silent_from_ms: i64,
    pub assignment: Bytes,
    pub waiting: Waiting,
    pub ticket: Ticket,
}

impl Member {
    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, m)| m.clone())
            .unwrap_or_default()
    }

    /// A member which waits for an answer is alive: it cannot heartbeat meanwhile.
    pub fn deadline_ms(&self) -> Option<i64> {
        match self.waiting {
            Waiting::Join | Waiting::Sync => None,
            _ => Some(self.silent_from_ms.saturating_add(self.session_ms)),
        }
    }

    pub fn has_joined(&self) -> bool {
        matches!(self.waiting, Waiting::Join)
    }

    pub fn follow(&mut self, join: &Join, now_ms: i64) {
        self.protocols.clone_from(&join.protocols);
        self.session_ms = join.session_ms;
        self.rebalance_ms = join.rebalance_ms;
        self.client_id.clone_from(&join.client_id);
        self.silent_from_ms = now_ms;
    }
}
