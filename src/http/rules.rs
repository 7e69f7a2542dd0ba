//! The loaded rules as the API shows them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether a rule works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// It is evaluated.
    Active,
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
    /// What keeps it from finding anything though it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The rules in force; a reload replaces them all at once.
#[derive(Debug)]
pub struct Rules {
    sorted: ArcSwap<Vec<RuleView>>,
}

impl Rules {
    /// Takes the rules of the first load.
    pub fn new(rules: Vec<RuleView>) -> Rules {
        Rules { sorted: ArcSwap::from_pointee(sort(rules)) }
    }

    /// Replaces all rules.
    pub fn replace(&self, rules: Vec<RuleView>) {
        self.sorted.store(Arc::new(sort(rules)));
    }

    /// Returns all rules, by id.
    pub fn all(&self) -> Arc<Vec<RuleView>> {
        self.sorted.load_full()
    }

    /// Returns one rule; when two files claim an id, the one that works.
    pub fn get(&self, id: &str) -> Option<RuleView> {
        let rules = self.sorted.load();
        let start = rules.partition_point(|rule| rule.id.as_str() < id);
        rules.get(start).filter(|rule| rule.id == id).cloned()
    }
}

fn sort(mut rules: Vec<RuleView>) -> Vec<RuleView> {
    rules.sort_by(|a, b| {
        let broken = |rule: &RuleView| rule.state == RuleState::Broken;
        a.id.cmp(&b.id).then(broken(a).cmp(&broken(b))).then_with(|| a.file.cmp(&b.file))
    });
    rules
}
