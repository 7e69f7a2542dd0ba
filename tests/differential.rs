//! The compiled program against the full scan: all of SigmaHQ over real Windows events.

mod common;
#[path = "common/sigmahq.rs"]
mod sigmahq;

use std::sync::Arc;

use watchfire::detect::{Engine, reference};
use watchfire::event::Event;
use watchfire::rule::RuleSet;

/// Every so many events of the corpus are looked at, so that one run takes seconds.
const STRIDE: usize = 150;

#[test]
fn compiled_rules_answer_as_the_full_scan_on_real_events() {
    let Some(dir) = common::corpora() else { return };
    let files = sigmahq::rules(&dir.join("sigmahq/rules"));
    let (rules, _) = RuleSet::compile(files.iter().map(|(n, t)| (n, t.as_str())));
    let rules = Arc::new(rules);
    let text = sigmahq::windows_events(&dir);

    let mut engine = Engine::new(Arc::clone(&rules));
    let (mut pairs, mut hits) = (0u64, 0u64);
    for line in text.lines().step_by(STRIDE) {
        // No source: every rule sees every event.
        let body = serde_json::from_str(line).expect("an event");
        let event = Event { body, ..Event::default() };
        let mut found = Vec::new();
        engine.detect(&event, |rule| found.push(rule));
        let truth: Vec<usize> = (0..rules.detections.len())
            .filter(|i| reference::matches(&rules.detections[*i].condition, &event))
            .collect();
        assert_eq!(found, truth, "{line}");
        pairs += rules.detections.len() as u64;
        hits += truth.len() as u64;
    }
    eprintln!("{pairs} pairs of {} rules, {hits} matches", rules.len());
    assert!(pairs > 1_000_000 && hits > 100, "{pairs} pairs, {hits} hits");
}
