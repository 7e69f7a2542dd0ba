//! Findings as SARIF 2.1.0 (OASIS), as code scanning services read it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Report;
use crate::rule::{Code, Diagnostic, Place, Severity};

/// Writes the log with one run.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let results: Vec<Value> = report.findings.iter().map(|d| result(d, report.text(d))).collect();
    let rules: Vec<Value> = Code::ALL.iter().map(|c| rule(*c)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "watchfire",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}

fn rule(code: Code) -> Value {
    let explanation = code.explanation();
    json!({
        "id": code.as_str(),
        "name": format!("{code:?}"),
        "shortDescription": {"text": explanation.title},
        "help": {"text": explanation.text, "markdown": explanation.text},
    })
}

fn result(finding: &Diagnostic, text: &str) -> Value {
    let index = Code::ALL.iter().position(|c| *c == finding.code);
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "note",
    };
    let message = match &finding.help {
        Some(help) => format!("{}\n{help}", finding.message),
        None => finding.message.clone(),
    };
    let mut result = json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": index,
        "level": level,
        "message": {"text": message},
        "locations": [location(finding, finding.place, text)],
    });
    if !finding.labels.is_empty() {
        let related = finding.labels.iter().enumerate().map(|(id, (place, label))| {
            let mut location = location(finding, *place, text);
            location["id"] = json!(id);
            location["message"] = json!({"text": label});
            location
        });
        result["relatedLocations"] = related.collect();
    }
    if let Some(fix) = &finding.fix {
        result["fixes"] = json!([{
            "description": {"text": finding.help.as_deref().unwrap_or("mend it")},
            "artifactChanges": [{
                "artifactLocation": artifact(finding),
                "replacements": [{
                    "deletedRegion": region(fix.place, text),
                    "insertedContent": {"text": fix.text},
                }],
            }],
        }]);
    }
    result
}

fn location(finding: &Diagnostic, place: Place, text: &str) -> Value {
    let mut physical = json!({"artifactLocation": artifact(finding)});
    if place.line > 0 {
        physical["region"] = region(place, text);
    }
    json!({"physicalLocation": physical})
}

fn region(place: Place, text: &str) -> Value {
    let end = place.end_in(text);
    json!({
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": end.line,
        "endColumn": end.column,
    })
}

fn artifact(finding: &Diagnostic) -> Value {
    json!({"uri": uri(finding.file.as_deref().unwrap_or_default())})
}

/// A relative path stays relative; what a URI cannot hold is percent-encoded.
fn uri(path: &str) -> String {
    let path = path.trim_start_matches("./");
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("./rules/a b.yml"), "rules/a%20b.yml");
        assert_eq!(uri("/tmp/ä.yml"), "file:///tmp/%C3%A4.yml");
    }
}
