//! The service's own topics: made with explicit settings, and checked when they are there already.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::WorkerContext;
use crate::limits::BROKER_CALL_MS_MAX;

/// A topic of our own.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Partitions, if it must be created.
    pub partitions: i32,
    /// Replicas, if it must be created; −1 for the broker's default.
    pub replication_factor: i32,
    /// Settings, if it must be created.
    pub settings: Vec<(&'static str, String)>,
}

/// Why a topic cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster did not answer, or refused.
    #[error("topic {topic}: {source}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What the client said.
        source: KafkaError,
    },
    /// The topic cannot be created.
    #[error("topic {topic} cannot be created: {code}")]
    Create {
        /// The topic.
        topic: String,
        /// What the broker said.
        code: RDKafkaErrorCode,
    },
    /// The topic is there, with a setting that would lose data.
    #[error(
        "topic {topic} has cleanup.policy={found}, it must be {wanted}: \
         kafka-configs.sh --alter --entity-type topics --entity-name {topic} \
         --add-config cleanup.policy={wanted}"
    )]
    Policy {
        /// The topic.
        topic: String,
        /// What it has.
        found: String,
        /// What it must have.
        wanted: &'static str,
    },
}

fn call() -> Duration {
    Duration::from_millis(BROKER_CALL_MS_MAX)
}

/// Creates the topics that are missing, and checks the clean-up policy of those that are there.
///
/// # Errors
/// [`TopicError`] for the first topic that cannot be used.
pub async fn ensure_topics(
    admin: &AdminClient<WorkerContext>,
    topics: &[TopicSpec],
) -> Result<(), TopicError> {
    for spec in topics {
        let replication = TopicReplication::Fixed(spec.replication_factor);
        let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
        for (key, value) in &spec.settings {
            topic = topic.set(key, value);
        }
        let options =
            AdminOptions::new().request_timeout(Some(call())).operation_timeout(Some(call()));
        let kafka = |source| TopicError::Kafka { topic: spec.name.clone(), source };
        let results = admin.create_topics([&topic], &options).await.map_err(kafka)?;
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => check(admin, spec).await?,
            Some(Err((topic, code))) => return Err(TopicError::Create { topic, code }),
            _ => tracing::info!(topic = spec.name, partitions = spec.partitions, "topic created"),
        }
    }
    Ok(())
}

async fn check(admin: &AdminClient<WorkerContext>, spec: &TopicSpec) -> Result<(), TopicError> {
    let found = setting(admin, &spec.name, "cleanup.policy").await?;
    match found {
        Some(found) if found != "delete" => {
            Err(TopicError::Policy { topic: spec.name.clone(), found, wanted: "delete" })
        }
        _ => Ok(()),
    }
}

async fn setting(
    admin: &AdminClient<WorkerContext>,
    topic: &str,
    name: &str,
) -> Result<Option<String>, TopicError> {
    let kafka = |source| TopicError::Kafka { topic: topic.to_owned(), source };
    let options = AdminOptions::new().request_timeout(Some(call()));
    let results = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(kafka)?;
    let resource = results.into_iter().next().and_then(Result::ok);
    Ok(resource.and_then(|r| r.get(name).and_then(|e| e.value.clone())))
}

/// `retention.ms` of a topic; `None` when it keeps records forever or does not say.
///
/// # Errors
/// When the cluster does not answer.
pub async fn retention_ms(
    admin: &AdminClient<WorkerContext>,
    topic: &str,
) -> Result<Option<i64>, TopicError> {
    let text = setting(admin, topic, "retention.ms").await?;
    Ok(text.and_then(|t| t.parse().ok()).filter(|ms| *ms >= 0))
}

/// How many partitions a topic has; 0 while it does not exist.
///
/// # Errors
/// When the cluster does not answer.
pub fn partition_count(
    consumer: &BaseConsumer<WorkerContext>,
    topic: &str,
) -> Result<i32, TopicError> {
    // A client without a group is served by polling: it may need a token before it can connect.
    consumer.poll(Duration::from_millis(20));
    let metadata = consumer
        .fetch_metadata(Some(topic), call())
        .map_err(|source| TopicError::Kafka { topic: topic.to_owned(), source })?;
    let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    Ok(found.map_or(0, |t| t.partitions().len() as i32))
}
