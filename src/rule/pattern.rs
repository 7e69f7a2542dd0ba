//! Sigma strings: text with `*` and `?`, and their escapes (Sigma rules specification, String
//! Wildcard and Escaping).

use crate::event::fold;
/// One part of a Sigma string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `*`: any run of characters, also none and newlines.
    Any,
    /// `?`: exactly one character.
    One,
}

/// A Sigma string with its wildcards told apart from literal text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
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

    /// Of these parts; neighbouring texts become one.
    pub fn from_parts(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut pattern = Self::default();
        for part in parts {
            match part {
                Part::Text(text) => text.chars().for_each(|c| pattern.push_char(c)),
                wildcard => pattern.push(wildcard),
            }
        }
        pattern
    }

    /// Its parts, in order; no two `*` stand next to each other.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether it matches the whole of a text, in the plainest way: after each part, where in the text
    /// it may end. Case does not count unless `cased`.
    pub fn matches(&self, text: &str, cased: bool) -> bool {
        let folded = |s: &str| if cased { s.to_owned() } else { fold(s).into_owned() };
        let text = folded(text);
        let mut ends = vec![0];
        for part in &self.0 {
            ends = match part {
                Part::Any => {
                    let from = ends.first().copied().unwrap_or(usize::MAX);
                    (from..=text.len()).filter(|i| text.is_char_boundary(*i)).collect()
                }
                Part::One => ends
                    .into_iter()
                    .filter_map(|end| Some(end + text[end..].chars().next()?.len_utf8()))
                    .collect(),
                Part::Text(t) => {
                    let t = folded(t);
                    let fits = |end: &usize| text[*end..].starts_with(t.as_str());
                    ends.into_iter().filter(fits).map(|end| end + t.len()).collect()
                }
            };
        }
        ends.contains(&text.len())
    }

    /// The Sigma string that [`Pattern::parse`] reads as this pattern.
    pub fn written(&self) -> String {
        let mut out = String::new();
        for (i, part) in self.0.iter().enumerate() {
            let Part::Text(text) = part else {
                out.push(if *part == Part::Any { '*' } else { '?' });
                continue;
            };
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                // A backslash is itself, unless what follows would make it an escape.
                let escapes = match chars.peek() {
                    Some(next) => matches!(next, '*' | '?' | '\\'),
                    None => i + 1 < self.0.len(),
                };
                if matches!(c, '*' | '?') || c == '\\' && escapes {
                    out.push('\\');
                }
                out.push(c);
            }
        }
        out
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

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).matches(text, false)
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
            ("*ΟΔΟΣ*", "οδοσα", true),
            ("ΟΔΟΣ", "οδος", true),
            ("a?c", "aİc", true),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_is_written_as_it_is_read() {
        for text in [r"a\\*", r"a\\\*b", r"c:\temp\", "*x?", r"\*\?", r"\\\\host", r"a\\", "", "a*"]
        {
            let pattern = Pattern::parse(text);
            assert_eq!(Pattern::parse(&pattern.written()), pattern, "{text}");
        }
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
