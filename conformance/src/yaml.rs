//! YAML equality: PyYAML's values of every rule file against ours.
//!
//! Both sides write a document in one canonical form, in which a type cannot be mistaken for
//! another: a scalar is `[type, text]`, a list `["list", items…]`, a mapping
//! `["map", [key, value]…]` in the order of the file.

use std::collections::HashMap;

use serde_json::{Value, json};
use watchfire::rule::{Node, Yaml, parse_yaml};

use crate::corpus::RuleFile;
use crate::oracle::YamlFile;

/// The canonical form of a node.
pub fn canonical(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => json!(["null", ""]),
        Yaml::Bool(b) => json!(["bool", b.to_string()]),
        Yaml::Int(n) => json!(["int", n.to_string()]),
        // The bits, so that no two ways of writing a float can differ.
        Yaml::Float(n) => json!(["float", format!("{:016x}", n.to_bits())]),
        Yaml::Str(s) => json!(["str", s]),
        Yaml::Seq(items) => {
            std::iter::once(json!("list")).chain(items.iter().map(canonical)).collect()
        }
        Yaml::Map(members) => {
            let members = members.iter().map(|(key, node)| json!([key.text, canonical(node)]));
            std::iter::once(json!("map")).chain(members).collect()
        }
    }
}

/// What came out.
pub struct Equality {
    /// Files compared.
    pub files: usize,
    /// Scalars in them, on our side.
    pub scalars: usize,
    /// Files whose values differ, or that one side cannot read.
    pub different: Vec<String>,
}

/// Compares all files.
pub fn compare(rules: &[RuleFile], theirs: Vec<YamlFile>) -> Equality {
    let mut theirs: HashMap<String, Vec<Value>> =
        theirs.into_iter().map(|f| (f.file, f.documents)).collect();
    let mut equality = Equality { files: 0, scalars: 0, different: Vec::new() };
    for file in rules {
        equality.files += 1;
        let ours: Vec<Value> = match parse_yaml(&file.text) {
            Ok(nodes) => nodes.iter().map(canonical).collect(),
            Err(diagnostic) => {
                equality.different.push(format!("{}: {diagnostic}", file.name));
                continue;
            }
        };
        equality.scalars += ours.iter().map(scalars).sum::<usize>();
        let theirs = theirs.remove(&*file.name).unwrap_or_default();
        if ours != theirs {
            let ours = Value::Array(ours);
            let place = first_difference("", &ours, &Value::Array(theirs));
            equality.different.push(format!("{}: {place}", file.name));
        }
    }
    equality.different.extend(theirs.into_keys().map(|f| format!("{f}: read by PyYAML alone")));
    equality
}

fn scalars(value: &Value) -> usize {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(kind), rest @ ..]) if kind == "list" => rest.iter().map(scalars).sum(),
        Some([Value::String(kind), rest @ ..]) if kind == "map" => {
            rest.iter().map(|member| scalars(&member[1])).sum()
        }
        _ => 1,
    }
}

/// Where the two part, and what stands there on each side.
fn first_difference(path: &str, ours: &Value, theirs: &Value) -> String {
    if let (Value::Array(a), Value::Array(b)) = (ours, theirs)
        && a.len() == b.len()
        && let Some(i) = (0..a.len()).find(|i| a[*i] != b[*i])
    {
        return first_difference(&format!("{path}/{i}"), &a[i], &b[i]);
    }
    format!("{path}: ours {ours}, PyYAML's {theirs}")
}
