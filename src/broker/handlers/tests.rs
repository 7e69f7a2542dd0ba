//! The wire without a socket: every API and version round, and damaged bytes.

use std::cell::RefCell;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;

use super::super::batch::sample::Sample;
use super::super::group::GroupSettings;
use super::super::state::Settings;
use super::super::topic::TopicConfig;
use super::*;

/// A host on one thread with a time of its own.
struct Desk {
    state: RefCell<State>,
    now_ms: i64,
}

impl Host for Desk {
    fn with<T>(&self, work: impl FnOnce(&mut State, i64) -> T) -> T {
        let mut state = self.state.borrow_mut();
        state.tick(self.now_ms);
        work(&mut state, self.now_ms)
    }
}

fn desk() -> Desk {
    let mut state = State::new(Settings {
        advertised: ("127.0.0.1".into(), 9092),
        auto_create_partitions: None,
        memory_bytes_max: 1 << 20,
        group: GroupSettings { initial_delay_ms: 0, session_ms_min: 0 },
    });
    state.create_topic("t", 2, TopicConfig::default()).unwrap();
    Desk { state: RefCell::new(state), now_ms: 1_000 }
}

fn topic() -> TopicName {
    TopicName(text("t"))
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn transactional_id() -> TransactionalId {
    TransactionalId(text("x"))
}

fn framed<Q: Encodable>(api: ApiKey, version: i16, request: &Q) -> (Bytes, Bytes) {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_client_id(Some(text("test")));
    let (mut frame, mut body) = (BytesMut::new(), BytesMut::new());
    header.encode(&mut frame, api.request_header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    frame.extend_from_slice(&body);
    (frame.freeze(), body.freeze())
}

fn committed_offset() -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("m")));
    let topics = vec![
        OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]),
    ];
    OffsetCommitRequest::default().with_group_id(group()).with_topics(topics)
}

fn transactional_offset() -> TxnOffsetCommitRequest {
    let partition =
        TxnOffsetCommitRequestPartition::default().with_committed_metadata(Some(text("m")));
    let topics = vec![
        TxnOffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]),
    ];
    TxnOffsetCommitRequest::default()
        .with_transactional_id(transactional_id())
        .with_group_id(group())
        .with_topics(topics)
}

fn fetch(version: i16) -> FetchRequest {
    let partitions = vec![FetchPartition::default().with_partition_max_bytes(1 << 20)];
    let request = FetchRequest::default()
        .with_max_wait_ms(100)
        .with_max_bytes(1 << 20)
        .with_topics(vec![FetchTopic::default().with_topic(topic()).with_partitions(partitions)]);
    if version < 7 {
        return request;
    }
    request.with_forgotten_topics_data(vec![
        ForgottenTopic::default().with_topic(topic()).with_partitions(vec![1]),
    ])
}

fn produce() -> ProduceRequest {
    let data =
        PartitionProduceData::default().with_records(Some(Bytes::from(Sample::default().bytes())));
    let topics =
        vec![TopicProduceData::default().with_name(topic()).with_partition_data(vec![data])];
    ProduceRequest::default().with_acks(-1).with_topic_data(topics)
}

fn join() -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"m"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(1_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn leave(version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group());
    if version < 3 {
        request.with_member_id(text("m"))
    } else {
        request.with_members(vec![MemberIdentity::default()])
    }
}

fn create_topic() -> CreateTopicsRequest {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let config =
        CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("1")));
    let topic = CreatableTopic::default()
        .with_name(TopicName(text("new")))
        .with_num_partitions(-1)
        .with_assignments(vec![assignment])
        .with_configs(vec![config]);
    CreateTopicsRequest::default().with_topics(vec![topic]).with_validate_only(true)
}

fn create_partitions() -> CreatePartitionsRequest {
    let assignments =
        vec![CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)])];
    let topic = CreatePartitionsTopic::default()
        .with_name(topic())
        .with_count(3)
        .with_assignments(Some(assignments));
    CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(true)
}

/// A request of each API with something in every array: the whole frame, and its body.
fn request(api: ApiKey, version: i16) -> (Bytes, Bytes) {
    let frame = |q: &dyn Fn() -> (Bytes, Bytes)| q();
    macro_rules! of {
        ($request:expr) => {
            frame(&|| framed(api, version, &$request))
        };
    }
    match api {
        ApiKey::Produce => of!(produce()),
        ApiKey::Fetch => of!(fetch(version)),
        ApiKey::ListOffsets => {
            let partitions = vec![ListOffsetsPartition::default().with_timestamp(-1)];
            let topics =
                vec![ListOffsetsTopic::default().with_name(topic()).with_partitions(partitions)];
            of!(ListOffsetsRequest::default().with_topics(topics.clone()))
        }
        ApiKey::Metadata => {
            let topics = vec![MetadataRequestTopic::default().with_name(Some(topic()))];
            of!(MetadataRequest::default().with_topics(Some(topics.clone())))
        }
        ApiKey::OffsetCommit => of!(committed_offset()),
        ApiKey::OffsetFetch => {
            let topics = vec![
                OffsetFetchRequestTopic::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0, 1]),
            ];
            of!(OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(topics.clone())))
        }
        ApiKey::FindCoordinator => of!(FindCoordinatorRequest::default().with_key(text("g"))),
        ApiKey::JoinGroup => of!(join()),
        ApiKey::Heartbeat => of!(HeartbeatRequest::default().with_group_id(group())),
        ApiKey::LeaveGroup => of!(leave(version)),
        ApiKey::SyncGroup => {
            let assignments = vec![
                SyncGroupRequestAssignment::default().with_assignment(Bytes::from_static(b"a")),
            ];
            of!(SyncGroupRequest::default()
                .with_group_id(group())
                .with_assignments(assignments.clone()))
        }
        ApiKey::DescribeGroups => of!(DescribeGroupsRequest::default().with_groups(vec![group()])),
        ApiKey::ListGroups => of!(ListGroupsRequest::default()),
        ApiKey::ApiVersions => {
            of!(ApiVersionsRequest::default().with_client_software_name(text("test")))
        }
        ApiKey::CreateTopics => of!(create_topic()),
        ApiKey::DeleteTopics => {
            of!(DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("none"))]))
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition::default()];
            let topics =
                vec![DeleteRecordsTopic::default().with_name(topic()).with_partitions(partitions)];
            of!(DeleteRecordsRequest::default().with_topics(topics.clone()))
        }
        ApiKey::InitProducerId => {
            of!(InitProducerIdRequest::default().with_transactional_id(Some(transactional_id())))
        }
        ApiKey::AddPartitionsToTxn => {
            let topics = vec![
                AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(vec![0, 1]),
            ];
            of!(AddPartitionsToTxnRequest::default().with_v3_and_below_topics(topics.clone()))
        }
        ApiKey::AddOffsetsToTxn => of!(AddOffsetsToTxnRequest::default().with_group_id(group())),
        ApiKey::EndTxn => of!(EndTxnRequest::default().with_transactional_id(transactional_id())),
        ApiKey::TxnOffsetCommit => of!(transactional_offset()),
        ApiKey::DescribeConfigs => {
            let keys = Some(vec![text("retention.ms")]);
            let resource = DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("t"))
                .with_configuration_keys(keys);
            of!(DescribeConfigsRequest::default().with_resources(vec![resource.clone()]))
        }
        ApiKey::CreatePartitions => of!(create_partitions()),
        other => panic!("no sample of {other:?}"),
    }
}

fn every_request() -> impl Iterator<Item = (ApiKey, i16, Bytes, Bytes)> {
    SPOKEN.iter().flat_map(|&(api, first, last)| {
        (first..=last).map(move |version| {
            let (frame, body) = request(api, version);
            (api, version, frame, body)
        })
    })
}

#[test]
fn the_shape_of_every_request_agrees_with_the_codec() {
    for (api, version, _, body) in every_request() {
        assert_eq!(shape::check(api, version, &body), Ok(0), "{api:?} version {version}");
        for length in 0..body.len() {
            let cut = shape::check(api, version, &body[..length]);
            assert!(cut.is_err(), "{api:?} version {version} cut to {length}");
        }
    }
}

#[test]
fn every_request_is_answered_in_every_version() {
    for (api, version, frame, _) in every_request() {
        let desk = desk();
        let mut step = begin(&desk, frame).unwrap();
        if let Step::Wait(pending) = step {
            let later = Desk { now_ms: pending.deadline_ms.min(10_000), ..desk };
            step = resume(&later, *pending).unwrap();
        }
        let Step::Reply(response) = step else { panic!("{api:?} version {version}: {step:?}") };
        let length = i32::from_be_bytes(response[..4].try_into().unwrap());
        assert_eq!(
            usize::try_from(length).unwrap(),
            response.len() - 4,
            "{api:?} version {version}"
        );
    }
}

#[test]
fn an_injected_error_answers_every_request_and_stops_its_effect() {
    for (api, version, frame, _) in every_request().filter(|(api, ..)| *api != ApiKey::ApiVersions)
    {
        let desk = desk();
        desk.state.borrow_mut().faults.inject(api as i16, Fault::Error(7), 1);
        let Step::Reply(response) = begin(&desk, frame).unwrap() else {
            panic!("{api:?} version {version}")
        };
        let has_code = response[8..].windows(2).any(|w| w == [0, 7]);
        assert!(has_code, "{api:?} version {version}");
        assert_eq!(desk.state.borrow().bytes(), 0);
        assert_eq!(desk.state.borrow().faults.remaining(api as i16), 0);
    }
}

#[test]
fn a_cut_connection_has_or_has_not_the_effect() {
    for (fault, expected) in [(Fault::CloseBefore, 0), (Fault::CloseAfter, 1)] {
        let desk = desk();
        desk.state.borrow_mut().faults.inject(ApiKey::Produce as i16, fault, 1);
        let step = begin(&desk, request(ApiKey::Produce, 7).0).unwrap();
        assert!(matches!(step, Step::Close));
        let at = super::super::ids::TopicPartition::new("t", 0);
        assert_eq!(desk.state.borrow().log(&at).unwrap().bounds().end, expected);
    }
}

#[test]
fn damaged_requests_are_refused_and_never_panic() {
    // A fixed sequence: a failure repeats.
    let mut seed: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for (_, _, frame, _) in every_request() {
        let desk = desk();
        for round in 0..300 {
            let mut damaged = frame.to_vec();
            for _ in 0..=round % 4 {
                let at = usize::try_from(random()).unwrap() % damaged.len();
                damaged[at] = match random() % 3 {
                    0 => 0xff,
                    1 => 0x7f,
                    _ => random().to_le_bytes()[0],
                };
            }
            damaged.truncate(damaged.len() - usize::try_from(random() % 3).unwrap());
            let _ = begin(&desk, Bytes::from(damaged));
        }
    }
}

#[test]
fn a_claim_of_many_elements_is_not_believed() {
    let mut frame = request(ApiKey::DeleteTopics, 1).0.to_vec();
    let at = frame.len() - 14;
    assert_eq!(frame[at..at + 4], 1_i32.to_be_bytes());
    frame[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(begin(&desk(), Bytes::from(frame)), Err(WireError::Body { .. })));
}

#[test]
fn an_unknown_api_or_version_is_refused_but_a_newer_clients_first_question_is_answered() {
    let (frame, _) = request(ApiKey::Heartbeat, 3);
    for (api_key, version) in
        [(ApiKey::Heartbeat as i16, 4_i16), (ApiKey::Heartbeat as i16, -1), (999, 0)]
    {
        let mut frame = frame.to_vec();
        frame[..2].copy_from_slice(&api_key.to_be_bytes());
        frame[2..4].copy_from_slice(&version.to_be_bytes());
        assert!(matches!(begin(&desk(), Bytes::from(frame)), Err(WireError::Unsupported { .. })));
    }
    let mut frame = request(ApiKey::ApiVersions, 3).0.to_vec();
    frame[2..4].copy_from_slice(&9_i16.to_be_bytes());
    let Step::Reply(response) = begin(&desk(), Bytes::from(frame)).unwrap() else { panic!() };
    assert_eq!(response[8..10], ResponseError::UnsupportedVersion.code().to_be_bytes());
}
