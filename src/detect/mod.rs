//! Event → detections: which rules match one event.

pub mod reference;

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Event, EventSource};
use crate::rule::RuleSet;

/// Kinds of source whose rules are remembered; there are a few dozen, unless events make them up.
const PLANS_MAX: usize = 1024;

/// Runs a rule set over events. One per worker; it owns its scratch.
#[derive(Clone, Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    /// The rules that apply to a kind of source, by index.
    plans: HashMap<EventSource, Arc<[usize]>>,
}

impl Engine {
    /// For a linked rule set.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self { rules, plans: HashMap::new() }
    }

    /// The rules it runs.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Calls `sink` with the index of each detection rule that matches, in load order.
    pub fn detect(&mut self, event: &Event<'_>, mut sink: impl FnMut(usize)) {
        let plan = self.plan(&event.source);
        for &index in plan.iter() {
            if reference::matches(&self.rules.detections[index].condition, event) {
                sink(index);
            }
        }
    }

    fn plan(&mut self, source: &EventSource) -> Arc<[usize]> {
        if let Some(plan) = self.plans.get(source) {
            return Arc::clone(plan);
        }
        let applies = |index: &usize| self.rules.detections[*index].logsource.admits(source);
        let plan: Arc<[usize]> = (0..self.rules.detections.len()).filter(applies).collect();
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        self.plans.insert(source.clone(), Arc::clone(&plan));
        plan
    }
}
