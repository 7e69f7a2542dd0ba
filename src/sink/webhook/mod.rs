//! Webhooks after the Standard Webhooks specification: durable, signed, at least once.
//!
//! The alerts topic is the outbox. Each endpoint is a consumer group of its own over the committed alerts; an
//! alert is only forgotten after a 2xx, or once it lies in the dead-letter topic with the reason. There is no
//! database.
//!
//! | file | owns |
//! |---|---|
//! | `head` | the few fields of an alert that are read |
//! | `body`, `sign`, `secret` | id, bytes and signature of a message |
//! | `policy` | what an answer means, when to try again |
//! | `egress`, `client` | which addresses are reached, and how |
//! | `deliver` | the notifier: order, retries, commits |
//! | `kafka` | its source: consumer group and dead letters |
//!
//! Not here yet: lanes per alert group, circuit breaker, fallback, rate limit, replay.

mod body;
mod client;
mod config;
mod deliver;
mod egress;
mod kafka;
mod policy;
mod secret;
mod sign;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use body::{BODY_BYTES_MAX, message_body, message_id};
pub use client::{
    ANSWER_BYTES_MAX, ANSWER_MS_MAX, ClientError, HttpTransport, IDLE_CONNECTION_S_MAX, Transport,
};
pub use config::{
    Endpoint, EndpointConfig, EndpointError, NAME_BYTES_MAX, TIMEOUT_S_DEFAULT, TIMEOUT_S_MAX,
    TIMEOUT_S_MIN,
};
pub use deliver::{
    AlertSource, DEAD_LETTER_RETRY_MS, DeadLetter, Exit, Notifier, NowMs, Position, SourceError,
    SourcedAlert,
};
pub use egress::{Class, EgressError, EgressPolicy, GuardedResolver, classify};
pub use kafka::{
    AlertTopics, COMMANDS_MAX, DEAD_LETTER_WAIT_MS, HANDOVER_ALERTS_MAX, KafkaSource, OpenError,
    POLL_MS, QUEUED_KIB_MAX, STATISTICS_MS, group_id,
};
pub use policy::{
    Attempt, GiveUp, INSTANT_RETRY_MS_MAX, JITTER_PERCENT, Progress, REFUSED_SCHEDULE, RetryAfter,
    RetryPolicy, SCHEDULE, Step,
};
pub use secret::{KEYS_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret, SecretError, SigningKeys};
pub use sign::{
    HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, SignedHeaders, TIMESTAMP_SKEW_S_MAX,
    VerifyError, sign, verify,
};

/// Why an endpoint could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its HTTP client could not be built.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its source could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Starts the notifier of an endpoint on the present tokio runtime; it ends with `shutdown`, on a 410, or when
/// Kafka fails for good, and leaves its consumer group before it does.
///
/// # Errors
///
/// Fails when TLS cannot be set up or Kafka's client refuses its settings.
pub fn spawn(
    endpoint: Endpoint,
    topics: &AlertTopics,
    metrics: Arc<crate::metrics::Metrics>,
    now_ms: NowMs,
    shutdown: CancellationToken,
) -> Result<JoinHandle<Result<Exit, SourceError>>, StartError> {
    let transport = HttpTransport::new(&endpoint)?;
    let source = KafkaSource::open(&endpoint, topics, Arc::clone(&metrics))?;
    let retries = RetryPolicy::default();
    let mut notifier = Notifier::new(endpoint, source, transport, retries, metrics, now_ms);
    Ok(tokio::spawn(async move {
        let ended = notifier.run(&shutdown).await;
        notifier.into_source().close().await;
        ended
    }))
}
