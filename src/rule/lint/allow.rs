//! `# watchfire: allow W0404` at the end of a line, or on the line before, allows a finding there.

use crate::rule::diagnostic::{Diagnostic, Severity};

const MARK: &str = "# watchfire: allow ";

/// Whether a comment in the text allows the finding. Errors cannot be allowed: such a rule does not
/// run.
pub fn is_allowed(diagnostic: &Diagnostic, text: &str) -> bool {
    if diagnostic.severity == Severity::Error || !text.contains(MARK) {
        return false;
    }
    let line = diagnostic.place.line;
    let mut lines = text.lines().skip(line.saturating_sub(2)).take(2);
    let before = (line > 1).then(|| lines.next()).flatten();
    // A comment behind something speaks of its own line only.
    let before = before.filter(|l| l.trim_start().starts_with('#'));
    before.into_iter().chain(lines.next()).any(|line| allows(line, diagnostic.code.as_str()))
}

fn allows(line: &str, code: &str) -> bool {
    let Some((before, codes)) = line.split_once(MARK) else { return false };
    let comment = before.is_empty() || before.ends_with(char::is_whitespace);
    let mut codes = codes.split(|c: char| c == ',' || c.is_whitespace());
    comment && codes.any(|c| c.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Code, Place};

    #[test]
    fn a_comment_allows_the_named_codes_on_its_line_or_the_next() {
        let text = "a: 1 # watchfire: allow W0404, w0408\nb: 2\n  # watchfire: allow W0404\nc: 3\n\
                    d: 'x# watchfire: allow W0404'\n";
        for (line, code, expect) in [
            (1, Code::IdleModifier, true),
            (1, Code::Wildcard, true),
            (1, Code::Header, false),
            (2, Code::IdleModifier, false),
            (4, Code::IdleModifier, true),
            (5, Code::IdleModifier, false),
        ] {
            let hint = Diagnostic::hint(code, Place::new(line, 1), "x");
            assert_eq!(is_allowed(&hint, text), expect, "line {line}, {code:?}");
            let error = Diagnostic::error(code, Place::new(line, 1), "x");
            assert!(!is_allowed(&error, text));
        }
    }
}
