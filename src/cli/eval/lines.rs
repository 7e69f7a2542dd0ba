//! One compact line per detection or finding. What is the same for all of a rule is written once.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::alert::{Cut, Place};
use crate::correlate::Finding;
use crate::pipeline::Detected;
use crate::rule::{Header, RuleSet};

#[derive(Clone, Copy)]
enum Slot {
    Line,
    Time,
}

const PLACES: &[Place<Slot>] = &[
    Place { pointer: "/line", slot: Slot::Line, optional: false },
    Place { pointer: "/time", slot: Slot::Time, optional: false },
];

/// The lines of detections, by rule, made when they are first needed.
pub struct DetectionLines<'r> {
    rules: &'r RuleSet,
    made: Vec<OnceLock<Cut<Slot>>>,
}

impl<'r> DetectionLines<'r> {
    /// For a rule set.
    pub fn new(rules: &'r RuleSet) -> Self {
        Self { rules, made: rules.detections.iter().map(|_| OnceLock::new()).collect() }
    }

    /// Appends the line of a detection.
    pub fn write(&self, hit: &Detected, out: &mut Vec<u8>) {
        let head = &self.rules.detections[hit.rule].header;
        let line = self.made[hit.rule].get_or_init(|| Cut::new(&detection(head), PLACES));
        line.write(out, |slot, out| match (slot, hit.time) {
            (Slot::Line, _) => out.extend_from_slice(hit.offset.to_string().as_bytes()),
            (Slot::Time, None) => out.extend_from_slice(b"null"),
            (Slot::Time, Some(time)) => out.extend_from_slice(format!("\"{time}\"").as_bytes()),
        });
    }
}

fn detection(head: &Header) -> Value {
    json!({
        "kind": "detection",
        "rule": head.id.0,
        "title": head.title,
        "level": head.level.as_str(),
        "tags": head.tags,
        "line": null,
        "time": null,
        "group": null,
        "value": null,
        "revision": 1,
    })
}

/// The line of a finding.
pub fn finding(rules: &RuleSet, finding: &Finding) -> Value {
    let rule = &rules.correlations[finding.rule];
    let head = &rule.header;
    let names = rule.group_by.iter().map(|f| f.as_str().to_owned());
    let values = finding.group.0.iter().map(|v| Value::from(v.as_deref()));
    let group: serde_json::Map<String, Value> = names.zip(values).collect();
    let mut line = json!({
        "kind": "finding",
        "rule": head.id.0,
        "title": head.title,
        "level": head.level.as_str(),
        "tags": head.tags,
        "line": finding.trigger.offset,
        "time": finding.episode.time().to_string(),
        "group": group,
        "value": finding.episode.value.to_json(),
        "revision": finding.episode.revision,
    });
    if finding.episode.approximate {
        line["approximate"] = true.into();
    }
    line
}
