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

pub use cut::{Cut, Place, json, plain};
pub use exhibit::{Decoded, Exhibit};
pub use head::{AlertHead, HeadError};
use serde_json::{Map, Value, json};
pub use template::{Template, Templates, of_detection};

use crate::correlate::{Finding, Overflow};
use crate::decimal::Decimal;
use crate::ids::{AlertId, Coordinate, RuleId};
use crate::rule::{
    CorrelationKind, CorrelationRule, Level, RuleRef, RuleSet, ValueMeasure, Windowing,
};
use crate::time::Timestamp;
use crate::window::Episode;

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

/// The id under which it is said that a correlation holds as many groups as it may.
pub const OVERFLOW_RULE: &str = "watchfire.rule_state_overflow";

/// The alert for a finding.
pub fn of_finding(rules: &RuleSet, finding: &Finding) -> Alert {
    let rule = &rules.correlations[finding.rule];
    let episode = &finding.episode;
    let names = rule.group_by.iter().map(|f| f.as_str());
    let group: Vec<(&str, Option<&str>)> =
        names.zip(finding.group.0.iter().map(|v| v.as_deref())).collect();
    let statistical = matches!(rule.kind, CorrelationKind::Spike(_));
    let entity = |(name, value): &(&str, Option<&str>)| {
        value.map(|value| ((*name).to_owned(), value.to_owned()))
    };
    let draft = ocsf::Draft {
        id: id_of(rule, finding),
        revision: episode.revision,
        head: &rule.header,
        kind: ocsf::kind_name(&rule.kind),
        analytic_type: if statistical { (3, "Statistical") } else { (1, "Rule") },
        time: episode.time(),
        window: (episode.start, episode.end),
        count: episode.evidence.total,
        summary: summary_of(rule, &group, episode),
        evidence: finding.evidence.clone(),
        entities: group.iter().filter_map(entity).collect(),
        details: details(rule, &group, finding),
        event: None,
        related: rule.inputs.iter().map(|i| related(rules, i.rule)).collect(),
    };
    draft.finish(finding.trigger.clone())
}

/// Rule, group and when the episode began: the same wherever and however often it is found.
fn id_of(rule: &CorrelationRule, finding: &Finding) -> AlertId {
    // No text is this byte alone, so no value is the same as none.
    const NO_VALUE: &[u8] = &[0xff];
    let began = finding.episode.began.0.to_le_bytes();
    let mut parts: Vec<&[u8]> = vec![b"finding", rule.header.id.0.as_bytes(), &began];
    let values = finding.group.0.iter();
    parts.extend(values.map(|v| v.as_ref().map_or(NO_VALUE, |text| text.as_bytes())));
    AlertId::of(&parts)
}

fn details(rule: &CorrelationRule, group: &[(&str, Option<&str>)], finding: &Finding) -> Value {
    let episode = &finding.episode;
    let group: Map<String, Value> =
        group.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    let mut details = json!({
        "group": group,
        "condition": condition(&rule.kind, episode),
        "window": {
            "kind": match rule.windowing {
                Windowing::Sliding => "sliding",
                Windowing::Tumbling => "tumbling",
                Windowing::Session { .. } => "session",
            },
            "size_ms": rule.timespan_micros / 1000,
            "start": episode.start.millis(),
            "end": episode.end.millis(),
        },
        "evidence": {"total": episode.evidence.total, "kept": finding.evidence.len()},
    });
    if let Windowing::Session { gap_micros } = rule.windowing {
        details["window"]["gap_ms"] = (gap_micros / 1000).into();
    }
    details
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

/// The alert about a correlation that holds as many groups as it may, and refuses new ones.
pub fn of_overflow(rules: &RuleSet, overflow: &Overflow) -> Alert {
    let head = &rules.correlations[overflow.rule].header;
    let time = overflow.time.0.to_le_bytes();
    let id = AlertId::of(&[b"overflow", head.id.0.as_bytes(), &time]);
    let summary = format!(
        "{}: no new group is taken in, {} groups hold {} bytes; what else they did is not seen",
        head.title, overflow.groups, overflow.bytes
    );
    ocsf::overflow(id, head, overflow, summary)
}

fn related(rules: &RuleSet, rule: RuleRef) -> (RuleId, String) {
    let head = rules.header(rule);
    (head.id.clone(), head.title.clone())
}

fn condition(kind: &CorrelationKind, episode: &Episode) -> Value {
    let value = episode.value.to_json();
    let mut out = json!({"type": kind.name(), "threshold": kind.describe(), "value": value});
    if episode.approximate {
        out["approximate"] = true.into();
    }
    if let Some(expected) = episode.expected {
        out["expected"] = json!((expected * 100.0).round() / 100.0);
    }
    out
}

fn summary_of(rule: &CorrelationRule, group: &[(&str, Option<&str>)], episode: &Episode) -> String {
    let one = |(name, value): &(&str, Option<&str>)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("no {name}"),
    };
    let whose: Vec<String> = group.iter().map(one).collect();
    let whose = if whose.is_empty() { String::new() } else { format!(" for {}", whose.join(", ")) };
    let span = duration(rule.timespan_micros);
    let about = if episode.approximate { "about " } else { "" };
    let value = format!("{about}{}", episode.value);
    let what = match &rule.kind {
        CorrelationKind::EventCount(_) => format!("{value} events{whose} within {span}"),
        CorrelationKind::ValueCount { fields, .. } => {
            let names: Vec<&str> = fields.iter().map(|f| f.as_str()).collect();
            format!("{value} different values of {}{whose} within {span}", names.join("+"))
        }
        CorrelationKind::Value { measure, field, .. } => {
            let measure = match measure {
                ValueMeasure::Sum => "the sum".to_owned(),
                ValueMeasure::Average => "the average".to_owned(),
                ValueMeasure::Median => "the median".to_owned(),
                ValueMeasure::Percentile(p) => {
                    format!("percentile {}", Decimal::from(u64::from(*p)).over(1000))
                }
            };
            format!("{measure} of {} was {value}{whose} within {span}", field.as_str())
        }
        CorrelationKind::Temporal { .. } => format!("{value} rules matched{whose} within {span}"),
        CorrelationKind::TemporalOrdered => {
            format!("{value} rules matched in order{whose} within {span}")
        }
        CorrelationKind::Spike(_) => {
            let expected = episode.expected.unwrap_or_default();
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
