//! SigmaHQ's rules and the Windows events of the corpora, for the binaries that run one over the other.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The folders that SigmaHQ calls core.
const CORE: &[&str] = &[
    "rules",
    "rules-compliance",
    "rules-dfir",
    "rules-emerging-threats",
    "rules-placeholder",
    "rules-threat-hunting",
];

/// Name and text of every core rule file.
pub fn core_rules(corpora: &Path) -> Vec<(Arc<str>, String)> {
    CORE.iter().flat_map(|folder| rules(&corpora.join("sigmahq").join(folder))).collect()
}

/// Name and text of every rule file below a folder.
pub fn rules(folder: &Path) -> Vec<(Arc<str>, String)> {
    let mut files = Vec::new();
    read(folder, &mut files);
    files
}

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

/// Real Windows events, one JSON object a line.
pub fn windows_events(corpora: &Path) -> String {
    let events = Command::new("zstd")
        .arg("-dcq")
        .arg(corpora.join("windows/win_mix.ndjson.zst"))
        .output()
        .expect("zstd unpacks the events");
    String::from_utf8(events.stdout).expect("events are text")
}
