//! The detection vectors of `corpora/vectors`: one rule, one event, one answer each.

mod common;

use std::sync::Arc;

use watchfire::detect::Engine;
use watchfire::event::Event;
use watchfire::rule::{RuleSet, Severity};

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    rule: String,
    event: serde_json::Value,
    expect: Option<serde_json::Value>,
}

/// `Err` when the rule is refused.
fn run(vector: &Vector) -> Result<bool, String> {
    let file: Arc<str> = vector.name.as_str().into();
    let (rules, diagnostics) = RuleSet::compile([(&file, vector.rule.as_str())]);
    if let Some(d) = diagnostics.iter().find(|d| d.severity == Severity::Error) {
        return Err(d.to_string());
    }
    let text = vector.event.to_string();
    let event =
        Event { body: serde_json::from_str(&text).map_err(|e| e.to_string())?, ..Event::default() };
    let mut hit = false;
    Engine::new(Arc::new(rules)).detect(&event, |_| hit = true);
    Ok(hit)
}

/// What the specification leaves open and docs/semantics.md decides: `None` is refused.
const DECIDED: &[(&str, Option<bool>)] = &[
    ("bool true vs 1", Some(false)),
    ("bool true vs \"yes\"", Some(false)),
    ("null in list", Some(true)),
    ("exists \"true\" string", None),
    ("kelvin sign", Some(true)),
    ("greek final sigma", Some(true)),
    ("re $ before trailing nl", Some(false)),
    ("cidr host bits", None),
    ("cidr ip:port", Some(false)),
    ("neq missing", Some(true)),
    ("fieldref", Some(true)),
    ("windash inner dash untouched", Some(false)),
    ("wide|base64offset non-ascii", Some(true)),
    ("hour|gte", Some(true)),
    ("array |all each own elem", Some(true)),
    ("array neq", Some(false)),
    ("array null elem", Some(true)),
    ("empty array null", Some(false)),
    ("field name case", Some(false)),
    ("empty list value", None),
    ("expand unresolved", None),
    ("cond: pattern no match", None),
    ("cond: UPPER ops", None),
    ("cond: 1 OF THEM", None),
    ("cond: undefined ident", None),
    ("cond: hyphen ident", Some(true)),
];

#[test]
fn every_vector_agrees() {
    let Some(dir) = common::corpora() else { return };
    let text = std::fs::read_to_string(dir.join("vectors/detection.json")).expect("vectors");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors are JSON");
    let mut wrong = Vec::new();
    let (mut decided, mut open) = (0, 0);
    for vector in &vectors {
        let answer = run(vector);
        let expect = match vector.expect.as_ref().and_then(serde_json::Value::as_bool) {
            Some(expect) => {
                decided += 1;
                Some(expect)
            }
            None => {
                open += 1;
                let ours = DECIDED.iter().find(|(name, _)| *name == vector.name);
                ours.unwrap_or_else(|| panic!("nobody decided `{}`", vector.name)).1
            }
        };
        if answer.as_ref().ok().copied() != expect {
            wrong.push(format!("{}: expected {expect:?}, got {answer:?}", vector.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    eprintln!("{decided} vectors that the specification decides agree, and {open} that we decide");
    assert!(decided > 50 && open == DECIDED.len(), "{decided} decided, {open} open");
}
