//! Records that are deleted before they are read: counted, raised once, and the rest goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Topic, Writer, committed, delete_records, kafka, wait_for};
use crate::service::{App, Instance};

/// Writes marked events `from..to` to a partition; their number is their offset.
fn write(app: &App, partition: i32, from: i64, to: i64) {
    let mut writer = Writer::new(&app.bootstrap, &app.topic);
    for n in from..to {
        let event = format!(r#"{{"mark":"yes","n":{n},"p":{partition}}}"#);
        writer.send(partition, Some(event.as_bytes()));
    }
    writer.flush();
}

fn rule(alert: &Value) -> &str {
    alert["finding_info"]["analytic"]["uid"].as_str().unwrap()
}

/// Topic, partition, from, to of the alerts about losses.
fn gaps(topic: &Topic) -> Vec<Value> {
    let alerts = topic.json();
    let lost = alerts.iter().filter(|a| rule(a) == "watchfire.data_loss");
    let mut gaps: Vec<Value> = lost.map(|a| a["unmapped"]["watchfire"]["gap"].clone()).collect();
    gaps.sort_by_key(|g| g["partition"].as_i64());
    gaps
}

/// Partition and number of the events that alerted, sorted.
fn alerted(topic: &Topic) -> Vec<(i64, i64)> {
    let alerts = topic.json();
    let marked = alerts.iter().filter(|a| rule(a) != "watchfire.data_loss");
    let event = |a: &Value| a["evidences"][0]["data"]["event"].clone();
    let number = |e: Value| (e["p"].as_i64().unwrap(), e["n"].as_i64().unwrap());
    let mut all: Vec<_> = marked.map(event).map(number).collect();
    all.sort();
    all
}

fn gap(app: &App, partition: i32, from: i64, to: i64, detected_by: &str) -> Value {
    json!({
        "topic": app.topic, "partition": partition, "from": from, "to": to,
        "count": to - from, "detected_by": detected_by,
    })
}

fn assert_reported(app: &App, instance: &Instance, expected: &[Value]) {
    let lost = instance.metric("watchfire_events_lost_total");
    let series = expected.iter().map(|g| {
        let labels = format!("{{partition=\"{}\",topic=\"{}\"}}", g["partition"], app.topic);
        (labels, g["count"].as_f64().unwrap())
    });
    assert_eq!(lost, series.collect());
    let (status, body) = instance.get("/readyz");
    let ready: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &ready["status"]), (200, &json!("degraded")), "{ready}");
    let mut listed = ready["gaps"].as_array().unwrap().clone();
    listed.sort_by_key(|g| g["partition"].as_i64());
    let expected_listed: Vec<Value> = expected
        .iter()
        .zip(&listed)
        .map(|(g, l)| {
            json!({
                "topic": g["topic"], "partition": g["partition"], "from": g["from"],
                "to": g["to"], "detected_by": g["detected_by"], "time": l["time"],
            })
        })
        .collect();
    assert_eq!(listed, expected_listed);
    let total: f64 = expected.iter().map(|g| g["count"].as_f64().unwrap()).sum();
    assert_eq!(ready["events_lost"].as_f64(), Some(total));
}

#[test]
fn records_deleted_while_the_service_is_down_are_counted_and_raised_once() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "deleted-down", 3);
    for partition in 0..3 {
        write(&app, partition, 0, 100);
    }
    let instance = app.start("a");
    let mut alerts = app.alerts();
    alerts.wait_for(300);
    app.settle();
    instance.stop();

    for partition in 0..3 {
        write(&app, partition, 100, 200);
    }
    delete_records(&bootstrap, &app.topic, 0, 150);
    delete_records(&bootstrap, &app.topic, 1, 200);
    let instance = app.start("a");
    // Partition 0 has 50 left, partition 1 none, partition 2 all; and two alerts about losses.
    alerts.wait_for(300 + 50 + 100 + 2);
    app.settle();
    let expected = [gap(&app, 0, 100, 150, "assignment"), gap(&app, 1, 100, 200, "assignment")];
    assert_reported(&app, &instance, &expected);
    write(&app, 1, 200, 210);
    alerts.wait_for(300 + 50 + 100 + 2 + 10);
    instance.stop();

    // Started once more, it finds nothing new to raise.
    let instance = app.start("a");
    app.settle();
    alerts.poll();
    assert_eq!(gaps(&alerts), expected);
    let left = [(0, 0..100), (0, 150..200), (1, 0..100), (1, 200..210), (2, 0..200)];
    let left: Vec<(i64, i64)> =
        left.into_iter().flat_map(|(p, r)| r.map(move |n| (p, n))).collect();
    assert_eq!(alerted(&alerts), left);
    let ready = wait_for("it is ready", || {
        let (status, body) = instance.get("/readyz");
        (status == 200).then_some(body)
    });
    assert!(ready.contains(r#""status":"ready""#), "{ready}");
}

#[test]
fn records_deleted_ahead_of_a_running_service_are_counted_and_raised_once() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "deleted-running", 2);
    write(&app, 0, 0, 100);
    write(&app, 1, 0, 100);
    let instance = app.start("a");
    let mut alerts = app.alerts();
    alerts.wait_for(200);
    app.settle();

    instance.signal("STOP");
    // A fetch that was under way when it was stopped is answered by the broker after 50 ms at the latest; what is
    // written after that cannot have reached the process. Nothing outside shows when the answer is there.
    std::thread::sleep(Duration::from_millis(500));
    write(&app, 0, 100, 200);
    write(&app, 1, 100, 200);
    delete_records(&bootstrap, &app.topic, 0, 170);
    instance.signal("CONT");
    alerts.wait_for(200 + 30 + 100 + 1);
    app.settle();
    let expected = [gap(&app, 0, 100, 170, "running")];
    assert_reported(&app, &instance, &expected);
    write(&app, 0, 200, 210);
    alerts.wait_for(200 + 30 + 100 + 1 + 10);
    app.settle();
    alerts.poll();
    assert_eq!(gaps(&alerts), expected);
    let left = [(0, 0..100), (0, 170..210), (1, 0..200)];
    let left: Vec<(i64, i64)> =
        left.into_iter().flat_map(|(p, r)| r.map(move |n| (p, n))).collect();
    assert_eq!(alerted(&alerts), left);
    let group = format!("{}-filter", app.name);
    assert_eq!(committed(&bootstrap, &group, &app.topic), [(0, 210), (1, 200)].into());
}
