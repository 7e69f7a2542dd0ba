//! What a comparison counts, and each single disagreement.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::corpus::RuleFile;
use crate::engines::Refused;

/// Disagreements that one run keeps; what goes beyond is counted and never explained.
const DISPUTES_MAX: usize = 20_000;

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oracle {
    /// The crate `rsigma-eval`.
    Rsigma,
    /// The evaluator in Python on pySigma's syntax trees.
    PySigma,
}

/// One rule and one event on which the two engines disagree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dispute {
    /// Which run saw it.
    pub run: String,
    /// Who disagrees.
    pub oracle: Oracle,
    /// The rule's file.
    pub rule: String,
    /// Whether the rule matches, to us.
    pub ours: bool,
    /// The event, as JSON text.
    pub event: String,
}

/// One run: the same rules over the same events, by two engines.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Its name in the report.
    pub run: String,
    /// Who is on the other side.
    pub oracle: Oracle,
    /// Rules that both take.
    pub rules: usize,
    /// Of these, the rules that matched something, to us.
    pub rules_hit: usize,
    /// Events seen.
    pub events: usize,
    /// Pairs of rule and event on which both gave an answer.
    pub pairs: usize,
    /// Matches, to us, of the rules that both take.
    pub hits_ours: usize,
    /// Matches, to them, of the rules that both take.
    pub hits_theirs: usize,
    /// Rules that we alone refuse, with the reason.
    pub refused_by_us: BTreeMap<String, String>,
    /// Rules that they alone refuse, with the reason.
    pub refused_by_them: BTreeMap<String, String>,
    /// Rules that both refuse.
    pub refused_by_both: usize,
    /// Disagreements that were too many to keep.
    pub disputes_dropped: usize,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(run: &str, oracle: Oracle) -> Self {
        Self {
            run: run.to_owned(),
            oracle,
            rules: 0,
            rules_hit: 0,
            events: 0,
            pairs: 0,
            hits_ours: 0,
            hits_theirs: 0,
            refused_by_us: BTreeMap::new(),
            refused_by_them: BTreeMap::new(),
            refused_by_both: 0,
            disputes_dropped: 0,
        }
    }

    /// A disagreement of this run.
    pub fn dispute(&self, rule: &str, ours: bool, event: &str) -> Dispute {
        let (run, oracle) = (self.run.clone(), self.oracle);
        Dispute { run, oracle, rule: rule.to_owned(), ours, event: event.to_owned() }
    }
}

/// A run that is going on.
pub struct Comparison<'r> {
    rules: &'r [RuleFile],
    tally: Tally,
    both: Vec<bool>,
    hit: BTreeSet<usize>,
    disputes: Vec<Dispute>,
}

impl<'r> Comparison<'r> {
    /// Starts a run over the rules that neither side refuses.
    pub fn new(
        run: &str,
        oracle: Oracle,
        rules: &'r [RuleFile],
        ours: &Refused,
        theirs: &Refused,
    ) -> Self {
        let alone = |a: &Refused, b: &Refused| -> BTreeMap<String, String> {
            let alone = a.iter().filter(|(n, _)| !b.contains_key(n));
            alone.map(|(n, why)| (rules[*n].name.to_string(), why.clone())).collect()
        };
        let both: Vec<bool> =
            (0..rules.len()).map(|n| !ours.contains_key(&n) && !theirs.contains_key(&n)).collect();
        let tally = Tally {
            rules: both.iter().filter(|b| **b).count(),
            refused_by_us: alone(ours, theirs),
            refused_by_them: alone(theirs, ours),
            refused_by_both: ours.keys().filter(|n| theirs.contains_key(n)).count(),
            ..Tally::new(run, oracle)
        };
        Self { rules, tally, both, hit: BTreeSet::new(), disputes: Vec::new() }
    }

    /// Adds the answers to one event: the sorted numbers of the rules that match.
    pub fn add(&mut self, event: &str, ours: &[usize], theirs: &[usize]) {
        let compared = |hits: &[usize]| -> BTreeSet<usize> {
            hits.iter().copied().filter(|n| self.both[*n]).collect()
        };
        let (ours, theirs) = (compared(ours), compared(theirs));
        self.tally.events += 1;
        self.tally.pairs += self.tally.rules;
        self.tally.hits_ours += ours.len();
        self.tally.hits_theirs += theirs.len();
        for &n in ours.symmetric_difference(&theirs) {
            self.dispute(event, n, ours.contains(&n));
        }
        self.hit.extend(ours);
        if self.tally.events.is_multiple_of(2000) {
            let Tally { run, events, .. } = &self.tally;
            eprintln!("{run}: {events} events, {} disagreements", self.disputes.len());
        }
    }

    fn dispute(&mut self, event: &str, n: usize, ours: bool) {
        if self.disputes.len() == DISPUTES_MAX {
            self.tally.disputes_dropped += 1;
            return;
        }
        self.disputes.push(self.tally.dispute(&self.rules[n].name, ours, event));
    }

    /// Ends the run.
    pub fn finish(mut self) -> (Tally, Vec<Dispute>) {
        self.tally.rules_hit = self.hit.len();
        (self.tally, self.disputes)
    }
}
