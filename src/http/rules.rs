//! The loaded rules as the API shows them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether a rule works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// It is evaluated.
    Active,
    /// It is evaluated, and has not seen a whole timespan of events yet.
    Warming,
    /// It could not be loaded.
    Broken,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleView {
    /// Its id; of a broken rule without one, its file.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Event rule, or which correlation.
    pub kind: String,
    /// Its level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Its maturity, in Sigma's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where it was read from.
    pub file: String,
    /// Whether it works.
    pub state: RuleState,
    /// Why it is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of a correlation that was begun anew: how long, in seconds of event time, until it has seen all
    /// that its timespan holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warming_seconds: Option<u64>,
    /// What keeps it from finding anything though it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The rules in force; a reload replaces them all at once.
#[derive(Debug)]
pub struct Rules {
    sorted: ArcSwap<Vec<RuleView>>,
    /// Seconds by id; none is 0.
    warming: DashMap<String, u64>,
}

impl Rules {
    /// Takes the rules of the first load.
    pub fn new(rules: Vec<RuleView>) -> Rules {
        Rules { sorted: ArcSwap::from_pointee(sort(rules)), warming: DashMap::new() }
    }

    /// Replaces all rules.
    pub fn replace(&self, rules: Vec<RuleView>) {
        self.sorted.store(Arc::new(sort(rules)));
    }

    /// Takes for how long a rule still warms up; 0: no longer.
    pub fn set_warming(&self, id: &str, seconds: u64) {
        match seconds {
            0 => drop(self.warming.remove(id)),
            left => drop(self.warming.insert(id.to_owned(), left)),
        }
    }

    /// Returns all rules, by id.
    pub fn all(&self) -> Vec<RuleView> {
        self.sorted.load().iter().map(|rule| self.as_it_stands(rule)).collect()
    }

    /// Returns one rule; when two files claim an id, the one that works.
    pub fn get(&self, id: &str) -> Option<RuleView> {
        let rules = self.sorted.load();
        let start = rules.partition_point(|rule| rule.id.as_str() < id);
        rules.get(start).filter(|rule| rule.id == id).map(|rule| self.as_it_stands(rule))
    }

    fn as_it_stands(&self, rule: &RuleView) -> RuleView {
        let mut rule = rule.clone();
        if let (RuleState::Active, Some(left)) = (rule.state, self.warming.get(&rule.id)) {
            (rule.state, rule.warming_seconds) = (RuleState::Warming, Some(*left));
        }
        rule
    }
}

fn sort(mut rules: Vec<RuleView>) -> Vec<RuleView> {
    rules.sort_by(|a, b| {
        let broken = |rule: &RuleView| rule.state == RuleState::Broken;
        a.id.cmp(&b.id).then(broken(a).cmp(&broken(b))).then_with(|| a.file.cmp(&b.file))
    });
    rules
}
