//! One transaction per epoch: outputs and offsets together, or neither.
//!
//! ```text
//!            send           begin_commit              end_commit
//!   idle ───────────▶ open ──────────────▶ committing ─────────────▶ idle, or open with what was held
//!                                             │  abortable ─▶ aborted: the worker goes back to the committed offsets
//!                                             └─ fatal or unknown: the worker is thrown away and built anew
//! ```
//!
//! A thread of its own commits, since nearly all of that is waiting. Meanwhile nothing may be sent: it would
//! be part of what is being committed. So what the next epoch sends is held until the outcome is known.
//!
//! After any failure the worker's memory is ahead of Kafka and cannot be trusted: state and positions
//! begin anew at the committed offsets. A commit of unknown outcome needs no guess: initialising the
//! new producer waits for it, and the committed offsets say what happened.
//!
//! A *loose* producer has no transactions: its outputs are there at once, and positions follow when all of
//! them are acknowledged. A failure in between repeats outputs, and loses none.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::WorkerContext;
use super::bus::tpl_of;
use super::native::flush;
use crate::bus::{Offsets, Outbox, Outgoing, TransactionError};
use crate::limits::{
    BROKER_CALL_MS_MAX, COMMITS_MAX, EPOCH_OUTPUT_BYTES_MAX, EPOCH_OUTPUTS_MAX, FLUSH_SLICE_MS,
};

/// A transactional producer and its open transaction.
pub struct Transactional {
    line: Arc<Line>,
    loose: bool,
    open: bool,
    /// Of the epoch that is not being committed.
    messages: usize,
    bytes: usize,
    /// Its outputs while another is being committed.
    held: Vec<Held>,
    committer: Option<Committer>,
    is_committing: bool,
    /// Why what was held could not be sent: nothing more can be.
    broken: Option<TransactionError>,
}

/// A producer, for its worker and for the thread that commits, one at a time.
struct Line {
    producer: BaseProducer<WorkerContext>,
    name: String,
}

/// An output that waits for a commit.
struct Held {
    topic: String,
    partition: Option<i32>,
    key: Vec<u8>,
    payload: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
}

/// The thread that commits. It ends when there is no more to come.
struct Committer {
    jobs: mpsc::SyncSender<(Offsets, ConsumerGroupMetadata)>,
    ended: mpsc::Receiver<Result<(), TransactionError>>,
}

impl Committer {
    fn start(line: Arc<Line>) -> Result<Self, TransactionError> {
        let (jobs, taken) = mpsc::sync_channel::<(Offsets, ConsumerGroupMetadata)>(COMMITS_MAX);
        let (done, ended) = mpsc::sync_channel(COMMITS_MAX);
        let run = move || {
            for (offsets, group) in taken {
                if done.send(line.commit(&offsets, &group)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(run);
        thread.map_err(|e| TransactionError::Failed(format!("starting a thread: {e}")))?;
        Ok(Self { jobs, ended })
    }
}

fn gone() -> TransactionError {
    TransactionError::Failed("the thread that commits is gone".to_owned())
}

impl Transactional {
    /// Connects and takes over from whoever had this name before; their open transaction is aborted.
    ///
    /// # Errors
    /// When the coordinator cannot be reached in time or refuses.
    pub fn connect(
        config: &ClientConfig,
        name: String,
        context: WorkerContext,
    ) -> Result<Self, TransactionError> {
        let producer = BaseProducer::from_config_and_context(config, context)
            .map_err(|e| TransactionError::Failed(e.to_string()))?;
        let loose = config.get("transactional.id").is_none();
        let line = Arc::new(Line { producer, name });
        let committer = if loose { None } else { Some(line.take_over()?) };
        Ok(Self {
            line,
            loose,
            open: false,
            messages: 0,
            bytes: 0,
            held: Vec::new(),
            committer,
            is_committing: false,
            broken: None,
        })
    }

    /// Whether outputs are there before the epoch is committed.
    pub fn is_loose(&self) -> bool {
        self.loose
    }

    /// Waits until the outputs of the epoch are acknowledged; what is left of committing is the positions.
    ///
    /// # Errors
    /// When one was not delivered; then the epoch is to be repeated.
    pub fn flush(&mut self) -> Result<(), TransactionError> {
        self.line.drain()?;
        (self.messages, self.bytes) = (0, 0);
        Ok(())
    }

    /// Begins to commit the outputs of the epoch together with these positions.
    ///
    /// # Errors
    /// When no transaction can be begun.
    pub fn begin_commit(
        &mut self,
        offsets: &Offsets,
        group: ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        self.begin()?;
        let committer = self.committer.as_ref().ok_or_else(gone)?;
        committer.jobs.send((offsets.clone(), group)).map_err(|_| gone())?;
        self.is_committing = true;
        (self.messages, self.bytes) = (0, 0);
        Ok(())
    }

    /// How the commit has ended, if it has.
    ///
    /// [`TransactionError::Fenced`] says that another owner has taken over; after that and `Failed` this
    /// producer must not be used again.
    pub fn end_commit(&mut self, is_awaited: bool) -> Option<Result<(), TransactionError>> {
        if !self.is_committing {
            return Some(Ok(()));
        }
        let ended = &self.committer.as_ref()?.ended;
        let done = match is_awaited {
            true => ended.recv().unwrap_or_else(|_| Err(gone())),
            false => match ended.try_recv() {
                Err(mpsc::TryRecvError::Empty) => return None,
                other => other.unwrap_or_else(|_| Err(gone())),
            },
        };
        self.is_committing = false;
        // What has failed may still be open.
        let is_over = matches!(done, Ok(()) | Err(TransactionError::Aborted(_)));
        self.open = !is_over;
        let mut held = std::mem::take(&mut self.held);
        if done.is_err() {
            (self.messages, self.bytes) = (0, 0);
            return Some(done);
        }
        self.broken = held.iter_mut().try_for_each(|output| self.send_now(output.record())).err();
        Some(Ok(()))
    }

    /// Throws the epoch away; nothing is being committed.
    pub fn abort(&mut self) {
        if self.open {
            self.line.abort();
        }
        (self.open, self.messages, self.bytes) = (false, 0, 0);
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        if !self.open && !self.loose {
            self.line.producer.begin_transaction().map_err(|e| self.line.error(&e))?;
            self.open = true;
        }
        Ok(())
    }

    fn send_now(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), TransactionError> {
        self.begin()?;
        let producer = &self.line.producer;
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    producer.poll(Duration::from_millis(5));
                    record = same;
                }
                Err((e, _)) => return Err(self.line.error(&e)),
            }
        }
    }
}

impl Line {
    /// Waits until what the predecessor of the same name left open is aborted.
    fn take_over(self: &Arc<Self>) -> Result<Committer, TransactionError> {
        let call = Duration::from_millis(BROKER_CALL_MS_MAX);
        // Asked before it has a connection, librdkafka looks for a coordinator again after 500 ms only.
        let _ = self.producer.client().fetch_cluster_id(call);
        self.producer.init_transactions(3 * call).map_err(|e| self.error(&e))?;
        Committer::start(Arc::clone(self))
    }

    fn commit(
        &self,
        offsets: &Offsets,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        let call = Duration::from_millis(BROKER_CALL_MS_MAX);
        self.drain()?;
        let positions = tpl_of(offsets).map_err(|e| self.error(&e))?;
        let done = retried(|| self.producer.send_offsets_to_transaction(&positions, group, call))
            .and_then(|()| retried(|| self.producer.commit_transaction(call)));
        done.map_err(|e| {
            let error = self.error(&e);
            let abortable = matches!(&e, KafkaError::Transaction(t) if t.txn_requires_abort());
            match error {
                TransactionError::Failed(why) if abortable && self.abort() => {
                    TransactionError::Aborted(why)
                }
                error => error,
            }
        })
    }

    /// Throws the open transaction away; true when the producer can go on.
    fn abort(&self) -> bool {
        // Aborting does not serve deliveries by itself: without this it waits for its whole timeout.
        let drained = self.drain();
        let aborted = self.producer.abort_transaction(Duration::from_millis(BROKER_CALL_MS_MAX));
        if let Err(error) = &aborted {
            tracing::warn!(%error, ?drained, worker = self.name, "abort failed");
        }
        aborted.is_ok()
    }

    /// Sends what is gathered, and waits until every message is acknowledged. Leaving that to the commit
    /// costs 100 ms a time: it looks for acknowledgements only ten times a second. Waiting in `poll`
    /// costs a core: what is left of its last millisecond it spends asking again and again.
    fn drain(&self) -> Result<(), TransactionError> {
        let mut slices = BROKER_CALL_MS_MAX / FLUSH_SLICE_MS;
        while self.producer.in_flight_count() > 0 {
            if slices == 0 {
                let n = self.producer.in_flight_count();
                let what = format!("{n} messages unacknowledged after {BROKER_CALL_MS_MAX} ms");
                return Err(TransactionError::Failed(what));
            }
            slices -= 1;
            flush(self.producer.client(), Duration::from_millis(FLUSH_SLICE_MS));
            // What could not be delivered counts as in flight until it is told.
            self.producer.poll(Duration::ZERO);
        }
        match self.producer.context().take_delivery_error() {
            None => Ok(()),
            Some(what) => Err(self.failure(&format!("not delivered: {what}"), None)),
        }
    }

    fn error(&self, e: &KafkaError) -> TransactionError {
        self.failure(&e.to_string(), e.rdkafka_error_code())
    }

    /// What a failure comes to: whatever failed, a producer that was fenced says so.
    fn failure(&self, what: &str, code: Option<RDKafkaErrorCode>) -> TransactionError {
        let fenced = [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::FencedInstanceId];
        let fatal = self.producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or(code);
        if code.is_some_and(|c| fenced.contains(&c)) {
            return TransactionError::Fenced { name: self.name.clone(), reason: what.to_owned() };
        }
        let cause = fatal.map(|(_, why)| format!(" (fatal: {why})")).unwrap_or_default();
        TransactionError::Failed(format!("{what}{cause}"))
    }
}

impl Outbox for Transactional {
    /// Begins a transaction when none is open.
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), TransactionError> {
        self.messages += 1;
        self.bytes += record.payload.map_or(0, <[u8]>::len);
        if self.is_committing {
            self.held.push(Held::of(&record));
            return Ok(());
        }
        self.send_now(record_of(&record))
    }

    fn messages(&self) -> usize {
        self.messages
    }

    fn is_full(&self) -> bool {
        self.messages >= EPOCH_OUTPUTS_MAX || self.bytes >= EPOCH_OUTPUT_BYTES_MAX
    }
}

impl Held {
    fn of(record: &Outgoing<'_>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.to_vec(),
            payload: record.payload.map(<[u8]>::to_vec),
            headers: headers_of(record),
        }
    }

    fn record(&mut self) -> BaseRecord<'_, [u8], [u8]> {
        let headers = self.headers.take();
        record_to(&self.topic, self.partition, &self.key, self.payload.as_deref(), headers)
    }
}

fn record_of<'o>(outgoing: &Outgoing<'o>) -> BaseRecord<'o, [u8], [u8]> {
    let Outgoing { topic, partition, key, payload, .. } = *outgoing;
    record_to(topic, partition, key, payload, headers_of(outgoing))
}

fn record_to<'o>(
    topic: &'o str,
    partition: Option<i32>,
    key: &'o [u8],
    payload: Option<&'o [u8]>,
    headers: Option<OwnedHeaders>,
) -> BaseRecord<'o, [u8], [u8]> {
    let mut record = BaseRecord::to(topic).key(key);
    (record.partition, record.payload, record.headers) = (partition, payload, headers);
    record
}

fn headers_of(outgoing: &Outgoing<'_>) -> Option<OwnedHeaders> {
    let insert = |headers: OwnedHeaders, (key, value): &(&str, &[u8])| {
        headers.insert(Header { key, value: Some(*value) })
    };
    let room = || OwnedHeaders::new_with_capacity(outgoing.headers.len());
    (!outgoing.headers.is_empty()).then(|| outgoing.headers.iter().fold(room(), insert))
}

/// Calls again while the client says that this is safe: the outcome is not known yet.
fn retried(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    const TRIES: usize = 3;
    for _ in 1..TRIES {
        match call() {
            Err(KafkaError::Transaction(e)) if e.is_retriable() => {
                tracing::warn!(error = %e, "trying again");
            }
            other => return other,
        }
    }
    call()
}
