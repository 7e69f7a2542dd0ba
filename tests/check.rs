//! `watchfire check` as it is called: exit codes, formats, mending.
#![cfg(feature = "service")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const RULE: &str = "title: Shadow\nid: 0e5c1f0a-6d0f-4a6b-9a58-2f7b3c1d4e5f\nlevel: low\n\
    logsource: {product: linux}\ndetection:\n  selection:\n    name|contains: 'shadow*'\n  \
    condition: selection\n";

fn check(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[test]
fn the_exit_code_tells_findings_from_errors_from_wrong_usage() {
    let warned = RULE.replace("product: linux", "product: linus");
    let broken = RULE.replace("contains", "containz");
    let files = [("fine.yml", RULE), ("warned.yml", &warned), ("broken.yml", &broken)];
    let folder = folder(&[&files[..], &[("empty.yml", ""), ("lists.txt", "- x\n")]].concat());
    for (arguments, code) in [
        (&["fine.yml"][..], 0),
        (&["--hints", "fine.yml"], 0),
        (&["warned.yml"], 1),
        (&["broken.yml"], 2),
        (&["."], 2),
        (&["no-such-file"], 3),
        (&["empty.yml"], 3),
        (&[], 3),
        (&["--format", "xml", "fine.yml"], 3),
        (&["--placeholders", "lists.txt", "fine.yml"], 3),
        (&["--explain"], 0),
        (&["--explain", "w0102"], 0),
        (&["--explain", "W01O2"], 3),
    ] {
        let output = check(folder.path(), arguments);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert_eq!(output.stderr.is_empty(), code != 3, "{arguments:?}: {told}");
    }
}

#[test]
fn placeholders_come_from_a_file() {
    let rule = RULE.replace("name|contains: 'shadow*'", "name|expand: '%files%'");
    let folder = folder(&[("a.yml", &rule), ("lists.yaml", "files: [/etc/shadow, /etc/pass*]\n")]);
    let code = |arguments: &[&str]| check(folder.path(), arguments).status.code();
    assert_eq!(code(&["a.yml"]), Some(2));
    assert_eq!(code(&["--placeholders", "lists.yaml", "a.yml"]), Some(0));
}

#[test]
fn mending_changes_the_files_given_and_diff_changes_nothing() {
    let folder = folder(&[("a.yml", RULE), ("b.yml", &RULE.replace("4e5f", "4e60"))]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");

    let output = check(folder.path(), &["--hints", "--diff", "a.yml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout)
            .contains("-    name|contains: 'shadow*'\n+    name|contains: 'shadow'")
    );
    assert_eq!(read("a.yml"), RULE);

    // A hint is mended only when hints are asked for.
    assert_eq!(check(folder.path(), &["--fix", "a.yml"]).status.code(), Some(0));
    assert_eq!(read("a.yml"), RULE);

    let output = check(folder.path(), &["--hints", "--fix", "a.yml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(read("a.yml"), RULE.replace("shadow*", "shadow"));
    assert_eq!(read("b.yml"), RULE.replace("4e5f", "4e60"));
    assert!(text(&output.stdout).contains("0 hints"));
}

#[test]
fn every_format_tells_the_same_finding() {
    let folder = folder(&[("a.yml", &RULE.replace("contains", "containz"))]);
    let written = |format: &str| text(&check(folder.path(), &["--format", format, "a.yml"]).stdout);

    let json: Value = serde_json::from_str(&written("json")).expect("JSON");
    assert_eq!(json["summary"]["errors"], 1);
    assert_eq!(json["findings"][0]["range"]["column"], 10);

    let sarif: Value = serde_json::from_str(&written("sarif")).expect("JSON");
    let run = &sarif["runs"][0];
    let result = &run["results"][0];
    let index = result["ruleIndex"].as_u64().expect("an index") as usize;
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a.yml");
    assert_eq!(
        (&place["region"]["startLine"], &place["region"]["endColumn"]),
        (&7.into(), &18.into())
    );

    let junit = written("junit");
    assert!(junit.contains("<failure type=\"W0104\" message=\"unknown modifier `containz`\">"));
    let command = "::error file=a.yml,line=7,endLine=7,col=10,endColumn=18,title=W0104::unknown \
                   modifier `containz`%0Ahelp: did you mean `contains`?\n";
    assert_eq!(written("github"), command);
}

#[test]
fn a_comment_allows_a_warning_but_no_error() {
    let warned = RULE.replace("{product: linux}", "{product: linus} # watchfire: allow W0406");
    let broken = RULE.replace("contains: 'shadow*'", "containz: x # watchfire: allow W0104");
    let folder = folder(&[("warned.yml", &warned), ("broken.yml", &broken)]);
    assert_eq!(check(folder.path(), &["warned.yml"]).status.code(), Some(0));
    assert_eq!(check(folder.path(), &["broken.yml"]).status.code(), Some(2));
}

#[test]
fn the_cost_names_rules_that_run_a_regex_on_every_event() {
    let costly = RULE.replace("name|contains: 'shadow*'", "name|re: '[0-9]+'");
    let folder = folder(&[("a.yml", RULE), ("b.yml", &costly.replace("4e5f", "4e60"))]);
    let written = text(&check(folder.path(), &["--cost", "."]).stdout);
    let (_, every) = written.split_once("on every event of their logsource\n").expect("the list");
    assert!(every.contains("b.yml") && !every.contains("a.yml"), "{written}");
    assert!(written.contains("      24       2  linux/*/*"), "{written}");
}
