//! The OCSF document (Detection Finding, 2004, schema 1.8.0).

use serde_json::{Value, json};

use super::{Alert, GAP_RULE, Gap, OVERFLOW_RULE, attack};
use crate::correlate::Overflow;
use crate::ids::{AlertId, Coordinate, RuleId};
use crate::rule::{CorrelationKind, Header, Level};
use crate::time::Timestamp;

/// Everything that a document needs.
pub struct Draft<'r> {
    pub id: AlertId,
    pub revision: u64,
    pub head: &'r Header,
    pub kind: String,
    pub analytic_type: (u8, &'static str),
    pub time: Timestamp,
    pub window: (Timestamp, Timestamp),
    pub count: u64,
    pub summary: String,
    pub evidence: Vec<Coordinate>,
    pub entities: Vec<(String, String)>,
    pub details: Value,
    pub event: Option<Value>,
    pub related: Vec<(RuleId, String)>,
}

/// `finding_info.types` of a correlation.
pub fn kind_name(kind: &CorrelationKind) -> String {
    match kind {
        CorrelationKind::Spike(_) => "watchfire.anomaly.spike".to_owned(),
        sigma => format!("sigma.correlation.{}", sigma.name()),
    }
}

impl Draft<'_> {
    /// The alert with this document.
    pub fn finish(self, at: Coordinate) -> Alert {
        Alert {
            id: self.id,
            revision: self.revision,
            rule: self.head.id.clone(),
            title: self.head.title.as_str().into(),
            level: self.head.level,
            time: self.time,
            at,
            body: self.document().to_string().into_bytes(),
            summary: self.summary,
        }
    }

    /// The document.
    pub fn document(&self) -> Value {
        let mut document = self.base();
        document["finding_info"] = self.finding_info();
        document["evidences"] = self.evidences();
        document["unmapped"] = json!({"watchfire": self.ours()});
        let observables: Vec<Value> =
            self.entities.iter().filter_map(|(n, v)| observable(n, v)).collect();
        if !observables.is_empty() {
            document["observables"] = observables.into();
        }
        document
    }

    fn base(&self) -> Value {
        let (severity_id, severity) = severity(self.head.level);
        let first = self.revision == 1;
        let (activity_id, activity) = if first { (1, "Create") } else { (2, "Update") };
        json!({
            "class_uid": 2004, "class_name": "Detection Finding",
            "category_uid": 2, "category_name": "Findings",
            "activity_id": activity_id, "activity_name": activity,
            "type_uid": 200_400 + activity_id, "type_name": format!("Detection Finding: {activity}"),
            "severity_id": severity_id, "severity": severity,
            "status_id": 1, "status": "New", "is_alert": true,
            "time": self.time.millis(),
            "start_time": self.window.0.millis(), "end_time": self.window.1.millis(),
            "timezone_offset": 0,
            "message": self.summary,
            "count": self.count,
            "metadata": {
                "version": "1.8.0",
                "uid": revision_id(self.id, self.revision),
                "sequence": self.revision,
                "product": {
                    "name": "Watchfire", "vendor_name": "Watchfire",
                    "version": env!("CARGO_PKG_VERSION"),
                },
                "log_name": "alerts",
            },
        })
    }

    fn finding_info(&self) -> Value {
        let head = self.head;
        let related: Vec<Value> = self
            .related
            .iter()
            .map(|(id, title)| json!({"type_id": 1, "type": "Rule", "uid": id.0, "name": title}))
            .collect();
        let mut info = json!({
            "uid": self.id.to_string(),
            "title": head.title,
            "types": [self.kind],
            "analytic": {
                "type_id": self.analytic_type.0, "type": self.analytic_type.1,
                "uid": head.id.0, "name": head.title, "version": head.version,
                "category": self.kind.replace('.', "/"),
            },
            "attacks": attack::attacks(&head.tags),
            "created_time": self.time.millis(),
            "first_seen_time": self.window.0.millis(),
            "last_seen_time": self.window.1.millis(),
            "related_events_count": self.count,
            "related_events": self.evidence.iter().map(related_event).collect::<Vec<_>>(),
            "tags": [
                {"name": "level", "value": head.level.as_str()},
                {"name": "sigma", "values": head.tags},
            ],
        });
        if let Some(description) = &head.description {
            info["desc"] = description.as_str().into();
        }
        if !related.is_empty() {
            info["related_analytics"] = related.into();
        }
        info
    }

    fn evidences(&self) -> Value {
        let Some(at) = self.evidence.last() else { return json!([]) };
        let mut data = json!({"kafka": coordinate(at), "role": "trigger"});
        if let Some(event) = &self.event {
            data["event"] = event.clone();
        }
        json!([{"uid": place(at), "data": data}])
    }

    /// What OCSF has no place for: the rule with its author, and how it came to fire.
    fn ours(&self) -> Value {
        let head = self.head;
        let mut ours = self.details.clone();
        ours["rule"] = json!({
            "id": head.id.0, "title": head.title, "level": head.level.as_str(),
            "status": head.status, "author": head.author, "license": head.license,
            "references": head.references, "tags": head.tags,
            "falsepositives": head.falsepositives,
        });
        let custom = head.custom();
        if !custom.is_empty() {
            ours["rule"]["custom"] = custom.into();
        }
        ours["revision"] = self.revision.into();
        ours["rule_hash"] = head.version.as_str().into();
        ours
    }
}

/// The document about lost records.
pub fn gap(id: AlertId, gap: &Gap, summary: String, at: Coordinate) -> Alert {
    let about = About {
        rule: GAP_RULE,
        title: "Events lost to retention",
        kind: "watchfire.gap.detected",
        level: Level::Critical,
        count: gap.count(),
        details: json!({
            "gap": {
                "topic": gap.topic, "partition": gap.partition, "from": gap.from, "to": gap.to,
                "count": gap.count(), "detected_by": gap.detected_by,
            },
        }),
    };
    about.finish(id, gap.time, at, summary)
}

/// The document about a correlation that refuses groups.
pub fn overflow(id: AlertId, head: &Header, overflow: &Overflow, summary: String) -> Alert {
    let about = About {
        rule: OVERFLOW_RULE,
        title: "A rule holds as many groups as it may",
        kind: OVERFLOW_RULE,
        level: Level::High,
        count: 1,
        details: json!({
            "overflow": {
                "rule": head.id.0, "title": head.title,
                "groups": overflow.groups, "bytes": overflow.bytes,
            },
        }),
    };
    let at = Coordinate { topic: "".into(), partition: -1, offset: -1 };
    about.finish(id, overflow.time, at, summary)
}

/// Something that Watchfire says about its own work.
struct About {
    rule: &'static str,
    title: &'static str,
    kind: &'static str,
    level: Level,
    count: i64,
    details: Value,
}

impl About {
    fn finish(mut self, id: AlertId, time: Timestamp, at: Coordinate, summary: String) -> Alert {
        let (severity_id, severity) = severity(self.level);
        self.details["revision"] = 1.into();
        let document = json!({
            "class_uid": 2004, "class_name": "Detection Finding",
            "category_uid": 2, "category_name": "Findings",
            "activity_id": 1, "activity_name": "Create",
            "type_uid": 200_401, "type_name": "Detection Finding: Create",
            "severity_id": severity_id, "severity": severity, "status_id": 1, "status": "New",
            "is_alert": true,
            "time": time.millis(), "timezone_offset": 0,
            "message": summary, "count": self.count,
            "metadata": {
                "version": "1.8.0", "uid": revision_id(id, 1), "sequence": 1,
                "product": {
                    "name": "Watchfire", "vendor_name": "Watchfire",
                    "version": env!("CARGO_PKG_VERSION"),
                },
                "log_name": "alerts",
            },
            "finding_info": {
                "uid": id.to_string(), "title": self.title,
                "types": [self.kind],
                "analytic": {
                    "type_id": 1, "type": "Rule", "uid": self.rule, "name": self.title,
                },
                "created_time": time.millis(),
                "tags": [{"name": "level", "value": self.level.as_str()}],
            },
            "unmapped": {"watchfire": self.details},
        });
        Alert {
            id,
            revision: 1,
            rule: RuleId(self.rule.into()),
            title: self.title.into(),
            level: self.level,
            time,
            at,
            summary,
            body: document.to_string().into_bytes(),
        }
    }
}

fn coordinate(at: &Coordinate) -> Value {
    json!({"topic": &*at.topic, "partition": at.partition, "offset": at.offset})
}

fn related_event(at: &Coordinate) -> Value {
    json!({"uid": place(at), "type": &*at.topic})
}

/// What a record is called.
pub fn place(at: &Coordinate) -> String {
    format!("kafka:{at}")
}

/// What one revision of an alert is called.
pub fn revision_id(id: AlertId, revision: u64) -> String {
    format!("{id}-{revision:04}")
}

fn severity(level: Level) -> (u8, &'static str) {
    match level {
        Level::Informational => (1, "Informational"),
        Level::Low => (2, "Low"),
        Level::Medium => (3, "Medium"),
        Level::High => (4, "High"),
        Level::Critical => (5, "Critical"),
    }
}

/// Entities that OCSF has a type for.
pub fn observable(name: &str, value: &str) -> Option<Value> {
    let (type_id, kind) = match name {
        "host" | "hostname" | "Computer" | "Hostname" => (1, "Hostname"),
        "src_ip" | "dst_ip" | "SourceIp" | "DestinationIp" | "IpAddress" => (2, "IP Address"),
        "user" | "User" | "TargetUserName" | "SubjectUserName" => (4, "User Name"),
        _ => return None,
    };
    Some(json!({"name": name, "type_id": type_id, "type": kind, "value": value}))
}
