//! Typed reading of pipeline files: every key known, every value of the right shape, or a finding at
//! its place.

use regex::Regex;

use crate::limits::REGEX_BYTES_MAX;
use crate::rule::diagnostic::{Code, Diagnostic, Place, nearest};
use crate::rule::yaml::{Node, Yaml};

/// Collects what is wrong while a pipeline is read.
#[derive(Default)]
pub struct Reader {
    /// What was found.
    pub found: Vec<Diagnostic>,
}

impl Reader {
    /// Reports an error.
    pub fn error(&mut self, place: Place, what: impl Into<String>, help: impl Into<String>) {
        self.found.push(Diagnostic::error(Code::Pipeline, place, what).help(help));
    }

    /// The mapping, or a finding. Keys that are not `known` are findings, too.
    pub fn mapping<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<&'n Node> {
        if !matches!(node.value, Yaml::Map(_)) {
            let text = format!("{what} must be a mapping, this is {}", node.kind());
            self.error(node.place, text, format!("its keys are: {}", known.join(", ")));
            return None;
        }
        for (key, _) in node.members() {
            if !known.contains(&key.text.as_str()) {
                let text = format!("{what} has no key `{}`", key.text);
                self.error(key.place, text, meant(&key.text, known));
            }
        }
        Some(node)
    }

    /// The member of that name, or a finding.
    pub fn required<'n>(&mut self, node: &'n Node, key: &str, what: &str) -> Option<&'n Node> {
        let member = node.get(key);
        if member.is_none() {
            let help = format!("add `{key}: …`");
            self.error(node.place, format!("{what} needs `{key}`"), help);
        }
        member
    }

    /// A string that must be there; numbers are welcome.
    pub fn text(&mut self, node: &Node, key: &str, what: &str) -> Option<String> {
        let member = self.required(node, key, what)?;
        self.scalar(member, key)
    }

    /// A string that may be left out.
    pub fn optional_text(&mut self, node: &Node, key: &str) -> Option<String> {
        let member = node.get(key).filter(|n| n.value != Yaml::Null)?;
        self.scalar(member, key)
    }

    /// The text of a scalar.
    pub fn scalar(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = node.scalar_text();
        if text.is_none() {
            let wrong = format!("`{what}` must be a string, this is {}", node.kind());
            self.error(node.place, wrong, "write one string");
        }
        text
    }

    /// A string or a list of strings, at least one.
    pub fn texts(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        match &node.value {
            Yaml::Seq(items) if items.is_empty() => {
                let wrong = format!("`{what}` is an empty list");
                self.error(node.place, wrong, "write at least one value");
                None
            }
            Yaml::Seq(items) => {
                let texts: Vec<_> = items.iter().map(|n| self.scalar(n, what)).collect();
                texts.into_iter().collect()
            }
            _ => self.scalar(node, what).map(|text| vec![text]),
        }
    }

    /// A list of strings that may be left out.
    pub fn optional_texts(&mut self, node: &Node, key: &str) -> Option<Vec<String>> {
        let member = node.get(key).filter(|n| n.value != Yaml::Null)?;
        self.texts(member, key)
    }

    /// `true` or `false`; left out it is `false`.
    pub fn flag(&mut self, node: &Node, key: &str) -> bool {
        match node.get(key).map(|n| (&n.value, n)) {
            None => false,
            Some((Yaml::Bool(b), _)) => *b,
            Some((_, n)) => {
                let wrong = format!("`{key}` takes `true` or `false`, this is {}", n.kind());
                self.error(n.place, wrong, format!("write `{key}: true`"));
                false
            }
        }
    }

    /// One of some words; the first when it is left out.
    pub fn choice(&mut self, node: &Node, key: &str, words: &[&'static str]) -> &'static str {
        let first = words.first().copied().unwrap_or_default();
        let Some(member) = node.get(key) else { return first };
        let text = member.scalar_text().unwrap_or_default();
        words.iter().copied().find(|w| *w == text).unwrap_or_else(|| {
            let wrong = format!("`{key}` is `{text}`: it must be one of {}", words.join(", "));
            self.error(member.place, wrong, meant(&text, words));
            first
        })
    }

    /// A mapping of names to one or several strings, at least one entry.
    pub fn table(&mut self, node: &Node, what: &str) -> Option<Vec<(String, Vec<String>)>> {
        if node.members().is_empty() {
            let wrong = format!("`{what}` must be a mapping with entries, this is {}", node.kind());
            self.error(node.place, wrong, "write `old: new` or `old: [new, other]`");
            return None;
        }
        let members = node.members().iter();
        let entries: Vec<_> =
            members.map(|(k, v)| Some((k.text.clone(), self.texts(v, &k.text)?))).collect();
        entries.into_iter().collect()
    }

    /// A regular expression that runs in linear time; `anchored` ones match at the start only.
    pub fn regex(&mut self, text: &str, place: Place, anchored: bool) -> Option<Regex> {
        let source = if anchored { format!(r"\A(?:{text})") } else { text.to_owned() };
        match regex::RegexBuilder::new(&source).size_limit(REGEX_BYTES_MAX).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim();
                let reason = reason.trim_start_matches("error: ");
                let wrong = format!("not a regular expression: {reason}");
                self.error(place, wrong, "the syntax is that of RE2");
                None
            }
        }
    }
}

/// What may have been meant, else all that there is.
pub fn meant(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", known.join(", ")),
    }
}
