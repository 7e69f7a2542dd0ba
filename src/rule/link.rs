//! From single documents to a set that runs: filters put into rules, trees compiled, references
//! resolved, correlations ordered, families found.
//!
//! A *family* is a set of correlations that feed each other. All of a family's matches for one key go
//! to one partition, so that a chain never needs to cross partitions: the key is made of the group-by
//! fields that all members share. Where they share none, the family has one key for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::correlation::{Correlation, CorrelationKind, Windowing};
use super::detection::{self, Expr};
use super::diagnostic::{Code, Diagnostic, Place, Severity};
use super::header::Header;
use super::lint;
use super::placeholder::Placeholders;
use super::processing::{RuleView, View};
use super::reference;
use super::regex::TextRegex;
use super::tree::DetectionTree;
use super::yaml::Key;
use super::{Document, read_file};
use crate::event::{FieldPath, Logsource};
use crate::ids::{RuleId, hex, stable_hash};
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
    /// The rule in each view beside the plain one; `None` where it does not run.
    pub views: Vec<Option<RuleView>>,
}

impl DetectionRule {
    /// What the rule is in a view: 0 is the plain one, the others follow in the order of
    /// [`Options::views`]. `None` where it does not run.
    pub fn seen(&self, view: usize) -> Option<(&Logsource, &Expr)> {
        match view {
            0 => Some((&self.logsource, &self.condition)),
            view => self.changed(view).map(|v| (&v.logsource, &v.condition)),
        }
    }

    /// The rule as pipelines changed it; `None` in the plain view, and where it does not run.
    pub fn changed(&self, view: usize) -> Option<&RuleView> {
        self.views.get(view.checked_sub(1)?)?.as_ref()
    }
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
    /// How windows lie in time.
    pub windowing: Windowing,
    /// Whether events without a group-by field make a group of their own.
    pub null_group: bool,
    /// Least event time between two reports of one episode, microseconds, if the rule says.
    pub update_micros: Option<i64>,
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
    /// Their names, to be shared by all matches.
    pub names: Vec<Arc<str>>,
    /// Where the fields of the key are among them.
    pub key_places: Vec<usize>,
    /// Whether a member takes events that lack a field of the key.
    pub null_group: bool,
    /// Whether matches of a group differ by time and place alone: no member looks at another value.
    pub is_alike: bool,
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
    /// Regular expressions that may run out of steps, with the rule each is in, by index.
    bounded: Vec<(usize, TextRegex)>,
}

/// What configuration adds to rules.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lists of values for placeholders.
    pub placeholders: Placeholders,
    /// Views beside the plain one, which has number 0: these are 1, 2, …
    pub views: Vec<View>,
}

impl RuleSet {
    /// Compiles and links the texts of files. What is wrong is reported and left out.
    pub fn compile<'t>(
        files: impl IntoIterator<Item = (&'t Arc<str>, &'t str)>,
    ) -> (Self, Vec<Diagnostic>) {
        Self::compile_with(files, &Options::default())
    }

    /// Compiles and links the texts of files with what configuration adds.
    pub fn compile_with<'t>(
        files: impl IntoIterator<Item = (&'t Arc<str>, &'t str)>,
        options: &Options,
    ) -> (Self, Vec<Diagnostic>) {
        let mut texts = BTreeMap::new();
        let mut documents = Vec::new();
        let mut diagnostics = Vec::new();
        for (file, text) in files {
            let (mut docs, mut found) = read_file(file, text);
            documents.append(&mut docs);
            diagnostics.append(&mut found);
            texts.insert(Arc::clone(file), text);
        }
        let set = Self::link(documents, options, &mut diagnostics);
        for diagnostic in &mut diagnostics {
            if let Some(text) = diagnostic.file.as_ref().and_then(|f| texts.get(f)) {
                diagnostic.resolve(text);
            }
        }
        diagnostics.retain(|d| {
            let text = d.file.as_ref().and_then(|f| texts.get(f));
            text.is_none_or(|text| !lint::is_allowed(d, text))
        });
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

    /// Values that a regular expression could not decide within its steps since this was last asked,
    /// by rule. They count as no match.
    pub fn take_regex_overruns(&self) -> Vec<(&RuleId, u64)> {
        let asked = |(rule, regex): &(usize, TextRegex)| {
            let n = regex.take_overruns();
            (n > 0).then(|| (&self.detections[*rule].header.id, n))
        };
        self.bounded.iter().filter_map(asked).collect()
    }

    /// The head of a rule.
    pub fn header(&self, rule: RuleRef) -> &Header {
        match rule {
            RuleRef::Detection(i) => &self.detections[i].header,
            RuleRef::Correlation(i) => &self.correlations[i].header,
        }
    }

    fn link(
        documents: Vec<Document>,
        options: &Options,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut linker = Linker {
            set: Self::default(),
            trees: Vec::new(),
            pending: Vec::new(),
            depths: Vec::new(),
            filters: Vec::new(),
            referenced: BTreeSet::new(),
            options,
            diagnostics,
        };
        linker.sort_out(documents);
        linker.apply_filters();
        linker.compile();
        linker.correlate();
        linker.find_families();
        linker.view_fields();
        linker.set.named()
    }
}

/// A detection rule before it is compiled: all trees must hold, its own and those of filters.
struct RuleTree {
    header: Header,
    logsource: Logsource,
    parts: Vec<(Arc<str>, DetectionTree)>,
}

struct FilterTree {
    header: Header,
    logsource: Logsource,
    rules: Option<Vec<Key>>,
    tree: DetectionTree,
}

struct Linker<'d> {
    set: RuleSet,
    trees: Vec<RuleTree>,
    pending: Vec<(Header, Correlation)>,
    /// Of each correlation that is linked, in their order.
    depths: Vec<usize>,
    filters: Vec<FilterTree>,
    referenced: BTreeSet<RuleRef>,
    options: &'d Options,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Linker<'_> {
    /// Puts each document in its place; a second rule of the same id or name is refused.
    fn sort_out(&mut self, documents: Vec<Document>) {
        let mut taken: Taken = BTreeMap::new();
        for document in documents {
            let header = match &document {
                Document::Detection { header, .. }
                | Document::Correlation { header, .. }
                | Document::Filter { header, .. } => header,
            };
            if let Some(diagnostic) = duplicate(header, &taken) {
                self.diagnostics.push(diagnostic);
                continue;
            }
            for (_, name, place) in header.names() {
                taken.insert(name.into(), (Arc::clone(&header.file), place));
            }
            match document {
                Document::Detection { header, logsource, tree } => {
                    let parts = vec![(Arc::clone(&header.file), tree)];
                    self.trees.push(RuleTree { header, logsource, parts });
                }
                Document::Correlation { header, correlation } => {
                    self.pending.push((header, correlation));
                }
                Document::Filter { header, logsource, rules, tree } => {
                    self.filters.push(FilterTree { header, logsource, rules, tree });
                }
            }
        }
    }

    /// A rule's condition becomes `(rule) and (filter)` (Sigma filters specification). A filter that
    /// does not compile is reported once and left out.
    fn apply_filters(&mut self) {
        for filter in std::mem::take(&mut self.filters) {
            let FilterTree { header, logsource, rules, tree } = filter;
            let mut found = Vec::new();
            let compiled = detection::compile(&tree, &self.options.placeholders, &mut found);
            self.diagnostics.extend(found.into_iter().map(|d| d.in_file(&header.file)));
            if compiled.is_none() {
                continue;
            }
            let names = |key: &Key, rule: &Header| {
                key.text == *rule.id.0 || rule.name.as_ref() == Some(&key.text)
            };
            let chosen = |rule: &RuleTree| match &rules {
                None => true,
                Some(keys) => keys.iter().any(|k| names(k, &rule.header)),
            };
            let mut applied = 0;
            for rule in &mut self.trees {
                if logsource.covers(&rule.logsource) && chosen(rule) {
                    rule.parts.push((Arc::clone(&header.file), tree.clone()));
                    applied += 1;
                }
            }
            self.set.filters += 1;
            if applied == 0 {
                let what = format!("the filter `{}` applies to no loaded rule", header.title);
                let place = rules.iter().flatten().next().map_or(header.place, |k| k.place);
                let warning = Diagnostic::warning(Code::Reference, place, what)
                    .help("it names rules by id or name, and its logsource must fit theirs");
                self.diagnostics.push(warning.in_file(&header.file));
            }
        }
    }

    /// Compiles the trees; a rule with anything wrong in it is left out.
    fn compile(&mut self) {
        for rule in std::mem::take(&mut self.trees) {
            let mut found = Vec::new();
            let condition = self.plain(&rule, &mut found);
            let of_rule = found.len();
            let views = self.views(&rule, &mut found);
            let never = match views.iter().any(Option::is_some) {
                true => only_elsewhere(&mut found[..of_rule]),
                false => None,
            };
            self.diagnostics.append(&mut found);
            let Some(condition) = condition.or(never) else { continue };
            let mut bounded = Vec::new();
            condition.bounded_regexes(&mut bounded);
            views.iter().flatten().for_each(|v| v.condition.bounded_regexes(&mut bounded));
            let index = self.set.detections.len();
            self.set.bounded.extend(bounded.into_iter().map(|regex| (index, regex.clone())));
            self.set.detections.push(DetectionRule {
                header: rule.header,
                logsource: rule.logsource,
                condition,
                alerts: true,
                families: Vec::new(),
                views,
            });
        }
    }

    fn plain(&self, rule: &RuleTree, found: &mut Vec<Diagnostic>) -> Option<Expr> {
        let mut parts = Vec::with_capacity(rule.parts.len());
        for (file, tree) in &rule.parts {
            let mut wrong = Vec::new();
            parts.push(detection::compile(tree, &self.options.placeholders, &mut wrong));
            found.extend(wrong.into_iter().map(|d| d.in_file(file)));
        }
        let mut parts = parts.into_iter().collect::<Option<Vec<Expr>>>()?;
        Some(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    /// The rule in every other view. What is wrong with the rule itself is not told again.
    fn views(&self, rule: &RuleTree, found: &mut Vec<Diagnostic>) -> Vec<Option<RuleView>> {
        let lists = &self.options.placeholders;
        let mut views = Vec::with_capacity(self.options.views.len());
        for view in &self.options.views {
            let mut wrong = Vec::new();
            views.push(view.rule(&rule.header, &rule.logsource, &rule.parts, lists, &mut wrong));
            wrong.retain(|d| !found.contains(d));
            found.append(&mut wrong);
        }
        views
    }

    /// Tells each view of each rule which event fields hold the fields of correlations that it feeds.
    fn view_fields(&mut self) {
        for index in 0..self.set.detections.len() {
            for (number, view) in self.options.views.iter().enumerate() {
                let rule = &self.set.detections[index];
                let Some(Some(mut changed)) = rule.views.get(number).cloned() else { continue };
                for family in rule.families.iter().map(|f| (*f, &self.set.families[*f])) {
                    match self.family_fields(view, rule, family.1) {
                        Ok(fields) => {
                            changed.families.push(family.0);
                            changed.fields.extend(fields);
                        }
                        Err(diagnostic) => self.diagnostics.push(diagnostic),
                    }
                }
                self.set.detections[index].views[number] = Some(changed);
            }
        }
    }

    /// Each correlation of a family goes through the view as if it were written for the logsource of
    /// the rule that feeds it.
    fn family_fields(
        &self,
        view: &View,
        rule: &DetectionRule,
        family: &Family,
    ) -> Result<BTreeMap<FieldPath, Vec<FieldPath>>, Diagnostic> {
        let mut all = BTreeMap::new();
        for member in &family.members {
            let header = &self.set.correlations[*member].header;
            all.extend(view.fields(header, &rule.logsource, family.fields.iter().cloned())?);
        }
        Ok(all)
    }

    /// Links correlations in rounds: each round takes those whose rules are all there. What is left
    /// refers to something missing, to itself, or stands on too many others.
    fn correlate(&mut self) {
        loop {
            let before = self.pending.len();
            for (header, correlation) in std::mem::take(&mut self.pending) {
                let refs: Option<Vec<RuleRef>> =
                    correlation.rules.iter().map(|k| self.find(&k.text)).collect();
                let depth = refs.iter().flatten().map(|r| self.depth(*r)).max().unwrap_or_default();
                match refs.filter(|_| depth < CORRELATION_DEPTH_MAX) {
                    Some(refs) => {
                        let heads = refs.iter().map(|r| self.set.header(*r));
                        let found = reference::by_title(&header, &correlation, heads);
                        self.diagnostics.extend(found);
                        self.depths.push(depth + 1);
                        self.add(header, correlation, &refs);
                    }
                    None => self.pending.push((header, correlation)),
                }
            }
            if self.pending.is_empty() || self.pending.len() == before {
                break;
            }
        }
        let loaded = |k: &Key| self.find(&k.text).is_some();
        let heads = self.set.detections.iter().map(|r| &r.header);
        let heads: Vec<&Header> =
            heads.chain(self.set.correlations.iter().map(|r| &r.header)).collect();
        let found = reference::unresolved(&self.pending, &loaded, &heads);
        self.diagnostics.extend(found);
    }

    /// How many correlations stand on each other up to a rule; none for a detection.
    fn depth(&self, rule: RuleRef) -> usize {
        match rule {
            RuleRef::Detection(_) => 0,
            RuleRef::Correlation(i) => self.depths[i],
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
            windowing: correlation.windowing,
            null_group: correlation.null_group,
            update_micros: correlation.update_micros,
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
            let alias = correlation.aliases.iter().find(|a| a.name.text == group.as_str());
            let mapped = alias.and_then(|a| a.fields.iter().find(|(r, _)| named(&r.text)));
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
            fields.extend(rule.kind.fields().iter().cloned());
        }
        let mut names: Vec<&[u8]> = rules().map(|r| r.header.id.0.as_bytes()).collect();
        names.sort_unstable();
        names.extend(key.iter().map(|f| f.as_str().as_bytes()));
        let id = hex(&stable_hash(&names)[..8]).into();
        let null_group = rules().any(|r| r.null_group);
        let is_alike = rules().all(|r| r.kind.fields().is_empty());
        let fields: Vec<FieldPath> = fields.into_iter().collect();
        let names = fields.iter().map(|f| f.as_str().into()).collect();
        let key_places = key.iter().filter_map(|k| fields.iter().position(|f| f == k)).collect();
        Family { id, key, fields, names, key_places, null_group, is_alike, members }
    }
}

/// What the plain rule is when nothing is wrong with it but placeholders that a pipeline has values
/// for: it never matches, and that is a warning.
fn only_elsewhere(found: &mut [Diagnostic]) -> Option<Expr> {
    let wrong = |d: &&mut Diagnostic| d.severity == Severity::Error;
    if found.iter_mut().filter(wrong).any(|d| d.code != Code::Placeholder) {
        return None;
    }
    for diagnostic in found.iter_mut().filter(wrong) {
        let help = "the rule runs only where a pipeline gives the placeholder values";
        diagnostic.severity = Severity::Warning;
        diagnostic.help = Some(help.to_owned());
    }
    Some(Expr::Or(Vec::new()))
}

/// Ids and names with the file and place of their rules.
type Taken = BTreeMap<Arc<str>, (Arc<str>, Place)>;

/// Why a rule's id or name cannot be its own.
fn duplicate(header: &Header, taken: &Taken) -> Option<Diagnostic> {
    let (kind, name, place) = header.names().find(|(_, name, _)| taken.contains_key(*name))?;
    let (file, first) = &taken[name];
    let text = format!("the {kind} `{name}` is taken by a rule in {file}:{}", first.line);
    let diagnostic = Diagnostic::error(Code::DuplicateId, place, text)
        .help("give each rule an id and a name of its own; of these the first one runs")
        .in_file(&header.file);
    let here = *file == header.file;
    Some(if here { diagnostic.label(*first, "the first is here") } else { diagnostic })
}
