//! What a rule says about itself. All of it travels with its alerts, as SigmaHQ's licence (DRL 1.1)
//! asks of the author.

use std::sync::Arc;

use super::diagnostic::{Code, Diagnostic, Place, nearest};
use super::yaml::{Key, Node, Yaml};
use crate::ids::{RuleId, hex, stable_hash};
use crate::limits::CUSTOM_BYTES_MAX;

/// Sigma's levels, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Not a threat by itself.
    #[default]
    Informational,
    /// Worth a look in bulk.
    Low,
    /// Worth a look.
    Medium,
    /// Look soon.
    High,
    /// Look now.
    Critical,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Self; 5] =
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The level as rules write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Reads a level as rules write it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.as_str() == text)
    }
}

/// The head of a rule, of whatever kind.
#[derive(Clone, Debug)]
pub struct Header {
    /// Identity: `id`, else `name`, else `title`.
    pub id: RuleId,
    /// `name`, by which correlations may refer to it.
    pub name: Option<String>,
    /// One line for people.
    pub title: String,
    /// More for people.
    pub description: Option<String>,
    /// How bad a match is.
    pub level: Level,
    /// Such as `stable` or `experimental`.
    pub status: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Where to read more.
    pub references: Vec<String>,
    /// Such as `attack.t1110.001`.
    pub tags: Vec<String>,
    /// What else may look like this.
    pub falsepositives: Vec<String>,
    /// Fields worth showing.
    pub fields: Vec<String>,
    /// Licence of the rule.
    pub license: Option<String>,
    /// Every other member of the head, such as `date` and custom attributes, for pipelines to ask.
    pub attributes: Vec<(String, Node)>,
    /// The file it came from.
    pub file: Arc<str>,
    /// Where its id stands, else its name or title.
    pub place: Place,
    /// Where its name stands, if it has one.
    pub name_place: Option<Place>,
    /// Hash of the file's text and the document's place in it.
    pub version: String,
}

impl Header {
    /// Members of the head that Sigma does not know; they travel with alerts (Sigma rules
    /// specification, custom attributes).
    pub fn custom(&self) -> serde_json::Map<String, serde_json::Value> {
        let own = self.attributes.iter().filter(|(name, _)| !FURTHER.contains(&name.as_str()));
        own.map(|(name, value)| (name.clone(), value.to_json())).collect()
    }

    /// Reads the head of a document.
    ///
    /// # Errors
    /// No title, or a field of the wrong shape.
    pub fn read(node: &Node, file: &Arc<str>, text: &str) -> Result<Self, Diagnostic> {
        let title = optional(node, "title")?.ok_or_else(|| untitled(node))?;
        let name = optional(node, "name")?;
        let id = optional(node, "id")?.or_else(|| name.clone()).unwrap_or_else(|| title.clone());
        let hash = stable_hash(&[text.as_bytes(), &node.place.line.to_le_bytes()]);
        let header = Self {
            id: RuleId(id.into()),
            name,
            description: optional(node, "description")?,
            level: level(node)?,
            status: optional(node, "status")?,
            author: author(node)?,
            references: list(node, "references"),
            tags: list(node, "tags"),
            falsepositives: list(node, "falsepositives"),
            fields: list(node, "fields"),
            license: optional(node, "license")?,
            attributes: attributes(node),
            file: Arc::clone(file),
            place: place(node),
            name_place: node.get("name").map(|n| n.place),
            version: hex(&hash),
            title,
        };
        check_custom(&header, node)?;
        Ok(header)
    }
}

/// Members that are read elsewhere, besides those of [`Header`].
const PARTS: &[&str] = &["logsource", "detection", "correlation", "anomaly", "filter"];

/// Members of [`Header`].
const NAMED: &[&str] = &[
    "id",
    "name",
    "title",
    "description",
    "level",
    "status",
    "author",
    "references",
    "tags",
    "falsepositives",
    "fields",
    "license",
];

fn attributes(node: &Node) -> Vec<(String, Node)> {
    let other = |name: &str| !PARTS.contains(&name) && !NAMED.contains(&name);
    let members = node.members().iter().filter(|(key, _)| other(&key.text));
    members.map(|(key, value)| (key.text.clone(), value.clone())).collect()
}

impl Header {
    /// What it can be referred to by: the kind, the text and where it stands.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &str, Place)> {
        let name = self.name.as_deref().zip(self.name_place);
        let name = name.filter(|(name, _)| **name != *self.id.0);
        let kind = match &*self.id.0 {
            id if self.name.as_deref() == Some(id) => "name",
            id if self.title == id => "title",
            _ => "id",
        };
        let id = std::iter::once((kind, &*self.id.0, self.place));
        id.chain(name.map(|(name, place)| ("name", name, place)))
    }
}

fn untitled(node: &Node) -> Diagnostic {
    let near = |(k, _): &&(Key, Node)| nearest(&k.text, std::iter::once("title")).is_some();
    let error = |place| Diagnostic::error(Code::Shape, place, "the rule has no `title`");
    match node.members().iter().find(near) {
        Some((key, _)) => error(key.place).help("did you mean `title`?"),
        None => error(node.place).help("begin with one line that says what it finds: `title: …`"),
    }
}

fn place(node: &Node) -> Place {
    let named = ["id", "name", "title"].into_iter().find_map(|name| node.get(name));
    named.map_or(node.place, |n| n.place)
}

/// Further members of the head that Sigma gives a meaning; all others are the rule author's own.
const FURTHER: &[&str] =
    &["action", "date", "generate", "modified", "related", "scope", "taxonomy"];

/// Every alert carries the custom attributes, so they are bounded.
fn check_custom(header: &Header, node: &Node) -> Result<(), Diagnostic> {
    let bytes = serde_json::to_vec(&header.custom()).map_or(0, |v| v.len());
    if bytes <= CUSTOM_BYTES_MAX {
        return Ok(());
    }
    let what =
        format!("custom attributes of {bytes} bytes are over the limit of {CUSTOM_BYTES_MAX}");
    Err(Diagnostic::error(Code::Shape, node.place, what)
        .help("they travel with every alert: keep what is long elsewhere and name where"))
}

fn optional(node: &Node, name: &str) -> Result<Option<String>, Diagnostic> {
    match node.get(name) {
        None => Ok(None),
        Some(n) if n.value == Yaml::Null => Ok(None),
        Some(n) => n.scalar_text().map(Some).ok_or_else(|| {
            let what = format!("`{name}` must be a string, this is {}", n.kind());
            Diagnostic::error(Code::Shape, n.place, what).help("write one value, in quotes")
        }),
    }
}

fn author(node: &Node) -> Result<Option<String>, Diagnostic> {
    match node.get("author").map(|n| &n.value) {
        Some(Yaml::Seq(_)) => Ok(Some(list(node, "author").join(", "))),
        _ => optional(node, "author"),
    }
}

fn level(node: &Node) -> Result<Level, Diagnostic> {
    let Some(text) = optional(node, "level")? else { return Ok(Level::default()) };
    Level::parse(&text).ok_or_else(|| {
        let place = node.get("level").map_or(node.place, |n| n.place);
        let diagnostic = Diagnostic::error(Code::Shape, place, format!("unknown level `{text}`"));
        let lower = text.to_lowercase();
        if Level::parse(&lower).is_some() && text.is_ascii() {
            let length = text.chars().count();
            return diagnostic
                .within(0..length)
                .help(format!("levels are lower case: write `{lower}`"))
                .fix(lower);
        }
        let names = Level::ALL.map(Level::as_str);
        diagnostic.help(match nearest(&text, names.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the levels are: {}", names.join(", ")),
        })
    })
}

/// A list of scalars, or one scalar; anything else in it is left out.
fn list(node: &Node, name: &str) -> Vec<String> {
    match node.get(name).map(|n| (&n.value, n)) {
        Some((Yaml::Seq(items), _)) => items.iter().filter_map(Node::scalar_text).collect(),
        Some((_, n)) => n.scalar_text().into_iter().collect(),
        None => Vec::new(),
    }
}
