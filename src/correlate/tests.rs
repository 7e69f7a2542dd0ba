//! What the fold does beside finding: bounds, what it says of itself, late matches.

use std::sync::Arc;

use super::{
    Finding, Fold, FoldOptions, Match, Offered, Restore, Restored, SHARDS, Standpoint, StateRecord,
    Updates,
};
use crate::ids::{Coordinate, GroupKey, RuleId};
use crate::limits::CORRELATION_DEPTH_MAX;
use crate::rule::{RuleSet, Severity};
use crate::time::Timestamp;

const BASES: &str = "
title: a
id: a
logsource: {product: x}
detection: {s: {f: a}, condition: s}
---
title: b
id: b
logsource: {product: x}
detection: {s: {f: b}, condition: s}
---
";

fn rules(correlations: &str) -> Arc<RuleSet> {
    let file: Arc<str> = "r.yml".into();
    let text = format!("{BASES}{correlations}");
    let (rules, found) = RuleSet::compile([(&file, text.as_str())]);
    assert!(found.iter().all(|d| d.severity != Severity::Error), "{found:#?}");
    Arc::new(rules)
}

/// A correlation by user over ten seconds.
fn rule(id: &str, kind: &str, rest: &str) -> String {
    format!(
        "title: {id}\nid: {id}\ncorrelation:\n  type: {kind}\n  rules: [a, b]\n  group-by: [user]\n  \
         timespan: 10s\n  {rest}\n---\n"
    )
}

struct Driver {
    rules: Arc<RuleSet>,
    fold: Fold,
    next: i64,
    found: Vec<Finding>,
}

impl Driver {
    fn new(correlations: &str, options: FoldOptions) -> Self {
        let rules = rules(correlations);
        let fold = Fold::new(Arc::clone(&rules), options);
        Self { rules, fold, next: 0, found: Vec::new() }
    }

    /// An event of a user at a second, with a value.
    fn event(&mut self, base: &str, second: f64, user: &str, value: &str) -> Offered {
        let at = Coordinate { topic: "t".into(), partition: 0, offset: self.next };
        self.next += 1;
        let text = |n: &str, v: &str| (Arc::from(n), Arc::from(v));
        let family = Arc::clone(&self.rules.families[0].id);
        let event = Match {
            time: Timestamp((second * 1e6) as i64),
            at,
            family,
            rule: RuleId(base.into()),
            values: vec![text("user", user), text("value", value)],
        };
        self.fold.offer(event, &mut self.found)
    }

    fn advance(&mut self, second: f64) {
        self.fold.advance(Timestamp((second * 1e6) as i64), &mut self.found);
    }

    /// Value, threshold, what is missing, seconds left, whether it fired.
    fn explain(&self, user: &str) -> Option<(String, String, Vec<String>, f64, bool)> {
        let e = self.fold.explain(0, &GroupKey(vec![Some(user.into())]))?;
        let left = e.left_micros as f64 / 1e6;
        Some((e.value.to_string(), e.threshold, e.missing, left, e.fired))
    }
}

fn said(
    value: &str,
    threshold: &str,
    missing: &[&str],
    left: f64,
    fired: bool,
) -> Option<(String, String, Vec<String>, f64, bool)> {
    let missing = missing.iter().map(|m| (*m).to_owned()).collect();
    Some((value.to_owned(), threshold.to_owned(), missing, left, fired))
}

#[test]
fn beyond_the_bounds_new_groups_are_refused_counted_and_told_and_old_ones_go_on() {
    let many = FoldOptions { rule_groups_max: 2, ..FoldOptions::default() };
    let two = FoldOptions { groups_max: 2, ..FoldOptions::default() };
    let small = FoldOptions { bytes_max: 200, ..FoldOptions::default() };
    for options in [many, two, small] {
        let mut d = Driver::new(&rule("three", "event_count", "condition: {gte: 3}"), options);
        for user in ["ann", "bob", "cid", "dan", "ann", "cid", "ann"] {
            d.event("a", 0.0, user, "");
        }
        d.advance(1.0);
        assert_eq!(d.fold.counts().overflow[&0], 3, "cid twice and dan");
        let told = d.fold.take_overflows();
        assert_eq!(told.len(), 1, "once, not each time");
        assert_eq!((told[0].rule, told[0].groups), (0, 2));
        assert!(told[0].bytes > 0);
        let users: Vec<_> = d.found.iter().map(|f| f.group.0[0].as_deref()).collect();
        assert_eq!(users, [Some("ann")], "what was there before goes on");
        d.advance(11.0);
        assert_eq!((d.fold.groups(), d.fold.bytes()), (0, 0));
        for second in [12.0, 13.0, 14.0] {
            d.event("a", second, "dan", "");
        }
        d.fold.finish(&mut d.found);
        assert_eq!(d.found.len(), 2, "there is room again");
    }
}

#[test]
fn a_correlation_that_still_refuses_says_so_once_an_hour() {
    let options = FoldOptions { rule_groups_max: 0, ..FoldOptions::default() };
    let mut d = Driver::new(&rule("three", "event_count", "condition: {gte: 3}"), options);
    for minute in 0..150 {
        d.event("a", f64::from(minute) * 60.0, "ann", "");
    }
    d.fold.finish(&mut d.found);
    assert_eq!(d.fold.counts().overflow[&0], 150);
    assert_eq!(d.fold.take_overflows().len(), 3);
}

#[test]
fn late_matches_are_given_back_and_counted_by_rule_and_by_how_much() {
    let mut d =
        Driver::new(&rule("three", "event_count", "condition: {gte: 3}"), FoldOptions::default());
    d.advance(100.0);
    assert_eq!(d.event("a", 100.0, "ann", ""), Offered::Taken);
    for (base, second) in [("a", 99.5), ("a", 99.0), ("b", 98.0), ("b", 0.0), ("b", -100_000.0)] {
        assert!(matches!(d.event(base, second, "ann", ""), Offered::Late(m) if &*m.rule.0 == base));
    }
    let late = &d.fold.counts().late;
    let of = |rule: &str| late[&("t".into(), RuleId(rule.into()))];
    // At most 1 s, 2 s, 5 s, 10 s, 30 s, 1 min, 5 min, and beyond 6 h.
    assert_eq!(of("a").classes, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(of("b").classes, [0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!((of("a").micros, of("b").count, d.fold.counts().late_total()), (1_500_000, 3, 5));
}

#[test]
fn updates_come_at_most_once_an_interval_and_when_the_episode_ends() {
    let three = rule("three", "event_count", "condition: {gte: 3}");
    let run = |updates, attribute: &str| {
        let options = FoldOptions { updates, ..FoldOptions::default() };
        let mut d = Driver::new(&format!("{attribute}{three}"), options);
        for second in 0..30 {
            d.event("a", f64::from(second), "ann", "");
        }
        d.fold.finish(&mut d.found);
        let all: Vec<u64> = d.found.iter().map(|f| f.episode.revision).collect();
        let began = d.found[0].episode.began;
        assert!(d.found.iter().all(|f| f.episode.began == began), "one alert");
        (all, d.found.last().map(|f| f.episode.value.to_string()).unwrap_or_default())
    };
    assert_eq!(run(Updates::None, ""), (vec![1], "3".into()));
    let (all, last) = run(Updates::All, "");
    assert_eq!((all.len(), last.as_str()), (28, "30"));
    let every = |seconds: i64| Updates::Every(seconds * 1_000_000);
    assert_eq!(run(every(10), ""), (vec![1, 11, 21, 28], "30".into()));
    assert_eq!(run(every(i64::MAX / 2_000_000), ""), (vec![1, 28], "30".into()));
    let own = "watchfire.update_interval: 20s\n";
    assert_eq!(run(every(10), own), (vec![1, 21, 28], "30".into()));
    assert_eq!(run(Updates::None, own), (vec![1], "3".into()), "not where nothing is wanted");
}

#[test]
fn a_group_can_be_asked_how_it_stands() {
    let options = FoldOptions::default();
    let mut d = Driver::new(&rule("three", "event_count", "condition: {gte: 3}"), options);
    d.event("a", 1.0, "ann", "");
    d.event("a", 4.0, "ann", "");
    d.event("a", 6.0, "ann", "");
    assert_eq!(d.explain("ann"), None, "before the first watermark");
    d.advance(5.0);
    assert_eq!(d.explain("ann"), said("2", ">= 3", &[], 9.0, false));
    assert_eq!(d.explain("bob"), None);
    d.advance(8.0);
    assert_eq!(d.explain("ann"), said("3", ">= 3", &[], 8.0, true));
    d.advance(12.0);
    assert_eq!(d.explain("ann"), said("2", ">= 3", &[], 4.0, true), "it goes on until it is quiet");

    let mut d =
        Driver::new(&rule("values", "value_count", "condition: {field: value, gte: 9}"), options);
    for value in ["x", "y", "x"] {
        d.event("a", 0.0, "ann", value);
    }
    d.advance(1.0);
    assert_eq!(d.explain("ann"), said("2", ">= 9", &[], 9.0, false));

    let mut d =
        Driver::new(&rule("sum", "value_sum", "condition: {field: value, gt: 9.5}"), options);
    d.event("a", 0.0, "ann", "4.25");
    d.event("a", 1.0, "ann", "5");
    d.advance(2.0);
    assert_eq!(d.explain("ann"), said("9.25", "> 9.5", &[], 9.0, false));

    let mut d = Driver::new(&rule("near", "temporal", ""), options);
    d.event("b", 0.0, "ann", "");
    d.advance(2.0);
    assert_eq!(d.explain("ann"), said("1", ">= 2 rules", &["a"], 8.0, false));

    let mut d = Driver::new(&rule("order", "temporal_ordered", ""), options);
    d.event("a", 0.0, "ann", "");
    d.event("b", 0.5, "bob", "");
    d.advance(2.0);
    assert_eq!(d.explain("ann"), said("1", "all rules in order", &["b"], 8.0, false));
    assert_eq!(d.explain("bob"), said("0", "all rules in order", &["a", "b"], 8.5, false));

    let mut d = Driver::new(&rule("alone", "temporal", "condition: a and not b"), options);
    d.event("b", 0.0, "ann", "");
    d.advance(2.0);
    assert_eq!(d.explain("ann"), said("1", "a and not b", &["a"], 8.0, false));

    let mut d = Driver::new(&rule("few", "event_count", "condition: {lt: 3}"), options);
    d.event("b", 0.0, "ann", "");
    d.advance(2.0);
    assert_eq!(d.explain("ann"), said("1", "< 3", &[], 8.0, false));
}

#[test]
fn many_distinct_values_become_an_estimate_that_says_so() {
    for window in ["", "watchfire.window: tumbling\n"] {
        let distinct = rule("values", "value_count", "condition: {field: value, gte: 3}");
        let options = FoldOptions { updates: Updates::Every(i64::MAX), ..FoldOptions::default() };
        let mut d = Driver::new(&format!("{window}{distinct}"), options);
        for n in 0..20_000 {
            d.event("a", f64::from(n) / 10_000.0, "ann", &n.to_string());
        }
        d.advance(1.99);
        assert!(d.fold.bytes() < 200_000, "{} bytes", d.fold.bytes());
        d.fold.finish(&mut d.found);
        let [first, last] = d.found.as_slice() else { panic!("{} reports", d.found.len()) };
        assert_eq!((first.episode.approximate, first.episode.value.to_float()), (false, 3.0));
        assert!(last.episode.approximate);
        let error = (last.episode.value.to_float() - 20_000.0).abs() / 20_000.0;
        assert!(error < 0.1, "{error}");
    }
}

#[test]
fn a_percentile_of_many_and_a_sum_of_many_are_estimates_that_say_so() {
    let slow = rule("slow", "value_percentile", "condition: {field: value, percentile: 90, gt: 1}");
    let mut d = Driver::new(&slow, FoldOptions::default());
    let sum = rule("sum", "value_sum", "condition: {field: value, gt: 1000000}");
    let mut s = Driver::new(&sum, FoldOptions::default());
    for n in 0..30_000 {
        d.event("a", f64::from(n) / 10_000.0, "ann", &n.to_string());
        s.event("a", f64::from(n) / 1_000.0, "ann", "200");
    }
    s.advance(30.0);
    assert!(s.fold.bytes() < 800_000, "{} bytes", s.fold.bytes());
    d.fold.finish(&mut d.found);
    s.fold.finish(&mut s.found);
    let episode = &d.found[0].episode;
    assert!(episode.approximate);
    assert!((episode.value.to_float() - 27_000.0).abs() < 270.0, "{}", episode.value);
    assert!(s.found[0].episode.approximate);
    assert_eq!(s.found[0].episode.value.to_string(), "1000200");
}

fn written(fold: &mut Fold, next: i64) -> Vec<StateRecord> {
    let mut records = Vec::new();
    let at = Standpoint { next, ..Standpoint::default() };
    (0..SHARDS).for_each(|shard| fold.write(shard, &at, &mut |r| records.push(r)));
    records
}

fn restored(rules: &Arc<RuleSet>, records: &[StateRecord]) -> Restored {
    let options = FoldOptions { is_kept: true, ..FoldOptions::default() };
    let mut kept = Restore::new(Arc::clone(rules), options);
    records.iter().for_each(|r| kept.record(&r.key, r.value.as_deref()));
    kept.finish(Some(2), 3)
}

#[test]
fn kept_groups_are_for_the_rules_that_made_them_and_others_are_taken_out() {
    let options = FoldOptions { is_kept: true, ..FoldOptions::default() };
    let three = rule("three", "event_count", "condition: {gte: 3}");
    let mut d = Driver::new(&three, options);
    d.event("a", 0.0, "ann", "");
    d.advance(1.0);
    let records = written(&mut d.fold, 2);
    assert_eq!(d.fold.unwritten(), 0);
    let again = restored(&d.rules, &records).fold;
    assert_eq!((again.groups(), again.timers(), again.since()), (1, 1, &[None][..]));
    let four = rules(&three.replace("gte: 3", "gte: 4"));
    let mut other = restored(&four, &records).fold;
    assert_eq!((other.groups(), other.since()), (0, &[Some(Timestamp(1_000_000))][..]));
    let gone: Vec<_> = written(&mut other, 2).into_iter().filter(|r| r.value.is_none()).collect();
    let group = records.iter().find(|r| r.key[0] == b'g').expect("a group");
    assert_eq!(gone, [StateRecord { key: group.key.clone(), value: None }]);
}

#[test]
fn a_group_that_ends_is_taken_out_of_what_is_kept_even_if_it_turns_up_again() {
    let options = FoldOptions { is_kept: true, ..FoldOptions::default() };
    let mut d = Driver::new(&rule("three", "event_count", "condition: {gte: 3}"), options);
    d.event("a", 0.0, "ann", "");
    d.advance(1.0);
    let first = written(&mut d.fold, 2);
    d.advance(60.0);
    let second = written(&mut d.fold, 2);
    let is_group = |r: &&StateRecord| r.key[0] == b'g';
    let [group] = first.iter().filter(is_group).collect::<Vec<_>>()[..] else { panic!("one") };
    let [gone] = second.iter().filter(is_group).collect::<Vec<_>>()[..] else { panic!("one") };
    assert_eq!((&gone.key, &gone.value), (&group.key, &None));
    assert_eq!(restored(&d.rules, &[first.clone(), second.clone()].concat()).fold.groups(), 0);
    // A reader that is too slow may find the deletion deleted, and the group not yet.
    let others = second.iter().filter(|r| !is_group(r)).cloned().collect();
    let mut slow = restored(&d.rules, &[vec![group.clone()], others].concat()).fold;
    assert_eq!(slow.groups(), 0);
    let again = written(&mut slow, 2);
    assert_eq!(again.iter().filter(is_group).collect::<Vec<_>>(), [gone]);
}

#[test]
fn kept_state_that_cannot_be_read_or_lacks_a_part_is_refused_by_name() {
    let mut d = Driver::new(
        &rule("three", "event_count", "condition: {gte: 3}"),
        FoldOptions { is_kept: true, ..FoldOptions::default() },
    );
    d.event("a", 0.0, "ann", "");
    d.advance(1.0);
    let records = written(&mut d.fold, 2);
    let (at_3, ahead) = (written(&mut d.fold, 3), written(&mut d.fold, 9));
    let of = |kind: u8| move |r: &StateRecord| r.key[0] != kind;
    let last_head = records.last().expect("a head").clone();
    let change_all = |records: &mut Vec<StateRecord>, value: &[u8]| {
        records.iter_mut().for_each(|r| r.value = Some(value.to_vec()));
    };
    type Change<'c> = &'c dyn Fn(&mut Vec<StateRecord>);
    let changes: [(Change<'_>, &str); 7] = [
        (&|r| r.retain(of(b'n')), "0 are there"),
        (&|r| r.retain(|r| r.key != last_head.key), "59 are there"),
        (&|r| r[0].key = b"x".to_vec(), "unknown key"),
        (&|r| change_all(r, &[9]), "format 9"),
        (&|r| change_all(r, &[]), "empty"),
        (&|r| r.extend(ahead.clone()), "record 9"),
        (&|r| r.extend(at_3.clone()), "from 2 on"),
    ];
    for (change, expect) in changes {
        let mut changed = records.clone();
        change(&mut changed);
        let Restored { mut fold, replay, wrong } = restored(&d.rules, &changed);
        let wrong = wrong.map(|w| w.to_string()).unwrap_or_default();
        assert!(wrong.contains(expect), "{wrong}");
        assert_eq!((fold.groups(), replay), (0, None));
        // What is of no use does not come up again.
        let mended = [changed, written(&mut fold, 2)].concat();
        let Restored { fold, wrong, .. } = restored(&d.rules, &mended);
        assert_eq!((fold.groups(), wrong), (0, None), "{expect}");
    }
}

#[test]
fn a_chain_may_be_as_deep_as_the_limit_and_no_deeper() {
    let chain = |length: usize| -> String {
        // The last is written first, so that each needs a round of its own.
        let one = |i: usize| {
            let below = if i == 0 { "a".to_owned() } else { format!("c{}", i - 1) };
            rule(&format!("c{i}"), "event_count", "condition: {gte: 1}")
                .replace("rules: [a, b]", &format!("rules: [{below}]"))
        };
        (0..length).rev().map(one).collect()
    };
    let mut d = Driver::new(&chain(CORRELATION_DEPTH_MAX), FoldOptions::default());
    d.event("a", 0.0, "ann", "");
    d.fold.finish(&mut d.found);
    assert_eq!(d.found.len(), CORRELATION_DEPTH_MAX, "each of them fires");
    let file: Arc<str> = "r.yml".into();
    let text = format!("{BASES}{}", chain(CORRELATION_DEPTH_MAX + 2));
    let (rules, found) = RuleSet::compile([(&file, text.as_str())]);
    assert_eq!(rules.correlations.len(), CORRELATION_DEPTH_MAX);
    let errors = || found.iter().filter(|d| d.severity == Severity::Error);
    let deep = errors().filter(|d| d.to_string().contains("deeper than 128")).count();
    assert_eq!((deep, errors().count()), (1, 2), "{found:#?}");
}
