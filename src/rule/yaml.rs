//! YAML text → a tree in which every node knows its place.
//!
//! Sigma rules are written for YAML 1.1 loaders (PyYAML), so plain scalars resolve as PyYAML resolves
//! them: `yes` is a boolean, `010` is eight, `00000429` is text. The parser underneath is YAML 1.2;
//! the difference lies in [`resolve`] alone. Duplicate keys are errors: of two `Image|endswith` in
//! one map a loader would silently lose one.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Code, Diagnostic, Place};
use crate::limits::{RULE_FILE_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// A scalar as a whole, or what stands in brackets; the first key of a block mapping, the first
    /// dash of a block list. What is not written, as the value of `key:`, is at its key.
    pub place: Place,
    /// What it is.
    pub value: Yaml,
}

/// A resolved YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    /// `null`, `~` or nothing.
    Null,
    /// A YAML 1.1 boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A number with a point or exponent, or an integer beyond i128.
    Float(f64),
    /// Text; dates stay text.
    Str(String),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping in file order; keys are text.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// First character of the key.
    pub place: Place,
    /// The key as written.
    pub text: String,
}

impl Node {
    /// The member of that name, when this is a mapping that has it.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.members().iter().find(|(k, _)| k.text == name).map(|(_, v)| v)
    }

    /// The key of that name, when this is a mapping that has it.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.members().iter().find(|(k, _)| k.text == name).map(|(k, _)| k)
    }

    /// The members of a mapping; none for anything else.
    pub fn members(&self) -> &[(Key, Node)] {
        match &self.value {
            Yaml::Map(members) => members,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Yaml::Str(s) => Some(s),
            _ => None,
        }
    }

    /// A scalar as text, for header fields where `date: 2024` and `id: 17` are welcome.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Yaml::Str(s) => Some(s.clone()),
            Yaml::Int(n) => Some(n.to_string()),
            Yaml::Float(n) => Some(n.to_string()),
            Yaml::Bool(b) => Some(b.to_string()),
            _ => None,
        }
    }

    /// The same as JSON; integers beyond 64 bits and numbers that JSON has not become text.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Yaml::Null => Json::Null,
            Yaml::Bool(b) => Json::Bool(*b),
            Yaml::Int(n) => i64::try_from(*n).map_or_else(|_| n.to_string().into(), Json::from),
            Yaml::Float(n) => {
                serde_json::Number::from_f64(*n).map_or_else(|| n.to_string().into(), Json::Number)
            }
            Yaml::Str(s) => Json::String(s.clone()),
            Yaml::Seq(items) => items.iter().map(Self::to_json).collect(),
            Yaml::Map(members) => {
                let member = |(k, v): &(Key, Self)| (k.text.clone(), v.to_json());
                Json::Object(members.iter().map(member).collect())
            }
        }
    }

    /// What it is called in an error.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Null => "null",
            Yaml::Bool(_) => "a boolean",
            Yaml::Int(_) | Yaml::Float(_) => "a number",
            Yaml::Str(_) => "a string",
            Yaml::Seq(_) => "a list",
            Yaml::Map(_) => "a mapping",
        }
    }
}

/// Reads all documents of one file.
///
/// # Errors
/// A diagnostic with its place: not YAML, duplicate key, too large, too deep, unknown alias.
pub fn parse(text: &str) -> Result<Vec<Node>, Diagnostic> {
    if text.len() > RULE_FILE_BYTES_MAX {
        let what =
            format!("file of {} bytes is over the limit of {RULE_FILE_BYTES_MAX}", text.len());
        return Err(Diagnostic::error(Code::Yaml, Place::default(), what)
            .help("split it into several files"));
    }
    if let Some(place) = lone_carriage_return(text) {
        let what = "a carriage return that no line feed follows";
        return Err(Diagnostic::error(Code::Yaml, place, what)
            .help("end lines with a line feed, or with both"));
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((event, span)) => builder.event(event, span)?,
            Err(e) => {
                let place = Place::new(e.marker().line(), e.marker().col() + 1);
                let place = place.clamped(text);
                return Err(not_yaml(text, place, e.info()));
            }
        }
    }
    Ok(builder.documents)
}

enum Open {
    Seq(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

/// Where a list or mapping begins.
struct Start {
    place: Place,
    /// The same in characters of the text.
    index: usize,
    anchor: usize,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<(Open, Start)>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let place = Place::new(span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let place = place.spanning(span.len());
                let tagged_text = tag.as_ref().is_some_and(|t| t.suffix == "str");
                let value = match style {
                    ScalarStyle::Plain if !tagged_text && !self.at_key() => resolve(&text),
                    _ => Yaml::Str(text.into_owned()),
                };
                let place = if place.length == 0 { self.key_place(place) } else { place };
                self.count(1, place)?;
                self.close(Node { place, value }, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let start = Start { place, index: span.start.index(), anchor };
                self.push(Open::Seq(Vec::new()), start)
            }
            Event::MappingStart(anchor, _) => {
                let start = Start { place, index: span.start.index(), anchor };
                self.push(Open::Map(Vec::new(), None), start)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((open, start)) = self.open.pop() else { return Ok(()) };
                // Only the end of what stands in brackets is written.
                let length = if span.is_empty() { 0 } else { span.end.index() - start.index };
                let (place, anchor) = (start.place.spanning(length), start.anchor);
                let node = match open {
                    Open::Seq(items) => Node { place, value: Yaml::Seq(items) },
                    Open::Map(members, _) => mapping(place, members),
                };
                self.close(node, anchor)
            }
            Event::Alias(id) => {
                let known = self.anchors.iter().rev().find(|(a, _)| *a == id).map(|(_, n)| n);
                let Some(node) = known.cloned() else {
                    let what = "alias to an anchor that is not complete here";
                    return Err(Diagnostic::error(Code::Yaml, place.spanning(span.len()), what)
                        .help("an alias stands after its anchor, never inside"));
                };
                let place = place.spanning(span.len());
                self.count(size(&node), place)?;
                self.close(Node { place, ..node }, 0)
            }
            Event::DocumentEnd | Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => Ok(()),
        }
    }

    /// Whether the next node is a key; keys stay as they are written, be they `yes` or `010`.
    fn at_key(&self) -> bool {
        matches!(self.open.last(), Some((Open::Map(_, None), ..)))
    }

    /// The place of the key whose value comes next, else `place`.
    fn key_place(&self, place: Place) -> Place {
        match self.open.last() {
            Some((Open::Map(_, Some(key)), ..)) => key.place,
            _ => place,
        }
    }

    fn push(&mut self, open: Open, start: Start) -> Result<(), Diagnostic> {
        self.count(1, start.place)?;
        if self.open.len() >= YAML_DEPTH_MAX {
            let what = format!("nested deeper than the limit of {YAML_DEPTH_MAX}");
            return Err(Diagnostic::error(Code::Yaml, start.place, what).help("nest it less deep"));
        }
        self.open.push((open, start));
        Ok(())
    }

    fn count(&mut self, n: usize, place: Place) -> Result<(), Diagnostic> {
        self.nodes += n;
        if self.nodes <= YAML_NODES_MAX {
            return Ok(());
        }
        let what = format!("more than {YAML_NODES_MAX} nodes, aliases expanded");
        Err(Diagnostic::error(Code::Yaml, place, what)
            .help("split the file, or write fewer aliases to large parts"))
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some((Open::Seq(items), ..)) => items.push(node),
            Some((Open::Map(members, pending), ..)) => match pending.take() {
                None => *pending = Some(key(node, members)?),
                Some(key) => members.push((key, node)),
            },
        }
        Ok(())
    }
}

/// A block mapping begins with its first key: that is what is pointed at.
fn mapping(place: Place, members: Vec<(Key, Node)>) -> Node {
    let first = members.first().map(|(key, _)| key.place);
    let place = first.filter(|f| (f.line, f.column) == (place.line, place.column)).unwrap_or(place);
    Node { place, value: Yaml::Map(members) }
}

/// What the parser could not read, with the usual cause where the text shows it.
/// Readers disagree on whether it ends a line, and so on where anything behind it stands.
fn lone_carriage_return(text: &str) -> Option<Place> {
    let (at, _) = text
        .match_indices('\r')
        .find(|(at, _)| text.as_bytes().get(at + 1).is_none_or(|next| *next != b'\n'))?;
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    Some(Place::new(before.matches('\n').count() + 1, before[start..].chars().count() + 1))
}

fn not_yaml(text: &str, place: Place, reason: &str) -> Diagnostic {
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    let blanks: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if let Some(tab) = blanks.chars().position(|c| c == '\t') {
        let what = "a tab indents this line: YAML takes only spaces";
        return Diagnostic::error(Code::Yaml, Place::new(place.line, tab + 1), what)
            .help("indent with spaces");
    }
    let (place, help) = usual_cause(line, place, reason);
    Diagnostic::error(Code::Yaml, place, format!("not YAML: {reason}")).help(help)
}

/// The word that is meant, and what is usually wrong with such a line.
fn usual_cause(line: &str, place: Place, reason: &str) -> (Place, &'static str) {
    let rest = || line.chars().skip(place.column - 1);
    let word: String = rest().take_while(|c| !c.is_whitespace()).collect();
    let at_word = place.spanning(word.trim_end_matches(':').chars().count().max(1));
    if reason.contains("escape") {
        let known = |c: char| "0abtnvfre\"/\\N_LPxuU \t".contains(c);
        let chars: Vec<char> = rest().collect();
        let mut at = 0;
        while chars
            .get(at)
            .is_some_and(|c| *c != '\\' || chars.get(at + 1).copied().is_some_and(known))
        {
            at += if chars[at] == '\\' { 2 } else { 1 };
        }
        let place = Place::new(place.line, place.column + at).spanning(2);
        return (place, "put a value with backslashes in single quotes");
    }
    let help = match line.trim_start().trim_start_matches("- ").split_once(": ") {
        _ if reason.contains("unknown anchor") => {
            "a value that begins with `*` goes in quotes; else it is an alias to `&…`"
        }
        Some((_, value)) if value.starts_with(['*', '%', '@', '`', '&', '!']) => {
            "put a value that begins with one of `* & ! % @` in quotes"
        }
        _ if reason.contains("quoted scalar") => "close the quote, on the same line if it can be",
        Some((_, value)) if value.contains(": ") => {
            "put a value that holds a colon and a blank in quotes"
        }
        _ => "look at this line and the one before: is the indentation right, and a quote open?",
    };
    (at_word, help)
}

fn key(node: Node, members: &[(Key, Node)]) -> Result<Key, Diagnostic> {
    let Some(text) = node.scalar_text() else {
        let what = format!("a key must be text, this is {}", node.kind());
        return Err(Diagnostic::error(Code::Yaml, node.place, what)
            .help("write `key: value`; put a text that begins with `[` or `{` in quotes"));
    };
    if let Some((first, _)) = members.iter().find(|(k, _)| k.text == text) {
        let what = format!("duplicate key `{text}`: the first is on line {}", first.place.line);
        let help = "a YAML loader would keep only one of the two; put the values into one list";
        return Err(Diagnostic::error(Code::DuplicateKey, node.place, what)
            .label(first.place, "the first is here")
            .help(help));
    }
    Ok(Key { place: node.place, text })
}

/// The place of some characters of a scalar's value in the text that it was read from.
///
/// The value is walked along with its source: quotes, escapes, line ends and the indentation of block
/// scalars stand only in the source. Where the two part in a way that is not foreseen, the place of
/// the whole scalar is given.
pub fn locate(text: &str, scalar: Place, characters: Range<usize>) -> Place {
    let source: Vec<char> = text[scalar.bytes_in(text)].chars().collect();
    let mut walk = Walk { source: &source, at: 0, line: scalar.line, column: scalar.column };
    if matches!(source.first(), Some('\'' | '"')) && source.len() == scalar.length {
        walk.quote();
    }
    for _ in 0..characters.start {
        if !walk.step() {
            return scalar;
        }
    }
    walk.skip_to_text();
    let (start, place) = (walk.at, Place::new(walk.line, walk.column));
    for _ in characters {
        walk.step();
    }
    place.spanning(walk.at.saturating_sub(start).max(1))
}

/// A walk over the source of a scalar, one character of the value at a time.
struct Walk<'s> {
    source: &'s [char],
    at: usize,
    line: usize,
    column: usize,
}

impl Walk<'_> {
    fn quote(&mut self) {
        self.forward(1);
    }

    fn forward(&mut self, n: usize) {
        for _ in 0..n {
            match self.source.get(self.at) {
                Some('\n') => (self.line, self.column) = (self.line + 1, 1),
                _ => self.column += 1,
            }
            self.at += 1;
        }
    }

    /// Goes over what stands for one character of the value; false at the end.
    fn step(&mut self) -> bool {
        self.skip_to_text();
        let double = self.source.first() == Some(&'"');
        let single = self.source.first() == Some(&'\'');
        let length = match (self.source.get(self.at), self.source.get(self.at + 1)) {
            (None, _) => return false,
            (Some('\\'), Some('x')) if double => 4,
            (Some('\\'), Some('u')) if double => 6,
            (Some('\\'), Some('U')) if double => 10,
            (Some('\\'), Some(_)) if double => 2,
            (Some('\''), Some('\'')) if single => 2,
            (Some('\n'), _) => 1 + self.indentation(self.at + 1),
            _ => 1,
        };
        self.forward(length);
        true
    }

    /// Blanks before a line end, which folding drops.
    fn skip_to_text(&mut self) {
        let blanks =
            self.source[self.at.min(self.source.len())..].iter().take_while(|c| **c == ' ').count();
        if blanks > 0 && self.source.get(self.at + blanks) == Some(&'\n') {
            self.forward(blanks);
        }
    }

    fn indentation(&self, from: usize) -> usize {
        self.source[from..].iter().take_while(|c| **c == ' ').count()
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Yaml::Seq(items) => 1 + items.iter().map(size).sum::<usize>(),
        Yaml::Map(members) => 1 + members.iter().map(|(_, n)| 1 + size(n)).sum::<usize>(),
        _ => 1,
    }
}

/// Whether this text, written without quotes, would still be text.
pub fn reads_as_text(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "/\\._-$%".contains(c);
    text.starts_with(plain)
        && !text.ends_with(char::is_whitespace)
        && matches!(resolve(text), Yaml::Str(_))
}

/// What a plain scalar means to a YAML 1.1 loader.
fn resolve(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Yaml::Bool(true);
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Yaml::Bool(false);
        }
        _ => {}
    }
    int(text).or_else(|| float(text)).unwrap_or_else(|| Yaml::Str(text.to_owned()))
}

fn int(text: &str) -> Option<Yaml> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits: String = body.chars().filter(|c| *c != '_').collect();
    let (radix, digits) = match body.as_bytes() {
        [b'0', b'x', _, ..] => (16, &digits[2..]),
        [b'0', b'b', _, ..] => (2, &digits[2..]),
        [b'0'] => (10, digits.as_str()),
        [b'0', ..] => (8, &digits[1..]),
        [b'1'..=b'9', ..] if body.contains(':') => return sexagesimal(body, negative),
        [b'1'..=b'9', ..] => (10, digits.as_str()),
        _ => return None,
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let sign = if negative { -1 } else { 1 };
    match i128::from_str_radix(digits, radix).map(|n| n * sign) {
        Ok(n) => Some(Yaml::Int(n)),
        Err(_) => {
            let digits = digits.chars().filter_map(|c| c.to_digit(radix));
            let size = digits.fold(0.0, |n, d| n * f64::from(radix) + f64::from(d));
            Some(Yaml::Float(size * sign as f64))
        }
    }
}

/// `1:30` is ninety to a YAML 1.1 loader: digits in base sixty.
fn sexagesimal(body: &str, negative: bool) -> Option<Yaml> {
    let mut total: i128 = 0;
    for (i, part) in body.split(':').enumerate() {
        let part: String = part.chars().filter(|c| i > 0 || *c != '_').collect();
        let short = i == 0 || (part.len() <= 2 && !part.is_empty());
        let n: i128 = part.chars().all(|c| c.is_ascii_digit()).then(|| part.parse().ok())??;
        if !short || (i > 0 && n > 59) {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(n)?;
    }
    Some(Yaml::Int(if negative { -total } else { total }))
}

/// PyYAML wants a point in a float, and a sign in its exponent: `1e3` is text.
fn float(text: &str) -> Option<Yaml> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let negative = text.starts_with('-');
    if matches!(body, ".inf" | ".Inf" | ".INF") {
        return Some(Yaml::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Yaml::Float(f64::NAN));
    }
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(i) => (&body[..i], Some(&body[i + 1..])),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let all = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let some_digit = mantissa.bytes().any(|b| b.is_ascii_digit());
    if !all(whole) || !all(fraction) || !some_digit || whole.starts_with('_') {
        return None;
    }
    if let Some(e) = exponent {
        let digits = e.strip_prefix(['-', '+'])?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    plain.parse().ok().map(Yaml::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_resolve_as_in_yaml_1_1() {
        let text = |s: &str| Yaml::Str(s.to_owned());
        for (plain, expect) in [
            ("yes", Yaml::Bool(true)),
            ("Off", Yaml::Bool(false)),
            ("y", text("y")),
            ("~", Yaml::Null),
            ("42", Yaml::Int(42)),
            ("-1_000", Yaml::Int(-1000)),
            ("010", Yaml::Int(8)),
            ("0o10", text("0o10")),
            ("0x1F", Yaml::Int(31)),
            ("00000429", text("00000429")),
            ("1:30", Yaml::Int(90)),
            ("1.5", Yaml::Float(1.5)),
            ("1e3", text("1e3")),
            ("1.0e+3", Yaml::Float(1000.0)),
            ("1.0e3", text("1.0e3")),
            ("2024-01-01", text("2024-01-01")),
            ("1.2.3", text("1.2.3")),
            ("10.0.0.1", text("10.0.0.1")),
            ("-", text("-")),
            (".", text(".")),
            ("18446744073709551616", Yaml::Int(18446744073709551616)),
            ("-0x1000000000000000000000000000000000", Yaml::Float(-(2f64.powi(132)))),
        ] {
            assert_eq!(resolve(plain), expect, "{plain}");
        }
    }

    #[test]
    fn quoted_scalars_stay_text_and_places_are_known() {
        let docs = parse("a: '1'\nb:\n  - true\n---\nc: x\n").expect("parses");
        assert_eq!(docs.len(), 2);
        assert_eq!(docs[0].get("a").map(|n| &n.value), Some(&Yaml::Str("1".into())));
        let item = docs[0].get("b").map(|n| n.value.clone());
        assert!(
            matches!(item, Some(Yaml::Seq(items)) if items[0].place == Place::new(3, 5).spanning(4))
        );
    }

    #[test]
    fn characters_of_a_value_are_found_in_its_source() {
        for (text, token) in [
            ("a: one TOKEN two", "TOKEN"),
            ("a: 'it''s TOKEN'", "TOKEN"),
            ("a: \"x\\ty \\u00e4 TOKEN\"", "TOKEN"),
            ("a: |\n    one\n    TOKEN two\n", "TOKEN"),
            ("a: >-\n  one\n  TOKEN\n", "TOKEN"),
            ("a: one\n  TOKEN two", "TOKEN"),
            ("a: [x, 'TOKEN']", "TOKEN"),
        ] {
            let docs = parse(text).expect(text);
            let node = docs[0].get("a").expect("a");
            let node = match &node.value {
                Yaml::Seq(items) => &items[1],
                _ => node,
            };
            let value = node.as_str().expect("text");
            let at = value.find(token).expect("token");
            let start = value[..at].chars().count();
            let place = locate(text, node.place, start..start + token.len());
            assert_eq!(&text[place.bytes_in(text)], token, "{text}: {place:?}");
        }
    }

    #[test]
    fn a_carriage_return_alone_is_refused_where_it_stands() {
        let e = parse("a: 1\r\nb: x\ry\n").expect_err("a lone carriage return");
        assert_eq!((e.code, e.place), (Code::Yaml, Place::new(2, 5)));
        assert!(parse("a: 1\r\nb: 2\r\n").is_ok());
    }

    #[test]
    fn duplicate_keys_and_alias_bombs_are_refused_with_their_place() {
        let e = parse("a: 1\nb: 2\na: 3\n").expect_err("duplicate");
        assert_eq!((e.code, e.place), (Code::DuplicateKey, Place::new(3, 1).spanning(1)));
        let mut bomb = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
        for i in 1..9 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert_eq!(parse(&bomb).expect_err("bomb").code, Code::Yaml);
    }
}
