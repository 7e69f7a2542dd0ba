//! The table at the end, and whether everything in it is explained.

use std::collections::BTreeMap;

use crate::corpus::RuleFile;
use crate::engines::{Ours, Routing};
use crate::known::{KNOWN, Known, PLACEHOLDERS, is_placeholder};
use crate::oracle::Vector;
use crate::tally::{Dispute, Oracle, Tally};
use crate::yaml::Equality;

/// Unexplained disagreements that are printed in full.
const EXAMPLES_MAX: usize = 20;

/// Prints the report line by line and keeps count of what is unexplained.
#[derive(Default)]
pub struct Report {
    unexplained: usize,
}

/// A disagreement, and what pySigma's evaluator says to it; `None` when it was not asked.
pub type Judged = (Dispute, Option<bool>);

impl Report {
    /// The runs, and for each its disagreements by kind. A rule that is no file is its own text.
    pub fn runs(&mut self, rules: &[RuleFile], tallies: &[Tally], disputes: &[Judged]) {
        println!(
            "{:<24}{:>7}{:>10}{:>8}{:>13}{:>10}{:>10}{:>11}{:>13}",
            "run",
            "rules",
            "rules hit",
            "events",
            "pairs",
            "ours",
            "theirs",
            "explained",
            "unexplained"
        );
        let text_of: BTreeMap<&str, &str> = rules.iter().map(|r| (&*r.name, &*r.text)).collect();
        let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut open = Vec::new();
        for tally in tallies {
            let mut explained = 0;
            let before = open.len();
            for judged in disputes.iter().filter(|(d, _)| d.run == tally.run) {
                let text = text_of.get(&*judged.0.rule).copied().unwrap_or(&judged.0.rule);
                match explain(judged, text) {
                    Some(known) => {
                        explained += 1;
                        *kinds.entry((&tally.run, known.kind)).or_default() += 1;
                    }
                    None => open.push(judged),
                }
            }
            let unexplained = open.len() - before + tally.disputes_dropped;
            self.unexplained += unexplained;
            println!(
                "{:<24}{:>7}{:>10}{:>8}{:>13}{:>10}{:>10}{explained:>11}{unexplained:>13}",
                tally.run,
                tally.rules,
                tally.rules_hit,
                tally.events,
                tally.pairs,
                tally.hits_ours,
                tally.hits_theirs
            );
        }
        explained_kinds(&kinds);
        for known in KNOWN.iter().filter(|k| !kinds.keys().any(|(_, kind)| *kind == k.kind)) {
            println!("  0  nothing is explained any more by: {}", known.kind);
        }
        examples(&open);
    }

    /// The rules that one side alone refuses.
    pub fn refusals(&mut self, tallies: &[Tally]) {
        for tally in tallies {
            let Tally { run, refused_by_us, refused_by_them, refused_by_both, .. } = tally;
            let ours = refused_by_us.len();
            println!(
                "\n{run}: refused by both {refused_by_both}, by us alone {ours}, by them alone {}",
                refused_by_them.len()
            );
            let wrong = refused_by_us.iter().filter(|(_, why)| !is_placeholder(why));
            for (rule, why) in wrong.chain(refused_by_them) {
                self.unexplained += 1;
                println!("  UNEXPLAINED {rule}: {why}");
            }
            if ours > 0 {
                println!("  explained: {PLACEHOLDERS}");
            }
        }
    }

    /// The rules that we refuse, whoever else does.
    pub fn placeholders(&self, rules: &[RuleFile]) {
        let refused = Ours::new(rules, Routing::Off).refused;
        let mut names: Vec<&str> = refused.keys().map(|n| &*rules[*n].name).collect();
        names.sort_unstable();
        println!(
            "\n{} rules are not compared, since their placeholders have no values:",
            names.len()
        );
        names.iter().for_each(|name| println!("  {name}"));
    }

    /// What PyYAML reads against what we read.
    pub fn yaml(&mut self, equality: &Equality) {
        let Equality { files, scalars, different } = equality;
        println!("\nYAML: {files} files, {scalars} scalars, {} files differ", different.len());
        different.iter().for_each(|d| println!("  UNEXPLAINED {d}"));
        self.unexplained += different.len();
    }

    /// The detection vectors, as a check of the oracle itself.
    pub fn vectors(&mut self, vectors: &[Vector]) {
        let decided: Vec<&Vector> = vectors.iter().filter(|v| v.expect.is_boolean()).collect();
        let (agree, others): (Vec<&Vector>, Vec<&Vector>) =
            decided.iter().partition(|v| v.got == v.expect);
        let (wrong, refused): (Vec<&Vector>, Vec<&Vector>) =
            others.iter().partition(|v| v.got.is_boolean());
        println!(
            "\nvectors: {} of which {} decided; pySigma's evaluator agrees with {}, refuses {}, \
             contradicts {}",
            vectors.len(),
            decided.len(),
            agree.len(),
            refused.len(),
            wrong.len()
        );
        refused.iter().for_each(|v| println!("  refuses {}: {}", v.name, v.got));
        wrong.iter().for_each(|v| println!("  UNEXPLAINED {}: {}", v.name, v.got));
        self.unexplained += wrong.len();
    }

    /// The last line, and whether all is explained.
    pub fn finish(&self) -> bool {
        println!("\nunexplained: {}", self.unexplained);
        self.unexplained == 0
    }
}

fn explain((dispute, judge): &Judged, rule: &str) -> Option<&'static Known> {
    let upheld = dispute.oracle == Oracle::PySigma || *judge == Some(dispute.ours);
    let shows = |k: &&Known| k.oracle == dispute.oracle && (k.shows)(rule, dispute);
    KNOWN.iter().find(shows).filter(|_| upheld)
}

fn explained_kinds(kinds: &BTreeMap<(&str, &str), usize>) {
    if !kinds.is_empty() {
        println!("\nexplained disagreements:");
    }
    for ((run, kind), count) in kinds {
        println!("{count:>7}  {run}: {kind}");
        let known = KNOWN.iter().find(|k| k.kind == *kind);
        known.iter().for_each(|k| println!("         {}", k.why));
    }
}

fn examples(open: &[&Judged]) {
    for (dispute, judge) in open.iter().take(EXAMPLES_MAX) {
        let Dispute { run, rule, ours, event, .. } = dispute;
        println!("\nUNEXPLAINED {run}: {rule}\n  ours {ours}, pySigma {judge:?}\n  {event}");
    }
    if open.len() > EXAMPLES_MAX {
        println!("\n… and {} more", open.len() - EXAMPLES_MAX);
    }
}
