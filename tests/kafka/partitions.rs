//! Partitions that come to the source and move between instances.

use rdkafka::admin::{AdminOptions, NewPartitions};

use crate::conformance::kit::{admin, block_on};
use crate::kit::{Writer, bounds, kafka, wait_for};
use crate::service::{App, Instance};

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
    let app = App::json(&bootstrap, "moved", 4);
    let mut writer = Writer::new(&bootstrap, &app.topic);
    (0..4).for_each(|p| writer.send(p, Some(br#"{"mark":"yes"}"#)));
    writer.finish(&bootstrap);
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
