//! The events of each lane as a file, made or unpacked once, and the rules.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::contender::count_lines;
use crate::generate::{Maker, RSIGMA_LANES, login};
use crate::seeded::Seeded;

const AUTH_EVENTS: usize = 1_500_000;
/// The corpus has 60,000 Windows events; a run over them once is too short to time.
const WINDOWS_REPEATS: usize = 20;

/// Where third-party events and rules are, if they are.
pub struct Corpora(Option<PathBuf>);

impl Corpora {
    /// Looks for them; says loudly when they are not there.
    pub fn find() -> Self {
        let given = std::env::var_os("WATCHFIRE_CORPORA").map(PathBuf::from);
        let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
        let folder = given.unwrap_or_else(usual);
        if folder.join("sigmahq/rules").is_dir() {
            return Self(Some(folder));
        }
        eprintln!(
            "NO CORPORA at {}: the lanes run with the few shipped rules, and win_mix does not run. \
             Such figures are not those of docs/benchmarks.md. Set WATCHFIRE_CORPORA.",
            folder.display()
        );
        Self(None)
    }

    /// The rules that are run: SigmaHQ's, else the shipped ones.
    pub fn rules(&self) -> PathBuf {
        let shipped = || Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
        self.0.as_ref().map_or_else(shipped, |folder| folder.join("sigmahq/rules"))
    }

    /// What those rules are called.
    pub fn rules_label(&self) -> String {
        let name = if self.0.is_some() { "SigmaHQ `rules/`" } else { "the shipped `rules/`" };
        format!("{name}, {} files", rule_files(&self.rules()).len())
    }

    /// Whether the rules are SigmaHQ's.
    pub fn are_there(&self) -> bool {
        self.0.is_some()
    }

    fn windows_events(&self) -> Option<PathBuf> {
        let path = self.0.as_ref()?.join("windows/win_mix.ndjson.zst");
        path.is_file().then_some(path)
    }

    /// The program that makes the auth events of the published comparison.
    fn auth_generator(&self) -> Option<PathBuf> {
        let path = self.0.as_ref()?.join("../bench/gen_auth.py");
        path.is_file().then_some(path)
    }
}

/// Every `.yml` below a folder, in the order of their paths.
pub fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(rule_files(&path)),
            false if path.extension().is_some_and(|e| e == "yml") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

enum Origin {
    /// Zstandard, this often over.
    Packed(PathBuf, usize),
    /// The program, of whose events the first are taken.
    Script(PathBuf),
    Made(u64, Maker),
}

/// A lane: a name, and where its events come from.
pub struct Lane {
    /// As the table names it.
    pub name: &'static str,
    /// What all its events are, where some do not name all three parts of their logsource: told to
    /// Watchfire, it keeps open what an event does not name, as RSigma does.
    product: Option<&'static str>,
    events: usize,
    origin: Origin,
}

/// A lane as a file.
pub struct Events {
    /// The lane.
    pub name: &'static str,
    /// One event a line.
    pub path: PathBuf,
    /// How many.
    pub count: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// See [`Lane`].
    pub product: Option<&'static str>,
}

/// All lanes for which there is data.
pub fn lanes(corpora: &Corpora) -> Vec<Lane> {
    let mut lanes = Vec::new();
    match corpora.windows_events() {
        Some(path) => lanes.push(Lane {
            name: "win_mix",
            product: Some("windows"),
            events: usize::MAX,
            origin: Origin::Packed(path, WINDOWS_REPEATS),
        }),
        None => eprintln!("SKIPPED: win_mix, no corpora"),
    }
    let origin = corpora.auth_generator().map_or(Origin::Made(9, login), Origin::Script);
    lanes.push(Lane { name: "auth_small", product: Some("linux"), events: AUTH_EVENTS, origin });
    lanes.extend(RSIGMA_LANES.map(|(name, events, seed, make)| Lane {
        name,
        product: None,
        events,
        origin: Origin::Made(seed, make),
    }));
    lanes
}

impl Lane {
    /// Makes the file, unless an earlier run has.
    pub fn prepare(&self, folder: &Path, thin: usize) -> anyhow::Result<Events> {
        let size = match self.origin {
            Origin::Packed(_, times) => format!("{times}x"),
            Origin::Script(_) | Origin::Made(..) => self.events.to_string(),
        };
        let path = folder.join(format!("{}-{size}-{thin}.ndjson", self.name));
        if !path.is_file() {
            eprintln!("making {}", path.display());
            let part = path.with_extension("part");
            self.write(&part, thin).with_context(|| part.display().to_string())?;
            fs::rename(&part, &path)?;
        }
        let bytes = fs::metadata(&path)?.len();
        let count = count_lines(&mut File::open(&path)?)?;
        ensure!(count > 0, "{} is empty", path.display());
        Ok(Events { name: self.name, path, count, bytes, product: self.product })
    }

    fn write(&self, path: &Path, thin: usize) -> anyhow::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        match &self.origin {
            Origin::Packed(packed, times) => {
                for _ in 0..*times {
                    let mut zstd = Command::new("zstd");
                    zstd.arg("-dcq").arg(packed).stdout(Stdio::piped());
                    let mut child = zstd.spawn().context("zstd, which unpacks the events")?;
                    let lines = child.stdout.take().context("its output")?;
                    copy(lines, &mut out, self.events, thin)?;
                    ensure!(child.wait()?.success(), "zstd failed on {}", packed.display());
                }
            }
            Origin::Script(script) => {
                let whole = path.with_extension("whole");
                let mut python = Command::new("python3");
                python.arg(script).arg(&whole).args(["2000000", "42", "0.01"]);
                let status = python.status().context("python3, which makes the auth events")?;
                ensure!(status.success(), "{} failed", script.display());
                copy(File::open(&whole)?, &mut out, self.events, thin)?;
                fs::remove_file(&whole)?;
            }
            Origin::Made(seed, make) => {
                let mut random = Seeded::new(*seed);
                for n in 0..self.events / thin {
                    serde_json::to_writer(&mut out, &make(&mut random, n))?;
                    out.write_all(b"\n")?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

/// Copies one of `thin` lines among the first ones.
fn copy(lines: impl Read, out: &mut impl Write, first: usize, thin: usize) -> anyhow::Result<()> {
    for (n, line) in BufReader::new(lines).split(b'\n').take(first).enumerate() {
        let line = line?;
        if n % thin == 0 {
            out.write_all(&line)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}
