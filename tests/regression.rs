//! SigmaHQ's regression data: for each case the named rule must fire on its events, with all rules
//! loaded and events routed by the shipped tables. And a small set of our own in the same layout, which
//! is always there.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use watchfire::decode::{Decoder, Format, Tables, shipped_tables};
use watchfire::detect::Engine;
use watchfire::rule::RuleSet;
use watchfire::time::Timestamp;

/// The head of a case, `info.yml`.
#[derive(Deserialize)]
struct Info {
    rule_metadata: Vec<Rule>,
    regression_tests_info: Vec<Sample>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
}

#[derive(Deserialize)]
struct Sample {
    path: PathBuf,
    match_count: usize,
}

/// All rules of SigmaHQ, and the decoder with the shipped tables.
struct Bench {
    engine: Engine,
    decoder: Decoder,
}

/// What the events of a case gave.
struct Outcome {
    events: usize,
    hits: BTreeMap<String, usize>,
    sources: Vec<String>,
}

impl Bench {
    fn new(sigmahq: &Path) -> Self {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(sigmahq).expect("the corpus").flatten() {
            if entry.file_name().to_string_lossy().starts_with("rules") {
                collect(&entry.path(), "yml", &mut files);
            }
        }
        files.sort();
        let read = |path: &PathBuf| {
            let name: Arc<str> = path.to_string_lossy().into();
            (name, std::fs::read_to_string(path).expect("a rule"))
        };
        let texts: Vec<(Arc<str>, String)> = files.iter().map(read).collect();
        let (rules, _) = RuleSet::compile(texts.iter().map(|(name, text)| (name, text.as_str())));
        assert!(rules.len() > 3000, "only {} rules", rules.len());
        let tables = Tables::new(shipped_tables().expect("tables")).expect("few");
        Self {
            engine: Engine::new(Arc::new(rules)),
            decoder: Decoder::new(Format::Json, Vec::new()).with_tables(tables),
        }
    }

    fn run(&mut self, events: &[Value]) -> Outcome {
        let mut outcome =
            Outcome { events: events.len(), hits: BTreeMap::new(), sources: Vec::new() };
        let rules = Arc::clone(self.engine.rules());
        for event in events {
            let text = event.to_string();
            let event = self.decoder.decode(Some(text.as_bytes()), Timestamp(0)).expect("decodes");
            outcome.sources.push(event.source.to_string());
            self.engine.detect(&event, |rule| {
                let id = rules.detections[rule].header.id.to_string();
                *outcome.hits.entry(id).or_default() += 1;
            });
        }
        outcome
    }

    /// Runs every case below the folder. Gives the events of the cases and what was wrong.
    fn cases(&mut self, root: &Path) -> (Vec<Outcome>, Vec<String>) {
        let mut infos = Vec::new();
        collect(&root.join("regression_data"), "yml", &mut infos);
        infos.retain(|path| path.ends_with("info.yml"));
        infos.sort();
        let (mut outcomes, mut wrong) = (Vec::new(), Vec::new());
        for path in infos {
            let text = std::fs::read_to_string(&path).expect("info.yml");
            let info: Info = match yaml_serde::from_str(&text) {
                Ok(info) => info,
                Err(e) => {
                    wrong.push(format!("{}: {e}", path.display()));
                    continue;
                }
            };
            for sample in &info.regression_tests_info {
                match self.case(root, &path, &info, sample) {
                    Ok(outcome) => outcomes.push(outcome),
                    Err(reason) => wrong.push(format!("{}: {reason}", path.display())),
                }
            }
        }
        (outcomes, wrong)
    }

    fn case(
        &mut self,
        root: &Path,
        info_path: &Path,
        info: &Info,
        sample: &Sample,
    ) -> Result<Outcome, String> {
        let id = &info.rule_metadata.first().ok_or("names no rule")?.id;
        let given = root.join(&sample.path).with_extension("json");
        let beside = info_path.with_file_name(format!("{id}.json"));
        let path = if given.is_file() { given } else { beside };
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let outcome = self.run(&events(&text)?);
        let hits = outcome.hits.get(id).copied().unwrap_or(0);
        for (extra, count) in outcome.hits.iter().filter(|(rule, _)| *rule != id) {
            eprintln!("  {id}: also {extra} × {count}");
        }
        if hits < sample.match_count {
            let (events, wanted) = (outcome.events, sample.match_count);
            let sources = outcome.sources.join(", ");
            return Err(format!("{id} fired {hits} of {wanted} on {events} events of {sources}"));
        }
        Ok(outcome)
    }
}

/// One object, an array of objects, or one object after another.
fn events(text: &str) -> Result<Vec<Value>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut events = Vec::new();
    for value in values {
        match value.map_err(|e| e.to_string())? {
            Value::Array(items) => events.extend(items),
            value => events.push(value),
        }
    }
    Ok(events)
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
}

#[test]
fn every_case_of_sigmahq_fires_its_rule() {
    let Some(corpora) = common::corpora() else { return };
    let sigmahq = corpora.join("sigmahq");
    if !sigmahq.join("regression_data").is_dir() {
        // Also with CI=true: this one folder is no part of the corpora as they are delivered.
        eprintln!(
            "SKIPPED: {} has no regression_data, which is not delivered with the corpora. Copy it \
             there from SigmaHQ to run its cases.",
            sigmahq.display()
        );
        return;
    }
    let (outcomes, wrong) = Bench::new(&sigmahq).cases(&sigmahq);
    let extra: usize = outcomes.iter().map(|o| o.hits.len() - 1).sum();
    eprintln!("{} cases fired, {} did not; {extra} extra rules", outcomes.len(), wrong.len());
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!outcomes.is_empty(), "regression_data has no case");
}

/// One of our own cases, `regression/cases.yml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    rule: String,
    channel: String,
    event: u32,
    /// The logsource that the event must be found to be from.
    source: String,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    list: Option<Value>,
    #[serde(default)]
    user: Option<Value>,
}

fn own_cases() -> Vec<Own> {
    yaml_serde::from_str(include_str!("regression/cases.yml")).expect("cases.yml")
}

/// The event as an EVTX parser renders it; the two ways of writing attributes take turns.
fn rendered(case: &Own, older: bool) -> Value {
    let provider = case.provider.as_deref().unwrap_or("Microsoft-Windows-Example");
    let time = "2026-01-02T03:04:05.678901Z";
    let mut system = match older {
        false => json!({
            "Provider": {"#attributes": {"Name": provider, "Guid": "00000000-0000-0000-0000-000000000000"}},
            "EventID": case.event,
            "TimeCreated": {"#attributes": {"SystemTime": time}},
            "Execution": {"#attributes": {"ProcessID": 4, "ThreadID": 8}},
        }),
        true => json!({
            "Provider": null,
            "Provider_attributes": {"Name": provider},
            "EventID": {"#text": case.event, "#attributes": {"Qualifiers": 0}},
            "TimeCreated": null,
            "TimeCreated_attributes": {"SystemTime": time},
        }),
    };
    for (tag, value) in [
        ("Version", json!(5)),
        ("Level", json!(4)),
        ("Task", json!(1)),
        ("Keywords", json!("0x8000000000000000")),
        ("EventRecordID", json!(1234)),
        ("Correlation", Value::Null),
        ("Channel", json!(case.channel)),
        ("Computer", json!("host.example.com")),
        ("Security", json!({"#attributes": {"UserID": "S-1-5-18"}})),
    ] {
        system[tag] = value;
    }
    let mut event = json!({"System": system});
    if let Some(user) = &case.user {
        event["UserData"] = json!({"Element": user});
        event["UserData"]["Element"]["#attributes"] = json!({"xmlns": "urn:example"});
    }
    event["EventData"] = match (&case.data, &case.list) {
        (Some(data), _) => data.clone(),
        (None, Some(list)) if older => json!({"Data": list, "Binary": null}),
        (None, Some(list)) => json!({"Data": {"#text": list}}),
        (None, None) => Value::Null,
    };
    if case.user.is_none() {
        event["#attributes"] =
            json!({"xmlns": "http://schemas.microsoft.com/win/2004/08/events/event"});
    }
    json!({"Event": event})
}

/// Writes the cases as SigmaHQ lays out its own.
fn lay_out(cases: &[Own], root: &Path) {
    for (number, case) in cases.iter().enumerate() {
        let folder = format!("regression_data/rules/windows/case_{number:03}");
        std::fs::create_dir_all(root.join(&folder)).expect("a folder");
        let event = rendered(case, number % 2 == 1);
        let (text, count) = match number % 3 {
            0 => (event.to_string(), 1),
            1 => (json!([event, event]).to_string(), 2),
            _ => (format!("{event}\n{event}\n{event}\n"), 3),
        };
        let info = format!(
            "id: x\ndescription: N/A\nrule_metadata:\n  - id: {id}\n    title: x\n\
             regression_tests_info:\n  - name: Positive Detection Test\n    type: evtx\n    \
             provider: x\n    match_count: {count}\n    path: {folder}/{id}.evtx\n",
            id = case.rule
        );
        let folder = root.join(folder);
        std::fs::write(folder.join("info.yml"), info).expect("written");
        std::fs::write(folder.join(format!("{}.json", case.rule)), text).expect("written");
    }
}

#[test]
fn every_case_of_our_own_fires_its_rule_and_is_routed() {
    let Some(corpora) = common::corpora() else { return };
    let cases = own_cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let root = tempfile::tempdir().expect("a folder");
    lay_out(&cases, root.path());
    let mut bench = Bench::new(&corpora.join("sigmahq"));
    let (outcomes, mut wrong) = bench.cases(root.path());
    for (number, case) in cases.iter().enumerate() {
        let outcome = bench.run(&[rendered(case, number % 2 == 1)]);
        if outcome.sources != [case.source.as_str()] {
            wrong.push(format!("{}: of {:?}, not {}", case.rule, outcome.sources, case.source));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(outcomes.len(), cases.len());
}

#[test]
fn a_case_whose_rule_does_not_fire_is_found() {
    let Some(corpora) = common::corpora() else { return };
    let mut case = own_cases().remove(0);
    case.event = 5;
    let root = tempfile::tempdir().expect("a folder");
    lay_out(&[case], root.path());
    let (outcomes, wrong) = Bench::new(&corpora.join("sigmahq")).cases(root.path());
    assert!(outcomes.is_empty() && wrong.len() == 1);
    assert!(wrong[0].contains("fired 0 of 1 on 1 events"), "{}", wrong[0]);
}
