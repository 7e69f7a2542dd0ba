//! What the service knows of its own state: named checks, and every range of records it lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use super::limits::GAPS_MAX;

/// A range of records that retention deleted before they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Gap {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset lost.
    pub from: i64,
    /// First offset after the loss.
    pub to: i64,
    /// How it was noticed.
    pub detected_by: String,
    /// When it was noticed, in ms since 1970.
    pub time: i64,
}

/// One check of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// The state of the service in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every check holds and nothing was lost.
    Ready,
    /// Every check holds, but records were lost.
    Degraded,
    /// A check does not hold: not assigned, not restored, or a dependency is missing.
    Starting,
}

/// The answer of `/readyz` and `/startupz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// The state in one word.
    pub status: Status,
    /// All checks, by name.
    pub checks: Vec<Check>,
    /// Records lost in all gaps.
    pub events_lost: u64,
    /// Known gaps, newest first.
    pub gaps: Vec<Gap>,
    /// Older gaps that are not listed any more, but counted in `events_lost`.
    pub gaps_unlisted: u64,
}

#[derive(Debug, Default)]
struct State {
    checks: BTreeMap<String, Check>,
    gaps: VecDeque<Gap>,
    gaps_unlisted: u64,
    events_lost: u64,
    started: bool,
}

/// Checks and gaps, written by workers and read by the API.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
}

impl Health {
    /// Starts with the checks that must hold before the service is ready; each fails until it is set.
    pub fn new(required: &[&str]) -> Health {
        let pending = |name: &&str| {
            let check = Check {
                name: (*name).to_owned(),
                ok: false,
                detail: "not reported yet".to_owned(),
            };
            ((*name).to_owned(), check)
        };
        let checks = required.iter().map(pending).collect();
        Health { state: Mutex::new(State { checks, ..State::default() }) }
    }

    /// Sets a check; one that was not required from the start is added.
    pub fn set_check(&self, name: &str, ok: bool, detail: impl Into<String>) {
        let mut state = self.lock();
        let check = Check { name: name.to_owned(), ok, detail: detail.into() };
        state.checks.insert(name.to_owned(), check);
        // Latched: a later failure is a matter of readiness, not of the start.
        state.started |= state.checks.values().all(|check| check.ok);
    }

    /// Notes a loss. It stays until the end of the process: nothing makes lost records unlost.
    pub fn report_gap(&self, gap: Gap) {
        let mut state = self.lock();
        let lost = u64::try_from(gap.to.saturating_sub(gap.from)).unwrap_or(0);
        state.events_lost = state.events_lost.saturating_add(lost);
        state.gaps.push_front(gap);
        if state.gaps.len() > GAPS_MAX {
            state.gaps.pop_back();
            state.gaps_unlisted += 1;
        }
    }

    /// Returns the known gaps, newest first, at most [`GAPS_MAX`].
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().gaps.iter().cloned().collect()
    }

    /// Returns how many gaps there are, listed or not.
    pub fn gap_count(&self) -> u64 {
        let state = self.lock();
        state.gaps.len() as u64 + state.gaps_unlisted
    }

    /// Says whether every check has held at once since the start.
    pub fn has_started(&self) -> bool {
        self.lock().started
    }

    /// Returns everything there is to know.
    pub fn readiness(&self) -> Readiness {
        let state = self.lock();
        let ok = !state.checks.is_empty() && state.checks.values().all(|check| check.ok);
        Readiness {
            status: match (ok, state.gaps.is_empty()) {
                (false, _) => Status::Starting,
                (true, false) => Status::Degraded,
                (true, true) => Status::Ready,
            },
            checks: state.checks.values().cloned().collect(),
            events_lost: state.events_lost,
            gaps: state.gaps.iter().cloned().collect(),
            gaps_unlisted: state.gaps_unlisted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: i64, to: i64) -> Gap {
        let detected_by = "log start".to_owned();
        Gap { topic: "logs".to_owned(), partition: 3, from, to, detected_by, time: 1 }
    }

    #[test]
    fn it_is_ready_once_every_required_check_holds() {
        let health = Health::new(&["assigned", "restored"]);
        assert_eq!(health.readiness().status, Status::Starting);
        health.set_check("assigned", true, "8 partitions");
        assert!(!health.has_started());
        health.set_check("restored", true, "");
        assert_eq!((health.readiness().status, health.has_started()), (Status::Ready, true));
        health.set_check("assigned", false, "revoked");
        assert_eq!((health.readiness().status, health.has_started()), (Status::Starting, true));
    }

    #[test]
    fn without_any_check_it_is_not_ready() {
        assert_eq!(Health::new(&[]).readiness().status, Status::Starting);
    }

    #[test]
    fn a_loss_degrades_for_good_and_is_counted_beyond_the_list() {
        let health = Health::new(&["assigned"]);
        health.set_check("assigned", true, "");
        for n in 0..GAPS_MAX as i64 + 5 {
            health.report_gap(gap(n * 10, n * 10 + 3));
        }
        let readiness = health.readiness();
        assert_eq!(readiness.status, Status::Degraded);
        assert_eq!((readiness.gaps.len(), readiness.gaps_unlisted), (GAPS_MAX, 5));
        assert_eq!(readiness.events_lost, 3 * (GAPS_MAX as u64 + 5));
        assert_eq!(readiness.gaps[0], gap(10_040, 10_043), "newest first");
        assert_eq!(health.gap_count(), GAPS_MAX as u64 + 5);
    }
}
