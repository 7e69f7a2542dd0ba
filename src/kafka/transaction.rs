//! One transaction per epoch: outputs and offsets together, or neither.
//!
//! ```text
//!            send                    commit
//!   idle ───────────▶ open ─────────────────────────▶ idle
//!                      │  abortable ─▶ aborted: the worker goes back to the committed offsets
//!                      └─ fatal or unknown: the worker is thrown away and built anew
//! ```
//!
//! After any failure the worker's memory is ahead of Kafka and cannot be trusted: state and positions
//! begin anew at the committed offsets. A commit of unknown outcome needs no guess: initialising the
//! new producer waits for it, and the committed offsets say what happened.
//!
//! A *loose* producer has no transactions: its outputs are there at once, and positions follow when all of
//! them are acknowledged. A failure in between repeats outputs, and loses none.

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
    BROKER_CALL_MS_MAX, EPOCH_OUTPUT_BYTES_MAX, EPOCH_OUTPUTS_MAX, FLUSH_SLICE_MS,
};

/// A transactional producer and its open transaction.
pub struct Transactional {
    producer: BaseProducer<WorkerContext>,
    name: String,
    loose: bool,
    open: bool,
    messages: usize,
    bytes: usize,
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
        let connected = Self { producer, name, loose, open: false, messages: 0, bytes: 0 };
        if loose {
            return Ok(connected);
        }
        let wait = Duration::from_millis(3 * BROKER_CALL_MS_MAX);
        // Asked before it has a connection, librdkafka looks for a coordinator again after 500 ms only.
        let _ = connected.producer.client().fetch_cluster_id(wait);
        connected.producer.init_transactions(wait).map_err(|e| connected.error(&e))?;
        Ok(connected)
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
        self.drain()?;
        (self.messages, self.bytes) = (0, 0);
        Ok(())
    }

    /// Commits the outputs of the epoch together with these positions.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`] when another owner has taken over, else `Failed`; then this
    /// producer must not be used again.
    pub fn commit(
        &mut self,
        offsets: &Offsets,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        let call = Duration::from_millis(BROKER_CALL_MS_MAX);
        self.begin()?;
        self.drain()?;
        let positions = tpl_of(offsets).map_err(|e| self.error(&e))?;
        let done = retried(|| self.producer.send_offsets_to_transaction(&positions, group, call))
            .and_then(|()| retried(|| self.producer.commit_transaction(call)));
        if let Err(e) = done {
            let error = self.error(&e);
            let abortable = matches!(&e, KafkaError::Transaction(t) if t.txn_requires_abort());
            return match error {
                TransactionError::Failed(why) if abortable && self.abort() => {
                    Err(TransactionError::Aborted(why))
                }
                error => Err(error),
            };
        }
        (self.open, self.messages, self.bytes) = (false, 0, 0);
        Ok(())
    }

    /// Throws the epoch away; true when the producer can go on.
    pub fn abort(&mut self) -> bool {
        // Aborting does not serve deliveries by itself: without this it waits for its whole timeout.
        let drained = self.drain();
        let call = Duration::from_millis(BROKER_CALL_MS_MAX);
        let aborted = if self.open { self.producer.abort_transaction(call) } else { Ok(()) };
        if let Err(error) = &aborted {
            tracing::warn!(%error, ?drained, worker = self.name, "abort failed");
        }
        (self.open, self.messages, self.bytes) = (false, 0, 0);
        aborted.is_ok()
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        if !self.open && !self.loose {
            self.producer.begin_transaction().map_err(|e| self.error(&e))?;
            self.open = true;
        }
        Ok(())
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
        self.begin()?;
        self.messages += 1;
        self.bytes += record.payload.map_or(0, <[u8]>::len);
        let mut record = record_of(&record);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    self.producer.poll(Duration::from_millis(5));
                    record = same;
                }
                Err((e, _)) => return Err(self.error(&e)),
            }
        }
    }

    fn messages(&self) -> usize {
        self.messages
    }

    fn is_full(&self) -> bool {
        self.messages >= EPOCH_OUTPUTS_MAX || self.bytes >= EPOCH_OUTPUT_BYTES_MAX
    }
}

fn record_of<'o>(outgoing: &Outgoing<'o>) -> BaseRecord<'o, [u8], [u8]> {
    let mut record = BaseRecord::to(outgoing.topic).key(outgoing.key);
    (record.partition, record.payload) = (outgoing.partition, outgoing.payload);
    if !outgoing.headers.is_empty() {
        let room = OwnedHeaders::new_with_capacity(outgoing.headers.len());
        let insert = |headers: OwnedHeaders, (key, value): &(&str, &[u8])| {
            headers.insert(Header { key, value: Some(*value) })
        };
        record.headers = Some(outgoing.headers.iter().fold(room, insert));
    }
    record
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
