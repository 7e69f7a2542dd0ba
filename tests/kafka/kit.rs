//! What the tests need of Kafka: where it is, records in, alerts out, positions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::conformance::kit::{admin, block_on, config, drain};

/// The longest any wait may take. A dead member's session alone lasts 10 s.
pub const PATIENCE: Duration = Duration::from_secs(90);
const CALL: Duration = Duration::from_secs(20);

/// The address of a real Kafka, or `None` with a loud note when there is none.
///
/// # Panics
/// With `CI=true`, where a missing Kafka is a failure.
pub fn kafka() -> Option<String> {
    if let Ok(bootstrap) = std::env::var("WATCHFIRE_KAFKA") {
        return Some(bootstrap);
    }
    let how = "run `scripts/test`, or `scripts/kafka run -- cargo test --test kafka`";
    let ci = std::env::var("CI").as_deref() == Ok("true");
    assert!(!ci, "CI=true and WATCHFIRE_KAFKA is not set: {how}");
    eprintln!("SKIPPED: no real Kafka, WATCHFIRE_KAFKA is not set: {how}.");
    None
}

/// Repeats `step` until it gives something; fails the test after [`PATIENCE`].
pub fn wait_for<T>(what: &str, step: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, step)
}

/// [`wait_for`] with a limit of its own, for what must not take long.
pub fn wait_at_most<T>(limit: Duration, what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = step() {
            return found;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A fixed sequence of numbers below `bound`.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

/// Writes records and waits until all are acknowledged.
pub struct Writer {
    producer: BaseProducer,
    topic: String,
    written: usize,
}

impl Writer {
    pub fn new(bootstrap: &str, topic: &str) -> Writer {
        let settings = [
            ("enable.idempotence", "true"),
            ("linger.ms", "1"),
            ("partitioner", "murmur2"),
            ("message.max.bytes", "4000000"),
        ];
        let producer = config(bootstrap, &settings).create().unwrap();
        Writer { producer, topic: topic.to_owned(), written: 0 }
    }

    /// Writes to a partition; without payload it is a null.
    pub fn send(&mut self, partition: i32, payload: Option<&[u8]>) {
        let topic = self.topic.clone();
        let record = BaseRecord::<[u8], [u8]>::to(&topic).partition(partition);
        self.queue(match payload {
            Some(bytes) => record.payload(bytes),
            None => record,
        });
    }

    /// Writes to the partition that the key decides.
    pub fn send_keyed(&mut self, key: &str, payload: &[u8]) {
        let topic = self.topic.clone();
        self.queue(BaseRecord::to(&topic).key(key.as_bytes()).payload(payload));
    }

    /// Writes to partition 0 with one header.
    pub fn send_with(&mut self, header: &str, value: &str, payload: &[u8]) {
        let topic = self.topic.clone();
        let headers = OwnedHeaders::new().insert(Header { key: header, value: Some(value) });
        let record = BaseRecord::<[u8], [u8]>::to(&topic).partition(0);
        self.queue(record.payload(payload).headers(headers));
    }

    fn queue(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) {
        self.written += 1;
        while let Err((error, same)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full);
            self.producer.poll(Duration::from_millis(5));
            record = same;
        }
    }

    /// Waits for the acknowledgements of all that was sent.
    pub fn flush(&self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
        }
    }

    /// [`Writer::flush`], and looks whether really everything is there.
    pub fn finish(self, bootstrap: &str) {
        drain(&self.producer);
        let there: i64 = bounds(bootstrap, &self.topic).values().map(|b| b.1).sum();
        assert!(there >= self.written as i64, "{there} of {} records were written", self.written);
    }
}

fn client(bootstrap: &str, group: &str, isolation: &str) -> BaseConsumer {
    let settings = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", isolation),
        ("fetch.wait.max.ms", "50"),
    ];
    config(bootstrap, &settings).create().unwrap()
}

/// Partitions of a topic.
fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), CALL).unwrap();
    metadata.topics()[0].partitions().iter().map(|p| p.id()).collect()
}

fn bounds_under(bootstrap: &str, topic: &str, isolation: &str) -> BTreeMap<i32, (i64, i64)> {
    let consumer = client(bootstrap, "bounds", isolation);
    // A topic that has just been made may be without a leader for a moment.
    let asked = |p| wait_for("its bounds", || consumer.fetch_watermarks(topic, p, CALL).ok());
    let of = |p| (p, asked(p));
    partitions(&consumer, topic).into_iter().map(of).collect()
}

/// First offset that is there and the one that comes next, by partition.
pub fn bounds(bootstrap: &str, topic: &str) -> BTreeMap<i32, (i64, i64)> {
    bounds_under(bootstrap, topic, "read_uncommitted")
}

/// Whether a transaction over the topic is open.
pub fn has_open_transaction(bootstrap: &str, topic: &str) -> bool {
    bounds_under(bootstrap, topic, "read_committed") != bounds(bootstrap, topic)
}

/// Where a group stands in a topic, by partition; 0 without a position. Waits for open transactions.
pub fn committed(bootstrap: &str, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let consumer = client(bootstrap, group, "read_committed");
    let mut list = TopicPartitionList::new();
    for partition in partitions(&consumer, topic) {
        list.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(list, CALL).unwrap();
    let offset = |offset| match offset {
        Offset::Offset(offset) => offset,
        _ => 0,
    };
    found.elements().iter().map(|e| (e.partition(), offset(e.offset()))).collect()
}

/// How many members a group has.
pub fn members(bootstrap: &str, group: &str) -> usize {
    let consumer = client(bootstrap, "members", "read_committed");
    let list = consumer.fetch_group_list(Some(group), CALL).unwrap();
    list.groups().iter().map(|g| g.members().len()).sum()
}

/// Deletes the records of a partition before an offset.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    block_on(admin(bootstrap).delete_records(&list, &AdminOptions::new())).unwrap();
    wait_for("the log starts there", || {
        (bounds(bootstrap, topic)[&partition].0 == before).then_some(())
    });
}

/// One committed record of a topic.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "tests/chaos looks at the places")]
pub struct Published {
    pub partition: i32,
    pub offset: i64,
    pub payload: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Published {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

/// Reads all committed records of a topic, as they come.
pub struct Topic {
    consumer: BaseConsumer,
    /// Partitions that have been read to their ends once.
    ended: BTreeSet<i32>,
    pub records: Vec<Published>,
}

impl Topic {
    pub fn open(bootstrap: &str, topic: &str) -> Topic {
        Topic::open_under(bootstrap, topic, "read_committed")
    }

    /// Under an isolation level.
    pub fn open_under(bootstrap: &str, topic: &str, isolation: &str) -> Topic {
        let consumer = client(bootstrap, "reader", isolation);
        let mut list = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        Topic { consumer, ended: BTreeSet::new(), records: Vec::new() }
    }

    /// Takes what is there without waiting long.
    pub fn poll(&mut self) {
        while self.step().is_some() {}
    }

    /// Takes all that was there when it was opened, at least.
    #[allow(dead_code, reason = "for tests/chaos")]
    pub fn read_to_end(&mut self) {
        let partitions = self.consumer.assignment().unwrap().count();
        wait_for("all partitions are read to their ends", || {
            self.poll();
            (self.ended.len() == partitions).then_some(())
        });
    }

    /// Takes one record or the end of a partition, if there is one.
    fn step(&mut self) -> Option<()> {
        let message = match self.consumer.poll(Duration::from_millis(20))? {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(partition)) => {
                self.ended.insert(partition);
                return Some(());
            }
            Err(error) => panic!("cannot read: {error}"),
        };
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = message.headers().map(|h| h.iter().map(|h| (h.key, h.value)));
        let headers = headers.into_iter().flatten();
        self.records.push(Published {
            partition: message.partition(),
            offset: message.offset(),
            payload: message.payload().unwrap_or_default().to_vec(),
            headers: headers.map(|(k, v)| (k.to_owned(), text(v))).collect(),
        });
        Some(())
    }

    /// Waits until there are at least `count` records.
    pub fn wait_for(&mut self, count: usize) {
        let began = Instant::now();
        while self.records.len() < count {
            self.poll();
            let have = self.records.len();
            assert!(began.elapsed() < PATIENCE, "{have} of {count} records after {PATIENCE:?}");
        }
    }

    pub fn json(&self) -> Vec<Value> {
        self.records.iter().map(Published::json).collect()
    }
}
