//! Rules: text → tree → what the engine runs.
//!
//! Reading is in two steps. Each document is read into a tree by itself; then they are linked: filters
//! are put into rules, the trees compiled, references resolved from correlations to rules and to
//! other correlations. A document that is wrong is reported and left out; the others run.

mod condition;
mod correlation;
mod cost;
mod detection;
mod diagnostic;
mod explain;
mod header;
mod item;
mod link;
mod lint;
mod matcher;
mod migrate;
mod modifier;
mod pattern;
mod placeholder;
mod processing;
mod reference;
mod regex;
mod shown;
mod state_version;
mod tree;
mod yaml;

use std::sync::Arc;

pub use crate::event::fold;
pub use correlation::{
    Correlation, CorrelationKind, Occurrence, Spike, Threshold, ValueMeasure, Windowing,
};
pub use cost::Cost;
pub use detection::{Expr, Item, Values};
pub use diagnostic::{Code, Diagnostic, Fix, Place, Severity, nearest};
pub use explain::Explanation;
pub use header::{Header, Level};
pub use link::{CorrelationRule, DetectionRule, Family, Input, Options, RuleRef, RuleSet};
pub use matcher::{
    Comparison, DatePart, Matcher, Number, TextRelation, compare, date_part, in_network,
    texts_relate,
};
pub use migrate::{Converted, Migrated, Reason, Refusal, migrate};
pub use pattern::{Part, Pattern};
pub use placeholder::{Placeholders, parse as parse_placeholders};
pub use processing::{ProcessingPipeline, RuleView, View};
pub use regex::TextRegex;
pub use state_version::StateVersion;
pub use tree::{DetectionItem, DetectionTree, Modifier, Selection};
pub use yaml::{Key, Node, Yaml, parse as parse_yaml};

use crate::event::Logsource;

/// One document, read but not linked yet.
#[derive(Clone, Debug)]
pub enum Document {
    /// `detection:`
    Detection {
        /// Its head.
        header: Header,
        /// What it is written for.
        logsource: Logsource,
        /// What must hold.
        tree: DetectionTree,
    },
    /// `correlation:` or `anomaly:`
    Correlation {
        /// Its head.
        header: Header,
        /// What is counted.
        correlation: Correlation,
    },
    /// `filter:`
    Filter {
        /// Its head.
        header: Header,
        /// Which rules it may apply to.
        logsource: Logsource,
        /// Which rules it applies to; `None` for any.
        rules: Option<Vec<Key>>,
        /// What must hold besides.
        tree: DetectionTree,
    },
}

/// Reads every document of one file. What is wrong with one does not keep the others out.
pub fn read_file(file: &Arc<str>, text: &str) -> (Vec<Document>, Vec<Diagnostic>) {
    let nodes = match yaml::parse(text) {
        Ok(nodes) => nodes,
        Err(diagnostic) => return (Vec::new(), vec![diagnostic.in_file(file)]),
    };
    let mut documents = Vec::new();
    let mut found = Vec::new();
    for node in nodes.iter().filter(|n| n.value != Yaml::Null) {
        match read_document(node, file, text, &mut found) {
            Ok(document) => documents.extend(document),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    (documents, found.into_iter().map(|d| d.in_file(file)).collect())
}

/// The document, or `None` when what is wrong was added to `found`.
fn read_document(
    node: &Node,
    file: &Arc<str>,
    text: &str,
    found: &mut Vec<Diagnostic>,
) -> Result<Option<Document>, Diagnostic> {
    if !matches!(node.value, Yaml::Map(_)) {
        let what = format!("a rule is a mapping, this is {}", node.kind());
        return Err(
            Diagnostic::error(Code::Shape, node.place, what).help("a rule begins with `title: …`")
        );
    }
    if let Some((action, _)) = node.members().iter().find(|(k, _)| k.text == "action") {
        let what = "`action` documents are gone since Sigma 2";
        return Err(Diagnostic::error(Code::Unsupported, action.place, what)
            .help("write each rule out in a document of its own; `watchfire migrate` does"));
    }
    // A wrong head does not keep what else is wrong from being told.
    let header = Header::read(node, file, text).map_err(|d| found.push(d)).ok();
    lint::header(node, found);
    let logsource = node.get("logsource").map(detection::logsource).transpose()?;
    let parts = ["detection", "correlation", "anomaly", "filter"];
    match parts.map(|name| node.get(name)) {
        [Some(body), None, None, None] => {
            let logsource = logsource.ok_or_else(|| {
                Diagnostic::error(Code::Shape, start(node), "the rule has no `logsource`")
                    .help("write what it is for: `logsource: {product: linux, service: sshd}`")
            })?;
            lint::logsource(node, &logsource, found);
            let Some(tree) = DetectionTree::read(body, &[], found) else { return Ok(None) };
            lint::tree(&tree, found);
            lint::cost(&tree, found);
            if header.is_none() {
                tree.report_items(found);
            }
            Ok(header.map(|header| Document::Detection { header, logsource, tree }))
        }
        [None, Some(body), None, None] => {
            let correlation = correlation::compile(body, node, found);
            let read = header.zip(correlation);
            Ok(read.map(|(header, correlation)| Document::Correlation { header, correlation }))
        }
        [None, None, Some(body), None] => {
            let correlation = correlation::compile_anomaly(body, node, found);
            let read = header.zip(correlation);
            Ok(read.map(|(header, correlation)| Document::Correlation { header, correlation }))
        }
        [None, None, None, Some(body)] => {
            let rules = filter_rules(body)?;
            let Some(tree) = DetectionTree::read(body, &["rules"], found) else { return Ok(None) };
            lint::tree(&tree, found);
            lint::filter(body, &tree, found);
            if header.is_none() {
                tree.report_items(found);
            }
            let logsource = logsource.unwrap_or_default();
            Ok(header.map(|header| Document::Filter { header, logsource, rules, tree }))
        }
        found => Err(kinds(node, &parts, found.iter().flatten().count())),
    }
}

/// The first key of a document: where to point when something is missing.
fn start(node: &Node) -> Place {
    node.members().first().map_or(node.place, |(key, _)| key.place)
}

fn kinds(node: &Node, parts: &[&str], found: usize) -> Diagnostic {
    if found == 0 {
        let what = "the document has none of `detection`, `correlation`, `anomaly`, `filter`";
        let keys = || node.members().iter().map(|(k, _)| k);
        let near = keys().find_map(|k| Some((k, nearest(&k.text, parts.iter().copied())?)));
        return match near {
            Some((key, name)) => Diagnostic::error(Code::Shape, key.place, what)
                .help(format!("did you mean `{name}`?")),
            None => Diagnostic::error(Code::Shape, start(node), what)
                .help("a rule for single events has `detection:`"),
        };
    }
    let what = "one document holds one of `detection`, `correlation`, `anomaly`, `filter`";
    let second = node.members().iter().filter(|(k, _)| parts.contains(&k.text.as_str())).nth(1);
    let place = second.map_or(node.place, |(k, _)| k.place);
    Diagnostic::error(Code::Shape, place, what).help("put `---` between two documents")
}

/// `rules:` of a filter: names, or `any`, or nothing for any.
fn filter_rules(body: &Node) -> Result<Option<Vec<Key>>, Diagnostic> {
    let Some(node) = body.get("rules") else { return Ok(None) };
    let wrong = |place, kind: &str| {
        let what = format!("`filter.rules` is a list of ids or names, or `any`; this is {kind}");
        Diagnostic::error(Code::Shape, place, what).help("write `rules: [name of a rule]`")
    };
    match &node.value {
        Yaml::Str(s) if s == "any" => Ok(None),
        Yaml::Seq(items) => {
            let name = |n: &Node| match n.scalar_text() {
                Some(text) => Ok(Key { place: n.place, text }),
                None => Err(wrong(n.place, n.kind())),
            };
            let keys: Vec<Key> = items.iter().map(name).collect::<Result<_, _>>()?;
            Ok((!keys.is_empty()).then_some(keys))
        }
        Yaml::Str(text) => Ok(Some(vec![Key { place: node.place, text: text.clone() }])),
        _ => Err(wrong(node.place, node.kind())),
    }
}
