//! Event → detections: which rules match one event.

mod prefilter;
mod program;
pub mod reference;
mod run;
mod text;
mod witness;

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Event, EventSource};
use crate::rule::RuleSet;
use program::{Plan, Program};
use run::Scratch;

/// Kinds of source that have a plan of their own; there are a few dozen, unless events make them up.
/// All others share one plan of all rules.
const PLANS_MAX: usize = 128;

/// Runs a rule set over events. One per worker; it owns its scratch.
#[derive(Clone, Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    program: Arc<Program>,
    scratch: Scratch,
    /// How the rules are seen: see [`DetectionRule::seen`](crate::rule::DetectionRule::seen).
    view: usize,
    /// Whether every rule is run on every event.
    unrouted: bool,
    /// What is run for a kind of source.
    plans: HashMap<EventSource, Arc<Plan>>,
    /// What is run for a kind that has no plan of its own.
    shared: Option<Arc<Plan>>,
}

impl Engine {
    /// For a linked rule set.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self::for_view(rules, 0)
    }

    /// For a linked rule set in one of its views; 0 is the plain one.
    pub fn for_view(rules: Arc<RuleSet>, view: usize) -> Self {
        let program = Arc::new(Program::new(&rules, view));
        Self {
            rules,
            program,
            scratch: Scratch::default(),
            view,
            unrouted: false,
            plans: HashMap::new(),
            shared: None,
        }
    }

    /// As [`Engine::for_view`], but with every rule of the view on every event, whatever kind of log it
    /// is for.
    pub fn unrouted(rules: Arc<RuleSet>, view: usize) -> Self {
        Self { unrouted: true, ..Self::for_view(rules, view) }
    }

    /// The rules it runs.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Calls `sink` with the index of each detection rule that matches, in load order.
    pub fn detect(&mut self, event: &Event<'_>, mut sink: impl FnMut(usize)) {
        let (plan, own) = self.plan(&event.source);
        let (rules, view) = (&self.rules, self.view);
        self.program.run(event, &plan, &mut self.scratch, |rule| {
            if own || admits(rules, view, rule, &event.source) {
                sink(rule);
            }
        });
    }

    /// The plan for a kind of source, and whether it holds the rules for this kind alone.
    fn plan(&mut self, source: &EventSource) -> (Arc<Plan>, bool) {
        if let Some(plan) = self.plans.get(source) {
            return (Arc::clone(plan), true);
        }
        let all = 0..self.rules.detections.len();
        if self.unrouted {
            let seen = all.filter(|rule| self.rules.detections[*rule].seen(self.view).is_some());
            let make = || Arc::new(self.program.plan(&self.rules, self.view, seen));
            return (Arc::clone(self.shared.get_or_insert_with(make)), true);
        }
        if self.plans.len() >= PLANS_MAX {
            let make = || Arc::new(self.program.plan(&self.rules, self.view, all));
            return (Arc::clone(self.shared.get_or_insert_with(make)), false);
        }
        let chosen = all.filter(|rule| admits(&self.rules, self.view, *rule, source));
        let plan = Arc::new(self.program.plan(&self.rules, self.view, chosen));
        self.plans.insert(source.clone(), Arc::clone(&plan));
        (plan, true)
    }
}

/// Whether a rule, as the view sees it, is meant for such events.
fn admits(rules: &RuleSet, view: usize, rule: usize, source: &EventSource) -> bool {
    let seen = rules.detections[rule].seen(view);
    seen.is_some_and(|(logsource, _)| logsource.admits(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_source_beyond_the_limit_see_the_same_rules() {
        let rules = "title: one\nlogsource: {product: a}\ndetection: {s: {f: 1}, condition: s}\n---\n\
            title: two\nlogsource: {service: s7}\ndetection: {s: {f: 1}, condition: s}\n";
        let file: Arc<str> = "r.yml".into();
        let (rules, _) = RuleSet::compile([(&file, rules)]);
        let mut engine = Engine::new(Arc::new(rules));
        let mut hits = |product: &str, service: &str| {
            let body = serde_json::from_str(r#"{"f": 1}"#).expect("an event");
            let mut event = Event { body, ..Event::default() };
            event.source.add_product(product);
            event.source.add_service(service);
            event.source.settle();
            let mut hits = Vec::new();
            engine.detect(&event, |rule| hits.push(rule));
            hits
        };
        for n in 0..2 * PLANS_MAX {
            let (known, other) = (hits("a", &format!("x{n}")), hits("b", &format!("y{n}")));
            assert_eq!((known, other), (vec![0], vec![]), "{n}");
        }
        assert_eq!(hits("a", "s7"), [0, 1]);
        assert_eq!(hits("b", "s7"), [1]);
    }
}
