//! The alert source over Kafka: one consumer group for each endpoint, one thread for each consumer.
//!
//! The thread always polls, whatever the notifier does, so a back-off of hours never costs the place in the
//! group. Backpressure and back-off are the same thing: when the hand-over channel is full, the partitions are
//! paused and alerts wait in Kafka, not in memory.
//!
//! ```text
//! thread:   poll ──► hand-over channel ──► notifier
//!            ▲   ◄── commands (commit, dead letter) ◄──┘
//!            └ pause when the channel is full, resume when it is half empty
//! ```
//!
//! Revocation ends a partition's tenure: alerts and commits of an earlier tenure are dropped, because their
//! new owner starts from the committed offset. Partitions that stay ours keep theirs, so the cooperative
//! protocol skips nothing.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::{self, error::TryRecvError, error::TrySendError};
use tokio::sync::{oneshot, watch};

use super::config::Endpoint;
use super::deliver::{AlertSource, DeadLetter, Position, SourceError, SourcedAlert};
use crate::kafka::TokenSource;
use crate::metrics::Metrics;

/// Alerts handed over and not yet taken; a few round trips' worth, so that the notifier never waits for a poll.
pub const HANDOVER_ALERTS_MAX: usize = 64;

/// Commands on their way to the thread; a notifier has one under way, and commits do not wait for their end.
pub const COMMANDS_MAX: usize = 64;

/// How long one poll waits: how late a command may be seen.
pub const POLL_MS: u64 = 20;

/// How long the thread itself waits for a dead letter to be acknowledged before it polls the consumer again.
pub const DEAD_LETTER_WAIT_MS: u64 = 1_000;

/// How often lag is reported.
pub const STATISTICS_MS: u64 = 5_000;

/// Most that librdkafka keeps for each partition, in KiB; its default is 64 MiB.
pub const QUEUED_KIB_MAX: u64 = 4_096;

/// Where alerts are read from and dead letters are written to.
#[derive(Debug, Clone)]
pub struct AlertTopics {
    /// Settings of the consumers; group, isolation, commits and reset are set here.
    pub consumer: ClientConfig,
    /// Settings of the dead letters' producer.
    pub producer: ClientConfig,
    /// Where OAUTHBEARER tokens come from, if they are used.
    pub tokens: Option<TokenSource>,
    /// Name of the application, first part of the consumer groups.
    pub app: String,
    /// The topic with the committed alerts.
    pub alerts: String,
    /// The topic for alerts that were given up.
    pub dead_letters: String,
}

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Kafka's client refuses the settings or the subscription.
    #[error("alert source of endpoint {endpoint} cannot be opened: {source}")]
    Kafka {
        /// The endpoint's name.
        endpoint: String,
        /// What the client says.
        source: KafkaError,
    },
    /// The system gives no thread.
    #[error("alert source of endpoint {endpoint} gets no thread: {source}")]
    Thread {
        /// The endpoint's name.
        endpoint: String,
        /// What the system says.
        source: std::io::Error,
    },
}

enum Command {
    Commit(Position),
    DeadLetter(Box<DeadLetter>, oneshot::Sender<Result<(), SourceError>>),
}

/// How often each partition was taken from us.
type Tenures = HashMap<i32, u64>;

fn is_current(tenures: &Tenures, position: Position) -> bool {
    tenures.get(&position.partition).copied().unwrap_or(0) == position.tenure
}

/// The notifier's side of the source.
#[derive(Debug)]
pub struct KafkaSource {
    alerts: mpsc::Receiver<Result<SourcedAlert, SourceError>>,
    commands: mpsc::Sender<Command>,
    tenures: watch::Receiver<Tenures>,
    thread: JoinHandle<()>,
}

impl KafkaSource {
    /// Subscribes the endpoint's own consumer group and starts its thread.
    ///
    /// # Errors
    ///
    /// Fails when the client refuses its settings or no thread can be had. A broker that cannot be reached is
    /// no error: the client keeps trying.
    pub fn open(
        endpoint: &Endpoint,
        topics: &AlertTopics,
        metrics: Arc<Metrics>,
    ) -> Result<KafkaSource, OpenError> {
        let endpoint = endpoint.name();
        let refused = |source| OpenError::Kafka { endpoint: endpoint.to_owned(), source };
        let (tenures_in, tenures) = watch::channel(Tenures::new());
        let context = Context {
            tokens: topics.tokens.clone(),
            endpoint: endpoint.to_owned(),
            topic: topics.alerts.clone(),
            metrics,
            tenures: tenures_in,
            assigned: AtomicBool::new(false),
            handed: Mutex::default(),
        };
        let consumer: BaseConsumer<Context> = topics
            .consumer
            .clone()
            .set("group.id", group_id(&topics.app, endpoint))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "false")
            .set("statistics.interval.ms", STATISTICS_MS.to_string())
            .set("queued.max.messages.kbytes", QUEUED_KIB_MAX.to_string())
            .create_with_context(context)
            .map_err(refused)?;
        consumer.subscribe(&[&topics.alerts]).map_err(refused)?;
        let producer = topics
            .producer
            .create_with_context(Acknowledge(topics.tokens.clone()))
            .map_err(refused)?;

        let (alerts_in, alerts) = mpsc::channel(HANDOVER_ALERTS_MAX);
        let (commands, commands_out) = mpsc::channel(COMMANDS_MAX);
        let poller = Poller {
            consumer,
            producer,
            dead_letters: topics.dead_letters.clone(),
            alerts: alerts_in,
            commands: commands_out,
            waiting: VecDeque::new(),
            done: HashMap::new(),
            paused: false,
        };
        let thread = std::thread::Builder::new()
            .name(format!("webhook-{endpoint}"))
            .spawn(move || poller.run())
            .map_err(|source| OpenError::Thread { endpoint: endpoint.to_owned(), source })?;
        Ok(KafkaSource { alerts, commands, tenures, thread })
    }

    /// Commits what was delivered, leaves the group and ends the thread.
    pub async fn close(self) {
        let KafkaSource { alerts, commands, thread, .. } = self;
        drop((alerts, commands));
        // Leaving the group takes a round trip, which must not block the runtime. A thread that panicked has
        // printed so itself, and there is nothing left to close.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// Returns the consumer group of an endpoint.
pub fn group_id(app: &str, endpoint: &str) -> String {
    format!("{app}-webhook-{endpoint}")
}

impl AlertSource for KafkaSource {
    async fn next(&mut self) -> Result<Option<SourcedAlert>, SourceError> {
        loop {
            match self.alerts.recv().await {
                Some(Ok(sourced)) if !is_current(&self.tenures.borrow(), sourced.position) => {}
                Some(alert) => return alert.map(Some),
                None => return Err(SourceError::Closed),
            }
        }
    }

    async fn revoked(&mut self, position: Position) {
        let ended = self.tenures.wait_for(|tenures| !is_current(tenures, position)).await.is_err();
        if ended {
            // The thread is gone; `next` will say so once the schedule has ended or shutdown comes.
            std::future::pending::<()>().await;
        }
    }

    async fn commit(&mut self, position: Position) -> Result<(), SourceError> {
        self.commands.send(Command::Commit(position)).await.map_err(|_| SourceError::Closed)
    }

    async fn dead_letter(&mut self, letter: &DeadLetter) -> Result<(), SourceError> {
        let (answer, taken) = oneshot::channel();
        let command = Command::DeadLetter(Box::new(letter.clone()), answer);
        self.commands.send(command).await.map_err(|_| SourceError::Closed)?;
        taken.await.map_err(|_| SourceError::Closed)?
    }
}

/// The thread's side.
struct Poller {
    consumer: BaseConsumer<Context>,
    producer: BaseProducer<Acknowledge>,
    dead_letters: String,
    alerts: mpsc::Sender<Result<SourcedAlert, SourceError>>,
    commands: mpsc::Receiver<Command>,
    /// Read while the channel was full; at most what one poll brings before the pause takes hold.
    waiting: VecDeque<SourcedAlert>,
    /// Per partition: the next offset to commit and its tenure.
    done: HashMap<i32, Position>,
    paused: bool,
}

impl Poller {
    fn run(mut self) {
        loop {
            let open = self.take_commands();
            let mode = if open { CommitMode::Async } else { CommitMode::Sync };
            self.commit_done(mode);
            if !open || !self.hand_over() {
                return;
            }
            self.producer.poll(Duration::ZERO);
            match self.consumer.poll(Duration::from_millis(POLL_MS)) {
                None => {}
                Some(Ok(message)) => {
                    let sourced = self.source(&message);
                    self.waiting.push_back(sourced);
                }
                Some(Err(error)) if self.report(&error) => {}
                Some(Err(_)) => return,
            }
        }
    }

    fn source(&self, message: &BorrowedMessage<'_>) -> SourcedAlert {
        let partition = message.partition();
        self.consumer.context().handed().insert(partition, message.offset() + 1);
        let tenures = self.consumer.context().tenures.borrow();
        let tenure = tenures.get(&partition).copied().unwrap_or(0);
        SourcedAlert {
            position: Position { partition, offset: message.offset(), tenure },
            key: message.key().map(Bytes::copy_from_slice),
            // A tombstone is no alert; as empty bytes it goes the way of the unreadable ones.
            alert: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }

    /// Returns false when the notifier is gone.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Commit(position)) => {
                    self.done.insert(position.partition, position);
                }
                Ok(Command::DeadLetter(letter, answer)) => self.put_aside(&letter, answer),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn commit_done(&mut self, mode: CommitMode) {
        let context = self.consumer.context();
        let mut offsets = TopicPartitionList::new();
        for (partition, position) in self.done.drain() {
            if is_current(&context.tenures.borrow(), position) {
                let next = Offset::Offset(position.offset + 1);
                // Fails only for an offset below zero, which Kafka does not give.
                let _ = offsets.add_partition_offset(&context.topic, partition, next);
            }
        }
        if offsets.count() == 0 {
            return;
        }
        // Not committed is delivered again under the same id; the callback counts late failures.
        if let Err(error) = self.consumer.commit(&offsets, mode) {
            context.count(&error);
            tracing::warn!(endpoint = context.endpoint, %error, "offsets were not committed");
        }
    }

    /// Fills the channel and holds the consumer back or lets it go; returns false when the notifier is gone.
    fn hand_over(&mut self) -> bool {
        while let Some(sourced) = self.waiting.pop_front() {
            match self.alerts.try_send(Ok(sourced)) {
                Ok(()) => {}
                Err(TrySendError::Full(Ok(sourced))) => {
                    self.waiting.push_front(sourced);
                    break;
                }
                Err(_) => return false,
            }
        }
        let full = !self.waiting.is_empty();
        let newly_assigned = self.consumer.context().assigned.swap(false, Ordering::Relaxed);
        if full && (!self.paused || newly_assigned) {
            self.paused = self.hold(true);
        } else if self.paused && !full && self.alerts.capacity() >= HANDOVER_ALERTS_MAX / 2 {
            self.paused = !self.hold(false);
        }
        true
    }

    /// Pauses or resumes all partitions; returns whether that was done.
    fn hold(&self, hold: bool) -> bool {
        let done = self.consumer.assignment().and_then(|assignment| {
            if hold { self.consumer.pause(&assignment) } else { self.consumer.resume(&assignment) }
        });
        if let Err(error) = &done {
            self.consumer.context().count(error);
        }
        done.is_ok()
    }

    /// Counts an error; returns false when it is the end.
    fn report(&self, error: &KafkaError) -> bool {
        let context = self.consumer.context();
        context.count(error);
        if let KafkaError::MessageConsumptionFatal(_) = error {
            let fatal = SourceError::Fatal { reason: error.to_string() };
            // Full is impossible to wait for here; the notifier then learns it from the closed channel.
            let _ = self.alerts.try_send(Err(fatal));
            return false;
        }
        tracing::warn!(endpoint = context.endpoint, %error, "kafka reports an error");
        true
    }

    fn put_aside(&self, letter: &DeadLetter, answer: oneshot::Sender<Result<(), SourceError>>) {
        let topic = &self.consumer.context().topic;
        let record = BaseRecord::with_opaque_to(&self.dead_letters, Box::new(answer))
            .payload(letter.sourced.alert.as_ref())
            .headers(headers(topic, letter));
        let record = match &letter.sourced.key {
            Some(key) => record.key(key.as_ref()),
            None => record,
        };
        match self.producer.send(record) {
            Ok(()) => {
                // Not `flush`: it waits in slices of 100 ms even when the answer is there.
                for _ in 0..DEAD_LETTER_WAIT_MS / POLL_MS {
                    if self.producer.in_flight_count() == 0 {
                        break;
                    }
                    self.producer.poll(Duration::from_millis(POLL_MS));
                }
            }
            Err((error, record)) => {
                let reason = error.to_string();
                // The notifier may be gone by now; then nobody waits for the answer.
                let _ = record.delivery_opaque.send(Err(SourceError::DeadLetter { reason }));
            }
        }
    }
}

fn headers(topic: &str, letter: &DeadLetter) -> OwnedHeaders {
    let Position { partition, offset, .. } = letter.sourced.position;
    let numbers = [partition.to_string(), offset.to_string(), letter.attempts.to_string()];
    [
        ("watchfire-reason", letter.reason.as_str()),
        ("watchfire-endpoint", letter.endpoint.as_str()),
        ("watchfire-webhook-id", letter.message_id.as_deref().unwrap_or_default()),
        ("watchfire-topic", topic),
        ("watchfire-partition", numbers[0].as_str()),
        ("watchfire-offset", numbers[1].as_str()),
        ("watchfire-attempts", numbers[2].as_str()),
    ]
    .into_iter()
    .fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}

/// What the consumer's callbacks write to; they run on the thread, within `poll`.
struct Context {
    tokens: Option<TokenSource>,
    endpoint: String,
    topic: String,
    metrics: Arc<Metrics>,
    tenures: watch::Sender<Tenures>,
    assigned: AtomicBool,
    /// For each partition the offset after the last alert that was read.
    handed: Mutex<HashMap<i32, i64>>,
}

impl Context {
    fn handed(&self) -> MutexGuard<'_, HashMap<i32, i64>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, error: &KafkaError) {
        let code =
            error.rdkafka_error_code().map_or("Client".to_owned(), |code| format!("{code:?}"));
        self.metrics.kafka_errors.add([&code], 1);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token(self.tokens.as_ref())
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        let ours = topic.partitions.values().filter(|partition| partition.desired);
        let pending = ours.map(|partition| {
            // The end of a transactional topic is a marker, which nobody gets to commit past.
            let read = partition.fetchq_cnt == 0 && partition.next_offset >= partition.ls_offset;
            let last = self.handed().get(&partition.partition).copied().unwrap_or(0);
            if read && partition.committed_offset >= last {
                return 0;
            }
            let next = partition.committed_offset.max(partition.lo_offset).max(0);
            (partition.ls_offset - next).max(0)
        });
        let pending: i64 = pending.sum();
        self.metrics.notify_pending.set([&self.endpoint], pending as f64);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.tenures.send_modify(|tenures| {
                for partition in partitions.elements() {
                    *tenures.entry(partition.partition()).or_default() += 1;
                }
            });
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance {
            self.assigned.store(true, Ordering::Relaxed);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            self.count(&error);
            tracing::warn!(endpoint = self.endpoint, %error, "offsets were not committed");
        }
    }
}

/// Answers whoever waits for a dead letter.
struct Acknowledge(Option<TokenSource>);

impl ClientContext for Acknowledge {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token(self.0.as_ref())
    }
}

fn token(source: Option<&TokenSource>) -> Result<OAuthToken, Box<dyn Error>> {
    match source {
        Some(source) => Ok(source.fetch()?),
        None => Err("no source of tokens is configured".into()),
    }
}

impl ProducerContext for Acknowledge {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), SourceError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let taken = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(SourceError::DeadLetter { reason: error.to_string() }),
        };
        // The notifier may have been told to stop meanwhile.
        let _ = answer.send(taken);
    }
}
