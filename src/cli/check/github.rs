//! Findings as workflow commands of GitHub Actions, which show them at the lines of a pull request.

use std::io::{self, Write};

use super::Report;
use crate::rule::{Diagnostic, Severity};

/// Writes one command per finding.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{}", command(finding, report.text(finding)))?;
    }
    Ok(())
}

fn command(finding: &Diagnostic, text: &str) -> String {
    let name = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "notice",
    };
    let file = property(finding.file.as_deref().unwrap_or_default());
    let mut command = format!("::{name} file={file}");
    let (start, end) = (finding.place, finding.place.end_in(text));
    if start.line > 0 {
        command += &format!(",line={},endLine={}", start.line, end.line);
        // Columns are taken only within one line.
        if start.line == end.line {
            command += &format!(",col={},endColumn={}", start.column, end.column);
        }
    }
    let message = match &finding.help {
        Some(help) => format!("{}\nhelp: {help}", finding.message),
        None => finding.message.clone(),
    };
    command + &format!(",title={}::{}", finding.code.as_str(), data(&message))
}

/// What the runner would read as the end of the command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property ends at a comma or colon as well.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Code, Place};

    #[test]
    fn properties_and_messages_are_escaped() {
        let finding =
            Diagnostic::warning(Code::Cost, Place::new(1, 4).spanning(1), "50 %, or: more")
                .help("less")
                .in_file(&"a,b:c.yml".into());
        let expect = "::warning file=a%2Cb%3Ac.yml,line=1,endLine=1,col=4,endColumn=5,title=W0407::\
                      50 %25, or: more%0Ahelp: less";
        assert_eq!(command(&finding, "a: x\n"), expect);
    }
}
