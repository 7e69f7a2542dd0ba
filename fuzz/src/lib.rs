//! What several fuzz targets check: that a diagnostic points into the text it is about, and that the
//! engine gives the same answers as the full scan.

use std::sync::{Arc, LazyLock};

use watchfire::decode::{Decoder, Format, Reject, shipped_mappings};
use watchfire::detect::{Engine, reference};
use watchfire::event::Event;
use watchfire::rule::{Diagnostic, RuleSet};
use watchfire::time::Timestamp;

/// The name that the text under test has in diagnostics.
pub const FILE: &str = "fuzz.yml";

/// Events that every compiled rule runs on: nested and flat, lists, numbers at the edges, no field.
const EVENTS: &[&str] = &[
    "{}",
    r#"{"Image":"C:\\Windows\\System32\\cmd.exe","CommandLine":"cmd /c whoami -all","EventID":1}"#,
    r#"{"a":1,"b":"x","a.b":"flat","c":{"d":[{"e":"deep"},{"e":2},null]},"F":["one","TWO"]}"#,
    r#"{"n":18446744073709551615,"i":9007199254740993,"f":-0.0,"g":1e3,"t":true,"z":null,"l":[]}"#,
    r#"{"u":"\u212a\u0130\u00df\u03c3\u03c2","ip":"10.1.2.3","ip6":"fe80::1","when":"2026-02-28T23:59:60Z"}"#,
];

static SYSLOG: LazyLock<Decoder> = LazyLock::new(|| decoder(Format::Syslog));
static JSON: LazyLock<Decoder> = LazyLock::new(|| decoder(Format::Json));

fn decoder(format: Format) -> Decoder {
    Decoder::new(format, shipped_mappings().expect("shipped"))
}

/// Decodes a record with the shipped mappings, which are compiled once.
pub fn decode<'a>(
    format: Format,
    record: &'a [u8],
    reference: Timestamp,
) -> Result<Event<'a>, Reject> {
    let decoder = match format {
        Format::Syslog => &SYSLOG,
        Format::Json => &JSON,
    };
    decoder.decode(Some(record), reference)
}

/// Compiles the text as one rule file and checks every diagnostic.
pub fn compile(text: &str) -> RuleSet {
    let file: Arc<str> = FILE.into();
    let (rules, diagnostics) = RuleSet::compile([(&file, text)]);
    diagnostics.iter().for_each(|d| points_into(d, text));
    rules
}

/// Checks that a diagnostic prints, names its file, and has its place inside the text or none.
fn points_into(diagnostic: &Diagnostic, text: &str) {
    let printed = diagnostic.to_string();
    assert!(printed.starts_with(FILE), "no file in front: {printed}");
    assert!(!diagnostic.message.is_empty(), "a diagnostic without a message: {printed}");
    let place = diagnostic.place;
    if place.line == 0 {
        assert_eq!(place.column, 0, "a column without a line: {printed}");
        return;
    }
    // YAML ends a line with CR LF, LF or CR; what follows the last end is a line as well.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = text.split('\n').nth(place.line - 1);
    let line = line.unwrap_or_else(|| panic!("there is no such line: {printed}"));
    let end = line.chars().count() + 1;
    assert!((1..=end).contains(&place.column), "the line ends at column {end}: {printed}");
}

/// An event with that JSON text for its body; nothing is known about its source.
pub fn event(json: &str) -> Event<'_> {
    let body = serde_json::from_str(json).expect("JSON made here");
    Event { body, ..Event::default() }
}

/// Indices of the rules that the engine finds for the event, checked against the full scan.
pub fn detect(rules: &Arc<RuleSet>, event: &Event<'_>) -> Vec<usize> {
    let mut found = Vec::new();
    Engine::new(Arc::clone(rules)).detect(event, |index| found.push(index));
    let applies = |index: &usize| {
        let rule = &rules.detections[*index];
        rule.logsource.admits(&event.source) && reference::matches(&rule.condition, event)
    };
    let expected: Vec<usize> = (0..rules.detections.len()).filter(applies).collect();
    assert_eq!(found, expected, "the engine is not the full scan on {:?}", event.body);
    found
}

/// Runs rules over the fixed events.
pub fn run_everywhere(rules: RuleSet) {
    let rules = Arc::new(rules);
    for json in EVENTS {
        detect(&rules, &event(json));
    }
    let line = "<38>Mar 27 13:06:56 h sshd[7]: Failed password for root from 10.0.0.1 port 5 ssh2";
    let decoded = decode(Format::Syslog, line.as_bytes(), Timestamp(1_700_000_000_000_000));
    detect(&rules, &decoded.expect("a good line"));
}
