//! Work on single values: replacing parts of a text, its case, kinds of hashes, numbers.

use regex::{Captures, Regex};

use crate::rule::pattern::{Part, Pattern};
use crate::rule::yaml::Yaml;

/// Which case letters get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
    /// `CommandLine` becomes `command_line`.
    Snake,
}

impl Case {
    /// The names, the usual one first.
    pub const NAMES: &[&str] = &["lower", "upper", "snake_case"];

    /// By its name.
    pub fn named(name: &str) -> Self {
        match name {
            "upper" => Self::Upper,
            "snake_case" => Self::Snake,
            _ => Self::Lower,
        }
    }

    /// The text in this case.
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
            Self::Snake => {
                let mut out = String::with_capacity(text.len() + 4);
                for (i, c) in text.char_indices() {
                    if i > 0 && c.is_ascii_uppercase() {
                        out.push('_');
                    }
                    out.push(c);
                }
                out.to_lowercase()
            }
        }
    }

    /// A pattern with its text in this case.
    pub fn apply_to(self, pattern: &Pattern) -> Pattern {
        map_texts(pattern, |text| vec![Part::Text(self.apply(text))])
    }
}

fn map_texts(pattern: &Pattern, change: impl Fn(&str) -> Vec<Part>) -> Pattern {
    Pattern::from_parts(pattern.parts().iter().flat_map(|part| match part {
        Part::Text(text) => change(text),
        wildcard => vec![wildcard.clone()],
    }))
}

/// A pattern as plain text: wildcards as they are written, literal `*` and `?` with a backslash.
pub fn plain(pattern: &Pattern) -> String {
    units(pattern).into_iter().map(|(text, _)| text).collect()
}

/// Every character and wildcard with its plain text.
fn units(pattern: &Pattern) -> Vec<(String, Part)> {
    let character = |c: char| {
        let text = if matches!(c, '*' | '?') { format!("\\{c}") } else { c.to_string() };
        (text, Part::Text(c.to_string()))
    };
    let part = |part: &Part| match part {
        Part::Text(text) => text.chars().map(character).collect(),
        Part::Any => vec![("*".to_owned(), Part::Any)],
        Part::One => vec![("?".to_owned(), Part::One)],
    };
    pattern.parts().iter().flat_map(part).collect()
}

/// A piece of what takes the place of a match.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
    Name(String),
}

/// `replace_string`.
#[derive(Clone, Debug)]
pub struct Replacement {
    regex: Regex,
    pieces: Vec<Piece>,
    skip_special: bool,
    interpret_special: bool,
}

impl Replacement {
    /// Of an expression and what takes the place of its matches.
    ///
    /// # Errors
    /// A group that the expression does not have, or a wrong escape.
    pub fn new(
        regex: Regex,
        text: &str,
        skip_special: bool,
        interpret_special: bool,
    ) -> Result<Self, String> {
        let pieces = pieces(text)?;
        for piece in &pieces {
            match piece {
                Piece::Group(n) if *n >= regex.captures_len() => {
                    return Err(format!("the expression has no group {n}"));
                }
                Piece::Name(name) if !regex.capture_names().flatten().any(|n| n == name) => {
                    return Err(format!("the expression has no group `{name}`"));
                }
                _ => {}
            }
        }
        Ok(Self { regex, pieces, skip_special, interpret_special })
    }

    /// The pattern with every match replaced.
    pub fn apply(&self, pattern: &Pattern) -> Pattern {
        if !self.skip_special {
            return self.apply_to_plain(pattern);
        }
        map_texts(pattern, |text| {
            let replaced = self.regex.replace_all(text, |found: &Captures<'_>| self.expand(found));
            match self.interpret_special {
                true => Pattern::parse(&replaced).parts().to_vec(),
                false => vec![Part::Text(replaced.into_owned())],
            }
        })
    }

    fn expand(&self, found: &Captures<'_>) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Group(n) => found.get(*n).map_or_else(String::new, |m| m.as_str().to_owned()),
            Piece::Name(name) => {
                found.name(name).map_or_else(String::new, |m| m.as_str().to_owned())
            }
        };
        self.pieces.iter().map(text).collect()
    }

    /// Works on the plain text. Only what was replaced is read anew: in what stays, a backslash before
    /// a wildcard would be taken for an escape.
    fn apply_to_plain(&self, pattern: &Pattern) -> Pattern {
        let mut rewriting = Rewriting::new(pattern);
        let text = rewriting.text.clone();
        let mut at = 0;
        for found in self.regex.captures_iter(&text) {
            let Some(whole) = found.get(0) else { continue };
            rewriting.keep(at, whole.start());
            rewriting.pending.push_str(&self.expand(&found));
            at = whole.end();
        }
        rewriting.keep(at, text.len());
        flush(&mut rewriting.pending, &mut rewriting.out);
        Pattern::from_parts(rewriting.out)
    }
}

/// A pattern whose plain text is being replaced piece by piece, from left to right.
struct Rewriting {
    text: String,
    /// Where each character or wildcard stands in the text.
    units: Vec<(usize, usize, Part)>,
    /// The first of `units` that is not done.
    next: usize,
    out: Vec<Part>,
    /// Plain text that is to be read anew.
    pending: String,
}

impl Rewriting {
    fn new(pattern: &Pattern) -> Self {
        let mut text = String::new();
        let mut spans = Vec::new();
        for (unit, part) in units(pattern) {
            let start = text.len();
            text.push_str(&unit);
            spans.push((start, text.len(), part));
        }
        Self { text, units: spans, next: 0, out: Vec::new(), pending: String::new() }
    }

    /// Takes over what stands between two places; a unit that is cut becomes text to read anew.
    fn keep(&mut self, from: usize, to: usize) {
        while let Some((start, end, part)) = self.units.get(self.next) {
            if *start >= to {
                break;
            }
            if *start >= from && *end <= to {
                flush(&mut self.pending, &mut self.out);
                self.out.push(part.clone());
            } else if *end > from {
                self.pending.push_str(&self.text[from.max(*start)..to.min(*end)]);
            }
            if *end > to {
                break;
            }
            self.next += 1;
        }
    }
}

/// Reads plain text that was put in: a backslash counts only before a wildcard.
fn flush(pending: &mut String, out: &mut Vec<Part>) {
    let text = std::mem::take(pending);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => {
                let escaped = chars.next_if(|next| matches!(next, '*' | '?'));
                Part::Text(escaped.unwrap_or('\\').to_string())
            }
            c => Part::Text(c.to_string()),
        });
    }
}

/// Reads `\1`, `\g<1>`, `\g<name>`, `\\` and the usual escapes.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let Some(escape) = rest.chars().next().filter(|_| c == '\\') else {
            literal.push(c);
            continue;
        };
        let digits = rest.chars().take_while(char::is_ascii_digit).take(2).count();
        let piece = if digits > 0 {
            let number = &rest[..digits];
            rest = &rest[digits..];
            Piece::Group(number.parse().map_err(|_| format!("`\\{number}` is no group"))?)
        } else if let Some(after) = rest.strip_prefix("g<") {
            let Some((name, after)) = after.split_once('>') else {
                return Err(r"`\g<` is never closed".to_owned());
            };
            rest = after;
            name.parse().map_or_else(|_| Piece::Name(name.to_owned()), Piece::Group)
        } else {
            rest = &rest[escape.len_utf8()..];
            match escape {
                '\\' => literal.push('\\'),
                'n' => literal.push('\n'),
                'r' => literal.push('\r'),
                't' => literal.push('\t'),
                c if c.is_ascii_alphabetic() => return Err(format!("`\\{c}` is no escape")),
                c => literal.extend(['\\', c]),
            }
            continue;
        };
        pieces.push(Piece::Text(std::mem::take(&mut literal)));
        pieces.push(piece);
    }
    pieces.push(Piece::Text(literal));
    Ok(pieces)
}

/// The number that a text is.
pub fn number(text: &str) -> Option<Yaml> {
    let text = text.trim();
    if let Ok(n) = text.parse::<i128>() {
        return Some(Yaml::Int(n));
    }
    text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Yaml::Float)
}

/// Kind and digits of a hash such as `SHA1=…`, `*MD5|…` or the digits alone, whose length tells.
pub fn hash(text: &str) -> (String, String) {
    let bare = |digits: &str| digits.trim_matches(['*', '?']).to_owned();
    let separator = if text.contains('|') { '|' } else { '=' };
    match text.split(separator).collect::<Vec<_>>().as_slice() {
        [kind, digits] => (kind.trim_start_matches('*').to_uppercase(), bare(digits)),
        parts => {
            let digits = bare(parts.first().copied().unwrap_or_default());
            let kind = match digits.chars().count() {
                32 => "MD5",
                40 => "SHA1",
                64 => "SHA256",
                128 => "SHA512",
                _ => "",
            };
            (kind.to_owned(), digits)
        }
    }
}
