//! What is compared: command lines, and what one run of them used.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use wait4::Wait4;

use crate::data::{Corpora, Events};

/// Which rules an engine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Those whose logsource fits the event.
    Routed,
    /// All.
    Unrouted,
}

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contender {
    /// `watchfire eval --output matches` on so many threads.
    Watchfire(u8),
    /// `watchfire eval --output alerts` on one thread.
    Alerts,
    /// `rsigma engine eval` on one thread.
    Rsigma,
    /// `serde_json` into a `Value`.
    SerdeJson,
    /// `simd-json` into a tape.
    SimdJson,
}

/// Seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Of processors, user and system.
    pub cpu: f64,
    /// On the clock.
    pub wall: f64,
}

impl Sub for Seconds {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self { cpu: self.cpu - less.cpu, wall: self.wall - less.wall }
    }
}

/// What one run used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// The whole process.
    pub whole: Seconds,
    /// What of that was until rules were loaded, if it says.
    pub load: Option<Seconds>,
    /// Most memory at once, bytes.
    pub rss: u64,
    /// Lines written.
    pub lines: u64,
}

/// Where the contenders are.
#[derive(Clone)]
pub struct Contenders {
    rsigma: Option<PathBuf>,
    rules: PathBuf,
    out: PathBuf,
    empty: PathBuf,
    /// Whether `watchfire eval` can run every rule on every event.
    pub unrouted: bool,
}

const WATCHFIRE: &str = env!("CARGO_BIN_EXE_watchfire");

impl Contenders {
    /// Looks for them; says loudly what is not there.
    pub fn find(corpora: &Corpora, folder: &Path) -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let rsigma = std::env::split_paths(&path).map(|p| p.join("rsigma")).find(|p| p.is_file());
        if rsigma.is_none() {
            eprintln!(
                "NO RSIGMA on the PATH, so no ratios: \
                 cargo install rsigma --version 0.26.0 --ignore-rust-version"
            );
        }
        let help = Command::new(WATCHFIRE).args(["eval", "--help"]).output()?;
        let unrouted = String::from_utf8_lossy(&help.stdout).contains("--no-routing");
        if !unrouted {
            eprintln!("SKIPPED: unrouted lanes, this `watchfire eval` has no --no-routing");
        }
        let empty = folder.join("empty.ndjson");
        File::create(&empty)?;
        Ok(Self { rsigma, rules: corpora.rules(), out: folder.join("out"), empty, unrouted })
    }

    /// The same contenders with other rules.
    pub fn with_rules(&self, rules: PathBuf) -> Self {
        Self { rules, ..self.clone() }
    }

    /// How many rules Watchfire takes.
    pub fn rules_loaded(&self) -> anyhow::Result<usize> {
        let mut command = Command::new(WATCHFIRE);
        command.args(["eval", "--stats", "--rules"]).arg(&self.rules).arg(&self.empty);
        let said = command.output()?.stderr;
        let stats = stats(&String::from_utf8_lossy(&said)).context("--stats")?;
        Ok(stats["rules_loaded"].as_u64().context("rules_loaded")? as usize)
    }

    /// What `rsigma` says it is.
    pub fn rsigma_version(&self) -> Option<String> {
        let output = Command::new(self.rsigma.as_ref()?).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.lines().next()?.trim().to_owned())
    }

    /// Runs one over the events, without input when `events` are not to be read.
    pub fn run(
        &self,
        who: Contender,
        mode: Mode,
        events: &Events,
        empty: bool,
    ) -> anyhow::Result<Used> {
        let input = if empty { &self.empty } else { &events.path };
        let mut command = match who {
            Contender::Watchfire(threads) => self.watchfire(mode, events, threads, "matches"),
            Contender::Alerts => self.watchfire(mode, events, 1, "alerts"),
            Contender::Rsigma => self.rsigma(mode)?,
            Contender::SerdeJson => yardstick("serde_json")?,
            Contender::SimdJson => yardstick("simd-json")?,
        };
        match who {
            Contender::Rsigma => command.stdin(File::open(input)?),
            _ => command.arg(input).stdin(Stdio::null()),
        };
        self.account(&mut command).with_context(|| format!("{who:?} on {}", events.name))
    }

    fn watchfire(&self, mode: Mode, events: &Events, threads: u8, output: &str) -> Command {
        let mut command = Command::new(WATCHFIRE);
        command.args(["eval", "--stats", "--table", "none", "--output", output, "--threads"]);
        command.arg(threads.to_string()).arg("--rules").arg(&self.rules);
        match mode {
            Mode::Routed => {
                let source = events.product.map(|p| format!("--logsource=product={p}"));
                command.args(source)
            }
            Mode::Unrouted => command.arg("--no-routing"),
        };
        command
    }

    fn rsigma(&self, mode: Mode) -> anyhow::Result<Command> {
        let mut command = Command::new(self.rsigma.as_ref().context("no rsigma")?);
        command.env("RAYON_NUM_THREADS", "1").args(["engine", "eval", "--quiet"]);
        command.args(["--input-format", "json", "--output-format", "ndjson", "--rules"]);
        command.arg(&self.rules);
        if mode == Mode::Routed {
            command.arg("--logsource-routing");
        }
        Ok(command)
    }

    /// Whether RSigma is there.
    pub fn has_rsigma(&self) -> bool {
        self.rsigma.is_some()
    }

    /// Runs a command with its output to a file, and counts what it wrote.
    fn account(&self, command: &mut Command) -> anyhow::Result<Used> {
        let mut out =
            File::options().create(true).truncate(true).read(true).write(true).open(&self.out)?;
        let mut errors = tempfile::tempfile()?;
        let began = Instant::now();
        let child = command.stdout(out.try_clone()?).stderr(errors.try_clone()?).spawn()?;
        let used = child.wait4()?;
        let wall = began.elapsed();
        let mut said = String::new();
        errors.rewind()?;
        errors.read_to_string(&mut said)?;
        ensure!(used.status.success(), "{}: {said}", used.status);
        out.rewind()?;
        let cpu = used.rusage.utime + used.rusage.stime;
        let whole = Seconds { cpu: cpu.as_secs_f64(), wall: wall.as_secs_f64() };
        let stats = stats(&said).unwrap_or_default();
        let load = stats["load_cpu_seconds"].as_f64().zip(stats["load_seconds"].as_f64());
        let load = load.map(|(cpu, wall)| Seconds { cpu, wall });
        Ok(Used { whole, load, rss: used.rusage.maxrss, lines: count_lines(&mut out)? })
    }
}

/// The last line of what a program said on standard error: what `--stats` prints.
fn stats(said: &str) -> Option<serde_json::Value> {
    serde_json::from_str(said.lines().last()?).ok()
}

fn yardstick(parser: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--yardstick", parser]);
    Ok(command)
}

/// In blocks: what this process holds at its peak, its children are said to have held too.
pub fn count_lines(input: &mut impl Read) -> anyhow::Result<u64> {
    let (mut block, mut lines) = (vec![0; 1 << 16], 0);
    loop {
        match input.read(&mut block)? {
            0 => return Ok(lines),
            n => lines += memchr::memchr_iter(b'\n', &block[..n]).count() as u64,
        }
    }
}
