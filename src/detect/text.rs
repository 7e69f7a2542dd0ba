//! Text of an event against a Sigma string, made ready: what the compiled program runs.

use crate::rule::{Part, Pattern, fold};

/// A pattern made ready to match text that is already in the right case.
#[derive(Clone, Debug)]
pub struct TextMatcher {
    /// Whether case counts. If not, the needle is folded and the text given must be.
    pub cased: bool,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Equals(Box<[u8]>),
    StartsWith(Box<[u8]>),
    EndsWith(Box<[u8]>),
    Contains(Box<memchr::memmem::Finder<'static>>),
    Glob(Vec<Step>),
}

/// A part of a pattern with inner wildcards.
#[derive(Clone, Debug)]
enum Step {
    Text(Box<[u8]>),
    Any,
    One,
}

impl TextMatcher {
    /// Compiles a pattern.
    pub fn new(pattern: &Pattern, cased: bool) -> Self {
        let bytes = |s: &str| -> Box<[u8]> {
            if cased { s.as_bytes().into() } else { fold(s).as_bytes().into() }
        };
        let shape = match pattern.parts() {
            [] => Shape::Equals(Box::default()),
            [Part::Text(t)] => Shape::Equals(bytes(t)),
            [Part::Any, Part::Text(t)] => Shape::EndsWith(bytes(t)),
            [Part::Text(t), Part::Any] => Shape::StartsWith(bytes(t)),
            [Part::Any, Part::Text(t), Part::Any] => {
                Shape::Contains(Box::new(memchr::memmem::Finder::new(&bytes(t)).into_owned()))
            }
            parts => Shape::Glob(
                parts
                    .iter()
                    .map(|part| match part {
                        Part::Text(t) => Step::Text(bytes(t)),
                        Part::Any => Step::Any,
                        Part::One => Step::One,
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
    pub fn matches_folded(&self, text: &[u8]) -> bool {
        match &self.shape {
            Shape::Equals(t) => *text == **t,
            Shape::StartsWith(t) => text.starts_with(t),
            Shape::EndsWith(t) => text.ends_with(t),
            Shape::Contains(finder) => finder.find(text).is_some(),
            Shape::Glob(steps) => glob(steps, text),
        }
    }
}

/// Matches the whole text. Going back only to the latest `*` is enough: an earlier one could give
/// nothing that the latest cannot. So the work is at most text × pattern.
fn glob(steps: &[Step], text: &[u8]) -> bool {
    let (mut step, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let taken = match steps.get(step) {
            None if at == text.len() => return true,
            None => None,
            Some(Step::Any) => {
                retry = Some((step, at));
                step += 1;
                continue;
            }
            Some(Step::One) => character(&text[at..]),
            Some(Step::Text(t)) => text[at..].starts_with(t).then_some(t.len()),
        };
        if let Some(length) = taken {
            at += length;
            step += 1;
            continue;
        }
        let Some((star, from)) = retry else { return false };
        let Some(skipped) = character(&text[from..]) else { return false };
        at = from + skipped;
        retry = Some((star, at));
        step = star + 1;
    }
}

/// Bytes of the first character of UTF-8; `None` at the end.
fn character(text: &[u8]) -> Option<usize> {
    Some(match text.first()? {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        TextMatcher::new(&Pattern::parse(pattern), false).matches_folded(fold(text).as_bytes())
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
            let fast = TextMatcher::new(&pattern, cased).matches_folded(folded.as_bytes());
            proptest::prop_assert_eq!(fast, pattern.matches(&text, cased));
        }
    }
}
