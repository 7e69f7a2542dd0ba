//! Alerts of detection rules. One rule's differ from event to event in a few places only: the document
//! is made once and cut there, so that an alert costs little more than its bytes.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::cut::{Cut, Place, json, plain};
use super::exhibit::{self, Exhibit};
use super::{Alert, ocsf};
use crate::event::FieldPath;
use crate::ids::{AlertId, Coordinate, RuleId};
use crate::rule::{DetectionRule, Header, Level, RuleSet};
use crate::time::Timestamp;

/// Fields that are shown when a rule names none: those that tell who and where.
const USUAL_FIELDS: &[&str] =
    &["user", "src_ip", "host", "User", "Computer", "Image", "CommandLine"];

/// Characters of a field's text that an alert shows beside the event.
const SHOWN_CHARS_MAX: usize = 256;

/// What is written in a place of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Id,
    RevisionId,
    Millis,
    Message,
    Topic,
    Partition,
    Offset,
    Coordinate,
    Event,
    Observables,
}

/// The places where the alerts of one rule differ.
const PLACES: &[Place<Slot>] = &[
    place("/end_time", Slot::Millis),
    place("/evidences/0/data/event", Slot::Event),
    place("/evidences/0/data/kafka/offset", Slot::Offset),
    place("/evidences/0/data/kafka/partition", Slot::Partition),
    place("/evidences/0/data/kafka/topic", Slot::Topic),
    place("/evidences/0/uid", Slot::Coordinate),
    place("/finding_info/created_time", Slot::Millis),
    place("/finding_info/first_seen_time", Slot::Millis),
    place("/finding_info/last_seen_time", Slot::Millis),
    place("/finding_info/related_events/0/type", Slot::Topic),
    place("/finding_info/related_events/0/uid", Slot::Coordinate),
    place("/finding_info/uid", Slot::Id),
    place("/message", Slot::Message),
    place("/metadata/uid", Slot::RevisionId),
    Place { pointer: "/observables", slot: Slot::Observables, optional: true },
    place("/start_time", Slot::Millis),
    place("/time", Slot::Millis),
];

const fn place(pointer: &'static str, slot: Slot) -> Place<Slot> {
    Place { pointer, slot, optional: false }
}

/// The alerts of a rule set in one of its views, by index. Each template is made when it is first
/// needed; clones share them.
#[derive(Clone, Debug)]
pub struct Templates {
    rules: Arc<RuleSet>,
    view: usize,
    made: Arc<[OnceLock<Template>]>,
}

impl Templates {
    /// For a rule set in one of its views.
    pub fn new(rules: Arc<RuleSet>, view: usize) -> Self {
        let made = rules.detections.iter().map(|_| OnceLock::new()).collect();
        Self { rules, view, made }
    }

    /// The fields that alerts show of events, apart from the event itself; each once or more.
    pub fn shown_fields(rules: &RuleSet, view: usize) -> Vec<FieldPath> {
        let names = rules.detections.iter().flat_map(|rule| shown_names(rule, view));
        names.collect::<BTreeSet<_>>().into_iter().map(FieldPath::new).collect()
    }

    /// The template of the rule with that index.
    pub fn of(&self, rule: usize) -> &Template {
        self.made[rule].get_or_init(|| Template::new(&self.rules.detections[rule], self.view))
    }
}

/// The alert of a rule that needs one event, cut where events differ.
#[derive(Clone, Debug)]
pub struct Template {
    rule: RuleId,
    title: Arc<str>,
    level: Level,
    shown: Vec<ShownField>,
    document: Cut<Slot>,
}

/// A field that is shown beside the event.
#[derive(Clone, Debug)]
struct ShownField {
    path: FieldPath,
    /// The observable, cut where its value is; of fields that OCSF has a type for.
    observable: Option<Cut<()>>,
}

impl ShownField {
    fn new(name: &str) -> Self {
        let value = [Place { pointer: "/value", slot: (), optional: false }];
        let observable = ocsf::observable(name, "").map(|document| Cut::new(&document, &value));
        Self { path: FieldPath::new(name), observable }
    }
}

/// What an event puts into the places.
struct Filling<'f> {
    id: AlertId,
    time: Timestamp,
    at: &'f Coordinate,
    summary: &'f str,
    shown: &'f [(&'f ShownField, String)],
}

impl Template {
    /// For a rule as a view sees it.
    pub fn new(rule: &DetectionRule, view: usize) -> Self {
        let head = &rule.header;
        let shown = shown_names(rule, view).map(ShownField::new).collect();
        // Any event will do, as long as it has all that an event can have.
        let at = Coordinate { topic: "".into(), partition: 0, offset: 0 };
        let entities = vec![("user".to_owned(), String::new())];
        let draft = draft(head, Timestamp(0), &at, String::new(), entities, Value::Null);
        let document = Cut::new(&draft.document(), PLACES);
        let title = head.title.as_str().into();
        Self { rule: head.id.clone(), title, level: head.level, shown, document }
    }

    /// The alert for an event that the rule matched.
    pub fn alert(&self, event: &impl Exhibit, at: &Coordinate, time: Timestamp) -> Alert {
        let id = id_of(&self.rule, at);
        let with_text =
            self.shown.iter().map(|field| Some((field, shown_text(event, &field.path)?)));
        let shown: Vec<(&ShownField, String)> = with_text.flatten().collect();
        let pairs = shown.iter().map(|(field, text)| (field.path.as_str(), text.as_str()));
        let summary = summary(&self.title, pairs);
        let filling = Filling { id, time, at, summary: &summary, shown: &shown };
        let event_bytes = event.record().map_or(0, <[u8]>::len);
        let mut body = Vec::with_capacity(self.document.text_bytes() + event_bytes + 1024);
        self.document.write(&mut body, |slot, out| match slot {
            Slot::Event => exhibit::write(event, out),
            slot => filling.write(slot, out),
        });
        Alert {
            id,
            revision: 1,
            rule: self.rule.clone(),
            title: Arc::clone(&self.title),
            level: self.level,
            time,
            at: at.clone(),
            summary,
            body,
        }
    }
}

impl Filling<'_> {
    fn write(&self, slot: Slot, out: &mut Vec<u8>) {
        match slot {
            Slot::Id => plain(format_args!("{}", self.id), out),
            Slot::RevisionId => plain(format_args!("{}", ocsf::revision_id(self.id, 1)), out),
            Slot::Millis => json(&self.time.millis(), out),
            Slot::Message => json(self.summary, out),
            Slot::Topic => json(&*self.at.topic, out),
            Slot::Partition => json(&self.at.partition, out),
            Slot::Offset => json(&self.at.offset, out),
            Slot::Coordinate => json(&ocsf::place(self.at), out),
            Slot::Observables => self.observables(out),
            Slot::Event => {}
        }
    }

    fn observables(&self, out: &mut Vec<u8>) {
        let observables = self.shown.iter().filter_map(|(f, v)| Some((f.observable.as_ref()?, v)));
        let mut first = true;
        for (document, value) in observables {
            out.extend_from_slice(if first { b",\"observables\":[" } else { b"," });
            document.write(out, |(), out| json(value, out));
            first = false;
        }
        if !first {
            out.push(b']');
        }
    }
}

/// The alert made in one go, without a template: the truth that templates are held against.
pub fn of_detection(
    rule: &DetectionRule,
    view: usize,
    event: &impl Exhibit,
    at: &Coordinate,
    time: Timestamp,
) -> Alert {
    let named = |name: &str| Some((name.to_owned(), shown_text(event, &FieldPath::new(name))?));
    let shown: Vec<(String, String)> = shown_names(rule, view).filter_map(named).collect();
    let pairs = shown.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let summary = summary(&rule.header.title, pairs);
    let mut json = Vec::new();
    exhibit::write(event, &mut json);
    let event = serde_json::from_slice(&json).unwrap_or_default();
    draft(&rule.header, time, at, summary, shown, event).finish(at.clone())
}

/// The fields that a rule wants shown; without a wish the usual ones.
fn shown_names(rule: &DetectionRule, view: usize) -> impl Iterator<Item = &str> {
    let wanted = rule.changed(view).map_or(&rule.header.fields, |v| &v.shown);
    let usual: &[&str] = if wanted.is_empty() { USUAL_FIELDS } else { &[] };
    wanted.iter().map(String::as_str).chain(usual.iter().copied())
}

fn shown_text(event: &impl Exhibit, path: &FieldPath) -> Option<String> {
    let mut text = event.text(path)?.into_owned();
    if text.len() > SHOWN_CHARS_MAX
        && let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS_MAX)
    {
        text.truncate(end);
    }
    Some(text)
}

fn id_of(rule: &RuleId, at: &Coordinate) -> AlertId {
    AlertId::of(&[
        b"detection",
        rule.0.as_bytes(),
        at.topic.as_bytes(),
        &at.partition.to_le_bytes(),
        &at.offset.to_le_bytes(),
    ])
}

/// The title, then `name=value` of what is shown.
fn summary<'s>(title: &str, shown: impl Iterator<Item = (&'s str, &'s str)>) -> String {
    let mut summary = title.to_owned();
    for (index, (name, value)) in shown.enumerate() {
        summary.push_str(if index == 0 { ": " } else { ", " });
        summary.push_str(name);
        summary.push('=');
        summary.push_str(value);
    }
    summary
}

/// The document for one event, from which templates are cut.
fn draft<'r>(
    head: &'r Header,
    time: Timestamp,
    at: &Coordinate,
    summary: String,
    entities: Vec<(String, String)>,
    event: Value,
) -> ocsf::Draft<'r> {
    ocsf::Draft {
        id: id_of(&head.id, at),
        revision: 1,
        head,
        kind: "sigma.detection".to_owned(),
        analytic_type: (1, "Rule"),
        time,
        window: (time, time),
        count: 1,
        summary,
        evidence: vec![at.clone()],
        entities,
        details: json!({"evidence": {"total": 1, "kept": 1}, "group": Value::Null}),
        event: Some(event),
        related: Vec::new(),
    }
}
