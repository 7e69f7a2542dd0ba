//! The notifier of one endpoint: alert after alert, in order, at least once.
//!
//! ```text
//!          next                    2xx
//! waiting ──────► attempting ──────────────► commit ──► waiting
//!                   │   ▲   │ given up
//!             retry │   │   └─────► dead letter (acknowledged) ──► commit
//!                   ▼   │ due
//!                 backing off ── revoked ──► waiting (another instance has it now)
//! ```
//!
//! An offset is committed only behind a 2xx or behind a dead letter that Kafka has acknowledged. Whatever
//! happens in between (crash, shutdown, rebalance) leads to another attempt under the same id with the same
//! bytes. The source keeps its place in the consumer group by itself however long an attempt backs off.
//!
//! One endpoint is one sequence: an alert that cannot be delivered holds up those behind it until its schedule
//! ends. Lanes per alert group would go here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::body::{message_body, message_id};
use super::client::Transport;
use super::config::Endpoint;
use super::policy::{Progress, RetryPolicy, Step};
use super::sign::sign;
use crate::alert::AlertHead;
use crate::metrics::Metrics;

/// Wait before a dead letter that Kafka did not take is offered again.
pub const DEAD_LETTER_RETRY_MS: u64 = 5_000;

/// Gives the wall clock in ms since 1970.
pub type NowMs = fn() -> i64;

/// Where an alert stands in the alerts topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Counts how often the partition was taken from us; an alert of an earlier tenure is not ours any more.
    pub tenure: u64,
}

/// One alert as the source hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcedAlert {
    /// Where it stands.
    pub position: Position,
    /// Its record key.
    pub key: Option<Bytes>,
    /// Its bytes.
    pub alert: Bytes,
}

/// An alert that was given up, with what an operator needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The alert.
    pub sourced: SourcedAlert,
    /// Name of the endpoint that did not get it.
    pub endpoint: String,
    /// Its `webhook-id`, unless it could not even be read.
    pub message_id: Option<String>,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Why alerts cannot be read, committed or put aside.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The thread behind the source has ended; nothing more can be done with it.
    #[error("alert source has ended")]
    Closed,
    /// Kafka refuses for good: retrying does not help.
    #[error("alert source failed for good: {reason}")]
    Fatal {
        /// What the client says.
        reason: String,
    },
    /// A dead letter was not taken; may be tried again.
    #[error("dead letter was not taken: {reason}")]
    DeadLetter {
        /// What the client says.
        reason: String,
    },
}

/// Where a notifier gets its alerts from, and where it leaves word of them.
pub trait AlertSource: Send {
    /// Waits for the next alert; `None` when there will be no more. Must be safe to cancel.
    fn next(&mut self) -> impl Future<Output = Result<Option<SourcedAlert>, SourceError>> + Send;

    /// Waits until the alert at `position` is not ours any more; for ever, if that does not happen.
    fn revoked(&mut self, position: Position) -> impl Future<Output = ()> + Send;

    /// Notes that everything up to and with `position` is done.
    fn commit(
        &mut self,
        position: Position,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Puts an alert aside; returns once that is durable.
    fn dead_letter(
        &mut self,
        letter: &DeadLetter,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Why a notifier has ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Shutdown,
    /// The source has no more alerts.
    SourceEnded,
    /// The receiver answered 410: it wants no more. Undelivered alerts stay uncommitted.
    Gone,
}

/// What follows on one alert.
enum Next {
    Alert,
    Stop(Exit),
}

/// A message under way.
struct Message {
    id: String,
    body: Bytes,
    seed: u64,
    attempts: u32,
    progress: Progress,
}

/// Delivers the alerts of a source to one endpoint.
#[derive(Debug)]
pub struct Notifier<S, T> {
    endpoint: Endpoint,
    source: S,
    transport: T,
    retries: RetryPolicy,
    metrics: Arc<Metrics>,
    now_ms: NowMs,
}

impl<S: AlertSource, T: Transport> Notifier<S, T> {
    /// Puts a notifier together.
    pub fn new(
        endpoint: Endpoint,
        source: S,
        transport: T,
        retries: RetryPolicy,
        metrics: Arc<Metrics>,
        now_ms: NowMs,
    ) -> Self {
        Notifier { endpoint, source, transport, retries, metrics, now_ms }
    }

    /// Delivers until shutdown, the end of the source, or a 410.
    ///
    /// # Errors
    ///
    /// Fails when the source fails for good; a failing receiver is never an error.
    pub async fn run(&mut self, shutdown: &CancellationToken) -> Result<Exit, SourceError> {
        loop {
            let sourced = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Exit::Shutdown),
                next = self.source.next() => match next? {
                    Some(sourced) => sourced,
                    None => return Ok(Exit::SourceEnded),
                },
            };
            if let Next::Stop(exit) = self.handle(&sourced, shutdown).await? {
                return Ok(exit);
            }
        }
    }

    /// Returns the source, to close it.
    pub fn into_source(self) -> S {
        self.source
    }

    async fn handle(
        &mut self,
        sourced: &SourcedAlert,
        shutdown: &CancellationToken,
    ) -> Result<Next, SourceError> {
        let head = match AlertHead::read(&sourced.alert) {
            Ok(head) => head,
            Err(error) => {
                return self.give_up(sourced, None, error.to_string(), shutdown).await;
            }
        };
        if !head.is_at_least(self.endpoint.min_level()) {
            self.source.commit(sourced.position).await?;
            return Ok(Next::Alert);
        }
        let id = message_id(&head);
        let mut message = Message {
            body: message_body(&head, &sourced.alert).into(),
            seed: seed(self.endpoint.name(), &id),
            id,
            attempts: 0,
            progress: Progress::default(),
        };
        loop {
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Next::Stop(Exit::Shutdown)),
                step = self.attempt(&mut message) => step,
            };
            match step {
                Step::Delivered => {
                    self.source.commit(sourced.position).await?;
                    return Ok(Next::Alert);
                }
                Step::Retry(wait) => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(Next::Stop(Exit::Shutdown)),
                    () = self.source.revoked(sourced.position) => return Ok(Next::Alert),
                    () = sleep(wait) => {}
                },
                Step::GiveUp(reason) => {
                    return self
                        .give_up(sourced, Some(&message), reason.to_string(), shutdown)
                        .await;
                }
                Step::Disable => {
                    tracing::warn!(
                        endpoint = self.endpoint.name(),
                        "receiver answered 410: endpoint stops, its alerts stay in the topic"
                    );
                    return Ok(Next::Stop(Exit::Gone));
                }
            }
        }
    }

    /// Signs afresh, sends, counts, and decides.
    async fn attempt(&self, message: &mut Message) -> Step {
        let endpoint = self.endpoint.name();
        message.attempts = message.attempts.saturating_add(1);
        let timestamp_s = (self.now_ms)().div_euclid(1_000);
        let headers = sign(self.endpoint.keys(), &message.id, timestamp_s, &message.body);
        let start = Instant::now();
        let attempt = self.transport.post(&headers, message.body.clone()).await;
        self.metrics.notify_seconds.observe([endpoint], start.elapsed());
        self.metrics.notify_attempts.add([endpoint, attempt.outcome()], 1);
        let now_ms = (self.now_ms)();
        let step = self.retries.step(&mut message.progress, &attempt, message.seed, now_ms);
        if let Step::Retry(wait) = step {
            tracing::debug!(
                endpoint,
                message = message.id,
                attempt = message.attempts,
                outcome = attempt.outcome(),
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "delivery failed and will be tried again"
            );
        }
        step
    }

    /// Puts the alert aside until Kafka has it, and only then commits.
    async fn give_up(
        &mut self,
        sourced: &SourcedAlert,
        message: Option<&Message>,
        reason: String,
        shutdown: &CancellationToken,
    ) -> Result<Next, SourceError> {
        let letter = DeadLetter {
            sourced: sourced.clone(),
            endpoint: self.endpoint.name().to_owned(),
            message_id: message.map(|message| message.id.clone()),
            reason,
            attempts: message.map_or(0, |message| message.attempts),
        };
        loop {
            match self.source.dead_letter(&letter).await {
                Ok(()) => break,
                Err(SourceError::DeadLetter { reason }) => {
                    tracing::error!(
                        endpoint = letter.endpoint,
                        reason,
                        "dead letter was not taken"
                    );
                }
                Err(fatal) => return Err(fatal),
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Next::Stop(Exit::Shutdown)),
                () = self.source.revoked(sourced.position) => return Ok(Next::Alert),
                () = sleep(Duration::from_millis(DEAD_LETTER_RETRY_MS)) => {}
            }
        }
        self.metrics.notify_dead_letters.add([self.endpoint.name()], 1);
        tracing::warn!(
            endpoint = letter.endpoint,
            message = letter.message_id,
            attempts = letter.attempts,
            reason = letter.reason,
            "alert was given up and lies in the dead-letter topic"
        );
        self.source.commit(sourced.position).await?;
        Ok(Next::Alert)
    }
}

/// Seeds the jitter: the same message waits alike on every instance, different endpoints do not.
fn seed(endpoint: &str, message_id: &str) -> u64 {
    let hash = Sha256::new().chain_update(endpoint).chain_update([0]).chain_update(message_id);
    hash.finalize().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
