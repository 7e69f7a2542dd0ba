//! From bytes to bytes: one request frame in, one response frame out, or a wait.
//!
//! Owns the wire: which APIs and versions are spoken, headers, the shape of requests. What a request means is in the
//! state; what it looks like is here and in the files beside: `data`, `admin`, `groups`, `transactions`. No socket and
//! no lock: a [`Host`] lends the state, so that decoding and encoding happen outside of its lock.

mod admin;
mod data;
mod groups;
mod shape;
#[cfg(test)]
mod tests;
mod transactions;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::faults::Fault;
use super::group::Ticket;
use super::state::State;

/// Lends the state and the time to a request.
pub trait Host {
    /// Runs `work` with the state locked and the present time in milliseconds since the epoch.
    fn with<T>(&self, work: impl FnOnce(&mut State, i64) -> T) -> T;
}

/// A request that cannot be understood. Its connection is closed, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The frame is too short for its header.
    #[error("request header of {0} bytes is cut short")]
    Header(usize),
    /// The API is not spoken, or not in this version.
    #[error("api key {api_key} version {version} is not supported")]
    Unsupported {
        /// The API that was asked for.
        api_key: i16,
        /// In this version.
        version: i16,
    },
    /// The body is not what its API and version say.
    #[error("malformed {api:?} request version {version}: {reason}")]
    Body {
        /// The API.
        api: ApiKey,
        /// Its version.
        version: i16,
        /// What was wrong.
        reason: String,
    },
    /// The response could not be written.
    #[error("cannot encode {api:?} response version {version}: {reason}")]
    Encode {
        /// The API.
        api: ApiKey,
        /// Its version.
        version: i16,
        /// What was wrong.
        reason: String,
    },
}

/// What to do with a connection after a request.
#[derive(Debug)]
pub enum Step {
    /// Send this frame, length included.
    Reply(BytesMut),
    /// Send nothing: the client wanted no answer.
    Silent,
    /// Ask again with [`resume`] when the state has changed or the deadline has passed.
    Wait(Box<Pending>),
    /// Close the connection, as a fault demands.
    Close,
}

/// A request which waits.
#[derive(Debug)]
pub struct Pending {
    /// Time of the answer at the latest, milliseconds since the epoch; `i64::MAX` if only a change can bring it.
    pub deadline_ms: i64,
    call: Call,
    what: Waiting,
    cut: bool,
}

#[derive(Debug)]
enum Waiting {
    Fetch(Box<kafka_protocol::messages::FetchRequest>),
    Join(GroupWait),
    Sync(GroupWait),
}

/// Whose join or sync waits.
#[derive(Debug)]
struct GroupWait {
    group_id: String,
    member_id: String,
    instance_id: Option<String>,
    ticket: Ticket,
}

/// The header of a request, as far as the answer needs it.
#[derive(Debug, Clone)]
struct Call {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: String,
}

/// An answer, or a wait until a time for a change.
enum Turn<R> {
    Ready(R),
    Wait(i64, Waiting),
}

/// Whether a request may take effect, or which error a fault wants it answered with.
type Gate = Result<(), ResponseError>;

/// What a handler needs to know beside the request itself.
struct Ask<'a> {
    call: &'a Call,
    gate: Gate,
    now_ms: i64,
}

/// The APIs that are spoken: key, first and last version.
///
/// The last versions are those before topic ids (KIP-516) and batched coordinators (KIP-699): librdkafka 2.12 needs
/// neither, and its producer speaks the transaction APIs in their first version.
const SPOKEN: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 5),
    (ApiKey::Metadata, 1, 9),
    (ApiKey::OffsetCommit, 2, 7),
    (ApiKey::OffsetFetch, 1, 7),
    (ApiKey::FindCoordinator, 0, 2),
    (ApiKey::JoinGroup, 0, 5),
    (ApiKey::Heartbeat, 0, 3),
    (ApiKey::LeaveGroup, 0, 3),
    (ApiKey::SyncGroup, 0, 3),
    (ApiKey::DescribeGroups, 0, 4),
    (ApiKey::ListGroups, 0, 2),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 4),
    (ApiKey::DeleteTopics, 1, 3),
    (ApiKey::DeleteRecords, 0, 1),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::AddPartitionsToTxn, 0, 1),
    (ApiKey::AddOffsetsToTxn, 0, 1),
    (ApiKey::EndTxn, 0, 1),
    (ApiKey::TxnOffsetCommit, 0, 3),
    (ApiKey::DescribeConfigs, 1, 3),
    (ApiKey::CreatePartitions, 0, 1),
];

/// Serves one request frame, without its length.
///
/// # Errors
/// [`WireError`] if the frame cannot be understood; the connection must be closed then.
pub fn begin(host: &impl Host, mut frame: Bytes) -> Result<Step, WireError> {
    let call = read_header(&mut frame)?;
    let fault = host.with(|state, _| state.faults.take(call.api as i16));
    let gate = match fault {
        Some(Fault::CloseBefore) => return Ok(Step::Close),
        Some(Fault::Error(code)) => code.err().map_or(Ok(()), Err),
        Some(Fault::CloseAfter) | None => Ok(()),
    };
    let step = dispatch(host, &call, gate, frame)?;
    Ok(cut_if(fault == Some(Fault::CloseAfter), step))
}

/// Asks again for the answer to a request which waits.
///
/// # Errors
/// [`WireError`] if the answer cannot be written.
pub fn resume(host: &impl Host, pending: Pending) -> Result<Step, WireError> {
    let Pending { call, what, cut, deadline_ms } = pending;
    let step = match what {
        Waiting::Fetch(request) => data::fetch(host, &call, *request, Some(deadline_ms)),
        Waiting::Join(wait) => {
            conclude(&call, host.with(|state, _| groups::resume_join(state, wait)))
        }
        Waiting::Sync(wait) => {
            conclude(&call, host.with(|state, _| groups::resume_sync(state, wait)))
        }
    }?;
    Ok(cut_if(cut, step))
}

fn cut_if(cut: bool, step: Step) -> Step {
    match step {
        Step::Wait(pending) => Step::Wait(Box::new(Pending { cut, ..*pending })),
        _ if cut => Step::Close,
        step => step,
    }
}

fn read_header(frame: &mut Bytes) -> Result<Call, WireError> {
    let length = frame.len();
    let cut_short = || WireError::Header(length);
    let mut peek = frame.clone();
    let api_key = peek.try_get_i16().map_err(|_| cut_short())?;
    let version = peek.try_get_i16().map_err(|_| cut_short())?;
    let unsupported = WireError::Unsupported { api_key, version };
    let spoken = SPOKEN.iter().find(|(api, _, _)| *api as i16 == api_key);
    let Some((api, first, last)) = spoken.copied() else {
        return Err(unsupported);
    };
    // A newer client's first question is answered in the version it is sure to know.
    let asks_versions = api == ApiKey::ApiVersions && version >= 0;
    if !(first..=last).contains(&version) && !asks_versions {
        return Err(unsupported);
    }
    let header = RequestHeader::decode(frame, api.request_header_version(version))
        .map_err(|_| cut_short())?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Call { api, version, correlation_id: header.correlation_id, client_id })
}

fn dispatch(host: &impl Host, call: &Call, gate: Gate, body: Bytes) -> Result<Step, WireError> {
    match call.api {
        ApiKey::ApiVersions => admin::api_versions(call, body),
        ApiKey::Metadata => serve(host, call, gate, body, admin::metadata),
        ApiKey::CreateTopics => serve(host, call, gate, body, admin::create_topics),
        ApiKey::DeleteTopics => serve(host, call, gate, body, admin::delete_topics),
        ApiKey::CreatePartitions => serve(host, call, gate, body, admin::create_partitions),
        ApiKey::DescribeConfigs => serve(host, call, gate, body, admin::describe_configs),
        ApiKey::DeleteRecords => serve(host, call, gate, body, admin::delete_records),
        ApiKey::Produce => data::produce(host, call, decode(call, body)?, gate),
        ApiKey::Fetch => data::fetch_or_fault(host, call, decode(call, body)?, gate),
        ApiKey::ListOffsets => serve(host, call, gate, body, data::list_offsets),
        ApiKey::FindCoordinator => serve(host, call, gate, body, groups::find_coordinator),
        ApiKey::JoinGroup => conclude(call, run(host, call, gate, body, groups::join)?),
        ApiKey::SyncGroup => conclude(call, run(host, call, gate, body, groups::sync)?),
        ApiKey::Heartbeat => serve(host, call, gate, body, groups::heartbeat),
        ApiKey::LeaveGroup => serve(host, call, gate, body, groups::leave),
        ApiKey::OffsetCommit => serve(host, call, gate, body, groups::offset_commit),
        ApiKey::OffsetFetch => serve(host, call, gate, body, groups::offset_fetch),
        ApiKey::ListGroups => serve(host, call, gate, body, groups::list),
        ApiKey::DescribeGroups => serve(host, call, gate, body, groups::describe),
        ApiKey::InitProducerId => serve(host, call, gate, body, transactions::init),
        ApiKey::AddPartitionsToTxn => serve(host, call, gate, body, transactions::add_partitions),
        ApiKey::AddOffsetsToTxn => serve(host, call, gate, body, transactions::add_offsets),
        ApiKey::TxnOffsetCommit => serve(host, call, gate, body, transactions::commit_offsets),
        ApiKey::EndTxn => serve(host, call, gate, body, transactions::end),
        _ => Err(WireError::Unsupported { api_key: call.api as i16, version: call.version }),
    }
}

/// Decodes, and runs with the state.
fn run<Q: Decodable, R>(
    host: &impl Host,
    call: &Call,
    gate: Gate,
    body: Bytes,
    work: impl FnOnce(&mut State, &Ask<'_>, Q) -> R,
) -> Result<R, WireError> {
    let request = decode(call, body)?;
    Ok(host.with(|state, now_ms| work(state, &Ask { call, gate, now_ms }, request)))
}

/// Decodes, runs with the state, encodes: the way of every request that never waits.
fn serve<Q: Decodable, R: Encodable>(
    host: &impl Host,
    call: &Call,
    gate: Gate,
    body: Bytes,
    work: impl FnOnce(&mut State, &Ask<'_>, Q) -> R,
) -> Result<Step, WireError> {
    reply(call, &run(host, call, gate, body, work)?)
}

fn conclude<R: Encodable>(call: &Call, turn: Turn<R>) -> Result<Step, WireError> {
    match turn {
        Turn::Ready(response) => reply(call, &response),
        Turn::Wait(deadline_ms, what) => {
            Ok(Step::Wait(Box::new(Pending { deadline_ms, call: call.clone(), what, cut: false })))
        }
    }
}

fn decode<Q: Decodable>(call: &Call, mut body: Bytes) -> Result<Q, WireError> {
    let malformed =
        |reason: String| WireError::Body { api: call.api, version: call.version, reason };
    shape::check(call.api, call.version, &body).map_err(|e| malformed(e.to_owned()))?;
    Q::decode(&mut body, call.version).map_err(|e| malformed(e.to_string()))
}

fn reply<R: Encodable>(call: &Call, response: &R) -> Result<Step, WireError> {
    reply_as(call, call.version, response)
}

fn reply_as<R: Encodable>(call: &Call, version: i16, response: &R) -> Result<Step, WireError> {
    let failed = |reason: String| WireError::Encode { api: call.api, version, reason };
    let header = ResponseHeader::default().with_correlation_id(call.correlation_id);
    let header_version = call.api.response_header_version(version);
    let mut out = BytesMut::new();
    out.put_i32(0);
    header.encode(&mut out, header_version).map_err(|e| failed(e.to_string()))?;
    response.encode(&mut out, version).map_err(|e| failed(e.to_string()))?;
    let length = i32::try_from(out.len() - 4).map_err(|e| failed(e.to_string()))?;
    if let Some(prefix) = out.get_mut(..4) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
    Ok(Step::Reply(out))
}

/// The code that says how it went.
fn code<T>(result: Result<T, ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

fn text(s: impl Into<String>) -> StrBytes {
    StrBytes::from_string(s.into())
}
