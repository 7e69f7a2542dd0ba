//! What goes into and comes out of a group: plain values without behaviour of their own.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

/// What a group needs to know of its broker.
#[derive(Debug, Clone, Copy)]
pub struct GroupSettings {
    /// How long the first rebalance of an empty group waits for more members, milliseconds.
    pub initial_delay_ms: i64,
    /// Shortest session timeout a member may ask for, milliseconds.
    pub session_ms_min: i64,
}

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No members; offsets may be there.
    Empty,
    /// Waits for the members to join.
    Preparing,
    /// Waits for the leader's assignment.
    Completing,
    /// Every member has its assignment.
    Stable,
}

impl Phase {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Preparing => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}

/// A request to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Empty for a new member.
    pub member_id: String,
    /// Present for a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Always `consumer` for consumers.
    pub protocol_type: String,
    /// Assignors the member can follow, best first, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// Silence after which the member is thought dead.
    pub session_ms: i64,
    /// Time the member may take to join again.
    pub rebalance_ms: i64,
    /// The client understands `MemberIdRequired`.
    pub takes_member_id: bool,
}

/// Who asks, in every request after the join.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The member.
    pub member_id: &'a str,
    /// Present for a static member.
    pub instance_id: Option<&'a str>,
}

/// One member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member's id.
    pub member_id: String,
    /// Present for a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The member's own id.
    pub member_id: String,
    /// The generation it is in.
    pub generation: i32,
    /// The chosen assignor.
    pub protocol: String,
    /// Who assigns.
    pub leader: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A refused join. `MemberIdRequired` carries the id to come back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: ResponseError,
    /// The id to use from now on, or the one that was refused.
    pub member_id: String,
}

/// Tells one waiting request of a member from a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub(super) u64);

/// An answer, or the need to ask again.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T, E> {
    /// The answer.
    Ready(Result<T, E>),
    /// Ask again with the member's id and the ticket.
    Wait {
        /// Who waits.
        member_id: String,
        /// Which of its requests waits.
        ticket: Ticket,
    },
}

/// A member as an operator sees it.
#[derive(Debug)]
pub struct Described<'a> {
    /// The member's id.
    pub member_id: &'a str,
    /// Present for a static member.
    pub instance_id: Option<&'a str>,
    /// The client's name for itself.
    pub client_id: &'a str,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: &'a Bytes,
}
