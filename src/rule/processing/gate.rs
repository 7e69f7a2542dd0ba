//! Conditions of processing items: what there is, how they join, and reading them.

use regex::Regex;

use super::read::{Reader, meant};
use crate::event::Logsource;
use crate::rule::condition::{self, Condition};
use crate::rule::diagnostic::Severity;
use crate::rule::yaml::{Node, Yaml};

/// Conditions of one kind and how they join. Without any it is open.
#[derive(Clone, Debug)]
pub struct Gate<C> {
    conditions: Vec<(String, C)>,
    join: Join,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Join {
    All,
    Any,
    Expression(Condition),
}

/// A condition on the rule.
#[derive(Clone, Debug)]
pub enum RuleCondition {
    /// `logsource`: every part given is equal.
    Logsource(Logsource),
    /// `contains_field`.
    ContainsField(Option<String>),
    /// `contains_detection_item`.
    ContainsItem(Option<String>, Yaml),
    /// `processing_item_applied`.
    Applied(String),
    /// `processing_state`.
    State(StateTest),
    /// `is_sigma_rule`.
    IsRule,
    /// `is_sigma_correlation_rule`.
    IsCorrelation,
    /// `rule_attribute`.
    Attribute(String, Relation, Yaml),
    /// `tag`.
    Tag(String),
}

/// A condition on a detection item.
#[derive(Clone, Debug)]
pub enum ItemCondition {
    /// A condition on its values: one of them, or all.
    Values(bool, ValueTest),
    /// `processing_item_applied`.
    Applied(String),
    /// `processing_state`.
    State(StateTest),
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum ValueTest {
    /// `match_string`: text that begins with a match; or the opposite.
    Matches(Regex, bool),
    /// `match_value`.
    Is(Yaml),
    /// `contains_wildcard`.
    HasWildcard,
    /// `is_null`.
    IsNull,
}

/// A condition on a field's name.
#[derive(Clone, Debug)]
pub enum FieldCondition {
    /// `include_fields`, or with `true` `exclude_fields`.
    Named(FieldNames, bool),
    /// `processing_item_applied`.
    Applied(String),
    /// `processing_state`.
    State(StateTest),
}

/// Names of fields: as they are, or by regular expressions that match at their start.
#[derive(Clone, Debug)]
pub enum FieldNames {
    /// As they are.
    Plain(Vec<String>),
    /// By expressions.
    Matching(Vec<Regex>),
}

impl FieldNames {
    /// Whether the name is one of them.
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Self::Plain(names) => names.iter().any(|n| n == name),
            Self::Matching(patterns) => patterns.iter().any(|p| p.is_match(name)),
        }
    }
}

/// A comparison with what `set_state` said before.
#[derive(Clone, Debug)]
pub struct StateTest {
    /// Its key.
    pub key: String,
    /// How it compares.
    pub relation: Relation,
    /// With what.
    pub value: Yaml,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Greater or equal.
    Gte,
    /// Greater.
    Gt,
    /// Less or equal.
    Lte,
    /// Less.
    Lt,
    /// Member of a list.
    In,
    /// Not a member of a list.
    NotIn,
}

impl Relation {
    const ORDERED: &[&str] = &["eq", "ne", "gte", "gt", "lte", "lt"];
    const ALL: &[&str] = &["eq", "ne", "gte", "gt", "lte", "lt", "in", "not_in"];

    fn named(name: &str) -> Self {
        match name {
            "ne" => Self::Ne,
            "gte" => Self::Gte,
            "gt" => Self::Gt,
            "lte" => Self::Lte,
            "lt" => Self::Lt,
            "in" => Self::In,
            "not_in" => Self::NotIn,
            _ => Self::Eq,
        }
    }

    /// Whether an order satisfies it; membership has no order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Gte => order.is_ge(),
            Self::Gt => order.is_gt(),
            Self::Lte => order.is_le(),
            Self::Lt => order.is_lt(),
            Self::In | Self::NotIn => false,
        }
    }
}

impl<C> Gate<C> {
    /// Whether the conditions together hold.
    ///
    /// # Errors
    /// The first reason why one of them cannot be answered.
    pub fn holds(&self, test: &mut dyn FnMut(&C) -> Result<bool, String>) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let mut answers = Vec::with_capacity(self.conditions.len());
        for (name, condition) in &self.conditions {
            answers.push((name.as_str(), test(condition)?));
        }
        let held = match &self.join {
            Join::All => answers.iter().all(|(_, held)| *held),
            Join::Any => answers.iter().any(|(_, held)| *held),
            Join::Expression(expression) => evaluate(expression, &answers),
        };
        Ok(held != self.negated)
    }

    /// Reads `<prefix>_conditions`, `<prefix>_cond_op`, `_cond_not` and `_cond_expr`.
    pub fn read(
        node: &Node,
        prefix: &str,
        reader: &mut Reader,
        one: &mut dyn FnMut(&Node, &mut Reader) -> Option<C>,
    ) -> Self {
        let mut conditions = Vec::new();
        let list = node.get(&format!("{prefix}_conditions"));
        let mut named = false;
        match list.map(|n| (&n.value, n)) {
            None | Some((Yaml::Null, _)) => {}
            Some((Yaml::Seq(items), _)) => {
                for (i, item) in items.iter().enumerate() {
                    conditions.extend(one(item, reader).map(|c| ((i + 1).to_string(), c)));
                }
            }
            Some((Yaml::Map(members), _)) => {
                named = true;
                for (key, item) in members {
                    conditions.extend(one(item, reader).map(|c| (key.text.clone(), c)));
                }
            }
            Some((_, n)) => {
                let what = format!("conditions are a list or a mapping, this is {}", n.kind());
                reader.error(n.place, what, "write `- type: …`");
            }
        }
        let op = format!("{prefix}_cond_op");
        let mut join = match reader.choice(node, &op, &["and", "or"]) {
            "or" => Join::Any,
            _ => Join::All,
        };
        if let Some(expression) = node.get(&format!("{prefix}_cond_expr")) {
            if let Some(op) = node.get(&op) {
                let what =
                    format!("`{prefix}_cond_op` and `{prefix}_cond_expr` exclude each other");
                reader.error(op.place, what, "remove one of them");
            }
            let names: Vec<&str> = conditions.iter().map(|(name, _)| name.as_str()).collect();
            if let Some(condition) = read_expression(expression, &names, named, reader) {
                join = Join::Expression(condition);
            }
        }
        let negated = reader.flag(node, &format!("{prefix}_cond_not"));
        Self { conditions, join, negated }
    }
}

fn read_expression(
    node: &Node,
    names: &[&str],
    named: bool,
    reader: &mut Reader,
) -> Option<Condition> {
    if !named {
        let what = "an expression needs conditions with names";
        reader.error(node.place, what, "write the conditions as a mapping `name: {type: …}`");
        return None;
    }
    let text = reader.scalar(node, "cond_expr")?;
    let mut found = Vec::new();
    let parsed = condition::parse(&text, node.place, names, &mut found);
    reader.found.extend(found.into_iter().filter(|d| d.severity == Severity::Error));
    let condition = match parsed {
        Ok(condition) => condition,
        Err(mut diagnostic) => {
            diagnostic.code = crate::rule::Code::Pipeline;
            reader.found.push(diagnostic);
            return None;
        }
    };
    let mut used = Vec::new();
    condition.names(&mut used);
    if let Some(unused) = names.iter().find(|n| !used.contains(n)) {
        let what = format!("the expression does not use the condition `{unused}`");
        reader.error(node.place, what, "name it in the expression, or remove it");
    }
    Some(condition)
}

fn evaluate(expression: &Condition, answers: &[(&str, bool)]) -> bool {
    let holds = |part: &Condition| evaluate(part, answers);
    match expression {
        Condition::And(parts) => parts.iter().all(holds),
        Condition::Or(parts) => parts.iter().any(holds),
        Condition::Not(part) => !holds(part),
        Condition::AtLeast(n, parts) => parts.iter().filter(|p| holds(p)).count() >= *n,
        Condition::Name(name) => answers.iter().any(|(n, held)| n == name && *held),
    }
}

impl RuleCondition {
    /// Reads one.
    pub fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let kind = kind(node, reader)?;
        let what = format!("the rule condition `{kind}`");
        let keys = |names: &[&str], reader: &mut Reader| {
            let known: Vec<&str> = ["type"].iter().chain(names).copied().collect();
            reader.mapping(node, &what, &known);
        };
        match kind.as_str() {
            "logsource" => {
                keys(&["category", "product", "service"], reader);
                read_logsource(node, &what, reader).map(Self::Logsource)
            }
            "contains_field" => {
                keys(&["field"], reader);
                reader.required(node, "field", &what)?;
                Some(Self::ContainsField(field(node, "field", reader)))
            }
            "contains_detection_item" => {
                keys(&["field", "value"], reader);
                reader.required(node, "field", &what)?;
                let value = reader.required(node, "value", &what)?.value.clone();
                Some(Self::ContainsItem(field(node, "field", reader), value))
            }
            "processing_item_applied" => {
                keys(&["processing_item_id"], reader);
                reader.text(node, "processing_item_id", &what).map(Self::Applied)
            }
            "processing_state" => {
                keys(&["key", "val", "op"], reader);
                StateTest::read(node, &what, reader).map(Self::State)
            }
            "is_sigma_rule" => {
                keys(&[], reader);
                Some(Self::IsRule)
            }
            "is_sigma_correlation_rule" => {
                keys(&[], reader);
                Some(Self::IsCorrelation)
            }
            "rule_attribute" => {
                keys(&["attribute", "value", "op"], reader);
                let relation = Relation::named(reader.choice(node, "op", Relation::ALL));
                let attribute = reader.text(node, "attribute", &what)?;
                let value = reader.required(node, "value", &what)?.value.clone();
                Some(Self::Attribute(attribute, relation, value))
            }
            "tag" => {
                keys(&["tag"], reader);
                reader.text(node, "tag", &what).map(Self::Tag)
            }
            other => unknown(node, "rule", other, RULE_CONDITIONS, reader),
        }
    }
}

const RULE_CONDITIONS: &[&str] = &[
    "logsource",
    "contains_field",
    "contains_detection_item",
    "processing_item_applied",
    "processing_state",
    "is_sigma_rule",
    "is_sigma_correlation_rule",
    "rule_attribute",
    "tag",
];

impl ItemCondition {
    /// Reads one.
    pub fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let kind = kind(node, reader)?;
        let what = format!("the detection item condition `{kind}`");
        let values = |names: &[&str], reader: &mut Reader| {
            let known: Vec<&str> = ["type", "cond"].iter().chain(names).copied().collect();
            reader.mapping(node, &what, &known);
            reader.required(node, "cond", &what);
            reader.choice(node, "cond", &["any", "all"]) == "all"
        };
        match kind.as_str() {
            "match_string" => {
                let all = values(&["pattern", "negate"], reader);
                let negate = reader.flag(node, "negate");
                let text = reader.text(node, "pattern", &what)?;
                let place = node.get("pattern").map_or(node.place, |n| n.place);
                let regex = reader.regex(&text, place, true)?;
                Some(Self::Values(all, ValueTest::Matches(regex, negate)))
            }
            "match_value" => {
                let all = values(&["value"], reader);
                let value = reader.required(node, "value", &what)?.value.clone();
                Some(Self::Values(all, ValueTest::Is(value)))
            }
            "contains_wildcard" => Some(Self::Values(values(&[], reader), ValueTest::HasWildcard)),
            "is_null" => Some(Self::Values(values(&[], reader), ValueTest::IsNull)),
            "processing_item_applied" => {
                reader.mapping(node, &what, &["type", "processing_item_id"]);
                reader.text(node, "processing_item_id", &what).map(Self::Applied)
            }
            "processing_state" => {
                reader.mapping(node, &what, &["type", "key", "val", "op"]);
                StateTest::read(node, &what, reader).map(Self::State)
            }
            other => unknown(node, "detection item", other, ITEM_CONDITIONS, reader),
        }
    }
}

const ITEM_CONDITIONS: &[&str] = &[
    "match_string",
    "match_value",
    "contains_wildcard",
    "is_null",
    "processing_item_applied",
    "processing_state",
];

impl FieldCondition {
    /// Reads one.
    pub fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let kind = kind(node, reader)?;
        let what = format!("the field name condition `{kind}`");
        match kind.as_str() {
            "include_fields" | "exclude_fields" => {
                reader.mapping(node, &what, &["type", "fields", "mode"]);
                let fields = reader.required(node, "fields", &what)?;
                let names = reader.texts(fields, "fields")?;
                let names = match reader.choice(node, "mode", &["plain", "re"]) {
                    "re" => {
                        let all: Vec<_> =
                            names.iter().map(|n| reader.regex(n, fields.place, true)).collect();
                        FieldNames::Matching(all.into_iter().collect::<Option<_>>()?)
                    }
                    _ => FieldNames::Plain(names.iter().map(|n| n.replace(' ', "")).collect()),
                };
                Some(Self::Named(names, kind == "exclude_fields"))
            }
            "processing_item_applied" => {
                reader.mapping(node, &what, &["type", "processing_item_id"]);
                reader.text(node, "processing_item_id", &what).map(Self::Applied)
            }
            "processing_state" => {
                reader.mapping(node, &what, &["type", "key", "val", "op"]);
                StateTest::read(node, &what, reader).map(Self::State)
            }
            other => unknown(node, "field name", other, FIELD_CONDITIONS, reader),
        }
    }
}

const FIELD_CONDITIONS: &[&str] =
    &["include_fields", "exclude_fields", "processing_item_applied", "processing_state"];

impl StateTest {
    fn read(node: &Node, what: &str, reader: &mut Reader) -> Option<Self> {
        let relation = Relation::named(reader.choice(node, "op", Relation::ORDERED));
        let key = reader.text(node, "key", what)?;
        let value = reader.required(node, "val", what)?.value.clone();
        Some(Self { key, relation, value })
    }
}

fn kind(node: &Node, reader: &mut Reader) -> Option<String> {
    if node.get("type").is_none() {
        let what = format!("a condition is a mapping with a `type`, this is {}", node.kind());
        reader.error(node.place, what, "such as `{type: logsource, product: windows}`");
        return None;
    }
    reader.text(node, "type", "a condition")
}

fn unknown<C>(
    node: &Node,
    what: &str,
    kind: &str,
    known: &[&str],
    reader: &mut Reader,
) -> Option<C> {
    let place = node.get("type").map_or(node.place, |n| n.place);
    let text = format!("there is no {what} condition `{kind}`");
    reader.error(place, text, meant(kind, known));
    None
}

/// A field's name as rules are read, without blanks; `null` for keywords.
fn field(node: &Node, key: &str, reader: &mut Reader) -> Option<String> {
    reader.optional_text(node, key).map(|name| name.replace(' ', ""))
}

/// `category`, `product` and `service`, at least one of them.
pub fn read_logsource(node: &Node, what: &str, reader: &mut Reader) -> Option<Logsource> {
    let mut part =
        |key: &str| reader.optional_text(node, key).map(|t| t.to_lowercase().into_boxed_str());
    let logsource = Logsource {
        product: part("product"),
        category: part("category"),
        service: part("service"),
    };
    if logsource == Logsource::default() {
        let text = format!("{what} needs one of `category`, `product`, `service`");
        reader.error(node.place, text, "such as `product: windows`");
        return None;
    }
    Some(logsource)
}
