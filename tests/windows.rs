//! Correlations against a slow, obvious oracle: sort everything, look at every window.
//!
//! Random events of a few groups, spread over partitions, in any order that keeps each partition within
//! its lateness, with the watermark moved at random, matches sent twice, and the state written out in parts,
//! thrown away, and restored from those and the log in between. Whatever of that happens, the episodes are those of the oracle: which rule, which
//! group, from when to when, and how much it came to.
//!
//! A case is made from its seed alone. A failing one is made smaller and printed with its seed;
//! `WATCHFIRE_SEED=… cargo test --test windows` runs that one, `WATCHFIRE_CASES=…` so many of each kind.

#[path = "windows/case.rs"]
mod case;
#[path = "windows/engine.rs"]
mod engine;
#[path = "windows/oracle.rs"]
mod oracle;
#[path = "windows/rules.rs"]
mod rules;

use case::Case;
use rules::Set;

/// Cases of each set of rules.
const CASES: u64 = 9_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is wrong with a case, if anything.
fn wrong(set: &Set, case: &Case) -> Option<String> {
    let expect = oracle::episodes(set, &case.events);
    match engine::episodes(set, case) {
        Err(what) => Some(what),
        Ok(found) if found == expect => None,
        Ok(found) => {
            let less: Vec<_> = expect.difference(&found).collect();
            let more: Vec<_> = found.difference(&expect).collect();
            Some(format!("missing {less:#?}\ntoo much {more:#?}"))
        }
    }
}

/// Takes away events for as long as something stays wrong.
fn smaller(set: &Set, mut case: Case) -> Case {
    let mut at = 0;
    while at < case.events.len() {
        let mut less = case.clone();
        less.events.remove(at);
        if wrong(set, &less).is_some() { case = less } else { at += 1 }
    }
    case
}

fn run(name: &str, specs: fn() -> Vec<rules::Spec>) {
    let set = Set::new(name, specs());
    let one = number("WATCHFIRE_SEED");
    let count = number("WATCHFIRE_CASES").unwrap_or(CASES);
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    let mut episodes = 0;
    for seed in seeds {
        let case = Case::new(seed);
        if let Some(what) = wrong(&set, &case) {
            let case = smaller(&set, case);
            let what = wrong(&set, &case).unwrap_or(what);
            panic!("{name}, WATCHFIRE_SEED={seed}: {what}\n{case:#?}");
        }
        episodes += oracle::episodes(&set, &case.events).len() as u64;
    }
    println!("{name}: seeds 0..{count}, {episodes} episodes");
    assert!(one.is_some() || episodes > count / 4, "{episodes} episodes: too few to say anything");
}

macro_rules! sets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name), rules::$name);
            }
        )*

        /// All sets, by name.
        const SETS: &[(&str, fn() -> Vec<rules::Spec>)] =
            &[$((stringify!($name), rules::$name)),*];
    };
}

sets! {
    event_counts
    value_counts
    sums
    averages_and_percentiles
    temporal
    ordered
    tumbling
    sessions
    groups_without_a_value
    chains_of_counts
    chains_of_values_and_orders
    chains_of_complete_windows
}

#[test]
fn there_are_at_least_a_hundred_thousand_cases() {
    assert!(CASES * SETS.len() as u64 >= 100_000);
}
