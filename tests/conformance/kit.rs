//! What the checks are written with: clients, unique names, waits with an end.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, TopicPartitionList as List};

/// The longest any wait may take; a real cluster on a busy machine is slow at times.
pub const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// A name no other check or run uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{number}", since_epoch.as_millis())
}

/// Repeats `step` until it gives something; fails the test after [`PATIENCE`].
pub fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = step() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
    }
}

/// Waits for a future on this thread: the admin client speaks futures, the tests need no runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

pub fn config(bootstrap: &str, extra: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (key, value) in extra {
        config.set(*key, *value);
    }
    config
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap, &[]).create().unwrap()
}

/// Creates a topic with configurations and the cluster's own number of replicas, and waits until every partition has a
/// leader.
pub fn topic_with(
    bootstrap: &str,
    what: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> String {
    let name = unique(what);
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(-1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    let admin = admin(bootstrap);
    let results = block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap();
    assert_eq!(results, [Ok(name.clone())]);
    let wanted = usize::try_from(partitions).unwrap();
    until("the topic has its leaders", || {
        let metadata = admin.inner().fetch_metadata(Some(&name), PATIENCE).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        (partitions.len() == wanted && partitions.iter().all(|p| p.leader() >= 0)).then_some(())
    });
    name
}

pub fn topic(bootstrap: &str, what: &str, partitions: i32) -> String {
    topic_with(bootstrap, what, partitions, &[])
}

pub fn producer(bootstrap: &str, extra: &[(&str, &str)]) -> BaseProducer {
    let mut config = config(bootstrap, extra);
    config.set("linger.ms", "1").create().unwrap()
}

/// A producer which holds a transactional id.
pub fn transactional(bootstrap: &str, id: &str, timeout_ms: &str) -> BaseProducer {
    let settings = [("transactional.id", id), ("transaction.timeout.ms", timeout_ms)];
    let producer = producer(bootstrap, &settings);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

pub fn send(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
    for value in values {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
}

/// Sends every record that is queued: `commit` would take 100 ms otherwise, and `abort` would never end.
pub fn drain(producer: &BaseProducer) {
    until("every record is acknowledged", || {
        producer.poll(Duration::from_millis(1));
        (producer.in_flight_count() == 0).then_some(())
    });
}

pub fn send_all(bootstrap: &str, topic: &str, partition: i32, values: &[&str]) {
    let producer = producer(bootstrap, &[]);
    send(&producer, topic, partition, values);
    drain(&producer);
}

/// Counts what happens to a member's assignment, and remembers fatal errors.
#[derive(Clone, Default)]
pub struct Watch {
    pub rebalances: Arc<AtomicUsize>,
}

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.rebalances.fetch_add(1, Ordering::SeqCst);
    }
}

/// A member of a consumer group, subscribed to one topic.
pub struct Member {
    pub consumer: BaseConsumer<Watch>,
    pub watch: Watch,
    pub values: Vec<String>,
    pub error: Option<KafkaError>,
}

impl Member {
    pub fn join(bootstrap: &str, group: &str, topic: &str, extra: &[(&str, &str)]) -> Member {
        let mut config = config(bootstrap, &[]);
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500")
            // Dropping a consumer polls until it is closed and throws away what comes: such records must not count as
            // read, so what is committed is only what `poll` below has taken.
            .set("enable.auto.offset.store", "false")
            .set("fetch.wait.max.ms", "100");
        for (key, value) in extra {
            config.set(*key, *value);
        }
        let watch = Watch::default();
        let consumer: BaseConsumer<Watch> = config.create_with_context(watch.clone()).unwrap();
        consumer.subscribe(&[topic]).unwrap();
        Member { consumer, watch, values: Vec::new(), error: None }
    }

    /// Serves rebalances, takes one record if there is one.
    pub fn poll(&mut self) {
        match self.consumer.poll(STEP) {
            Some(Ok(message)) => {
                self.values.push(text(&message));
                self.consumer.store_offset_from_message(&message).unwrap();
            }
            Some(Err(error)) => self.error = Some(error),
            None => {}
        }
    }

    pub fn partitions(&self) -> BTreeSet<i32> {
        let assignment = self.consumer.assignment().unwrap();
        assignment.elements().iter().map(|e| e.partition()).collect()
    }

    pub fn rebalances(&self) -> usize {
        self.watch.rebalances.load(Ordering::SeqCst)
    }
}

/// Polls until each member has this many partitions.
pub fn settle(members: &mut [&mut Member], counts: &[usize]) {
    until("the group has settled", || {
        members.iter_mut().for_each(|m| m.poll());
        members.iter().map(|m| m.partitions().len()).eq(counts.iter().copied()).then_some(())
    });
}

pub fn text<M: Message>(message: &M) -> String {
    String::from_utf8(message.payload().unwrap_or_default().to_vec()).unwrap()
}

/// Reads one partition from its start to its present end as seen under an isolation level.
pub fn read_to_end(bootstrap: &str, topic: &str, partition: i32, isolation: &str) -> Vec<String> {
    let consumer = reader(bootstrap, isolation);
    consumer.assign(&at(topic, partition, Offset::Beginning)).unwrap();
    let mut values = Vec::new();
    until("the end of the partition", || match consumer.poll(STEP) {
        Some(Ok(message)) => {
            values.push(text(&message));
            None
        }
        Some(Err(KafkaError::PartitionEOF(_))) => Some(()),
        Some(Err(error)) => panic!("cannot read: {error}"),
        None => None,
    });
    values
}

pub fn reader(bootstrap: &str, isolation: &str) -> BaseConsumer {
    let settings = [
        ("group.id", "reader"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("isolation.level", isolation),
        // The end is known when a fetch has waited for nothing.
        ("fetch.wait.max.ms", "10"),
    ];
    config(bootstrap, &settings).create().unwrap()
}

pub fn at(topic: &str, partition: i32, offset: Offset) -> TopicPartitionList {
    let mut list = List::new();
    list.add_partition_offset(topic, partition, offset).unwrap();
    list
}

/// The offset a group has committed, if any. Waits for open transactions, as a new owner would, at most `patience`.
pub fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
    patience: Duration,
) -> Result<Option<i64>, KafkaError> {
    let settings = [("group.id", group), ("isolation.level", "read_committed")];
    let consumer: BaseConsumer = config(bootstrap, &settings).create().unwrap();
    let list = consumer.committed_offsets(at(topic, 0, Offset::Invalid), patience)?;
    let element = list.find_partition(topic, 0).unwrap();
    element.error()?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}
