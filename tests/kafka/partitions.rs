//! Partitions that come to the source and move between instances.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;

use crate::conformance::kit::{admin, block_on, config};
use crate::kit::{Writer, bounds, kafka, wait_for};
use crate::service::{App, Instance};

/// An app whose source has four partitions, with an event that alerts in each.
fn four_marked(bootstrap: &str, what: &str) -> App {
    let app = App::json(bootstrap, what, 4);
    let mut writer = Writer::new(bootstrap, &app.topic);
    (0..4).for_each(|p| writer.send(p, Some(br#"{"mark":"yes"}"#)));
    writer.finish(bootstrap);
    app
}

/// Partitions of the source that an instance reads.
fn assigned(app: &App, instance: &Instance) -> f64 {
    let series = instance.metric("watchfire_partitions_assigned");
    series.get(&format!("{{topic=\"{}\"}}", app.topic)).copied().unwrap_or(0.0)
}

fn add_partition(app: &App, partitions: usize) {
    let more = NewPartitions::new(&app.topic, partitions);
    let results =
        block_on(admin(&app.bootstrap).create_partitions(&[more], &AdminOptions::new())).unwrap();
    assert_eq!(results, [Ok(app.topic.clone())]);
    wait_for("the partition is there", || {
        (bounds(&app.bootstrap, &app.topic).len() == partitions).then_some(())
    });
}

/// Events of a partition that comes while the service runs alert, though they are older than its discovery.
fn assert_a_new_partition_is_read_from_its_start(source: &'static str, what: &str) {
    let Some(bootstrap) = kafka() else { return };
    let mut app = App::json(&bootstrap, what, 1);
    app.source = source;
    let mut writer = Writer::new(&bootstrap, &app.topic);
    writer.send(0, Some(br#"{"mark":"no"}"#));
    writer.finish(&bootstrap);
    let instance = app.start("a");
    wait_for("it has the only partition", || (assigned(&app, &instance) == 1.0).then_some(()));
    wait_for("its position is kept", || (app.processed() == 1).then_some(()));
    add_partition(&app, 2);
    let mut writer = Writer::new(&bootstrap, &app.topic);
    for n in 0..10 {
        writer.send(1, Some(format!(r#"{{"mark":"yes","n":{n}}}"#).as_bytes()));
    }
    writer.finish(&bootstrap);
    wait_for("it has both partitions", || (assigned(&app, &instance) == 2.0).then_some(()));
    app.settle();
    let lost = instance.metric("watchfire_events_lost_total");
    let mut alerts = app.alerts();
    alerts.wait_for(10);
    alerts.poll();
    assert_eq!(alerts.records.len(), 10, "lost, as the metrics say: {lost:?}");
}

#[test]
fn a_partition_that_is_added_is_read_from_its_start() {
    let source = "format: json, lateness: 1s, logsource: {product: test}";
    assert_a_new_partition_is_read_from_its_start(source, "grown-earliest");
}

#[test]
fn a_partition_that_is_added_is_read_from_its_start_though_the_source_began_at_its_latest() {
    let source = "format: json, lateness: 1s, logsource: {product: test}, start: latest";
    assert_a_new_partition_is_read_from_its_start(source, "grown-latest");
}

#[test]
fn the_lag_of_a_partition_is_told_by_its_present_owner_alone() {
    let Some(bootstrap) = kafka() else { return };
    let app = four_marked(&bootstrap, "moved");
    let lags = |instance: &Instance| {
        let series = instance.metric("watchfire_consumer_lag_events");
        let ours = format!("topic=\"{}\"", app.topic);
        series.into_keys().filter(|labels| labels.contains(&ours)).collect::<Vec<_>>()
    };
    let a = app.start("a");
    wait_for("a tells of all partitions", || (lags(&a).len() == 4).then_some(()));
    let b = app.start("b");
    wait_for("each has two", || {
        (assigned(&app, &a) == 2.0 && assigned(&app, &b) == 2.0).then_some(())
    });
    wait_for("b tells of its two", || (lags(&b).len() == 2).then_some(()));
    let both = lags(&a).into_iter().filter(|l| lags(&b).contains(l)).collect::<Vec<_>>();
    assert!(both.is_empty(), "a still tells of {both:?}");
}

/// A member that takes what it is given and never gives anything back.
#[derive(Default)]
struct Stuck(AtomicBool);

impl ClientContext for Stuck {}

impl ConsumerContext for Stuck {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        asked: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if asked == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            consumer.incremental_assign(partitions).unwrap();
        } else {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// What a static member has been asked to give back is nobody's when it dies before it has asked for the
/// next generation, and comes back.
#[test]
fn a_partition_that_fell_between_two_owners_finds_one() {
    let Some(bootstrap) = kafka() else { return };
    let app = four_marked(&bootstrap, "stranded");
    let (group, name) = (format!("{}-filter", app.name), format!("{}-filter-a-0", app.name));
    let member = |more: &[(&str, &str)]| {
        let usual = [
            ("group.id", &*group),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("heartbeat.interval.ms", "200"),
            ("enable.auto.commit", "false"),
        ];
        config(&bootstrap, &[&usual, more].concat())
    };
    let dying: BaseConsumer<Stuck> =
        member(&[("group.instance.id", &name)]).create_with_context(Stuck::default()).unwrap();
    dying.subscribe(&[&app.topic]).unwrap();
    wait_for("it has all partitions", || {
        dying.poll(Duration::from_millis(20));
        (dying.assignment().unwrap().count() == 4).then_some(())
    });
    let other: BaseConsumer = member(&[]).create().unwrap();
    other.subscribe(&[&app.topic]).unwrap();
    wait_for("it is to give half of them back", || {
        dying.poll(Duration::from_millis(20));
        other.poll(Duration::from_millis(20));
        dying.context().0.load(Ordering::SeqCst).then_some(())
    });
    // Dropping it would be an orderly end.
    std::mem::forget(dying);

    let instance = app.start("a");
    let unowned = || {
        other.poll(Duration::from_millis(20));
        let series = instance.metric("watchfire_partitions_unowned");
        series.get(&format!("{{topic=\"{}\"}}", app.topic)).copied()
    };
    wait_for("it is seen", || (unowned() == Some(2.0)).then_some(()));
    assert_eq!(assigned(&app, &instance), 2.0, "the place of the one that died");
    wait_for("all have a reader", || (unowned() == Some(0.0)).then_some(()));
    assert!(instance.log().contains("nobody reads these"));
    drop(other);
    app.settle();
    let mut alerts = app.alerts();
    alerts.wait_for(4);
    alerts.poll();
    assert_eq!(alerts.records.len(), 4);
}
