//! What is published: one schema on every output.
//!
//! An alert is an OCSF Detection Finding (class 2004, version 1.8.0). Its bytes depend on rule and
//! events alone, never on the clock, so a replay gives the same bytes. The rule's author travels with
//! it, as SigmaHQ's licence (DRL 1.1) asks.

mod attack;
mod cut;
mod exhibit;
mod head;
mod ocsf;
mod template;

use std::sync::Arc;

pub use cut::{Cut, Place};
pub use exhibit::{Decoded, Exhibit};
pub use head::{AlertHead, HeadError};
use serde_json::{Map, Value, json};
pub use template::{Template, Templates, of_detection};

use crate::correlate::Finding;
use crate::ids::{AlertId, Coordinate, RuleId};
use crate::rule::{CorrelationKind, CorrelationRule, Level, RuleRef, RuleSet};
use crate::time::Timestamp;

/// One alert, ready to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The same for the same cause, always.
    pub id: AlertId,
    /// 1 for the first time it is published.
    pub revision: u64,
    /// The rule.
    pub rule: RuleId,
    /// The rule's title.
    pub title: Arc<str>,
    /// The rule's level.
    pub level: Level,
    /// Time of the event that made it fire.
    pub time: Timestamp,
    /// Where that event's record lies.
    pub at: Coordinate,
    /// One sentence for people.
    pub summary: String,
    /// The OCSF document.
    pub body: Vec<u8>,
}

/// Records that retention deleted before they were read: `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First lost offset.
    pub from: i64,
    /// First offset that is there again.
    pub to: i64,
    /// What noticed it: `assignment` or `running`.
    pub detected_by: &'static str,
    /// When it was noticed, by the clock.
    pub time: Timestamp,
}

impl Gap {
    /// How many records were lost.
    pub fn count(&self) -> i64 {
        self.to - self.from
    }
}

/// The id under which gaps are published.
pub const GAP_RULE: &str = "watchfire.data_loss";

/// The alert for a finding.
pub fn of_finding(rules: &RuleSet, finding: &Finding) -> Alert {
    let rule = &rules.correlations[finding.rule];
    let episode = &finding.episode;
    let mut parts: Vec<&[u8]> = vec![b"finding", rule.header.id.0.as_bytes()];
    let began = episode.began.0.to_le_bytes();
    parts.push(&began);
    parts.extend(finding.group.0.iter().map(|v| v.as_bytes()));
    let names = rule.group_by.iter().map(|f| f.as_str().to_owned());
    let group: Vec<(String, String)> =
        names.zip(finding.group.0.iter().map(|v| v.to_string())).collect();
    let summary = summary_of(rule, &group, episode.value, episode.expected);
    let evidence: Vec<Coordinate> =
        episode.evidence.first.iter().chain(&episode.evidence.last).cloned().collect();
    let kept = evidence.len();
    let group_json: Map<String, Value> =
        group.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect();
    let details = json!({
        "group": group_json,
        "condition": condition(&rule.kind, episode.value, episode.expected),
        "window": {
            "kind": "sliding",
            "size_ms": rule.timespan_micros / 1000,
            "start": episode.start.millis(),
            "end": episode.end.millis(),
        },
        "evidence": {"total": episode.evidence.total, "kept": kept},
    });
    let statistical = matches!(rule.kind, CorrelationKind::Spike(_));
    let draft = ocsf::Draft {
        id: AlertId::of(&parts),
        revision: episode.revision,
        head: &rule.header,
        kind: ocsf::kind_name(&rule.kind),
        analytic_type: if statistical { (3, "Statistical") } else { (1, "Rule") },
        time: episode.time(),
        window: (episode.start, episode.end),
        count: episode.evidence.total,
        summary,
        evidence,
        entities: group,
        details,
        event: None,
        related: rule.inputs.iter().map(|i| related(rules, i.rule)).collect(),
    };
    draft.finish(finding.trigger.clone())
}

/// The alert about records that were lost before they were read.
pub fn of_gap(gap: &Gap) -> Alert {
    let id = AlertId::of(&[
        b"gap",
        gap.topic.as_bytes(),
        &gap.partition.to_le_bytes(),
        &gap.from.to_le_bytes(),
        &gap.to.to_le_bytes(),
    ]);
    let summary = format!(
        "{} records of {} partition {} were deleted before they were read: offsets [{}, {})",
        gap.count(),
        gap.topic,
        gap.partition,
        gap.from,
        gap.to
    );
    let at =
        Coordinate { topic: gap.topic.as_str().into(), partition: gap.partition, offset: gap.to };
    ocsf::gap(id, gap, summary, at)
}

fn related(rules: &RuleSet, rule: RuleRef) -> (RuleId, String) {
    let head = rules.header(rule);
    (head.id.clone(), head.title.clone())
}

fn condition(kind: &CorrelationKind, value: u64, expected: Option<f64>) -> Value {
    let threshold = match kind {
        CorrelationKind::EventCount(t) | CorrelationKind::ValueCount { threshold: t, .. } => {
            t.describe()
        }
        CorrelationKind::Temporal { at_least } => format!(">= {at_least} rules"),
        CorrelationKind::TemporalOrdered => "all rules in order".to_owned(),
        CorrelationKind::Spike(s) => format!(">= {} x expected and >= {}", s.ratio, s.count_min),
    };
    let mut out = json!({"type": kind.name(), "threshold": threshold, "value": value});
    if let Some(expected) = expected {
        out["expected"] = json!((expected * 100.0).round() / 100.0);
    }
    out
}

fn summary_of(
    rule: &CorrelationRule,
    group: &[(String, String)],
    value: u64,
    expected: Option<f64>,
) -> String {
    let whose: Vec<String> = group.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let whose = if whose.is_empty() { String::new() } else { format!(" for {}", whose.join(", ")) };
    let span = duration(rule.timespan_micros);
    let what = match &rule.kind {
        CorrelationKind::EventCount(_) => format!("{value} events{whose} within {span}"),
        CorrelationKind::ValueCount { fields, .. } => {
            let names: Vec<&str> = fields.iter().map(|f| f.as_str()).collect();
            format!("{value} different values of {}{whose} within {span}", names.join("+"))
        }
        CorrelationKind::Temporal { .. } => format!("{value} rules matched{whose} within {span}"),
        CorrelationKind::TemporalOrdered => {
            format!("{value} rules matched in order{whose} within {span}")
        }
        CorrelationKind::Spike(_) => {
            let expected = expected.unwrap_or_default();
            format!("{value} events{whose} in {span}, {expected:.1} were expected")
        }
    };
    format!("{}: {what}", rule.header.title)
}

/// The largest unit that fits: `5m`, `90s`.
fn duration(micros: i64) -> String {
    let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| micros % unit == 0 && micros >= *unit);
    whole.map_or(format!("{}ms", micros / 1000), |(unit, name)| format!("{}{name}", micros / unit))
}
