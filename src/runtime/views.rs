//! Rules as the API and the metrics show them.

use super::LoadedRules;
use crate::http::{RuleState, RuleView};
use crate::metrics::Metrics;
use crate::rule::{Header, Severity};

/// All rules, the broken ones with what is wrong.
pub fn rule_views(loaded: &LoadedRules) -> Vec<RuleView> {
    let broken = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).map(|d| {
        let file = d.file.as_deref().unwrap_or_default();
        RuleView {
            id: file.to_owned(),
            title: file.to_owned(),
            kind: "unknown".to_owned(),
            level: None,
            status: None,
            author: None,
            tags: Vec::new(),
            file: file.to_owned(),
            state: RuleState::Broken,
            error: Some(d.to_string()),
        }
    });
    heads(loaded).map(|(kind, head)| view(kind, head)).chain(broken).collect()
}

/// Publishes what is loaded.
pub fn describe_rules(metrics: &Metrics, loaded: &LoadedRules) {
    let rules = &loaded.rules;
    metrics.rules_loaded.set(["detection"], rules.detections.len() as f64);
    metrics.rules_loaded.set(["correlation"], rules.correlations.len() as f64);
    metrics.rule_load_errors.set([], loaded.errors() as f64);
    for (kind, head) in heads(loaded) {
        metrics.rule_info.set([&head.id.0, &head.title, head.level.as_str(), kind], 1.0);
    }
}

fn heads(loaded: &LoadedRules) -> impl Iterator<Item = (&'static str, &Header)> {
    let detections = loaded.rules.detections.iter().map(|r| ("detection", &r.header));
    let correlations = loaded.rules.correlations.iter().map(|r| (r.kind.name(), &r.header));
    detections.chain(correlations)
}

fn view(kind: &str, head: &Header) -> RuleView {
    RuleView {
        id: head.id.to_string(),
        title: head.title.clone(),
        kind: kind.to_owned(),
        level: Some(head.level.as_str().to_owned()),
        status: head.status.clone(),
        author: head.author.clone(),
        tags: head.tags.clone(),
        file: head.file.to_string(),
        state: RuleState::Active,
        error: None,
    }
}
