//! Findings for people: place, the lines themselves with what is meant underlined, what to do.

use std::io::{self, Write};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Level, Origin, Renderer, Snippet};

use super::{Report, Totals};
use crate::rule::{Diagnostic, Place, Severity};

/// Columns of a rendered line at most; longer source lines are cut around what is meant.
const WIDTH: usize = 120;

/// Writes all findings and a line of totals.
pub fn write(report: &Report, color: bool, out: &mut dyn Write) -> io::Result<()> {
    let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    let renderer = renderer.term_width(WIDTH);
    for finding in &report.findings {
        writeln!(out, "{}\n", rendered(finding, report.text(finding), &renderer))?;
    }
    writeln!(out, "{}", summary(&report.totals))?;
    let mendable = report.findings.iter().filter(|d| d.fix.is_some()).count();
    if mendable > 0 {
        writeln!(out, "{mendable} can be mended by --fix; --diff shows how")?;
    }
    if let Some(first) = report.findings.first() {
        let code = first.code.as_str();
        writeln!(out, "more about a code: watchfire check --explain {code}")?;
    }
    Ok(())
}

fn rendered(finding: &Diagnostic, text: &str, renderer: &Renderer) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Hint => Level::NOTE.with_name("hint"),
    };
    let file = finding.file.as_deref().unwrap_or_default();
    let title = level.primary_title(finding.message.as_str()).id(finding.code.as_str());
    let mut group = title.element(element(finding, text, file));
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn element<'a>(finding: &'a Diagnostic, text: &'a str, file: &'a str) -> Element<'a> {
    if finding.place.line == 0 || text.trim().is_empty() {
        return Origin::path(file).into();
    }
    let main = span(finding.place, text);
    let labels: Vec<(Range<usize>, &str)> =
        finding.labels.iter().map(|(place, label)| (span(*place, text), label.as_str())).collect();
    let starts = labels.iter().map(|(s, _)| s.start).chain([main.start]);
    let ends = labels.iter().map(|(s, _)| s.end).chain([main.end]);
    let (first, last) = (starts.min().unwrap_or(0), ends.max().unwrap_or(text.len()));
    // Only the lines that matter: a file may be long, and be shown many times.
    let start = text[..first].rfind('\n').map_or(0, |i| i + 1);
    let end = text[last..].find('\n').map_or(text.len(), |i| last + i);
    let shift = |span: &Range<usize>| span.start - start..span.end - start;
    let line = 1 + text[..start].matches('\n').count();
    let primary = AnnotationKind::Primary.span(shift(&main));
    let context = labels.iter().map(|(s, l)| AnnotationKind::Context.span(shift(s)).label(*l));
    let snippet = Snippet::source(&text[start..end]).line_start(line).path(file);
    snippet.annotation(primary).annotations(context).into()
}

/// The bytes that a place covers; at the end of the file its last character.
fn span(place: Place, text: &str) -> Range<usize> {
    let span = place.shown_in(text);
    if !text[span.clone()].trim_matches(['\r', '\n']).is_empty() {
        return span;
    }
    let before = text[..span.start].trim_end();
    let last = before.chars().next_back().map_or(0, char::len_utf8);
    before.len() - last..before.len()
}

/// Such as `12 files: 10 rules (9 detections, 1 correlation), 2 errors in 0.01 s`.
fn summary(totals: &Totals) -> String {
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let filters = match totals.filters {
        0 => String::new(),
        n => format!(", {}", counted(n, "filter")),
    };
    format!(
        "{}: {} ({}, {}){filters}; {}, {}, {} in {:.2} s",
        counted(totals.files, "file"),
        counted(totals.detections + totals.correlations, "rule"),
        counted(totals.detections, "detection"),
        counted(totals.correlations, "correlation"),
        counted(totals.errors, "error"),
        counted(totals.warnings, "warning"),
        counted(totals.hints, "hint"),
        totals.seconds,
    )
}
