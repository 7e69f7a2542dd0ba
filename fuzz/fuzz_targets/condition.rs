//! Any text as the condition of a rule with known selections. What compiles means what it says:
//! in brackets it is the same, after `not` the opposite.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use watchfire_fuzz::{compile, detect, event};

const FIELDS: [&str; 4] = ["a", "b_1", "b_2", "_h"];

/// A double-quoted YAML scalar reads what a JSON string writes.
fn rule(title: &str, condition: &str) -> String {
    let selections: String = FIELDS.map(|f| format!("  {f}: {{{f}: x}}\n")).concat();
    let quoted = serde_json::to_string(condition).expect("a string");
    format!(
        "title: {title}\nlogsource: {{product: any}}\ndetection:\n{selections}  condition: {quoted}\n---\n"
    )
}

/// The event on which the selections of the set bits of `truth` hold.
fn world(truth: usize) -> String {
    let held = FIELDS.iter().enumerate().filter(|(bit, _)| truth >> bit & 1 == 1);
    let members: Vec<String> = held.map(|(_, f)| format!("\"{f}\":\"x\"")).collect();
    format!("{{{}}}", members.join(","))
}

fuzz_target!(|text: &str| {
    let plain = compile(&rule("plain", text));
    if plain.detections.is_empty() {
        return;
    }
    let bracketed = format!("({text})");
    let negated = format!("not ({text})");
    let all = [rule("plain", text), rule("bracketed", &bracketed), rule("negated", &negated)];
    let rules = Arc::new(compile(&all.concat()));
    if rules.detections.len() < 3 {
        return; // nested as deep as it may be already
    }
    for truth in 0..1 << FIELDS.len() {
        let found = detect(&rules, &event(&world(truth)));
        assert!(found == [0, 1] || found == [2], "{found:?} on {}", world(truth));
    }
});
