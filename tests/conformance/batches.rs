//! Checks of reading by the batch: `watchfire::kafka::Reader` against a broker.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::Offset;
use watchfire::kafka::{Message, Reader, WorkerContext};

use super::kit::*;

const WAIT: Duration = Duration::from_millis(20);

/// Closes as a worker does: nobody acknowledges that the partitions go.
struct Open(Reader);

impl Open {
    fn new(bootstrap: &str, extra: &[(&str, &str)]) -> Self {
        let mut config = config(bootstrap, extra);
        config
            .set("group.id", unique("batches"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20");
        let consumer = BaseConsumer::from_config_and_context(&config, WorkerContext::new(None));
        Self(Reader::new(consumer.unwrap()).unwrap())
    }

    fn assign(&self, topic: &str, partitions: i32, offset: i64) {
        for partition in 0..partitions {
            self.0.assign(&at(topic, partition, Offset::Offset(offset))).unwrap();
        }
    }

    /// Batches until there are so many messages, then once more for what should not come.
    fn read(&self, count: usize) -> Vec<Message<'_>> {
        let mut found = Vec::new();
        until("the records are there", || {
            self.0.serve().unwrap();
            found.extend(self.0.batch(WAIT, 7));
            (found.len() >= count).then_some(())
        });
        found.extend(self.0.batch(WAIT, 7));
        found
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.consumer().context().close();
    }
}

fn text<'m>(message: &'m Message<'_>) -> &'m str {
    assert_eq!(message.code(), None);
    std::str::from_utf8(message.payload().unwrap()).unwrap()
}

pub fn batches_hold_every_record_once_and_in_order(bootstrap: &str) {
    let topics = [topic(bootstrap, "batch-a", 3), topic(bootstrap, "batch-b", 3)];
    let values: Vec<String> = (0..50).map(|n| format!("value {n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for topic in &topics {
        (0..3).for_each(|partition| send_all(bootstrap, topic, partition, &values));
    }
    let open = Open::new(bootstrap, &[]);
    topics.iter().for_each(|topic| open.assign(topic, 3, 0));
    let mut found = open.read(300);
    // What lies before goes first, what is kept longer stays as it was.
    drop(found.drain(..20).inspect(|m| assert!(text(m).starts_with("value"))).collect::<Vec<_>>());
    assert!(found.iter().zip(&found[1..]).any(|(a, b)| a.is_beside(b)));
    assert!(found.iter().zip(&found[1..]).any(|(a, b)| !a.is_beside(b)));
    let mut by_place: BTreeMap<(&str, i32), Vec<(i64, &str)>> = BTreeMap::new();
    for message in &found {
        assert!(message.written_at().is_some());
        let place = by_place.entry((message.topic(), message.partition())).or_default();
        place.push((message.offset(), text(message)));
    }
    assert_eq!(found.len() + 20, 300);
    assert_eq!(by_place.len(), 6);
    for ((topic, partition), records) in by_place {
        let first = 50 - records.len();
        let expected: Vec<(i64, &str)> = (0..50).zip(values.clone()).skip(first).collect();
        assert_eq!(records, expected, "{topic} {partition}");
    }
    found.reverse();
    drop(found);
}

pub fn batches_tell_nulls_empty_values_and_headers(bootstrap: &str) {
    let topic = topic(bootstrap, "batch-forms", 1);
    let producer = producer(bootstrap, &[]);
    let record = || BaseRecord::<[u8], [u8]>::to(&topic).partition(0);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "name", value: Some("one") })
        .insert(Header::<&str> { key: "none", value: None })
        .insert(Header { key: "name", value: Some("two") });
    for record in [record(), record().payload(b""), record().payload(b"x").headers(headers)] {
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    drain(&producer);
    let open = Open::new(bootstrap, &[]);
    open.assign(&topic, 1, 0);
    let found = open.read(3);
    let payloads: Vec<Option<&[u8]>> = found.iter().map(Message::payload).collect();
    assert_eq!(payloads, [None, Some(&b""[..]), Some(&b"x"[..])]);
    assert_eq!(found[0].headers().count(), 0);
    let headers: Vec<(&str, Option<&[u8]>)> = found[2].headers().collect();
    assert_eq!(headers, [("name", Some(&b"one"[..])), ("none", None), ("name", Some(&b"two"[..]))]);
}

pub fn a_record_larger_than_a_fetch_comes_by_the_batch(bootstrap: &str) {
    let topic = topic(bootstrap, "batch-large", 1);
    let large = "x".repeat(900_000);
    send_all(bootstrap, &topic, 0, &["before", &large, "after"]);
    let small = [("message.max.bytes", "2000"), ("fetch.max.bytes", "2000")];
    let open = Open::new(bootstrap, &[small[0], small[1], ("max.partition.fetch.bytes", "1000")]);
    open.assign(&topic, 1, 0);
    let found = open.read(3);
    assert_eq!(found.iter().map(text).collect::<Vec<_>>(), ["before", &large, "after"]);
}

pub fn a_lost_position_is_an_error_among_the_records(bootstrap: &str) {
    let topic = topic(bootstrap, "batch-lost", 2);
    send_all(bootstrap, &topic, 0, &["one", "two"]);
    let open = Open::new(bootstrap, &[]);
    open.0.assign(&at(&topic, 1, Offset::Offset(100))).unwrap();
    open.0.assign(&at(&topic, 0, Offset::Offset(0))).unwrap();
    let found = open.read(3);
    let (errors, records): (Vec<&Message>, Vec<&Message>) =
        found.iter().partition(|m| m.code().is_some());
    assert_eq!(records.iter().map(|m| text(m)).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].code(), Some(RDKafkaErrorCode::AutoOffsetReset));
    assert_eq!((errors[0].topic(), errors[0].partition()), (topic.as_str(), 1));
}

/// What is fetched must find its way each time, and nothing of the reading before may follow.
pub fn partitions_given_back_and_taken_again_begin_anew(bootstrap: &str) {
    let topic = topic(bootstrap, "batch-again", 2);
    let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    (0..2).for_each(|partition| send_all(bootstrap, &topic, partition, &values));
    let open = Open::new(bootstrap, &[]);
    let mut both = at(&topic, 0, Offset::Offset(0));
    both.add_partition_offset(&topic, 1, Offset::Offset(0)).unwrap();
    for round in 0..20 {
        open.0.assign(&both).unwrap();
        let found = open.read(if round % 2 == 0 { 200 } else { 20 });
        for partition in 0..2 {
            let of = found.iter().filter(|m| m.partition() == partition);
            let offsets: Vec<i64> = of.map(Message::offset).collect();
            assert_eq!(offsets, (0..offsets.len() as i64).collect::<Vec<_>>(), "round {round}");
        }
        drop(found);
        open.0.consumer().incremental_unassign(&both).unwrap();
    }
}
