//! Placeholders: `%name%` in a value with `expand` stands for a list that configuration gives (Sigma
//! rules specification, Placeholders).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Code, Diagnostic, nearest};
use super::yaml::{self, Node, Yaml};
use crate::limits::PLACEHOLDER_FORMS_MAX;

/// Lists of values by the name of their placeholder. Values are Sigma strings: wildcards count.
pub type Placeholders = BTreeMap<String, Vec<String>>;

/// Reads a file of lists: a mapping of names to a value or a list of values.
///
/// # Errors
/// What is wrong with it, with its place.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Placeholders, Diagnostic> {
    let wrong = |node: &Node, what: String| {
        Diagnostic::error(Code::Placeholder, node.place, what)
            .help("a line is such as `administrators: [alice, 'adm_*']`")
            .in_file(file)
    };
    let documents = yaml::parse(text).map_err(|d| d.in_file(file))?;
    let mut lists = Placeholders::new();
    for node in documents.iter().filter(|n| n.value != Yaml::Null) {
        if !matches!(node.value, Yaml::Map(_)) {
            let what = format!("placeholders are a mapping, this is {}", node.kind());
            return Err(wrong(node, what));
        }
        for (key, value) in node.members() {
            let values = match &value.value {
                Yaml::Seq(items) => items.iter().collect(),
                _ => vec![value],
            };
            let texts: Option<Vec<String>> = values.iter().map(|n| n.scalar_text()).collect();
            let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
                let what = format!("`{}` must be a string or a list of strings", key.text);
                return Err(wrong(value, what));
            };
            lists.insert(key.text.clone(), texts);
        }
    }
    Ok(lists)
}

/// Every form of a value with those placeholders filled in that `lookup` knows; the others stay.
///
/// # Errors
/// More forms than are allowed.
pub fn replace(
    node: &Node,
    lookup: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Result<Vec<Node>, Diagnostic> {
    let Some(text) = node.as_str() else { return Ok(vec![node.clone()]) };
    let known = |part: &Part| matches!(part, Part::Name(name, _) if lookup(name).is_some());
    if !parts(text).iter().any(known) {
        return Ok(vec![node.clone()]);
    }
    // What is literal stays so when the rest is filled in later.
    let literal = |text: &str| text.replace('%', "\\%");
    let mut forms = vec![String::new()];
    for part in parts(text) {
        let (values, at) = match part {
            Part::Text(text) => (vec![literal(&text)], 0..0),
            Part::Name(name, at) => match lookup(&name) {
                Some(values) => (values.iter().map(|v| literal(v)).collect(), at),
                None => (vec![format!("%{name}%")], at),
            },
        };
        forms = product(&forms, &values, node, at)?;
    }
    Ok(forms.into_iter().map(|f| Node { place: node.place, value: Yaml::Str(f) }).collect())
}

/// Each form with each value after it, within the limit.
fn product(
    forms: &[String],
    values: &[String],
    node: &Node,
    at: Range<usize>,
) -> Result<Vec<String>, Diagnostic> {
    let count = forms.len().saturating_mul(values.len());
    if count > PLACEHOLDER_FORMS_MAX {
        let what = format!(
            "placeholders make {count} values of one, the limit is {PLACEHOLDER_FORMS_MAX}"
        );
        return Err(Diagnostic::error(Code::Placeholder, node.place, what)
            .within(at)
            .help("write fewer placeholders into one value, or shorter lists"));
    }
    Ok(forms.iter().flat_map(|f| values.iter().map(move |v| format!("{f}{v}"))).collect())
}

/// A part of a text with placeholders.
enum Part {
    Text(String),
    Name(String, Range<usize>),
}

/// Every form of a value with its placeholders filled in; the value itself when it has none, or when
/// there is no `expand`.
///
/// # Errors
/// A placeholder without a list, or more forms than are allowed.
pub fn forms(node: &Node, expand: bool, lists: &Placeholders) -> Result<Vec<Node>, Diagnostic> {
    let Some(text) = node.as_str().filter(|_| expand) else { return Ok(vec![node.clone()]) };
    let mut forms = vec![String::new()];
    for part in parts(text) {
        let (name, at) = match part {
            Part::Text(text) => {
                forms.iter_mut().for_each(|f| f.push_str(&text));
                continue;
            }
            Part::Name(name, at) => (name, at),
        };
        let Some(values) = lists.get(&name) else { return Err(unknown(node, &name, at, lists)) };
        forms = product(&forms, values, node, at)?;
    }
    Ok(forms.into_iter().map(|f| Node { place: node.place, value: Yaml::Str(f) }).collect())
}

fn unknown(node: &Node, name: &str, at: Range<usize>, lists: &Placeholders) -> Diagnostic {
    let what = format!("the placeholder `%{name}%` has no list of values");
    let diagnostic = Diagnostic::error(Code::Placeholder, node.place, what).within(at);
    match nearest(name, lists.keys().map(String::as_str)) {
        Some(near) => diagnostic.help(format!("there is a list `{near}`: did you mean that?")),
        None => diagnostic.help(format!(
            "write a line such as `{name}: [value, other*]` into the file that `placeholders` of the \
             configuration or `--placeholders` names"
        )),
    }
}

/// Cuts a text at its placeholders. `\%` is a literal percent sign.
fn parts(text: &str) -> Vec<Part> {
    let chars: Vec<char> = text.chars().collect();
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c == '\\' && chars.get(at + 1) == Some(&'%') {
            literal.push('%');
            at += 2;
            continue;
        }
        if c == '%' {
            let word = |c: &&char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            let length = chars[at + 1..].iter().take_while(word).count();
            if length > 0 && chars.get(at + 1 + length) == Some(&'%') {
                parts.push(Part::Text(std::mem::take(&mut literal)));
                let name = chars[at + 1..at + 1 + length].iter().collect();
                parts.push(Part::Name(name, at..at + length + 2));
                at += length + 2;
                continue;
            }
        }
        literal.push(c);
        at += 1;
    }
    parts.push(Part::Text(literal));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Place;

    fn filled(text: &str) -> Result<Vec<String>, Diagnostic> {
        let lists = Placeholders::from([
            ("a".to_owned(), vec!["1".to_owned(), "2*".to_owned()]),
            ("b".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
        ]);
        let node = Node { place: Place::new(1, 1), value: Yaml::Str(text.to_owned()) };
        let forms = forms(&node, true, &lists)?;
        Ok(forms.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect())
    }

    #[test]
    fn placeholders_are_replaced_by_every_combination_of_their_values() {
        for (text, expect) in [
            ("plain", &["plain"][..]),
            ("%a%", &["1", "2*"]),
            ("<%a%>%b%", &["<1>x", "<1>y", "<2*>x", "<2*>y"]),
            (r"100\%a\%", &["100%a%"]),
            ("50 % of %", &["50 % of %"]),
        ] {
            assert_eq!(filled(text).expect(text), expect, "{text}");
        }
    }

    #[test]
    fn a_placeholder_without_a_list_is_refused() {
        assert_eq!(filled("x %nope% y").map_err(|e| e.code), Err(Code::Placeholder));
        assert!(filled(&"%b%".repeat(20)).is_err());
    }
}
