//! Rules made up at random, each with events: our answers against those of pySigma's evaluator.

use std::sync::Arc;

use serde::Deserialize;
use watchfire::detect::Engine;
use watchfire::event::Event;
use watchfire::rule::{RuleSet, Severity};

use crate::Error;
use crate::tally::{Dispute, Oracle, Tally};

/// One line of `pysigma_oracle.py made-up`.
#[derive(Deserialize)]
pub struct Case {
    rule: String,
    /// Why pySigma does not take the rule; then there are no events.
    refused: Option<String>,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    answers: Vec<bool>,
}

/// Asks our engine all that the oracle was asked. A rule is named by its text.
///
/// # Errors
/// An event that is no JSON object.
pub fn compare(cases: &[Case]) -> Result<(Tally, Vec<Dispute>), Error> {
    let mut tally = Tally::new("pySigma, made-up rules", Oracle::PySigma);
    let mut disputes = Vec::new();
    for case in cases {
        add(case, &mut tally, &mut disputes)?;
    }
    Ok((tally, disputes))
}

fn add(case: &Case, tally: &mut Tally, disputes: &mut Vec<Dispute>) -> Result<(), Error> {
    let name: Arc<str> = "made up".into();
    let (set, diagnostics) = RuleSet::compile([(&name, case.rule.as_str())]);
    let wrong = diagnostics.iter().find(|d| d.severity == Severity::Error);
    match (wrong, &case.refused) {
        (Some(_), Some(_)) => tally.refused_by_both += 1,
        (Some(ours), None) => {
            tally.refused_by_us.insert(case.rule.clone(), ours.to_string());
        }
        (None, Some(theirs)) => {
            tally.refused_by_them.insert(case.rule.clone(), theirs.clone());
        }
        (None, None) => {
            let hits = tally.hits_ours;
            let mut engine = Engine::new(Arc::new(set));
            for (event, theirs) in case.events.iter().zip(&case.answers) {
                let ours = matches(&mut engine, event)?;
                tally.hits_ours += usize::from(ours);
                tally.hits_theirs += usize::from(*theirs);
                if ours != *theirs {
                    disputes.push(tally.dispute(&case.rule, ours, event));
                }
            }
            tally.rules += 1;
            tally.rules_hit += usize::from(tally.hits_ours > hits);
            tally.events += case.events.len();
            tally.pairs += case.events.len();
        }
    }
    Ok(())
}

fn matches(engine: &mut Engine, event: &str) -> Result<bool, Error> {
    let event = Event { body: serde_json::from_str(event)?, ..Event::default() };
    let mut hit = false;
    engine.detect(&event, |_| hit = true);
    Ok(hit)
}
