//! `delivery: at_least_once`: what the first stage says may come twice, nothing is missing, and correlations
//! are exact all the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kit::{Topic, Writer, bounds, has_open_transaction, kafka, wait_for};
use crate::service::{App, MARKED};

const EVENTS: usize = 6_000;

/// Each `n` fires once.
const EACH: &str = "\
title: Base
name: base
logsource: {product: test}
detection:
  marked: {mark: 'yes'}
  condition: marked
---
title: A number
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0006
correlation:
  type: event_count
  rules: [base]
  group-by: [n]
  timespan: 1m
  condition: {gte: 1}
level: high
";

/// How often each number alerted, by rule.
fn alerted(alerts: &[Value]) -> BTreeMap<(String, String), usize> {
    let mut times = BTreeMap::new();
    for alert in alerts {
        let rule = alert["finding_info"]["analytic"]["uid"].as_str().expect("a rule");
        let group = &alert["unmapped"]["watchfire"]["group"]["n"];
        let event = &alert["evidences"][0]["data"]["event"]["n"];
        let number = group.as_str().map_or_else(|| event.to_string(), str::to_owned);
        *times.entry((rule.to_owned(), number)).or_default() += 1;
    }
    times
}

#[test]
fn at_least_once_loses_nothing_repeats_under_the_same_id_and_correlations_stay_exact() {
    let Some(bootstrap) = kafka() else { return };
    let mut app = App::json(&bootstrap, "loose", 2);
    app.more = "delivery: at_least_once\ncommit_interval: 3s\n".to_owned();
    app.properties = "fetch.message.max.bytes: '4096', queued.min.messages: '100'";
    std::fs::write(app.rules.join("each.yml"), EACH).unwrap();
    let mut writer = Writer::new(&bootstrap, &app.topic);
    for n in 0..EVENTS {
        writer.send((n % 2) as i32, Some(format!(r#"{{"mark":"yes","n":{n}}}"#).as_bytes()));
    }
    writer.finish(&bootstrap);
    let topic = format!("{}.alerts", app.name);
    let published = || bounds(&bootstrap, &topic).values().map(|b| b.1).sum::<i64>();
    let mut interrupted = false;
    for _ in 0..3 {
        let before = published();
        let instance = app.start("a");
        // Alerts are there before their positions are committed.
        wait_for("it has said something", || {
            let done = app.processed() == EVENTS as i64;
            (done || published() > before + 100).then_some(())
        });
        interrupted |= app.processed() < EVENTS as i64;
        instance.kill();
    }
    assert!(interrupted, "all was committed before the first crash");
    let _instance = app.start("a");
    app.settle();
    assert!(!has_open_transaction(&bootstrap, &topic));
    let mut alerts = app.alerts();
    let marked = MARKED.lines().find_map(|l| l.strip_prefix("id: ")).expect("an id");
    // What comes again has its old id.
    let ids = |alerts: &Topic| -> BTreeSet<String> {
        alerts.records.iter().map(|r| r.headers["ce_id"].clone()).collect()
    };
    wait_for("all have alerted", || {
        alerts.poll();
        (ids(&alerts).len() >= 2 * EVENTS).then_some(())
    });
    assert_eq!(ids(&alerts).len(), 2 * EVENTS);
    let times = alerted(&alerts.json());
    let twice = times.iter().filter(|(_, times)| **times > 1);
    let rules: BTreeSet<&str> = twice.map(|((rule, _), _)| rule.as_str()).collect();
    assert_eq!(rules, BTreeSet::from([marked]), "the crashes repeat these, and nothing else");
    assert_eq!(times.len(), 2 * EVENTS);
}
