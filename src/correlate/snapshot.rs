//! The whole state of a fold as bytes, and back.
//!
//! Equal states give equal bytes: groups are written in the order of their values. Which matches came
//! late or lacked a field is not part of it; that has been counted where it happened.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fold::{Fold, FoldOptions};
use super::{Match, Waiting};
use crate::rule::RuleSet;
use crate::time::Timestamp;
use crate::window::{Places, Window};

/// Why bytes cannot become a fold again.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They are not what [`Fold::snapshot`] writes.
    #[error("no snapshot of a fold: {0}")]
    Shape(#[from] serde_json::Error),
    /// They hold the state of correlations that are not these.
    #[error("the snapshot is of correlations {found}, the rules have {expected}")]
    OtherRules {
        /// What it is of.
        found: String,
        /// What is loaded.
        expected: String,
    },
}

/// A group: its values in one piece, and its window.
type Kept<'s> = (Cow<'s, [u8]>, Cow<'s, Window>);
/// Id and version of a rule.
type Named<'s> = (Cow<'s, str>, Cow<'s, str>);

/// A fold without its rules.
#[derive(Serialize, Deserialize)]
struct State<'s> {
    /// Ids and versions of the correlations, in their order.
    rules: Vec<Named<'s>>,
    watermark: Option<Timestamp>,
    places: Vec<(Arc<str>, i32)>,
    waiting: Vec<Cow<'s, Match>>,
    groups: Vec<Vec<Kept<'s>>>,
    overflow_at: BTreeMap<usize, Timestamp>,
}

fn rules_of(rules: &RuleSet) -> Vec<Named<'_>> {
    let head = |h: &'_ crate::rule::Header| (h.id.0.to_string().into(), h.version.clone().into());
    rules.correlations.iter().map(|r| head(&r.header)).collect()
}

fn listed(rules: &[Named<'_>]) -> String {
    rules.iter().map(|(id, version)| format!("{id}@{version}")).collect::<Vec<_>>().join(", ")
}

impl Fold {
    /// The state as bytes.
    ///
    /// # Errors
    /// When a part cannot be written, which none of these refuses.
    pub fn snapshot(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut waiting: Vec<_> = self.waiting.iter().map(Cow::Borrowed).collect();
        waiting.sort_by(|a, b| Waiting::order(a, b));
        let groups = self.store.all().iter().map(|groups| {
            let mut all: Vec<_> = groups
                .iter()
                .map(|(_, g)| (Cow::Borrowed(g.key.bytes()), Cow::Borrowed(&g.window)))
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        });
        serde_json::to_vec(&State {
            rules: rules_of(&self.plan.rules),
            watermark: self.watermark,
            places: self.places.names().to_vec(),
            waiting,
            groups: groups.collect(),
            overflow_at: self.overflow_at.clone(),
        })
    }

    /// The fold again, for the same rules. Timers are set anew, so that every group ends in its time.
    ///
    /// # Errors
    /// When the bytes are not a snapshot, or are one of other rules.
    pub fn restore(
        rules: Arc<RuleSet>,
        options: FoldOptions,
        bytes: &[u8],
    ) -> Result<Self, SnapshotError> {
        let state: State<'_> = serde_json::from_slice(bytes)?;
        if state.rules != rules_of(&rules) {
            let (found, expected) = (listed(&state.rules), listed(&rules_of(&rules)));
            return Err(SnapshotError::OtherRules { found, expected });
        }
        let mut fold = Self::new(rules, options);
        fold.watermark = state.watermark;
        fold.places = Places::restore(state.places);
        fold.overflow_at = state.overflow_at;
        state.waiting.into_iter().for_each(|m| fold.waiting.push(m.into_owned()));
        for (index, groups) in state.groups.into_iter().enumerate() {
            for (key, window) in groups {
                fold.store.restore(index, &fold.plan.specs, &key, window.into_owned());
            }
        }
        Ok(fold)
    }
}
