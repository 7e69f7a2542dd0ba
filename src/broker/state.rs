//! The whole broker as one pure state machine: topics, groups, transactions, faults.
//!
//! No clock, thread, socket or randomness, and no order that depends on hashing: the same calls with the same times
//! give the same answers. Time comes in as `now_ms`; [`State::tick`] lets it pass, [`State::next_deadline_ms`] says
//! when that next matters. [`State::changes`] grows with whatever a waiting request may be waiting for.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use super::batch::Header;
use super::faults::Faults;
use super::group::{Group, GroupSettings, Join, Joined, Outcome, Refused};
use super::ids::{Producer, TopicPartition};
use super::log::{Appended, PartitionLog};
use super::topic::{self, Topic, TopicConfig};
use super::txn::{Coordinator, Ending};

/// Most partitions of all topics together: each costs memory even when empty.
pub const PARTITIONS_MAX: usize = 10_000;

/// How the broker behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host and port that clients are told to connect to.
    pub advertised: (String, u16),
    /// Partitions of a topic which is created by being asked for; `None`: it is not created.
    pub auto_create_partitions: Option<usize>,
    /// Bytes all logs together may hold.
    pub memory_bytes_max: u64,
    /// How its consumer groups behave.
    pub group: GroupSettings,
}

/// The whole broker.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    topics: BTreeMap<String, Topic>,
    groups: BTreeMap<String, Group>,
    transactions: Coordinator,
    next_member: u64,
    changes: u64,
    /// Faults to come.
    pub faults: Faults,
}

impl State {
    /// Makes an empty broker.
    pub fn new(settings: Settings) -> Self {
        State {
            settings,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            transactions: Coordinator::default(),
            next_member: 0,
            changes: 0,
            faults: Faults::default(),
        }
    }

    /// How it behaves.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Grows with every change a waiting request may be waiting for.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn changed(&mut self) {
        self.changes += 1;
    }

    /// Lets time pass: transactions and sessions expire, rebalances complete.
    pub fn tick(&mut self, now_ms: i64) {
        for ending in self.transactions.expire(now_ms) {
            self.apply(ending, now_ms);
        }
        let mut groups_changed = false;
        for group in self.groups.values_mut() {
            groups_changed |= group.tick(now_ms);
        }
        if groups_changed {
            self.changed();
        }
    }

    /// When [`State::tick`] next has something to do.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let groups = self.groups.values().filter_map(Group::next_deadline_ms);
        groups.chain(self.transactions.next_deadline_ms()).min()
    }
}

/// Topics and their logs.
impl State {
    /// All topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    /// One topic.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`.
    pub fn topic(&self, name: &str) -> Result<&Topic, ResponseError> {
        self.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// One partition's log.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`.
    pub fn log(&self, at: &TopicPartition) -> Result<&PartitionLog, ResponseError> {
        self.topic(&at.topic)?.partition(at.partition).ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Checks what [`State::create_topic`] would check.
    ///
    /// # Errors
    /// `InvalidTopicException`, `TopicAlreadyExists`, `InvalidPartitions` for none or more than [`PARTITIONS_MAX`].
    pub fn check_new_topic(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        if !topic::is_valid_name(name) {
            return Err(ResponseError::InvalidTopicException);
        }
        if self.topics.contains_key(name) {
            return Err(ResponseError::TopicAlreadyExists);
        }
        if partitions == 0 || partitions > self.partitions_left() {
            return Err(ResponseError::InvalidPartitions);
        }
        Ok(())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// Those of [`State::check_new_topic`].
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: usize,
        config: TopicConfig,
    ) -> Result<(), ResponseError> {
        self.check_new_topic(name, partitions)?;
        self.topics.insert(name.to_owned(), Topic::new(partitions, config));
        self.changed();
        Ok(())
    }

    /// Adds partitions to a topic until there are `partitions`.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `InvalidPartitions` for fewer than there are or too many.
    pub fn grow_topic(
        &mut self,
        name: &str,
        partitions: usize,
        validate_only: bool,
    ) -> Result<(), ResponseError> {
        let left = self.partitions_left();
        let topic = self.topics.get_mut(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let now = topic.partitions().len();
        if partitions <= now || partitions - now > left {
            return Err(ResponseError::InvalidPartitions);
        }
        if !validate_only {
            topic.grow(partitions);
            self.changed();
        }
        Ok(())
    }

    fn partitions_left(&self) -> usize {
        let used: usize = self.topics.values().map(|t| t.partitions().len()).sum();
        PARTITIONS_MAX.saturating_sub(used)
    }

    /// Deletes a topic with its records and its committed offsets.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), ResponseError> {
        self.topics.remove(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        for group in self.groups.values_mut() {
            group.offsets.forget_topic(name);
        }
        self.changed();
        Ok(())
    }

    /// Appends one produced batch.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `MessageTooLarge`; of the batch, see [`Header::check`]; of its producer, see
    /// [`Coordinator::verify_partition`] and [`PartitionLog::append`].
    pub fn produce(
        &mut self,
        transactional_id: Option<&str>,
        at: &TopicPartition,
        batch: &[u8],
    ) -> Result<Appended, ResponseError> {
        self.log(at)?;
        let topic = self.topics.get_mut(&at.topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        if batch.len() > topic.message_bytes_max() {
            return Err(ResponseError::MessageTooLarge);
        }
        let header = Header::check(batch)?;
        if let (true, Some((producer, _))) = (header.transactional, header.sequence) {
            let id = transactional_id.ok_or(ResponseError::InvalidTxnState)?;
            self.transactions.verify_partition(id, producer, at)?;
        }
        let retention = topic.retention_bytes();
        let log =
            topic.partition_mut(at.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let appended = log.append(&header, batch)?;
        if let Some(bytes_max) = retention {
            log.retain_bytes(bytes_max);
        }
        self.bound_memory();
        self.changed();
        Ok(appended)
    }

    /// Deletes the records before an offset, or all for `-1`. Gives the new log start.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `OffsetOutOfRange`.
    pub fn delete_records(
        &mut self,
        at: &TopicPartition,
        before: i64,
    ) -> Result<i64, ResponseError> {
        let topic = self.topics.get_mut(&at.topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let log =
            topic.partition_mut(at.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let start = log.delete_before(before)?;
        self.changed();
        Ok(start)
    }

    /// Drops the oldest batches of the fullest partition of the largest topic until all fit.
    fn bound_memory(&mut self) {
        let mut excess = self.bytes().saturating_sub(self.settings.memory_bytes_max);
        while excess > 0 {
            let largest = self.topics.values_mut().max_by_key(|topic| topic.bytes());
            let Some(log) = largest.and_then(Topic::largest_partition_mut) else {
                return;
            };
            let before = log.bytes();
            if !log.drop_oldest() {
                return;
            }
            excess = excess.saturating_sub(before - log.bytes());
        }
    }

    /// Memory held by all logs, in bytes.
    pub fn bytes(&self) -> u64 {
        self.topics.values().map(Topic::bytes).sum()
    }
}

/// Transactions.
impl State {
    /// Gives an id to a producer which is only idempotent.
    pub fn idempotent_producer(&mut self) -> Producer {
        self.transactions.idempotent_producer()
    }

    /// See [`Coordinator::init`].
    ///
    /// # Errors
    /// As there.
    pub fn init_producer(
        &mut self,
        id: &str,
        current: Option<Producer>,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Result<Producer, ResponseError> {
        let (producer, ending) = self.transactions.init(id, current, timeout_ms)?;
        if let Some(ending) = ending {
            self.apply(ending, now_ms);
        }
        Ok(producer)
    }

    /// See [`Coordinator::add_partitions`].
    ///
    /// # Errors
    /// As there.
    pub fn add_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        self.transactions.add_partitions(id, producer, partitions, now_ms)
    }

    /// See [`Coordinator::add_group`].
    ///
    /// # Errors
    /// As there.
    pub fn add_group(
        &mut self,
        id: &str,
        producer: Producer,
        group: &str,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        self.transactions.add_group(id, producer, group, now_ms)
    }

    /// Checks that a producer's transaction covers a group's offsets.
    ///
    /// # Errors
    /// See [`Coordinator::verify_group`].
    pub fn verify_group(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ResponseError> {
        self.transactions.verify_group(id, producer, group)
    }

    /// See [`Coordinator::end`].
    ///
    /// # Errors
    /// As there.
    pub fn end_transaction(
        &mut self,
        id: &str,
        producer: Producer,
        commit: bool,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        if let Some(ending) = self.transactions.end(id, producer, commit)? {
            self.apply(ending, now_ms);
        }
        Ok(())
    }

    /// Writes the markers and settles the offsets of a transaction which has ended.
    fn apply(&mut self, ending: Ending, now_ms: i64) {
        for at in &ending.partitions {
            // A topic may have been deleted meanwhile.
            if let Some(log) =
                self.topics.get_mut(&at.topic).and_then(|t| t.partition_mut(at.partition))
            {
                log.end_transaction(ending.producer, ending.commit, now_ms);
            }
        }
        for group in &ending.groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.offsets.end_transaction(ending.producer.id, ending.commit);
            }
        }
        self.bound_memory();
        self.changed();
    }
}

/// Groups.
impl State {
    /// All groups in the order of their ids.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// One group, if it exists.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// One group, to ask for an answer or note a sign of life: nothing another request could be waiting for.
    pub fn waited_group(&mut self, id: &str) -> Option<&mut Group> {
        self.groups.get_mut(id)
    }

    /// One group to change, if it exists. Counts as a change.
    pub fn existing_group(&mut self, id: &str) -> Option<&mut Group> {
        self.changes += 1;
        self.groups.get_mut(id)
    }

    /// One group to change, made if need be. Counts as a change.
    ///
    /// # Errors
    /// `InvalidGroupId` for an empty id.
    pub fn group_or_new(&mut self, id: &str) -> Result<&mut Group, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        self.changes += 1;
        let settings = self.settings.group;
        Ok(self.groups.entry(id.to_owned()).or_insert_with(|| Group::new(settings)))
    }

    /// Takes a member into a group. Member ids are unique in the broker and never random.
    pub fn join(&mut self, group_id: &str, join: Join, now_ms: i64) -> Outcome<Joined, Refused> {
        self.next_member += 1;
        let prefix = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let fresh_id = format!("{prefix}-{:08}", self.next_member);
        match self.group_or_new(group_id) {
            Ok(group) => group.join(join, fresh_id, now_ms),
            Err(error) => Outcome::Ready(Err(Refused { error, member_id: join.member_id })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::sample::Sample;
    use super::super::log::LogBounds;
    use super::super::offsets::Position;
    use super::*;

    fn state(memory_bytes_max: u64) -> State {
        State::new(Settings {
            advertised: ("127.0.0.1".into(), 9092),
            auto_create_partitions: None,
            memory_bytes_max,
            group: GroupSettings { initial_delay_ms: 0, session_ms_min: 0 },
        })
    }

    fn at(topic: &str) -> TopicPartition {
        TopicPartition::new(topic, 0)
    }

    fn with_topics(memory_bytes_max: u64) -> State {
        let mut state = state(memory_bytes_max);
        for name in ["a", "b"] {
            state.create_topic(name, 1, TopicConfig::default()).unwrap();
        }
        state
    }

    fn produce(state: &mut State, topic: &str) -> Result<Appended, ResponseError> {
        state.produce(None, &at(topic), &Sample::default().bytes())
    }

    fn transactional(producer: Producer, sequence: i32) -> Vec<u8> {
        let sequence = Some((producer, sequence));
        let sample = Sample { sequence, transactional: true, ..Sample::default() };
        sample.bytes()
    }

    #[test]
    fn the_oldest_records_of_the_largest_topic_give_way() {
        let mut state = with_topics(1_000);
        produce(&mut state, "a").unwrap();
        for _ in 0..50 {
            produce(&mut state, "b").unwrap();
            assert!(state.bytes() <= 1_000);
        }
        assert_eq!(state.log(&at("a")).unwrap().bounds().start, 0);
        assert!(state.log(&at("b")).unwrap().bounds().start > 40);
    }

    #[test]
    fn a_batch_alone_beyond_the_bound_is_gone_at_once_and_visibly() {
        let mut state = with_topics(10);
        assert_eq!(produce(&mut state, "a").unwrap().base_offset, 0);
        let bounds = state.log(&at("a")).unwrap().bounds();
        assert_eq!(bounds, LogBounds { start: 1, stable: 1, end: 1 });
    }

    #[test]
    fn a_produced_batch_must_fit_its_topic_and_its_transaction() {
        let mut state = with_topics(1 << 20);
        let small = TopicConfig::new([("max.message.bytes", "50")]).unwrap();
        state.create_topic("small", 1, small).unwrap();
        assert_eq!(produce(&mut state, "small"), Err(ResponseError::MessageTooLarge));
        assert_eq!(produce(&mut state, "none"), Err(ResponseError::UnknownTopicOrPartition));
        let producer = state.init_producer("x", None, 1_000, 0).unwrap();
        let batch = transactional(producer, 0);
        let not_added = state.produce(Some("x"), &at("a"), &batch);
        assert_eq!(not_added, Err(ResponseError::InvalidTxnState));
        state.add_partitions("x", producer, vec![at("a")], 0).unwrap();
        assert_eq!(state.produce(None, &at("a"), &batch), Err(ResponseError::InvalidTxnState));
        assert_eq!(state.produce(Some("x"), &at("a"), &batch).unwrap().base_offset, 0);
    }

    #[test]
    fn a_timeout_settles_logs_and_offsets_and_is_a_change() {
        let mut state = with_topics(1 << 20);
        let producer = state.init_producer("x", None, 1_000, 0).unwrap();
        state.add_partitions("x", producer, vec![at("a")], 0).unwrap();
        state.add_group("x", producer, "g", 0).unwrap();
        state.produce(Some("x"), &at("a"), &transactional(producer, 0)).unwrap();
        let offsets = &mut state.group_or_new("g").unwrap().offsets;
        offsets.commit_with_transaction(producer.id, at("a"), Position::new(5, -1, "").unwrap());
        assert_eq!(state.next_deadline_ms(), Some(1_000));
        let before = state.changes();
        state.tick(999);
        assert_eq!(state.changes(), before);
        state.tick(1_000);
        assert!(state.changes() > before);
        let bounds = state.log(&at("a")).unwrap().bounds();
        assert_eq!(bounds, LogBounds { start: 0, stable: 2, end: 2 });
        assert_eq!(state.group("g").unwrap().offsets.fetch(&at("a"), true), Ok(None));
        let late = state.produce(Some("x"), &at("a"), &transactional(producer, 1));
        assert_eq!(late, Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn a_topic_deleted_under_a_transaction_does_not_hinder_its_end() {
        let mut state = with_topics(1 << 20);
        let producer = state.init_producer("x", None, 1_000, 0).unwrap();
        state.add_partitions("x", producer, vec![at("a"), at("b")], 0).unwrap();
        state.delete_topic("a").unwrap();
        state.end_transaction("x", producer, true, 0).unwrap();
        assert_eq!(state.log(&at("b")).unwrap().bounds().end, 1);
    }

    #[test]
    fn a_topic_only_grows_and_partitions_are_bounded() {
        let mut state = with_topics(1 << 20);
        let invalid = Err(ResponseError::InvalidPartitions);
        assert_eq!(state.grow_topic("a", 1, false), invalid);
        assert_eq!(state.grow_topic("a", PARTITIONS_MAX, false), invalid);
        assert_eq!(state.grow_topic("a", 3, true), Ok(()));
        assert_eq!(state.topic("a").unwrap().partitions().len(), 1);
        assert_eq!(state.grow_topic("a", 3, false), Ok(()));
        assert_eq!(state.topic("a").unwrap().partitions().len(), 3);
        assert_eq!(state.create_topic("c", PARTITIONS_MAX, TopicConfig::default()), invalid);
    }
}
