//! From single documents to a set that runs: filters put into rules, references resolved,
//! correlations ordered, families found.
//!
//! A *family* is a set of correlations that feed each other. All of a family's matches for one key go
//! to one partition, so that a chain never needs to cross partitions: the key is made of the group-by
//! fields that all members share. Where they share none, the family has one key for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::correlation::{Correlation, CorrelationKind};
use super::detection::Expr;
use super::diagnostic::{Code, Diagnostic};
use super::header::Header;
use super::yaml::Key;
use super::{Document, compile_file};
use crate::event::{FieldPath, Logsource};
use crate::ids::{hex, stable_hash};
use crate::limits::CORRELATION_DEPTH_MAX;

/// A detection rule, ready to run.
#[derive(Clone, Debug)]
pub struct DetectionRule {
    /// Its head.
    pub header: Header,
    /// What it is written for.
    pub logsource: Logsource,
    /// What must hold, filters included.
    pub condition: Expr,
    /// Whether a match alerts by itself: not when it only feeds correlations.
    pub alerts: bool,
    /// The families that its matches feed, by index.
    pub families: Vec<usize>,
}

/// What a correlation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleRef {
    /// A detection rule by index.
    Detection(usize),
    /// A correlation by index.
    Correlation(usize),
}

/// One rule that feeds a correlation, and where the group's values stand in it.
#[derive(Clone, Debug)]
pub struct Input {
    /// The rule.
    pub rule: RuleRef,
    /// For each group-by field, the field of this rule that holds it.
    pub group_fields: Vec<FieldPath>,
}

/// A correlation, ready to run. A correlation comes after all that it refers to.
#[derive(Clone, Debug)]
pub struct CorrelationRule {
    /// Its head.
    pub header: Header,
    /// What is counted.
    pub kind: CorrelationKind,
    /// What feeds it, in the rule's order.
    pub inputs: Vec<Input>,
    /// The group-by fields as written (aliases by their alias).
    pub group_by: Vec<FieldPath>,
    /// Length of the closed window, microseconds.
    pub timespan_micros: i64,
    /// Whether a finding alerts by itself.
    pub alerts: bool,
    /// Its family, by index.
    pub family: usize,
}

/// Correlations that must be together.
#[derive(Clone, Debug)]
pub struct Family {
    /// Stable name: hash of its members and key.
    pub id: Arc<str>,
    /// The group-by fields that all members share.
    pub key: Vec<FieldPath>,
    /// Every field of an event that a member needs.
    pub fields: Vec<FieldPath>,
    /// Its members, by index.
    pub members: Vec<usize>,
}

/// All rules that run.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// Detection rules in the order they were loaded.
    pub detections: Vec<DetectionRule>,
    /// Correlations, each after what it refers to.
    pub correlations: Vec<CorrelationRule>,
    /// Families of correlations.
    pub families: Vec<Family>,
    /// How many filters were put into rules.
    pub filters: usize,
}

impl RuleSet {
    /// Compiles and links the texts of files. What is wrong is reported and left out.
    pub fn compile<'t>(
        files: impl IntoIterator<Item = (&'t Arc<str>, &'t str)>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut documents = Vec::new();
        let mut diagnostics = Vec::new();
        for (file, text) in files {
            let (mut docs, mut found) = compile_file(file, text);
            documents.append(&mut docs);
            diagnostics.append(&mut found);
        }
        let set = Self::link(documents, &mut diagnostics);
        (set, diagnostics)
    }

    /// Rules of all kinds.
    pub fn len(&self) -> usize {
        self.detections.len() + self.correlations.len()
    }

    /// Whether no rule is loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The head of a rule.
    pub fn header(&self, rule: RuleRef) -> &Header {
        match rule {
            RuleRef::Detection(i) => &self.detections[i].header,
            RuleRef::Correlation(i) => &self.correlations[i].header,
        }
    }

    /// Links documents; diagnostics are added to those given.
    pub fn link(documents: Vec<Document>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut linker = Linker {
            set: Self::default(),
            pending: Vec::new(),
            filters: Vec::new(),
            referenced: BTreeSet::new(),
            diagnostics,
        };
        linker.sort_out(documents);
        linker.apply_filters();
        linker.correlate();
        linker.find_families();
        linker.set
    }
}

struct Linker<'d> {
    set: RuleSet,
    pending: Vec<(Header, Correlation)>,
    filters: Vec<(Header, Logsource, Option<Vec<Key>>, Expr)>,
    referenced: BTreeSet<RuleRef>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Linker<'_> {
    /// Puts each document in its place; a second rule of the same id is refused.
    fn sort_out(&mut self, documents: Vec<Document>) {
        let mut ids: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for document in documents {
            let header = match &document {
                Document::Detection { header, .. }
                | Document::Correlation { header, .. }
                | Document::Filter { header, .. } => header,
            };
            if let Some(first) = ids.get(&header.id.0) {
                let what = format!("the id `{}` is taken by a rule in {first}", header.id);
                let place = super::Place::default();
                self.diagnostics
                    .push(Diagnostic::error(Code::DuplicateId, place, what).in_file(&header.file));
                continue;
            }
            ids.insert(Arc::clone(&header.id.0), Arc::clone(&header.file));
            match document {
                Document::Detection { header, logsource, detection } => {
                    self.set.detections.push(DetectionRule {
                        header,
                        logsource,
                        condition: detection.condition,
                        alerts: true,
                        families: Vec::new(),
                    });
                }
                Document::Correlation { header, correlation } => {
                    self.pending.push((header, correlation));
                }
                Document::Filter { header, logsource, rules, detection } => {
                    self.filters.push((header, logsource, rules, detection.condition));
                }
            }
        }
    }

    /// A rule's condition becomes `(rule) and (filter)` (Sigma filters specification).
    fn apply_filters(&mut self) {
        for (header, logsource, rules, condition) in std::mem::take(&mut self.filters) {
            let chosen = |rule: &DetectionRule| match &rules {
                None => true,
                Some(keys) => keys.iter().any(|k| {
                    k.text == *rule.header.id.0 || rule.header.name.as_ref() == Some(&k.text)
                }),
            };
            let mut applied = 0;
            for rule in &mut self.set.detections {
                if logsource.covers(&rule.logsource) && chosen(rule) {
                    let original = std::mem::replace(&mut rule.condition, Expr::Or(Vec::new()));
                    rule.condition = Expr::And(vec![original, condition.clone()]);
                    applied += 1;
                }
            }
            self.set.filters += 1;
            if applied == 0 {
                let what = format!("the filter `{}` applies to no loaded rule", header.title);
                let warning = Diagnostic::warning(Code::Reference, super::Place::default(), what);
                self.diagnostics.push(warning.in_file(&header.file));
            }
        }
    }

    /// Links correlations in rounds: each round takes those whose rules are all there. What is left
    /// refers to something missing, or to itself.
    fn correlate(&mut self) {
        for _ in 0..CORRELATION_DEPTH_MAX {
            let before = self.pending.len();
            for (header, correlation) in std::mem::take(&mut self.pending) {
                let refs: Option<Vec<RuleRef>> =
                    correlation.rules.iter().map(|k| self.find(&k.text)).collect();
                match refs {
                    Some(refs) => self.add(header, correlation, &refs),
                    None => self.pending.push((header, correlation)),
                }
            }
            if self.pending.is_empty() || self.pending.len() == before {
                break;
            }
        }
        for (header, correlation) in std::mem::take(&mut self.pending) {
            let missing = correlation.rules.iter().find(|k| self.find(&k.text).is_none());
            let Some(key) = missing.or(correlation.rules.first()) else { continue };
            let what = match missing {
                Some(_) => format!("no loaded rule has the id or name `{}`", key.text),
                None => format!("a chain of correlations is deeper than {CORRELATION_DEPTH_MAX}"),
            };
            self.diagnostics.push(
                Diagnostic::error(Code::Reference, key.place, what)
                    .help("load the file that holds it; a rule that refers to itself, directly or in a circle, is refused as well")
                    .in_file(&header.file),
            );
        }
    }

    /// By id, then by name, then (as some public rules do) by title.
    fn find(&self, reference: &str) -> Option<RuleRef> {
        let heads = |by: &dyn Fn(&Header) -> bool| {
            let detection = self.set.detections.iter().position(|r| by(&r.header));
            let correlation = || self.set.correlations.iter().position(|r| by(&r.header));
            detection.map(RuleRef::Detection).or_else(|| correlation().map(RuleRef::Correlation))
        };
        heads(&|h| *h.id.0 == *reference)
            .or_else(|| heads(&|h| h.name.as_deref() == Some(reference)))
            .or_else(|| heads(&|h| h.title == reference))
    }

    fn add(&mut self, header: Header, correlation: Correlation, refs: &[RuleRef]) {
        for rule in refs {
            let again = !self.referenced.insert(*rule);
            let alerts = match rule {
                RuleRef::Detection(i) => &mut self.set.detections[*i].alerts,
                RuleRef::Correlation(i) => &mut self.set.correlations[*i].alerts,
            };
            // A rule that feeds correlations alerts by itself when one of them says so.
            *alerts = correlation.generate || (again && *alerts);
        }
        let inputs = refs.iter().map(|rule| self.input(*rule, &correlation)).collect();
        self.set.correlations.push(CorrelationRule {
            header,
            kind: correlation.kind,
            inputs,
            group_by: correlation.group_by,
            timespan_micros: correlation.timespan_micros,
            alerts: true,
            family: 0,
        });
    }

    fn input(&self, rule: RuleRef, correlation: &Correlation) -> Input {
        let header = self.set.header(rule);
        let named = |name: &str| {
            *header.id.0 == *name || header.name.as_deref() == Some(name) || header.title == name
        };
        let field = |group: &FieldPath| {
            let alias = correlation.aliases.iter().find(|a| a.name == group.as_str());
            let mapped = alias.and_then(|a| a.fields.iter().find(|(r, _)| named(r)));
            mapped.map_or_else(|| group.clone(), |(_, field)| field.clone())
        };
        Input { rule, group_fields: correlation.group_by.iter().map(field).collect() }
    }

    /// Joins correlations that feed each other, and tells the rules below which families they feed.
    fn find_families(&mut self) {
        let mut family_of: Vec<usize> = (0..self.set.correlations.len()).collect();
        for (child, rule) in self.set.correlations.iter().enumerate() {
            for input in &rule.inputs {
                let RuleRef::Correlation(parent) = input.rule else { continue };
                let (from, to) = (family_of[parent], family_of[child]);
                family_of.iter_mut().filter(|f| **f == from).for_each(|f| *f = to);
            }
        }
        for root in family_of.iter().copied().collect::<BTreeSet<_>>() {
            let members: Vec<usize> =
                (0..family_of.len()).filter(|i| family_of[*i] == root).collect();
            let index = self.set.families.len();
            let family = self.family(members);
            for member in &family.members {
                self.set.correlations[*member].family = index;
                for input in &self.set.correlations[*member].inputs {
                    let RuleRef::Detection(i) = input.rule else { continue };
                    let families = &mut self.set.detections[i].families;
                    if !families.contains(&index) {
                        families.push(index);
                    }
                }
            }
            self.set.families.push(family);
        }
    }

    fn family(&self, members: Vec<usize>) -> Family {
        let rules = || members.iter().map(|m| &self.set.correlations[*m]);
        let plain = |f: &FieldPath| {
            // A field that an alias maps has no one name in events: it cannot be the key.
            rules().all(|r| {
                let at = r.group_by.iter().position(|g| g == f);
                at.is_some_and(|i| r.inputs.iter().all(|input| input.group_fields[i] == *f))
            })
        };
        let first = rules().next().map(|r| r.group_by.clone()).unwrap_or_default();
        let key: Vec<FieldPath> = first.into_iter().filter(plain).collect();
        let mut fields = BTreeSet::new();
        for rule in rules() {
            fields.extend(rule.group_by.iter().cloned());
            fields.extend(rule.inputs.iter().flat_map(|i| i.group_fields.iter().cloned()));
            if let CorrelationKind::ValueCount { fields: values, .. } = &rule.kind {
                fields.extend(values.iter().cloned());
            }
        }
        let mut names: Vec<&[u8]> = rules().map(|r| r.header.id.0.as_bytes()).collect();
        names.sort_unstable();
        names.extend(key.iter().map(|f| f.as_str().as_bytes()));
        let id = hex(&stable_hash(&names)[..8]);
        Family { id: id.into(), key, fields: fields.into_iter().collect(), members }
    }
}
