//! What one happening costs a window, and what one group weighs: many groups, uniform and Zipf.
//!
//! ```sh
//! cargo bench --no-default-features --bench window            # 1 M groups
//! cargo bench --no-default-features --bench window -- --all   # 10 k to 10 M groups
//! ```
//!
//! What is measured is the keyed store as the second stage uses it: find the group by its values, let its
//! window take the happening, end the groups whose time is over; so many at a time as it brings near together.
//! Each figure is of a process of its own, by the clock, and by how much it grew (resident).
//! Groups have names as users have; time goes on so that a group sees three happenings in a timespan on
//! average, if all are equally likely.

#![allow(clippy::disallowed_methods, reason = "a bench starts itself again")]

use std::collections::{HashMap, VecDeque};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use tikv_jemallocator::Jemalloc;
use watchfire::correlate::{Bounds, PREFETCHED, Spec, Store, Wanted};
use watchfire::decimal::Decimal;
use watchfire::ids::Coordinate;
use watchfire::time::Timestamp;
use watchfire::window::{Bound, Bounds as Limits, Happening, Place, Places, ValueHash, WindowKind};

/// As in the program.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const TIMESPAN: i64 = 300_000_000;
/// Happenings of a group within a timespan, on average.
const DENSITY: i64 = 3;
/// Happenings of a group in all; a quarter of them come before the clock starts.
const ROUNDS: u64 = 8;
const RUNS: usize = 5;
/// From so many groups on, a run takes the better part of a minute: one is enough.
const GROUPS_MANY: u64 = 10_000_000;
/// What a count is the plain way: values of groups → times of events, in a map of the standard library,
/// without evidence, and nothing ever ends.
const PLAIN: &str = "event_count, plain";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [one, kind, groups, zipf] = args.as_slice()
        && one == "--one"
    {
        let groups = groups.parse().expect("a number of groups");
        let measured = match kind == PLAIN {
            true => plain(groups, zipf == "true"),
            false => measure(kind, groups, zipf == "true"),
        };
        return println!("{measured}");
    }
    let sizes: &[u64] = match args.iter().any(|a| a == "--all") {
        true => &[10_000, 100_000, 1_000_000, 10_000_000],
        false => &[1_000_000],
    };
    println!("| what | groups | keys | ns per happening (least, most) | bytes per group |");
    println!("|---|---|---|---|---|");
    for kind in ["event_count", "value_count", "value_sum", PLAIN] {
        for groups in sizes {
            for zipf in [false, true] {
                row(kind, *groups, zipf);
            }
        }
    }
}

/// One line of the table: the median of some runs, or one.
fn row(kind: &str, groups: u64, zipf: bool) {
    let program = std::env::current_exe().expect("its own path");
    let run = |_| {
        let args = ["--one", kind, &groups.to_string(), &zipf.to_string()];
        let output = Command::new(&program).args(args).output().expect("itself");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut numbers = text.split_whitespace().map(|n| n.parse::<f64>().expect("a number"));
        (numbers.next().expect("time"), numbers.next().expect("bytes"))
    };
    let count = if groups < GROUPS_MANY { RUNS } else { 1 };
    let mut runs: Vec<(f64, f64)> = (0..count).map(run).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (time, bytes) = runs[count / 2];
    let (least, most) = (runs[0].0, runs[count - 1].0);
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

/// What happens to a group, made before the clock is looked at.
struct Next {
    key: Vec<u8>,
    what: Happening,
    value: usize,
}

/// Nanoseconds per happening and bytes per group.
fn measure(kind: &str, groups: u64, zipf: bool) -> String {
    let spec = [Spec { kind: kind_of(kind), timespan: TIMESPAN }];
    let bounds = Bounds { rule_groups: usize::MAX, groups: usize::MAX, bytes: usize::MAX };
    let values: Vec<String> = (0..64).map(|n| format!("10.0.0.{n}")).collect();
    let mut places = Places::default();
    let mut random = Random(88_172_645_463_325_252);
    let topic: Arc<str> = "events".into();
    let at = |offset| Coordinate { topic: Arc::clone(&topic), partition: 0, offset };
    let what = Happening::plain(Timestamp(0), places.place(&at(0)), 0);
    let mut batch: Vec<Next> =
        (0..PREFETCHED).map(|_| Next { key: Vec::new(), what, value: 0 }).collect();
    let mut store = Store::new(1, 0);
    let (total, before) = (groups * ROUNDS / PREFETCHED as u64, resident());
    let (mut nanos, mut fired) = (0, 0u64);
    for n in 0..total {
        for (i, next) in batch.iter_mut().enumerate() {
            let number = n * PREFETCHED as u64 + i as u64;
            random.fill(next, groups, zipf, number);
            next.what.at = places.place(&at(number as i64));
        }
        let started = on_core();
        let mut wanted = [Wanted::new(0, 0); PREFETCHED];
        for (wanted, next) in wanted.iter_mut().zip(&batch) {
            wanted.hash = store.keyed(0, &next.key).hash;
        }
        store.prefetch(&mut wanted);
        for (next, wanted) in batch.iter().zip(wanted) {
            let key = wanted.keyed(&next.key);
            let mut what = next.what;
            match kind {
                "value_count" => what.value = Some(ValueHash::of([values[next.value].as_bytes()])),
                "value_sum" => what.number = Some(Decimal::from(next.value as u64)),
                _ => {}
            }
            let applied = store.apply(0, &spec, &bounds, key, &what, || 0).expect("room");
            fired += u64::from(applied.change.holds);
        }
        while store.end_before(batch[0].what.time, &spec).is_some() {}
        if n >= total / 4 {
            nanos += on_core() - started;
        }
    }
    let nanos = nanos as f64 / ((total - total / 4) * PREFETCHED as u64) as f64;
    // What the process has beside its groups is a few hundred kilobytes.
    let bytes = (resident() - before) as f64 / store.used().0.max(1) as f64;
    format!("{nanos} {bytes} {} {fired}", store.used().1 / store.used().0.max(1))
}

/// The same events the plain way.
fn plain(groups: u64, zipf: bool) -> String {
    let mut random = Random(88_172_645_463_325_252);
    let what = Happening::plain(Timestamp(0), Place::UNKNOWN, 0);
    let mut next = Next { key: Vec::new(), what, value: 0 };
    let mut all: HashMap<Vec<String>, VecDeque<i64>> = HashMap::new();
    let (total, before) = (groups * ROUNDS, resident());
    let (mut nanos, mut fired) = (0, 0u64);
    for n in 0..total {
        random.fill(&mut next, groups, zipf, n);
        let started = if n % PREFETCHED as u64 == 0 { on_core() } else { 0 };
        let key = vec![String::from_utf8_lossy(&next.key[1..]).into_owned()];
        let times = all.entry(key).or_default();
        let now = next.what.time.0;
        times.push_back(now);
        while times.front().is_some_and(|t| now - t > TIMESPAN) {
            times.pop_front();
        }
        fired += u64::from(times.len() >= 10);
        if started > 0 && n >= total / 4 {
            nanos += on_core() - started;
        }
    }
    let nanos = nanos as f64 / (total - total / 4) as f64 * PREFETCHED as f64;
    let bytes = (resident() - before) as f64 / all.len().max(1) as f64;
    format!("{nanos} {bytes} 0 {fired}")
}

/// Xorshift* (Marsaglia, 2003; Vigna, 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fill(&mut self, next: &mut Next, groups: u64, zipf: bool, n: u64) {
        let random = self.next();
        let group = match zipf {
            true => (groups as f64).powf((random >> 11) as f64 / (1u64 << 53) as f64) as u64,
            false => random % groups,
        };
        name(group, &mut next.key);
        next.value = (self.next() >> 58) as usize;
        let micros = i128::from(n) * i128::from(TIMESPAN / DENSITY) / i128::from(groups);
        next.what.time = Timestamp(1_700_000_000_000_000 + micros as i64);
    }
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

/// Nanoseconds since some moment. Of the runs the median counts, so that a thread which had to wait for a
/// core does not.
fn on_core() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Bytes resident.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("pages");
    pages * 4096
}
