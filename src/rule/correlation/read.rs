//! The parts that all correlation and anomaly rules share, read with their places.

use super::{Alias, Code};
use crate::event::FieldPath;
use crate::rule::diagnostic::{Diagnostic, Place, nearest};
use crate::rule::yaml::{Key, Node, Yaml};
use crate::time::parse_duration;

/// Reads the parts of one mapping. What is wrong goes to `found`, so that one run tells all of it.
pub struct Reader<'n, 'f> {
    pub node: &'n Node,
    pub document: &'n Node,
    /// Where to point when something is missing: the key over the mapping.
    start: Place,
    /// Whether a key was not known.
    pub unknown: bool,
    pub found: &'f mut Vec<Diagnostic>,
}

impl<'n, 'f> Reader<'n, 'f> {
    pub fn new(
        name: &str,
        node: &'n Node,
        document: &'n Node,
        known: &[&str],
        found: &'f mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let start = document.key(name).map_or(node.place, |k| k.place);
        if !matches!(node.value, Yaml::Map(_)) {
            let what = format!("`{name}` must be a mapping, this is {}", node.kind());
            found.push(
                Diagnostic::error(Code::Shape, node.place, what)
                    .help(format!("its keys are: {}", known.join(", "))),
            );
            return None;
        }
        let mut reader = Self { node, document, start, unknown: false, found };
        reader.refuse_unknown(name, known);
        Some(reader)
    }

    fn refuse_unknown(&mut self, name: &str, known: &[&str]) {
        for (key, _) in self.node.members() {
            if known.contains(&key.text.as_str()) {
                continue;
            }
            self.unknown = true;
            let what = format!("`{name}` has no key `{}`", key.text);
            let free = known.iter().copied().filter(|k| self.node.get(k).is_none());
            let near = nearest(&key.text, free);
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are: {}", known.join(", ")),
            };
            self.found.push(Diagnostic::error(Code::Correlation, key.place, what).help(help));
        }
    }

    /// Adds an error at the value of that name, else at the start.
    pub fn wrong(
        &mut self,
        code: Code,
        name: &str,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = self.node.get(name).map_or(self.start, |n| n.place);
        self.found.push(Diagnostic::error(code, place, what).help(help));
    }

    /// Adds an error at a place.
    pub fn wrong_at(&mut self, place: Place, what: impl Into<String>, help: impl Into<String>) {
        self.found.push(Diagnostic::error(Code::Correlation, place, what).help(help));
    }

    /// A missing key, unless one that was refused as unknown was meant for it.
    pub fn missing(&mut self, name: &str, help: &str) {
        let meant = |k: &Key| nearest(&k.text, std::iter::once(name)).is_some();
        if !self.node.members().iter().any(|(k, _)| meant(k)) {
            self.wrong_at(self.start, format!("`{name}` is missing"), help);
        }
    }

    pub fn text(&mut self, name: &str, help: &str) -> Option<String> {
        let Some(value) = self.node.get(name) else {
            self.missing(name, help);
            return None;
        };
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            let what = format!("`{name}` must be a string, this is {}", value.kind());
            self.wrong_at(value.place, what, help);
        }
        text
    }

    pub fn generate(&mut self) -> Option<bool> {
        let mut flags = [false; 2];
        for (flag, node) in flags.iter_mut().zip([self.node, self.document]) {
            match node.get("generate").map(|n| (&n.value, n.place)) {
                None => {}
                Some((Yaml::Bool(b), _)) => *flag = *b,
                Some((_, place)) => {
                    let help = "`true` lets the rules it refers to alert on their own, too";
                    self.wrong_at(place, "`generate` takes `true` or `false`", help);
                    return None;
                }
            }
        }
        Some(flags[0] || flags[1])
    }

    pub fn duration(&mut self, name: &str) -> Option<i64> {
        const HELP: &str = "write a number with a unit: s, m, h or d, such as `5m`";
        if let Some(Yaml::Int(n)) = self.node.get(name).map(|n| &n.value) {
            let what = format!("`{name}` needs a unit: is `{n}` seconds, minutes, hours or days?");
            self.wrong(Code::Correlation, name, what, HELP);
            return None;
        }
        let text = self.text(name, HELP)?;
        match parse_duration(&text) {
            Ok(0) => {
                let what = format!("`{name}` must be more than zero");
                self.wrong(Code::Correlation, name, what, HELP);
                None
            }
            Ok(micros) => Some(micros),
            Err(e) => {
                self.wrong(Code::Correlation, name, e.to_string(), HELP);
                None
            }
        }
    }

    pub fn number(&mut self, name: &str, default: f64, least: f64, most: f64) -> Option<f64> {
        let value = match self.node.get(name).map(|n| &n.value) {
            None => return Some(default),
            Some(Yaml::Int(v)) => *v as f64,
            Some(Yaml::Float(v)) => *v,
            Some(_) => f64::NAN,
        };
        if (least..=most).contains(&value) {
            return Some(value);
        }
        let what = format!("`{name}` must be a number from {least} to {most}");
        self.wrong(Code::Correlation, name, what, format!("{default} is the default"));
        None
    }

    /// A string or a list of strings, with their places.
    pub fn strings(&mut self, node: &Node) -> Option<Vec<Key>> {
        let nodes = match &node.value {
            Yaml::Seq(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut keys = Vec::with_capacity(nodes.len());
        for node in &nodes {
            match node.scalar_text() {
                Some(text) => keys.push(Key { place: node.place, text }),
                None => {
                    let what = format!("expected a name, this is {}", node.kind());
                    self.wrong_at(node.place, what, "write one name, or a list of names");
                }
            }
        }
        (keys.len() == nodes.len()).then_some(keys)
    }

    /// The rules that it is about. Where they `may_be_named` by the condition, that is enough.
    pub fn rules(&mut self, may_be_named: bool) -> Option<Vec<Key>> {
        const HELP: &str = "list the ids or names of the rules it is about: `rules: [my_rule]`";
        let Some(node) = self.node.get("rules") else {
            let condition = self.node.get("condition").filter(|_| may_be_named);
            if let Some((node, text)) = condition.and_then(|n| Some((n, n.as_str()?))) {
                return Some(super::kind::names_in(node, text));
            }
            self.missing("rules", HELP);
            return None;
        };
        let rules = self.strings(node)?;
        if rules.is_empty() {
            self.wrong_at(node.place, "`rules` is an empty list", HELP);
            return None;
        }
        Some(rules)
    }

    pub fn fields(&mut self, node: &Node, name: &str) -> Option<Vec<FieldPath>> {
        let Some(value) = node.get(name).filter(|n| n.value != Yaml::Null) else {
            return Some(Vec::new());
        };
        let keys = self.strings(value)?;
        Some(keys.iter().map(|k| FieldPath::new(&k.text.replace(' ', ""))).collect())
    }

    pub fn aliases(&mut self) -> Option<Vec<Alias>> {
        const HELP: &str = "write `aliases: {alias: {rule: field, other_rule: other_field}}`";
        let Some(aliases) = self.node.get("aliases") else { return Some(Vec::new()) };
        if !matches!(aliases.value, Yaml::Map(_)) {
            let what = format!("`aliases` must be a mapping, this is {}", aliases.kind());
            self.wrong_at(aliases.place, what, HELP);
            return None;
        }
        let mut out = Vec::new();
        for (alias, rules) in aliases.members() {
            if !matches!(rules.value, Yaml::Map(_)) {
                let what = format!("an alias maps rules to fields, this is {}", rules.kind());
                self.wrong_at(rules.place, what, HELP);
                return None;
            }
            let mut per_rule = Vec::new();
            for (rule, field) in rules.members() {
                let Some(name) = field.as_str() else {
                    let what = format!("an alias maps a rule to a field, this is {}", field.kind());
                    self.wrong_at(field.place, what, HELP);
                    return None;
                };
                per_rule.push((rule.clone(), FieldPath::new(&name.replace(' ', ""))));
            }
            out.push(Alias { name: alias.clone(), fields: per_rule });
        }
        Some(out)
    }
}
