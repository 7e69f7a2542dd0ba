//! What depends on the type of a correlation: its condition, and the fields that it counts or measures.

use super::read::Reader;
use super::{Code, CorrelationKind, Occurrence, Threshold, ValueMeasure};
use crate::decimal::Decimal;
use crate::limits::GROUP_ENTRIES_MAX;
use crate::rule::condition::{self, Condition};
use crate::rule::diagnostic::{Diagnostic, Place, nearest};
use crate::rule::matcher::Comparison;
use crate::rule::yaml::{Key, Node, Yaml};

const TYPES: [&str; 8] = [
    "event_count",
    "value_count",
    "value_sum",
    "value_avg",
    "value_percentile",
    "value_median",
    "temporal",
    "temporal_ordered",
];

/// The names in a temporal condition, each once, in the order in which they first appear.
pub fn names_in(node: &Node, text: &str) -> Vec<Key> {
    let word = |c: char| !(c.is_whitespace() || c == '(' || c == ')');
    let mut names: Vec<Key> = Vec::new();
    for name in text.split(|c| !word(c)).filter(|w| !w.is_empty()) {
        let operator = matches!(name.to_lowercase().as_str(), "and" | "or" | "not");
        if !operator && names.iter().all(|k| k.text != name) {
            names.push(Key { place: node.place, text: name.to_owned() });
        }
    }
    names
}

impl Reader<'_, '_> {
    pub fn kind(&mut self, name: &str, rules: &[Key]) -> Option<CorrelationKind> {
        match name {
            "event_count" => Some(CorrelationKind::EventCount(self.threshold(&[])?)),
            "value_count" => {
                let threshold = self.threshold(&["field"]);
                let condition = self.node.get("condition")?;
                let fields = self.value_fields(name, condition)?;
                Some(CorrelationKind::ValueCount { fields, threshold: threshold? })
            }
            "value_sum" | "value_avg" | "value_median" => {
                let measure = match name {
                    "value_sum" => ValueMeasure::Sum,
                    "value_avg" => ValueMeasure::Average,
                    _ => ValueMeasure::Median,
                };
                self.value(name, measure, &["field"])
            }
            "value_percentile" => {
                let percentile = self.percentile();
                let kind = self.value(name, ValueMeasure::Percentile(0), &["field", "percentile"]);
                let CorrelationKind::Value { field, threshold, .. } = kind? else { return None };
                let measure = ValueMeasure::Percentile(percentile?);
                Some(CorrelationKind::Value { measure, field, threshold })
            }
            "temporal" => self.temporal(rules),
            "temporal_ordered" => {
                if self.temporal_count(rules.len())? != rules.len() {
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
        let help = match nearest(name, TYPES.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the types are: {}", TYPES.join(", ")),
        };
        let what = format!("unknown correlation type `{name}`");
        self.wrong(Code::Correlation, "type", what, help);
    }

    /// A number made of the numbers in one field.
    fn value(
        &mut self,
        name: &str,
        measure: ValueMeasure,
        extra: &[&str],
    ) -> Option<CorrelationKind> {
        let threshold = self.bounds(extra);
        let condition = self.node.get("condition")?;
        let mut fields = self.value_fields(name, condition)?;
        if fields.len() > 1 {
            let place = condition.get("field").map_or(condition.place, |n| n.place);
            let what = format!("`{name}` is about one field, here are {}", fields.len());
            self.wrong_at(
                place,
                what,
                "only `value_count` takes several: write one correlation each",
            );
            return None;
        }
        Some(CorrelationKind::Value { measure, field: fields.pop()?, threshold: threshold? })
    }

    /// `percentile:` in the condition, in thousandths of a percent. Without it the median is taken, as
    /// pySigma does, and that is told.
    fn percentile(&mut self) -> Option<u32> {
        const HELP: &str = "write a number from 0 to 100, such as `percentile: 95`";
        let condition = self.node.get("condition")?;
        let Some(node) = condition.get("percentile") else {
            let what = "no `percentile` is given: 50 is taken, which is the median";
            let help = "write `percentile: 95` or whichever is meant. For rare values (as the \
                example of the specification reads) there is no correlation type";
            self.found
                .push(Diagnostic::warning(Code::Correlation, condition.place, what).help(help));
            return Some(50_000);
        };
        let percent = match node.value {
            Yaml::Int(n) => n as f64,
            Yaml::Float(n) => n,
            _ => f64::NAN,
        };
        if (0.0..=100.0).contains(&percent) {
            return Some((percent * 1000.0).round() as u32);
        }
        self.wrong_at(node.place, "`percentile` must be a number from 0 to 100", HELP);
        None
    }

    /// Reads `condition:` of something that counts; `extra` names keys that are no bounds.
    fn threshold(&mut self, extra: &[&str]) -> Option<Threshold> {
        let threshold = self.bounds(extra)?;
        if threshold.is_monotone() && threshold.least() > GROUP_ENTRIES_MAX as u64 {
            let condition = self.node.get("condition")?;
            let what = format!(
                "a threshold of {} is over the limit of {GROUP_ENTRIES_MAX} per group",
                threshold.least()
            );
            let bound = condition.members().iter().find(|(k, _)| !extra.contains(&&*k.text));
            let place = bound.map_or(condition.place, |(_, value)| value.place);
            self.wrong_at(place, what, "ask for fewer, or chain two correlations");
            return None;
        }
        Some(threshold)
    }

    fn bounds(&mut self, extra: &[&str]) -> Option<Threshold> {
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
        (!bounds.is_empty() && !wrong).then_some(Threshold(bounds))
    }

    fn bound(&mut self, key: &Key, value: &Node) -> Option<(Comparison, Decimal)> {
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
        let number = match value.value {
            Yaml::Int(n) => Some(Decimal::whole(n)),
            Yaml::Float(n) if n.is_finite() => Decimal::from_float(n),
            _ => {
                let what = format!("`{}` needs a number, this is {}", key.text, value.kind());
                self.wrong_at(value.place, what, "write the number without quotes or unit");
                return None;
            }
        };
        if number.is_none() {
            let what = format!("`{}` is beyond the limit of 10^18", key.text);
            self.wrong_at(value.place, what, "no sum of values gets that far");
        }
        number.map(|n| (*op, n))
    }

    fn value_fields(
        &mut self,
        name: &str,
        condition: &Node,
    ) -> Option<Vec<crate::event::FieldPath>> {
        if !matches!(condition.value, Yaml::Map(_)) {
            return None;
        }
        let fields = self.fields(condition, "field")?;
        if fields.is_empty() {
            let place = self.node.key("condition").map_or(condition.place, |k| k.place);
            let (what, example) = match name {
                "value_count" => ("counts the distinct values of a field", "user"),
                _ => ("is about the numbers in a field", "bytes"),
            };
            let help = format!("`{name}` {what}: `field: {example}`");
            self.wrong_at(place, "`field` is missing", help);
            return None;
        }
        Some(fields)
    }

    /// `condition: a and not b`, else so many of the rules.
    fn temporal(&mut self, rules: &[Key]) -> Option<CorrelationKind> {
        let text = self.node.get("condition").and_then(|n| Some((n.place, n.as_str()?)));
        let Some((place, text)) = text else {
            let at_least = self.temporal_count(rules.len())?;
            let any = (0..rules.len()).map(Occurrence::Rule).collect();
            let needs = Occurrence::AtLeast(at_least, any);
            return Some(CorrelationKind::Temporal { needs, text: format!(">= {at_least} rules") });
        };
        let names: Vec<&str> = rules.iter().map(|k| k.text.as_str()).collect();
        let condition = match condition::parse(text, place, &names, self.found) {
            Ok(condition) => condition,
            Err(mut diagnostic) => {
                if diagnostic.code == Code::UnknownSelection {
                    // The parser speaks of selections; here the names are those of rules.
                    let message =
                        diagnostic.message.replace("selection", "rule of this correlation");
                    diagnostic.message = message;
                    diagnostic.help = diagnostic.help.map(|h| h.replace("selections", "rules"));
                }
                self.found.push(diagnostic);
                return None;
            }
        };
        let needs = occurrence(&condition, &names);
        if needs.holds_of_nothing() {
            let what = "this condition holds when none of the rules has matched";
            let help = "windows begin with a match: ask for at least one rule, as in `a and not b`";
            self.wrong_at(place, what, help);
            return None;
        }
        self.warn_of_idle(rules, &condition);
        Some(CorrelationKind::Temporal { needs, text: text.trim().to_owned() })
    }

    /// Rules that are listed, but that the condition does not ask for.
    fn warn_of_idle(&mut self, rules: &[Key], condition: &Condition) {
        let mut named = Vec::new();
        condition.names(&mut named);
        for key in rules.iter().filter(|k| !named.contains(&k.text.as_str())) {
            let what = format!("the condition does not ask for `{}`", key.text);
            let help = "name it in the condition, or take it out of `rules`";
            self.found.push(Diagnostic::warning(Code::Correlation, key.place, what).help(help));
        }
    }

    /// How many of the rules must occur: all, unless the condition says `gte` or `gt`.
    fn temporal_count(&mut self, rules: usize) -> Option<usize> {
        const HELP: &str = "write `gte: N`, or leave the condition out: all rules must occur then";
        let Some(condition) = self.node.get("condition") else { return Some(rules) };
        let mut wrong = |place: Place, what: &str| {
            self.found.push(Diagnostic::error(Code::Unsupported, place, what).help(HELP));
            None
        };
        if condition.as_str().is_some() {
            let what = "conditions of names belong to `temporal`: the order says all there is here";
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
}

/// The condition with rules by their place in the list.
fn occurrence(condition: &Condition, names: &[&str]) -> Occurrence {
    let all = |parts: &[Condition]| parts.iter().map(|p| occurrence(p, names)).collect::<Vec<_>>();
    match condition {
        Condition::And(parts) => Occurrence::AtLeast(parts.len(), all(parts)),
        Condition::Or(parts) => Occurrence::AtLeast(1, all(parts)),
        Condition::AtLeast(n, parts) => Occurrence::AtLeast(*n, all(parts)),
        Condition::Not(part) => Occurrence::Not(Box::new(occurrence(part, names))),
        Condition::Name(name) => {
            Occurrence::Rule(names.iter().position(|n| n == name).unwrap_or_default())
        }
    }
}
