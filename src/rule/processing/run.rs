//! A rule on its way through pipelines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::attribute;
use super::gate::{FieldCondition, Gate, ItemCondition, Relation, RuleCondition, StateTest};
use super::item::{anywhere, cased, change_values, changed, holds_without, is, plain_item};
use super::item::{split_hashes, test_holds};
use super::transformation::{AddCondition, FieldMap, ProcessingItem, ShownChange};
use super::transformation::{Placeholders, Transformation};
use crate::event::Logsource;
use crate::rule::condition::Condition;
use crate::rule::diagnostic::Place;
use crate::rule::header::Header;
use crate::rule::placeholder;
use crate::rule::shown::{Shown, shown};
use crate::rule::tree::{DetectionItem, DetectionTree, Selection};
use crate::rule::yaml::{Key, Node, Yaml};

/// Why a pipeline does not let a rule pass.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// In its own words.
    pub reason: String,
    /// The detection item that it is about.
    pub place: Option<Place>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, place: None }
    }
}

/// What is transformed: a detection rule, or the fields of a correlation that one rule feeds.
pub struct Subject<'r> {
    /// Head of the rule or correlation.
    pub header: &'r Header,
    /// Whether it is a correlation.
    pub correlation: bool,
    /// What the rule is written for; of a correlation, what its rule is written for.
    pub logsource: Logsource,
    /// Trees that must all hold, each with its file.
    pub parts: Vec<(Arc<str>, DetectionTree)>,
    /// Fields that alerts show.
    pub shown: Vec<String>,
    /// Fields of the correlation, and the event fields that hold them.
    pub group: Vec<(String, Vec<String>)>,
    /// Values of `vars`.
    pub vars: BTreeMap<String, Vec<String>>,
    applied: BTreeSet<String>,
    attributes: BTreeMap<String, Node>,
    state: BTreeMap<String, Yaml>,
    fields_applied: BTreeMap<String, BTreeSet<String>>,
    /// Names that a mapping took or gave.
    mapped: BTreeSet<String>,
}

impl<'r> Subject<'r> {
    /// A rule or correlation that no step has seen yet.
    pub fn new(header: &'r Header, correlation: bool, logsource: &Logsource) -> Self {
        Self {
            header,
            correlation,
            logsource: logsource.clone(),
            parts: Vec::new(),
            shown: header.fields.clone(),
            group: Vec::new(),
            vars: BTreeMap::new(),
            applied: BTreeSet::new(),
            attributes: header.attributes.iter().cloned().collect(),
            state: BTreeMap::new(),
            fields_applied: BTreeMap::new(),
            mapped: BTreeSet::new(),
        }
    }

    /// Takes the steps one after the other; `file` is theirs.
    ///
    /// # Errors
    /// The first refusal.
    pub fn apply(&mut self, items: &[ProcessingItem], file: &Arc<str>) -> Result<(), Refusal> {
        for item in items {
            if item.rules.holds(&mut |c| self.rule_holds(c))? {
                self.step(item, file)?;
                self.applied.extend(item.id.clone());
            }
        }
        Ok(())
    }

    fn step(&mut self, item: &ProcessingItem, file: &Arc<str>) -> Result<(), Refusal> {
        match &item.transformation {
            Transformation::Fields(map) => return self.map_fields(item, map),
            Transformation::AddCondition(add) => return self.add_condition(item, add, file),
            Transformation::ChangeLogsource(to) => self.logsource = to.clone(),
            Transformation::Shown(change, names) => match change {
                ShownChange::Add => self.shown.extend(names.iter().cloned()),
                ShownChange::Remove => self.shown.retain(|n| !names.contains(n)),
                ShownChange::Set => self.shown.clone_from(names),
            },
            Transformation::SetState(key, to) => {
                self.state.insert(key.clone(), to.clone());
            }
            Transformation::SetAttribute(name, to) => {
                self.attributes.insert(name.clone(), to.clone());
            }
            Transformation::RuleFailure(message) => return Err(message.clone().into()),
            Transformation::StrictMapping => return self.all_mapped(),
            Transformation::Nest(items) => return self.apply(items, file),
            _ => return self.map_items(&mut |this, detection| this.item_step(item, detection)),
        }
        Ok(())
    }

    fn all_mapped(&self) -> Result<(), Refusal> {
        let items = self.items();
        let fields: BTreeSet<&str> = items.iter().filter_map(|i| i.field.as_deref()).collect();
        let unmapped: Vec<&str> =
            fields.into_iter().filter(|f| !self.mapped.contains(*f)).collect();
        match unmapped.is_empty() {
            true => Ok(()),
            false => Err(format!("no mapping has the fields {}", unmapped.join(", ")).into()),
        }
    }

    /// What is added is a tree of its own, in the file of the pipeline: all trees must hold.
    fn add_condition(
        &mut self,
        item: &ProcessingItem,
        add: &AddCondition,
        file: &Arc<str>,
    ) -> Result<(), Refusal> {
        if self.correlation {
            return Ok(());
        }
        let mut missing = None;
        let selection = add.selection.clone().map_items(&mut |mut detection| {
            for node in detection.values.iter_mut().filter(|_| add.template) {
                let Yaml::Str(text) = &node.value else { continue };
                match self.filled(text) {
                    Ok(text) => node.value = Yaml::Str(text),
                    Err(name) => missing = Some(name),
                }
            }
            detection.processed_by.extend(item.id.clone());
            Selection::Item(detection)
        });
        if let Some(name) = missing {
            return Err(format!("`${name}` stands for the rule's {name}, and it has none").into());
        }
        let name = "added".to_owned();
        let condition = match add.negated {
            true => Condition::Not(Box::new(Condition::Name(name.clone()))),
            false => Condition::Name(name.clone()),
        };
        let selections = vec![(Key { place: item.place, text: name }, selection)];
        let tree = DetectionTree { selections, conditions: vec![condition] };
        self.parts.push((Arc::clone(file), tree));
        Ok(())
    }

    /// `$product`, `${category}`, `$service`; `$$` is `$`, anything else stays.
    fn filled(&self, text: &str) -> Result<String, &'static str> {
        let parts = [
            ("product", &self.logsource.product),
            ("category", &self.logsource.category),
            ("service", &self.logsource.service),
        ];
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let named = parts.iter().find_map(|(name, part)| {
                let braced =
                    rest.strip_prefix('{').and_then(|r| r.strip_prefix(name)?.strip_prefix('}'));
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let bare = rest.strip_prefix(name).filter(|r| !r.starts_with(word));
                Some((*name, *part, braced.or(bare)?))
            });
            match named {
                Some((name, None, _)) => return Err(name),
                Some((_, Some(part), after)) => {
                    out.push_str(part);
                    rest = after;
                }
                None => out.push('$'),
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn items(&self) -> Vec<&DetectionItem> {
        let mut items = Vec::new();
        for (_, tree) in &self.parts {
            tree.selections.iter().for_each(|(_, s)| s.items(&mut items));
        }
        items
    }

    /// Calls `change` for every detection item.
    fn map_items(
        &mut self,
        change: &mut dyn FnMut(&mut Self, DetectionItem) -> Result<Selection, Refusal>,
    ) -> Result<(), Refusal> {
        let mut parts = std::mem::take(&mut self.parts);
        let mut refused = None;
        for (_, tree) in &mut parts {
            for (_, selection) in &mut tree.selections {
                let whole = std::mem::replace(selection, Selection::All(Vec::new()));
                *selection = whole.map_items(&mut |item| {
                    let place = item.place;
                    change(self, item).unwrap_or_else(|refusal: Refusal| {
                        let place = refusal.place.or(Some(place));
                        refused.get_or_insert(Refusal { place, ..refusal });
                        Selection::All(Vec::new())
                    })
                });
            }
        }
        self.parts = parts;
        refused.map_or(Ok(()), Err)
    }

    /// A step that changes values or drops items.
    fn item_step(
        &mut self,
        step: &ProcessingItem,
        item: DetectionItem,
    ) -> Result<Selection, Refusal> {
        if !self.item_holds(step, &item)? {
            return Ok(Selection::Item(item));
        }
        let changed = match &step.transformation {
            Transformation::DropItem => return Ok(Selection::All(Vec::new())),
            Transformation::ItemFailure(message) => return Err(message.clone().into()),
            Transformation::Hashes(hashes) => return split_hashes(hashes, step, item),
            Transformation::Placeholders(placeholders) => self.fill(placeholders, &item)?,
            Transformation::SetValue(to) => {
                let node = item.values.first().map(|n| Node { value: to.clone(), ..n.clone() });
                Some(plain_item(&item, node.into_iter().collect()))
            }
            Transformation::CaseCounts => Some(cased(&item)),
            Transformation::CaseStays => Some(item.clone()),
            transformation => change_values(&item, &mut |value| changed(transformation, value))?,
        };
        Ok(Selection::Item(match changed {
            Some(mut changed) => {
                changed.processed_by.extend(step.id.clone());
                changed
            }
            None => item,
        }))
    }

    /// Placeholders of one item replaced; those without values stay, for configuration to fill.
    fn fill(
        &self,
        step: &Placeholders,
        item: &DetectionItem,
    ) -> Result<Option<DetectionItem>, Refusal> {
        if !item.has("expand") {
            return Ok(None);
        }
        let any = if item.has("re") { ".*" } else { "*" };
        let lookup = |name: &str| match step.handles(name) {
            false => None,
            true if step.wildcard => Some(vec![any.to_owned()]),
            true => self.vars.get(name).cloned(),
        };
        let mut values = Vec::new();
        for node in &item.values {
            values.extend(placeholder::replace(node, &lookup).map_err(|d| d.message)?);
        }
        let changed = values != item.values;
        Ok(changed.then(|| DetectionItem { values, ..item.clone() }))
    }
}

/// Names of fields.
impl Subject<'_> {
    fn map_fields(&mut self, step: &ProcessingItem, map: &FieldMap) -> Result<(), Refusal> {
        for name in std::mem::take(&mut self.shown) {
            let names = self.renamed(step, map, &name)?;
            self.shown.extend(names);
        }
        for (field, held_by) in std::mem::take(&mut self.group) {
            let mut names = Vec::new();
            for name in held_by {
                names.extend(self.renamed(step, map, &name)?);
            }
            self.group.push((field, names));
        }
        self.map_items(&mut |this, item| this.map_field(step, map, item))
    }

    /// The new names of a field that stands by itself.
    fn renamed(
        &mut self,
        step: &ProcessingItem,
        map: &FieldMap,
        field: &str,
    ) -> Result<Vec<String>, Refusal> {
        let same = || vec![field.to_owned()];
        let Some(names) = map.apply(Some(field)) else { return Ok(same()) };
        if !step.fields.holds(&mut |c| self.field_holds(c, Some(field)))? {
            return Ok(same());
        }
        if names != same() {
            let mut ids = self.fields_applied.remove(field).unwrap_or_default();
            ids.extend(step.id.clone());
            for name in &names {
                self.fields_applied.insert(name.clone(), ids.clone());
            }
        }
        Ok(names)
    }

    fn map_field(
        &mut self,
        step: &ProcessingItem,
        map: &FieldMap,
        mut item: DetectionItem,
    ) -> Result<Selection, Refusal> {
        if !self.item_holds(step, &item)? {
            return Ok(Selection::Item(item));
        }
        let referred = self.map_references(step, map, &mut item)?;
        let names = map.apply(item.field.as_deref());
        let field = item.field.clone();
        let applies =
            names.is_some() && step.fields.holds(&mut |c| self.field_holds(c, field.as_deref()))?;
        if applies || referred {
            item.processed_by.extend(step.id.clone());
            if let Some(names) = &names {
                self.mapped.extend(field);
                self.mapped.extend(names.iter().cloned());
            }
        }
        let Some(names) = names.filter(|_| applies) else { return Ok(Selection::Item(item)) };
        if item.field.is_none() {
            item = anywhere(&item);
        }
        let all = holds_without(&item);
        let renamed =
            |name: String| Selection::Item(DetectionItem { field: Some(name), ..item.clone() });
        let mut items: Vec<Selection> = names.into_iter().map(renamed).collect();
        Ok(match items.len() {
            1 => items.remove(0),
            _ if all => Selection::All(items),
            _ => Selection::Any(items),
        })
    }

    /// The fields that values of `fieldref` name.
    fn map_references(
        &mut self,
        step: &ProcessingItem,
        map: &FieldMap,
        item: &mut DetectionItem,
    ) -> Result<bool, Refusal> {
        let mut referred = false;
        let mut values = Vec::new();
        for (node, shown) in item.values.iter().zip(shown(item)) {
            let Shown::FieldRef(name) = shown else {
                values.push(node.clone());
                continue;
            };
            if !step.fields.holds(&mut |c| self.field_holds(c, Some(&name)))? {
                values.push(node.clone());
                continue;
            }
            referred = true;
            for name in self.renamed(step, map, &name)? {
                values.push(Node { value: Yaml::Str(name), ..node.clone() });
            }
        }
        item.values = values;
        Ok(referred)
    }
}

/// Conditions.
impl Subject<'_> {
    fn rule_holds(&self, condition: &RuleCondition) -> Result<bool, String> {
        Ok(match condition {
            RuleCondition::Logsource(wanted) => wanted.covers(&self.logsource),
            RuleCondition::ContainsField(name) => {
                name.is_some() && self.items().iter().any(|item| item.field == *name)
            }
            RuleCondition::ContainsItem(name, wanted) => {
                let equal = |item: &&DetectionItem| {
                    let null = |v: &Shown| *v == Shown::Null && *wanted == Yaml::Null;
                    let cased = item.has("cased") && matches!(wanted, Yaml::Str(_));
                    !cased && shown(item).iter().any(|v| null(v) || is(v, wanted))
                };
                let of_field = |item: &&DetectionItem| item.field == *name;
                name.is_some() && self.items().into_iter().filter(of_field).any(|i| equal(&i))
            }
            RuleCondition::Applied(id) => self.applied.contains(id),
            RuleCondition::State(test) => self.state_holds(test)?,
            RuleCondition::IsRule => !self.correlation,
            RuleCondition::IsCorrelation => self.correlation,
            RuleCondition::Attribute(name, relation, wanted) => {
                attribute::holds(self.header, &self.attributes, name, *relation, wanted)?
            }
            RuleCondition::Tag(tag) => self.header.tags.contains(tag),
        })
    }

    fn state_holds(&self, test: &StateTest) -> Result<bool, String> {
        let Some(found) = self.state.get(&test.key) else { return Ok(false) };
        match attribute::order(found, &test.value) {
            Some(order) => Ok(test.relation.holds(order)),
            None if test.relation == Relation::Eq => Ok(false),
            None if test.relation == Relation::Ne => Ok(true),
            None => Err(format!("the state `{}` cannot be compared with what is given", test.key)),
        }
    }

    /// Whether a step is for this item: for its field, or for one that its values name.
    fn item_holds(&self, step: &ProcessingItem, item: &DetectionItem) -> Result<bool, String> {
        if !step.items.holds(&mut |c| self.value_holds(c, item))? {
            return Ok(false);
        }
        let fields: &Gate<FieldCondition> = &step.fields;
        fields.holds(&mut |condition| {
            if let FieldCondition::Applied(id) = condition {
                return Ok(item.processed_by.contains(id));
            }
            let mut held = self.field_holds(condition, item.field.as_deref())?;
            for value in shown(item) {
                let Shown::FieldRef(name) = value else { continue };
                held |= self.field_holds(condition, Some(&name))?;
            }
            Ok(held)
        })
    }

    fn field_holds(&self, condition: &FieldCondition, field: Option<&str>) -> Result<bool, String> {
        Ok(match condition {
            FieldCondition::Named(names, excluded) => {
                field.is_some_and(|f| names.contain(f)) != *excluded
            }
            FieldCondition::Applied(id) => {
                let ids = field.and_then(|f| self.fields_applied.get(f));
                ids.is_some_and(|ids| ids.contains(id))
            }
            FieldCondition::State(test) => self.state_holds(test)?,
        })
    }

    fn value_holds(&self, condition: &ItemCondition, item: &DetectionItem) -> Result<bool, String> {
        Ok(match condition {
            ItemCondition::Values(all, test) => {
                let holds = |value: &Shown| test_holds(test, value);
                match all {
                    true => shown(item).iter().all(holds),
                    false => shown(item).iter().any(holds),
                }
            }
            ItemCondition::Applied(id) => item.processed_by.contains(id),
            ItemCondition::State(test) => self.state_holds(test)?,
        })
    }
}
