//! Checks of transactions: what exactly-once stands on.

use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::Offset;

use super::kit::*;

const TIMEOUT_MS: &str = "30000";

fn commit(producer: &BaseProducer) {
    drain(producer);
    producer.commit_transaction(PATIENCE).unwrap();
}

fn abort(producer: &BaseProducer) {
    drain(producer);
    producer.abort_transaction(PATIENCE).unwrap();
}

fn transaction_error(error: KafkaError) -> RDKafkaError {
    match error {
        KafkaError::Transaction(error) => error,
        other => panic!("not an error of the transaction: {other}"),
    }
}

pub fn an_open_transaction_is_invisible(bootstrap: &str) {
    let topic = topic(bootstrap, "open", 1);
    let producer = transactional(bootstrap, &unique("open"), TIMEOUT_MS);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 0, &["a", "b"]);
    drain(&producer);
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_uncommitted"), ["a", "b"]);
    assert!(read_to_end(bootstrap, &topic, 0, "read_committed").is_empty());
    // What comes after the open transaction must wait for it too.
    send_all(bootstrap, &topic, 0, &["later"]);
    assert!(read_to_end(bootstrap, &topic, 0, "read_committed").is_empty());
    commit(&producer);
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_committed"), ["a", "b", "later"]);
}

pub fn an_aborted_transaction_is_invisible(bootstrap: &str) {
    let topic = topic(bootstrap, "aborted", 1);
    let producer = transactional(bootstrap, &unique("aborted"), TIMEOUT_MS);
    for (values, keep) in [(["a", "b"], true), (["c", "d"], false), (["e", "f"], true)] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, 0, &values);
        if keep { commit(&producer) } else { abort(&producer) }
    }
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_committed"), ["a", "b", "e", "f"]);
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_uncommitted").len(), 6);
}

pub fn interleaved_transactions_stay_apart(bootstrap: &str) {
    let topic = topic(bootstrap, "interleaved", 1);
    let kept = transactional(bootstrap, &unique("kept"), TIMEOUT_MS);
    let dropped = transactional(bootstrap, &unique("dropped"), TIMEOUT_MS);
    kept.begin_transaction().unwrap();
    dropped.begin_transaction().unwrap();
    for (producer, value) in [(&kept, "1"), (&dropped, "x"), (&kept, "2"), (&dropped, "y")] {
        send(producer, &topic, 0, &[value]);
        drain(producer);
    }
    abort(&dropped);
    send_all(bootstrap, &topic, 0, &["3"]);
    commit(&kept);
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_committed"), ["1", "2", "3"]);
}

/// A group with one settled member, and its metadata.
fn member_of(bootstrap: &str, group: &str, topic: &str) -> (Member, ConsumerGroupMetadata) {
    let mut member = Member::join(bootstrap, group, topic, &[("enable.auto.commit", "false")]);
    settle(&mut [&mut member], &[1]);
    let metadata = member.consumer.group_metadata().unwrap();
    (member, metadata)
}

pub fn offsets_commit_only_with_their_transaction(bootstrap: &str) {
    let topic = topic(bootstrap, "offsets", 1);
    let group = unique("offsets");
    let (_member, metadata) = member_of(bootstrap, &group, &topic);
    let producer = transactional(bootstrap, &unique("offsets"), TIMEOUT_MS);
    for (offset, keep, expected) in [(5, false, None), (7, true, Some(7)), (9, false, Some(7))] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, 0, &["x"]);
        let offsets = at(&topic, 0, Offset::Offset(offset));
        producer.send_offsets_to_transaction(&offsets, &metadata, PATIENCE).unwrap();
        if keep {
            commit(&producer)
        } else {
            abort(&producer)
        }
        assert_eq!(committed(bootstrap, &group, &topic, PATIENCE), Ok(expected), "{offset}");
    }
}

pub fn a_new_owner_waits_for_open_offsets(bootstrap: &str) {
    let topic = topic(bootstrap, "unstable", 1);
    let group = unique("unstable");
    let (_member, metadata) = member_of(bootstrap, &group, &topic);
    let producer = transactional(bootstrap, &unique("unstable"), TIMEOUT_MS);
    producer.begin_transaction().unwrap();
    let offsets = at(&topic, 0, Offset::Offset(3));
    producer.send_offsets_to_transaction(&offsets, &metadata, PATIENCE).unwrap();
    let too_early = committed(bootstrap, &group, &topic, Duration::from_secs(1));
    assert!(too_early.is_err(), "{too_early:?}");
    commit(&producer);
    assert_eq!(committed(bootstrap, &group, &topic, PATIENCE), Ok(Some(3)));
}

pub fn a_second_producer_fences_the_first(bootstrap: &str) {
    let topic = topic(bootstrap, "fenced", 1);
    let id = unique("fenced");
    let first = transactional(bootstrap, &id, TIMEOUT_MS);
    first.begin_transaction().unwrap();
    send(&first, &topic, 0, &["first"]);
    drain(&first);
    let second = transactional(bootstrap, &id, TIMEOUT_MS);
    let error = transaction_error(first.commit_transaction(PATIENCE).unwrap_err());
    assert!(error.is_fatal(), "{error}");
    assert_eq!(error.code(), RDKafkaErrorCode::Fenced);
    second.begin_transaction().unwrap();
    send(&second, &topic, 0, &["second"]);
    commit(&second);
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_committed"), ["second"]);
}

pub fn a_timed_out_transaction_is_aborted_and_fenced(bootstrap: &str) {
    let topic = topic(bootstrap, "timeout", 1);
    // Acknowledgements must come within the transaction's timeout, so librdkafka wants a shorter one for them.
    let producer = transactional(bootstrap, &unique("timeout"), "1500");
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 0, &["late"]);
    drain(&producer);
    send_all(bootstrap, &topic, 0, &["after"]);
    // A cluster looks for timed-out transactions every ten seconds.
    until("the broker has aborted the transaction", || {
        let values = read_to_end(bootstrap, &topic, 0, "read_committed");
        (values == ["after"]).then_some(())
    });
    let error = transaction_error(producer.commit_transaction(PATIENCE).unwrap_err());
    assert!(error.is_fatal(), "{error}");
}

/// Sends offsets with `metadata`, which must be refused with `code`; the transaction must then be abortable.
fn refused(bootstrap: &str, topic: &str, metadata: &ConsumerGroupMetadata, code: RDKafkaErrorCode) {
    let producer = transactional(bootstrap, &unique("refused"), TIMEOUT_MS);
    producer.begin_transaction().unwrap();
    send(&producer, topic, 0, &["never seen"]);
    let offsets = at(topic, 0, Offset::Offset(1));
    let error = producer.send_offsets_to_transaction(&offsets, metadata, PATIENCE).unwrap_err();
    let error = transaction_error(error);
    assert_eq!(error.code(), code);
    assert!(error.txn_requires_abort(), "{error}");
    abort(&producer);
    assert!(read_to_end(bootstrap, topic, 0, "read_committed").is_empty());
}

pub fn stale_group_metadata_is_refused(bootstrap: &str) {
    let topic = topic(bootstrap, "stale", 2);
    let group = unique("stale");
    let mut first = Member::join(bootstrap, &group, &topic, &[]);
    settle(&mut [&mut first], &[2]);
    let stale = first.consumer.group_metadata().unwrap();
    let mut second = Member::join(bootstrap, &group, &topic, &[]);
    settle(&mut [&mut first, &mut second], &[1, 1]);
    refused(bootstrap, &topic, &stale, RDKafkaErrorCode::IllegalGeneration);
}

pub fn an_unknown_members_offsets_are_refused(bootstrap: &str) {
    let topic = topic(bootstrap, "unknown", 2);
    let group = unique("unknown");
    let mut first = Member::join(bootstrap, &group, &topic, &[]);
    let mut second = Member::join(bootstrap, &group, &topic, &[]);
    settle(&mut [&mut first, &mut second], &[1, 1]);
    let gone = second.consumer.group_metadata().unwrap();
    drop(second);
    settle(&mut [&mut first], &[2]);
    refused(bootstrap, &topic, &gone, RDKafkaErrorCode::UnknownMemberId);
}

pub fn a_fenced_static_members_offsets_are_refused(bootstrap: &str) {
    let topic = topic(bootstrap, "fenced-member", 1);
    let group = unique("fenced-member");
    let settings = [("group.instance.id", "one")];
    let mut first = Member::join(bootstrap, &group, &topic, &settings);
    settle(&mut [&mut first], &[1]);
    let fenced = first.consumer.group_metadata().unwrap();
    drop(first);
    let mut second = Member::join(bootstrap, &group, &topic, &settings);
    settle(&mut [&mut second], &[1]);
    refused(bootstrap, &topic, &fenced, RDKafkaErrorCode::FencedInstanceId);
}

/// A worker of a pipeline: reads a topic, writes what it reads to another, all in transactions. The instance and the
/// transactional id stay the same over its restarts, as they do in Watchfire.
struct Worker {
    member: Member,
    producer: BaseProducer,
}

impl Worker {
    fn start(bootstrap: &str, group: &str, name: &str, source: &str) -> Worker {
        let instance = format!("{group}-{name}");
        let settings = [("enable.auto.commit", "false"), ("group.instance.id", &instance)];
        let member = Member::join(bootstrap, group, source, &settings);
        let producer = transactional(bootstrap, &instance, TIMEOUT_MS);
        Worker { member, producer }
    }

    /// One transaction over what one poll gives, up to but without its end. `false` if there was nothing.
    fn work(&mut self, sink: &str) -> Result<bool, KafkaError> {
        self.member.poll();
        let values = std::mem::take(&mut self.member.values);
        if values.is_empty() {
            return Ok(false);
        }
        self.producer.begin_transaction()?;
        for value in &values {
            send(&self.producer, sink, 0, &[value]);
        }
        drain(&self.producer);
        let metadata = self.member.consumer.group_metadata().unwrap();
        let positions = self.member.consumer.position()?;
        self.producer.send_offsets_to_transaction(&positions, &metadata, PATIENCE)?;
        Ok(true)
    }
}

pub fn a_pipeline_that_is_interrupted_writes_each_result_once(bootstrap: &str) {
    let source = topic(bootstrap, "source", 4);
    let sink = topic(bootstrap, "sink", 1);
    let group = unique("pipeline");
    let numbers: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let start = |name| Worker::start(bootstrap, &group, name, &source);
    let (mut one, mut two) = (start("one"), start("two"));
    // A cooperative rebalance has two generations. A static member that restarts between them does not ask for the
    // second, and no broker does: the partitions given up in the first stay without an owner. So settle before.
    settle(&mut [&mut one.member, &mut two.member], &[2, 2]);
    let mut workers = [("one", one), ("two", two)];
    for (partition, number) in (0..4).cycle().zip(&numbers) {
        send_all(bootstrap, &source, partition, &[number]);
    }
    let mut transactions = 0;
    let written = until("every result is written", || {
        let mut idle = true;
        for (name, worker) in &mut workers {
            if !worker.work(&sink).unwrap() {
                continue;
            }
            idle = false;
            transactions += 1;
            match transactions % 20 {
                // It dies before the commit; its successor aborts what it left open.
                7 => *worker = start(name),
                // It dies after the commit.
                13 => {
                    worker.producer.commit_transaction(PATIENCE).unwrap();
                    *worker = start(name);
                }
                _ => worker.producer.commit_transaction(PATIENCE).unwrap(),
            }
        }
        if !idle {
            return None;
        }
        let written = read_to_end(bootstrap, &sink, 0, "read_committed");
        (written.len() >= numbers.len()).then_some(written)
    });
    let mut written: Vec<usize> = written.iter().map(|n| n.parse().unwrap()).collect();
    written.sort_unstable();
    assert_eq!(written, (0..100).collect::<Vec<_>>());
}
