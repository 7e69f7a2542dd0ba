//! Processing pipelines: how rules are made to fit the events of a source, in pySigma's YAML.
//!
//! A pipeline is a list of steps. Each changes the tree of a rule, if its conditions hold: other names
//! of fields, other values, a condition more, another logsource; or it refuses the rule. Pipelines are
//! read once ([`ProcessingPipeline::parse`]) and put together to a [`View`]; a view turns each rule into
//! what runs for the sources that have this view. Text of queries is none of our business: what a
//! pipeline says about that is told and left alone.

mod attribute;
mod gate;
mod item;
mod prune;
mod read;
mod run;
#[cfg(test)]
mod tests;
mod transformation;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::detection::{self, Expr};
use super::diagnostic::{Code, Diagnostic};
use super::header::Header;
use super::placeholder::Placeholders;
use super::tree::DetectionTree;
use super::yaml::{self, Node, Yaml};
use crate::event::{FieldPath, Logsource};
use read::Reader;
use run::{Refusal, Subject};
use transformation::ProcessingItem;

/// A pipeline as read from its file.
#[derive(Clone, Debug)]
pub struct ProcessingPipeline {
    /// Its name, else that of its file.
    pub name: String,
    /// Pipelines with a lower number come first.
    pub priority: i128,
    file: Arc<str>,
    vars: BTreeMap<String, Vec<String>>,
    items: Vec<ProcessingItem>,
}

/// Keys of a pipeline file.
const KEYS: &[&str] = &[
    "name",
    "priority",
    "vars",
    "transformations",
    "postprocessing",
    "finalizers",
    "allowed_backends",
];

impl ProcessingPipeline {
    /// Reads one; `found` beside it are warnings.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    pub fn parse(file: &Arc<str>, text: &str) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut reader = Reader::default();
        let pipeline = match yaml::parse(text) {
            Ok(nodes) => Self::read(file, &nodes, &mut reader),
            Err(diagnostic) => {
                reader.found.push(diagnostic);
                None
            }
        };
        let mut found = reader.found;
        for diagnostic in &mut found {
            diagnostic.file = Some(Arc::clone(file));
            diagnostic.resolve(text);
        }
        match pipeline.filter(|_| super::tree::errors(&found) == 0) {
            Some(pipeline) => Ok((pipeline, found)),
            None => Err(found),
        }
    }

    fn read(file: &Arc<str>, nodes: &[Node], reader: &mut Reader) -> Option<Self> {
        let node = match nodes {
            [node] => reader.mapping(node, "a pipeline", KEYS)?,
            _ => {
                let place = nodes.get(1).map_or_else(Default::default, |n| n.place);
                let what = format!("a pipeline is one document, this file has {}", nodes.len());
                reader.error(place, what, "write each pipeline in a file of its own");
                return None;
            }
        };
        for key in ["postprocessing", "finalizers"] {
            let Some(part) = node.get(key).filter(|n| has_entries(n)) else { continue };
            let what = format!("`{key}` shapes the text of queries: it does nothing here");
            reader.found.push(
                Diagnostic::warning(Code::Pipeline, part.place, what)
                    .help("the transformations apply all the same"),
            );
        }
        let priority = match node.get("priority").map(|n| (&n.value, n)) {
            None => 0,
            Some((Yaml::Int(n), _)) => *n,
            Some((_, n)) => {
                let what = format!("`priority` must be an integer, this is {}", n.kind());
                reader.error(n.place, what, "write `priority: 10`");
                0
            }
        };
        let items = node.get("transformations").filter(|n| n.value != Yaml::Null);
        Some(Self {
            name: reader.optional_text(node, "name").unwrap_or_else(|| file.to_string()),
            priority,
            file: Arc::clone(file),
            vars: vars(node, reader),
            items: items.map(|n| ProcessingItem::read_list(n, 0, reader)).unwrap_or_default(),
        })
    }
}

fn has_entries(node: &Node) -> bool {
    match &node.value {
        Yaml::Seq(items) => !items.is_empty(),
        value => *value != Yaml::Null,
    }
}

fn vars(node: &Node, reader: &mut Reader) -> BTreeMap<String, Vec<String>> {
    let Some(vars) = node.get("vars").filter(|n| n.value != Yaml::Null) else {
        return BTreeMap::new();
    };
    if !matches!(vars.value, Yaml::Map(_)) {
        let what = format!("`vars` must be a mapping, this is {}", vars.kind());
        reader.error(vars.place, what, "write `vars: {name: [value, other]}`");
    }
    let mut out = BTreeMap::new();
    for (key, value) in vars.members() {
        if let Some(values) = reader.texts(value, &key.text) {
            out.insert(key.text.clone(), values);
        }
    }
    out
}

/// How the events of some sources see the rules: through these pipelines.
#[derive(Clone, Debug)]
pub struct View {
    /// What it is called in findings.
    pub name: String,
    pipelines: Vec<Arc<ProcessingPipeline>>,
}

/// A rule in one view.
#[derive(Clone, Debug)]
pub struct RuleView {
    /// What it is written for there.
    pub logsource: Logsource,
    /// What must hold there.
    pub condition: Expr,
    /// Fields that alerts show there.
    pub shown: Vec<String>,
    /// The event fields that hold a field of a correlation, the first that an event has; a field that
    /// is not here has its own name.
    pub fields: BTreeMap<FieldPath, Vec<FieldPath>>,
    /// The families that its matches feed there, by index.
    pub families: Vec<usize>,
}

impl RuleView {
    /// The event fields that hold a field of a correlation.
    pub fn holders<'f>(&'f self, field: &'f FieldPath) -> &'f [FieldPath] {
        self.fields.get(field).map_or_else(|| std::slice::from_ref(field), Vec::as_slice)
    }
}

impl View {
    /// Of pipelines; those with a lower priority apply first, else in the order given.
    pub fn new(name: impl Into<String>, pipelines: Vec<Arc<ProcessingPipeline>>) -> Self {
        let mut pipelines = pipelines;
        pipelines.sort_by_key(|p| p.priority);
        Self { name: name.into(), pipelines }
    }

    /// The rule in this view, or `None` with what is wrong in `found`.
    pub fn rule(
        &self,
        header: &Header,
        logsource: &Logsource,
        parts: &[(Arc<str>, DetectionTree)],
        lists: &Placeholders,
        found: &mut Vec<Diagnostic>,
    ) -> Option<RuleView> {
        let mut subject = Subject::new(header, false, logsource);
        subject.parts =
            parts.iter().map(|(f, tree)| (Arc::clone(f), prune::joined(tree))).collect();
        if let Err(diagnostic) = self.apply(&mut subject) {
            found.push(diagnostic);
            return None;
        }
        let mut exprs = Vec::new();
        let mut complete = true;
        for (file, tree) in std::mem::take(&mut subject.parts) {
            let Some(tree) = prune::pruned(tree) else { continue };
            let mut wrong = Vec::new();
            let expr = detection::compile(&tree, lists, &mut wrong);
            found.extend(wrong.into_iter().map(|d| d.in_file(&file)));
            complete &= expr.is_some();
            exprs.extend(expr);
        }
        if !complete {
            return None;
        }
        if exprs.is_empty() {
            let what = format!("the view `{}` leaves nothing of the rule's detection", self.name);
            let diagnostic = Diagnostic::error(Code::Pipeline, header.place, what)
                .help("restrict the step `drop_detection_item` by conditions");
            found.push(diagnostic.in_file(&header.file));
            return None;
        }
        let condition = if exprs.len() == 1 { exprs.remove(0) } else { Expr::And(exprs) };
        Some(RuleView {
            logsource: subject.logsource,
            condition,
            shown: subject.shown,
            fields: BTreeMap::new(),
            families: Vec::new(),
        })
    }

    /// The event fields that hold the fields of a correlation which a rule feeds.
    ///
    /// # Errors
    /// Why a pipeline refuses the correlation.
    pub fn fields(
        &self,
        correlation: &Header,
        logsource: &Logsource,
        fields: impl Iterator<Item = FieldPath>,
    ) -> Result<BTreeMap<FieldPath, Vec<FieldPath>>, Diagnostic> {
        let mut subject = Subject::new(correlation, true, logsource);
        let itself = |f: FieldPath| (f.as_str().to_owned(), vec![f.as_str().to_owned()]);
        subject.group = fields.map(itself).collect();
        self.apply(&mut subject)?;
        let changed = subject.group.into_iter().filter(|(name, held)| *held != [name.as_str()]);
        let paths = |held: Vec<String>| held.iter().map(|n| FieldPath::new(n)).collect();
        Ok(changed.map(|(name, held)| (FieldPath::new(&name), paths(held))).collect())
    }

    fn apply(&self, subject: &mut Subject<'_>) -> Result<(), Diagnostic> {
        for pipeline in &self.pipelines {
            let vars = pipeline.vars.iter().map(|(name, values)| (name.clone(), values.clone()));
            subject.vars.extend(vars);
        }
        for pipeline in &self.pipelines {
            let applied = subject.apply(&pipeline.items, &pipeline.file);
            applied.map_err(|refusal| self.refused(subject.header, pipeline, &refusal))?;
        }
        Ok(())
    }

    fn refused(&self, header: &Header, by: &ProcessingPipeline, why: &Refusal) -> Diagnostic {
        let what = format!("the pipeline `{}` refuses `{}`: {}", by.name, header.title, why.reason);
        let place = why.place.unwrap_or(header.place);
        Diagnostic::error(Code::Pipeline, place, what)
            .help(format!("the rule does not run in the view `{}`; it runs in others", self.name))
            .in_file(&header.file)
    }
}
