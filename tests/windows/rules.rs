//! The rules of the cases: what the oracle reads, and the same as Sigma.

use std::sync::Arc;

use watchfire::rule::{RuleSet, Severity};

/// Length of every timespan, in half seconds: 10 s.
pub const SPAN: i64 = 20;
/// Gap of every session, in half seconds: 3 s.
pub const GAP: i64 = 6;

/// Base rules; an event says which of them it matches.
pub const BASES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Count,
    Values(&'static [&'static str]),
    Sum,
    Average,
    Percentile(f64),
    Median,
    /// All inputs.
    Temporal,
    /// So many of them.
    AtLeast(usize),
    /// A condition over the inputs a, b and c.
    Names(&'static str),
    Ordered,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Windows {
    Sliding,
    Tumbling,
    Session,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub id: &'static str,
    pub kind: Kind,
    pub inputs: &'static [&'static str],
    pub bounds: &'static [(&'static str, f64)],
    pub group: &'static [&'static str],
    pub windows: Windows,
    pub null_group: bool,
}

const ABC: &[&str] = &BASES;

fn spec(id: &'static str, kind: Kind, bounds: &'static [(&'static str, f64)]) -> Spec {
    Spec {
        id,
        kind,
        inputs: ABC,
        bounds,
        group: &["g"],
        windows: Windows::Sliding,
        null_group: false,
    }
}

impl Spec {
    fn over(self, inputs: &'static [&'static str]) -> Self {
        Self { inputs, ..self }
    }

    fn by(self, group: &'static [&'static str]) -> Self {
        Self { group, ..self }
    }

    fn windows(self, windows: Windows) -> Self {
        Self { windows, ..self }
    }

    /// Whether more can only make it truer, so that it is decided at once.
    pub fn is_monotone(&self) -> bool {
        let lower = self.bounds.iter().all(|(op, _)| matches!(*op, "gt" | "gte"));
        match self.kind {
            Kind::Average | Kind::Percentile(_) | Kind::Median => false,
            Kind::Names(text) => !text.contains("not"),
            _ => lower,
        }
    }

    fn sigma(&self) -> String {
        let field = match self.kind {
            Kind::Values(fields) => format!("field: [{}], ", fields.join(", ")),
            Kind::Sum | Kind::Average | Kind::Median => "field: n, ".into(),
            Kind::Percentile(p) => format!("field: n, percentile: {p}, "),
            _ => String::new(),
        };
        let bounds: Vec<String> = self.bounds.iter().map(|(op, n)| format!("{op}: {n}")).collect();
        let condition = match self.kind {
            Kind::Temporal | Kind::Ordered => String::new(),
            Kind::AtLeast(n) => format!("condition: {{gte: {n}}}"),
            Kind::Names(text) => format!("condition: {text}"),
            _ => format!("condition: {{{field}{}}}", bounds.join(", ")),
        };
        let kind = match self.kind {
            Kind::Count => "event_count",
            Kind::Values(_) => "value_count",
            Kind::Sum => "value_sum",
            Kind::Average => "value_avg",
            Kind::Percentile(_) => "value_percentile",
            Kind::Median => "value_median",
            Kind::Temporal | Kind::AtLeast(_) | Kind::Names(_) => "temporal",
            Kind::Ordered => "temporal_ordered",
        };
        let windows = match self.windows {
            Windows::Sliding => "",
            Windows::Tumbling => "watchfire.window: tumbling\n",
            Windows::Session => "watchfire.window: session\nwatchfire.gap: 3s\n",
        };
        format!(
            "title: {id}\nid: {id}\nwatchfire.null_group: {null}\n{windows}correlation:\n  type: {kind}\n  \
             rules: [{inputs}]\n  group-by: [{group}]\n  timespan: 10s\n  {condition}\n---\n",
            id = self.id,
            null = self.null_group,
            inputs = self.inputs.join(", "),
            group = self.group.join(", "),
        )
    }
}

/// Rules as both sides know them.
pub struct Set {
    pub specs: Vec<Spec>,
    pub rules: Arc<RuleSet>,
}

impl Set {
    pub fn new(name: &str, specs: Vec<Spec>) -> Self {
        let base = |b: &&str| {
            format!(
                "title: {b}\nid: {b}\nlogsource: {{product: x}}\ndetection: {{s: {{f: {b}}}, condition: s}}\n---\n"
            )
        };
        let text: String = BASES.iter().map(base).chain(specs.iter().map(Spec::sigma)).collect();
        let file: Arc<str> = name.into();
        let (rules, found) = RuleSet::compile([(&file, text.as_str())]);
        assert!(found.iter().all(|d| d.severity != Severity::Error), "{found:#?}");
        // Both sides take them in this order.
        let ids: Vec<&str> = rules.correlations.iter().map(|r| &*r.header.id.0).collect();
        assert_eq!(ids, specs.iter().map(|s| s.id).collect::<Vec<_>>());
        Self { specs, rules: Arc::new(rules) }
    }
}

pub fn event_counts() -> Vec<Spec> {
    vec![
        spec("three", Kind::Count, &[("gte", 3.0)]).over(&["a", "b"]),
        spec("float", Kind::Count, &[("gt", 4.5)]),
        spec("one", Kind::Count, &[("gte", 1.0)]).over(&["a"]),
        spec("all", Kind::Count, &[("gt", 8.0), ("gte", 2.0)]).by(&[]),
        spec("few", Kind::Count, &[("lt", 3.0)]),
        spec("some", Kind::Count, &[("gte", 2.0), ("lte", 4.0)]).over(&["a", "c"]),
        spec("exactly", Kind::Count, &[("eq", 3.0)]),
        spec("but", Kind::Count, &[("neq", 2.0)]).by(&["g", "v"]),
    ]
}

pub fn value_counts() -> Vec<Spec> {
    vec![
        spec("three", Kind::Values(&["v"]), &[("gte", 3.0)]),
        spec("pairs", Kind::Values(&["v", "g"]), &[("gt", 4.5)]).by(&[]),
        spec("few", Kind::Values(&["v"]), &[("lte", 2.0)]),
        spec("range", Kind::Values(&["v"]), &[("gt", 1.0), ("lt", 4.0)]).over(&["a"]),
    ]
}

pub fn sums() -> Vec<Spec> {
    vec![
        spec("much", Kind::Sum, &[("gte", 6.25)]),
        spec("more", Kind::Sum, &[("gt", 12.0)]).by(&[]),
        spec("little", Kind::Sum, &[("lt", 3.5)]),
        spec("range", Kind::Sum, &[("gte", 1.0), ("lte", 5.0)]).over(&["b", "c"]),
    ]
}

pub fn averages_and_percentiles() -> Vec<Spec> {
    vec![
        spec("high", Kind::Average, &[("gt", 2.5)]),
        spec("low", Kind::Average, &[("lte", 1.25)]).by(&[]),
        spec("p90", Kind::Percentile(90.0), &[("gte", 3.0123)]),
        spec("p5", Kind::Percentile(5.5), &[("lt", -0.5123)]),
        spec("median", Kind::Median, &[("gt", 1.7123)]),
    ]
}

pub fn temporal() -> Vec<Spec> {
    vec![
        spec("all", Kind::Temporal, &[]),
        spec("two", Kind::AtLeast(2), &[]),
        spec("names", Kind::Names("a and (b or c)"), &[]),
        spec("either", Kind::Names("b or (a and c)"), &[]),
        spec("alone", Kind::Names("a and not b"), &[]),
        spec("neither", Kind::Names("c and not (a or b)"), &[]).by(&[]),
    ]
}

pub fn ordered() -> Vec<Spec> {
    vec![
        spec("pair", Kind::Ordered, &[]).over(&["a", "b"]),
        spec("three", Kind::Ordered, &[]),
        spec("again", Kind::Ordered, &[]).over(&["a", "b", "a"]),
    ]
}

pub fn tumbling() -> Vec<Spec> {
    let all = vec![
        spec("three", Kind::Count, &[("gte", 3.0)]),
        spec("few", Kind::Count, &[("lt", 3.0)]),
        spec("values", Kind::Values(&["v"]), &[("gte", 3.0)]),
        spec("sum", Kind::Sum, &[("gte", 5.0)]),
        spec("average", Kind::Average, &[("gt", 2.0)]),
        spec("together", Kind::Temporal, &[]),
        spec("alone", Kind::Names("a and not b"), &[]),
        spec("order", Kind::Ordered, &[]).over(&["a", "b"]),
    ];
    all.into_iter().map(|s| s.windows(Windows::Tumbling)).collect()
}

pub fn sessions() -> Vec<Spec> {
    tumbling().into_iter().map(|s| s.windows(Windows::Session)).collect()
}

pub fn groups_without_a_value() -> Vec<Spec> {
    let all = vec![
        spec("three", Kind::Count, &[("gte", 3.0)]),
        spec("both", Kind::Count, &[("gte", 2.0)]).by(&["g", "v"]),
        spec("few", Kind::Count, &[("lt", 3.0)]).by(&["v"]),
        spec("together", Kind::Temporal, &[]),
    ];
    let mut all: Vec<Spec> = all.into_iter().map(|s| Spec { null_group: true, ..s }).collect();
    all.push(spec("left out", Kind::Count, &[("gte", 2.0)]).by(&["g", "v"]));
    all
}

pub fn chains_of_counts() -> Vec<Spec> {
    vec![
        spec("low", Kind::Count, &[("gte", 2.0)]).by(&["g", "v"]),
        spec("middle", Kind::Count, &[("gte", 2.0)]).over(&["low"]),
        spec("high", Kind::Count, &[("gte", 2.0)]).over(&["middle", "c"]).by(&[]),
        spec("top", Kind::Values(&["g"]), &[("gte", 2.0)]).over(&["high", "low"]).by(&[]),
    ]
}

pub fn chains_of_values_and_orders() -> Vec<Spec> {
    vec![
        spec("brute", Kind::Count, &[("gte", 2.0)]).by(&["g", "v"]),
        spec("spray", Kind::Values(&["v"]), &[("gte", 2.0)]).over(&["brute"]),
        spec("then", Kind::Ordered, &[]).over(&["spray", "c"]),
        spec("near", Kind::Temporal, &[]).over(&["brute", "then"]),
        spec("sum", Kind::Sum, &[("gte", 2.0)]).over(&["spray", "near"]),
    ]
}

pub fn chains_of_complete_windows() -> Vec<Spec> {
    vec![
        spec("few", Kind::Count, &[("lt", 3.0)]),
        spec("high", Kind::Average, &[("gt", 1.0)]),
        spec("alone", Kind::Names("few and not high"), &[]).over(&["few", "high"]),
        spec("order", Kind::Ordered, &[]).over(&["few", "a"]),
        spec("count", Kind::Count, &[("gte", 2.0)]).over(&["few", "high"]).by(&[]),
        spec("session", Kind::Count, &[("gte", 2.0)])
            .over(&["few", "high", "b"])
            .windows(Windows::Session),
    ]
}
