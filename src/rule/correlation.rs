//! Correlation rules and anomaly rules: conditions over many events (Sigma correlation
//! specification 2.1; anomaly rules are ours).

use super::diagnostic::{Code, Diagnostic, nearest};
use super::matcher::{Comparison, Number};
use super::yaml::{Key, Node, Yaml};
use crate::event::FieldPath;
use crate::limits::GROUP_ENTRIES_MAX;
use crate::time::parse_duration;

/// What is counted or looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum CorrelationKind {
    /// Events per group.
    EventCount(Threshold),
    /// Distinct values (or tuples of values) per group.
    ValueCount {
        /// The fields whose values are counted.
        fields: Vec<FieldPath>,
        /// How many.
        threshold: Threshold,
    },
    /// So many of the rules, in any order.
    Temporal {
        /// How many different rules; all of them by default.
        at_least: usize,
    },
    /// All of the rules, in the order given.
    TemporalOrdered,
    /// Volume far above what the group had before: an anomaly rule.
    Spike(Spike),
}

/// One or two bounds, all of which must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold(Vec<(Comparison, Number)>);

/// Parameters of a spike rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Length of one bucket, microseconds.
    pub bucket_micros: i64,
    /// How many closed buckets the baseline looks back.
    pub history: usize,
    /// How many closed buckets a group must have before it can alert.
    pub history_min: usize,
    /// How many times the baseline the count must reach.
    pub ratio: f64,
    /// What the count must reach at least.
    pub count_min: u64,
}

/// A correlation or anomaly rule without its header.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// What is counted or looked for.
    pub kind: CorrelationKind,
    /// Ids or names of the rules it is about, in order.
    pub rules: Vec<Key>,
    /// The fields that make a group; none means one group for all.
    pub group_by: Vec<FieldPath>,
    /// Length of the closed sliding window, microseconds.
    pub timespan_micros: i64,
    /// Whether the rules it refers to alert on their own, too.
    pub generate: bool,
    /// Names for fields that are called differently in different rules.
    pub aliases: Vec<Alias>,
}

/// One name for fields that are called differently in different rules.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The name, as group-by uses it.
    pub name: String,
    /// Rule by id or name → its field.
    pub fields: Vec<(String, FieldPath)>,
}

impl Threshold {
    /// Whether all bounds hold for a count.
    pub fn holds(&self, count: u64) -> bool {
        self.0.iter().all(|(op, bound)| {
            let order = match bound {
                Number::Int(n) => i128::from(count).cmp(n),
                Number::Float(f) => match (count as f64).partial_cmp(f) {
                    Some(order) => order,
                    None => return false,
                },
            };
            op.holds(order)
        })
    }

    /// Whether one more can never make it untrue: only lower bounds. Such a condition is decided the
    /// moment it becomes true; any other when the window is complete.
    pub fn is_monotone(&self) -> bool {
        self.0.iter().all(|(op, _)| matches!(op, Comparison::Gt | Comparison::Gte))
    }

    /// The least count that is enough, for a monotone threshold; at least 1.
    pub fn least(&self) -> u64 {
        let least = |(op, bound): &(Comparison, Number)| {
            let bound = match bound {
                Number::Int(n) => *n as f64,
                Number::Float(n) => *n,
            };
            let next = if *op == Comparison::Gt { bound.floor() + 1.0 } else { bound.ceil() };
            next.max(1.0) as u64
        };
        self.0.iter().map(least).max().unwrap_or(1)
    }

    /// The bounds as `>= 10`, for people and alerts.
    pub fn describe(&self) -> String {
        let one = |(op, bound): &(Comparison, Number)| {
            let op = match op {
                Comparison::Lt => "<",
                Comparison::Lte => "<=",
                Comparison::Gt => ">",
                Comparison::Gte => ">=",
                Comparison::Eq => "==",
                Comparison::Neq => "!=",
            };
            match bound {
                Number::Int(n) => format!("{op} {n}"),
                Number::Float(n) => format!("{op} {n}"),
            }
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" and ")
    }
}

impl CorrelationKind {
    /// The type as rules write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EventCount(_) => "event_count",
            Self::ValueCount { .. } => "value_count",
            Self::Temporal { .. } => "temporal",
            Self::TemporalOrdered => "temporal_ordered",
            Self::Spike(_) => "spike",
        }
    }
}

/// Compiles the mapping under `correlation:`; `generate` may also stand at the top of the document.
///
/// # Errors
/// What is missing, unknown or not supported, with its place.
pub fn compile(node: &Node, document: &Node) -> Result<Correlation, Diagnostic> {
    let known = ["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];
    refuse_unknown(node, &known)?;
    let kind_name = text(node, "type")?;
    let rules = rules(node)?;
    let kind = match kind_name.as_str() {
        "event_count" => CorrelationKind::EventCount(threshold(node, &[])?.0),
        "value_count" => {
            let (threshold, condition) = threshold(node, &["field"])?;
            CorrelationKind::ValueCount { fields: value_fields(condition)?, threshold }
        }
        "temporal" => CorrelationKind::Temporal { at_least: temporal_count(node, rules.len())? },
        "temporal_ordered" => {
            if temporal_count(node, rules.len())? != rules.len() {
                let place = node.get("condition").map_or(node.place, |n| n.place);
                let what = "`temporal_ordered` asks for all of its rules: a smaller count is not supported";
                return Err(Diagnostic::error(Code::Unsupported, place, what));
            }
            CorrelationKind::TemporalOrdered
        }
        other => return Err(unknown_kind(other, node)),
    };
    Ok(Correlation {
        kind,
        rules,
        group_by: fields(node, "group-by")?,
        timespan_micros: duration(node, "timespan")?,
        generate: flag(node, "generate")? || flag(document, "generate")?,
        aliases: aliases(node)?,
    })
}

/// Compiles the mapping under `anomaly:`.
///
/// # Errors
/// What is missing, unknown or out of range, with its place.
pub fn compile_anomaly(node: &Node, document: &Node) -> Result<Correlation, Diagnostic> {
    let known = [
        "type",
        "rules",
        "group-by",
        "bucket",
        "history",
        "min_history",
        "ratio",
        "min_count",
        "generate",
    ];
    refuse_unknown(node, &known)?;
    let kind = text(node, "type")?;
    if kind != "spike" {
        let place = node.get("type").map_or(node.place, |n| n.place);
        let what = format!("unknown anomaly type `{kind}`: this version has `spike`");
        return Err(Diagnostic::error(Code::Unsupported, place, what));
    }
    let number = |name: &str, default: f64, least: f64, most: f64| match node.get(name) {
        None => Ok(default),
        Some(n) => match n.value {
            Yaml::Int(v) if (least..=most).contains(&(v as f64)) => Ok(v as f64),
            Yaml::Float(v) if (least..=most).contains(&v) => Ok(v),
            _ => {
                let what = format!("`{name}` must be a number from {least} to {most}");
                Err(Diagnostic::error(Code::Correlation, n.place, what))
            }
        },
    };
    let spike = Spike {
        bucket_micros: duration(node, "bucket")?,
        history: number("history", 60.0, 2.0, 10_080.0)? as usize,
        history_min: number("min_history", 10.0, 1.0, 10_080.0)? as usize,
        ratio: number("ratio", 3.0, 1.0, 1e9)?,
        count_min: number("min_count", 10.0, 1.0, 1e15)? as u64,
    };
    if spike.history_min > spike.history {
        let what =
            format!("`min_history` {} is more than `history` {}", spike.history_min, spike.history);
        return Err(Diagnostic::error(Code::Correlation, node.place, what));
    }
    Ok(Correlation {
        kind: CorrelationKind::Spike(spike),
        rules: rules(node)?,
        group_by: fields(node, "group-by")?,
        timespan_micros: spike.bucket_micros,
        generate: flag(node, "generate")? || flag(document, "generate")?,
        aliases: Vec::new(),
    })
}

fn unknown_kind(name: &str, node: &Node) -> Diagnostic {
    let place = node.get("type").map_or(node.place, |n| n.place);
    let later = ["value_sum", "value_avg", "value_percentile", "value_median"];
    if later.contains(&name) {
        let what = format!("correlation type `{name}` is not supported by this version");
        return Diagnostic::error(Code::Unsupported, place, what);
    }
    let known = ["event_count", "value_count", "temporal", "temporal_ordered"];
    let diagnostic =
        Diagnostic::error(Code::Correlation, place, format!("unknown correlation type `{name}`"));
    match nearest(name, known.into_iter()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("the types are: {}", known.join(", "))),
    }
}

fn refuse_unknown(node: &Node, known: &[&str]) -> Result<(), Diagnostic> {
    if !matches!(node.value, Yaml::Map(_)) {
        let what = format!("expected a mapping, this is {}", node.kind());
        return Err(Diagnostic::error(Code::Shape, node.place, what));
    }
    let Some((key, _)) = node.members().iter().find(|(k, _)| !known.contains(&k.text.as_str()))
    else {
        return Ok(());
    };
    let diagnostic =
        Diagnostic::error(Code::Correlation, key.place, format!("unknown key `{}`", key.text));
    Err(match nearest(&key.text, known.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("the keys are: {}", known.join(", "))),
    })
}

fn missing(node: &Node, name: &str) -> Diagnostic {
    Diagnostic::error(Code::Correlation, node.place, format!("`{name}` is missing"))
}

fn text(node: &Node, name: &str) -> Result<String, Diagnostic> {
    let value = node.get(name).ok_or_else(|| missing(node, name))?;
    value.as_str().map(str::to_owned).ok_or_else(|| {
        let what = format!("`{name}` must be a string, this is {}", value.kind());
        Diagnostic::error(Code::Correlation, value.place, what)
    })
}

fn flag(node: &Node, name: &str) -> Result<bool, Diagnostic> {
    match node.get(name).map(|n| (&n.value, n.place)) {
        None => Ok(false),
        Some((Yaml::Bool(b), _)) => Ok(*b),
        Some((_, place)) => {
            Err(Diagnostic::error(Code::Shape, place, format!("`{name}` takes `true` or `false`")))
        }
    }
}

fn duration(node: &Node, name: &str) -> Result<i64, Diagnostic> {
    let text = text(node, name)?;
    let place = node.get(name).map_or(node.place, |n| n.place);
    match parse_duration(&text) {
        Ok(0) => {
            let what = format!("`{name}` must be more than zero");
            Err(Diagnostic::error(Code::Correlation, place, what))
        }
        Ok(micros) => Ok(micros),
        Err(e) => Err(Diagnostic::error(Code::Correlation, place, e.to_string())),
    }
}

/// A string or a list of strings, with their places.
fn strings(node: &Node) -> Result<Vec<Key>, Diagnostic> {
    let nodes = match &node.value {
        Yaml::Seq(items) => items.iter().collect(),
        _ => vec![node],
    };
    let one = |n: &Node| match n.scalar_text() {
        Some(text) => Ok(Key { place: n.place, text }),
        None => {
            let what = format!("expected a name, this is {}", n.kind());
            Err(Diagnostic::error(Code::Correlation, n.place, what))
        }
    };
    nodes.into_iter().map(one).collect()
}

fn rules(node: &Node) -> Result<Vec<Key>, Diagnostic> {
    let rules = strings(node.get("rules").ok_or_else(|| missing(node, "rules"))?)?;
    if rules.is_empty() {
        return Err(missing(node, "rules"));
    }
    Ok(rules)
}

fn fields(node: &Node, name: &str) -> Result<Vec<FieldPath>, Diagnostic> {
    let Some(value) = node.get(name).filter(|n| n.value != Yaml::Null) else {
        return Ok(Vec::new());
    };
    Ok(strings(value)?.iter().map(|k| FieldPath::new(&k.text.replace(' ', ""))).collect())
}

/// Reads `condition:`; `extra` names keys that are no bounds.
fn threshold<'n>(node: &'n Node, extra: &[&str]) -> Result<(Threshold, &'n Node), Diagnostic> {
    let condition = node.get("condition").ok_or_else(|| missing(node, "condition"))?;
    if !matches!(condition.value, Yaml::Map(_)) {
        let what = "`condition` must be a mapping such as `gte: 10`";
        return Err(Diagnostic::error(Code::Correlation, condition.place, what));
    }
    let mut bounds = Vec::new();
    for (key, value) in condition.members() {
        let op = match key.text.as_str() {
            "lt" => Comparison::Lt,
            "lte" => Comparison::Lte,
            "gt" => Comparison::Gt,
            "gte" => Comparison::Gte,
            "eq" => Comparison::Eq,
            "neq" => Comparison::Neq,
            other if extra.contains(&other) => continue,
            other => {
                let what = format!("unknown operator `{other}`");
                return Err(Diagnostic::error(Code::Correlation, key.place, what)
                    .help("the operators are: gt, gte, lt, lte, eq, neq"));
            }
        };
        match value.value {
            Yaml::Int(n) => bounds.push((op, Number::Int(n))),
            Yaml::Float(n) if n.is_finite() => bounds.push((op, Number::Float(n))),
            _ => {
                let what = format!("`{}` needs a number, this is {}", key.text, value.kind());
                return Err(Diagnostic::error(Code::Correlation, value.place, what));
            }
        }
    }
    if bounds.is_empty() {
        let what = "`condition` has no operator such as `gte: 10`";
        return Err(Diagnostic::error(Code::Correlation, condition.place, what));
    }
    let threshold = Threshold(bounds);
    if threshold.is_monotone() && threshold.least() > GROUP_ENTRIES_MAX as u64 {
        let what = format!(
            "a threshold of {} is over the limit of {GROUP_ENTRIES_MAX} per group",
            threshold.least()
        );
        return Err(Diagnostic::error(Code::Correlation, condition.place, what));
    }
    Ok((threshold, condition))
}

fn value_fields(condition: &Node) -> Result<Vec<FieldPath>, Diagnostic> {
    let fields = fields(condition, "field")?;
    if fields.is_empty() {
        return Err(missing(condition, "field")
            .help("`value_count` counts the distinct values of a field: `field: user`"));
    }
    Ok(fields)
}

/// How many of the rules must occur: all, unless the condition says `gte` or `gt`.
fn temporal_count(node: &Node, rules: usize) -> Result<usize, Diagnostic> {
    let Some(condition) = node.get("condition") else { return Ok(rules) };
    let wrong = |what: &str| Err(Diagnostic::error(Code::Unsupported, condition.place, what));
    if condition.as_str().is_some() {
        return wrong("extended temporal conditions are not supported by this version");
    }
    let count = match condition.members() {
        [(key, value)] => match (key.text.as_str(), &value.value) {
            ("gte", Yaml::Int(n)) => usize::try_from(*n).ok(),
            ("gt", Yaml::Int(n)) => usize::try_from(n.saturating_add(1)).ok(),
            _ => None,
        },
        _ => None,
    };
    match count {
        Some(n) if (1..=rules).contains(&n) => Ok(n),
        _ => wrong("a temporal condition is `gte: N`, with N from 1 to the number of rules"),
    }
}

fn aliases(node: &Node) -> Result<Vec<Alias>, Diagnostic> {
    let Some(aliases) = node.get("aliases") else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (alias, rules) in aliases.members() {
        let mut per_rule = Vec::new();
        for (rule, field) in rules.members() {
            let Some(name) = field.as_str() else {
                let what = format!("an alias maps a rule to a field, this is {}", field.kind());
                return Err(Diagnostic::error(Code::Correlation, field.place, what));
            };
            per_rule.push((rule.text.clone(), FieldPath::new(&name.replace(' ', ""))));
        }
        out.push(Alias { name: alias.text.clone(), fields: per_rule });
    }
    Ok(out)
}
