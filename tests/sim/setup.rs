//! What all runs share: the rules, the configuration, how events are written.

use std::sync::{Arc, LazyLock};

use watchfire::config::Config;
use watchfire::correlate::{FoldOptions, Updates};
use watchfire::decode::{Decoder, Format};
use watchfire::rule::{RuleSet, Severity};
use watchfire::runtime::SourceSpec;
use watchfire::time::Timestamp;

use super::plan::{Event, Kind, Plan};

pub const SOURCE: &str = "events";
pub const MATCHES: &str = "sim.matches";
pub const ALERTS: &str = "sim.alerts";
pub const DEAD_LETTERS: &str = "sim.dlq";
pub const LATE: &str = "sim.late";
pub const STATE: &str = "sim.state";
pub const MATCHES_PARTITIONS: i32 = 2;

/// How late events may be.
pub const LATENESS_MS: i64 = 1_000;

const RULES: &str = "title: alone
name: alone
logsource: {category: sim}
detection: {s: {kind: alert}, condition: s}
level: high
---
title: fail
name: fail
logsource: {category: sim}
detection: {s: {kind: fail}, condition: s}
---
title: success
name: success
logsource: {category: sim}
detection: {s: {kind: success}, condition: s}
---
title: many
name: many
correlation: {type: event_count, rules: [fail], group-by: [user], timespan: 4s, condition: {gte: 3}}
level: high
---
title: few
name: few
correlation: {type: event_count, rules: [success], group-by: [user], timespan: 2s, condition: {eq: 2}}
level: low
---
title: then
name: then
correlation: {type: temporal_ordered, rules: [many, success], group-by: [user], timespan: 4s}
level: critical
";

pub static RULE_SET: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
    let file: Arc<str> = "sim.yml".into();
    let (rules, found) = RuleSet::compile([(&file, RULES)]);
    assert!(found.iter().all(|d| d.severity == Severity::Hint), "{found:?}");
    Arc::new(rules)
});

pub fn config(plan: &Plan) -> Config {
    let text = format!(
        "version: 1\napp: sim\nkafka: {{brokers: ['none:9']}}\nrules: ['.']\n\
         sources: [{{topic: {SOURCE}, format: json, lateness: {LATENESS_MS}ms}}]\n\
         correlation: {{update_interval: {}ms, snapshot_interval: 3s}}\n",
        plan.update_ms
    );
    Config::parse(&text, std::path::Path::new("sim.yml")).unwrap()
}

pub fn fold_options(plan: &Plan) -> FoldOptions {
    let updates = match plan.update_ms {
        0 => Updates::None,
        ms => Updates::Every(ms * 1_000),
    };
    FoldOptions { updates, ..FoldOptions::default() }
}

pub static DECODER: LazyLock<Arc<Decoder>> = LazyLock::new(|| {
    let mut decoder = Decoder::new(Format::Json, Vec::new());
    decoder.source.add_category("sim");
    Arc::new(decoder)
});

pub fn source() -> SourceSpec {
    SourceSpec {
        topic: SOURCE.into(),
        decoder: Arc::clone(&DECODER),
        view: 0,
        lateness: LATENESS_MS * 1_000,
        start: Default::default(),
        retention_ms: None,
    }
}

/// An event as the source holds it.
pub fn payload(event: &Event, now_ms: i64) -> Vec<u8> {
    let kind = match event.kind {
        Kind::Broken => return b"{".to_vec(),
        Kind::Quiet => "quiet",
        Kind::Alert => "alert",
        Kind::Fail => "fail",
        Kind::Success => "success",
    };
    let time = Timestamp::from_millis(now_ms - event.age_ms);
    format!(r#"{{"@timestamp":"{time}","kind":"{kind}","user":"u{}"}}"#, event.user).into_bytes()
}
