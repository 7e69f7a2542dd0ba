//! A real sshd log through two instances: the same alerts as `watchfire eval` finds in the file, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::corpora;
use crate::kit::{Dice, Topic, Writer, kafka, wait_for};
use crate::service::{App, Instance};

/// What an alert says, without where in Kafka its events lie.
pub fn facts(alert: &Value) -> String {
    let ours = &alert["unmapped"]["watchfire"];
    let what = match &ours["group"] {
        Value::Null => &alert["evidences"][0]["data"]["event"]["message"],
        group => group,
    };
    assert!(!what.is_null(), "neither group nor event: {alert}");
    let rule = &alert["finding_info"]["analytic"]["uid"];
    format!("{rule} {what} {} {} {}", alert["start_time"], alert["end_time"], alert["count"])
}

fn sorted_facts(alerts: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = alerts.iter().map(facts).collect();
    all.sort();
    all
}

/// What `watchfire eval` finds in a file.
pub fn evaluated(file: &Path) -> Vec<String> {
    sorted_facts(&eval(file, &[]))
}

fn eval(file: &Path, more: &[&str]) -> Vec<Value> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["eval", "--format", "syslog", "--lateness", "5s"])
        .args(more)
        .arg("--rules")
        .args([rules.as_path(), file])
        .output()
        .expect("watchfire eval runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn uids<'a>(alerts: &'a [Value], path: &str) -> BTreeSet<&'a str> {
    alerts.iter().map(|a| a.pointer(path).and_then(Value::as_str).expect("a uid")).collect()
}

/// The topic holds exactly the expected alerts.
pub fn assert_same(expected: &[String], topic: &Topic) {
    let alerts = topic.json();
    let found = sorted_facts(&alerts);
    let missing: Vec<_> = expected.iter().filter(|e| !found.contains(e)).collect();
    let extra: Vec<_> = found.iter().filter(|f| !expected.contains(f)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    assert_eq!(found.len(), expected.len(), "an alert came twice");
    for path in ["/finding_info/uid", "/metadata/uid"] {
        assert_eq!(uids(&alerts, path).len(), alerts.len(), "{path} is not unique");
    }
}

/// Waits for the alerts, sees that no more come, and compares: topic and the API of every instance.
pub fn expect(app: &App, expected: &[String], mut topic: Topic, instances: &[&Instance]) {
    topic.wait_for(expected.len());
    app.settle();
    topic.poll();
    assert_same(expected, &topic);
    let mut published = topic.json();
    let uid = |a: &Value| a["metadata"]["uid"].as_str().unwrap().to_owned();
    published.sort_by_key(uid);
    for instance in instances {
        let mut shown = wait_for("the API shows all alerts", || {
            let shown = instance.alerts(7);
            (shown.len() >= expected.len()).then_some(shown)
        });
        shown.sort_by_key(uid);
        assert_eq!(shown, published);
    }
}

/// The log's lines, or `None` without the corpora.
fn log() -> Option<(std::path::PathBuf, String)> {
    let file = corpora()?.join("auth/sshd_auth.log");
    let text = std::fs::read_to_string(&file).expect("the log");
    assert_eq!(text.lines().count(), 7_121);
    Some((file, text))
}

#[test]
fn a_real_log_keyed_by_host_gives_the_alerts_of_eval_each_once() {
    let (Some(bootstrap), Some((file, text))) = (kafka(), log()) else { return };
    let app = App::syslog(&bootstrap, "sshd-host");
    let mut writer = Writer::new(&bootstrap, &app.topic);
    for line in text.lines() {
        let host = line.split(' ').nth(3).unwrap();
        writer.send_keyed(host, line.as_bytes());
    }
    writer.finish(&bootstrap);
    let (a, b) = (app.start("a"), app.start("b"));
    expect(&app, &evaluated(&file), app.alerts(), &[&a, &b]);
}

#[test]
fn a_real_log_scattered_over_partitions_gives_the_alerts_of_eval_each_once() {
    let (Some(bootstrap), Some((file, text))) = (kafka(), log()) else { return };
    let app = App::syslog(&bootstrap, "sshd-random");
    let mut writer = Writer::new(&bootstrap, &app.topic);
    let mut dice = Dice(1);
    for line in text.lines() {
        writer.send(dice.below(6) as i32, Some(line.as_bytes()));
    }
    writer.finish(&bootstrap);
    let (a, b) = (app.start("a"), app.start("b"));
    expect(&app, &evaluated(&file), app.alerts(), &[&a, &b]);
}

#[test]
fn a_real_log_that_is_written_while_the_service_runs_gives_the_alerts_of_eval_each_once() {
    let (Some(bootstrap), Some((file, text))) = (kafka(), log()) else { return };
    let app = App::syslog(&bootstrap, "sshd-live");
    let (a, b) = (app.start("a"), app.start("b"));
    let mut writer = Writer::new(&bootstrap, &app.topic);
    let mut dice = Dice(2);
    // Weeks pass in seconds here. So that no event is late, the lines of one second (by their first 15 characters) are
    // acknowledged before the next are written, as they would be when written at their own time.
    let mut second = "";
    for line in text.lines() {
        if line[..15] != *second {
            writer.flush();
            second = &line[..15];
        }
        writer.send(dice.below(6) as i32, Some(line.as_bytes()));
    }
    writer.finish(&bootstrap);
    expect(&app, &evaluated(&file), app.alerts(), &[&a, &b]);
}

/// What each alert of a correlation came to: id → its last revision, what that says, and when it ended.
fn last_revisions(alerts: &[Value]) -> BTreeMap<String, (i64, String, i64)> {
    let mut last: BTreeMap<String, (i64, String, i64)> = BTreeMap::new();
    for alert in alerts.iter().filter(|a| !a["unmapped"]["watchfire"]["group"].is_null()) {
        let revision = alert["metadata"]["sequence"].as_i64().unwrap();
        let id = alert["finding_info"]["uid"].as_str().unwrap().to_owned();
        let end = alert["end_time"].as_i64().unwrap_or_default();
        let known = last.entry(id).or_default();
        if revision > known.0 {
            *known = (revision, facts(alert), end);
        }
    }
    last
}

#[test]
fn alerts_of_running_episodes_are_published_again_and_last_with_what_they_came_to() {
    let (Some(bootstrap), Some((file, text))) = (kafka(), log()) else { return };
    let mut app = App::syslog(&bootstrap, "sshd-updates");
    app.update_interval = "30s";
    let mut writer = Writer::new(&bootstrap, &app.topic);
    let mut dice = Dice(3);
    for line in text.lines() {
        writer.send(dice.below(6) as i32, Some(line.as_bytes()));
    }
    writer.finish(&bootstrap);
    let (_a, _b) = (app.start("a"), app.start("b"));
    let mut expected = last_revisions(&eval(&file, &["--revisions"]));
    let mut topic = app.alerts();
    topic.wait_for(expected.len());
    app.settle();
    topic.poll();
    let alerts = topic.json();
    let mut found = last_revisions(&alerts);
    assert!(alerts.len() > found.len() + 20, "{} of {} alerts", alerts.len(), found.len());
    assert_eq!(uids(&alerts, "/metadata/uid").len(), alerts.len(), "a revision came twice");
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    // What goes on at the end of the log has not ended yet.
    let latest = expected.values().map(|(_, _, end)| *end).max().unwrap();
    let ended = |_: &String, last: &mut (i64, String, i64)| latest - last.2 > 86_400_000;
    let before = expected.len();
    expected.retain(ended);
    found.retain(|id, _| expected.contains_key(id));
    assert!(expected.len() * 2 > before, "{} of {before} have ended", expected.len());
    assert_eq!(found, expected);
}
