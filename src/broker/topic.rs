//! A topic: its partitions and its configuration.
//!
//! Every configuration a client gives is kept and described back; two change what the broker does: `retention.bytes`
//! and `max.message.bytes`. `cleanup.policy=compact` is accepted and keeps every record, which a reader of a compacted
//! topic must be able to bear anyway. `retention.ms` is described and not applied: a demo replays old events, and
//! Kafka's rule, which goes by record time, would delete them at once.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use super::log::PartitionLog;

/// Longest name of a topic, as in Kafka.
const NAME_CHARS_MAX: usize = 249;

/// The configurations a topic may have, with Kafka's defaults.
const DEFAULTS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("index.interval.bytes", "4096"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.bytes", "1073741824"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
    ("unclean.leader.election.enable", "false"),
];

/// A topic's configuration: Kafka's defaults and what was set on top of them.
#[derive(Debug, Clone, Default)]
pub struct TopicConfig {
    set: BTreeMap<String, String>,
}

impl TopicConfig {
    /// Checks and keeps the given configurations.
    ///
    /// # Errors
    /// `InvalidConfig` for a name Kafka does not know or a value that is not of its kind.
    pub fn new<'a>(
        given: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ResponseError> {
        let mut config = TopicConfig::default();
        for (name, value) in given {
            let known = DEFAULTS.iter().find(|(default_name, _)| *default_name == name);
            let (_, default) = known.ok_or(ResponseError::InvalidConfig)?;
            // What is a number by default must be one.
            if default.parse::<f64>().is_ok() && value.parse::<f64>().is_err() {
                return Err(ResponseError::InvalidConfig);
            }
            config.set.insert(name.to_owned(), value.to_owned());
        }
        Ok(config)
    }

    /// Every configuration in the order of its name: name, value, and whether it is the default.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        DEFAULTS.iter().map(|(name, default)| match self.set.get(*name) {
            Some(value) => (*name, value.as_str(), false),
            None => (*name, *default, true),
        })
    }

    /// Bytes each partition keeps; `None` for no bound.
    pub fn retention_bytes(&self) -> Option<u64> {
        self.number("retention.bytes").and_then(|n| u64::try_from(n).ok())
    }

    /// Greatest size of one produced batch, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.number("max.message.bytes").and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.entries().find(|(n, _, _)| *n == name).and_then(|(_, value, _)| value.parse().ok())
    }
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    partitions: Vec<PartitionLog>,
    config: TopicConfig,
    // Read at every produce, so not parsed anew each time.
    retention_bytes: Option<u64>,
    message_bytes_max: usize,
}

impl Topic {
    /// Makes a topic with empty partitions.
    pub fn new(partitions: usize, config: TopicConfig) -> Self {
        let mut topic = Topic {
            partitions: Vec::new(),
            retention_bytes: config.retention_bytes(),
            message_bytes_max: config.message_bytes_max(),
            config,
        };
        topic.grow(partitions);
        topic
    }

    /// Adds empty partitions until there are `partitions`.
    pub fn grow(&mut self, partitions: usize) {
        let wanted = self.partitions.len().max(partitions);
        self.partitions.resize_with(wanted, PartitionLog::default);
    }

    /// Its configuration.
    pub fn config(&self) -> &TopicConfig {
        &self.config
    }

    /// Greatest size of one produced batch, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// Bytes each partition keeps; `None` for no bound.
    pub fn retention_bytes(&self) -> Option<u64> {
        self.retention_bytes
    }

    /// Its partitions in order.
    pub fn partitions(&self) -> &[PartitionLog] {
        &self.partitions
    }

    /// One partition.
    pub fn partition(&self, partition: i32) -> Option<&PartitionLog> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// One partition, to change.
    pub fn partition_mut(&mut self, partition: i32) -> Option<&mut PartitionLog> {
        self.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// Memory held by all partitions, in bytes.
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().map(PartitionLog::bytes).sum()
    }

    /// The partition which holds the most bytes.
    pub fn largest_partition_mut(&mut self) -> Option<&mut PartitionLog> {
        self.partitions.iter_mut().max_by_key(|log| log.bytes())
    }
}

/// Whether Kafka would allow a topic of this name.
pub fn is_valid_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name != "."
        && name != ".."
        && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_kept_over_their_defaults_and_checked() {
        let config =
            TopicConfig::new([("cleanup.policy", "compact"), ("retention.bytes", "4096")]).unwrap();
        let entries: Vec<_> =
            config.entries().filter(|e| e.0 == "cleanup.policy" || e.0 == "retention.ms").collect();
        assert_eq!(
            entries,
            [("cleanup.policy", "compact", false), ("retention.ms", "604800000", true)]
        );
        assert_eq!(config.retention_bytes(), Some(4096));
        assert_eq!(TopicConfig::default().retention_bytes(), None);
        assert_eq!(TopicConfig::default().message_bytes_max(), 1_048_588);
        assert!(TopicConfig::new([("retention.byte", "1")]).is_err());
        assert!(TopicConfig::new([("retention.bytes", "much")]).is_err());
    }

    #[test]
    fn topic_names_follow_kafkas_rule() {
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        for (name, expected) in [
            ("a.b_c-D9", true),
            ("", false),
            (".", false),
            ("a b", false),
            ("ä", false),
            (&long, false),
        ] {
            assert_eq!(is_valid_name(name), expected, "{name}");
        }
    }
}
