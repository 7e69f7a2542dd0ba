//! What one happening costs a window, and what one group weighs: many groups, uniform and Zipf.
//!
//! ```sh
//! cargo bench --no-default-features --bench window            # 1 M groups
//! cargo bench --no-default-features --bench window -- --all   # 10 k to 10 M groups
//! ```
//!
//! What is measured is the keyed store as the second stage uses it: find the group by its values, let its
//! window take the happening, end the groups whose time is over. Each figure is of a process of its own,
//! which says how long it was on a core (`/proc/thread-self/schedstat`) and by how much it grew (resident).
//! Groups have names as users have; time goes on so that a group sees three happenings in a timespan on
//! average, if all are equally likely.

#![allow(clippy::disallowed_methods, reason = "a bench starts itself again")]

use std::process::Command;

use watchfire::correlate::{Bounds, Spec, Store};
use watchfire::decimal::Decimal;
use watchfire::time::Timestamp;
use watchfire::window::{Bound, Bounds as Limits, Happening, Places, ValueHash, WindowKind};

const TIMESPAN: i64 = 300_000_000;
/// Happenings of a group within a timespan, on average.
const DENSITY: i64 = 3;
/// Happenings of a group in all; a quarter of them come before the clock starts.
const ROUNDS: u64 = 8;
/// Happenings between two looks at what has ended.
const BATCH: u64 = 64;
const RUNS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [one, kind, groups, zipf] = args.as_slice()
        && one == "--one"
    {
        let groups = groups.parse().expect("a number of groups");
        return println!("{}", measure(kind, groups, zipf == "true"));
    }
    let sizes: &[u64] = match args.iter().any(|a| a == "--all") {
        true => &[10_000, 100_000, 1_000_000, 10_000_000],
        false => &[1_000_000],
    };
    println!("| what | groups | keys | ns per happening (least, most) | bytes per group |");
    println!("|---|---|---|---|---|");
    for kind in ["event_count", "value_count", "value_sum"] {
        for groups in sizes {
            for zipf in [false, true] {
                row(kind, *groups, zipf);
            }
        }
    }
}

/// One line of the table: the median of some runs.
fn row(kind: &str, groups: u64, zipf: bool) {
    let program = std::env::current_exe().expect("its own path");
    let run = |_| {
        let args = ["--one", kind, &groups.to_string(), &zipf.to_string()];
        let output = Command::new(&program).args(args).output().expect("itself");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut numbers = text.split_whitespace().map(|n| n.parse::<f64>().expect("a number"));
        (numbers.next().expect("time"), numbers.next().expect("bytes"))
    };
    let mut runs: Vec<(f64, f64)> = (0..RUNS).map(run).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (time, bytes) = runs[RUNS / 2];
    let (least, most) = (runs[0].0, runs[RUNS - 1].0);
    let keys = if zipf { "Zipf" } else { "uniform" };
    println!("| {kind} | {groups} | {keys} | {time:.0} ({least:.0}, {most:.0}) | {bytes:.0} |");
}

fn kind_of(name: &str) -> WindowKind {
    match name {
        "event_count" => WindowKind::Count { enough: 10 },
        "value_count" => WindowKind::Distinct { enough: 20 },
        _ => WindowKind::Sum(Limits(vec![(Bound::AtLeast, Decimal::whole(1_000))])),
    }
}

/// Nanoseconds per happening and bytes per group.
fn measure(kind: &str, groups: u64, zipf: bool) -> String {
    let spec = [Spec { kind: kind_of(kind), timespan: TIMESPAN }];
    let bounds = Bounds { rule_groups: usize::MAX, groups: usize::MAX, bytes: usize::MAX };
    let mut store = Store::new(1);
    let mut places = Places::default();
    let mut at = watchfire::ids::Coordinate { topic: "events".into(), partition: 0, offset: 0 };
    let mut seed = 88_172_645_463_325_252u64;
    let mut key = Vec::new();
    let values: Vec<String> = (0..64).map(|n| format!("10.0.0.{n}")).collect();
    let (total, before) = (groups * ROUNDS, resident());
    let (mut started, mut fired) = (0, 0u64);
    for n in 0..total {
        if n == total / 4 {
            started = on_core();
        }
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let number = match zipf {
            true => (groups as f64).powf((random >> 11) as f64 / (1u64 << 53) as f64) as u64,
            false => random % groups,
        };
        name(number, &mut key);
        let micros = n as i128 * i128::from(TIMESPAN / DENSITY) / i128::from(groups);
        let time = Timestamp(1_700_000_000_000_000 + micros as i64);
        at.offset = n as i64;
        let mut what = Happening::plain(time, places.place(&at), 0);
        match kind {
            "value_count" => what.value = Some(ValueHash::of([&*values[(random >> 58) as usize]])),
            "value_sum" => what.number = Some(Decimal::from(random >> 58)),
            _ => {}
        }
        let applied = store.apply(0, &spec, &bounds, &key, &what).expect("room");
        fired += u64::from(applied.change.holds);
        if n % BATCH == 0 {
            while store.end_before(time, &spec).is_some() {}
        }
    }
    let nanos = (on_core() - started) as f64 / (total - total / 4) as f64;
    // What the process has beside its groups is a few hundred kilobytes.
    let bytes = (resident() - before) as f64 / store.used().0.max(1) as f64;
    assert!(fired < total, "{fired}");
    format!("{nanos} {bytes} {} {fired}", store.used().1 / store.used().0.max(1))
}

/// `user0000042`, with its length before it.
fn name(number: u64, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(b"\x0cuser0000000");
    let (mut rest, mut place) = (number, key.len());
    while rest > 0 && place > 5 {
        place -= 1;
        key[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Nanoseconds that this thread was on a core.
fn on_core() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

/// Bytes resident.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("pages");
    pages * 4096
}
