//! Rules as the API and the metrics show them.

use std::collections::BTreeMap;

use super::LoadedRules;
use super::filter::SourceSpec;
use crate::http::{RuleState, RuleView};
use crate::metrics::Metrics;
use crate::pipeline::{Unfed, unfed};
use crate::rule::{Header, Severity};

/// How many rules are named in a log line.
const NAMED: usize = 5;

/// Finds the rules that no source can feed, and says so once in the log.
pub fn report_unfed(loaded: &LoadedRules, sources: &[SourceSpec]) -> Vec<Unfed> {
    let decoders: Vec<_> = sources.iter().map(|s| std::sync::Arc::clone(&s.decoder)).collect();
    let found = unfed(&loaded.rules, &decoders);
    if !found.is_empty() {
        let title = |u: &Unfed| loaded.rules.detections[u.rule].header.title.as_str();
        let first: Vec<&str> = found.iter().take(NAMED).map(title).collect();
        tracing::warn!(
            rules = found.len(),
            ?first,
            "no source can feed these rules; the API tells for each what it is written for"
        );
    }
    found
}

/// All rules, the broken ones with what is wrong, the unfed ones with what they lack.
pub fn rule_views(loaded: &LoadedRules, unfed: &[Unfed]) -> Vec<RuleView> {
    let warned: BTreeMap<&str, &Unfed> =
        unfed.iter().map(|u| (loaded.rules.detections[u.rule].header.id.0.as_ref(), u)).collect();
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
            warming_seconds: None,
            warning: None,
        }
    });
    let running = heads(loaded).map(|(kind, head)| {
        let warning = warned.get(&*head.id.0).map(|u| u.diagnostic.to_string());
        RuleView { warning, ..view(kind, head) }
    });
    running.chain(broken).collect()
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
        warming_seconds: None,
        warning: None,
    }
}
