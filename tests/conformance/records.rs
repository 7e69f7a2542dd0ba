//! Checks of records and topics.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::Offset;

use super::kit::*;

pub fn records_of_every_codec_come_back(bootstrap: &str) {
    let topic = topic(bootstrap, "codecs", 3);
    for (partition, codec) in (0..).zip(["none", "gzip", "zstd"]) {
        let producer = producer(bootstrap, &[("compression.codec", codec)]);
        let values: Vec<String> =
            (0..500).map(|n| format!("{codec} {n} {}", "x".repeat(50))).collect();
        let borrowed: Vec<&str> = values.iter().map(String::as_str).collect();
        send(&producer, &topic, partition, &borrowed);
        drain(&producer);
        assert_eq!(read_to_end(bootstrap, &topic, partition, "read_committed"), values);
        let bounds = producer.client().fetch_watermarks(&topic, partition, PATIENCE).unwrap();
        assert_eq!(bounds, (0, 500));
    }
}

pub fn offsets_are_found_by_time(bootstrap: &str) {
    let topic = topic(bootstrap, "times", 1);
    let producer = producer(bootstrap, &[]);
    // Near enough to now for a broker to take it (log.message.timestamp.after.max.ms is an hour), and
    // young enough for retention to leave it.
    let recent = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
        - 60_000;
    for n in 0..10 {
        let record =
            BaseRecord::<(), str>::to(&topic).partition(0).payload("x").timestamp(recent + n * 100);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    drain(&producer);
    let consumer = reader(bootstrap, "read_committed");
    let cases = [
        (recent - 5, Offset::Offset(0)),
        (recent + 300, Offset::Offset(3)),
        (recent + 301, Offset::Offset(4)),
        (recent + 901, Offset::End),
    ];
    for (timestamp, expected) in cases {
        let wanted = at(&topic, 0, Offset::Offset(timestamp));
        let found = consumer.offsets_for_times(wanted, PATIENCE).unwrap();
        assert_eq!(found.find_partition(&topic, 0).unwrap().offset(), expected, "{timestamp}");
    }
}

pub fn deleted_records_move_the_log_start(bootstrap: &str) {
    let topic = topic(bootstrap, "deleted", 1);
    send_all(bootstrap, &topic, 0, &["a", "b", "c", "d"]);
    let before = at(&topic, 0, Offset::Offset(3));
    let deleted = block_on(admin(bootstrap).delete_records(&before, &AdminOptions::new())).unwrap();
    assert_eq!(deleted.find_partition(&topic, 0).unwrap().offset(), Offset::Offset(3));
    let consumer = reader(bootstrap, "read_committed");
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (3, 4));
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_committed"), ["d"]);
    // auto.offset.reset=error: a position before the log start is an error, never a silent jump.
    consumer.assign(&at(&topic, 0, Offset::Offset(1))).unwrap();
    let error = until("an error", || consumer.poll(Duration::from_millis(100))).err();
    assert_eq!(error, Some(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)));
}

pub fn a_record_that_is_too_large_is_refused(bootstrap: &str) {
    let topic = topic_with(bootstrap, "large", 1, &[("max.message.bytes", "1000")]);
    for value in ["before", &"x".repeat(2_000), "after"] {
        send_all(bootstrap, &topic, 0, &[value]);
    }
    assert_eq!(read_to_end(bootstrap, &topic, 0, "read_committed"), ["before", "after"]);
}

pub fn topic_configurations_are_described(bootstrap: &str) {
    let set = [("cleanup.policy", "compact"), ("retention.bytes", "123456")];
    let topic = topic_with(bootstrap, "configured", 1, &set);
    let wanted = [ResourceSpecifier::Topic(&topic)];
    let described =
        block_on(admin(bootstrap).describe_configs(&wanted, &AdminOptions::new())).unwrap();
    let described = described.into_iter().next().unwrap().unwrap();
    let expected = [
        ("cleanup.policy", "compact", false),
        ("retention.bytes", "123456", false),
        ("retention.ms", "604800000", true),
    ];
    for (name, value, is_default) in expected {
        let entry = described.get(name).unwrap();
        assert_eq!((entry.value.as_deref(), entry.is_default), (Some(value), is_default), "{name}");
    }
}

pub fn topics_grow_and_go(bootstrap: &str) {
    let topic = topic(bootstrap, "grown", 1);
    let admin = admin(bootstrap);
    let count = || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), PATIENCE).unwrap();
        metadata.topics().first().map_or(0, |t| t.partitions().len())
    };
    let grown =
        block_on(admin.create_partitions(&[NewPartitions::new(&topic, 3)], &AdminOptions::new()));
    assert_eq!(grown.unwrap(), [Ok(topic.clone())]);
    until("there are three partitions", || (count() == 3).then_some(()));
    let deleted = block_on(admin.delete_topics(&[&topic], &AdminOptions::new()));
    assert_eq!(deleted.unwrap(), [Ok(topic.clone())]);
    until("there are no partitions", || (count() == 0).then_some(()));
}
