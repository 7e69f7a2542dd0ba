//! Rules as data, and their YAML.

use std::fmt::Write;

/// A value as a rule writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A string; quoted where it must be.
    Text(String),
    /// Anything else, as it stands: `42`, `true`, `null`, `0x2A`.
    Plain(String),
}

/// What a field of an event must hold so that a value is hit.
#[derive(Clone, Debug)]
pub enum Bait {
    /// Text.
    Text(String, Slot),
    /// A number, a boolean or null, as JSON.
    Raw(String),
    /// Nothing at all.
    Absent,
    /// Text that relates to that of the other field.
    Pair(String, String, String),
}

/// Where in a value the text may stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot {
    /// It is the value.
    Whole,
    /// Anywhere.
    Inside,
    /// At the start.
    Start,
    /// At the end.
    End,
}

/// A field with modifiers and values. Without a name: keywords.
#[derive(Clone, Debug)]
pub struct Item {
    pub field: String,
    pub modifiers: Vec<&'static str>,
    pub values: Vec<Scalar>,
    /// One for each value; not of the rule, but how events are made from it.
    pub baits: Vec<Bait>,
    /// What is counted when it is the only item of its rule.
    pub labels: Vec<&'static str>,
}

/// A part of a list selection.
#[derive(Clone, Debug)]
pub enum Part {
    /// All of these items.
    Map(Vec<Item>),
    /// One keyword, with its bait.
    Word(Scalar, Bait),
}

/// A selection under its name.
#[derive(Clone, Debug)]
pub struct Selection {
    pub name: String,
    pub body: Body,
}

/// What stands under the name of a selection.
#[derive(Clone, Debug)]
pub enum Body {
    /// All of these items.
    Map(Vec<Item>),
    /// One of these parts.
    List(Vec<Part>),
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    Name(String),
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    /// Quantifier and pattern: `1 of filter_*`.
    Of(&'static str, String),
}

/// A detection rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub title: String,
    /// Product, category, service; `None` where not given.
    pub source: [Option<&'static str>; 3],
    pub selections: Vec<Selection>,
    /// One, or several of which one must hold.
    pub conditions: Vec<Condition>,
    pub labels: Vec<&'static str>,
}

/// A filter document.
#[derive(Clone, Debug)]
pub struct Filter {
    pub title: String,
    pub product: Option<&'static str>,
    /// Titles of rules; none for any.
    pub rules: Vec<String>,
    pub selection: Selection,
}

impl Rule {
    /// The only item of a rule that has no more than that.
    pub fn probe(&self) -> Option<&Item> {
        match (&self.selections[..], &self.conditions[..]) {
            ([Selection { body: Body::Map(items), .. }], [Condition::Name(_)]) => {
                match &items[..] {
                    [item] => Some(item),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The rule as one YAML document.
    pub fn yaml(&self) -> String {
        let parts = ["product", "category", "service"].iter().zip(&self.source);
        let parts: Vec<String> =
            parts.filter_map(|(k, v)| v.map(|v| format!("{k}: {v}"))).collect();
        let mut out =
            format!("title: {}\nlogsource: {{{}}}\ndetection:\n", self.title, parts.join(", "));
        self.selections.iter().for_each(|s| s.write(&mut out));
        match &self.conditions[..] {
            [one] => writeln!(out, "  condition: {}", one.text(false)).expect("a string"),
            many => {
                out += "  condition:\n";
                many.iter().for_each(|c| out += &format!("    - {}\n", c.text(false)));
            }
        }
        out
    }
}

impl Filter {
    /// The filter as one YAML document.
    pub fn yaml(&self) -> String {
        let source = self.product.map(|p| format!("product: {p}")).unwrap_or_default();
        let rules = match &self.rules[..] {
            [] => "any".to_owned(),
            some => format!("[{}]", some.join(", ")),
        };
        let title = &self.title;
        let mut out =
            format!("title: {title}\nlogsource: {{{source}}}\nfilter:\n  rules: {rules}\n");
        self.selection.write(&mut out);
        out + &format!("  condition: not {}\n", self.selection.name)
    }
}

impl Selection {
    fn write(&self, out: &mut String) {
        *out += &format!("  {}:\n", self.name);
        match &self.body {
            Body::Map(items) => items.iter().for_each(|i| *out += &i.yaml("    ", "    ")),
            Body::List(parts) => parts.iter().for_each(|part| match part {
                Part::Word(word, _) => *out += &format!("    - {}\n", word.yaml()),
                Part::Map(items) => items.iter().enumerate().for_each(|(n, item)| {
                    *out += &item.yaml(if n == 0 { "    - " } else { "      " }, "      ");
                }),
            }),
        }
    }
}

impl Item {
    /// The key of the item: field and modifiers.
    pub fn key(&self) -> String {
        std::iter::once(self.field.as_str())
            .chain(self.modifiers.iter().copied())
            .collect::<Vec<_>>()
            .join("|")
    }

    fn yaml(&self, first: &str, indent: &str) -> String {
        let key = Scalar::Text(self.key()).yaml();
        match &self.values[..] {
            [one] => format!("{first}{key}: {}\n", one.yaml()),
            many => {
                let lines = many.iter().map(|v| format!("{indent}  - {}\n", v.yaml()));
                format!("{first}{key}:\n{}", lines.collect::<String>())
            }
        }
    }
}

impl Scalar {
    /// As it stands where it reads back as the same text, else in quotes of one or the other kind.
    fn yaml(&self) -> String {
        let text = match self {
            Self::Plain(plain) => return plain.clone(),
            Self::Text(text) => text,
        };
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '|' | '_' | '.');
        let reserved = ["true", "false", "yes", "no", "on", "off", "null"];
        let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(word)
            && !reserved.contains(&text.to_lowercase().as_str());
        if plain {
            text.clone()
        } else if text.chars().all(|c| !c.is_control()) {
            format!("'{}'", text.replace('\'', "''"))
        } else {
            serde_json::to_string(text).expect("a string")
        }
    }
}

impl Condition {
    fn text(&self, inner: bool) -> String {
        let join = |parts: &[Self], word: &str| {
            let parts: Vec<String> = parts.iter().map(|p| p.text(true)).collect();
            let joined = parts.join(word);
            if inner { format!("({joined})") } else { joined }
        };
        match self {
            Self::Name(name) => name.clone(),
            Self::Not(part) => format!("not {}", part.text(true)),
            Self::And(parts) => join(parts, " and "),
            Self::Or(parts) => join(parts, " or "),
            Self::Of(count, pattern) => format!("{count} of {pattern}"),
        }
    }
}
