//! ApiVersions, Metadata, and the topics' administration.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, MetadataRequest, MetadataResponse, TopicName,
};

use super::super::ids::TopicPartition;
use super::super::state::State;
use super::super::topic::{Topic, TopicConfig};
use super::{Ask, Call, SPOKEN, Step, WireError, code, decode, reply_as, text};

/// The one broker's node id.
pub const NODE: BrokerId = BrokerId(1);
const CLUSTER_ID: &str = "watchfire-embedded";
const UNKNOWN_OPERATIONS: i32 = i32::MIN;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;

pub fn api_versions(call: &Call, body: Bytes) -> Result<Step, WireError> {
    let api = |(api, first, last): &(_, i16, i16)| {
        let key: kafka_protocol::messages::ApiKey = *api;
        ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(*first)
            .with_max_version(*last)
    };
    let response = ApiVersionsResponse::default().with_api_keys(SPOKEN.iter().map(api).collect());
    if call.version > 3 {
        return reply_as(
            call,
            0,
            &response.with_error_code(ResponseError::UnsupportedVersion.code()),
        );
    }
    decode::<ApiVersionsRequest>(call, body)?;
    reply_as(call, call.version, &response)
}

pub fn metadata(state: &mut State, ask: &Ask<'_>, request: MetadataRequest) -> MetadataResponse {
    // A topic that is named twice is described once.
    let names: BTreeSet<String> = match request.topics {
        None => state.topics().map(|(name, _)| name.to_owned()).collect(),
        Some(topics) => topics.into_iter().filter_map(|t| t.name).map(|n| n.to_string()).collect(),
    };
    if let Some(partitions) = state.settings().auto_create_partitions
        && request.allow_auto_topic_creation
        && ask.gate.is_ok()
    {
        for name in &names {
            // Refused for a topic that exists or a bad name: both are answered below.
            let _ = state.create_topic(name, partitions, TopicConfig::default());
        }
    }
    let (host, port) = &state.settings().advertised;
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(text(host.as_str()))
        .with_port(i32::from(*port));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(CLUSTER_ID)))
        .with_controller_id(NODE)
        .with_cluster_authorized_operations(UNKNOWN_OPERATIONS)
        .with_topics(
            names
                .iter()
                .map(|name| topic_metadata(name, ask.gate.and_then(|()| state.topic(name))))
                .collect(),
        )
}

fn topic_metadata(name: &str, topic: Result<&Topic, ResponseError>) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    };
    let count = topic.map_or(0, |t| t.partitions().len());
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_error_code(code(topic))
        .with_topic_authorized_operations(UNKNOWN_OPERATIONS)
        .with_partitions((0..).take(count).map(partition).collect())
}

pub fn create_topics(
    state: &mut State,
    ask: &Ask<'_>,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut response = CreateTopicsResponse::default();
    for topic in request.topics {
        let created = ask.gate.and_then(|()| create_topic(state, &topic, request.validate_only));
        response.topics.push(
            CreatableTopicResult::default().with_name(topic.name).with_error_code(code(created)),
        );
    }
    response
}

fn create_topic(
    state: &mut State,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<(), ResponseError> {
    if topic.replication_factor > 1 {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    let partitions = match (topic.num_partitions, topic.assignments.len()) {
        // The broker's default, as Kafka's `num.partitions`.
        (-1, 0) => 1,
        (-1, assigned) => assigned,
        (wanted, _) => usize::try_from(wanted).map_err(|_| ResponseError::InvalidPartitions)?,
    };
    let given = topic
        .configs
        .iter()
        .filter_map(|c| c.value.as_ref().map(|v| (c.name.as_str(), v.as_str())));
    let config = TopicConfig::new(given)?;
    if validate_only {
        return state.check_new_topic(topic.name.as_str(), partitions);
    }
    state.create_topic(topic.name.as_str(), partitions, config)
}

pub fn delete_topics(
    state: &mut State,
    ask: &Ask<'_>,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let mut response = DeleteTopicsResponse::default();
    for name in request.topic_names {
        let deleted = ask.gate.and_then(|()| state.delete_topic(name.as_str()));
        response.responses.push(
            DeletableTopicResult::default().with_name(Some(name)).with_error_code(code(deleted)),
        );
    }
    response
}

pub fn create_partitions(
    state: &mut State,
    ask: &Ask<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut response = CreatePartitionsResponse::default();
    for topic in request.topics {
        let count = usize::try_from(topic.count).unwrap_or(0);
        let grown = ask
            .gate
            .and_then(|()| state.grow_topic(topic.name.as_str(), count, request.validate_only));
        let result = CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(code(grown));
        response.results.push(result);
    }
    response
}

pub fn delete_records(
    state: &mut State,
    ask: &Ask<'_>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut results = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
        for partition in topic.partitions {
            let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let start = ask.gate.and_then(|()| state.delete_records(&at, partition.offset));
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(start.unwrap_or(-1))
                .with_error_code(code(start));
            results.partitions.push(result);
        }
        response.topics.push(results);
    }
    response
}

pub fn describe_configs(
    state: &mut State,
    ask: &Ask<'_>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut response = DescribeConfigsResponse::default();
    for resource in request.resources {
        let configs = ask.gate.and_then(|()| describe(state, &resource));
        let result = DescribeConfigsResult::default()
            .with_error_code(configs.as_ref().err().map_or(0, ResponseError::code))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs.unwrap_or_default());
        response.results.push(result);
    }
    response
}

fn describe(
    state: &State,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, ResponseError> {
    match resource.resource_type {
        RESOURCE_TOPIC => {}
        // The broker itself has nothing a client could set.
        RESOURCE_BROKER => return Ok(Vec::new()),
        _ => return Err(ResponseError::InvalidRequest),
    }
    let wanted = |name: &str| match &resource.configuration_keys {
        Some(keys) => keys.is_empty() || keys.iter().any(|key| key.as_str() == name),
        None => true,
    };
    let topic = state.topic(resource.resource_name.as_str())?;
    let result = |(name, value, is_default): (&str, &str, bool)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_config_source(if is_default { SOURCE_DEFAULT } else { SOURCE_TOPIC })
    };
    Ok(topic.config().entries().filter(|(name, _, _)| wanted(name)).map(result).collect())
}
