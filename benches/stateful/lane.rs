//! Sign-ins of an hour, and which users and addresses the rules are to name.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::seeded::Seeded;

const USERS: u64 = 100_000;
const ADDRESSES: u64 = 20_000;
const SPAN_MS: u64 = 3_600_000;
const TIMESPAN_MS: u64 = 300_000;

/// Attempts on one user from one address within two minutes.
const BRUTE_FORCES: u64 = 200;
/// One attempt on each of many users from one address within four minutes.
const SPRAYS: u64 = 100;

/// What a lane is made of.
pub struct Spec {
    pub name: &'static str,
    pub seed: u64,
    /// Share of sign-ins that fail, percent.
    pub failing: u64,
    /// Events come up to so late.
    pub disorder_ms: u64,
}

/// A lane, ready to be read.
pub struct Lane {
    pub name: &'static str,
    pub path: PathBuf,
    pub bytes: u64,
    /// The groups that the rules are to name.
    pub truth: BTreeSet<String>,
    pub disorder_ms: u64,
}

struct SignIn {
    at: u64,
    user: u64,
    address: String,
    failed: bool,
}

/// Makes a lane of so many events. A child of this process does it: what a process holds at its peak, its
/// children are said to have held, too.
pub fn prepare(spec: &Spec, events: usize, folder: &Path) -> anyhow::Result<Lane> {
    let path = folder.join("lane.ndjson");
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--events", &events.to_string(), "--make", spec.name]).arg(&path);
    ensure!(child.status()?.success(), "{child:?}");
    let truth = fs::read_to_string(truth_path(&path))?;
    Ok(Lane {
        name: spec.name,
        bytes: path.metadata()?.len(),
        path,
        truth: truth.lines().map(str::to_owned).collect(),
        disorder_ms: spec.disorder_ms,
    })
}

fn truth_path(path: &Path) -> PathBuf {
    path.with_extension("truth")
}

/// Writes a lane and, beside it, which groups the rules are to name.
pub fn make(spec: &Spec, events: usize, path: &Path) -> anyhow::Result<()> {
    let mut random = Seeded::new(spec.seed);
    let mut all = attacks(&mut random);
    while all.len() < events {
        // A few users and addresses are busier than the others.
        let user = skewed(&mut random, USERS);
        let address = skewed(&mut random, ADDRESSES);
        let address = format!("10.{}.{}.{}", address >> 8, address & 0xff, 1 + address % 250);
        let (at, failed) = (random.below(SPAN_MS), random.percent(spec.failing));
        all.push(SignIn { at, user, address, failed });
    }
    all.sort_by_key(|s| s.at);
    let groups: Vec<String> = truth(&all).into_iter().collect();
    fs::write(truth_path(path), groups.join("\n")).context("the truth")?;
    let mut arriving: Vec<(u64, &SignIn)> = Vec::with_capacity(all.len());
    for sign_in in &all {
        let late = if spec.disorder_ms > 0 { random.below(spec.disorder_ms) } else { 0 };
        arriving.push((sign_in.at + late, sign_in));
    }
    arriving.sort_by_key(|(arrival, _)| *arrival);
    let mut out = BufWriter::new(File::create(path)?);
    for (_, sign_in) in arriving {
        write(&mut out, sign_in, &mut random)?;
    }
    Ok(out.flush()?)
}

/// The smaller of three.
fn skewed(random: &mut Seeded, below: u64) -> u64 {
    (0..3).map(|_| random.below(below)).min().unwrap_or_default()
}

fn attacks(random: &mut Seeded) -> Vec<SignIn> {
    let mut all = Vec::new();
    for number in 0..BRUTE_FORCES {
        let (start, user) = (random.below(SPAN_MS - 120_000), random.below(USERS));
        for _ in 0..20 + random.below(41) {
            let address = format!("198.51.100.{}", 1 + number % 250);
            all.push(SignIn { at: start + random.below(120_000), user, address, failed: true });
        }
    }
    for number in 0..SPRAYS {
        let (start, first) = (random.below(SPAN_MS - 240_000), random.below(USERS));
        for step in 0..50 + random.below(251) {
            let (user, address) = ((first + 7 * step) % USERS, format!("203.0.113.{}", 1 + number));
            all.push(SignIn { at: start + random.below(240_000), user, address, failed: true });
        }
    }
    all
}

/// Every window tested, as plainly as can be.
fn truth(all: &[SignIn]) -> BTreeSet<String> {
    let mut groups: HashMap<String, VecDeque<(u64, u64)>> = HashMap::new();
    let mut truth = BTreeSet::new();
    for SignIn { at, user, address, .. } in all.iter().filter(|s| s.failed) {
        let name = format!("u{user:06}");
        let mut add = |group: &String| {
            let window = groups.entry(group.clone()).or_default();
            window.push_back((*at, *user));
            while window.front().is_some_and(|(first, _)| at - first > TIMESPAN_MS) {
                window.pop_front();
            }
            window.clone()
        };
        if add(&name).len() >= 10 {
            truth.insert(name);
        }
        let users: BTreeSet<u64> = add(address).iter().map(|(_, user)| *user).collect();
        if users.len() >= 20 {
            truth.insert(address.clone());
        }
    }
    truth
}

fn write(out: &mut impl Write, sign_in: &SignIn, random: &mut Seeded) -> std::io::Result<()> {
    let SignIn { at, user, address, failed } = sign_in;
    let (minute, second, ms) = (at / 60_000, at / 1000 % 60, at % 1000);
    let (host, pid, port) = (random.below(200), random.below(30_000), 1024 + random.below(64_000));
    let (outcome, verb) =
        if *failed { ("failure", "Failed password") } else { ("success", "Accepted publickey") };
    writeln!(
        out,
        "{{\"timestamp\":\"2026-01-01T00:{minute:02}:{second:02}.{ms:03}Z\",\"host\":\"host-{host:03}\",\
         \"product\":\"linux\",\"service\":\"sshd\",\"pid\":{pid},\"user\":\"u{user:06}\",\
         \"src_ip\":\"{address}\",\"src_port\":{port},\"outcome\":\"{outcome}\",\
         \"message\":\"{verb} for u{user:06} from {address} port {port} ssh2\"}}"
    )
}
