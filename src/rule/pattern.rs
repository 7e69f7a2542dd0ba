//! Sigma strings: text with `*` and `?`, their escapes, and matching them (Sigma rules
//! specification, String Wildcard and Escaping).

use std::borrow::Cow;

/// One part of a Sigma string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `*`: any run of characters, also none and newlines.
    Any,
    /// `?`: exactly one character.
    One,
}

/// A Sigma string with its wildcards told apart from literal text.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pattern(Vec<Part>);

impl Pattern {
    /// Reads wildcards and escapes: `\*`, `\?` and `\\` are literal, any other backslash is itself.
    pub fn parse(text: &str) -> Self {
        let mut pattern = Self::default();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next_if(|n| matches!(n, '*' | '?' | '\\')) {
                    Some(escaped) => pattern.push_char(escaped),
                    None => pattern.push_char('\\'),
                },
                '*' => pattern.push(Part::Any),
                '?' => pattern.push(Part::One),
                c => pattern.push_char(c),
            }
        }
        pattern
    }

    /// A pattern of literal text alone.
    pub fn literal(text: &str) -> Self {
        if text.is_empty() { Self::default() } else { Self(vec![Part::Text(text.to_owned())]) }
    }

    /// The text, when there is no wildcard in it.
    pub fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Adds `*` before and after, where there is none yet.
    #[must_use]
    pub fn anywhere(self) -> Self {
        self.then_anything().after_anything()
    }

    /// Adds `*` at the end, where there is none yet.
    #[must_use]
    pub fn then_anything(mut self) -> Self {
        self.push(Part::Any);
        self
    }

    /// Adds `*` at the start, where there is none yet.
    #[must_use]
    pub fn after_anything(mut self) -> Self {
        if self.0.first() != Some(&Part::Any) {
            self.0.insert(0, Part::Any);
        }
        self
    }

    /// Every form of this pattern in which a dash that starts a parameter is `-`, `/`, `–`, `—` or
    /// `―`; `None` when there are more than `dashes_max` such dashes. A dash starts a parameter when
    /// no word character stands before it and one stands after it: `foo-bar` stays as it is.
    pub fn with_any_dash(&self, dashes_max: usize) -> Option<Vec<Self>> {
        let places = self.dash_places();
        if places.len() > dashes_max {
            return None;
        }
        let mut forms = vec![self.clone()];
        for (part, at) in places.into_iter().rev() {
            let with = |form: &Self, dash: &str| {
                let mut form = form.clone();
                if let Part::Text(text) = &mut form.0[part] {
                    text.replace_range(at..=at, dash);
                }
                form
            };
            let all = ["-", "/", "–", "—", "―"];
            forms = forms.iter().flat_map(|f| all.iter().map(move |d| with(f, d))).collect();
        }
        Some(forms)
    }

    fn dash_places(&self) -> Vec<(usize, usize)> {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let mut places = Vec::new();
        for (part, text) in self.0.iter().enumerate() {
            let Part::Text(text) = text else { continue };
            let mut before = None;
            for (at, c) in text.char_indices() {
                let after = text[at + c.len_utf8()..].chars().next();
                if matches!(c, '-' | '/') && !before.is_some_and(word) && after.is_some_and(word) {
                    places.push((part, at));
                }
                before = Some(c);
            }
        }
        places
    }

    fn push(&mut self, part: Part) {
        if !(part == Part::Any && self.0.last() == Some(&Part::Any)) {
            self.0.push(part);
        }
    }

    fn push_char(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(c.to_string())),
        }
    }
}

/// A pattern made ready to match text that is already in the right case.
#[derive(Clone, Debug, PartialEq)]
pub struct TextMatcher {
    /// Whether case counts. If not, the needle is lower case and the text given must be.
    pub cased: bool,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Glob(Vec<Part>),
}

impl TextMatcher {
    /// Compiles a pattern. Lower-casing is Unicode's, as pySigma's.
    pub fn new(pattern: &Pattern, cased: bool) -> Self {
        let fold = |s: &str| if cased { s.to_owned() } else { s.to_lowercase() };
        let shape = match pattern.0.as_slice() {
            [] => Shape::Equals(String::new()),
            [Part::Text(t)] => Shape::Equals(fold(t)),
            [Part::Any, Part::Text(t)] => Shape::EndsWith(fold(t)),
            [Part::Text(t), Part::Any] => Shape::StartsWith(fold(t)),
            [Part::Any, Part::Text(t), Part::Any] => Shape::Contains(fold(t)),
            parts => Shape::Glob(
                parts
                    .iter()
                    .map(|p| match p {
                        Part::Text(t) => Part::Text(fold(t)),
                        wildcard => wildcard.clone(),
                    })
                    .collect(),
            ),
        };
        Self { cased, shape }
    }

    /// Whether the text matches; it must be lower case already unless [`TextMatcher::cased`].
    pub fn matches_folded(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Equals(t) => text == t,
            Shape::StartsWith(t) => text.starts_with(t.as_str()),
            Shape::EndsWith(t) => text.ends_with(t.as_str()),
            Shape::Contains(t) => memchr::memmem::find(text.as_bytes(), t.as_bytes()).is_some(),
            Shape::Glob(parts) => glob(parts, text),
        }
    }
}

/// Lower case by Unicode, borrowed when the text already is.
pub fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

/// Matches the whole text. Going back only to the latest `*` is enough: an earlier one could give
/// nothing that the latest cannot. So the work is at most text × pattern.
fn glob(parts: &[Part], text: &str) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match parts.get(part) {
            None if at == text.len() => return true,
            None => None,
            Some(Part::Any) => {
                retry = Some((part, at));
                part += 1;
                continue;
            }
            Some(Part::One) => text[at..].chars().next().map(char::len_utf8),
            Some(Part::Text(t)) => text[at..].starts_with(t.as_str()).then_some(t.len()),
        };
        if let Some(length) = step {
            at += length;
            part += 1;
            continue;
        }
        let Some((star, from)) = retry else { return false };
        let Some(skipped) = text[from..].chars().next() else { return false };
        at = from + skipped.len_utf8();
        retry = Some((star, at));
        part = star + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        TextMatcher::new(&Pattern::parse(pattern), false).matches_folded(&lower(text))
    }

    #[test]
    fn wildcards_and_escapes_are_those_of_the_specification() {
        for (pattern, text, expect) in [
            ("abc", "ABC", true),
            ("a*c", "abbbc", true),
            ("a*c", "a\nc", true),
            ("a?c", "äac", false),
            ("?bc", "äbc", true),
            ("*b*", "abc", true),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            (r"a\\*", r"a\anything", true),
            (r"a\\\*", r"a\*", true),
            (r"a\\\*", r"a\b", false),
            (r"\\\\x", r"\\x", true),
            (r"\\\x", r"\\x", true),
            (r"c:\temp", r"C:\Temp", true),
            ("x\\", "x\\", true),
            ("*a*b*c", "aXbXbXc", true),
            ("*a*b*c", "aXbXbXcd", false),
            ("a?", "a", false),
            ("", "", true),
            ("*", "", true),
            ("ÄÖ*", "äöü", true),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_hostile_glob_stays_cheap() {
        let text = "a".repeat(20_000);
        assert!(!matches(&format!("{}b", "*a".repeat(20)), &text));
    }

    #[test]
    fn dashes_that_start_a_parameter_have_five_forms() {
        let forms = |s: &str| Pattern::parse(s).with_any_dash(3).map(|f| f.len());
        assert_eq!(forms("-foo"), Some(5));
        assert_eq!(forms(" /foo -b"), Some(25));
        assert_eq!(forms("foo-bar"), Some(1));
        assert_eq!(forms("-a -b -c -d"), None);
    }
}
