//! All of SigmaHQ's core rules through pipelines, over real Windows events whose fields are renamed as
//! the pipelines say: they hit exactly the events that the plain rules hit under their plain names.

mod common;
#[path = "common/sigmahq.rs"]
mod sigmahq;

use std::sync::Arc;

use serde_json::{Map, Value};
use watchfire::detect::Engine;
use watchfire::event::Event;
use watchfire::rule::{Code, Options, ProcessingPipeline, RuleSet, Severity, View};

/// Names of the Elastic Common Schema and of Winlogbeat for what Windows calls otherwise.
const ECS: &[(&str, &str)] = &[
    ("EventID", "event.code"),
    ("Channel", "winlog.channel"),
    ("Provider_Name", "winlog.provider_name"),
    ("Computer", "host.name"),
    ("Image", "process.executable"),
    ("CommandLine", "process.command_line"),
    ("CurrentDirectory", "process.working_directory"),
    ("ProcessId", "process.pid"),
    ("ParentImage", "process.parent.executable"),
    ("ParentCommandLine", "process.parent.command_line"),
    ("ParentProcessId", "process.parent.pid"),
    ("OriginalFileName", "process.pe.original_file_name"),
    ("Product", "process.pe.product"),
    ("Company", "process.pe.company"),
    ("Description", "process.pe.description"),
    ("IntegrityLevel", "winlog.event_data.IntegrityLevel"),
    ("Hashes", "winlog.event_data.Hashes"),
    ("User", "user.name"),
    ("SubjectUserName", "winlog.event_data.SubjectUserName"),
    ("SubjectUserSid", "winlog.event_data.SubjectUserSid"),
    ("TargetUserName", "winlog.event_data.TargetUserName"),
    ("TargetUserSid", "winlog.event_data.TargetUserSid"),
    ("LogonType", "winlog.event_data.LogonType"),
    ("LogonProcessName", "winlog.event_data.LogonProcessName"),
    ("AuthenticationPackageName", "winlog.event_data.AuthenticationPackageName"),
    ("IpAddress", "source.address"),
    ("WorkstationName", "source.domain"),
    ("SourceIp", "source.ip"),
    ("SourcePort", "source.port"),
    ("DestinationIp", "destination.ip"),
    ("DestinationPort", "destination.port"),
    ("DestinationHostname", "destination.domain"),
    ("Initiated", "network.initiated"),
    ("QueryName", "dns.question.name"),
    ("TargetFilename", "file.path"),
    ("TargetObject", "registry.path"),
    ("Details", "registry.data.strings"),
    ("ImageLoaded", "dll.path"),
    ("Signed", "dll.signed"),
    ("SourceImage", "winlog.event_data.SourceImage"),
    ("TargetImage", "winlog.event_data.TargetImage"),
    ("GrantedAccess", "winlog.event_data.GrantedAccess"),
    ("CallTrace", "winlog.event_data.CallTrace"),
    ("ScriptBlockText", "powershell.file.script_block_text"),
    ("Payload", "powershell.command.invocation"),
    ("ServiceName", "service.name"),
    ("ImagePath", "service.path"),
    ("ObjectName", "winlog.event_data.ObjectName"),
    ("PipeName", "file.name"),
];

/// Fields of process creation.
const CREATION: &[&str] = &[
    "CommandLine",
    "Company",
    "CurrentDirectory",
    "Description",
    "FileVersion",
    "GrandParentImage",
    "Hashes",
    "Image",
    "IntegrityLevel",
    "LogonId",
    "OriginalFileName",
    "ParentCommandLine",
    "ParentImage",
    "ParentUser",
    "ProcessId",
    "Product",
    "User",
];

fn view(name: &str, names: impl Iterator<Item = (String, String)>, condition: &str) -> View {
    let mapping: String = names.map(|(old, new)| format!("      {old}: {new}\n")).collect();
    let text = format!(
        "name: {name}\ntransformations:\n  - type: field_name_mapping\n    mapping:\n{mapping}    \
         rule_conditions: [{condition}]\n"
    );
    let parsed = ProcessingPipeline::parse(&name.into(), &text).expect("a pipeline");
    View::new(name, vec![Arc::new(parsed.0)])
}

/// The event with its fields under their new, nested names.
fn renamed(event: &Map<String, Value>, name: impl Fn(&str) -> Option<String>) -> Value {
    let mut out = Value::Object(Map::new());
    for (field, value) in event {
        match name(field) {
            Some(path) => {
                let pointer = path.split('.').fold(&mut out, |at, segment| &mut at[segment]);
                *pointer = value.clone();
            }
            None => out[field.as_str()] = value.clone(),
        }
    }
    out
}

fn hits(engine: &mut Engine, text: &str) -> Vec<usize> {
    // No source: every rule sees every event.
    let body = serde_json::from_str(text).expect("an event");
    let mut hits = Vec::new();
    engine.detect(&Event { body, ..Event::default() }, |rule| hits.push(rule));
    hits
}

fn titles<'r>(rules: &'r RuleSet, hits: &[usize]) -> Vec<&'r str> {
    hits.iter().map(|rule| rules.detections[*rule].header.title.as_str()).collect()
}

#[test]
fn core_rules_through_a_mapping_hit_the_renamed_events_that_the_plain_rules_hit() {
    let Some(dir) = common::corpora() else { return };
    let files = sigmahq::core_rules(&dir);
    let ecs =
        |field: &str| ECS.iter().find(|(old, _)| *old == field).map(|(_, new)| (*new).to_owned());
    let data = |field: &str| CREATION.contains(&field).then(|| format!("Event.EventData.{field}"));
    let ecs_names = ECS.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned()));
    let data_names = CREATION.iter().map(|f| ((*f).to_owned(), data(f).unwrap_or_default()));
    let creation = "{type: logsource, category: process_creation, product: windows}";
    let views = vec![
        view("ecs", ecs_names, "{type: logsource, product: windows}"),
        view("data", data_names, creation),
    ];
    let options = Options { views, ..Options::default() };
    let texts = files.iter().map(|(name, text)| (name, text.as_str()));
    let (rules, found) = RuleSet::compile_with(texts, &options);
    let errors = found.iter().filter(|d| d.severity == Severity::Error);
    assert!(errors.clone().all(|d| d.code == Code::Placeholder), "{found:#?}");
    assert!(rules.detections.iter().all(|r| r.views.iter().all(Option::is_some)));
    let rules = Arc::new(rules);
    let [mut plain, mut as_ecs, mut as_data] =
        [0, 1, 2].map(|v| Engine::for_view(Arc::clone(&rules), v));
    let is_windows =
        |rule: &usize| rules.detections[*rule].logsource.product.as_deref() == Some("windows");
    let is_creation = |rule: &usize| {
        let logsource = &rules.detections[*rule].logsource;
        is_windows(rule) && logsource.category.as_deref() == Some("process_creation")
    };

    let text = sigmahq::windows_events(&dir);
    let stride = text.lines().count() / 2_050;
    let (mut looked_at, mut total, mut of_creation) = (0, 0, 0);
    for line in text.lines().step_by(stride.max(1)) {
        let event: Map<String, Value> = serde_json::from_str(line).expect("an event");
        let expect = hits(&mut plain, line);
        // Rules for other products have such names from the start, and mean others by them.
        let windows: Vec<usize> = expect.iter().copied().filter(is_windows).collect();
        let mut found = hits(&mut as_ecs, &renamed(&event, ecs).to_string());
        found.retain(is_windows);
        assert_eq!(titles(&rules, &found), titles(&rules, &windows), "{line}");
        // What is for process creation has its fields elsewhere; the other rules do not.
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            expect.iter().copied().partition(is_creation);
        let mut found = hits(&mut as_data, &renamed(&event, data).to_string());
        found.retain(is_creation);
        assert_eq!(titles(&rules, &found), titles(&rules, &inside), "{line}");
        let mut found = hits(&mut as_data, line);
        found.retain(|rule| !is_creation(rule));
        assert_eq!(titles(&rules, &found), titles(&rules, &outside), "{line}");
        looked_at += 1;
        total += expect.len();
        of_creation += inside.len();
    }
    eprintln!("{} rules, {looked_at} events, {total} hits, {of_creation} of creation", rules.len());
    assert!(looked_at >= 2_000 && total > 1_000 && of_creation > 50);
}
