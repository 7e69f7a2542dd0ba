//! Rules: text → tree → what the engine runs.
//!
//! Reading is in two steps. Each document is compiled by itself; then [`RuleSet::link`] resolves the
//! references between documents: filters into rules, rules into correlations, correlations into
//! correlations. A document that is wrong is reported and left out; the others run.

mod condition;
mod correlation;
mod detection;
mod diagnostic;
mod header;
mod item;
mod link;
mod matcher;
mod migrate;
mod pattern;
mod yaml;

use std::sync::Arc;

pub use correlation::{Correlation, CorrelationKind, Spike, Threshold};
pub use detection::{Detection, Expr, Item, Values};
pub use diagnostic::{Code, Diagnostic, Place, Severity, nearest};
pub use header::{Header, Level};
pub use link::{CorrelationRule, DetectionRule, Family, Input, RuleRef, RuleSet};
pub use matcher::{Comparison, DatePart, Matcher, Number, Subject, TextRelation, texts_relate};
pub use migrate::{Converted, Migrated, Reason, Refusal, migrate};
pub use pattern::{Pattern, TextMatcher, lower};
pub use yaml::{Key, Node, Yaml, parse as parse_yaml};

use crate::event::Logsource;

/// One compiled document, not linked yet.
#[derive(Clone, Debug)]
pub enum Document {
    /// `detection:`
    Detection {
        /// Its head.
        header: Header,
        /// What it is written for.
        logsource: Logsource,
        /// What must hold.
        detection: Detection,
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
        detection: Detection,
    },
}

/// Compiles every document of one file. What is wrong with one does not keep the others out.
pub fn compile_file(file: &Arc<str>, text: &str) -> (Vec<Document>, Vec<Diagnostic>) {
    let nodes = match yaml::parse(text) {
        Ok(nodes) => nodes,
        Err(diagnostic) => return (Vec::new(), vec![diagnostic.in_file(file)]),
    };
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    for node in nodes.iter().filter(|n| n.value != Yaml::Null) {
        match compile_document(node, file, text) {
            Ok(document) => documents.push(document),
            Err(diagnostic) => diagnostics.push(diagnostic.in_file(file)),
        }
    }
    (documents, diagnostics)
}

fn compile_document(node: &Node, file: &Arc<str>, text: &str) -> Result<Document, Diagnostic> {
    if !matches!(node.value, Yaml::Map(_)) {
        let what = format!("a rule is a mapping, this is {}", node.kind());
        return Err(Diagnostic::error(Code::Shape, node.place, what));
    }
    if let Some(action) = node.get("action") {
        let what = "`action` documents are gone since Sigma 2";
        return Err(Diagnostic::error(Code::Unsupported, action.place, what)
            .help("write each rule out in a document of its own"));
    }
    let header = Header::read(node, file, text)?;
    let logsource = node.get("logsource").map(detection::logsource).transpose()?;
    let parts = ["detection", "correlation", "anomaly", "filter"];
    match parts.map(|name| node.get(name)) {
        [Some(body), None, None, None] => {
            let logsource = logsource.ok_or_else(|| {
                Diagnostic::error(Code::Shape, node.place, "the rule has no `logsource`")
                    .help("write what it is for: `logsource: {product: linux, service: sshd}`")
            })?;
            Ok(Document::Detection { header, logsource, detection: detection::compile(body, &[])? })
        }
        [None, Some(body), None, None] => {
            Ok(Document::Correlation { header, correlation: correlation::compile(body, node)? })
        }
        [None, None, Some(body), None] => Ok(Document::Correlation {
            header,
            correlation: correlation::compile_anomaly(body, node)?,
        }),
        [None, None, None, Some(body)] => Ok(Document::Filter {
            header,
            logsource: logsource.unwrap_or_default(),
            rules: filter_rules(body)?,
            detection: detection::compile(body, &["rules"])?,
        }),
        [None, None, None, None] => {
            let what = "the document has none of `detection`, `correlation`, `anomaly`, `filter`";
            Err(Diagnostic::error(Code::Shape, node.place, what))
        }
        _ => {
            let what = "one document holds one of `detection`, `correlation`, `anomaly`, `filter`";
            Err(Diagnostic::error(Code::Shape, node.place, what))
        }
    }
}

/// `rules:` of a filter: names, or `any`, or nothing for any.
fn filter_rules(body: &Node) -> Result<Option<Vec<Key>>, Diagnostic> {
    let Some(node) = body.get("rules") else { return Ok(None) };
    match &node.value {
        Yaml::Str(s) if s == "any" => Ok(None),
        Yaml::Seq(items) => {
            let keys = items
                .iter()
                .filter_map(|n| n.scalar_text().map(|text| Key { place: n.place, text }));
            let keys: Vec<Key> = keys.collect();
            Ok((!keys.is_empty()).then_some(keys))
        }
        _ => {
            let what =
                format!("`filter.rules` is a list of names or `any`, this is {}", node.kind());
            Err(Diagnostic::error(Code::Shape, node.place, what))
        }
    }
}
