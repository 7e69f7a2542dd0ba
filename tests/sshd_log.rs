//! A real sshd log through the shipped rules, against an oracle that shares no code with the engine.
//!
//! The oracle reads the lines with `str::find`, keeps every event, and looks at every window by brute
//! force.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const BRUTE_FORCE: &str = "5f2d5a60-0f0e-4b7e-9d53-6a1b7c1f0a11";
const SPRAY: &str = "5f2d5a60-0f0e-4b7e-9d53-6a1b7c1f0a12";
const MANY_FAILURES: &str = "5f2d5a60-0f0e-4b7e-9d53-6a1b7c1f0a14";
const SUCCESS_AFTER: &str = "5f2d5a60-0f0e-4b7e-9d53-6a1b7c1f0a13";
const ROOT_ATTEMPTS: &str = "5f2d5a60-0f0e-4b7e-9d53-6a1b7c1f0a22";

/// What the oracle knows of a login attempt. Seconds count from 1 January of the log's year.
#[derive(Clone, Debug)]
struct Attempt {
    line: usize,
    second: i64,
    success: bool,
    method: String,
    user: String,
    source: String,
}

fn second_of(line: &str) -> i64 {
    let months = ["Jan", "Feb", "Mar", "Apr", "May"];
    let days = [0, 31, 59, 90, 120];
    let month = months.iter().position(|m| line.starts_with(m)).expect("a spring log");
    let day: i64 = line[4..6].trim().parse().expect("day");
    let clock: Vec<i64> = line[7..15].split(':').map(|p| p.parse().expect("clock")).collect();
    ((days[month] + day) * 24 + clock[0]) * 3600 + clock[1] * 60 + clock[2]
}

fn attempt(number: usize, line: &str) -> Option<Attempt> {
    let message = &line[line.find(" sshd[")?..];
    let message = &message[message.find("]: ")? + 3..];
    let (success, at) = match (message.find("Failed "), message.find("Accepted ")) {
        (Some(at), _) => (false, at + 7),
        (None, Some(at)) => (true, at + 9),
        (None, None) => return None,
    };
    let (method, rest) = message[at..].split_once(" for ")?;
    let rest = rest.strip_prefix("invalid user ").unwrap_or(rest);
    let from = rest.rfind(" from ")?;
    Some(Attempt {
        line: number,
        second: second_of(line),
        success,
        method: method.to_owned(),
        user: rest[..from].to_owned(),
        source: rest[from + 6..].split(' ').next()?.to_owned(),
    })
}

/// `(rule, source, line that fired, value)`
type Expected = BTreeSet<(String, String, usize, u64)>;

/// The first index of each stretch without a gap over `span` at which `holds` is true.
fn episodes(events: &[Attempt], span: i64, holds: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut fired = Vec::new();
    let mut running = false;
    for i in 0..events.len() {
        if i > 0 && events[i].second - events[i - 1].second > span {
            running = false;
        }
        if !running && holds(i) {
            running = true;
            fired.push(i);
        }
    }
    fired
}

fn within(events: &[Attempt], i: usize, span: i64) -> impl Iterator<Item = &Attempt> {
    events[..=i].iter().filter(move |e| events[i].second - e.second <= span)
}

fn oracle(log: &str) -> Expected {
    let mut by_source: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for attempt in log.lines().enumerate().filter_map(|(n, l)| attempt(n, l)) {
        by_source.entry(attempt.source.clone()).or_default().push(attempt);
    }
    let mut expected = Expected::new();
    for (source, all) in &by_source {
        let mut expect = |rule: &str, line: usize, value: u64| {
            expected.insert((rule.to_owned(), source.clone(), line, value));
        };
        let failed: Vec<Attempt> = all.iter().filter(|a| !a.success).cloned().collect();
        let many = |events: &[Attempt], i| within(events, i, 300).count() >= 10;
        for i in episodes(&failed, 300, |i| many(&failed, i)) {
            expect(BRUTE_FORCE, failed[i].line, 10);
            expect(MANY_FAILURES, failed[i].line, 10);
        }
        let users = |i| within(&failed, i, 600).map(|a| &a.user).collect::<BTreeSet<_>>().len();
        for i in episodes(&failed, 600, |i| users(i) >= 8) {
            expect(SPRAY, failed[i].line, 8);
        }
        let root = |a: &&Attempt| {
            let method = a.method.starts_with("password") || a.method.starts_with("keyboard");
            a.user == "root" && method
        };
        let root: Vec<Attempt> = all.iter().filter(root).cloned().collect();
        for i in episodes(&root, 3600, |_| true) {
            expect(ROOT_ATTEMPTS, root[i].line, 1);
        }
        // Only these two kinds of event concern the last rule: failures at which there are many, and
        // successes.
        let hot = |a: &Attempt| {
            failed.iter().position(|f| f.line == a.line).is_some_and(|i| many(&failed, i))
        };
        let steps: Vec<Attempt> = all.iter().filter(|a| a.success || hot(a)).cloned().collect();
        let after = |i: usize| steps[i].success && within(&steps, i, 600).any(|a| !a.success);
        for i in episodes(&steps, 600, after) {
            expect(SUCCESS_AFTER, steps[i].line, 2);
        }
    }
    expected
}

/// What `watchfire eval` prints, in the oracle's terms; findings of the rules that it knows.
fn engine(log: &Path, extra: &[&str]) -> Expected {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["eval", "--format", "syslog", "--output", "matches", "--year", "2017", "--rules"])
        .arg(&rules)
        .args(extra)
        .arg(log)
        .output()
        .expect("watchfire eval runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
    let known = [BRUTE_FORCE, SPRAY, MANY_FAILURES, SUCCESS_AFTER, ROOT_ATTEMPTS];
    lines
        .filter(|m| m["kind"] == "finding" && known.iter().any(|k| m["rule"] == *k))
        .map(|m| {
            let text = |v: &serde_json::Value| v.as_str().expect("a string").to_owned();
            let number = |v: &serde_json::Value| v.as_u64().expect("a number");
            let source = text(&m["group"]["src_ip"]);
            (text(&m["rule"]), source, number(&m["line"]) as usize, number(&m["value"]))
        })
        .collect()
}

#[test]
fn the_shipped_rules_find_in_a_real_log_what_the_oracle_finds() {
    let Some(dir) = common::corpora() else { return };
    let log = dir.join("auth/sshd_auth.log");
    let expected = oracle(&std::fs::read_to_string(&log).expect("the log"));
    for rule in [BRUTE_FORCE, SUCCESS_AFTER, ROOT_ATTEMPTS] {
        assert!(expected.iter().any(|e| e.0 == rule), "the oracle finds nothing for {rule}");
    }
    for threads in ["1", "4"] {
        assert_eq!(engine(&log, &["--threads", threads]), expected, "threads: {threads}");
    }
    eprintln!("{} findings agree", expected.len());
}

#[test]
fn the_order_of_arrival_within_lateness_changes_nothing() {
    let Some(dir) = common::corpora() else { return };
    let log = std::fs::read_to_string(dir.join("auth/sshd_auth.log")).expect("the log");
    let lines: Vec<&str> = log.lines().collect();
    // Swaps neighbours whose times differ by at most the lateness, by a fixed sequence.
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut state = 42u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let i = (state >> 33) as usize % (lines.len() - 1);
        let (a, b) = (second_of(lines[order[i]]), second_of(lines[order[i + 1]]));
        if a != b && (a - b).abs() <= 5 {
            order.swap(i, i + 1);
        }
    }
    let moved = order.iter().enumerate().filter(|(i, o)| i != *o).count();
    assert!(moved > 500, "only {moved} lines moved");
    let shuffled: String = order.iter().map(|&i| format!("{}\n", lines[i])).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &shuffled).expect("written");
    // Line numbers are those of the shuffled file: compare by the lines themselves.
    let by_text = |set: Expected, lines: &[&str]| -> BTreeSet<(String, String, i64, u64)> {
        set.into_iter().map(|(r, s, l, v)| (r, s, second_of(lines[l]), v)).collect()
    };
    let arrived: Vec<&str> = shuffled.lines().collect();
    let found = by_text(engine(file.path(), &["--lateness", "1m"]), &arrived);
    assert_eq!(found, by_text(oracle(&log), &lines));
}
