//! Both stages under every kind of fault, in every order of events: the workers as they are, over a Kafka
//! that exists in one thread and in no real time.
//!
//! ```text
//!   seed ─▶ plan (what happens) ─▶ world (broker, clients, workers, clocks) ─▶ oracle (what must have come of it)
//! ```
//!
//! A plan is made from its seed alone. A failing one is made smaller and printed with its seed.
//! `WATCHFIRE_SIM_SEED=n cargo test --test sim` tells what happens under that one, `WATCHFIRE_SIM_SEEDS=n`
//! runs so many, from `WATCHFIRE_SIM_FROM` on. So that an oracle that is content with everything would be
//! noticed, each fault of a list is built in once, and must be found.

#[path = "sim/assignor.rs"]
mod assignor;
#[path = "sim/batch.rs"]
mod batch;
#[path = "sim/bus.rs"]
mod bus;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/mutant.rs"]
mod mutant;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/setup.rs"]
mod setup;
#[path = "sim/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mutant::{MUTATIONS, Mutation};
use plan::Plan;
use world::Tally;

/// Seeds of a run.
const SEEDS: u64 = 10_000;
/// Seeds within which each mutation must be caught.
const MUTANT_SEEDS: u64 = 10_000;
/// Threads; there may be fewer cores.
const THREADS: u64 = 2;

/// What must have happened at least once in a run of so many seeds, or it was not tried.
const HAPPENINGS: [&str; 34] = [
    "a clock was set",
    "a commit of an old generation",
    "a fatal error",
    "a partition more",
    "a slow call",
    "aborted",
    "an abort that fails",
    "an abortable error",
    "answer lost, applied",
    "answer lost, applied, asked again",
    "answer lost, not applied",
    "answer lost, not applied, asked again",
    "assigned",
    "bounds not to be had",
    "built anew",
    "coordinator away",
    "ended for another of its name",
    "fenced",
    "killed",
    "killed in a call",
    "late",
    "lost",
    "lost records",
    "not delivered",
    "paused",
    "positions not to be had",
    "records deleted",
    "revoked",
    "sent twice",
    "stopped in a call",
    "stopped in order",
    "two of one name",
    "waited for open positions",
    "worked on during a commit",
];
/// Seeds of which that is asked.
const HAPPENING_SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A panic is a violation, too.
fn run(plan: &Plan, mutation: Option<Mutation>, is_told: bool) -> (Option<String>, Tally) {
    let ran = catch_unwind(AssertUnwindSafe(|| world::run(plan, mutation, is_told)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        (Some(format!("panicked: {text}")), Tally::new())
    })
}

/// Runs seeds on all threads until one is wrong; gives that one and what happened in all.
fn first_wrong(
    seeds: std::ops::Range<u64>,
    mutation: Option<Mutation>,
) -> (Option<(u64, String)>, Tally) {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((None::<(u64, String)>, Tally::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut all = Tally::new();
                while found.lock().unwrap().0.is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let (wrong, tally) = run(&Plan::of(seed), mutation, false);
                    tally.into_iter().for_each(|(what, n)| *all.entry(what).or_default() += n);
                    if let Some(what) = wrong {
                        let first = &mut found.lock().unwrap().0;
                        if first.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *first = Some((seed, what));
                        }
                    }
                }
                let merged = &mut found.lock().unwrap().1;
                all.into_iter().for_each(|(what, n)| *merged.entry(what).or_default() += n);
            });
        }
    });
    found.into_inner().unwrap()
}

/// Makes a failing plan smaller and tells all about it.
fn explain(seed: u64, what: &str) -> ! {
    let plan = Plan::of(seed);
    // Still wrong in the same way: the first word says in which.
    let way = |what: &str| what.split(' ').next().map(str::to_owned);
    let alike =
        |plan: &Plan| run(plan, None, false).0.is_some_and(|other| way(&other) == way(what));
    let small = plan::shrink(&plan, alike);
    let (wrong, _) = run(&small, None, true);
    let actions: Vec<String> = small.actions.iter().map(|a| format!("  {a:?}")).collect();
    panic!(
        "seed {seed}: {what}\n{} of {} actions are left, of which {} are faults:\n{}\n{}",
        small.actions.len(),
        plan.actions.len(),
        small.faults(),
        actions.join("\n"),
        wrong.unwrap_or_default()
    );
}

#[test]
fn whatever_happens_every_record_counts_once() {
    if let Some(seed) = number("WATCHFIRE_SIM_SEED") {
        let (wrong, tally) = run(&Plan::of(seed), None, true);
        println!("{tally:#?}");
        match wrong {
            Some(what) => explain(seed, &what),
            None => return,
        }
    }
    let seeds = number("WATCHFIRE_SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("WATCHFIRE_SIM_FROM").unwrap_or(0);
    let (wrong, tally) = first_wrong(from..from + seeds, None);
    if let Some((seed, what)) = wrong {
        explain(seed, &what);
    }
    println!("{seeds} seeds: {tally:#?}");
    let never = HAPPENINGS.iter().filter(|what| tally.get(**what).is_none_or(|n| *n == 0));
    let never: Vec<_> = never.filter(|_| seeds >= HAPPENING_SEEDS).collect();
    assert!(never.is_empty(), "did not happen: {never:?}");
}

#[test]
fn every_mutation_is_caught() {
    let mut missed = Vec::new();
    for mutation in MUTATIONS {
        match first_wrong(0..MUTANT_SEEDS, Some(mutation)).0 {
            Some((seed, what)) => {
                let without = run(&Plan::of(seed), None, false).0;
                assert_eq!(without, None, "seed {seed} is wrong without a mutation, too");
                println!("{mutation:?}: seed {seed}: {}", what.lines().next().unwrap_or(""))
            }
            None => missed.push(mutation),
        }
    }
    assert!(missed.is_empty(), "not noticed within {MUTANT_SEEDS} seeds: {missed:?}");
}
