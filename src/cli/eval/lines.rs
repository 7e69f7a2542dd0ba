//! One compact line per detection or finding. What is the same for all of a rule is written once.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::alert::{Cut, Place, json, plain};
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

/// Bytes of a line number and a time, about.
const SLOT_BYTES: usize = 40;

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

    fn of(&self, rule: usize) -> &Cut<Slot> {
        let head = &self.rules.detections[rule].header;
        self.made[rule].get_or_init(|| Cut::new(&detection(head), PLACES))
    }

    /// Bytes of the line of a detection, about.
    pub fn bytes(&self, hit: &Detected) -> usize {
        self.of(hit.rule).text_bytes() + SLOT_BYTES
    }

    /// Appends the line of a detection.
    pub fn write(&self, hit: &Detected, out: &mut Vec<u8>) {
        self.of(hit.rule).write(out, |slot, out| match (slot, hit.time) {
            (Slot::Line, _) => json(&hit.offset, out),
            (Slot::Time, None) => out.extend_from_slice(b"null"),
            (Slot::Time, Some(time)) => plain(format_args!("{time}"), out),
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
