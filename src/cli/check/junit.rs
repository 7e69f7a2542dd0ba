//! Findings as JUnit XML: one test case per file, which fails with its errors and warnings.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Report;
use crate::rule::{Diagnostic, Severity};

/// Writes the document.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut by_file: BTreeMap<&str, Vec<&Diagnostic>> =
        report.files.keys().map(|name| (&**name, Vec::new())).collect();
    for finding in &report.findings {
        by_file.entry(finding.file.as_deref().unwrap_or_default()).or_default().push(finding);
    }
    let fails = |found: &[&Diagnostic]| found.iter().any(|d| d.severity != Severity::Hint);
    let failures = by_file.values().filter(|found| fails(found)).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{:.3}\"",
        by_file.len(),
        report.totals.seconds
    );
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites {counts}>")?;
    writeln!(out, "  <testsuite name=\"watchfire check\" {counts}>")?;
    for (file, found) in &by_file {
        let head = format!("    <testcase classname=\"watchfire.check\" name=\"{}\"", escape(file));
        if found.is_empty() {
            writeln!(out, "{head}/>")?;
            continue;
        }
        writeln!(out, "{head}>")?;
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        let text = escape(&text.join("\n"));
        match found.iter().find(|d| d.severity != Severity::Hint) {
            Some(first) => writeln!(
                out,
                "      <failure type=\"{}\" message=\"{}\">{text}</failure>",
                first.code.as_str(),
                escape(&first.message)
            )?,
            None => writeln!(out, "      <system-out>{text}</system-out>")?,
        }
        writeln!(out, "    </testcase>")?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}

/// XML text or attribute; characters that XML cannot hold become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_escaped_or_replaced() {
        assert_eq!(escape("a<b> & \"c\"\u{1}\n"), "a&lt;b&gt; &amp; &quot;c&quot;\u{FFFD}\n");
    }
}
