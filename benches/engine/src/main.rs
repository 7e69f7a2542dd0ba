//! Instructions per event, as a gate: a count does not move when the machine is busy.
//!
//! `scripts/instructions` builds and runs this. Each phase runs under Valgrind twice, with one pass
//! over the events and with three; half the difference is what a pass costs, so start, rules and the
//! making of events cancel out. Valgrind knows no AVX-512, so what is counted is the AVX2 code.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::thread;

use engine_benches::{Kind, decoder, events, filter, matches, rules};
use serde::{Deserialize, Serialize};
use watchfire::time::Timestamp;

const EVENTS: usize = 2000;
const PASSES: [usize; 2] = [1, 3];
/// How far a count may move from the blessed one.
const CHANGE_MAX: f64 = 0.05;
const PHASES: [&str; 4] = ["decode_auth", "decode_windows", "filter_auth", "filter_windows"];
type Counts = BTreeMap<String, f64>;

/// What is committed.
#[derive(Serialize, Deserialize)]
struct Blessed {
    /// Another compiler makes other code.
    rustc: String,
    /// Another processor runs other code: what the engine chooses at run time.
    simd: String,
    /// Instructions per event.
    instructions: Counts,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["run", phase, passes] => run(phase, passes),
        [] => gate(false),
        ["--bless"] => gate(true),
        _ => Err("usage: instructions [--bless] | instructions run PHASE PASSES".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The work that is counted.
fn run(phase: &str, passes: &str) -> Result<(), String> {
    let passes: usize = passes.parse().map_err(|e| format!("{passes}: {e}"))?;
    let (what, kind) = match phase.split_once('_') {
        Some((what, "auth")) => (what, Kind::Auth),
        Some((what, "windows")) => (what, Kind::Windows),
        _ => return Err(format!("no phase {phase}, there are {PHASES:?}")),
    };
    let events = events(kind, EVENTS);
    match what {
        "decode" => {
            let decoder = decoder();
            for _ in 0..passes {
                for event in &events {
                    black_box(
                        decoder.decode(Some(event), Timestamp(0)).map_err(|e| e.to_string())?,
                    );
                }
            }
        }
        _ => {
            let mut filter = filter(&rules());
            let found: Vec<usize> = (0..passes).map(|_| matches(&mut filter, &events)).collect();
            println!("{phase}: {} matches", found[0]);
        }
    }
    Ok(())
}

fn gate(bless: bool) -> Result<(), String> {
    let found = Blessed { rustc: rustc(), simd: simd().into(), instructions: counts()? };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../instructions.json");
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str::<Blessed>(&text).map_err(|e| e.to_string())?),
        Err(_) if bless => None,
        Err(e) => return Err(format!("{}: {e}; scripts/instructions --bless", path.display())),
    };
    let moved = report(&found, before.as_ref());
    if bless {
        let text = serde_json::to_string_pretty(&found).map_err(|e| e.to_string())? + "\n";
        return fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
    }
    let Some(before) = before else { return Ok(()) };
    if (&before.rustc, &before.simd) != (&found.rustc, &found.simd) {
        println!(
            "NOT HELD AGAINST benches/instructions.json: it is of {} with {}, this is {} with {}",
            before.rustc, before.simd, found.rustc, found.simd
        );
        return Ok(());
    }
    match moved {
        [0, 0] => Ok(()),
        [0, _] => {
            println!("fewer than blessed: scripts/instructions --bless keeps the gain");
            Ok(())
        }
        [more, _] => Err(format!(
            "{more} phases take over {:.0} % more than blessed; if that is meant: \
             scripts/instructions --bless",
            CHANGE_MAX * 100.0
        )),
    }
}

/// Prints the counts beside the blessed ones; how many phases grew, and how many shrank, too much.
fn report(found: &Blessed, before: Option<&Blessed>) -> [usize; 2] {
    let mut moved = [0; 2];
    println!("instructions per event, {}, {}", found.rustc, found.simd);
    for (phase, count) in &found.instructions {
        let old = before.and_then(|b| b.instructions.get(phase));
        let change = old.map(|old| count / old - 1.0);
        // A phase that was never blessed has grown from nothing.
        let mark = match change {
            Some(change) if change < -CHANGE_MAX => 1,
            Some(change) if change <= CHANGE_MAX => 2,
            _ => 0,
        };
        if let Some(count) = moved.get_mut(mark) {
            *count += 1;
        }
        let change = change.map_or("new".into(), |c| format!("{:+.1} %", c * 100.0));
        println!("  {phase:<16} {count:>10.0}  {change:>8}  {}", ["MORE", "fewer", ""][mark]);
    }
    moved
}

/// Instructions per event of every phase. Two at a time: counts do not mind company.
fn counts() -> Result<Counts, String> {
    let mut counts = Counts::new();
    for pair in PHASES.chunks(2) {
        let jobs: Vec<_> = pair.iter().map(|phase| thread::spawn(|| per_event(phase))).collect();
        for (phase, job) in pair.iter().zip(jobs) {
            let count = job.join().map_err(|_| format!("{phase} panicked"))??;
            counts.insert((*phase).to_owned(), count);
        }
    }
    Ok(counts)
}

fn per_event(phase: &str) -> Result<f64, String> {
    let [few, many] = PASSES.map(|passes| instructions(phase, passes));
    let passes = (PASSES[1] - PASSES[0]) * EVENTS;
    Ok(((many? - few?) / passes as f64).round())
}

/// What Valgrind counts for one run of this program.
fn instructions(phase: &str, passes: usize) -> Result<f64, String> {
    let me = env::current_exe().map_err(|e| e.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    let output = valgrind.arg(me).args(["run", phase, &passes.to_string()]).output();
    let Output { status, stderr, .. } = output.map_err(|e| format!("valgrind: {e}"))?;
    let said = String::from_utf8_lossy(&stderr);
    // ==123== I   refs:      1,234,567
    let count = said.lines().find_map(|l| Some(l.split_once("refs:")?.1.trim().replace(',', "")));
    match count.and_then(|c| c.parse().ok()) {
        Some(count) if status.success() => Ok(count),
        _ => Err(format!("{phase}: valgrind said {said}")),
    }
}

/// The compiler of this build, which scripts/instructions is about to use again.
fn rustc() -> String {
    let compiler = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let output = Command::new(compiler).arg("--version").output();
    output.map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// The widest instructions that Valgrind lets the engine have.
fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        return "AVX2";
    }
    env::consts::ARCH
}
