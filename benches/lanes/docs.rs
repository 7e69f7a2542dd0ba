//! Writes the figures into the documentation, between marks that stay.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::contender::Mode;
use crate::report::{Cell, Report, thousands};
use crate::{bars, chart};

const BEGIN: &str = "<!-- figures: cargo bench --bench lanes -- --docs -->\n";
const END: &str = "<!-- end of figures -->\n";

/// Rewrites the page, the charts and the sentence in the README.
pub fn write(report: &Report) -> anyhow::Result<()> {
    ensure!(report.thin == 1, "a trial (--thin {}) is no measurement", report.thin);
    ensure!(!report.lanes.is_empty(), "the report has no lanes");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let charts = root.join("docs/charts");
    fs::create_dir_all(&charts)?;
    fs::write(charts.join("lanes.svg"), chart::lanes(report))?;
    let lanes = |folder: &str| format!("![Events per second by lane]({folder}/lanes.svg)\n\n");
    let mut page = lanes("charts");
    if !report.growth.is_empty() {
        fs::write(charts.join("growth.svg"), chart::growth(report))?;
        page += "![Time per event by number of rules](charts/growth.svg)\n\n";
    }
    page += &report.markdown();
    page += &missed(report);
    replace(&root.join("docs/benchmarks.md"), &page)?;
    replace(&root.join("README.md"), &(lanes("docs/charts") + &summary(report)))
}

/// The bars that were not reached.
fn missed(report: &Report) -> String {
    let bars = bars::judge(report);
    let missed = bars.iter().filter(|bar| !bar.passed());
    let missed: String = missed.map(|bar| format!("- {}\n", bar.told())).collect();
    match missed.as_str() {
        "" => "\nAll [bars](#the-bars) were reached.\n".into(),
        missed => format!("\nOf the [bars](#the-bars) this run missed:\n\n{missed}"),
    }
}

fn replace(path: &Path, figures: &str) -> anyhow::Result<()> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| name.to_string())?;
    let marks = || format!("{name} has no lines `{}` and `{}`", BEGIN.trim(), END.trim());
    let (before, rest) = text.split_once(BEGIN).with_context(marks)?;
    let (_, after) = rest.split_once(END).with_context(marks)?;
    let text = format!("{before}{BEGIN}\n{}\n\n{END}{after}", figures.trim());
    fs::write(path, text).with_context(|| name.to_string())
}

/// What stands in the README: the hardest real lane, and all of them in one number.
fn summary(report: &Report) -> String {
    let real = |c: &&Cell| c.lane == "win_mix" && c.mode == Mode::Routed;
    let mut lines = Vec::new();
    if let Some(cell) = report.lanes.iter().find(real) {
        let ratio = cell.ratio().map_or(String::new(), |r| format!(", {r:.1}× RSigma"));
        lines.push(format!(
            "One core, {}, real Windows events of {:.0} bytes: **{} events/s**{ratio}.",
            report.rules,
            cell.bytes as f64 / cell.events as f64,
            thousands(cell.watchfire.rate()),
        ));
    }
    if let Some(mean) = report.geometric_mean() {
        let cells = report.lanes.iter().filter(|c| c.ratio().is_some()).count();
        lines.push(format!(
            "Geometric mean over all {cells} comparisons with {}: **{mean:.1}×**.",
            report.rsigma.as_deref().unwrap_or("RSigma")
        ));
    }
    lines.push(format!("{}, {}.", report.machine.cpu, report.machine.simd));
    lines.join("\n")
}
