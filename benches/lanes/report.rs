//! The figures of a run, and the table made of them.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::contender::Mode;

/// Everything a run found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    /// Which rules ran.
    pub rules: String,
    /// What the peer says it is.
    pub rsigma: Option<String>,
    pub rounds: usize,
    /// One of so many events was taken; 1 in a measurement.
    pub thin: usize,
    pub lanes: Vec<Cell>,
    #[serde(default)]
    pub clocked: Vec<Clocked>,
    pub growth: Vec<Growth>,
}

/// Where it ran.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub rustc: String,
    /// The widest vector instructions of the processor.
    pub simd: String,
}

/// One lane in one mode.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cell {
    pub lane: String,
    pub mode: Mode,
    pub events: u64,
    pub bytes: u64,
    pub watchfire: Figure,
    /// For its matches: the time is too short to say anything.
    pub two_threads: Option<Figure>,
    pub alerts: Option<Figure>,
    pub rsigma: Option<Figure>,
    pub serde_json: Option<Figure>,
    pub simd_json: Option<Figure>,
}

/// What one contender used: medians, net of starting, loading and ending.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// User and system time per event.
    pub cpu_ns: f64,
    pub cpu_ns_least: f64,
    pub cpu_ns_most: f64,
    /// Time on the clock per event.
    pub wall_ns: f64,
    /// User and system time until rules were loaded; of who does not say, of a run over nothing.
    pub load_seconds: f64,
    /// Most memory at once.
    pub rss_bytes: u64,
    /// Lines written.
    pub matches: u64,
    /// Whether every run wrote as many.
    pub steady: bool,
}

/// A lane on the clock, with one thread and with two.
#[derive(Debug, Serialize, Deserialize)]
pub struct Clocked {
    pub lane: String,
    pub events: u64,
    pub bytes: u64,
    pub one: Figure,
    pub two: Figure,
}

/// A set of rules on the events of one lane.
#[derive(Debug, Serialize, Deserialize)]
pub struct Growth {
    pub rules: usize,
    pub mode: Mode,
    pub figure: Figure,
}

impl Machine {
    /// The machine that this runs on.
    pub fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|l| l.starts_with("model name"));
        let cpu = model.and_then(|l| l.split_once(": ")).map_or("unknown processor", |(_, m)| m);
        let rustc = Command::new("rustc").arg("--version").output();
        let rustc = rustc.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        Self {
            cpu: cpu.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            rustc: rustc.unwrap_or_else(|_| "unknown rustc".into()),
            simd: simd().into(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd() -> &'static str {
    if is_x86_feature_detected!("avx512bw") {
        "AVX-512"
    } else if is_x86_feature_detected!("avx2") {
        "AVX2"
    } else {
        "SSE2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn simd() -> &'static str {
    std::env::consts::ARCH
}

impl Figure {
    /// Events per second of processor time.
    pub fn rate(&self) -> f64 {
        1e9 / self.cpu_ns
    }
}

impl Cell {
    /// How many times RSigma's time Watchfire's is.
    pub fn ratio(&self) -> Option<f64> {
        let found = self.rsigma.as_ref()?.cpu_ns / self.watchfire.cpu_ns;
        (found.is_finite() && found > 0.0).then_some(found)
    }

    /// Whether all that matched wrote the same number of matches.
    pub fn counts_agree(&self) -> bool {
        let expect = self.watchfire.matches;
        let mut all = [&self.two_threads, &self.rsigma].into_iter().flatten();
        self.watchfire.steady && all.all(|f| f.steady && f.matches == expect)
    }

    fn bytes_per_event(&self) -> f64 {
        self.bytes as f64 / self.events as f64
    }

    fn name(&self) -> String {
        match self.mode {
            Mode::Routed => format!("{} routed", self.lane),
            Mode::Unrouted => format!("{} unrouted", self.lane),
        }
    }

    fn row(&self) -> String {
        let rsigma = self.rsigma.as_ref();
        let rate = |f: Option<&Figure>| f.map_or("–".into(), |f| thousands(f.rate()));
        let ratio = self.ratio().map_or("–".into(), |r| format!("**{r:.1}×**"));
        let matches = match rsigma.filter(|_| !self.counts_agree()) {
            Some(other) => format!("**{} ≠ {}**", self.watchfire.matches, other.matches),
            None => format!("{:.3}", self.watchfire.matches as f64 / self.events as f64),
        };
        let mb = self.bytes_per_event() * self.watchfire.rate() / 1e6;
        let rss = |f: &Figure| format!("{:.0}", f.rss_bytes as f64 / f64::from(1 << 20));
        format!(
            "| {} | {:.0} | {matches} | {} | {} | {} | {ratio} | {} | {} | {} / {} |",
            self.name(),
            self.bytes_per_event(),
            rate(Some(&self.watchfire)),
            thousands(mb),
            rate(rsigma),
            rate(self.serde_json.as_ref()),
            rate(self.simd_json.as_ref()),
            rss(&self.watchfire),
            rsigma.map_or("–".into(), rss),
        )
    }
}

impl Clocked {
    /// How many times as fast two threads are as one.
    pub fn scaling(&self) -> f64 {
        self.one.wall_ns / self.two.wall_ns
    }

    /// Gigabytes a second on the clock.
    pub fn gigabytes(&self, figure: &Figure) -> f64 {
        self.bytes as f64 / (self.events as f64 * figure.wall_ns)
    }

    fn counts_agree(&self) -> bool {
        self.one.steady && self.two.steady && self.one.matches == self.two.matches
    }
}

impl Report {
    /// Whether the engines found the same on every lane.
    pub fn counts_agree(&self) -> bool {
        self.lanes.iter().all(Cell::counts_agree) && self.clocked.iter().all(Clocked::counts_agree)
    }

    /// The mean of all ratios, as a factor.
    pub fn geometric_mean(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.lanes.iter().filter_map(Cell::ratio).collect();
        let sum: f64 = ratios.iter().map(|r| r.ln()).sum();
        (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
    }

    /// All of it, as the documentation has it.
    pub fn markdown(&self) -> String {
        let mut text = self.conditions();
        if !self.lanes.is_empty() {
            text.push_str(&self.lanes_table());
            text.push_str(&self.beside());
        }
        if !self.clocked.is_empty() {
            text.push_str(&self.clock_table());
        }
        if !self.growth.is_empty() {
            text.push_str(&self.growth_table());
        }
        text
    }

    fn conditions(&self) -> String {
        let Machine { cpu, cores, rustc, simd } = &self.machine;
        let mut text = format!(
            "Machine: {cpu}, {cores} cores, {simd}; {rustc}. Rules: {}. Peer: {}. Medians of {} \
             interleaved rounds.\n\n",
            self.rules,
            self.rsigma.as_deref().unwrap_or("none"),
            self.rounds
        );
        if self.thin > 1 {
            let _ =
                write!(text, "**A trial with one event of {}: no measurement.**\n\n", self.thin);
        }
        text
    }

    fn lanes_table(&self) -> String {
        let mut text = String::from(
            "| lane | B/event | matches/event | Watchfire, events/s | MB/s | RSigma, events/s | \
             ratio | serde_json `Value` alone | simd-json tape alone | RSS, MiB |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for cell in &self.lanes {
            text += &cell.row();
            text.push('\n');
        }
        if let Some(mean) = self.geometric_mean() {
            let _ = writeln!(text, "\nGeometric mean of the ratios: **{mean:.1}×**.");
        }
        text
    }

    /// What the table has no column for.
    fn beside(&self) -> String {
        let mut text = String::new();
        for cell in &self.lanes {
            if let Some(alerts) = &cell.alerts {
                let mb = cell.bytes_per_event() * alerts.rate() / 1e6;
                let (name, rate) = (cell.name(), thousands(alerts.rate()));
                let _ = writeln!(text, "\n{name}, whole alerts: {rate} events/s, {mb:.0} MB/s.");
            }
        }
        text
    }

    fn clock_table(&self) -> String {
        let mut text = String::from(
            "\n| on the clock | GB of input | 1 thread, events/s | GB/s | 2 threads, events/s | GB/s | \
             2 threads / 1 |\n|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for clocked in &self.clocked {
            let rate = |figure: &Figure| thousands(1e9 / figure.wall_ns);
            let _ = writeln!(
                text,
                "| {} routed | {:.1} | {} | {:.2} | {} | {:.2} | {:.2}× |",
                clocked.lane,
                clocked.bytes as f64 / 1e9,
                rate(&clocked.one),
                clocked.gigabytes(&clocked.one),
                rate(&clocked.two),
                clocked.gigabytes(&clocked.two),
                clocked.scaling()
            );
        }
        text
    }

    fn growth_table(&self) -> String {
        let mut text = String::from(
            "\n| rules | mode | ns/event | load, CPU s | RSS, MiB |\n|--:|---|--:|--:|--:|\n",
        );
        for Growth { rules, mode, figure } in &self.growth {
            let mode = format!("{mode:?}").to_lowercase();
            let rss = figure.rss_bytes as f64 / f64::from(1 << 20);
            let _ = writeln!(
                text,
                "| {} | {mode} | {:.0} | {:.2} | {rss:.0} |",
                thousands(*rules as f64),
                figure.cpu_ns,
                figure.load_seconds
            );
        }
        text
    }
}

/// A whole number with commas, or a dash where there is none to tell.
pub fn thousands(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "–".into();
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
