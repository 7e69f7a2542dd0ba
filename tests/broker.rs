//! The embedded broker through librdkafka: the conformance checks, and what only this broker can do.

#![allow(clippy::disallowed_methods, reason = "a real broker runs on the real clock")]

mod conformance;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use conformance::kit::*;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::Offset;
use watchfire::broker::{ApiKey, BrokerConfig, BrokerError, EmbeddedBroker, Fault};

const TIMEOUT_MS: &str = "30000";

fn broker() -> EmbeddedBroker {
    EmbeddedBroker::start(BrokerConfig::default()).unwrap()
}

#[test]
fn it_conforms() {
    let broker = broker();
    conformance::run_all(&broker.bootstrap());
}

#[test]
fn retention_by_bytes_moves_the_log_start() {
    let broker = broker();
    let topic = topic_with(&broker.bootstrap(), "retained", 1, &[("retention.bytes", "10000")]);
    let value = "x".repeat(1_000);
    for _ in 0..30 {
        send_all_now(&broker, &topic, &value);
    }
    let bounds = broker.log_bounds(&topic, 0).unwrap();
    assert_eq!(bounds.end, 30);
    assert!((20..25).contains(&bounds.start), "{bounds:?}");
    let consumer = reader(&broker.bootstrap(), "read_committed");
    consumer.assign(&at(&topic, 0, Offset::Offset(0))).unwrap();
    let error = until("an error", || consumer.poll(Duration::from_millis(100))).err();
    let out_of_range = KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset);
    assert_eq!(error, Some(out_of_range));
}

fn send_all_now(broker: &EmbeddedBroker, topic: &str, value: &str) {
    send_all(&broker.bootstrap(), topic, 0, &[value]);
}

#[test]
fn the_memory_of_all_topics_is_bounded_and_the_largest_gives_way() {
    let config = BrokerConfig { memory_bytes_max: 200_000, ..BrokerConfig::default() };
    let broker = EmbeddedBroker::start(config).unwrap();
    broker.create_topic("small", 1).unwrap();
    broker.create_topic("large", 1).unwrap();
    let value = "x".repeat(10_000);
    send_all_now(&broker, "small", &value);
    let producer = producer(&broker.bootstrap(), &[("batch.num.messages", "1")]);
    for _ in 0..50 {
        send(&producer, "large", 0, &[&value]);
    }
    drain(&producer);
    assert_eq!(broker.log_bounds("small", 0).unwrap().start, 0);
    let bounds = broker.log_bounds("large", 0).unwrap();
    assert_eq!(bounds.end, 50);
    assert!((30..40).contains(&bounds.start), "{bounds:?}");
    assert_eq!(
        read_to_end(&broker.bootstrap(), "large", 0, "read_committed").len(),
        50 - usize::try_from(bounds.start).unwrap()
    );
}

#[test]
fn the_owner_deletes_records_and_sees_the_bounds() {
    let broker = broker();
    broker.create_topic("t", 1).unwrap();
    send_all(&broker.bootstrap(), "t", 0, &["a", "b", "c"]);
    assert_eq!(broker.delete_records("t", 0, 2).unwrap(), 2);
    let bounds = broker.log_bounds("t", 0).unwrap();
    assert_eq!((bounds.start, bounds.stable, bounds.end), (2, 3, 3));
    assert_eq!(broker.log_bounds("t", 1), None);
    assert!(matches!(broker.delete_records("t", 0, 9), Err(BrokerError::DeleteRecords { .. })));
    assert!(matches!(broker.create_topic("t", 1), Err(BrokerError::CreateTopic { .. })));
    let error = broker.create_topic("u", 1_000_000).unwrap_err().to_string();
    assert!(error.contains("1000000") && error.contains("10000"), "{error}");
}

#[test]
fn a_topic_is_created_by_asking_only_if_configured() {
    for (auto_create_partitions, expected) in [(None, 0), (Some(3), 3)] {
        let config = BrokerConfig { auto_create_partitions, ..BrokerConfig::default() };
        let broker = EmbeddedBroker::start(config).unwrap();
        let producer = producer(&broker.bootstrap(), &[]);
        let metadata = producer.client().fetch_metadata(Some("asked"), PATIENCE).unwrap();
        assert_eq!(metadata.topics()[0].partitions().len(), expected);
    }
}

#[test]
fn a_waiting_fetch_is_answered_as_soon_as_there_is_something() {
    let broker = broker();
    let bootstrap = broker.bootstrap();
    broker.create_topic("t", 1).unwrap();
    let settings =
        [("group.id", "g"), ("isolation.level", "read_committed"), ("fetch.wait.max.ms", "20000")];
    let consumer: rdkafka::consumer::BaseConsumer = config(&bootstrap, &settings).create().unwrap();
    consumer.assign(&at("t", 0, Offset::Beginning)).unwrap();
    let producer = transactional(&bootstrap, "x", TIMEOUT_MS);
    for round in 0..3 {
        // By now the fetch waits: nothing has been there for a while.
        assert!(consumer.poll(Duration::from_millis(300)).is_none());
        producer.begin_transaction().unwrap();
        send(&producer, "t", 0, &["x"]);
        drain(&producer);
        assert!(
            consumer.poll(Duration::from_millis(300)).is_none(),
            "round {round}: not committed"
        );
        let began = Instant::now();
        producer.commit_transaction(PATIENCE).unwrap();
        until("the record is there", || consumer.poll(Duration::from_millis(100))).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    }
}

/// A transaction with one record and an offset, up to but without its end.
fn begun(
    broker: &EmbeddedBroker,
    offset_error: Option<(RDKafkaErrorCode, usize)>,
) -> (BaseProducer, Result<(), KafkaError>) {
    let bootstrap = broker.bootstrap();
    let producer = transactional(&bootstrap, "x", TIMEOUT_MS);
    let consumer = reader(&bootstrap, "read_committed");
    let metadata = consumer.group_metadata().unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, &["x"]);
    drain(&producer);
    if let Some((code, times)) = offset_error {
        broker.inject_error(ApiKey::TxnOffsetCommit as i16, code as i16, times);
    }
    let offsets = at("t", 0, Offset::Offset(1));
    let sent = producer.send_offsets_to_transaction(&offsets, &metadata, PATIENCE);
    (producer, sent)
}

#[derive(Debug, PartialEq)]
enum Came {
    Well,
    Abortable,
    Fatal,
}

fn outcome(result: Result<(), KafkaError>) -> Came {
    match result {
        Ok(()) => Came::Well,
        Err(KafkaError::Transaction(error)) => outcome_of(&error),
        Err(other) => panic!("not an error of the transaction: {other}"),
    }
}

fn outcome_of(error: &RDKafkaError) -> Came {
    match (error.is_fatal(), error.txn_requires_abort()) {
        (true, _) => Came::Fatal,
        (false, true) => Came::Abortable,
        _ => panic!("neither fatal nor abortable: {error}"),
    }
}

#[test]
fn an_injected_error_on_offsets_is_retried_or_aborts_or_is_fatal() {
    let cases = [
        (RDKafkaErrorCode::CoordinatorLoadInProgress, Came::Well),
        (RDKafkaErrorCode::IllegalGeneration, Came::Abortable),
        (RDKafkaErrorCode::UnknownMemberId, Came::Abortable),
        (RDKafkaErrorCode::FencedInstanceId, Came::Abortable),
        (RDKafkaErrorCode::InvalidProducerEpoch, Came::Fatal),
        (RDKafkaErrorCode::InvalidTransactionalState, Came::Fatal),
    ];
    for (code, expected) in cases {
        let broker = broker();
        broker.create_topic("t", 1).unwrap();
        let (producer, sent) = begun(&broker, Some((code, 1)));
        let came = outcome(sent);
        assert_eq!(came, expected, "{code:?}");
        assert_eq!(broker.faults_remaining(ApiKey::TxnOffsetCommit as i16), 0);
        if came == Came::Abortable {
            producer.abort_transaction(PATIENCE).unwrap();
            assert_eq!(committed(&broker.bootstrap(), "reader", "t", PATIENCE), Ok(None));
        }
    }
}

#[test]
fn an_injected_error_on_the_end_is_retried_or_fatal() {
    let cases = [
        (RDKafkaErrorCode::CoordinatorLoadInProgress, Came::Well),
        (RDKafkaErrorCode::ConcurrentTransactions, Came::Well),
        (RDKafkaErrorCode::InvalidProducerEpoch, Came::Fatal),
        (RDKafkaErrorCode::InvalidTransactionalState, Came::Fatal),
    ];
    for (code, expected) in cases {
        let broker = broker();
        broker.create_topic("t", 1).unwrap();
        let (producer, sent) = begun(&broker, None);
        sent.unwrap();
        broker.inject_error(ApiKey::EndTxn as i16, code as i16, 2);
        let came = outcome(producer.commit_transaction(PATIENCE));
        assert_eq!(came, expected, "{code:?}");
        let bounds = broker.log_bounds("t", 0).unwrap();
        assert_eq!(bounds.stable == bounds.end, expected == Came::Well, "{code:?} {bounds:?}");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_happens_once() {
    for fault in [Fault::CloseBefore, Fault::CloseAfter] {
        let broker = broker();
        broker.create_topic("t", 1).unwrap();
        let (producer, sent) = begun(&broker, None);
        sent.unwrap();
        broker.inject_fault(ApiKey::EndTxn as i16, fault, 1);
        producer.commit_transaction(PATIENCE).unwrap();
        // One record and one marker.
        let bounds = broker.log_bounds("t", 0).unwrap();
        assert_eq!((bounds.stable, bounds.end), (2, 2), "{fault:?}");
        assert_eq!(committed(&broker.bootstrap(), "reader", "t", PATIENCE), Ok(Some(1)));
    }
}

#[test]
fn an_idempotent_producer_whose_answers_are_lost_writes_once() {
    let broker = broker();
    broker.create_topic("t", 1).unwrap();
    let producer = producer(&broker.bootstrap(), &[("enable.idempotence", "true")]);
    for round in 0..5 {
        broker.inject_fault(ApiKey::Produce as i16, Fault::CloseAfter, 1);
        send(&producer, "t", 0, &[&round.to_string()]);
        drain(&producer);
    }
    let values = read_to_end(&broker.bootstrap(), "t", 0, "read_committed");
    assert_eq!(values, ["0", "1", "2", "3", "4"]);
}

#[test]
fn bad_bytes_close_the_connection_and_nothing_else() {
    let broker = broker();
    let bad: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff, 0, 0],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 0, 3],
        // A metadata request which claims two thousand million topics.
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
    ];
    for bytes in bad {
        let mut socket = TcpStream::connect(broker.bootstrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        // A frame that never comes to its end is closed by us.
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // Bytes left unread when the broker closes make this a reset: as good as an end.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{bytes:?}");
    }
    broker.create_topic("t", 1).unwrap();
    send_all(&broker.bootstrap(), "t", 0, &["alive"]);
    assert_eq!(read_to_end(&broker.bootstrap(), "t", 0, "read_committed"), ["alive"]);
}

/// Names of this process's threads which serve the broker on a port.
fn threads_of(port: &str) -> Vec<String> {
    let prefix = format!("kb{port}-");
    let mut names = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        // A thread may end between the listing and the reading.
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

#[cfg(target_os = "linux")]
#[test]
fn shutdown_and_drop_leave_no_thread_even_with_waiting_requests() {
    for by_drop in [false, true] {
        let broker = broker();
        let bootstrap = broker.bootstrap();
        let port = bootstrap.rsplit(':').next().unwrap().to_owned();
        broker.create_topic("t", 1).unwrap();
        let settings = [("group.id", "g"), ("fetch.wait.max.ms", "20000")];
        let consumer: rdkafka::consumer::BaseConsumer =
            config(&bootstrap, &settings).create().unwrap();
        consumer.assign(&at("t", 0, Offset::Beginning)).unwrap();
        consumer.poll(Duration::from_millis(500));
        let idle = TcpStream::connect(&bootstrap).unwrap();
        until("the idle connection has its thread", || {
            (threads_of(&port).len() >= 4).then_some(())
        });
        let began = Instant::now();
        if by_drop {
            drop(broker)
        } else {
            broker.shutdown()
        }
        // The system lists a thread for a moment after it was joined, so the end is waited for;
        // a thread nobody waits for sits in its fetch for far longer than the time below.
        until("no thread is left", || threads_of(&port).is_empty().then_some(()));
        assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
        assert!(TcpStream::connect(&bootstrap).is_err());
        drop(idle);
    }
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let first = broker();
    let port = first.bootstrap().rsplit(':').next().unwrap().parse().unwrap();
    let second = EmbeddedBroker::start(BrokerConfig { port, ..BrokerConfig::default() });
    assert!(matches!(second, Err(BrokerError::Start { port: p, .. }) if p == port));
}
