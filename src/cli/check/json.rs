//! Findings as one JSON object; `docs/check.md` describes it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Report;
use crate::rule::{Diagnostic, Place};

/// Writes the object.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let totals = &report.totals;
    let findings: Vec<Value> = report.findings.iter().map(|d| finding(d, report.text(d))).collect();
    let object = json!({
        "version": 1,
        "summary": {
            "files": totals.files,
            "detections": totals.detections,
            "correlations": totals.correlations,
            "filters": totals.filters,
            "errors": totals.errors,
            "warnings": totals.warnings,
            "hints": totals.hints,
            "seconds": totals.seconds,
        },
        "findings": findings,
    });
    serde_json::to_writer_pretty(&mut *out, &object)?;
    writeln!(out)
}

fn finding(finding: &Diagnostic, text: &str) -> Value {
    let labels: Vec<Value> = finding
        .labels
        .iter()
        .map(|(place, label)| with(range(*place, text), "text", json!(label)))
        .collect();
    let fix = finding.fix.as_ref().map(|f| with(range(f.place, text), "text", json!(f.text)));
    json!({
        "code": finding.code.as_str(),
        "severity": finding.severity.as_str(),
        "file": finding.file.as_deref(),
        "range": (finding.place.line > 0).then(|| range(finding.place, text)),
        "message": finding.message,
        "help": finding.help,
        "labels": labels,
        "fix": fix,
    })
}

/// Lines and columns from 1, columns in characters; the end is behind the last character.
fn range(place: Place, text: &str) -> Value {
    let end = place.end_in(text);
    json!({
        "line": place.line,
        "column": place.column,
        "end_line": end.line,
        "end_column": end.column,
    })
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}
