//! Broken rules, one mistake each: what `watchfire check` says about them.
//!
//! Each `tests/golden/diagnostics/*.yml` is checked twice. Its comments `#> W0104 "containz"` name every
//! finding by code and by the text that must be underlined: that is written by hand. The `.txt` beside it
//! is the output for people, which `WATCHFIRE_BLESS=1` writes anew.
#![cfg(feature = "service")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/diagnostics")
}

fn rules() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("the folder");
    let paths = entries.map(|e| e.expect("an entry").path());
    let mut rules: Vec<PathBuf> =
        paths.filter(|p| p.extension().is_some_and(|e| e == "yml")).collect();
    rules.sort();
    rules
}

/// Runs the binary in the folder of the rules, so that paths are the same on every machine.
fn check(arguments: &[&str], rule: &Path) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["check", "--hints"])
        .args(arguments)
        .arg(rule.file_name().expect("a name"))
        .current_dir(folder())
        .output()
        .expect("the binary runs");
    assert!(output.stderr.is_empty(), "{rule:?}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

/// The text between two places, lines and columns from 1.
fn between(text: &str, range: &Value) -> String {
    let number = |key: &str| range[key].as_u64().expect(key) as usize;
    let offset = |line: usize, column: usize| {
        let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let columns = text[before..].chars().take(column - 1).map(char::len_utf8);
        before + columns.sum::<usize>()
    };
    let start = offset(number("line"), number("column"));
    let end = offset(number("end_line"), number("end_column"));
    text[start..end].to_owned()
}

#[test]
fn every_broken_rule_is_told_by_its_code_at_the_right_token_with_help() {
    let mut wrong = Vec::new();
    for rule in rules() {
        let bytes = std::fs::read(&rule).expect("the rule");
        let text = String::from_utf8_lossy(&bytes);
        let mut expected: Vec<String> =
            text.lines().filter_map(|l| l.strip_prefix("#> ")).map(str::to_owned).collect();
        assert!(!expected.is_empty(), "{rule:?} does not say what it expects");
        let (output, status) = check(&["--format", "json"], &rule);
        let object: Value = serde_json::from_str(&output).expect("JSON");
        let findings = object["findings"].as_array().expect("a list");
        let mut found: Vec<String> = Vec::new();
        for finding in findings {
            let range = &finding["range"];
            let token = if range.is_null() { String::new() } else { between(&text, range) };
            found.push(format!("{} \"{token}\"", finding["code"].as_str().expect("a code")));
            if finding["help"].as_str().is_none_or(str::is_empty) {
                wrong.push(format!("{rule:?}: no help for {}", finding["message"]));
            }
        }
        expected.sort();
        found.sort();
        if expected != found {
            wrong.push(format!("{rule:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
        let severe = |s: &str| findings.iter().any(|f| f["severity"] == s);
        let code = if severe("error") { 2 } else { i32::from(severe("warning")) };
        assert_eq!(status, Some(code), "exit code for {rule:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_people_read_about_broken_rules_is_as_it_was() {
    let bless = std::env::var_os("WATCHFIRE_BLESS").is_some_and(|v| v == "1");
    let rules = rules();
    assert!(rules.len() >= 60, "only {} broken rules", rules.len());
    for rule in rules {
        let (output, _) = check(&["--color", "never"], &rule);
        // The last lines are a summary, with the time it took.
        let output = output.split("\n\n1 file: ").next().expect("a start").trim_end().to_owned();
        let golden = rule.with_extension("txt");
        if bless {
            std::fs::write(&golden, output + "\n").expect("the golden file");
            continue;
        }
        let expected = std::fs::read_to_string(&golden).expect("run once with WATCHFIRE_BLESS=1");
        assert_eq!(output, expected.trim_end(), "{rule:?}");
    }
}

#[test]
fn every_code_that_a_check_can_give_has_a_broken_rule() {
    let texts: Vec<String> = rules()
        .iter()
        .map(|r| String::from_utf8_lossy(&std::fs::read(r).expect("the rule")).into_owned())
        .collect();
    for code in watchfire::rule::Code::ALL.iter().map(|c| c.as_str()) {
        // These two need a configuration.
        let covered = texts.iter().any(|t| t.contains(&format!("#> {code} ")));
        assert_eq!(covered, !matches!(code, "W0302" | "W0304"), "{code}");
    }
}
