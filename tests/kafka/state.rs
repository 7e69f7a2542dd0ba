//! What correlations have counted, kept in `<app>.state`: after a stop, a crash, without the matches that
//! made it, and when what is there is of no use.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord};
use serde_json::Value;

use crate::conformance::kit::{admin, block_on, config, drain};
use crate::kit::{Topic, Writer, bounds, committed, delete_records, kafka, wait_for};
use crate::service::{App, FAILED, Instance};

const PARTITIONS: i32 = 4;
const USERS: usize = 40;

/// Five of a user within an hour.
const FIVE: &str = "\
title: Five failures of a user
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0005
correlation:
  type: event_count
  rules: [failed]
  group-by: [user]
  timespan: 1h
  condition: {gte: 5}
level: high
";

fn app(bootstrap: &str, what: &str) -> App {
    let mut app = App::json(bootstrap, what, 1);
    std::fs::write(app.rules.join("marked.yml"), format!("{FAILED}{FIVE}")).unwrap();
    // So that parts of the state are written at different times.
    app.snapshot_interval = "2s";
    app
}

/// Failures of each user, `count` times from the `first` time on: one every four minutes. While nothing is
/// written event time goes on with the clock, and what comes next must not be late by then.
fn fail(app: &App, first: usize, count: usize) {
    let mut writer = Writer::new(&app.bootstrap, &app.topic);
    for n in first..first + count {
        for user in 0..USERS {
            let time = format!("2026-03-01T10:{:02}:00Z", 4 * n);
            let event = format!(r#"{{"result":"failed","user":"u{user}","time":"{time}"}}"#);
            writer.send(0, Some(event.as_bytes()));
        }
    }
    writer.flush();
}

/// How many groups each user's failures are by now.
fn wait_for_groups(instance: &Instance, expect: usize) {
    wait_for("the windows hold all groups", || {
        let held = instance.metric("watchfire_state_keys");
        (held.values().sum::<f64>() == expect as f64).then_some(())
    });
}

/// User and count of each alert; there is one for each user.
fn counts(alerts: &Topic) -> BTreeMap<String, u64> {
    let of = |alert: &Value| {
        let user = alert["unmapped"]["watchfire"]["group"]["user"].as_str().expect("a user");
        (user.to_owned(), alert["count"].as_u64().expect("a count"))
    };
    let all: Vec<_> = alerts.json().iter().map(of).collect();
    let counts: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(counts.len(), all.len(), "an alert twice: {all:?}");
    counts
}

fn expect_five_of_each(app: &App, alerts: &mut Topic) {
    alerts.wait_for(USERS);
    app.settle();
    alerts.poll();
    assert_eq!(counts(alerts), (0..USERS).map(|user| (format!("u{user}"), 5)).collect());
}

fn restores(instance: &Instance) -> BTreeMap<String, f64> {
    instance.metric("watchfire_restores_total")
}

fn all_from(what: &str) -> BTreeMap<String, f64> {
    BTreeMap::from([(format!("{{from=\"{what}\"}}"), f64::from(PARTITIONS))])
}

#[test]
fn what_was_counted_is_there_after_a_stop_without_the_matches_that_made_it() {
    let Some(bootstrap) = kafka() else { return };
    let app = app(&bootstrap, "kept");
    let instance = app.start("a");
    let mut alerts = app.alerts();
    fail(&app, 0, 4);
    wait_for_groups(&instance, USERS);
    app.settle();
    assert_eq!(restores(&instance), all_from("nothing"));
    instance.stop();
    let matches = format!("{}.matches", app.name);
    for (partition, next) in committed(&bootstrap, &format!("{}-correlate", app.name), &matches) {
        delete_records(&bootstrap, &matches, partition, next);
    }
    let instance = app.start("a");
    wait_for_groups(&instance, USERS);
    assert_eq!(restores(&instance), all_from("kept"));
    fail(&app, 4, 1);
    expect_five_of_each(&app, &mut alerts);
    assert!(instance.metric("watchfire_events_lost_total").is_empty());
}

#[test]
fn what_was_counted_is_there_after_a_crash_and_on_another_instance() {
    let Some(bootstrap) = kafka() else { return };
    let app = app(&bootstrap, "kept-crash");
    let mut instance = app.start("a");
    let mut alerts = app.alerts();
    for round in 0..4 {
        fail(&app, round, 1);
        wait_for_groups(&instance, USERS);
        // Somewhere in a cycle of writing.
        app.settle();
        instance.kill();
        instance = app.start(if round % 2 == 0 { "b" } else { "a" });
        wait_for("it has taken over", || (restores(&instance) == all_from("kept")).then_some(()));
    }
    fail(&app, 4, 1);
    expect_five_of_each(&app, &mut alerts);
}

#[test]
fn state_that_cannot_be_read_is_told_and_made_again_of_the_matches() {
    let Some(bootstrap) = kafka() else { return };
    let app = app(&bootstrap, "kept-garbage");
    let instance = app.start("a");
    let mut alerts = app.alerts();
    fail(&app, 0, 4);
    wait_for_groups(&instance, USERS);
    app.settle();
    instance.stop();
    let topic = format!("{}.state", app.name);
    let writer: BaseProducer = config(&bootstrap, &[]).create().unwrap();
    for partition in 0..PARTITIONS {
        let record = BaseRecord::to(&topic).partition(partition).key("what").payload("ever");
        writer.send(record).expect("queued");
    }
    drain(&writer);
    let instance = app.start("a");
    wait_for_groups(&instance, USERS);
    assert_eq!(restores(&instance), all_from("unusable"));
    assert!(instance.log().contains("state is rebuilt from the matches"), "{}", instance.log());
    fail(&app, 4, 1);
    expect_five_of_each(&app, &mut alerts);
    instance.stop();
    let instance = app.start("a");
    wait_for("it is mended", || (restores(&instance) == all_from("kept")).then_some(()));
}

#[test]
fn a_new_title_keeps_what_was_counted_and_a_new_condition_does_not() {
    let Some(bootstrap) = kafka() else { return };
    let app = app(&bootstrap, "kept-rules");
    let instance = app.start("a");
    let mut alerts = app.alerts();
    fail(&app, 0, 4);
    wait_for_groups(&instance, USERS);
    app.settle();
    instance.stop();
    let rules = app.rules.join("marked.yml");
    std::fs::write(
        &rules,
        format!("{FAILED}{}", FIVE.replace("title: Five", "title: At least five")),
    )
    .unwrap();
    let instance = app.start("a");
    wait_for_groups(&instance, USERS);
    instance.stop();
    std::fs::write(&rules, format!("{FAILED}{}", FIVE.replace("gte: 5", "gte: 4"))).unwrap();
    let instance = app.start("a");
    wait_for("it has taken over", || (restores(&instance) == all_from("kept")).then_some(()));
    // Three of these four are new, and make no four with those before.
    fail(&app, 4, 3);
    app.settle();
    wait_for("it says that it warms up", || {
        let left = instance.metric("watchfire_rule_warming_seconds");
        left.values().any(|seconds| *seconds > 1_000.0).then_some(())
    });
    let (_, shown) = instance.get("/api/v1/rules");
    assert!(shown.contains(r#""state":"warming","warming_seconds":"#), "{shown}");
    alerts.poll();
    assert_eq!(alerts.records.len(), 0);
    fail(&app, 7, 1);
    alerts.wait_for(USERS);
}

#[test]
fn own_topics_that_would_lose_state_are_refused_with_the_command_that_mends_them() {
    let Some(bootstrap) = kafka() else { return };
    for (what, partitions, policy, remedy) in [
        ("policy", 4, "delete", "--add-config cleanup.policy=compact"),
        ("few", 3, "compact", "kafka-topics.sh --alter --topic"),
        ("many", 5, "compact", "kafka-topics.sh --delete --topic"),
    ] {
        let app = app(&bootstrap, what);
        let name = format!("{}.state", app.name);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1))
            .set("cleanup.policy", policy);
        let made = block_on(admin(&bootstrap).create_topics([&topic], &AdminOptions::new()));
        assert_eq!(made.expect("an answer"), [Ok(name.clone())]);
        wait_for("it is there", || (!bounds(&bootstrap, &name).is_empty()).then_some(()));
        let mut instance = app.spawn("a");
        let log = wait_for("it refuses", || (!instance.is_alive()).then(|| instance.log()));
        assert!(log.contains(remedy) && log.contains(&name), "{what}: {log}");
    }
}

#[test]
fn matches_that_come_too_late_are_kept_apart_with_their_events_places() {
    let Some(bootstrap) = kafka() else { return };
    let app = app(&bootstrap, "late");
    let instance = app.start("a");
    fail(&app, 10, 1);
    wait_for_groups(&instance, USERS);
    // The watermark stands at the last event but for the lateness of one second.
    fail(&app, 0, 1);
    let mut late = Topic::open(&bootstrap, &format!("{}.late", app.name));
    late.wait_for(USERS);
    app.settle();
    late.poll();
    let offset = |record: &Value| record["m"]["a"]["o"].as_i64().expect("a place");
    let mut offsets: Vec<_> = late.json().iter().map(offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (USERS as i64..2 * USERS as i64).collect::<Vec<_>>());
    let counted: f64 = instance.metric("watchfire_events_late_total").values().sum();
    assert_eq!(counted, USERS as f64);
}
