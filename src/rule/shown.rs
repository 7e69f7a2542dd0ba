//! Values of an item as processing pipelines see them: with their modifiers applied, as pySigma does.

use super::item::{Draft, apply, draft};
use super::matcher::Number;
use super::modifier::asked;
use super::pattern::Pattern;
use super::tree::DetectionItem;
use super::yaml::Node;

/// A value as processing pipelines see it: with its modifiers applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// Text with its wildcards.
    Text(Pattern),
    /// A number.
    Number(Number),
    /// A boolean.
    Bool(bool),
    /// `null`.
    Null,
    /// The name of another field.
    FieldRef(String),
    /// A regular expression, a network, several forms of one text, or what does not compile.
    Other,
}

/// The values of an item as processing pipelines see them.
pub fn shown(item: &DetectionItem) -> Vec<Shown> {
    let Ok(asked) = asked(item) else { return vec![Shown::Other; item.values.len()] };
    let opaque = asked.regex || asked.cidr || asked.exists || asked.compare.is_some();
    let forms = opaque
        || asked.date.is_some()
        || ["windash", "base64offset"].iter().any(|modifier| item.has(modifier));
    let one = |node: &Node| {
        if asked.fieldref {
            return node.as_str().map_or(Shown::Other, |s| Shown::FieldRef(s.to_owned()));
        }
        let Ok(first) = draft(node, &asked) else { return Shown::Other };
        let applied = item
            .modifiers
            .iter()
            .try_fold(vec![first], |drafts, modifier| apply(&modifier.name, drafts, node));
        match applied.ok().as_deref() {
            Some([Draft::Text(pattern)]) => Shown::Text(pattern.clone()),
            Some([Draft::Number(number)]) => Shown::Number(*number),
            Some([Draft::Bool(b)]) => Shown::Bool(*b),
            Some([Draft::Null]) => Shown::Null,
            _ => Shown::Other,
        }
    };
    match forms {
        true => vec![Shown::Other; item.values.len()],
        false => item.values.iter().map(one).collect(),
    }
}
