//! Charts as SVG: no scripts, no fonts of their own, colours that stand on white and on black.

use std::fmt::Write as _;

use crate::contender::Mode;
use crate::report::{Cell, Figure, Growth, Report};

const WIDTH: f64 = 760.0;
/// Mid grey: at least 4:1 against white and against a dark page.
const INK: &str = "#737b85";
const WATCHFIRE: &str = "#e8590c";
const RSIGMA: &str = "#3b82c4";
const SERDE: &str = "#8e98a3";
const FONT: &str = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif";

const BAR: f64 = 11.0;
const GROUP_GAP: f64 = 12.0;
const LABEL: f64 = 150.0;
const VALUE: f64 = 76.0;
const TOP: f64 = 74.0;

/// Which figure of a lane a bar shows.
type Of = fn(&Cell) -> Option<&Figure>;

/// Events per second of every lane, as bars.
pub fn lanes(report: &Report) -> String {
    let cells: Vec<&Cell> = report.lanes.iter().filter(|c| c.mode == Mode::Routed).collect();
    let series: [(&str, &str, Of); 3] = [
        ("Watchfire", WATCHFIRE, |c| Some(&c.watchfire)),
        ("RSigma", RSIGMA, |c| c.rsigma.as_ref()),
        ("serde_json::Value, parsing alone", SERDE, |c| c.serde_json.as_ref()),
    ];
    let rate = |c: &Cell, of: Of| of(c).map(Figure::rate).filter(|r| r.is_finite() && *r > 0.0);
    let all = cells.iter().flat_map(|c| series.iter().filter_map(|(_, _, of)| rate(c, *of)));
    let most = all.fold(1.0, f64::max);
    let group = BAR * series.len() as f64 + GROUP_GAP;
    let height = TOP + group * cells.len() as f64 + 8.0;
    let mut svg = open(height, "Events per second of one core", &rules(report));
    legend(&mut svg, &series.map(|(name, colour, _)| (name, colour)));
    for (row, cell) in cells.iter().enumerate() {
        let top = TOP + group * row as f64;
        let middle = top + BAR * series.len() as f64 / 2.0;
        text(&mut svg, LABEL - 10.0, middle + 4.0, "end", 12, &cell.lane);
        for (n, (_, colour, of)) in series.iter().enumerate() {
            let Some(rate) = rate(cell, *of) else { continue };
            let (y, width) = (top + BAR * n as f64, rate / most * (WIDTH - LABEL - VALUE));
            let _ = writeln!(
                svg,
                r#"<rect x="{LABEL}" y="{y:.1}" width="{width:.1}" height="{:.1}" rx="1.5" fill="{colour}"/>"#,
                BAR - 1.5
            );
            let ratio = cell.ratio().filter(|_| n == 0).map(|r| format!(" ({r:.1}×)"));
            let label = short(rate) + &ratio.unwrap_or_default();
            text(&mut svg, LABEL + width + 5.0, y + BAR - 2.6, "start", 10, &label);
        }
    }
    svg + "</svg>\n"
}

/// Time per event by number of rules, as lines.
pub fn growth(report: &Report) -> String {
    let (height, left, bottom, right) = (360.0, 76.0, 62.0, 40.0);
    let rules: Vec<f64> = report.growth.iter().map(|g| g.rules as f64).collect();
    let (few, many) = (rules.iter().copied().fold(f64::MAX, f64::min).ln(), {
        rules.iter().copied().fold(1.0, f64::max).ln()
    });
    let most = report.growth.iter().map(|g| g.figure.cpu_ns).fold(1.0, f64::max);
    let step = nice_step(most / 4.0);
    let top_value = (most / step).ceil() * step;
    let x =
        |rules: f64| left + (rules.ln() - few) / (many - few).max(1e-9) * (WIDTH - left - right);
    let y = |ns: f64| height - bottom - ns / top_value * (height - bottom - TOP);
    let what = "win_mix events, one core; rules on a logarithmic axis";
    let mut svg = open(height, "Time per event by number of rules", what);
    legend(&mut svg, &[("routed", WATCHFIRE), ("unrouted: every rule on every event", RSIGMA)]);
    for tick in 0..=(top_value / step).round() as u32 {
        let ns = f64::from(tick) * step;
        let _ = writeln!(
            svg,
            r#"<line x1="{left}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="{INK}" stroke-opacity=".3"/>"#,
            WIDTH - right,
            y = y(ns)
        );
        text(&mut svg, left - 8.0, y(ns) + 4.0, "end", 11, &microseconds(ns));
    }
    let routed = report.growth.iter().filter(|g| g.mode == Mode::Routed);
    for point in routed.clone() {
        let label = crate::report::thousands(point.rules as f64);
        text(&mut svg, x(point.rules as f64), height - bottom + 32.0, "middle", 11, &label);
    }
    text(&mut svg, (left + WIDTH - right) / 2.0, height - 8.0, "middle", 11, "rules");
    line(&mut svg, routed, WATCHFIRE, 18.0, (&x, &y));
    let unrouted = report.growth.iter().filter(|g| g.mode == Mode::Unrouted);
    line(&mut svg, unrouted, RSIGMA, -9.0, (&x, &y));
    svg + "</svg>\n"
}

/// `label` is how far below its point a value stands.
fn line<'a>(
    svg: &mut String,
    points: impl Iterator<Item = &'a Growth> + Clone,
    colour: &str,
    label: f64,
    (x, y): (&impl Fn(f64) -> f64, &impl Fn(f64) -> f64),
) {
    let place = |g: &Growth| (x(g.rules as f64), y(g.figure.cpu_ns));
    let path: Vec<String> =
        points.clone().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if path.is_empty() {
        return;
    }
    let path = path.join(" ");
    let _ = writeln!(
        svg,
        r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>"#
    );
    for point in points {
        let (cx, cy) = place(point);
        let _ = writeln!(svg, r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="4" fill="{colour}"/>"#);
        text(svg, cx, cy + label, "middle", 11, &microseconds(point.figure.cpu_ns));
    }
}

fn rules(report: &Report) -> String {
    format!("{}, routed; more is better; the ratio is to RSigma", report.rules.replace('`', ""))
}

fn open(height: f64, title: &str, below: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"{FONT}\" fill=\"{INK}\">\n<title>{title}</title>\n"
    );
    let _ = writeln!(svg, r#"<text x="0" y="18" font-size="16" font-weight="600">{title}</text>"#);
    text(&mut svg, 0.0, 36.0, "start", 12, below);
    svg
}

fn legend(svg: &mut String, entries: &[(&str, &str)]) {
    let mut x = 0.0;
    for (name, colour) in entries {
        let _ = writeln!(
            svg,
            r#"<rect x="{x:.0}" y="48" width="11" height="11" rx="2" fill="{colour}"/>"#
        );
        text(svg, x + 16.0, 58.0, "start", 12, name);
        x += 44.0 + 6.6 * name.chars().count() as f64;
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{what}</text>"#
    );
}

/// 1,234,567 as 1.23 M.
fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.2} M", r / 1e6),
        r if r >= 1e3 => format!("{:.0} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

fn microseconds(ns: f64) -> String {
    match ns / 1e3 {
        us if us >= 10.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}

/// 1, 2 or 5 times a power of ten, not less than `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= least).unwrap_or(least)
}
