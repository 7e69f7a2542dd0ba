//! Kafka clients: their settings, their callbacks, the service's own topics, transactions, groups.

mod bus;
mod client;
mod context;
mod kept;
mod native;
mod ownership;
mod token;
mod topics;
mod transaction;

pub use bus::KafkaBus;
pub use client::{ClientError, Clients};
pub use context::WorkerContext;
pub use kept::KafkaKept;
pub use native::{Message, Reader};
pub use ownership::{share_out_anew, unowned};
pub use token::{TokenError, TokenSource};
pub use topics::{IfOthers, TopicError, TopicSpec, ensure_topics, partition_count, retention_ms};
pub use transaction::Transactional;
