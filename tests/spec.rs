//! The decisions of `docs/semantics.md`, each run as it is written in `tests/spec/*.md`.
//!
//! Every event goes through the engine and through the slow reference, which must agree. Events with
//! times go through the fold as well, in several orders of arrival, which must give the same alerts.

#[path = "spec/arrival.rs"]
mod arrival;
mod common;
#[path = "spec/docs.rs"]
mod docs;
#[path = "spec/format.rs"]
mod format;
#[path = "spec/mistakes.rs"]
mod mistakes;

use std::path::PathBuf;
use std::sync::Arc;

use format::{Case, Decision, EventLine, Events, Expect};
use watchfire::alert::{Decoded, Template};
use watchfire::decode::{Decoder, Format};
use watchfire::detect::{Engine, reference};
use watchfire::ids::Coordinate;
use watchfire::rule::{Diagnostic, Options, RuleSet, Severity};
use watchfire::time::Timestamp;

/// What a case found wrong, each with its line.
type Wrong = Vec<(usize, String)>;

/// Every decision of every file.
fn decisions() -> Vec<Decision> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/spec");
    let entries = std::fs::read_dir(folder).expect("tests/spec");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "md") && !p.ends_with("README.md"));
    paths.sort();
    let read = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(path).expect("a spec");
        format::read(&file, &text).unwrap_or_else(|e| panic!("{e}"))
    };
    paths.iter().flat_map(read).collect()
}

#[test]
fn every_decision_holds() {
    let mut wrong = Vec::new();
    let (mut cases, mut events) = (0, 0);
    let decisions = decisions();
    for decision in &decisions {
        let place = |line: usize, what: &str| {
            format!("tests/spec/{}:{line}: {}\n    {what}", decision.file, decision.heading)
        };
        for case in &decision.cases {
            cases += 1;
            events += case.events.iter().map(|e| e.lines.len()).sum::<usize>();
            wrong.extend(run(case).iter().map(|(line, what)| place(*line, what)));
        }
    }
    println!("{} decisions, {cases} cases, {events} events", decisions.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn run(case: &Case) -> Wrong {
    let mut wrong = Wrong::new();
    let files: Vec<(Arc<str>, &str)> =
        case.files.iter().map(|(name, text)| (Arc::from(name.as_str()), text.as_str())).collect();
    let (rules, found) = compile(&files, &case.placeholders);
    compare_diagnostics(case, &files, &found, &mut wrong);
    let timed = |e: &EventLine| matches!(e.expect, Expect::At { .. });
    let timed = case.events.iter().any(|e| e.lines.iter().any(timed));
    if case.events.iter().all(|e| e.lines.is_empty()) && case.diagnostics.is_empty() {
        wrong.push((case.line, "neither events nor diagnostics are expected".into()));
    }
    if timed != case.alerts.is_some() {
        wrong.push((case.line, "events with times and `alerts` go together".into()));
    }
    let rules = Arc::new(rules);
    for events in &case.events {
        detect(case, &rules, events, &mut wrong);
    }
    if let (Some(expect), [events]) = (&case.alerts, case.events.as_slice()) {
        arrival::correlate(case.line, &rules, events, expect, &mut wrong);
    } else if case.alerts.is_some() {
        wrong.push((case.line, "`alerts` needs one block of events".into()));
    }
    wrong
}

#[allow(clippy::needless_update, reason = "options may grow; these cases are about one of them")]
fn compile(
    files: &[(Arc<str>, &str)],
    placeholders: &[(String, Vec<String>)],
) -> (RuleSet, Vec<Diagnostic>) {
    let placeholders = placeholders.iter().cloned().collect();
    let options = Options { placeholders, ..Options::default() };
    RuleSet::compile_with(files.iter().map(|(name, text)| (name, *text)), &options)
}

/// All that is expected must be found; every error found must be expected.
fn compare_diagnostics(
    case: &Case,
    files: &[(Arc<str>, &str)],
    found: &[Diagnostic],
    wrong: &mut Wrong,
) {
    let token = |d: &Diagnostic| {
        let text = files.iter().find(|(n, _)| d.file.as_ref() == Some(n)).map_or("", |(_, t)| t);
        text[d.place.bytes_in(text)].to_owned()
    };
    let head = |d: &Diagnostic| format!("{}[{}]", d.severity.as_str(), d.code.as_str());
    let mut left: Vec<&Diagnostic> = found.iter().collect();
    for expect in &case.diagnostics {
        let fits = |d: &&Diagnostic| {
            head(d) == expect.head
                && d.to_string().contains(&expect.part)
                && expect.token.as_ref().is_none_or(|t| *t == token(d))
        };
        match left.iter().position(fits) {
            Some(at) => drop(left.remove(at)),
            None => {
                let near: Vec<String> =
                    found.iter().map(|d| format!("{} at `{}`: {d}", head(d), token(d))).collect();
                wrong.push((expect.line, format!("not found; there is: {}", near.join("; "))));
            }
        }
    }
    for error in left.iter().filter(|d| d.severity == Severity::Error) {
        wrong.push((case.line, format!("not expected: {error}")));
    }
}

/// Decodes as the service does, with what the block says about its source.
fn decoder(events: &Events) -> Arc<Decoder> {
    let mut decoder = Decoder::new(Format::Json, Vec::new());
    for (name, value) in &events.about {
        match name.as_str() {
            "product" => decoder.source.add_product(value),
            "category" => decoder.source.add_category(value),
            "service" => decoder.source.add_service(value),
            _ => {}
        }
    }
    Arc::new(decoder)
}

fn detect(case: &Case, rules: &Arc<RuleSet>, events: &Events, wrong: &mut Wrong) {
    let decoder = decoder(events);
    let mut engine = Engine::new(Arc::clone(rules));
    let mut missing = case.in_alert.clone();
    for line in &events.lines {
        let event = match decoder.decode(Some(line.json.as_bytes()), Timestamp(0)) {
            Ok(event) => event,
            Err(e) => return wrong.push((line.line, e.to_string())),
        };
        let mut hits = Vec::new();
        engine.detect(&event, |index| hits.push(index));
        let admitted = |i: &usize| rules.detections[*i].logsource.admits(&event.source);
        let truth = |i: &usize| reference::matches(&rules.detections[*i].condition, &event);
        let slow: Vec<usize> =
            (0..rules.detections.len()).filter(|i| admitted(i) && truth(i)).collect();
        if hits != slow {
            wrong.push((line.line, format!("the engine says {hits:?}, the reference {slow:?}")));
        }
        for &hit in &hits {
            let at = Coordinate { topic: "spec".into(), partition: 0, offset: 0 };
            let exhibit = Decoded { event: &event, json: Some(line.json.as_bytes()) };
            let alert = Template::new(&rules.detections[hit], 0).alert(&exhibit, &at, Timestamp(0));
            let body = String::from_utf8_lossy(&alert.body);
            missing.retain(|part| !body.contains(part));
        }
        let name = |i: &usize| rules.detections[*i].header.id.to_string();
        let names: Vec<String> = hits.iter().map(name).collect();
        let right = match &line.expect {
            Expect::Hit(expect) if expect.is_empty() => {
                !hits.is_empty() && hits.len() == rules.detections.len()
            }
            Expect::Hit(expect) => names == *expect,
            Expect::Miss => names.is_empty(),
            Expect::At { .. } => true,
        };
        if !right {
            wrong.push((line.line, format!("expected {:?}, matched: {names:?}", line.expect)));
        }
    }
    for part in missing {
        wrong.push((case.line, format!("no alert holds {part}")));
    }
}
