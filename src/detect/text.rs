//! Text of an event against a Sigma string, made ready: what the compiled program runs.

use memchr::memmem::Finder;

use super::texts::{Form, escaped, is_whole};
use crate::rule::{Part, Pattern, fold};

/// A pattern made ready to match text in one form.
#[derive(Clone, Debug)]
pub struct TextMatcher {
    /// The form that the text must have.
    pub form: Form,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Equals(Box<[u8]>),
    StartsWith(Box<[u8]>),
    EndsWith(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    Glob(Box<Glob>),
}

/// A pattern with inner wildcards, cut at its `*`.
#[derive(Clone, Debug)]
struct Glob {
    /// What the text begins with.
    head: Box<[Step]>,
    /// What must follow somewhere, in this order.
    middle: Box<[Middle]>,
    /// What the text ends with; `None` when there is no `*`.
    tail: Option<Box<[Step]>>,
}

/// What stands between two `*`.
#[derive(Clone, Debug)]
struct Middle {
    /// Characters that come first.
    skipped: usize,
    /// The text behind them.
    text: Finder<'static>,
    /// What follows it.
    behind: Box<[Step]>,
}

/// A part of a pattern without `*`.
#[derive(Clone, Debug)]
enum Step {
    Text(Box<[u8]>),
    One,
}

impl TextMatcher {
    /// Compiles a pattern.
    pub fn new(pattern: &Pattern, cased: bool) -> Self {
        let form = match pattern.parts() {
            _ if cased => Form::Text,
            [] | [Part::Text(_)] | [Part::Any, Part::Text(_)] => Form::Canonical,
            [Part::Text(_), Part::Any] | [Part::Any, Part::Text(_), Part::Any] => Form::Canonical,
            _ => Form::Folded,
        };
        let bytes = |s: &str| -> Box<[u8]> {
            match form {
                Form::Text => s.as_bytes().into(),
                Form::Folded => fold(s).as_bytes().into(),
                Form::Canonical => escaped(&fold(s)).into(),
            }
        };
        let shape = match pattern.parts() {
            [] => Shape::Equals(Box::default()),
            [Part::Text(t)] => Shape::Equals(bytes(t)),
            [Part::Any, Part::Text(t)] => Shape::EndsWith(bytes(t)),
            [Part::Text(t), Part::Any] => Shape::StartsWith(bytes(t)),
            [Part::Any, Part::Text(t), Part::Any] => {
                Shape::Contains(Box::new(Finder::new(&bytes(t)).into_owned()))
            }
            parts => Shape::Glob(Box::new(Glob::new(parts, bytes))),
        };
        Self { form, shape }
    }

    /// About how long it takes, relative to comparing two short texts.
    pub fn cost(&self) -> u32 {
        match self.shape {
            Shape::Equals(_) | Shape::StartsWith(_) | Shape::EndsWith(_) => 1,
            Shape::Contains(_) => 6,
            Shape::Glob(_) => 12,
        }
    }

    /// The canonical literal that has to be anywhere in a text, if that is all.
    pub fn contained(&self) -> Option<&Finder<'static>> {
        match &self.shape {
            Shape::Contains(finder) if self.form == Form::Canonical => Some(finder),
            _ => None,
        }
    }

    /// Whether the text, in the [form](TextMatcher::form) that is asked for, matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let is_whole = |at: usize| self.form != Form::Canonical || is_whole(text, at);
        match &self.shape {
            Shape::Equals(t) => *text == **t,
            Shape::StartsWith(t) => text.starts_with(t),
            Shape::EndsWith(t) => text.ends_with(t) && is_whole(text.len() - t.len()),
            Shape::Contains(finder) => finder.find_iter(text).any(is_whole),
            Shape::Glob(glob) => glob.is_match(text),
        }
    }
}

impl Glob {
    fn new(parts: &[Part], bytes: impl Fn(&str) -> Box<[u8]>) -> Self {
        let step = |part: &Part| match part {
            Part::Text(t) => Step::Text(bytes(t)),
            _ => Step::One,
        };
        let mut pieces = parts
            .split(|part| matches!(part, Part::Any))
            .map(|piece| piece.iter().map(step).collect::<Box<[Step]>>());
        let head = pieces.next().unwrap_or_default();
        let mut middle: Vec<Box<[Step]>> = pieces.collect();
        let tail = middle.pop();
        let middle =
            middle.iter().filter(|piece| !piece.is_empty()).map(|piece| Middle::new(piece));
        Self { head, middle: middle.collect(), tail }
    }

    /// Whether it matches the whole text. Each piece is taken where it is found first: a later place
    /// could give nothing that this one cannot.
    fn is_match(&self, text: &[u8]) -> bool {
        let Some(mut at) = prefix(&self.head, text) else { return false };
        let Some(tail) = &self.tail else { return at == text.len() };
        let Some(end) = suffix(tail, text) else { return false };
        for piece in &self.middle {
            let Some(found) = text.get(at..).and_then(|text| piece.find(text)) else {
                return false;
            };
            at += found;
        }
        at <= end
    }
}

impl Middle {
    fn new(piece: &[Step]) -> Self {
        let skipped = piece.iter().take_while(|step| matches!(step, Step::One)).count();
        let (text, behind) = match &piece[skipped..] {
            [Step::Text(text), behind @ ..] => (&**text, behind),
            rest => (&[][..], rest),
        };
        let text = Finder::new(text).into_owned();
        Self { skipped, text, behind: behind.into() }
    }

    /// The end of the first place that it matches.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        for _ in 0..self.skipped {
            at += character(&text[at..])?;
        }
        loop {
            let end = at + self.text.find(&text[at..])? + self.text.needle().len();
            if let Some(behind) = prefix(&self.behind, &text[end..]) {
                return Some(end + behind);
            }
            // A text begins with a whole character.
            at = end - self.text.needle().len() + 1;
        }
    }
}

/// Where these end if the text begins with them.
fn prefix(steps: &[Step], text: &[u8]) -> Option<usize> {
    steps.iter().try_fold(0, |at, step| {
        let rest = text.get(at..)?;
        Some(
            at + match step {
                Step::Text(t) => rest.starts_with(t).then_some(t.len())?,
                Step::One => character(rest)?,
            },
        )
    })
}

/// Where these begin if the text ends with them.
fn suffix(steps: &[Step], text: &[u8]) -> Option<usize> {
    steps.iter().rev().try_fold(text.len(), |end, step| {
        let rest = &text[..end];
        Some(
            end - match step {
                Step::Text(t) => rest.ends_with(t).then_some(t.len())?,
                Step::One => rest.iter().rev().position(|byte| byte & 0xc0 != 0x80)? + 1,
            },
        )
    })
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
        matches_cased(&Pattern::parse(pattern), text, false)
    }

    fn matches_cased(pattern: &Pattern, text: &str, cased: bool) -> bool {
        let matcher = TextMatcher::new(pattern, cased);
        match matcher.form {
            Form::Text => matcher.matches(text.as_bytes()),
            Form::Folded => matcher.matches(fold(text).as_bytes()),
            Form::Canonical => matcher.matches(&escaped(&fold(text))),
        }
    }

    #[test]
    fn a_hostile_glob_stays_cheap() {
        let text = "a".repeat(20_000);
        assert!(!matches(&format!("{}b", "*a".repeat(20)), &text));
    }

    proptest::proptest! {
        #[test]
        fn every_shape_answers_as_the_plain_pattern(
            pattern in "[aAbn*?\\\\äİß\n\"]{0,8}",
            text in "[aAbBn*äÄİiß̇\n\\\\\"]{0,10}",
            cased in proptest::bool::ANY,
        ) {
            let pattern = Pattern::parse(&pattern);
            let fast = matches_cased(&pattern, &text, cased);
            proptest::prop_assert_eq!(fast, pattern.matches(&text, cased));
        }
    }
}
