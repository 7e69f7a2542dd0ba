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

/// Kinds of source whose rules are remembered; there are a few dozen, unless events make them up.
const PLANS_MAX: usize = 1024;

/// Runs a rule set over events. One per worker; it owns its scratch.
#[derive(Clone, Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    program: Arc<Program>,
    scratch: Scratch,
    /// How the rules are seen: see [`DetectionRule::seen`](crate::rule::DetectionRule::seen).
    view: usize,
    /// What is run for a kind of source.
    plans: HashMap<EventSource, Arc<Plan>>,
}

impl Engine {
    /// For a linked rule set.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self::for_view(rules, 0)
    }

    /// For a linked rule set in one of its views; 0 is the plain one.
    pub fn for_view(rules: Arc<RuleSet>, view: usize) -> Self {
        let program = Arc::new(Program::new(&rules, view));
        Self { rules, program, scratch: Scratch::default(), view, plans: HashMap::new() }
    }

    /// The rules it runs.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Calls `sink` with the index of each detection rule that matches, in load order.
    pub fn detect(&mut self, event: &Event<'_>, sink: impl FnMut(usize)) {
        let plan = self.plan(&event.source);
        self.program.run(event, &plan, &mut self.scratch, sink);
    }

    fn plan(&mut self, source: &EventSource) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(source) {
            return Arc::clone(plan);
        }
        let applies = |index: &usize| {
            let seen = self.rules.detections[*index].seen(self.view);
            seen.is_some_and(|(logsource, _)| logsource.admits(source))
        };
        let chosen = (0..self.rules.detections.len()).filter(applies);
        let plan = Arc::new(self.program.plan(&self.rules, self.view, chosen));
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        self.plans.insert(source.clone(), Arc::clone(&plan));
        plan
    }
}
