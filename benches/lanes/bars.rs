//! What the figures must reach.

use std::fmt;

use crate::clock;
use crate::contender::Mode;
use crate::report::{Cell, Clocked, Report};

const GEOMETRIC_MEAN_MIN: f64 = 11.0;
const TWO_THREADS_MIN: f64 = 1.8;
const WIN_MIX_GB_PER_SECOND_MIN: f64 = 1.0;
const AUTH_MILLION_PER_SECOND_MIN: f64 = 5.0;
const LANES_MIN: usize = 10;

/// One bar, and what was reached.
pub struct Bar {
    what: String,
    least: f64,
    reached: Option<f64>,
}

impl Bar {
    /// Whether it was reached. What was not measured was not.
    pub fn passed(&self) -> bool {
        self.reached.is_some_and(|value| value >= self.least)
    }

    /// What, and how far it went.
    pub fn told(&self) -> String {
        let Self { what, least, .. } = self;
        match self.reached {
            Some(value) => format!("{what}: {value:.2}, at least {least}"),
            None => format!("{what}: not measured, at least {least}"),
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        write!(f, "{verdict} {}", self.told())
    }
}

/// Holds a report against every bar.
pub fn judge(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut bar = |what: String, least, reached| bars.push(Bar { what, least, reached });
    let cells = |mode| report.lanes.iter().filter(move |c| c.mode == mode);
    for mode in [Mode::Routed, Mode::Unrouted] {
        let measured = cells(mode).filter(|c| c.ratio().is_some()).count();
        let lanes = format!("{mode:?} lanes with a ratio");
        bar(lanes, LANES_MIN as f64, Some(measured as f64));
    }
    for cell in &report.lanes {
        let name = format!("{} {:?}", cell.lane, cell.mode);
        let agree = if cell.counts_agree() { 1.0 } else { 0.0 };
        bar(format!("{name}, match counts are equal"), 1.0, Some(agree));
        bar(format!("{name}, times RSigma"), ratio_min(cell), cell.ratio());
    }
    bar("geometric mean".into(), GEOMETRIC_MEAN_MIN, report.geometric_mean());
    for cell in cells(Mode::Routed) {
        let faster = cell.serde_json.as_ref().map(|s| s.cpu_ns / cell.watchfire.cpu_ns);
        bar(format!("{}, times serde_json::Value alone", cell.lane), 1.0, faster);
    }
    for lane in clock::LANES {
        let clocked = report.clocked.iter().find(|c| c.lane == lane);
        let scaling = clocked.map(Clocked::scaling);
        bar(format!("{lane}, two threads by one"), TWO_THREADS_MIN, scaling);
        let (unit, least, value) = match lane {
            "win_mix" => ("GB/s", WIN_MIX_GB_PER_SECOND_MIN, clocked.map(|c| c.gigabytes(&c.two))),
            _ => ("million/s", AUTH_MILLION_PER_SECOND_MIN, clocked.map(|c| 1e3 / c.two.wall_ns)),
        };
        bar(format!("{lane}, two threads, {unit} on the clock"), least, value);
    }
    bars
}

fn ratio_min(cell: &Cell) -> f64 {
    match (cell.lane.as_str(), cell.mode) {
        ("win_mix", Mode::Routed) => 12.0,
        ("win_mix", Mode::Unrouted) | ("auth_small", _) => 10.0,
        _ => 8.0,
    }
}
