//! The detection vectors of `corpora/vectors`: one rule, one event, one answer each.

mod common;

use std::sync::Arc;

use watchfire::detect::Engine;
use watchfire::event::Event;
use watchfire::rule::RuleSet;

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
    if let Some(d) = diagnostics.first() {
        return Err(d.to_string());
    }
    let text = vector.event.to_string();
    let event =
        Event { body: serde_json::from_str(&text).map_err(|e| e.to_string())?, ..Event::default() };
    let mut hit = false;
    Engine::new(Arc::new(rules)).detect(&event, |_| hit = true);
    Ok(hit)
}

/// Refused on purpose: regular expressions run in linear time only, until look-around has a budget.
const REFUSED: &[&str] = &["re lookahead", "re backref"];

#[test]
fn every_decided_vector_agrees() {
    let Some(dir) = common::corpora() else { return };
    let text = std::fs::read_to_string(dir.join("vectors/detection.json")).expect("vectors");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors are JSON");
    let mut wrong = Vec::new();
    let mut decided = 0;
    for vector in &vectors {
        let answer = run(vector);
        match vector.expect.as_ref().and_then(serde_json::Value::as_bool) {
            Some(_) if REFUSED.contains(&vector.name.as_str()) => {
                assert!(answer.is_err(), "{} is no longer refused", vector.name);
            }
            Some(expect) => {
                decided += 1;
                if answer != Ok(expect) {
                    wrong.push(format!("{}: expected {expect}, got {answer:?}", vector.name));
                }
            }
            None => {
                eprintln!("undecided: {}: {answer:?} (expect {:?})", vector.name, vector.expect)
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {decided}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(decided > 50, "only {decided} vectors are decided");
}
