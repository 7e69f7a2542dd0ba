//! Event → detections: which rules match one event.

pub mod reference;

use std::sync::Arc;

use crate::event::Event;
use crate::rule::RuleSet;

/// Runs a rule set over events. One per worker; it owns its scratch.
#[derive(Clone, Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
}

impl Engine {
    /// For a linked rule set.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self { rules }
    }

    /// The rules it runs.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Calls `sink` with the index of each detection rule that matches, in load order.
    pub fn detect(&mut self, event: &Event<'_>, mut sink: impl FnMut(usize)) {
        for (index, rule) in self.rules.detections.iter().enumerate() {
            if rule.logsource.admits(&event.source) && reference::matches(&rule.condition, event) {
                sink(index);
            }
        }
    }
}
