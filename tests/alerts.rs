//! Alerts that are cut from a template are those that are made in one go.

mod common;
#[path = "common/sigmahq.rs"]
mod sigmahq;

use std::sync::Arc;

use serde_json::Value;
use watchfire::alert::{Decoded, Template, of_detection};
use watchfire::decode::{Decoder, Format, shipped_mappings};
use watchfire::ids::Coordinate;
use watchfire::rule::RuleSet;
use watchfire::time::Timestamp;

/// Rules that name what the document is made of.
const NASTY: &str = r#"
title: '/message "quoted" \ {} ,"observables":[ é 😀'
id: '/time'
level: critical
author: "a\u0001b\n"
fields: [user, user, a.b, 'src_ip', "x\"y", Computer]
tags: [attack.t1110.001, attack.execution, 'a"b']
falsepositives: ['"observables":', '/observables']
message: own
observables: [1, {uid: x, "event": null}]
evidences: [{data: {event: 1}}]
logsource: {product: linux}
detection: {s: {f: 1}, condition: s}
---
title: plain
description: d
logsource: {product: linux}
detection: {s: {f: 1}, condition: s}
"#;

const EVENTS: &[&str] = &[
    "{}",
    r#"{"a":{"b":1.5},"user":"bob"}"#,
    r#"{"user": "\"\\\n\u0000\ud83d\ude00 é /message", "src_ip":"10.0.0.1", "x\"y": "</script>"}"#,
    r#"{"z":1,"Computer":"h","Image":"C:\\a.exe","CommandLine":"x,\"observables\":[{}]","a b":2}"#,
    "{\"user\":\r\n [null, \"first\", 2],\n \"host\": true, \"User\": 12345678901234567890}",
    r#"{"Event":{"System":{"EventID":1,"Computer":"c"},"EventData":{"User":"u","Image":"i"}}}"#,
];

fn large() -> String {
    format!(r#"{{"user":"{}","pad":"{}"}}"#, "é".repeat(400), "x".repeat(70_000))
}

/// Compares both ways for every rule and event; gives how many alerts that were.
fn compare(rules: &RuleSet, decoder: &Decoder, payloads: &[String]) -> usize {
    let mut alerts = 0;
    for payload in payloads {
        let event = decoder.decode(Some(payload.as_bytes()), Timestamp(0)).expect("an event");
        let json = (decoder.format == Format::Json).then_some(payload.as_bytes());
        let exhibit = Decoded { event: &event, json };
        for (index, rule) in rules.detections.iter().enumerate() {
            let topic = ["input", "to\"pic", ""][index % 3].into();
            let offset = index as i64 * 1_000_000_007;
            let at = Coordinate { topic, partition: index as i32, offset };
            let time = Timestamp(1_795_293_641_207_999 - offset);
            let cut = Template::new(rule, 0).alert(&exhibit, &at, time);
            let whole = of_detection(rule, 0, &exhibit, &at, time);
            assert_eq!(without_body(&cut), without_body(&whole));
            let parsed: Value = serde_json::from_slice(&cut.body).expect("JSON");
            assert_eq!(parsed.to_string().as_bytes(), whole.body, "{}", rule.header.id);
            let own = &parsed["evidences"][0]["data"]["event"];
            if json.is_none_or(|json| own.to_string().as_bytes() == json) {
                assert!(cut.body == whole.body, "{} on {payload}", rule.header.id);
            }
            assert!(!cut.body.contains(&b'\n'), "an alert is one line");
            alerts += 1;
        }
    }
    alerts
}

fn without_body(alert: &watchfire::alert::Alert) -> watchfire::alert::Alert {
    watchfire::alert::Alert { body: Vec::new(), ..alert.clone() }
}

fn payloads() -> Vec<String> {
    EVENTS.iter().map(|event| (*event).to_owned()).chain([large()]).collect()
}

#[test]
fn a_template_gives_the_document_whatever_the_rule_says() {
    let file: Arc<str> = "nasty.yml".into();
    let (rules, found) = RuleSet::compile([(&file, NASTY)]);
    assert_eq!(rules.detections.len(), 2, "{found:?}");
    let json = Decoder::new(Format::Json, Vec::new());
    assert_eq!(compare(&rules, &json, &payloads()), 2 * (EVENTS.len() + 1));
    let syslog = Decoder::new(Format::Syslog, shipped_mappings().expect("shipped"));
    let line = "Mar 27 13:06:56 h sshd[7]: Invalid user \"b\\ob from 10.0.0.1".to_owned();
    assert_eq!(compare(&rules, &syslog, &[line]), 2);
}

#[test]
fn templates_of_all_rules_of_sigmahq_give_the_documents() {
    let Some(dir) = common::corpora() else { return };
    let files = sigmahq::core_rules(&dir);
    let (rules, _) = RuleSet::compile(files.iter().map(|(name, text)| (name, text.as_str())));
    assert!(rules.detections.len() > 3000);
    let decoder = Decoder::new(Format::Json, Vec::new());
    let alerts = compare(&rules, &decoder, &payloads());
    eprintln!("{alerts} alerts are equal");
}
