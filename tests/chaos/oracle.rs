//! What must have been published, by `watchfire eval` over the records that the sources hold, and what was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use watchfire::ids::AlertId;
use watchfire::time::Timestamp;

use crate::kit::{Published, Topic, bounds};
use crate::service::App;
use crate::traffic::{LATE, LEDGER};

const GAP: &str = "watchfire.data_loss";

/// Where a record lies: partition and offset.
pub type Place = (i32, i64);

/// What the source of events holds.
pub struct Truth {
    /// Events that correlations must see, in the order of their times: place and text.
    events: Vec<(Place, String)>,
    broken: BTreeSet<Place>,
    late: BTreeSet<Place>,
    /// Events that the producer of the test wrote twice, as librdkafka does when it has to begin a new epoch while it
    /// does not know what of the old one has arrived.
    repeated: usize,
}

impl Truth {
    /// Reads the whole topic.
    pub fn read(app: &App) -> Truth {
        let ends: i64 = bounds(&app.bootstrap, &app.topic).values().map(|b| b.1).sum();
        let mut topic = Topic::open(&app.bootstrap, &app.topic);
        topic.wait_for(ends as usize);
        let (mut timed, mut broken, mut late) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        // No two events have the same time.
        let (mut known, mut repeated) = (BTreeSet::new(), 0);
        for record in topic.records {
            let place = (record.partition, record.offset);
            let is_event = serde_json::from_slice::<Value>(&record.payload).is_ok();
            repeated += usize::from(is_event && !known.insert(record.payload.clone()));
            match serde_json::from_slice::<Value>(&record.payload) {
                Err(_) => drop(broken.insert(place)),
                Ok(event) if event["kind"] == "late" => drop(late.insert(place)),
                Ok(event) => {
                    let time = Timestamp::parse(event["@timestamp"].as_str().unwrap()).unwrap();
                    timed.push((time, place, String::from_utf8(record.payload).unwrap()));
                }
            }
        }
        timed.sort();
        let events = timed.into_iter().map(|(_, place, text)| (place, text)).collect();
        Truth { events, broken, late, repeated }
    }

    /// How many were to be written.
    pub fn written(&self) -> usize {
        self.events.len() + self.broken.len() + self.late.len() - self.repeated
    }

    pub fn summary(&self) -> String {
        let (broken, late) = (self.broken.len(), self.late.len());
        let (events, repeated) = (self.events.len(), self.repeated);
        format!("{events} events, {late} late and {broken} broken ones, {repeated} of them twice")
    }

    /// What `watchfire eval` finds: id → what the alert says.
    pub fn alerts(&self, app: &App) -> BTreeMap<String, String> {
        let lines: Vec<&str> = self.events.iter().map(|(_, text)| text.as_str()).collect();
        let text = lines.join("\n") + "\n";
        let file = app.dir.path().join("events.ndjson");
        std::fs::write(&file, text).unwrap();
        let rules: &Path = &app.rules;
        let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .args(["eval", "--format", "json", "--logsource", "product=test", "--rules"])
            .args([rules, &file])
            .output()
            .expect("watchfire eval runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let alerts = String::from_utf8(output.stdout).unwrap();
        let alerts = alerts.lines().map(|l| serde_json::from_str(l).unwrap());
        alerts.map(|alert| (self.id(app, &alert), facts(&alert))).collect()
    }

    /// The id that an alert of `eval` has when its record comes from Kafka. That of a finding says nothing of places.
    fn id(&self, app: &App, alert: &Value) -> String {
        let info = &alert["finding_info"];
        if info["types"][0] != "sigma.detection" {
            return text(&info["uid"]);
        }
        let line = alert["evidences"][0]["data"]["kafka"]["offset"].as_u64().unwrap();
        let (partition, offset) = self.events[line as usize].0;
        let parts = [
            b"detection",
            rule(alert).as_bytes(),
            app.topic.as_bytes(),
            &partition.to_le_bytes(),
            &offset.to_le_bytes(),
        ];
        AlertId::of(&parts).to_string()
    }

    /// What is wrong with the dead letters and with the late matches: each broken record and each late event is there
    /// once, and nothing else.
    pub fn compare_refused(&self, app: &App) -> Vec<String> {
        let mut wrong = Vec::new();
        for (kind, expected) in [("dlq", &self.broken), ("late", &self.late)] {
            let records = all_of(app, kind, "read_committed");
            let places: Vec<Place> = records.iter().map(|r| named_place(app, r)).collect();
            wrong.extend(differences(kind, expected, places));
        }
        wrong
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Where the record of the ledger lies that an alert is of.
fn ledger_place(alert: &Value) -> Place {
    let kafka = &alert["evidences"][0]["data"]["kafka"];
    let number = |name: &str| kafka[name].as_i64().expect("a number");
    (number("partition") as i32, number("offset"))
}

fn rule(alert: &Value) -> &str {
    alert["finding_info"]["analytic"]["uid"].as_str().expect("a rule")
}

/// What an alert says, as far as it can be known beforehand.
fn facts(alert: &Value) -> String {
    let group = &alert["unmapped"]["watchfire"]["group"];
    match group {
        // Of the time of an event that is ahead the clock decides.
        Value::Null => rule(alert).to_owned(),
        group => {
            let times = format!("{} {}", alert["start_time"], alert["end_time"]);
            format!("{} {group} {times} {}", rule(alert), alert["count"])
        }
    }
}

/// All records of one of the app's topics.
fn all_of(app: &App, kind: &str, isolation: &str) -> Vec<Published> {
    let mut topic = Topic::open_under(&app.bootstrap, &format!("{}.{kind}", app.name), isolation);
    topic.read_to_end();
    topic.records
}

fn named_place(app: &App, record: &Published) -> Place {
    assert_eq!(record.headers["watchfire-topic"], app.topic);
    let number = |name: &str| record.headers[name].parse::<i64>().unwrap();
    (number("watchfire-partition") as i32, number("watchfire-offset"))
}

fn differences(kind: &str, expected: &BTreeSet<Place>, found: Vec<Place>) -> Vec<String> {
    let set: BTreeSet<Place> = found.iter().copied().collect();
    let missing: Vec<_> = expected.difference(&set).take(5).collect();
    let strange: Vec<_> = set.difference(expected).take(5).collect();
    let twice = found.len() - set.len();
    if missing.is_empty() && strange.is_empty() && twice == 0 {
        return Vec::new();
    }
    let (had, wanted) = (found.len(), expected.len());
    vec![format!(
        "C5: {kind}: {had} for {wanted}; missing {missing:?}, strange {strange:?}, {twice} twice"
    )]
}

/// What was published.
pub struct Outcome {
    alerts: Vec<Value>,
    /// What was ever written, by id, also in transactions that were aborted.
    ever: BTreeMap<String, Value>,
}

impl Outcome {
    pub fn read(app: &App) -> Outcome {
        let committed = all_of(app, "alerts", "read_committed");
        let ever = all_of(app, "alerts", "read_uncommitted");
        let ours = |alert: &Value| rule(alert) != GAP;
        let ever = ever.iter().map(Published::json).filter(ours);
        Outcome {
            alerts: committed.iter().map(Published::json).collect(),
            ever: ever.map(|a| (text(&a["finding_info"]["uid"]), a)).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Alerts about events, without those about what was lost and without the ledger's.
    fn about_events(&self) -> impl Iterator<Item = &Value> {
        self.alerts.iter().filter(|a| ![GAP, LEDGER].contains(&rule(a)))
    }

    /// What differs from the expected alerts: id → what it says.
    pub fn compare(&self, expected: &BTreeMap<String, String>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for alert in self.about_events() {
            found.entry(text(&alert["finding_info"]["uid"])).or_default().push(facts(alert));
        }
        let missing: Vec<_> = expected.iter().filter(|(id, _)| !found.contains_key(*id)).collect();
        let strange: Vec<_> = found.iter().filter(|(id, _)| !expected.contains_key(*id)).collect();
        let twice: Vec<_> = found.iter().filter(|(_, facts)| facts.len() > 1).collect();
        let other: Vec<_> = found
            .iter()
            .filter_map(|(id, facts)| Some((id, &facts[0], expected.get(id)?)))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        if !missing.is_empty() {
            wrong.push(format!("C1: {} alerts are missing: {:#?}", missing.len(), first(&missing)));
        }
        if !strange.is_empty() {
            let late = found.values().flatten().filter(|f| f.starts_with(LATE)).count();
            let what = format!("{} alerts that eval does not know", strange.len());
            wrong.push(format!("C1: {what} ({late} of late events, C6): {:#?}", first(&strange)));
        }
        if !twice.is_empty() {
            wrong.push(format!("C1: {} alerts came twice: {:#?}", twice.len(), first(&twice)));
        }
        if !other.is_empty() {
            wrong.push(format!(
                "C6: {} alerts say other things: {:#?}",
                other.len(),
                first(&other)
            ));
        }
        let committed: BTreeSet<String> =
            self.alerts.iter().map(|a| text(&a["finding_info"]["uid"])).collect();
        // What alerted in an epoch that was aborted, and was deleted before it could be read again, is lost.
        let gaps = self.gaps();
        let is_lost = |alert: &Value| {
            let (partition, offset) = ledger_place(alert);
            gaps.iter().any(|(p, from, to)| *p == partition && (*from..*to).contains(&offset))
        };
        let only = self.ever.iter().filter(|(id, _)| !committed.contains(*id));
        let only = only.filter(|(_, alert)| rule(alert) != LEDGER || !is_lost(alert));
        let only: Vec<String> = only.map(|(id, alert)| format!("{id} {}", facts(alert))).collect();
        if !only.is_empty() {
            let what = "ids were written and aborted, and never published";
            wrong.push(format!("C2: {} {what}: {:?}", only.len(), first(&only)));
        }
        let revisions = self.alerts.iter().map(|a| a["metadata"]["uid"].as_str().unwrap());
        if revisions.collect::<BTreeSet<_>>().len() < self.alerts.len() {
            wrong.push("C2: an id with its revision was published twice".to_owned());
        }
        wrong
    }

    /// What was reported as lost: partition of the ledger, from, to.
    pub fn gaps(&self) -> Vec<(i32, i64, i64)> {
        let gaps = self.alerts.iter().filter(|a| rule(a) == GAP);
        let gap = |a: &Value| {
            let gap = &a["unmapped"]["watchfire"]["gap"];
            let number = |name: &str| gap[name].as_i64().unwrap();
            (number("partition") as i32, number("from"), number("to"))
        };
        gaps.map(gap).collect()
    }

    /// Every record of the ledger must have alerted or be part of a reported gap, never both; and a gap must end where
    /// records were deleted.
    pub fn compare_ledger(&self, app: &App, ledger: &str, cuts: &[(i32, i64)]) -> Vec<String> {
        let mut wrong = Vec::new();
        let gaps = self.gaps();
        for (partition, from, to) in &gaps {
            if !cuts.contains(&(*partition, *to)) {
                wrong
                    .push(format!("C5: gap {partition} [{from}, {to}) ends where nothing was cut"));
            }
        }
        let mut seen: BTreeMap<Place, usize> = BTreeMap::new();
        for alert in self.alerts.iter().filter(|a| rule(a) == LEDGER) {
            assert_eq!(alert["evidences"][0]["data"]["kafka"]["topic"], ledger);
            *seen.entry(ledger_place(alert)).or_default() += 1;
        }
        for (partition, from, to) in gaps {
            (from..to).for_each(|offset| *seen.entry((partition, offset)).or_default() += 1);
        }
        let mut places: BTreeSet<Place> = BTreeSet::new();
        for (partition, (_, end)) in bounds(&app.bootstrap, ledger) {
            places.extend((0..end).map(|offset| (partition, offset)));
        }
        let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).collect();
        if !twice.is_empty() {
            let what = "records of the ledger alerted twice, or alerted and were reported lost";
            wrong.push(format!("C5: {} {what}: {:?}", twice.len(), first(&twice)));
        }
        let seen: BTreeSet<Place> = seen.into_keys().collect();
        let silent: Vec<_> = places.difference(&seen).collect();
        if !silent.is_empty() {
            let what = "records of the ledger neither alerted nor were reported lost";
            wrong.push(format!("C5: {} {what}: {:?}", silent.len(), first(&silent)));
        }
        wrong
    }
}

fn first<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

/// Waits until all expected alerts are committed, then a little for others; or until patience ends.
pub fn wait_for_alerts(app: &App, expected: &BTreeMap<String, String>, patience: Duration) {
    let mut topic = app.alerts();
    let mut missing: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    let began = Instant::now();
    while !missing.is_empty() && began.elapsed() < patience {
        topic.poll();
        for alert in topic.records.drain(..) {
            missing.remove(alert.json()["finding_info"]["uid"].as_str().unwrap());
        }
    }
    std::thread::sleep(Duration::from_secs(3));
}
