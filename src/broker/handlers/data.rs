//! Produce, Fetch and ListOffsets.

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse, ProducerId, TopicName,
};

use super::super::ids::TopicPartition;
use super::super::log::{Isolation, LogBounds, Slice};
use super::super::state::State;
use super::{Ask, Call, Gate, Host, Step, Turn, Waiting, WireError, code, conclude, reply};

/// Greatest response to a fetch, whatever the client allows, as Kafka's `fetch.max.bytes`.
const FETCH_BYTES_MAX: usize = 55 * 1024 * 1024;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

pub fn produce(
    host: &impl Host,
    call: &Call,
    request: ProduceRequest,
    gate: Gate,
) -> Result<Step, WireError> {
    let wants_answer = request.acks != 0;
    let response = host.with(|state, _| produce_all(state, request, gate));
    if wants_answer { reply(call, &response) } else { Ok(Step::Silent) }
}

fn produce_all(state: &mut State, request: ProduceRequest, gate: Gate) -> ProduceResponse {
    let transactional_id = request.transactional_id.as_ref().map(|id| id.0.as_str());
    let mut response = ProduceResponse::default();
    for topic in request.topic_data {
        let mut answers = TopicProduceResponse::default().with_name(topic.name.clone());
        for data in topic.partition_data {
            let at = TopicPartition::new(topic.name.as_str(), data.index);
            let batch = data.records.unwrap_or_default();
            let appended = gate.and_then(|()| state.produce(transactional_id, &at, &batch));
            let log_start = state.log(&at).map_or(-1, |log| log.bounds().start);
            let answer = PartitionProduceResponse::default()
                .with_index(data.index)
                .with_error_code(code(appended))
                .with_base_offset(appended.map_or(-1, |a| a.base_offset))
                .with_log_append_time_ms(-1)
                .with_log_start_offset(log_start);
            answers.partition_responses.push(answer);
        }
        response.responses.push(answers);
    }
    response
}

/// What one partition gave, before it is made into a response outside of the lock.
struct Read {
    partition: i32,
    bounds: LogBounds,
    slice: Result<Slice, ResponseError>,
}

struct Reads {
    topics: Vec<(TopicName, Vec<Read>)>,
    bytes: usize,
    failed: bool,
}

pub fn fetch_or_fault(
    host: &impl Host,
    call: &Call,
    request: FetchRequest,
    gate: Gate,
) -> Result<Step, WireError> {
    let Err(error) = gate else {
        return fetch(host, call, request, None);
    };
    let mut response = FetchResponse::default();
    for topic in request.topics {
        let failed =
            |p: i32| partition_data(Read { partition: p, bounds: NO_BOUNDS, slice: Err(error) });
        let partitions = topic.partitions.iter().map(|p| failed(p.partition)).collect();
        response.responses.push(
            FetchableTopicResponse::default().with_topic(topic.topic).with_partitions(partitions),
        );
    }
    reply(call, &response)
}

/// Reads what there is, or waits for `min_bytes` until the deadline, which the first try sets.
pub fn fetch(
    host: &impl Host,
    call: &Call,
    request: FetchRequest,
    deadline_ms: Option<i64>,
) -> Result<Step, WireError> {
    let enough = usize::try_from(request.min_bytes).unwrap_or(0);
    let (reads, deadline_ms, due) = host.with(|state, now_ms| {
        let wait_ms = i64::from(request.max_wait_ms.max(0));
        let deadline_ms = deadline_ms.unwrap_or(now_ms.saturating_add(wait_ms));
        (read_all(state, &request), deadline_ms, now_ms >= deadline_ms)
    });
    if due || reads.failed || reads.bytes >= enough {
        return reply(call, &fetch_response(reads));
    }
    let wait = Turn::Wait(deadline_ms, Waiting::Fetch(Box::new(request)));
    conclude::<FetchResponse>(call, wait)
}

fn read_all(state: &State, request: &FetchRequest) -> Reads {
    let isolation = isolation(request.isolation_level);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let mut reads =
        Reads { topics: Vec::with_capacity(request.topics.len()), bytes: 0, failed: false };
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let at = TopicPartition::new(topic.topic.as_str(), wanted.partition);
            let left = bytes_max.saturating_sub(reads.bytes);
            let limit = left.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
            // The first batch of a response may exceed every limit, or a large one could never be read (KIP-74).
            let at_least_one = reads.bytes == 0;
            let log = state.log(&at);
            let bounds = log.map_or(NO_BOUNDS, |log| log.bounds());
            let slice =
                log.and_then(|log| log.read(wanted.fetch_offset, isolation, limit, at_least_one));
            reads.failed |= slice.is_err();
            reads.bytes += slice.as_ref().map_or(0, |s| s.bytes);
            partitions.push(Read { partition: wanted.partition, bounds, slice });
        }
        reads.topics.push((topic.topic.clone(), partitions));
    }
    reads
}

fn fetch_response(reads: Reads) -> FetchResponse {
    let mut response = FetchResponse::default();
    for (topic, partitions) in reads.topics {
        let partitions = partitions.into_iter().map(partition_data).collect();
        response
            .responses
            .push(FetchableTopicResponse::default().with_topic(topic).with_partitions(partitions));
    }
    response
}

const NO_BOUNDS: LogBounds = LogBounds { start: -1, stable: -1, end: -1 };

fn partition_data(read: Read) -> PartitionData {
    let data = PartitionData::default()
        .with_partition_index(read.partition)
        .with_preferred_read_replica(BrokerId(-1))
        .with_high_watermark(read.bounds.end)
        .with_last_stable_offset(read.bounds.stable)
        .with_log_start_offset(read.bounds.start);
    match read.slice {
        Err(error) => data
            .with_error_code(error.code())
            .with_aborted_transactions(None)
            .with_records(Some(Bytes::new())),
        Ok(slice) => {
            let aborted = |a: &super::super::log::Aborted| {
                let producer_id = ProducerId(a.producer_id);
                AbortedTransaction::default()
                    .with_producer_id(producer_id)
                    .with_first_offset(a.first_offset)
            };
            data.with_aborted_transactions(Some(slice.aborted.iter().map(aborted).collect()))
                .with_records(Some(joined(&slice)))
        }
    }
}

fn joined(slice: &Slice) -> Bytes {
    if let [only] = slice.batches.as_slice() {
        return only.clone();
    }
    let mut out = BytesMut::with_capacity(slice.bytes);
    for batch in &slice.batches {
        out.extend_from_slice(batch);
    }
    out.freeze()
}

pub fn list_offsets(
    state: &mut State,
    ask: &Ask<'_>,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = isolation(request.isolation_level);
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let mut answers = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let at = TopicPartition::new(topic.name.as_str(), wanted.partition_index);
            let found = ask.gate.and_then(|()| offset_for(state, &at, wanted.timestamp, isolation));
            let (offset, timestamp) = found.unwrap_or((-1, -1));
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code(found))
                .with_timestamp(timestamp)
                .with_offset(offset);
            answers.partitions.push(answer);
        }
        response.topics.push(answers);
    }
    response
}

fn offset_for(
    state: &State,
    at: &TopicPartition,
    timestamp: i64,
    isolation: Isolation,
) -> Result<(i64, i64), ResponseError> {
    let log = state.log(at)?;
    let bounds = log.bounds();
    Ok(match (timestamp, isolation) {
        (LATEST, Isolation::ReadUncommitted) => (bounds.end, -1),
        (LATEST, Isolation::ReadCommitted) => (bounds.stable, -1),
        (EARLIEST, _) => (bounds.start, -1),
        _ => log.offset_at_time(timestamp, isolation).unwrap_or((-1, -1)),
    })
}

fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}
