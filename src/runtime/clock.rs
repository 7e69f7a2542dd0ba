//! The machine's clocks and its account of this process: the one place that reads them.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Clock, Timestamp};

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_micros() as i64)
    }

    fn steady(&self) -> Duration {
        static BEFORE: LazyLock<Stopwatch> = LazyLock::new(Stopwatch::start);
        BEFORE.elapsed()
    }
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "the one reading of the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What this process has used so far; zero where the system does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads, seconds.
    pub cpu_seconds: f64,
    /// Peak resident memory, bytes.
    pub rss_peak_bytes: u64,
}

impl Usage {
    /// Reads `/proc/self`.
    pub fn now() -> Self {
        // The first counts the threads that have ended too, the second is exact.
        let cpu =
            ticked_seconds().unwrap_or_default().max(seconds_of_threads().unwrap_or_default());
        Self { cpu_seconds: cpu, rss_peak_bytes: rss_peak_bytes().unwrap_or_default() }
    }
}

/// Fields 14 and 15 of `/proc/self/stat`, in ticks of 1/100 s on every Linux that Rust runs on.
fn ticked_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

/// What the threads that run have used, by the nanosecond: the first field of `schedstat` of each.
fn seconds_of_threads() -> Option<f64> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end before it is asked.
        let Ok(said) = std::fs::read_to_string(thread.ok()?.path().join("schedstat")) else {
            continue;
        };
        nanos += said.split_ascii_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanos / 1e9)
}

fn rss_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
