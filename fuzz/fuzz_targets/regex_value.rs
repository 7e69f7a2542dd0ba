//! Flags on the first line, a pattern on the second, a text after it: `re` compiles or is explained,
//! and matches the same alone, in a list and turned around.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use watchfire_fuzz::{compile, detect, event};

fn rule(title: &str, modifiers: &str, pattern: &str) -> String {
    let quoted = serde_json::to_string(pattern).expect("a string");
    format!(
        "title: {title}\nlogsource: {{product: any}}\ndetection:\n  s:\n    F|{modifiers}: {quoted}\n  condition: s\n---\n"
    )
}

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let [flags, pattern, subject] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let flags: String =
        ["i", "m", "s"].iter().filter(|f| flags.contains(**f)).map(|f| format!("|{f}")).collect();
    let plain = rule("plain", &format!("re{flags}"), pattern);
    let negated = rule("negated", &format!("re{flags}|neq"), pattern);
    let rules = Arc::new(compile(&(plain + &negated)));
    assert!(matches!(rules.detections.len(), 0 | 2), "one of two forms was refused: {pattern}");
    if rules.detections.is_empty() {
        return;
    }
    let text = serde_json::to_string(subject).expect("a string");
    let alone = detect(&rules, &event(&format!("{{\"F\":{text}}}")));
    let listed = detect(&rules, &event(&format!("{{\"F\":[null,{text}]}}")));
    assert_eq!(alone.len(), 1, "neq is not the opposite of {pattern} on {text}");
    assert_eq!(alone, listed, "a list of one value is that value: {pattern} on {text}");
});
