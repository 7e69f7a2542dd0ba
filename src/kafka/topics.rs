//! The service's own topics: made with explicit settings, and checked when they are there already.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::WorkerContext;
use crate::limits::BROKER_CALL_MS_MAX;

/// What another number of partitions than is configured would do to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfOthers {
    /// Nothing.
    Fine,
    /// What belongs together would be apart.
    Torn,
    /// The same; but the topic can be made anew out of another.
    Remade,
}

/// A topic of our own.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What another number of partitions would do.
    pub if_others: IfOthers,
    /// Its `cleanup.policy`.
    pub policy: &'static str,
    /// Replicas, if it must be created; −1 for the broker's default.
    pub replication_factor: i32,
    /// Other settings, if it must be created.
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
    /// The topic is there, with another number of partitions.
    #[error("topic {topic} has {found} partitions, it must have {wanted}: {remedy}")]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: i32,
        /// How many it must have.
        wanted: i32,
        /// How to mend that.
        remedy: String,
    },
}

/// What to do about a topic with a wrong number of partitions.
fn remedy(spec: &TopicSpec, found: i32) -> String {
    let TopicSpec { name, partitions, .. } = spec;
    match spec.if_others {
        IfOthers::Remade if found < *partitions => {
            format!("kafka-topics.sh --alter --topic {name} --partitions {partitions}")
        }
        IfOthers::Remade => {
            format!("kafka-topics.sh --delete --topic {name} (it is made anew, from the matches)")
        }
        IfOthers::Fine | IfOthers::Torn => format!(
            "say topics.matches_partitions: {found} in the configuration, or begin anew with \
             kafka-topics.sh --delete for it and the .state beside it (what correlations have counted is \
             lost)"
        ),
    }
}

fn call() -> Duration {
    Duration::from_millis(BROKER_CALL_MS_MAX)
}

/// Creates the topics that are missing, and checks those that are there.
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
        topic = topic.set("cleanup.policy", spec.policy);
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
    let topic = spec.name.clone();
    let found = setting(admin, &topic, "cleanup.policy").await?;
    if let Some(found) = found.filter(|found| found != spec.policy) {
        return Err(TopicError::Policy { topic, found, wanted: spec.policy });
    }
    if spec.if_others == IfOthers::Fine {
        return Ok(());
    }
    let metadata = admin
        .inner()
        .fetch_metadata(Some(&topic), call())
        .map_err(|source| TopicError::Kafka { topic: topic.clone(), source })?;
    let known = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    let wanted = spec.partitions;
    match known.map(|t| t.partitions().len() as i32).filter(|found| *found != wanted) {
        None => Ok(()),
        Some(found) => {
            let remedy = remedy(spec, found);
            Err(TopicError::Partitions { topic, found, wanted, remedy })
        }
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
