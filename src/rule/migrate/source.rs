//! One document as text whose lines remember where they came from, so that it can be edited in place
//! and every finding still names the line of the file.
//!
//! Edits go by whole members of block mappings and by single scalars. What is laid out otherwise
//! (flow mappings, several keys on a line, scalars over several lines) is not edited.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rule::diagnostic::Place;
use crate::rule::yaml::{Key, Node, Yaml, parse};

/// A line of a document and where it stands in the file.
#[derive(Clone, Debug)]
pub struct Line {
    /// The text with its end.
    pub text: String,
    /// Line in the file, from 1.
    pub number: usize,
    /// How far the text was moved to the right.
    pub shift: isize,
    /// Which document of the file it is from.
    pub document: usize,
}

/// A document: its lines, and the tree with places in these lines.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its lines.
    pub lines: Vec<Line>,
    /// What they say.
    pub node: Node,
}

/// A member of a block mapping.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its key.
    pub name: String,
    /// Its lines, without blank lines and comments that stand before the next member.
    pub lines: Range<usize>,
    /// Blanks before the key.
    pub indent: usize,
}

/// What becomes of one line.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Text put before the line.
    pub before: String,
    /// Whether the line goes.
    pub removed: bool,
    /// Bytes of the line that become something else.
    pub replaced: Option<(Range<usize>, String)>,
}

/// Changes by line.
pub type Changes = BTreeMap<usize, Change>;

/// A document of a file as it was cut out.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// The line `---` before it, empty for the first.
    pub marker: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// Cuts a file into its documents, by lines; what stands behind a marker on its line is not read.
pub fn documents(text: &str) -> Vec<Cut> {
    let mut documents = vec![Cut::default()];
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = |m: &str| {
            line.strip_prefix(m).is_some_and(|r| r.is_empty() || r.starts_with(char::is_whitespace))
        };
        let document = documents.len() - 1;
        if is_marker("---") || is_marker("...") {
            documents.push(Cut { marker: line.to_owned(), lines: Vec::new() });
        } else if let Some(cut) = documents.last_mut() {
            cut.lines.push(Line { text: line.to_owned(), number: index + 1, shift: 0, document });
        }
    }
    documents
}

impl Source {
    /// Reads lines as one document; `None` when they are none, or more than one.
    pub fn read(lines: Vec<Line>) -> Option<Self> {
        let text: String = lines.iter().map(|l| l.text.as_str()).collect();
        let mut nodes = parse(&text).ok()?;
        let node = nodes.pop()?;
        nodes.is_empty().then_some(Self { lines, node })
    }

    /// Where a place of this document is in the file.
    pub fn in_file(&self, place: Place) -> Place {
        let mut place = place;
        if let Some(line) = place.line.checked_sub(1).and_then(|i| self.lines.get(i)) {
            place.line = line.number;
            place.column = place.column.saturating_add_signed(-line.shift);
        }
        place
    }

    /// The members of a block mapping that ends before line `end`; `None` for any other layout.
    pub fn blocks(&self, node: &Node, end: usize) -> Option<Vec<Block>> {
        let members = node.members();
        let keys: Vec<&Key> = members.iter().map(|(key, _)| key).collect();
        let column = keys.first()?.place.column;
        let mut blocks = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let first = key.place.line.checked_sub(1)?;
            let next = keys.get(index + 1).map_or(Some(end), |k| k.place.line.checked_sub(1))?;
            let line = &self.lines.get(first)?.text;
            let alone = line.chars().take(column - 1).all(|c| c == ' ');
            if key.place.column != column || next <= first || !alone {
                return None;
            }
            let last =
                self.lines.get(first..next)?.iter().rposition(|l| !between(l, column - 1))?;
            let lines = first..first + last + 1;
            blocks.push(Block { name: key.text.clone(), lines, indent: column - 1 });
        }
        Some(blocks)
    }

    /// The line and bytes of a scalar's text, without its quotes; `None` unless it stands as it is
    /// on one line.
    pub fn scalar(&self, node: &Node, text: &str) -> Option<(usize, Range<usize>)> {
        let index = node.place.line.checked_sub(1)?;
        let line = &self.lines.get(index)?.text;
        let (start, _) = line.char_indices().nth(node.place.column.checked_sub(1)?)?;
        let quote = line[start..].chars().next().filter(|c| matches!(c, '\'' | '"'));
        let start = start + quote.map_or(0, char::len_utf8);
        let rest = line[start..].strip_prefix(text)?;
        let ends = match quote {
            Some(quote) => rest.starts_with(quote),
            None => {
                let rest = rest.trim_end_matches(['\r', '\n']);
                rest.trim_start().is_empty() || rest.trim_start().starts_with('#')
            }
        };
        ends.then_some((index, start..start + text.len()))
    }

    /// The text after changes.
    pub fn changed(&self, changes: &Changes) -> String {
        let mut out = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            let Some(change) = changes.get(&index) else {
                out.push_str(&line.text);
                continue;
            };
            out.push_str(&change.before);
            match &change.replaced {
                _ if change.removed => {}
                Some((range, text)) => {
                    out.push_str(&line.text[..range.start]);
                    out.push_str(text);
                    out.push_str(&line.text[range.end..]);
                }
                None => out.push_str(&line.text),
            }
        }
        out
    }

    /// The text of lines, the last with an end.
    pub fn text_of(&self, lines: Range<usize>, newline: &str) -> String {
        let mut text: String = self.lines[lines].iter().map(|l| l.text.as_str()).collect();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push_str(newline);
        }
        text
    }
}

/// Whether a line belongs to no member: blank, or a comment not deeper than the members' keys.
fn between(line: &Line, indent: usize) -> bool {
    let text = line.text.trim_start();
    text.is_empty() || (text.starts_with('#') && line.text.len() - text.len() <= indent)
}

/// Moves a line to the right, or to the left as far as it has blanks.
pub fn shifted(line: &Line, by: isize) -> Line {
    let mut line = line.clone();
    if line.text.trim().is_empty() {
        return line;
    }
    let blanks = line.text.bytes().take_while(|b| *b == b' ').count();
    let moved = blanks.saturating_add_signed(by);
    line.text.replace_range(..blanks, &" ".repeat(moved));
    line.shift += moved as isize - blanks as isize;
    line
}

/// Whether two trees say the same, wherever they stand; the order of a mapping says nothing.
pub fn alike(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Yaml::Map(a), Yaml::Map(b)) => {
            let (mut a, mut b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
            a.sort_by(|x, y| x.0.text.cmp(&y.0.text));
            b.sort_by(|x, y| x.0.text.cmp(&y.0.text));
            let mut pairs = a.iter().zip(&b);
            a.len() == b.len() && pairs.all(|(a, b)| a.0.text == b.0.text && alike(&a.1, &b.1))
        }
        (Yaml::Seq(a), Yaml::Seq(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# head\ntitle: a # why\nlist:\n  - x\n\n# about next\nmap:\n  k: 'v' #\n    # in\n";

    fn source() -> Source {
        Source::read(documents(TEXT).remove(0).lines).expect("one document")
    }

    #[test]
    fn a_block_ends_before_the_comments_of_the_next() {
        let source = source();
        let blocks = source.blocks(&source.node, source.lines.len()).expect("blocks");
        let lines: Vec<_> = blocks.iter().map(|b| (b.name.as_str(), b.lines.clone())).collect();
        assert_eq!(lines, [("title", 1..2), ("list", 2..4), ("map", 6..9)]);
    }

    #[test]
    fn a_scalar_is_found_with_and_without_quotes() {
        let source = source();
        let title = source.node.get("title").expect("title");
        assert_eq!(source.scalar(title, "a"), Some((1, 7..8)));
        let value = source.node.get("map").and_then(|m| m.get("k")).expect("k");
        assert_eq!(source.scalar(value, "v"), Some((7, 6..7)));
        assert_eq!(source.scalar(value, "w"), None);
    }

    #[test]
    fn documents_are_cut_at_their_markers_and_keep_their_lines() {
        let cut = documents("a: 1\n--- # two\nb: ---\n...\nc: 3");
        let shape: Vec<Vec<(usize, &str)>> = cut
            .iter()
            .map(|d| d.lines.iter().map(|l| (l.number, l.text.as_str())).collect())
            .collect();
        assert_eq!(shape, [vec![(1, "a: 1\n")], vec![(3, "b: ---\n")], vec![(5, "c: 3")]]);
    }

    #[test]
    fn other_layouts_have_no_blocks() {
        for text in ["{a: 1, b: 2}\n", "? a\n: 1\n", "a: 1\nb: {c: 1, d: 2}\n"] {
            let source = Source::read(documents(text).remove(0).lines).expect("one document");
            let inner = source.node.get("b").filter(|n| !n.members().is_empty());
            let node = inner.unwrap_or(&source.node);
            assert!(source.blocks(node, source.lines.len()).is_none(), "{text}");
        }
    }
}
