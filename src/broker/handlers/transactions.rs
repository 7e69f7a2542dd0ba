//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit and EndTxn.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::super::group::Caller;
use super::super::ids::{Producer, TopicPartition};
use super::super::offsets::Position;
use super::super::state::State;
use super::{Ask, code};

pub fn init(
    state: &mut State,
    ask: &Ask<'_>,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let current = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let current = (current.id >= 0).then_some(current);
    let given = ask.gate.and_then(|()| match &request.transactional_id {
        None => Ok(state.idempotent_producer()),
        Some(id) => {
            state.init_producer(id.as_str(), current, request.transaction_timeout_ms, ask.now_ms)
        }
    });
    let given = given.map_err(|error| match error {
        // The new name came with version 4 (KIP-588).
        ResponseError::ProducerFenced if ask.call.version < 4 => {
            ResponseError::InvalidProducerEpoch
        }
        other => other,
    });
    let producer = given.unwrap_or(Producer { id: -1, epoch: -1 });
    InitProducerIdResponse::default()
        .with_error_code(code(given))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
}

/// All partitions are added or none: if one is unknown, the others are answered with `OperationNotAttempted`.
pub fn add_partitions(
    state: &mut State,
    ask: &Ask<'_>,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let id = request.v3_and_below_transactional_id.as_str();
    let producer = Producer {
        id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let topics = &request.v3_and_below_topics;
    let wanted: Vec<_> = topics
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| TopicPartition::new(t.name.as_str(), *p)))
        .collect();
    let all_known = wanted.iter().all(|at| state.log(at).is_ok());
    let added = match ask.gate {
        Ok(()) if all_known => state.add_partitions(id, producer, wanted, ask.now_ms),
        Ok(()) => Err(ResponseError::OperationNotAttempted),
        Err(error) => Err(error),
    };
    let mut response = AddPartitionsToTxnResponse::default();
    for topic in topics {
        let mut results = AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone());
        for partition in &topic.partitions {
            let known =
                state.log(&TopicPartition::new(topic.name.as_str(), *partition)).map(|_| ());
            let result = AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code(ask.gate.and(known).and(added)));
            results.results_by_partition.push(result);
        }
        response.results_by_topic_v3_and_below.push(results);
    }
    response
}

pub fn add_offsets(
    state: &mut State,
    ask: &Ask<'_>,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let (id, group) = (request.transactional_id.as_str(), request.group_id.as_str());
    let added = ask.gate.and_then(|()| state.add_group(id, producer, group, ask.now_ms));
    AddOffsetsToTxnResponse::default().with_error_code(code(added))
}

pub fn commit_offsets(
    state: &mut State,
    ask: &Ask<'_>,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let allowed = ask.gate.and_then(|()| check_commit(state, &request, producer, ask.now_ms));
    let mut response = TxnOffsetCommitResponse::default();
    for topic in request.topics {
        let mut results = TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for p in topic.partitions {
            let at = TopicPartition::new(topic.name.as_str(), p.partition_index);
            let metadata = p.committed_metadata.as_ref().map_or("", |m| m.as_str());
            let kept = allowed.and_then(|()| {
                state.log(&at)?;
                let position =
                    Position::new(p.committed_offset, p.committed_leader_epoch, metadata)?;
                let group = state.group_or_new(request.group_id.as_str())?;
                group.offsets.commit_with_transaction(producer.id, at, position);
                Ok(())
            });
            let result = TxnOffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(kept));
            results.partitions.push(result);
        }
        response.topics.push(results);
    }
    response
}

fn check_commit(
    state: &mut State,
    request: &TxnOffsetCommitRequest,
    producer: Producer,
    now_ms: i64,
) -> Result<(), ResponseError> {
    let group_id = request.group_id.as_str();
    let caller = Caller {
        member_id: request.member_id.as_str(),
        instance_id: request.group_instance_id.as_ref().map(|i| i.as_str()),
    };
    state.verify_group(request.transactional_id.as_str(), producer, group_id)?;
    state.group_or_new(group_id)?.check_commit(caller, request.generation_id, true, now_ms)
}

pub fn end(state: &mut State, ask: &Ask<'_>, request: EndTxnRequest) -> EndTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let id = request.transactional_id.as_str();
    let ended =
        ask.gate.and_then(|()| state.end_transaction(id, producer, request.committed, ask.now_ms));
    EndTxnResponse::default().with_error_code(code(ended))
}
