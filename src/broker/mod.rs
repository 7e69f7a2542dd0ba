//! An in-process Kafka broker for `watchfire demo` and for tests: one node, loopback only, memory only.
//!
//! Real clients talk to it over TCP in the Kafka protocol, so what is tested against it is what runs in production,
//! librdkafka included. It keeps Kafka's promises where exactly-once depends on them: transactions with markers and a
//! last stable offset, producer epochs that fence, offsets that commit with their transaction, group generations and
//! static members. It keeps nothing over its own end, replicates nothing, knows no TLS, no login, no KIP-848 groups and
//! no time-based retention or compaction.
//!
//! ```text
//!   socket ─ server ─ handlers ─ state ─┬─ topic ─ log ─ sequence, batch
//!            threads   bytes      pure  ├─ txn
//!                                       └─ group ─ offsets
//! ```
//!
//! Everything right of `handlers` is a pure state machine: no clock, thread, socket or randomness, and no order that
//! depends on hashing. A simulator may drive [`state::State`] itself.
//!
//! Memory is bounded by [`BrokerConfig::memory_bytes_max`]. Beyond it the oldest records go and the log start moves, as
//! retention does in Kafka: a consumer that had not read them gets an offset out of range, never a silent gap.

pub mod batch;
pub mod faults;
pub mod group;
mod handlers;
pub mod ids;
pub mod log;
pub mod offsets;
pub mod sequence;
mod server;
pub mod state;
pub mod topic;
pub mod txn;

use std::io;

use kafka_protocol::error::ResponseError;

pub use faults::Fault;
pub use kafka_protocol::messages::ApiKey;
pub use log::LogBounds;

use group::GroupSettings;
use ids::TopicPartition;
use server::Server;
use state::{Settings, State};
use topic::TopicConfig;

/// How an embedded broker behaves. The default is Kafka's, but for a short first rebalance.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Port on loopback; 0 takes any that is free.
    pub port: u16,
    /// Partitions of a topic that is created because a client asked for it; `None`, the default, creates none.
    pub auto_create_partitions: Option<usize>,
    /// Bytes all logs together may hold, 256 MiB by default. Beyond, the oldest records of the largest topic go.
    pub memory_bytes_max: u64,
    /// How long an empty group waits for more members before its first generation, milliseconds. Kafka's default is
    /// 3000, which a demo would feel; here 50, enough for members that start together.
    pub group_initial_delay_ms: u32,
    /// Shortest session timeout a group member may ask for, milliseconds; 6000 as in Kafka.
    pub group_session_ms_min: u32,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            port: 0,
            auto_create_partitions: None,
            memory_bytes_max: 256 * 1024 * 1024,
            group_initial_delay_ms: 50,
            group_session_ms_min: 6_000,
        }
    }
}

/// What an embedded broker's own methods can fail with.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The port is taken, or the system gives no thread.
    #[error("embedded broker cannot listen on 127.0.0.1:{port}: {source}")]
    Start {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A topic cannot be created.
    #[error(
        "cannot create topic {topic:?} with {partitions} partitions (limit {}): {reason}",
        state::PARTITIONS_MAX
    )]
    CreateTopic {
        /// The topic's name.
        topic: String,
        /// How many partitions were asked for.
        partitions: usize,
        /// Kafka's name for the reason.
        reason: ResponseError,
    },
    /// Records cannot be deleted.
    #[error(
        "cannot delete records of {topic}[{partition}] before offset {before_offset}: {reason}"
    )]
    DeleteRecords {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was to become the log start.
        before_offset: i64,
        /// Kafka's name for the reason.
        reason: ResponseError,
    },
}

/// A running broker. It ends with [`EmbeddedBroker::shutdown`] or when dropped.
#[derive(Debug)]
pub struct EmbeddedBroker {
    server: Server,
}

impl EmbeddedBroker {
    /// Starts a broker on loopback.
    ///
    /// # Errors
    /// [`BrokerError::Start`] if the port cannot be bound.
    pub fn start(config: BrokerConfig) -> Result<EmbeddedBroker, BrokerError> {
        let port = config.port;
        let make = |address: std::net::SocketAddr| {
            State::new(Settings {
                advertised: (address.ip().to_string(), address.port()),
                auto_create_partitions: config.auto_create_partitions,
                memory_bytes_max: config.memory_bytes_max,
                group: GroupSettings {
                    initial_delay_ms: i64::from(config.group_initial_delay_ms),
                    session_ms_min: i64::from(config.group_session_ms_min),
                },
            })
        };
        let server =
            Server::start(port, make).map_err(|source| BrokerError::Start { port, source })?;
        Ok(EmbeddedBroker { server })
    }

    /// The address for a client's `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.server.address().to_string()
    }

    /// Creates a topic with Kafka's default configuration. A client can create one with another.
    ///
    /// # Errors
    /// [`BrokerError::CreateTopic`] if it exists, its name is not legal, or there are too many partitions.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result<(), BrokerError> {
        let created = self
            .server
            .with(|state, _| state.create_topic(name, partitions, TopicConfig::default()));
        created.map_err(|reason| BrokerError::CreateTopic {
            topic: name.to_owned(),
            partitions,
            reason,
        })
    }

    /// Deletes a partition's records before an offset, or all for -1, as retention would. Gives the new log start.
    ///
    /// # Errors
    /// [`BrokerError::DeleteRecords`] if there is no such partition or offset.
    pub fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before_offset: i64,
    ) -> Result<i64, BrokerError> {
        let at = TopicPartition::new(topic, partition);
        let deleted = self.server.with(|state, _| state.delete_records(&at, before_offset));
        let topic = topic.to_owned();
        deleted.map_err(|reason| BrokerError::DeleteRecords {
            topic,
            partition,
            before_offset,
            reason,
        })
    }

    /// Lets the next `times` requests of an API fail with an error code and have no effect.
    ///
    /// Every API but ApiVersions obeys; `api_key` is the protocol's number, see [`ApiKey`].
    pub fn inject_error(&self, api_key: i16, error_code: i16, times: usize) {
        self.inject_fault(api_key, Fault::Error(error_code), times);
    }

    /// Lets a fault happen to the next `times` requests of an API.
    pub fn inject_fault(&self, api_key: i16, fault: Fault, times: usize) {
        self.server.with(|state, _| state.faults.inject(api_key, fault, times));
    }

    /// How many injected faults of an API have not happened yet.
    pub fn faults_remaining(&self, api_key: i16) -> usize {
        self.server.with(|state, _| state.faults.remaining(api_key))
    }

    /// Start, stable and end offset of a partition; `None` if there is no such partition.
    pub fn log_bounds(&self, topic: &str, partition: i32) -> Option<LogBounds> {
        let at = TopicPartition::new(topic, partition);
        self.server.with(|state, _| state.log(&at).ok().map(log::PartitionLog::bounds))
    }

    /// Closes every connection and waits for every thread; dropping does the same.
    pub fn shutdown(mut self) {
        self.server.stop();
    }
}
