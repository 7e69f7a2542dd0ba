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
