//! The long text of each code: what it means, an example that is wrong, and the same mended.
//!
//! The texts are `docs/diagnostics/*.md`, so that readers of the documentation and of the command line
//! have the same.

use super::diagnostic::Code;

/// The long text of a code.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// One line.
    pub title: &'static str,
    /// The whole, as Markdown; it begins with the title.
    pub text: &'static str,
}

macro_rules! texts {
    ($code:expr, $($variant:ident $file:literal),* $(,)?) => {
        match $code {
            $(Code::$variant => include_str!(concat!("../../docs/diagnostics/", $file, ".md"))),*
        }
    };
}

impl Code {
    /// Its long text.
    pub fn explanation(self) -> Explanation {
        let text = texts!(
            self,
            Yaml "W0001",
            DuplicateKey "W0002",
            File "W0003",
            Shape "W0101",
            Condition "W0102",
            UnknownSelection "W0103",
            Modifier "W0104",
            Value "W0105",
            Correlation "W0201",
            Reference "W0202",
            DuplicateId "W0203",
            Unsupported "W0301",
            NoSource "W0302",
            Placeholder "W0303",
            Pipeline "W0304",
            UnusedSelection "W0401",
            Portability "W0402",
            FilterKeeps "W0403",
            IdleModifier "W0404",
            Header "W0405",
            Logsource "W0406",
            Cost "W0407",
            Wildcard "W0408",
            Repeated "W0409",
            EncodedCase "W0410",
        );
        let first = text.lines().next().unwrap_or_default();
        let title = first.split_once(": ").map_or(first, |(_, title)| title);
        Explanation { title, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Diagnostic, RuleSet, Severity};

    /// Codes that need more than the text of rules: a file system, a configuration, a pipeline.
    const WITHOUT_EXAMPLE: &[Code] = &[Code::File, Code::NoSource, Code::Pipeline];

    fn examples(text: &str) -> Vec<&str> {
        let blocks = text.split("```yaml\n").skip(1);
        blocks.map(|b| b.split("```").next().unwrap_or_default()).collect()
    }

    fn check(text: &str) -> Vec<Diagnostic> {
        RuleSet::compile([(&"a.yml".into(), text)]).1
    }

    /// Line, column and length that a comment of carets marks on the line above it. In column 1 the
    /// `#` of the comment is the first of them.
    fn marked(text: &str) -> (usize, usize, usize) {
        let line = text.lines().position(|l| l.starts_with('#') && l.contains('^'));
        let line = line.expect("a line of carets");
        let carets = text.lines().nth(line).expect("the line");
        let start = carets.find('^').expect("carets");
        let length = carets[start..].trim_end().len();
        if start == 1 { (line, 1, length + 1) } else { (line, start + 1, length) }
    }

    #[test]
    fn every_code_is_explained_and_its_examples_are_wrong_and_right_as_they_say() {
        for code in Code::ALL {
            let Explanation { title, text } = code.explanation();
            assert!(text.starts_with(&format!("# {}: {title}\n", code.as_str())), "{code:?}");
            let examples = examples(text);
            let expect = if WITHOUT_EXAMPLE.contains(code) { 0 } else { 2 };
            assert_eq!(examples.len(), expect, "{code:?}");
            let [wrong, right] = examples.as_slice() else { continue };
            let found = check(wrong);
            let (line, column, length) = marked(wrong);
            let hit = found.iter().find(|d| d.code == *code).expect(title);
            let place = (hit.place.line, hit.place.column, hit.place.length);
            assert_eq!(place, (line, column, length), "{code:?}: {found:#?}");
            let left = check(right);
            let bad = |d: &&Diagnostic| d.code == *code || d.severity != Severity::Hint;
            assert_eq!(left.iter().find(bad), None, "{code:?}, mended");
        }
    }
}
