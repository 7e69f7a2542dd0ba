//! The compiled program against the full scan: all of SigmaHQ over real Windows events.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use watchfire::detect::{Engine, reference};
use watchfire::event::Event;
use watchfire::rule::RuleSet;

/// Every so many events of the corpus are looked at, so that one run takes seconds.
const STRIDE: usize = 150;

fn read(folder: &Path, into: &mut Vec<(Arc<str>, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|e| e == "yml") {
            let text = std::fs::read_to_string(&path).expect("a rule file");
            into.push((path.to_string_lossy().into(), text));
        }
    }
}

#[test]
fn compiled_rules_answer_as_the_full_scan_on_real_events() {
    let Some(dir) = common::corpora() else { return };
    let mut files = Vec::new();
    read(&dir.join("sigmahq/rules"), &mut files);
    let (rules, _) = RuleSet::compile(files.iter().map(|(n, t)| (n, t.as_str())));
    let rules = Arc::new(rules);
    let events = Command::new("zstd")
        .args(["-dcq"])
        .arg(dir.join("windows/win_mix.ndjson.zst"))
        .output()
        .expect("zstd unpacks the events");
    let text = String::from_utf8(events.stdout).expect("events are text");

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
