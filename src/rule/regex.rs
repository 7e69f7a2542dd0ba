//! Regular expressions of rules (`re`): linear time where that is possible, bounded where not.
//!
//! What the linear engine can run, it runs. Look-around and back-references need an engine that goes
//! back; it gets so many steps for one value and no more. A value that would need more counts as no
//! match and is counted: [`TextRegex::take_overruns`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::limits::{REGEX_BYTES_MAX, REGEX_STEPS_MAX};

/// A compiled regular expression. Two are equal when they were written the same, flags included.
#[derive(Clone, Debug)]
pub struct TextRegex {
    source: String,
    flags: Flags,
    engine: Engine,
}

/// Flags of `re`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `i`: case does not count.
    pub ignore_case: bool,
    /// `m`: `^` and `$` match at lines.
    pub multi_line: bool,
    /// `s`: `.` matches a newline.
    pub dot_all: bool,
}

#[derive(Clone, Debug)]
enum Engine {
    Linear(Arc<Linear>),
    Bounded(Arc<Bounded>),
}

#[derive(Debug)]
struct Linear {
    regex: regex::Regex,
    /// The same for text that is ASCII, where the classes of Unicode have a hundredth of their size;
    /// made when it is first needed. `None` when it cannot be said without Unicode.
    ascii: OnceLock<Option<regex::bytes::Regex>>,
}

#[derive(Debug)]
struct Bounded {
    regex: fancy_regex::Regex,
    overruns: AtomicU64,
}

impl TextRegex {
    /// Compiles an expression; it is not anchored, and `$` matches at the very end alone.
    ///
    /// # Errors
    /// What is wrong with it, in one line, and where in it (characters), as far as known.
    pub fn new(source: &str, flags: Flags) -> Result<Self, RegexError> {
        let engine = match linear(source, flags) {
            Ok(regex) => Engine::Linear(Arc::new(Linear { regex, ascii: OnceLock::new() })),
            Err(error) if error.goes_back => Engine::Bounded(Arc::new(Bounded {
                regex: bounded(source, flags)?,
                overruns: AtomicU64::new(0),
            })),
            Err(error) => return Err(error),
        };
        Ok(Self { source: source.to_owned(), flags, engine })
    }

    /// Whether it is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.engine {
            Engine::Linear(linear) if text.is_ascii() => {
                match linear.ascii.get_or_init(|| ascii(&self.source, self.flags)) {
                    Some(regex) => regex.is_match(text.as_bytes()),
                    None => linear.regex.is_match(text),
                }
            }
            Engine::Linear(linear) => linear.regex.is_match(text),
            Engine::Bounded(bounded) => bounded.regex.is_match(text).unwrap_or_else(|_| {
                bounded.overruns.fetch_add(1, Ordering::Relaxed);
                false
            }),
        }
    }

    /// Whether its time is linear in the length of the text.
    pub fn is_linear(&self) -> bool {
        matches!(self.engine, Engine::Linear(_))
    }

    /// How many values needed more steps than they get, since this was last asked. Clones count
    /// together.
    pub fn take_overruns(&self) -> u64 {
        match &self.engine {
            Engine::Linear(_) => 0,
            Engine::Bounded(bounded) => bounded.overruns.swap(0, Ordering::Relaxed),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Its flags.
    pub fn flags(&self) -> Flags {
        self.flags
    }
}

impl Eq for TextRegex {}

impl std::hash::Hash for TextRegex {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.source, self.flags).hash(state);
    }
}

impl PartialEq for TextRegex {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, self.flags) == (&other.source, other.flags)
    }
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegexError {
    /// In one line.
    pub reason: String,
    /// The characters of the expression that are meant.
    pub at: Option<std::ops::Range<usize>>,
    /// Whether only an engine that goes back can run it.
    goes_back: bool,
}

fn linear(source: &str, flags: Flags) -> Result<regex::Regex, RegexError> {
    regex::RegexBuilder::new(source)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| explained(source, &error))
}

fn ascii(source: &str, flags: Flags) -> Option<regex::bytes::Regex> {
    // To Unicode a long s is an s when case does not count. So there may be no letter in it beyond
    // ASCII, and no escape that could mean one.
    let beyond = ["\\x", "\\u", "\\U", "\\p", "\\P"];
    if !source.is_ascii() || beyond.iter().any(|escape| source.contains(escape)) {
        return None;
    }
    regex::bytes::RegexBuilder::new(source)
        .unicode(false)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .ok()
}

/// The engine's own words are a drawing over several lines; the last says what is wrong, and the
/// parser knows where.
fn explained(source: &str, error: &regex::Error) -> RegexError {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    let parsed = regex_syntax::ast::parse::Parser::new().parse(source).err();
    let goes_back = parsed.as_ref().is_some_and(|e| {
        use regex_syntax::ast::ErrorKind::{UnsupportedBackreference, UnsupportedLookAround};
        matches!(e.kind(), UnsupportedBackreference | UnsupportedLookAround)
    });
    let at = parsed.map(|e| {
        let characters = |offset: usize| source[..offset].chars().count();
        characters(e.span().start.offset)..characters(e.span().end.offset)
    });
    RegexError { reason: reason.to_owned(), at: at.filter(|at| !at.is_empty()), goes_back }
}

fn bounded(source: &str, flags: Flags) -> Result<fancy_regex::Regex, RegexError> {
    fancy_regex::RegexBuilder::new(source)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .delegate_size_limit(REGEX_BYTES_MAX)
        .backtrack_limit(REGEX_STEPS_MAX)
        .build()
        .map_err(|e| RegexError { reason: e.to_string(), at: None, goes_back: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn without_unicode_the_answers_for_ascii_are_the_same(
            source in r"([a-cK.]|\\[wWsSdDb]|\[\^?[ak-]{1,3}\]|[äſK]|\(\?:a\|b\)|[*+?]){1,6}",
            text in "[a-cKks \n._-]{0,12}",
            ignore_case in proptest::bool::ANY,
            dot_all in proptest::bool::ANY,
        ) {
            let flags = Flags { ignore_case, dot_all, multi_line: false };
            if let (Ok(regex), Some(ascii)) = (linear(&source, flags), ascii(&source, flags)) {
                proptest::prop_assert_eq!(
                    regex.is_match(&text), ascii.is_match(text.as_bytes()), "{} on {:?}", source, text
                );
            }
        }
    }

    fn regex(source: &str) -> TextRegex {
        TextRegex::new(source, Flags::default()).expect(source)
    }

    #[test]
    fn look_around_and_back_references_run_within_bounds() {
        for (source, text, expect) in [
            ("a(?!b)", "ac", true),
            ("a(?!b)", "ab", false),
            ("(?<=x)a", "xa", true),
            (r"(a|b)\1", "aa", true),
            (r"(a|b)\1", "ab", false),
        ] {
            assert!(!regex(source).is_linear());
            assert_eq!(regex(source).is_match(text), expect, "{source} on {text}");
        }
        assert!(regex("a.*b").is_linear());
    }

    #[test]
    fn a_value_that_needs_too_many_steps_is_counted() {
        let hostile = regex(r"^(?=(a+)+$)\1+b");
        assert!(!hostile.is_match(&"a".repeat(5_000)));
        let greedy = regex(r"(x+x+)+(?=y)\1z");
        assert!(!greedy.is_match(&"x".repeat(2_000)));
        assert!(hostile.take_overruns() + greedy.take_overruns() > 0, "no step limit was met");
    }

    #[test]
    fn a_wrong_expression_is_explained_with_its_place() {
        let e = TextRegex::new("abc[z-a]", Flags::default()).expect_err("wrong");
        assert_eq!(e.at, Some(4..7), "{e:?}");
        assert!(TextRegex::new("(a", Flags::default()).is_err());
        assert!(TextRegex::new("a{1000}{1000}{1000}", Flags::default()).is_err());
    }
}
