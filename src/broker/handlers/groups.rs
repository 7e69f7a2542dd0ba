//! FindCoordinator, the consumer group APIs and the offsets.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::super::group::{Caller, Described, Group, Join, Joined, Outcome, Refused};
use super::super::ids::TopicPartition;
use super::super::offsets::{Offsets, Position};
use super::super::state::State;
use super::admin::NODE;
use super::{Ask, GroupWait, Turn, Waiting, code, text};

/// A join or sync ends by a change; rebalances have their own deadlines, which are changes too.
const NO_DEADLINE: i64 = i64::MAX;

pub fn find_coordinator(
    state: &mut State,
    ask: &Ask<'_>,
    _: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let (host, port) = &state.settings().advertised;
    FindCoordinatorResponse::default()
        .with_error_code(code(ask.gate))
        .with_node_id(NODE)
        .with_host(text(host.as_str()))
        .with_port(i32::from(*port))
}

pub fn join(
    state: &mut State,
    ask: &Ask<'_>,
    request: JoinGroupRequest,
) -> Turn<JoinGroupResponse> {
    let member_id = request.member_id.to_string();
    if let Err(error) = ask.gate {
        return Turn::Ready(join_response(Err(Refused { error, member_id })));
    }
    let session_ms = i64::from(request.session_timeout_ms);
    let instance_id = request.group_instance_id.map(|i| i.to_string());
    let join = Join {
        member_id,
        instance_id: instance_id.clone(),
        client_id: ask.call.client_id.clone(),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|p| (p.name.to_string(), p.metadata))
            .collect(),
        session_ms,
        // Version 0 has one timeout for both.
        rebalance_ms: if ask.call.version == 0 {
            session_ms
        } else {
            i64::from(request.rebalance_timeout_ms)
        },
        takes_member_id: ask.call.version >= 4,
    };
    let outcome = state.join(request.group_id.as_str(), join, ask.now_ms);
    join_turn(outcome, request.group_id.to_string(), instance_id)
}

pub fn resume_join(state: &mut State, wait: GroupWait) -> Turn<JoinGroupResponse> {
    let caller = Caller { member_id: &wait.member_id, instance_id: wait.instance_id.as_deref() };
    // Taking an answer is not a change anyone waits for.
    let outcome = match state.waited_group(&wait.group_id) {
        Some(group) => group.take_join(caller, wait.ticket),
        None => {
            let member_id = wait.member_id.clone();
            Outcome::Ready(Err(Refused { error: ResponseError::UnknownMemberId, member_id }))
        }
    };
    join_turn(outcome, wait.group_id, wait.instance_id)
}

fn join_turn(
    outcome: Outcome<Joined, Refused>,
    group_id: String,
    instance_id: Option<String>,
) -> Turn<JoinGroupResponse> {
    match outcome {
        Outcome::Ready(result) => Turn::Ready(join_response(result)),
        Outcome::Wait { member_id, ticket } => Turn::Wait(
            NO_DEADLINE,
            Waiting::Join(GroupWait { group_id, member_id, instance_id, ticket }),
        ),
    }
}

fn join_response(result: Result<Joined, Refused>) -> JoinGroupResponse {
    let response = JoinGroupResponse::default();
    match result {
        Err(refused) => response
            .with_error_code(refused.error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::default()))
            .with_member_id(text(refused.member_id)),
        Ok(joined) => {
            let members = joined.members.into_iter().map(|m| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(m.member_id))
                    .with_group_instance_id(m.instance_id.map(text))
                    .with_metadata(m.metadata)
            });
            response
                .with_generation_id(joined.generation)
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader))
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
    }
}

pub fn sync(
    state: &mut State,
    ask: &Ask<'_>,
    request: SyncGroupRequest,
) -> Turn<SyncGroupResponse> {
    let caller = caller(&request.member_id, request.group_instance_id.as_ref());
    let assignments =
        request.assignments.into_iter().map(|a| (a.member_id.to_string(), a.assignment)).collect();
    let outcome = match (ask.gate, state.existing_group(request.group_id.as_str())) {
        (Err(error), _) => Outcome::Ready(Err(error)),
        (Ok(()), None) => Outcome::Ready(Err(ResponseError::UnknownMemberId)),
        (Ok(()), Some(group)) => group.sync(caller, request.generation_id, assignments, ask.now_ms),
    };
    sync_turn(outcome, request.group_id.to_string(), caller.instance_id.map(str::to_owned))
}

pub fn resume_sync(state: &mut State, wait: GroupWait) -> Turn<SyncGroupResponse> {
    let caller = Caller { member_id: &wait.member_id, instance_id: wait.instance_id.as_deref() };
    let outcome = match state.waited_group(&wait.group_id) {
        Some(group) => group.take_sync(caller, wait.ticket),
        None => Outcome::Ready(Err(ResponseError::UnknownMemberId)),
    };
    sync_turn(outcome, wait.group_id, wait.instance_id)
}

fn sync_turn(
    outcome: Outcome<Bytes, ResponseError>,
    group_id: String,
    instance_id: Option<String>,
) -> Turn<SyncGroupResponse> {
    match outcome {
        Outcome::Ready(Ok(assignment)) => {
            Turn::Ready(SyncGroupResponse::default().with_assignment(assignment))
        }
        Outcome::Ready(Err(error)) => {
            Turn::Ready(SyncGroupResponse::default().with_error_code(error.code()))
        }
        Outcome::Wait { member_id, ticket } => Turn::Wait(
            NO_DEADLINE,
            Waiting::Sync(GroupWait { group_id, member_id, instance_id, ticket }),
        ),
    }
}

pub fn heartbeat(state: &mut State, ask: &Ask<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let caller = caller(&request.member_id, request.group_instance_id.as_ref());
    let alive = ask.gate.and_then(|()| {
        // A heartbeat changes nothing anyone waits for.
        let group =
            state.waited_group(request.group_id.as_str()).ok_or(ResponseError::UnknownMemberId)?;
        group.heartbeat(caller, request.generation_id, ask.now_ms)
    });
    HeartbeatResponse::default().with_error_code(code(alive))
}

pub fn leave(state: &mut State, ask: &Ask<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let group_id = request.group_id.as_str();
    let mut leave_one = |caller: Caller<'_>| {
        ask.gate.and_then(|()| {
            state
                .existing_group(group_id)
                .ok_or(ResponseError::UnknownMemberId)?
                .leave(caller, ask.now_ms)
        })
    };
    if ask.call.version < 3 {
        let left = leave_one(caller(&request.member_id, None));
        return LeaveGroupResponse::default().with_error_code(code(left));
    }
    let members = request.members.iter().map(|m| {
        let left = leave_one(caller(&m.member_id, m.group_instance_id.as_ref()));
        MemberResponse::default()
            .with_member_id(m.member_id.clone())
            .with_group_instance_id(m.group_instance_id.clone())
            .with_error_code(code(left))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

pub fn offset_commit(
    state: &mut State,
    ask: &Ask<'_>,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group_id = request.group_id.as_str();
    let caller = caller(&request.member_id, request.group_instance_id.as_ref());
    let allowed = ask.gate.and_then(|()| {
        let generation = request.generation_id_or_member_epoch;
        state.group_or_new(group_id)?.check_commit(caller, generation, false, ask.now_ms)
    });
    let mut response = OffsetCommitResponse::default();
    for topic in request.topics {
        let mut results = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for p in topic.partitions {
            let at = TopicPartition::new(topic.name.as_str(), p.partition_index);
            let metadata = p.committed_metadata.as_ref().map_or("", |m| m.as_str());
            let kept = allowed.and_then(|()| {
                state.log(&at)?;
                let position =
                    Position::new(p.committed_offset, p.committed_leader_epoch, metadata)?;
                state.group_or_new(group_id)?.offsets.commit(at, position);
                Ok(())
            });
            let result = OffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(kept));
            results.partitions.push(result);
        }
        response.topics.push(results);
    }
    response
}

pub fn offset_fetch(
    state: &mut State,
    ask: &Ask<'_>,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let none = Offsets::default();
    let offsets = state.group(request.group_id.as_str()).map_or(&none, |group| &group.offsets);
    let wanted: Vec<TopicPartition> = match &request.topics {
        None => offsets.partitions(),
        Some(topics) => topics
            .iter()
            .flat_map(|t| {
                t.partition_indexes.iter().map(|p| TopicPartition::new(t.name.as_str(), *p))
            })
            .collect(),
    };
    let mut response = OffsetFetchResponse::default().with_error_code(code(ask.gate));
    for at in wanted {
        let found = ask.gate.and_then(|()| offsets.fetch(&at, request.require_stable));
        let position = found.ok().flatten();
        let result = OffsetFetchResponsePartition::default()
            .with_partition_index(at.partition)
            .with_committed_offset(position.map_or(-1, |p| p.offset))
            .with_committed_leader_epoch(position.map_or(-1, |p| p.leader_epoch))
            .with_metadata(Some(
                position.map_or_else(StrBytes::default, |p| text(p.metadata.as_str())),
            ))
            .with_error_code(code(found));
        // Partitions of one topic come one after another.
        match response.topics.last_mut() {
            Some(topic) if topic.name.as_str() == at.topic => topic.partitions.push(result),
            _ => {
                let name = TopicName(text(at.topic));
                let topic = OffsetFetchResponseTopic::default()
                    .with_name(name)
                    .with_partitions(vec![result]);
                response.topics.push(topic);
            }
        }
    }
    response
}

pub fn list(state: &mut State, ask: &Ask<'_>, _: ListGroupsRequest) -> ListGroupsResponse {
    let listed = |(id, group): (&str, &Group)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_protocol_type(text(group.protocol_type()))
    };
    let groups = if ask.gate.is_ok() { state.groups().map(listed).collect() } else { Vec::new() };
    ListGroupsResponse::default().with_error_code(code(ask.gate)).with_groups(groups)
}

pub fn describe(
    state: &mut State,
    ask: &Ask<'_>,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let described = DescribedGroup::default()
            .with_error_code(code(ask.gate))
            .with_authorized_operations(i32::MIN)
            .with_group_id(id.clone());
        match (ask.gate, state.group(id.as_str())) {
            // Kafka calls a group it does not know dead.
            (_, None) | (Err(_), _) => described.with_group_state(text("Dead")),
            (Ok(()), Some(group)) => described
                .with_group_state(text(group.phase().name()))
                .with_protocol_type(text(group.protocol_type()))
                .with_protocol_data(text(group.protocol()))
                .with_members(group.members().map(described_member).collect()),
        }
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn described_member(member: Described<'_>) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(member.member_id))
        .with_group_instance_id(member.instance_id.map(text))
        .with_client_id(text(member.client_id))
        .with_client_host(text("/127.0.0.1"))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment.clone())
}

fn caller<'a>(member_id: &'a StrBytes, instance_id: Option<&'a StrBytes>) -> Caller<'a> {
    Caller { member_id: member_id.as_str(), instance_id: instance_id.map(StrBytes::as_str) }
}
