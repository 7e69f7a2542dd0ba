//! The fold against a slow, obvious oracle: sort everything, look at every window.
//!
//! Random events of a few groups, spread over source partitions, in any order that keeps each partition
//! within its lateness, cut into markers at random. Whatever the order, the findings are those of the
//! oracle. The seed of a failing case is printed and kept by proptest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use watchfire::alert::Alert;
use watchfire::correlate::Match;
use watchfire::ids::{Coordinate, RuleId};
use watchfire::pipeline::{Correlate, Marker, Message, Progressed};
use watchfire::rule::{RuleSet, Severity};
use watchfire::time::Timestamp;
use watchfire::window::Progress;

const SECOND: i64 = 1_000_000;

const RULES: &str = "
title: base
id: base
logsource: {product: x}
detection: {s: {a: b}, condition: s}
---
title: count
id: count
correlation: {type: event_count, rules: [base], group-by: [g], timespan: 10s, condition: {gte: 3}}
---
title: values
id: values
correlation: {type: value_count, rules: [base], group-by: [g], timespan: 10s, condition: {field: v, gt: 2}}
---
title: few
id: few
correlation: {type: event_count, rules: [base], group-by: [g], timespan: 10s, condition: {lt: 3}}
";

#[derive(Clone, Debug)]
struct Event {
    second: i64,
    group: u8,
    value: u8,
    partition: i32,
}

/// `(rule, group, start, end of the first revision, value)` in milliseconds.
type Found = BTreeSet<(String, String, i64, i64, u64)>;

fn oracle(events: &[Event]) -> Found {
    let mut groups: BTreeMap<u8, Vec<(i64, u8)>> = BTreeMap::new();
    for e in events {
        groups.entry(e.group).or_default().push((e.second, e.value));
    }
    let mut found = Found::new();
    for (group, mut all) in groups {
        all.sort_unstable();
        let all = &all;
        let mut add = |rule: &str, start: i64, end: i64, value: usize| {
            found.insert((
                rule.into(),
                format!("g{group}"),
                start * 1000,
                end * 1000,
                value as u64,
            ));
        };
        let within = |i: usize| all[..=i].iter().filter(move |e| all[i].0 - e.0 <= 10);
        let (mut counting, mut valuing) = (false, false);
        for i in 0..all.len() {
            if i > 0 && all[i].0 - all[i - 1].0 > 10 {
                (counting, valuing) = (false, false);
            }
            if !counting && within(i).count() >= 3 {
                counting = true;
                // Of the events in the window the last three fired.
                add("count", all[i - 2].0, all[i].0, 3);
            }
            let values: BTreeSet<u8> = within(i).map(|e| e.1).collect();
            if !valuing && values.len() > 2 {
                valuing = true;
                let start = within(i).map(|e| e.0).min().unwrap_or_default();
                add("values", start, all[i].0, values.len());
            }
        }
        let mut i = 0;
        while i < all.len() {
            let end = all[i..].iter().take_while(|e| e.0 - all[i].0 <= 10).count() + i;
            if end - i < 3 {
                add("few", all[i].0, all[end - 1].0, end - i);
            }
            i = end;
        }
    }
    found
}

fn key(alert: &Alert) -> (String, String, i64, i64, u64) {
    let body: serde_json::Value = serde_json::from_slice(&alert.body).expect("JSON");
    let ours = &body["unmapped"]["watchfire"];
    let number = |v: &serde_json::Value| v.as_i64().expect("a number");
    let group = ours["group"]["g"].as_str().expect("group").to_owned();
    let value = ours["condition"]["value"].as_u64().expect("value");
    (alert.rule.to_string(), group, number(&body["start_time"]), number(&body["end_time"]), value)
}

/// Feeds the events in this order, each partition with its own offsets and markers.
fn fold(events: &[Event], partitions: i32, lateness: i64, marker_every: usize) -> Found {
    let file: Arc<str> = "rules.yml".into();
    let (rules, diagnostics) = RuleSet::compile([(&file, RULES)]);
    assert!(diagnostics.iter().all(|d| d.severity != Severity::Error), "{diagnostics:#?}");
    let rules = Arc::new(rules);
    let topic: Arc<str> = "t".into();
    let mut stage = Correlate::new(Arc::clone(&rules));
    let mut alerts = Vec::new();
    let mut latest: BTreeMap<i32, i64> = BTreeMap::new();
    let marker = |progress: Vec<Progressed>| {
        Message::Marker(Marker { topics: vec![(Arc::clone(&topic), partitions)], progress })
    };
    for (i, event) in events.iter().enumerate() {
        for family in &rules.families {
            let value = |n: &str, v: String| (Arc::from(n), Arc::from(v));
            let at = Coordinate {
                topic: Arc::clone(&topic),
                partition: event.partition,
                offset: i as i64,
            };
            let record = Match {
                time: Timestamp(event.second * SECOND),
                at,
                family: Arc::clone(&family.id),
                rule: RuleId("base".into()),
                values: vec![
                    value("g", format!("g{}", event.group)),
                    value("v", event.value.to_string()),
                ],
            };
            // As on the wire.
            let record = Message::decode(&Message::Match(record).encode()).expect("its own form");
            stage.record(record, &mut alerts);
        }
        let reached = latest.entry(event.partition).or_insert(event.second);
        *reached = (*reached).max(event.second);
        if i % marker_every == 0 {
            let said = |(p, t): (&i32, &i64)| Progressed {
                topic: Arc::clone(&topic),
                partition: *p,
                progress: Progress::Active(Timestamp((t - lateness) * SECOND)),
                at: Timestamp(0),
            };
            stage.record(marker(latest.iter().map(said).collect()), &mut alerts);
        }
    }
    let end = |partition| Progressed {
        topic: Arc::clone(&topic),
        partition,
        progress: Progress::Active(Timestamp(i64::MAX / 2)),
        at: Timestamp(1),
    };
    stage.record(marker((0..partitions).map(end).collect()), &mut alerts);
    assert!(stage.fold().counts().late.is_empty(), "nothing was late");
    assert_eq!((stage.fold().groups(), stage.fold().waiting()), (0, 0), "nothing is left");
    let keys: Vec<_> = alerts.iter().map(key).collect();
    let found: Found = keys.iter().cloned().collect();
    assert_eq!(found.len(), keys.len(), "each once");
    let ids: BTreeSet<String> = alerts.iter().map(|a| a.id.to_string()).collect();
    assert_eq!(ids.len(), alerts.len(), "each with its own id");
    found
}

/// Events, a number of partitions, a lateness, and for each event how much later it arrives.
fn cases() -> impl Strategy<Value = (Vec<Event>, i32, i64, usize)> {
    (1i32..4, 0i64..30, 1usize..20).prop_flat_map(|(partitions, lateness, marker_every)| {
        let event = (0i64..150, 0u8..3, 0u8..5, 0..partitions);
        let delayed = (event, 0..=lateness, 0i64..60);
        prop::collection::vec(delayed, 0..60).prop_map(move |delayed| {
            // Each partition may lag by as much as it likes: only within it lateness is bounded.
            let mut lag = [0i64; 4];
            let mut arrivals: Vec<(i64, Event)> = Vec::new();
            for ((second, group, value, partition), delay, behind) in delayed {
                lag[partition as usize] = lag[partition as usize].max(behind);
                arrivals.push((second + delay, Event { second, group, value, partition }));
            }
            for (at, event) in &mut arrivals {
                *at += lag[event.partition as usize];
            }
            arrivals.sort_by_key(|(at, _)| *at);
            let events = arrivals.into_iter().map(|(_, e)| e).collect();
            (events, partitions, lateness, marker_every)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_findings_are_those_of_the_oracle_in_whatever_order_events_arrive(
        (events, partitions, lateness, marker_every) in cases(),
    ) {
        prop_assert_eq!(fold(&events, partitions, lateness, marker_every), oracle(&events));
    }
}
