//! Text of an event against a Sigma string, made ready: what the compiled program runs.

use crate::rule::{Part, Pattern, fold};

/// A pattern made ready to match text that is already in the right case.
#[derive(Clone, Debug, PartialEq)]
pub struct TextMatcher {
    /// Whether case counts. If not, the needle is folded and the text given must be.
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
    /// Compiles a pattern.
    pub fn new(pattern: &Pattern, cased: bool) -> Self {
        let fold = |s: &str| if cased { s.to_owned() } else { fold(s).into_owned() };
        let shape = match pattern.parts() {
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

    /// About how long it takes, relative to comparing two short texts.
    pub fn cost(&self) -> u32 {
        match self.shape {
            Shape::Equals(_) | Shape::StartsWith(_) | Shape::EndsWith(_) => 1,
            Shape::Contains(_) => 6,
            Shape::Glob(_) => 12,
        }
    }

    /// Whether the text matches; it must be folded already unless [`TextMatcher::cased`].
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
        TextMatcher::new(&Pattern::parse(pattern), false).matches_folded(&fold(text))
    }

    #[test]
    fn a_hostile_glob_stays_cheap() {
        let text = "a".repeat(20_000);
        assert!(!matches(&format!("{}b", "*a".repeat(20)), &text));
    }

    proptest::proptest! {
        #[test]
        fn every_shape_answers_as_the_plain_pattern(
            pattern in "[aAb*?\\\\äİß]{0,8}",
            text in "[aAbB*äÄİiß̇\n]{0,10}",
            cased in proptest::bool::ANY,
        ) {
            let pattern = Pattern::parse(&pattern);
            let folded = if cased { text.clone() } else { fold(&text).into_owned() };
            let fast = TextMatcher::new(&pattern, cased).matches_folded(&folded);
            proptest::prop_assert_eq!(fast, pattern.matches(&text, cased));
        }
    }
}
