//! Matches that come too late for correlations: told, kept in `<app>.late`, each once.

use serde_json::Value;

use crate::kit::{Topic, Writer, kafka, wait_for};
use crate::service::{App, FAILED, Instance};

const RULES: &str = "\
title: Three failures of a user
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0021
correlation:
  type: event_count
  rules: [failed]
  group-by: [user]
  timespan: 1m
  condition: {gte: 3}
level: high
";

/// Three failures of a user, the first at that second, and one success half a minute later.
fn fail(app: &App, user: &str, second: usize) {
    let mut writer = Writer::new(&app.bootstrap, &app.topic);
    for (result, at) in [("failed", 0), ("failed", 1), ("failed", 2), ("ok", 30)] {
        let at = format!("2026-03-01T10:{:02}:{:02}Z", (second + at) / 60, (second + at) % 60);
        let event = format!(r#"{{"result":"{result}","user":"{user}","time":"{at}"}}"#);
        writer.send(0, Some(event.as_bytes()));
    }
    writer.finish(&app.bootstrap);
}

fn users(alerts: &Topic) -> Vec<String> {
    let user = |alert: &Value| alert["unmapped"]["watchfire"]["group"]["user"].to_string();
    let mut users: Vec<String> = alerts.json().iter().map(user).collect();
    users.sort();
    users
}

/// What the metrics say of late matches: those whose labels hold `bucket`, or all of them.
fn late(instance: &Instance, series: &str, bucket: &str) -> f64 {
    let all = instance.metric(&format!("watchfire_match_lateness_seconds_{series}"));
    all.iter().filter(|(labels, _)| labels.contains(bucket)).map(|(_, n)| n).sum()
}

#[test]
fn a_match_that_is_too_late_for_its_correlation_is_in_the_late_topic_once() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "lateness", 1);
    std::fs::write(app.rules.join("marked.yml"), format!("{FAILED}{RULES}")).unwrap();
    let instance = app.start("a");
    let (mut alerts, mut kept) =
        (app.alerts(), Topic::open(&bootstrap, &format!("{}.late", app.name)));
    fail(&app, "ann", 0);
    fail(&app, "bob", 100);
    alerts.wait_for(2);
    // Bob has alerted, so the watermark is beyond his third failure, at 102 s.
    fail(&app, "eve", 60);
    kept.wait_for(3);
    wait_for("the metrics say so", || (late(&instance, "count", "") == 3.0).then_some(()));
    assert_eq!(late(&instance, "bucket", "le=\"30\""), 0.0);
    assert_eq!(late(&instance, "bucket", "le=\"21600\""), 3.0);
    let total = instance.metric("watchfire_events_late_total");
    assert_eq!(total.values().sum::<f64>(), 3.0);

    instance.kill();
    let instance = app.start("a");
    fail(&app, "joe", 2_000);
    alerts.wait_for(3);
    app.settle();
    alerts.poll();
    kept.poll();
    assert_eq!(users(&alerts), ["\"ann\"", "\"bob\"", "\"joe\""]);
    // As that of alerts, the topic has several partitions.
    kept.records.sort_by_key(|record| record.headers["watchfire-offset"].parse::<i64>().ok());
    let headers = |name: &str| -> Vec<&str> {
        kept.records.iter().map(|record| record.headers[name].as_str()).collect()
    };
    assert_eq!(headers("watchfire-offset"), ["8", "9", "10"]);
    assert_eq!(headers("watchfire-topic"), [app.topic.as_str(); 3]);
    assert_eq!(headers("watchfire-rule"), ["failed"; 3]);
    assert_eq!(headers("watchfire-time")[0], "2026-03-01T10:01:00Z");
    for record in kept.json() {
        assert_eq!(record["m"]["v"], serde_json::json!([["user", "eve"]]), "{record}");
    }
    instance.stop();
}
