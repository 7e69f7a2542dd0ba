//! Correlation rules and anomaly rules: conditions over many events (Sigma correlation
//! specification 2.1; anomaly rules are ours).

use super::diagnostic::{Code, Diagnostic, Place, nearest};
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
    pub name: Key,
    /// Rule by id or name → its field.
    pub fields: Vec<(Key, FieldPath)>,
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
/// Everything that is missing, unknown or not supported is added to `found`, with its place.
pub fn compile(node: &Node, document: &Node, found: &mut Vec<Diagnostic>) -> Option<Correlation> {
    let known = ["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];
    let mut reader = Reader::new("correlation", node, document, &known, found)?;
    let rules = reader.rules();
    let kind = reader.text("type", "such as `type: event_count`");
    let kind = kind.and_then(|k| reader.kind(&k, rules.as_ref().map_or(0, Vec::len)));
    let group_by = reader.fields(node, "group-by");
    let timespan_micros = reader.duration("timespan");
    let generate = reader.generate();
    let aliases = reader.aliases();
    if reader.unknown {
        return None;
    }
    let correlation = Correlation {
        kind: kind?,
        rules: rules?,
        group_by: group_by?,
        timespan_micros: timespan_micros?,
        generate: generate?,
        aliases: aliases?,
    };
    super::lint::correlation(node, &correlation, found);
    Some(correlation)
}

/// Compiles the mapping under `anomaly:`. Everything that is missing, unknown or out of range is
/// added to `found`, with its place.
pub fn compile_anomaly(
    node: &Node,
    document: &Node,
    found: &mut Vec<Diagnostic>,
) -> Option<Correlation> {
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
    let mut reader = Reader::new("anomaly", node, document, &known, found)?;
    let kind = reader.text("type", "this version has `type: spike`");
    if let Some(kind) = kind.as_ref().filter(|k| *k != "spike") {
        let what = format!("unknown anomaly type `{kind}`");
        reader.wrong(Code::Unsupported, "type", what, "this version has `spike`");
        return None;
    }
    let bucket_micros = reader.duration("bucket");
    let history = reader.number("history", 60.0, 2.0, 10_080.0);
    let history_min = reader.number("min_history", 10.0, 1.0, 10_080.0);
    let ratio = reader.number("ratio", 3.0, 1.0, 1e9);
    let count_min = reader.number("min_count", 10.0, 1.0, 1e15);
    if let (Some(history), Some(least)) = (history, history_min)
        && least > history
    {
        let what = format!("`min_history` {least} is more than `history` {history}");
        let help = "a group never has more buckets than `history`: ask for fewer";
        let name = if node.get("min_history").is_some() { "min_history" } else { "history" };
        reader.wrong(Code::Correlation, name, what, help);
        return None;
    }
    let rules = reader.rules();
    let group_by = reader.fields(node, "group-by");
    let generate = reader.generate();
    if reader.unknown || kind.is_none() {
        return None;
    }
    let spike = Spike {
        bucket_micros: bucket_micros?,
        history: history? as usize,
        history_min: history_min? as usize,
        ratio: ratio?,
        count_min: count_min? as u64,
    };
    Some(Correlation {
        kind: CorrelationKind::Spike(spike),
        rules: rules?,
        group_by: group_by?,
        timespan_micros: spike.bucket_micros,
        generate: generate?,
        aliases: Vec::new(),
    })
}

/// Reads the parts of one mapping. What is wrong goes to `found`, so that one run tells all of it.
struct Reader<'n, 'f> {
    node: &'n Node,
    document: &'n Node,
    /// Where to point when something is missing: the key over the mapping.
    start: Place,
    /// Whether a key was not known.
    unknown: bool,
    found: &'f mut Vec<Diagnostic>,
}

impl<'n, 'f> Reader<'n, 'f> {
    fn new(
        name: &str,
        node: &'n Node,
        document: &'n Node,
        known: &[&str],
        found: &'f mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let start = document.key(name).map_or(node.place, |k| k.place);
        if !matches!(node.value, Yaml::Map(_)) {
            let what = format!("`{name}` must be a mapping, this is {}", node.kind());
            found.push(
                Diagnostic::error(Code::Shape, node.place, what)
                    .help(format!("its keys are: {}", known.join(", "))),
            );
            return None;
        }
        let mut reader = Self { node, document, start, unknown: false, found };
        reader.refuse_unknown(name, known);
        Some(reader)
    }

    fn refuse_unknown(&mut self, name: &str, known: &[&str]) {
        for (key, _) in self.node.members() {
            if known.contains(&key.text.as_str()) {
                continue;
            }
            self.unknown = true;
            let what = format!("`{name}` has no key `{}`", key.text);
            let free = known.iter().copied().filter(|k| self.node.get(k).is_none());
            let near = nearest(&key.text, free);
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are: {}", known.join(", ")),
            };
            self.found.push(Diagnostic::error(Code::Correlation, key.place, what).help(help));
        }
    }

    /// Adds an error at the value of that name, else at the start.
    fn wrong(&mut self, code: Code, name: &str, what: impl Into<String>, help: impl Into<String>) {
        let place = self.node.get(name).map_or(self.start, |n| n.place);
        self.found.push(Diagnostic::error(code, place, what).help(help));
    }

    /// Adds an error at a place.
    fn wrong_at(&mut self, place: Place, what: impl Into<String>, help: impl Into<String>) {
        self.found.push(Diagnostic::error(Code::Correlation, place, what).help(help));
    }

    /// A missing key, unless one that was refused as unknown was meant for it.
    fn missing(&mut self, name: &str, help: &str) {
        let meant = |k: &Key| nearest(&k.text, std::iter::once(name)).is_some();
        if !self.node.members().iter().any(|(k, _)| meant(k)) {
            self.wrong_at(self.start, format!("`{name}` is missing"), help);
        }
    }

    fn text(&mut self, name: &str, help: &str) -> Option<String> {
        let Some(value) = self.node.get(name) else {
            self.missing(name, help);
            return None;
        };
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            let what = format!("`{name}` must be a string, this is {}", value.kind());
            self.wrong_at(value.place, what, help);
        }
        text
    }

    fn kind(&mut self, name: &str, rules: usize) -> Option<CorrelationKind> {
        match name {
            "event_count" => Some(CorrelationKind::EventCount(self.threshold(&[])?.0)),
            "value_count" => {
                let threshold = self.threshold(&["field"]);
                let condition = self.node.get("condition")?;
                let fields = self.value_fields(condition);
                Some(CorrelationKind::ValueCount { fields: fields?, threshold: threshold?.0 })
            }
            "temporal" => Some(CorrelationKind::Temporal { at_least: self.temporal_count(rules)? }),
            "temporal_ordered" => {
                if self.temporal_count(rules)? != rules {
                    let what = "`temporal_ordered` asks for all of its rules: a smaller count is \
                        not supported";
                    let help = "remove `condition`, or write `type: temporal`";
                    self.wrong(Code::Unsupported, "condition", what, help);
                    return None;
                }
                Some(CorrelationKind::TemporalOrdered)
            }
            other => {
                self.unknown_kind(other);
                None
            }
        }
    }

    fn unknown_kind(&mut self, name: &str) {
        let known = ["event_count", "value_count", "temporal", "temporal_ordered"];
        let all = format!("the types are: {}", known.join(", "));
        if ["value_sum", "value_avg", "value_percentile", "value_median"].contains(&name) {
            let what = format!("correlation type `{name}` is not supported by this version");
            return self.wrong(Code::Unsupported, "type", what, all);
        }
        let help = match nearest(name, known.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => all,
        };
        let what = format!("unknown correlation type `{name}`");
        self.wrong(Code::Correlation, "type", what, help);
    }

    fn generate(&mut self) -> Option<bool> {
        let mut flags = [false; 2];
        for (flag, node) in flags.iter_mut().zip([self.node, self.document]) {
            match node.get("generate").map(|n| (&n.value, n.place)) {
                None => {}
                Some((Yaml::Bool(b), _)) => *flag = *b,
                Some((_, place)) => {
                    let help = "`true` lets the rules it refers to alert on their own, too";
                    self.wrong_at(place, "`generate` takes `true` or `false`", help);
                    return None;
                }
            }
        }
        Some(flags[0] || flags[1])
    }

    fn duration(&mut self, name: &str) -> Option<i64> {
        const HELP: &str = "write a number with a unit: s, m, h or d, such as `5m`";
        if let Some(Yaml::Int(n)) = self.node.get(name).map(|n| &n.value) {
            let what = format!("`{name}` needs a unit: is `{n}` seconds, minutes, hours or days?");
            self.wrong(Code::Correlation, name, what, HELP);
            return None;
        }
        let text = self.text(name, HELP)?;
        match parse_duration(&text) {
            Ok(0) => {
                let what = format!("`{name}` must be more than zero");
                self.wrong(Code::Correlation, name, what, HELP);
                None
            }
            Ok(micros) => Some(micros),
            Err(e) => {
                self.wrong(Code::Correlation, name, e.to_string(), HELP);
                None
            }
        }
    }

    fn number(&mut self, name: &str, default: f64, least: f64, most: f64) -> Option<f64> {
        let value = match self.node.get(name).map(|n| &n.value) {
            None => return Some(default),
            Some(Yaml::Int(v)) => *v as f64,
            Some(Yaml::Float(v)) => *v,
            Some(_) => f64::NAN,
        };
        if (least..=most).contains(&value) {
            return Some(value);
        }
        let what = format!("`{name}` must be a number from {least} to {most}");
        self.wrong(Code::Correlation, name, what, format!("{default} is the default"));
        None
    }

    /// A string or a list of strings, with their places.
    fn strings(&mut self, node: &Node) -> Option<Vec<Key>> {
        let nodes = match &node.value {
            Yaml::Seq(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut keys = Vec::with_capacity(nodes.len());
        for node in &nodes {
            match node.scalar_text() {
                Some(text) => keys.push(Key { place: node.place, text }),
                None => {
                    let what = format!("expected a name, this is {}", node.kind());
                    self.wrong_at(node.place, what, "write one name, or a list of names");
                }
            }
        }
        (keys.len() == nodes.len()).then_some(keys)
    }

    fn rules(&mut self) -> Option<Vec<Key>> {
        const HELP: &str = "list the ids or names of the rules it is about: `rules: [my_rule]`";
        let Some(node) = self.node.get("rules") else {
            self.missing("rules", HELP);
            return None;
        };
        let rules = self.strings(node)?;
        if rules.is_empty() {
            self.wrong_at(node.place, "`rules` is an empty list", HELP);
            return None;
        }
        Some(rules)
    }

    fn fields(&mut self, node: &Node, name: &str) -> Option<Vec<FieldPath>> {
        let Some(value) = node.get(name).filter(|n| n.value != Yaml::Null) else {
            return Some(Vec::new());
        };
        let keys = self.strings(value)?;
        Some(keys.iter().map(|k| FieldPath::new(&k.text.replace(' ', ""))).collect())
    }

    /// Reads `condition:`; `extra` names keys that are no bounds.
    fn threshold(&mut self, extra: &[&str]) -> Option<(Threshold, Place)> {
        const HELP: &str = "write a bound such as `condition: {gte: 10}`";
        let Some(condition) = self.node.get("condition") else {
            self.missing("condition", HELP);
            return None;
        };
        if !matches!(condition.value, Yaml::Map(_)) {
            let what = format!("`condition` must be a mapping, this is {}", condition.kind());
            self.wrong_at(condition.place, what, HELP);
            return None;
        }
        let mut bounds = Vec::new();
        let mut wrong = false;
        for (key, value) in condition.members().iter().filter(|(k, _)| !extra.contains(&&*k.text)) {
            match self.bound(key, value) {
                Some(bound) => bounds.push(bound),
                None => wrong = true,
            }
        }
        if bounds.is_empty() && !wrong {
            self.wrong_at(condition.place, "`condition` has no bound", HELP);
        }
        let threshold = (!bounds.is_empty() && !wrong).then_some(Threshold(bounds))?;
        if threshold.is_monotone() && threshold.least() > GROUP_ENTRIES_MAX as u64 {
            let what = format!(
                "a threshold of {} is over the limit of {GROUP_ENTRIES_MAX} per group",
                threshold.least()
            );
            let bound = condition.members().iter().find(|(k, _)| !extra.contains(&&*k.text));
            let place = bound.map_or(condition.place, |(_, value)| value.place);
            self.wrong_at(place, what, "ask for fewer, or chain two correlations");
            return None;
        }
        Some((threshold, condition.place))
    }

    fn bound(&mut self, key: &Key, value: &Node) -> Option<(Comparison, Number)> {
        const OPERATORS: [(&str, Comparison); 6] = [
            ("gt", Comparison::Gt),
            ("gte", Comparison::Gte),
            ("lt", Comparison::Lt),
            ("lte", Comparison::Lte),
            ("eq", Comparison::Eq),
            ("neq", Comparison::Neq),
        ];
        let known = OPERATORS.iter().find(|(name, _)| *name == key.text);
        let Some((_, op)) = known else {
            let what = format!("unknown operator `{}`", key.text);
            self.wrong_at(key.place, what, "the operators are: gt, gte, lt, lte, eq, neq");
            return None;
        };
        match value.value {
            Yaml::Int(n) => Some((*op, Number::Int(n))),
            Yaml::Float(n) if n.is_finite() => Some((*op, Number::Float(n))),
            _ => {
                let what = format!("`{}` needs a number, this is {}", key.text, value.kind());
                self.wrong_at(value.place, what, "write the number without quotes or unit");
                None
            }
        }
    }

    fn value_fields(&mut self, condition: &Node) -> Option<Vec<FieldPath>> {
        if !matches!(condition.value, Yaml::Map(_)) {
            return None;
        }
        let fields = self.fields(condition, "field")?;
        if fields.is_empty() {
            let place = self.node.key("condition").map_or(condition.place, |k| k.place);
            let help = "`value_count` counts the distinct values of a field: `field: user`";
            self.wrong_at(place, "`field` is missing", help);
            return None;
        }
        Some(fields)
    }

    /// How many of the rules must occur: all, unless the condition says `gte` or `gt`.
    fn temporal_count(&mut self, rules: usize) -> Option<usize> {
        const HELP: &str = "write `gte: N`, or leave the condition out: all rules must occur then";
        let Some(condition) = self.node.get("condition") else { return Some(rules) };
        let mut wrong = |place, what: &str| {
            self.found.push(Diagnostic::error(Code::Unsupported, place, what).help(HELP));
            None
        };
        if condition.as_str().is_some() {
            let what = "extended temporal conditions are not supported by this version";
            return wrong(condition.place, what);
        }
        let [(key, value)] = condition.members() else {
            return wrong(condition.place, "a temporal condition is one bound");
        };
        let count = match (key.text.as_str(), &value.value) {
            ("gte", Yaml::Int(n)) => usize::try_from(*n).ok(),
            ("gt", Yaml::Int(n)) => usize::try_from(n.saturating_add(1)).ok(),
            ("gte" | "gt", _) => None,
            _ => return wrong(key.place, "a temporal condition takes `gte` or `gt`"),
        };
        match count.filter(|n| (1..=rules.max(1)).contains(n)) {
            Some(count) => Some(count),
            None => {
                let what = format!("the count must be from 1 to the number of rules, {rules}");
                wrong(value.place, &what)
            }
        }
    }

    fn aliases(&mut self) -> Option<Vec<Alias>> {
        const HELP: &str = "write `aliases: {alias: {rule: field, other_rule: other_field}}`";
        let Some(aliases) = self.node.get("aliases") else { return Some(Vec::new()) };
        if !matches!(aliases.value, Yaml::Map(_)) {
            let what = format!("`aliases` must be a mapping, this is {}", aliases.kind());
            self.wrong_at(aliases.place, what, HELP);
            return None;
        }
        let mut out = Vec::new();
        for (alias, rules) in aliases.members() {
            if !matches!(rules.value, Yaml::Map(_)) {
                let what = format!("an alias maps rules to fields, this is {}", rules.kind());
                self.wrong_at(rules.place, what, HELP);
                return None;
            }
            let mut per_rule = Vec::new();
            for (rule, field) in rules.members() {
                let Some(name) = field.as_str() else {
                    let what = format!("an alias maps a rule to a field, this is {}", field.kind());
                    self.wrong_at(field.place, what, HELP);
                    return None;
                };
                per_rule.push((rule.clone(), FieldPath::new(&name.replace(' ', ""))));
            }
            out.push(Alias { name: alias.clone(), fields: per_rule });
        }
        Some(out)
    }
}
