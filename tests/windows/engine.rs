//! The engine over a case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use watchfire::correlate::{Finding, Fold, FoldOptions, Match, Offered, Updates};
use watchfire::ids::{Coordinate, RuleId};
use watchfire::rule::RuleSet;
use watchfire::time::Timestamp;

use super::case::{Case, Event};
use super::oracle::Found;
use super::rules::{BASES, Set};

const HALF: i64 = 500_000;

fn matches(rules: &RuleSet, event: &Event, topic: &Arc<str>) -> Vec<Match> {
    let mut values = Vec::new();
    let mut add = |name: &str, value: String| values.push((Arc::from(name), Arc::from(value)));
    event.group.iter().for_each(|g| add("g", format!("g{g}")));
    event.value.iter().for_each(|v| add("v", v.to_string()));
    match event.number {
        Some(Ok(quarters)) => add("n", format!("{}", quarters as f64 / 4.0)),
        Some(Err(text)) => add("n", text.into()),
        None => {}
    }
    let at =
        Coordinate { topic: Arc::clone(topic), partition: event.partition, offset: event.offset };
    let of = |base: &usize| {
        let rule = &rules.detections[*base];
        assert_eq!(&*rule.header.id.0, BASES[*base]);
        let one = |family: &usize| Match {
            time: Timestamp(event.time * HALF),
            at: at.clone(),
            family: Arc::clone(&rules.families[*family].id),
            rule: RuleId(BASES[*base].into()),
            values: values.clone(),
        };
        rule.families.iter().map(one).collect::<Vec<_>>()
    };
    event.bases.iter().flat_map(of).collect()
}

/// The episodes that the engine finds, each as it was reported last.
pub fn episodes(set: &Set, case: &Case) -> Result<BTreeSet<Found>, String> {
    // At the end only: what is compared is what an episode came to.
    let updates = Updates::Every(i64::MAX);
    let options = FoldOptions { updates, ..FoldOptions::default() };
    let mut fold = Fold::new(Arc::clone(&set.rules), options);
    let topic: Arc<str> = "t".into();
    let (mut findings, mut latest) = (Vec::new(), BTreeMap::new());
    let (mut sent, mut twice, mut seen_twice) = (0, 0, 0);
    for (i, event) in case.events.iter().enumerate() {
        for event in matches(&set.rules, event, &topic) {
            sent += 1;
            if sent % case.duplicate_every == 0 {
                // What comes again is in order again: it may be late by then, never early.
                twice += 1;
                fold.offer(event.clone(), &mut findings);
            }
            if fold.offer(event, &mut findings) != Offered::Taken {
                return Err(format!("event {i} is late"));
            }
        }
        let reached = latest.entry(event.partition).or_insert(event.time);
        *reached = event.time.max(*reached);
        if (i + 1) % case.marker_every == 0
            && latest.len() as i32 == case.partitions
            && let Some(slowest) = latest.values().min()
        {
            fold.advance(Timestamp((slowest - case.lateness) * HALF), &mut findings);
        }
        if case.restore_every > 0 && (i + 1) % case.restore_every == 0 {
            seen_twice += fold.counts().duplicates;
            fold = restored(set, options, &fold)?;
        }
    }
    fold.finish(&mut findings);
    seen_twice += fold.counts().duplicates;
    if seen_twice != twice {
        return Err(format!("{seen_twice} of {twice} duplicates were seen"));
    }
    let left = (fold.groups(), fold.waiting(), fold.timers(), fold.bytes());
    if left != (0, 0, 0, 0) {
        return Err(format!("{left:?} groups, events, timers and bytes are left at the end"));
    }
    last_reports(&set.rules, findings)
}

/// The fold from its own bytes; they must be those of the copy, too.
fn restored(set: &Set, options: FoldOptions, fold: &Fold) -> Result<Fold, String> {
    let bytes = fold.snapshot().map_err(|e| e.to_string())?;
    let again =
        Fold::restore(Arc::clone(&set.rules), options, &bytes).map_err(|e| e.to_string())?;
    if again.snapshot().map_err(|e| e.to_string())? != bytes {
        return Err("a restored state is another".into());
    }
    if (again.groups(), again.timers()) != (fold.groups(), fold.timers()) {
        return Err("groups or timers are lost".into());
    }
    Ok(again)
}

fn last_reports(rules: &RuleSet, findings: Vec<Finding>) -> Result<BTreeSet<Found>, String> {
    let mut last: BTreeMap<_, Finding> = BTreeMap::new();
    for finding in findings {
        let key = (finding.rule, finding.group.clone(), finding.episode.began);
        let revision = finding.episode.revision;
        match last.insert(key, finding) {
            None if revision != 1 => return Err(format!("first reported is revision {revision}")),
            Some(before) if before.episode.revision >= revision => {
                return Err(format!("revision {revision} is reported twice"));
            }
            _ => {}
        }
    }
    let found = |f: Finding| Found {
        rule: rules.correlations[f.rule].header.id.to_string(),
        group: f.group.0.iter().map(|v| v.as_deref().map(str::to_owned)).collect(),
        start: f.episode.start.0 / HALF,
        end: f.episode.end.0 / HALF,
        began: f.episode.began.0 / HALF,
        value: (f.episode.value.to_float() * 1e6).round() as i64,
        events: f.episode.evidence.total,
    };
    Ok(last.into_values().map(found).collect())
}
