//! New text: scalars, names, ids, and the head of a new document copied from an old one.

use super::source::Source;
use crate::ids::{hex, stable_hash};
use crate::rule::yaml::{Yaml, parse};

/// A text as a YAML scalar: plain where that reads back as the same text, else quoted.
pub fn scalar(text: &str) -> String {
    let reads_back = |written: &str| {
        let probe = parse(&format!("k:\n    - {written}\n"));
        let node = probe.ok().filter(|nodes| nodes.len() == 1).map(|mut nodes| nodes.remove(0));
        node.and_then(|n| n.get("k").cloned()).is_some_and(|list| match &list.value {
            Yaml::Seq(items) => items.len() == 1 && items[0].as_str() == Some(text),
            _ => false,
        })
    };
    let single = format!("'{}'", text.replace('\'', "''"));
    [text.to_owned(), single].into_iter().find(|w| reads_back(w)).unwrap_or_else(|| quoted(text))
}

/// In double quotes, with escapes for what cannot stand on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Lower-case letters, digits and single underscores; empty when the text has neither.
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            _ if out.is_empty() || out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    out.trim_end_matches('_').to_owned()
}

/// A name from a path, else from a title, else from a hash of the title.
pub fn name_of(file: &str, title: &str) -> String {
    let base = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    let named = [slug(stem), slug(title)].into_iter().find(|s| !s.is_empty());
    named.unwrap_or_else(|| format!("rule_{}", &hex(&stable_hash(&[title.as_bytes()]))[..8]))
}

/// The id of a document that comes from another: a UUID of version 8 (RFC 9562, own layout) over the
/// id of the old document and the part that the new one plays. The same input gives the same id.
pub fn derived_id(old: &str, part: &str) -> String {
    let mut bytes = stable_hash(&[b"watchfire migrate", old.as_bytes(), part.as_bytes()]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let h = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

/// Writes a new document member by member, in the layout of an old one.
pub struct Writer<'s> {
    source: &'s Source,
    /// Blanks before every key at the top.
    top: usize,
    /// Blanks of one step.
    step: usize,
    newline: &'s str,
    text: String,
}

impl<'s> Writer<'s> {
    /// For a document like `source`, whose top keys stand `top` blanks in.
    pub fn new(source: &'s Source, top: usize, step: usize, newline: &'s str) -> Self {
        Self { source, top, step, newline, text: format!("---{newline}") }
    }

    /// A line so many steps in.
    pub fn line(&mut self, steps: usize, text: &str) {
        self.text.push_str(&" ".repeat(self.top + steps * self.step));
        self.text.push_str(text);
        self.text.push_str(self.newline);
    }

    /// Text as it is.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Title, new id, and where the document comes from.
    pub fn identity(&mut self, title: &str, id: &str, old: Option<&str>) {
        self.line(0, &format!("title: {}", scalar(title)));
        self.line(0, &format!("id: {id}"));
        if let Some(old) = old {
            self.line(0, "related:");
            self.line(1, &format!("- id: {}", scalar(old)));
            self.line(1, "  type: derived");
        }
    }

    /// Copies members of the old document as they are written. `unsupported` becomes `experimental`:
    /// that it could not be used is no longer true, that somebody has tested it neither.
    pub fn copy(&mut self, names: &[&str]) {
        let source = self.source;
        let blocks = source.blocks(&source.node, source.lines.len()).unwrap_or_default();
        for block in names.iter().filter_map(|n| blocks.iter().find(|b| b.name == **n)) {
            let status = block.name == "status";
            if status && source.node.get("status").and_then(|n| n.as_str()) == Some("unsupported") {
                self.line(0, "status: experimental");
                continue;
            }
            let text = source.text_of(block.lines.clone(), self.newline);
            self.text.push_str(&text);
        }
    }

    /// The document.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_quoted_when_it_would_be_read_as_something_else() {
        for (text, written) in [
            ("src_ip", "src_ip"),
            ("yes", "'yes'"),
            ("010", "'010'"),
            ("", "''"),
            ("a: b", "'a: b'"),
            ("it's#1", "it's#1"),
            ("it's # 1", "'it''s # 1'"),
            ("@time", "'@time'"),
            ("- x", "'- x'"),
            ("a\nb\t\"", "\"a\\nb\\U00000009\\\"\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }

    #[test]
    fn a_name_is_never_empty() {
        assert_eq!(name_of("a/b/Win--Rare.Tasks.yml", "T"), "win_rare_tasks");
        assert_eq!(name_of("", "Brute Force!"), "brute_force");
        assert_eq!(name_of("", "злой").len(), "rule_".len() + 8);
    }

    #[test]
    fn a_derived_id_is_a_uuid_of_version_8_and_always_the_same() {
        let id = derived_id("53c7cca0", "correlation");
        assert_eq!(id, derived_id("53c7cca0", "correlation"));
        assert_ne!(id, derived_id("53c7cca0", "selection"));
        assert_eq!((id.len(), &id[14..15]), (36, "8"));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
    }
}
