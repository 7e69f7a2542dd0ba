//! What the benches that run the service on a real Kafka have in common.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Partitions of each topic.
pub const PARTITIONS: i32 = 6;

/// A process that does not outlive the bench.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a topic.
pub fn create_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("admin");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).expect("topic");
}

/// Writes records, each to its partition, compressed as a shipper would.
pub fn produce<'r>(brokers: &str, topic: &str, records: impl Iterator<Item = (i32, &'r str)>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .create()
        .expect("producer");
    for (partition, payload) in records {
        let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(payload);
        while let Err((e, same)) = producer.send(record) {
            assert_eq!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(10));
            record = same;
        }
    }
    producer.flush(Duration::from_secs(600)).expect("flushed");
}

/// What the service says of itself; `None` while nobody answers.
pub fn metrics(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The value of the first sample that begins so; 0 when there is none.
pub fn sample(text: &str, start: &str) -> f64 {
    let line = text.lines().find(|l| l.starts_with(start));
    line.and_then(|l| l.rsplit_once(' ')).and_then(|(_, v)| v.parse().ok()).unwrap_or_default()
}
