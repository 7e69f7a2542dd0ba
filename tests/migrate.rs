//! Sigma 1 rules of the corpora become Sigma 2, and mean what they meant.
//!
//! What was converted must load, what was not must have a reason, and what is Sigma 2 already must
//! stay as it is. The meaning is tried by events: old text in, alerts of the engine out.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfire::correlate::{Finding, Fold, FoldOptions};
use watchfire::decode::{Decoder, Format};
use watchfire::ids::Coordinate;
use watchfire::pipeline::{Filter, FilterOutput, Record};
use watchfire::rule::{Migrated, Reason, RuleSet, Severity, migrate};
use watchfire::time::Timestamp;

fn rule_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rule_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yml") {
            found.push(path);
        }
    }
    found.sort();
}

/// Files by what became of them.
#[derive(Default)]
struct Tally {
    nothing: usize,
    runs: usize,
    not_run: Vec<String>,
    refused: BTreeMap<Reason, Vec<String>>,
}

impl Tally {
    fn legacy(&self) -> usize {
        self.converted() + self.refused.values().map(Vec::len).sum::<usize>()
    }

    fn converted(&self) -> usize {
        self.runs + self.not_run.len()
    }
}

fn migrate_all(sigmahq: &Path, folders: &[&str], window: Option<&str>) -> Tally {
    let mut tally = Tally::default();
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| rule_files(&sigmahq.join(folder), &mut paths));
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let name = path.strip_prefix(sigmahq).expect("below").to_string_lossy().into_owned();
        let file: Arc<str> = name.as_str().into();
        match migrate(&file, &text, window) {
            Migrated::Nothing => tally.nothing += 1,
            Migrated::Refused(refusals) => {
                let first = &refusals[0];
                assert!(Reason::ALL.contains(&first.reason));
                let told = format!("{}: {}", first.reason, first.diagnostic);
                tally.refused.entry(first.reason).or_default().push(told);
            }
            Migrated::Converted(new) => {
                let again = migrate(&file, &new.text, window);
                assert!(matches!(again, Migrated::Nothing), "{name} twice: {again:?}");
                match new.engine.iter().find(|d| d.severity == Severity::Error) {
                    None => tally.runs += 1,
                    Some(d) => tally.not_run.push(format!("{}: {d}", new.changes.join("; "))),
                }
            }
        }
    }
    tally
}

fn print(tally: &Tally) {
    eprintln!(
        "{} legacy, {} converted, {} of them not run by this version, {} with nothing to do",
        tally.legacy(),
        tally.converted(),
        tally.not_run.len(),
        tally.nothing
    );
    tally.not_run.iter().for_each(|line| eprintln!("not run: {line}"));
    tally.refused.values().flatten().for_each(|line| eprintln!("refused: {line}"));
}

#[test]
fn the_legacy_rules_of_sigmahq_are_converted_or_refused_for_a_known_reason() {
    let Some(dir) = common::corpora() else { return };
    let folders = ["unsupported", "deprecated"];
    let strict = migrate_all(&dir.join("sigmahq"), &folders, None);
    print(&strict);
    let counts = |t: &Tally| t.refused.iter().map(|(r, f)| (*r, f.len())).collect::<Vec<_>>();
    assert_eq!((strict.legacy(), strict.nothing), (63, 196));
    assert_eq!((strict.runs, strict.not_run.len()), (44, 0));
    assert_eq!(
        counts(&strict),
        [
            (Reason::Condition, 4),
            (Reason::NegatedNear, 1),
            (Reason::NoWindow, 11),
            (Reason::TimeframeAlone, 3),
        ]
    );
    // With a window for those that have none.
    let given = migrate_all(&dir.join("sigmahq"), &folders, Some("1h"));
    assert_eq!((given.legacy(), given.runs, given.not_run.len()), (63, 55, 0));
    assert!(!given.refused.contains_key(&Reason::NoWindow));
}

#[test]
fn a_rule_of_sigma_2_is_left_alone() {
    let Some(dir) = common::corpora() else { return };
    let folders = ["rules", "rules-emerging-threats", "rules-threat-hunting", "rules-compliance"];
    let tally = migrate_all(&dir.join("sigmahq"), &folders, None);
    print(&tally);
    assert_eq!(tally.legacy(), 0);
    assert!(tally.nothing > 3_000, "{}", tally.nothing);
}

/// Converts a rule, which must load.
fn converted(old: &str) -> String {
    match migrate(&"dir/base.yml".into(), old, None) {
        Migrated::Converted(new) => {
            let errors = new.engine.iter().filter(|d| d.severity == Severity::Error);
            assert_eq!(errors.collect::<Vec<_>>(), Vec::<&_>::new(), "{}", new.text);
            new.text
        }
        other => panic!("{other:?}"),
    }
}

/// Alerts of a rule set over `(second, event)`: the group's values and the count, in order of time.
fn alerts(rules: &str, events: &[(i64, &str)]) -> Vec<(Vec<String>, f64)> {
    let file: Arc<str> = "new.yml".into();
    let (rules, diagnostics) = RuleSet::compile([(&file, rules)]);
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    assert_eq!(errors.collect::<Vec<_>>(), Vec::<&_>::new());
    assert!(rules.detections.iter().all(|d| !d.alerts), "only correlations alert");
    let rules = Arc::new(rules);
    let decoder = Arc::new(Decoder::new(Format::Json, Vec::new()));
    let mut filter = Filter::new(Arc::clone(&rules), decoder);
    let mut fold = Fold::new(rules, FoldOptions::default());
    let mut findings: Vec<Finding> = Vec::new();
    for (offset, (second, event)) in (0..).zip(events) {
        let at = &Coordinate { topic: "t".into(), partition: 0, offset };
        let time = Timestamp(second * 1_000_000);
        let payload = Some(event.as_bytes());
        let headers = &[];
        let record =
            Record { at, payload, headers, timestamp: Some(time), reference: time, now: None };
        let mut output = FilterOutput::default();
        filter.record(&record, &mut output);
        assert_eq!((output.alerts.len(), output.rejects.len()), (0, 0));
        for event in output.matches {
            fold.offer_packed(event, at, &mut findings);
        }
        fold.advance(time, &mut findings);
    }
    fold.finish(&mut findings);
    let group = |f: &Finding| f.group.0.iter().flatten().map(ToString::to_string).collect();
    findings.iter().map(|f| (group(f), f.episode.value.to_float())).collect()
}

const HEAD: &str =
    "title: T\nid: 5c0d1b0e-4c56-4d7d-8f4e-9a3f5b0f6a11\nlogsource:\n    product: x\n";

fn rule(selections: &str, tail: &str) -> String {
    format!("{HEAD}detection:\n{selections}{tail}level: high\n")
}

const SELECTION: &str = "    selection:\n        what: fail\n    filter:\n        user: root\n";

fn one(group: &[&str], value: f64) -> (Vec<String>, f64) {
    (group.iter().map(ToString::to_string).collect(), value)
}

#[test]
fn count_counts_matching_events_of_a_group_within_the_timeframe() {
    let tail =
        "    timeframe: 10s\n    condition: selection and not filter | count() by host > 2\n";
    let new = converted(&rule(SELECTION, tail));
    let fail =
        |host: &str, user: &str| format!(r#"{{"what":"fail","host":"{host}","user":"{user}"}}"#);
    let (a, b, root) = (fail("a", "u"), fail("b", "u"), fail("a", "root"));
    // Three in the closed window of ten seconds, the third exactly at its end.
    assert_eq!(alerts(&new, &[(0, &a), (1, &b), (5, &a), (10, &a)]), [one(&["a"], 3.0)]);
    // One second too late; another group; a filtered event.
    for last in [(11, &a), (10, &b), (10, &root)] {
        assert_eq!(alerts(&new, &[(0, &a), (5, &a), (last.0, last.1)]), []);
    }
}

#[test]
fn count_without_by_has_one_group_for_all() {
    let tail = "    timeframe: 1m\n    condition: selection | count() >= 2\n";
    let new = converted(&rule(SELECTION, tail));
    let events = [(0, r#"{"what":"fail","host":"a"}"#), (60, r#"{"what":"fail","host":"b"}"#)];
    assert_eq!(alerts(&new, &events), [one(&[], 2.0)]);
    assert_eq!(alerts(&new, &events[..1]), []);
}

#[test]
fn count_of_a_field_counts_distinct_values() {
    let tail = "    timeframe: 10s\n    condition: selection | count(user) by host, port = 2\n";
    let new = converted(&rule(SELECTION, tail));
    let fail = |user: &str| format!(r#"{{"what":"fail","host":"a","port":22,"user":"{user}"}}"#);
    let (x, y, z) = (fail("x"), fail("y"), fail("z"));
    assert_eq!(alerts(&new, &[(0, &x), (1, &x), (2, &y)]), [one(&["a", "22"], 2.0)]);
    assert_eq!(alerts(&new, &[(0, &x), (1, &x), (2, &x)]), [], "one value");
    assert_eq!(alerts(&new, &[(0, &x), (1, &y), (2, &z)]), [], "three are not two");
}

#[test]
fn rare_means_rare_when_the_window_is_over() {
    let tail = "    timeframe: 7d\n    condition: selection | count() by task < 2\n";
    let new = converted(&rule(SELECTION, tail));
    let ran = |task: &str| format!(r#"{{"what":"fail","task":"{task}"}}"#);
    let (usual, rare) = (ran("usual"), ran("rare"));
    let day = 86_400;
    let events = [(0, &*usual), (day, &*rare), (7 * day, &*usual)];
    assert_eq!(alerts(&new, &events), [one(&["rare"], 1.0)]);
}

#[test]
fn near_asks_for_all_within_the_timeframe_in_any_order() {
    let selections = "    a:\n        k: 1\n    b:\n        k: 2\n    c:\n        k: 3\n";
    let tail = "    timeframe: 10s\n    condition: a | near b and c # all three\n";
    let new = converted(&rule(selections, tail));
    let (a, b, c) = (r#"{"k":1}"#, r#"{"k":2}"#, r#"{"k":3}"#);
    assert_eq!(alerts(&new, &[(0, c), (4, a), (10, b)]).len(), 1);
    assert_eq!(alerts(&new, &[(0, a), (4, b), (11, c)]), [], "too far apart");
    assert_eq!(alerts(&new, &[(0, a), (1, b), (2, b)]), [], "one is missing");
}

#[test]
fn all_that_the_aggregation_does_not_concern_stays_byte_for_byte() {
    let old = "\
# Copyright\r
title:   'Too many: \"quoted\"'   # why\r
id: 5c0d1b0e-4c56-4d7d-8f4e-9a3f5b0f6a11\r
status: unsupported\r
description: |\r
    Two\r
\r
    # lines\r
# about the log\r
logsource: {product: x}\r
detection:\r
    # first\r
    selection:\r
        k|contains: \"a\\tb\" # kept\r
\r
    timeframe: 010m # ten\r
    condition: 'selection | count(@id) by a.b > 05' # five\r
    # last\r
level: high # up";
    let new = converted(old);
    let edits = [
        ("11\r\nstatus: unsupported", "11\r\nname: base\r\nstatus: experimental"),
        ("    timeframe: 010m # ten\r\n", ""),
        ("'selection | count(@id) by a.b > 05'", "'selection'"),
        ("level: high", "level: informational"),
    ];
    let expect = edits.iter().fold(format!("{old}\r\n"), |t, (a, b)| t.replacen(a, b, 1));
    let (rule, correlation) = new.split_once("---\r\n").expect("two documents");
    assert_eq!(rule, expect);
    let expect = "\
title: 'Too many: \"quoted\" (correlation)'\r
id: 708b35ac-7300-8fd6-ae1a-23153694bdc7\r
related:\r
    - id: 5c0d1b0e-4c56-4d7d-8f4e-9a3f5b0f6a11\r
      type: derived\r
status: experimental\r
description: |\r
    Two\r
\r
    # lines\r
correlation:\r
    type: value_count\r
    rules:\r
        - base\r
    group-by:\r
        - a.b\r
    timespan: 010m # ten\r
    condition:\r
        field: '@id'\r
        gt: 5\r
level: high # up\r\n";
    assert_eq!(correlation, expect);
}

#[test]
fn a_global_document_is_written_out_and_each_selection_keeps_its_own_logsource() {
    let old = "\
action: global
title: G
logsource:
    product: x
    service: s
detection:
    first:
        k: 1
    timeframe: 5m
    condition: first | near second
level: low
---
 id: aaaaaaaa-0000-4000-8000-000000000001
 logsource:
   product: x
   category: c
 detection:
   second:
     k: 2
";
    let new = converted(old);
    let file: Arc<str> = "new.yml".into();
    let (rules, _) = RuleSet::compile([(&file, new.as_str())]);
    let sources: Vec<(Option<&str>, Option<&str>)> = rules
        .detections
        .iter()
        .map(|d| (d.logsource.service.as_deref(), d.logsource.category.as_deref()))
        .collect();
    assert_eq!(sources, [(Some("s"), None), (None, Some("c"))], "{new}");
    assert_eq!(alerts(&new, &[(0, r#"{"k":2}"#), (300, r#"{"k":1}"#)]).len(), 1);
}

#[test]
fn a_refusal_names_the_place_in_the_file() {
    let head = "title: A\n---\naction: global\nlogsource: {product: x}\n---\n";
    for (text, reason, line, column) in [
        ("title: [\n", Reason::Unreadable, 1, 9),
        ("detection:\n  s: {a: b}\n  condition: 's | max(x) > 1'\n", Reason::NoType, 3, 19),
        ("detection:\n  s: {a: b}\n  condition: s | count() > 1\n", Reason::NoWindow, 3, 16),
        (
            "detection:\n  s: {a: b}\n  timeframe: 91d\n  condition: s | count() > 1\n",
            Reason::Timeframe,
            3,
            14,
        ),
        (
            "detection:\n  s: {a: b}\n  timeframe: 5m\n  condition: s\n",
            Reason::TimeframeAlone,
            3,
            14,
        ),
        (
            "detection:\n  s: {a: b}\n  timeframe: 5m\n  condition: s | near t\n",
            Reason::UnknownSelection,
            4,
            14,
        ),
        (
            "detection:\n  s: {a: b}\n  condition: [s, s | count() > 1]\n",
            Reason::SeveralConditions,
            3,
            18,
        ),
        (
            "{detection: {s: {a: b}, timeframe: 5m, condition: s | count() > 1}}\n",
            Reason::Layout,
            1,
            51,
        ),
        ("--- {detection: {timeframe: 5m}}\n", Reason::Layout, 1, 5),
        ("action: repeat\ntitle: x\n", Reason::Action, 1, 9),
    ] {
        let Migrated::Refused(refusals) = migrate(&"f.yml".into(), text, None) else {
            panic!("not refused: {text}");
        };
        let found = &refusals[0].diagnostic;
        let got = (refusals[0].reason, found.place.line, found.place.column);
        assert_eq!(got, (reason, line, column), "{found}");
        // The same in a document that a global one was written into.
        if !matches!(reason, Reason::Unreadable | Reason::Layout) {
            let text = format!("{head}{text}");
            let Migrated::Refused(refusals) = migrate(&"f.yml".into(), &text, None) else {
                panic!("not refused: {text}");
            };
            let found = &refusals[0].diagnostic;
            assert_eq!(found.place.line, line + 5, "{found}");
        }
    }
}

/// A rule with everything that is edited, for the tests that break it.
const WHOLE: &str = "\
action: global
title: 'Ü: a' # t
id: 5c0d1b0e-4c56-4d7d-8f4e-9a3f5b0f6a11
logsource:
    product: x
detection:
    a:
        - k: 1
    timeframe: 5m
    condition: a | near ü
level: low
---
detection:
    ü:
        k: |
            # 2
";

#[test]
fn broken_text_is_refused_or_converted_to_what_is_readable_and_never_panics() {
    converted(WHOLE);
    let chars: Vec<char> = WHOLE.chars().collect();
    let mut tried = 0;
    for at in 0..chars.len() {
        for new in ["", " ", "\n", "'", "\"", "#", "|", ":", "- ", "&a ", "*a", "{", "---\n", "\t"]
        {
            let mut text: String = chars[..at].iter().collect();
            text.push_str(new);
            text.extend(&chars[at + usize::from(new.is_empty())..]);
            if let Migrated::Converted(new) = migrate(&"f.yml".into(), &text, None) {
                let read = watchfire::rule::parse_yaml(&new.text);
                assert!(read.is_ok(), "{text}\n became\n{}", new.text);
            }
            tried += 1;
        }
    }
    assert!(tried > 3_000, "{tried}");
}

#[test]
fn what_would_grow_without_bound_is_refused() {
    let many: String = (0..2_000).map(|n| format!("    s{n}:\n        k: {n}\n")).collect();
    let near: Vec<String> = (1..2_000).map(|n| format!("s{n}")).collect();
    let tail = format!("    timeframe: 5m\n    condition: s0 | near {}\n", near.join(" and "));
    let filler = "x".repeat(10_000);
    let documents = "---\ndetection:\n    a: {k: 1}\n    condition: a\n".repeat(1_000);
    let global = format!("action: global\ntitle: {filler}\nlogsource: {{product: x}}\n{documents}");
    for (text, reason) in [(rule(&many, &tail), Reason::Aggregation), (global, Reason::Action)] {
        let Migrated::Refused(refusals) = migrate(&"f.yml".into(), &text, None) else {
            panic!("not refused");
        };
        assert_eq!(refusals[0].reason, reason, "{}", refusals[0].diagnostic);
    }
}

#[cfg(feature = "service")]
mod command {
    use super::*;
    use std::process::Command;

    /// Exit code, standard output, standard error.
    fn watchfire(args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchfire"));
        let output = command.arg("migrate").args(args).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().expect("a code");
        (code, text(output.stdout), text(output.stderr))
    }

    #[test]
    fn files_are_printed_written_elsewhere_or_rewritten_and_the_exit_code_tells() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = folder.path().join("old/deep");
        std::fs::create_dir_all(&old).expect("a folder");
        let tail = "    timeframe: 10s\n    condition: selection | count() > 2\n";
        let good = rule(SELECTION, tail);
        let modern = rule(SELECTION, "    condition: selection\n");
        std::fs::write(old.join("good.yml"), &good).expect("written");
        std::fs::write(old.join("modern.yml"), &modern).expect("written");
        let root = folder.path().join("old");
        let new = folder.path().join("new");
        let (root, new) = (root.to_str().expect("UTF-8"), new.to_str().expect("UTF-8"));
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("readable");

        let (code, out, err) = watchfire(&[root]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("type: event_count"), "{out}");
        assert!(err.contains("1 of 2 files are not Sigma 2: 1 converted, 0 refused"), "{err}");
        assert_eq!(read(old.join("good.yml")), good, "nothing was touched");

        let (code, printed, err) = watchfire(&["--output", new, root]);
        assert_eq!((code, printed.as_str()), (0, ""), "{err}");
        assert_eq!(read(Path::new(new).join("deep/good.yml")), out);
        assert!(!Path::new(new).join("deep/modern.yml").exists());
        std::fs::write(Path::new(new).join("deep/good.yml"), "mine").expect("written");
        let (code, _, err) = watchfire(&["--output", new, root]);
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("not overwritten"), "{err}");

        let (code, _, err) = watchfire(&["--write", root]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(read(old.join("good.yml")), out);
        assert_eq!(watchfire(&["--write", root]).0, 0, "there is nothing more to do");
        assert_eq!(read(old.join("modern.yml")), modern);
    }

    #[test]
    fn what_cannot_be_converted_is_told_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bad.yml");
        let text = rule(SELECTION, "    condition: selection | count() > 2\n");
        std::fs::write(&path, &text).expect("written");
        let name = path.to_str().expect("UTF-8");
        let (code, out, err) = watchfire(&["--write", name]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("bad.yml:10:26: ") && err.contains("[no-window]"), "{err}");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), text);
        for wrong in [["--window", "soon"], ["--window", "0s"], ["--output", "--write"]] {
            assert_eq!(watchfire(&[wrong[0], wrong[1], name]).0, 3, "{wrong:?}");
        }
        assert_eq!(watchfire(&["--window", "1h", name]).0, 0);
    }

    #[test]
    fn two_rules_never_get_one_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let tail = "    timeframe: 10s\n    condition: selection | count() > 2\n";
        for (sub, id) in [("a", "1111"), ("b", "2222")] {
            std::fs::create_dir(folder.path().join(sub)).expect("a folder");
            let text = rule(SELECTION, tail).replace("5c0d1b0e", id);
            std::fs::write(folder.path().join(sub).join("same.yml"), text).expect("written");
        }
        let (code, _, err) = watchfire(&[folder.path().to_str().expect("UTF-8")]);
        assert_eq!(code, 1);
        assert!(err.contains("[name-taken]"), "{err}");
        assert!(err.contains("1 converted, 1 refused"), "{err}");
    }
}
