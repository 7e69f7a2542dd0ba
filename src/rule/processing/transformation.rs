//! Processing items: what there is, and reading them.

use super::gate::{FieldCondition, Gate, ItemCondition, RuleCondition, read_logsource};
use super::read::{Reader, meant};
use super::value::{Case, Replacement};
use crate::event::Logsource;
use crate::limits::PIPELINE_NESTING_MAX;
use crate::rule::diagnostic::Place;
use crate::rule::tree::Selection;
use crate::rule::yaml::{Node, Yaml};

/// One step of a pipeline.
#[derive(Clone, Debug)]
pub struct ProcessingItem {
    /// By which conditions refer to it.
    pub id: Option<String>,
    /// Where it stands in its file.
    pub place: Place,
    /// Which rules it is for.
    pub rules: Gate<RuleCondition>,
    /// Which detection items it is for.
    pub items: Gate<ItemCondition>,
    /// Which fields it is for.
    pub fields: Gate<FieldCondition>,
    /// What it does.
    pub transformation: Transformation,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Transformation {
    /// The `field_name_…` family.
    Fields(FieldMap),
    /// `drop_detection_item`.
    DropItem,
    /// `hashes_fields`.
    Hashes(Hashes),
    /// `value_placeholders` and `wildcard_placeholders`.
    Placeholders(Placeholders),
    /// `add_condition`.
    AddCondition(AddCondition),
    /// `change_logsource`.
    ChangeLogsource(Logsource),
    /// `add_field`, `remove_field`, `set_field`: what a rule asks alerts to show.
    Shown(ShownChange, Vec<String>),
    /// `replace_string`.
    ReplaceString(Box<Replacement>),
    /// `map_string`.
    MapString(Vec<(String, Vec<String>)>),
    /// `set_value`.
    SetValue(Yaml),
    /// `convert_type`: to a number, else to text.
    ConvertType(bool),
    /// `case`.
    Case(Case),
    /// `regex` with `method: plain`: case counts from then on.
    CaseCounts,
    /// `regex` with the other methods: what is compared without case stays so.
    CaseStays,
    /// `set_state`.
    SetState(String, Yaml),
    /// `set_custom_attribute`.
    SetAttribute(String, Node),
    /// `rule_failure`.
    RuleFailure(String),
    /// `detection_item_failure`.
    ItemFailure(String),
    /// `strict_field_mapping_failure`.
    StrictMapping,
    /// `nest`.
    Nest(Vec<ProcessingItem>),
}

/// How names of fields change.
#[derive(Clone, Debug)]
pub enum FieldMap {
    /// Whole names; `None` is the field of keywords.
    Names(Vec<(Option<String>, Vec<String>)>),
    /// Beginnings of names.
    Beginnings(Vec<(String, Vec<String>)>),
    /// Something is put before every name.
    Prefix(String),
    /// Something is put after every name.
    Suffix(String),
    /// The case of names; those in the table have a name of their own.
    Cased(Case, Vec<(String, Vec<String>)>),
}

impl FieldMap {
    /// The new names; `None` when this one stays as it is.
    pub fn apply(&self, field: Option<&str>) -> Option<Vec<String>> {
        match (self, field) {
            (Self::Names(table), field) => {
                table.iter().find(|(old, _)| old.as_deref() == field).map(|(_, new)| new.clone())
            }
            (_, None) => None,
            (Self::Beginnings(table), Some(field)) => {
                let (rest, new) = table
                    .iter()
                    .find_map(|(old, new)| Some((field.strip_prefix(old.as_str())?, new)))?;
                Some(new.iter().map(|beginning| format!("{beginning}{rest}")).collect())
            }
            (Self::Prefix(prefix), Some(field)) => Some(vec![format!("{prefix}{field}")]),
            (Self::Suffix(suffix), Some(field)) => Some(vec![format!("{field}{suffix}")]),
            (Self::Cased(case, table), Some(field)) => {
                let own = table.iter().find(|(old, _)| old == field).map(|(_, new)| new.clone());
                Some(own.unwrap_or_else(|| vec![case.apply(field)]))
            }
        }
    }
}

/// How the list of shown fields changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownChange {
    /// They are added.
    Add,
    /// They are removed.
    Remove,
    /// They take the list's place.
    Set,
}

/// `hashes_fields`: one field for each kind of hash.
#[derive(Clone, Debug)]
pub struct Hashes {
    /// Kinds that have a field.
    pub algorithms: Vec<String>,
    /// What stands before the kind in the field's name.
    pub prefix: String,
    /// Whether the prefix alone is the name.
    pub bare: bool,
    /// Fields that hold hashes of several kinds.
    pub sources: Vec<String>,
}

/// `value_placeholders` and `wildcard_placeholders`.
#[derive(Clone, Debug)]
pub struct Placeholders {
    /// Whether `*` takes their place, else values of `vars`.
    pub wildcard: bool,
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
}

impl Placeholders {
    /// Whether this step is for the placeholder.
    pub fn handles(&self, name: &str) -> bool {
        let lists =
            |list: &Option<Vec<String>>| list.as_ref().map(|names| names.iter().any(|n| n == name));
        lists(&self.include).unwrap_or(true) && !lists(&self.exclude).unwrap_or(false)
    }
}

/// `add_condition`.
#[derive(Clone, Debug)]
pub struct AddCondition {
    /// What must hold.
    pub selection: Selection,
    /// Whether it must not hold.
    pub negated: bool,
    /// Whether `$product`, `$category` and `$service` stand for those of the rule.
    pub template: bool,
}

/// Keys that every step may have.
const COMMON: &[&str] = &[
    "id",
    "type",
    "rule_conditions",
    "rule_cond_op",
    "rule_cond_not",
    "rule_cond_expr",
    "detection_item_conditions",
    "detection_item_cond_op",
    "detection_item_cond_not",
    "detection_item_cond_expr",
    "field_name_conditions",
    "field_name_cond_op",
    "field_name_cond_not",
    "field_name_cond_expr",
];

/// Every type and the keys of its own.
const TYPES: &[(&str, &[&str])] = &[
    ("field_name_mapping", &["mapping"]),
    ("field_name_prefix_mapping", &["mapping"]),
    ("field_name_prefix", &["prefix"]),
    ("field_name_suffix", &["suffix"]),
    ("field_name_transform", &["transform_func", "mapping"]),
    ("drop_detection_item", &[]),
    ("hashes_fields", &["valid_hash_algos", "field_prefix", "drop_algo_prefix", "field_to_parse"]),
    ("value_placeholders", &["include", "exclude"]),
    ("wildcard_placeholders", &["include", "exclude"]),
    ("add_condition", &["conditions", "name", "template", "negated"]),
    ("change_logsource", &["category", "product", "service"]),
    ("add_field", &["field"]),
    ("remove_field", &["field"]),
    ("set_field", &["fields"]),
    ("replace_string", &["regex", "replacement", "skip_special", "interpret_special"]),
    ("map_string", &["mapping"]),
    ("set_value", &["value", "force_type"]),
    ("convert_type", &["target_type"]),
    ("case", &["method"]),
    ("regex", &["method"]),
    ("set_state", &["key", "val"]),
    ("set_custom_attribute", &["attribute", "value"]),
    ("rule_failure", &["message"]),
    ("detection_item_failure", &["message"]),
    ("strict_field_mapping_failure", &[]),
    ("nest", &["items"]),
];

/// Types of pySigma that nothing can be made of here, and why.
const REFUSED: &[(&str, &str)] = &[
    ("query_expression_placeholders", "it writes parts of a query, and here is no query"),
    ("file_placeholders", "values of placeholders come from `vars` or from the configuration"),
    ("http_placeholders", "values of placeholders come from `vars` or from the configuration"),
    ("command_placeholders", "values of placeholders come from `vars` or from the configuration"),
    ("extract_fields", "this version does not have it"),
];

impl ProcessingItem {
    /// Reads a list of steps.
    pub fn read_list(node: &Node, depth: usize, reader: &mut Reader) -> Vec<Self> {
        let Yaml::Seq(items) = &node.value else {
            let what = format!("steps are a list, this is {}", node.kind());
            reader.error(node.place, what, "write `- type: …`");
            return Vec::new();
        };
        if depth > PIPELINE_NESTING_MAX {
            let what = format!("steps nest deeper than the limit of {PIPELINE_NESTING_MAX}");
            reader.error(node.place, what, "write them one after the other");
            return Vec::new();
        }
        items.iter().filter_map(|item| Self::read(item, depth, reader)).collect()
    }

    fn read(node: &Node, depth: usize, reader: &mut Reader) -> Option<Self> {
        let kind = reader.text(node, "type", "a step")?;
        let place = node.get("type").map_or(node.place, |n| n.place);
        if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == kind) {
            let what = format!("the transformation `{kind}` is not supported");
            reader.error(place, what, *why);
            return None;
        }
        let Some((_, own)) = TYPES.iter().find(|(name, _)| *name == kind) else {
            let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
            let what = format!("there is no transformation `{kind}`");
            reader.error(place, what, meant(&kind, &names));
            return None;
        };
        let known: Vec<&str> = COMMON.iter().chain(*own).copied().collect();
        let what = format!("the transformation `{kind}`");
        reader.mapping(node, &what, &known);
        let rules = Gate::read(node, "rule", reader, &mut RuleCondition::read);
        let items = Gate::read(node, "detection_item", reader, &mut ItemCondition::read);
        let fields = Gate::read(node, "field_name", reader, &mut FieldCondition::read);
        let step = Step { node, kind: &kind, what: &what };
        let transformation = step
            .fields(reader)
            .or_else(|| step.values(reader))
            .unwrap_or_else(|| step.rule(depth, reader))?;
        let id = reader.optional_text(node, "id");
        Some(Self { id, place: node.place, rules, items, fields, transformation })
    }
}

/// A step that is being read. The outer `None` says that the type belongs elsewhere.
struct Step<'n> {
    node: &'n Node,
    kind: &'n str,
    what: &'n str,
}

type Read = Option<Transformation>;

impl Step<'_> {
    fn required(&self, key: &str, reader: &mut Reader) -> Option<&Node> {
        reader.required(self.node, key, self.what)
    }

    fn text(&self, key: &str, reader: &mut Reader) -> Option<String> {
        reader.text(self.node, key, self.what)
    }

    fn table(&self, key: &str, reader: &mut Reader) -> Option<Vec<(String, Vec<String>)>> {
        let node = self.required(key, reader)?;
        reader.table(node, key)
    }

    /// Those that change names of fields.
    fn fields(&self, reader: &mut Reader) -> Option<Read> {
        let map = match self.kind {
            "field_name_mapping" => self.table("mapping", reader).map(|table| {
                let keyless = |name: &str| matches!(name, "null" | "Null" | "NULL" | "~" | "");
                let name = |n: String| (!keyless(&n)).then(|| n.replace(' ', ""));
                FieldMap::Names(table.into_iter().map(|(old, new)| (name(old), new)).collect())
            }),
            "field_name_prefix_mapping" => self.table("mapping", reader).map(FieldMap::Beginnings),
            "field_name_prefix" => self.text("prefix", reader).map(FieldMap::Prefix),
            "field_name_suffix" => self.text("suffix", reader).map(FieldMap::Suffix),
            "field_name_transform" => {
                let case = reader.choice(self.node, "transform_func", Case::NAMES);
                let table = self.node.get("mapping").map(|n| reader.table(n, "mapping"));
                table
                    .unwrap_or(Some(Vec::new()))
                    .map(|table| FieldMap::Cased(Case::named(case), table))
            }
            _ => return None,
        };
        Some(map.map(Transformation::Fields))
    }

    /// Those that change values.
    fn values(&self, reader: &mut Reader) -> Option<Read> {
        let node = self.node;
        Some(match self.kind {
            "hashes_fields" => self.hashes(reader),
            "value_placeholders" | "wildcard_placeholders" => self.placeholders(reader),
            "replace_string" => self.replacement(reader),
            "map_string" => self.table("mapping", reader).map(Transformation::MapString),
            "set_value" => self.value(reader),
            "convert_type" => {
                reader.required(node, "target_type", self.what);
                let to = reader.choice(node, "target_type", &["str", "num"]);
                Some(Transformation::ConvertType(to == "num"))
            }
            "case" => {
                let case = reader.choice(node, "method", Case::NAMES);
                Some(Transformation::Case(Case::named(case)))
            }
            "regex" => {
                let methods = &["ignore_case_brackets", "ignore_case_flag", "plain"];
                Some(match reader.choice(node, "method", methods) {
                    "plain" => Transformation::CaseCounts,
                    _ => Transformation::CaseStays,
                })
            }
            _ => return None,
        })
    }

    fn hashes(&self, reader: &mut Reader) -> Read {
        let node = self.required("valid_hash_algos", reader)?;
        let usual = || vec!["Hashes".to_owned(), "Hash".to_owned()];
        Some(Transformation::Hashes(Hashes {
            algorithms: reader.texts(node, "valid_hash_algos")?,
            prefix: reader.optional_text(self.node, "field_prefix").unwrap_or_default(),
            bare: reader.flag(self.node, "drop_algo_prefix"),
            sources: reader.optional_texts(self.node, "field_to_parse").unwrap_or_else(usual),
        }))
    }

    fn placeholders(&self, reader: &mut Reader) -> Read {
        let include = reader.optional_texts(self.node, "include");
        let exclude = reader.optional_texts(self.node, "exclude");
        if include.is_some() && exclude.is_some() {
            let what = "`include` and `exclude` exclude each other";
            reader.error(self.node.place, what, "remove one of them");
        }
        let wildcard = self.kind == "wildcard_placeholders";
        Some(Transformation::Placeholders(Placeholders { wildcard, include, exclude }))
    }

    fn replacement(&self, reader: &mut Reader) -> Read {
        let source = self.text("regex", reader)?;
        let place = self.node.get("regex").map_or(self.node.place, |n| n.place);
        let regex = reader.regex(&source, place, false)?;
        let text = self.text("replacement", reader)?;
        let skip_special = reader.flag(self.node, "skip_special");
        let interpret_special = reader.flag(self.node, "interpret_special");
        match Replacement::new(regex, &text, skip_special, interpret_special) {
            Ok(replacement) => Some(Transformation::ReplaceString(Box::new(replacement))),
            Err(reason) => {
                let place = self.node.get("replacement").map_or(self.node.place, |n| n.place);
                reader.error(place, reason, r"groups are written `\1` or `\g<name>`");
                None
            }
        }
    }

    fn value(&self, reader: &mut Reader) -> Read {
        let node = self.required("value", reader)?;
        let wrong = |reader: &mut Reader, what: String| {
            reader.error(node.place, what, "write a string or a number");
            None
        };
        let forced = self.node.get("force_type");
        let forced = forced.map(|_| reader.choice(self.node, "force_type", &["str", "num"]));
        let text = node.scalar_text().filter(|_| !matches!(node.value, Yaml::Bool(_)));
        let value = match (forced, text) {
            (None, _) if matches!(node.value, Yaml::Seq(_) | Yaml::Map(_)) => {
                return wrong(reader, format!("`value` must be a scalar, this is {}", node.kind()));
            }
            (None, _) => node.value.clone(),
            (Some("num"), Some(text)) => match super::value::number(&text) {
                Some(number) => number,
                None => return wrong(reader, format!("`{text}` is no number")),
            },
            (Some(_), Some(text)) => Yaml::Str(text),
            (Some(_), None) => {
                let what = format!("`force_type` needs a string or a number, not {}", node.kind());
                return wrong(reader, what);
            }
        };
        Some(Transformation::SetValue(value))
    }

    /// All others.
    fn rule(&self, depth: usize, reader: &mut Reader) -> Read {
        let node = self.node;
        Some(match self.kind {
            "drop_detection_item" => Transformation::DropItem,
            "add_condition" => return self.add_condition(reader),
            "change_logsource" => {
                Transformation::ChangeLogsource(read_logsource(node, self.what, reader)?)
            }
            "add_field" => self.shown(ShownChange::Add, "field", reader)?,
            "remove_field" => self.shown(ShownChange::Remove, "field", reader)?,
            "set_field" => self.shown(ShownChange::Set, "fields", reader)?,
            "set_state" => {
                let value = self.required("val", reader)?.value.clone();
                Transformation::SetState(self.text("key", reader)?, value)
            }
            "set_custom_attribute" => {
                let value = self.required("value", reader)?.clone();
                Transformation::SetAttribute(self.text("attribute", reader)?, value)
            }
            "rule_failure" => Transformation::RuleFailure(self.text("message", reader)?),
            "detection_item_failure" => Transformation::ItemFailure(self.text("message", reader)?),
            "nest" => {
                let items = self.required("items", reader)?;
                Transformation::Nest(ProcessingItem::read_list(items, depth + 1, reader))
            }
            _ => Transformation::StrictMapping,
        })
    }

    fn shown(&self, change: ShownChange, key: &str, reader: &mut Reader) -> Read {
        let node = self.required(key, reader)?;
        Some(Transformation::Shown(change, reader.texts(node, key)?))
    }

    fn add_condition(&self, reader: &mut Reader) -> Read {
        let node = self.required("conditions", reader)?;
        if node.members().is_empty() {
            let what = format!("`conditions` must be a mapping of fields, this is {}", node.kind());
            reader.error(node.place, what, "such as `conditions: {EventID: 1}`");
            return None;
        }
        let selection = match Selection::read(node) {
            Ok(selection) => selection,
            Err(mut diagnostic) => {
                diagnostic.code = crate::rule::Code::Pipeline;
                reader.found.push(diagnostic);
                return None;
            }
        };
        let negated = reader.flag(self.node, "negated");
        let template = reader.flag(self.node, "template");
        reader.optional_text(self.node, "name");
        Some(Transformation::AddCondition(AddCondition { selection, negated, template }))
    }
}
