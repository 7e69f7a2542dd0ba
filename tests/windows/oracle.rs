//! The slow truth: all events in the order of time, every window looked at from its start.
//!
//! Nothing here is shared with the engine: no incremental sums, no forgetting, floating-point numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Event;
use super::rules::{BASES, GAP, Kind, SPAN, Set, Spec, Windows};

/// An episode. Times are in half seconds, the value in millionths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub rule: String,
    pub group: Vec<Option<String>>,
    pub start: i64,
    pub end: i64,
    pub began: i64,
    pub value: i64,
    pub events: u64,
}

/// Where a thing stands among those of one instant: events by their place, then what the end of a
/// window said, by rule and group; last, on which way it came.
type Rank = (i64, u8, (i32, i64, usize), (usize, Vec<Option<String>>), Vec<usize>);

/// Time and place of a signal.
type At = (i64, (i32, i64));

/// A thing that reaches a correlation.
#[derive(Clone, Debug)]
struct Signal {
    rank: Rank,
    /// Of the event that it is about: partition and offset.
    at: (i32, i64),
    input: usize,
    values: Vec<(String, String)>,
    first: bool,
}

impl Signal {
    fn time(&self) -> i64 {
        self.rank.0
    }

    fn value(&self, name: &str) -> Option<&String> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

/// All episodes of all rules.
pub fn episodes(set: &Set, events: &[Event]) -> BTreeSet<Found> {
    let mut found = BTreeSet::new();
    let mut inputs: Vec<Vec<Signal>> = vec![Vec::new(); set.specs.len()];
    for event in events {
        for base in &event.bases {
            let rank = (
                event.time,
                0,
                (event.partition, event.offset, *base),
                (0, Vec::new()),
                Vec::new(),
            );
            let at = (event.partition, event.offset);
            let values = values_of(event);
            let signal = Signal { rank, at, input: 0, values, first: true };
            pass_on(set, BASES[*base], &signal, &mut inputs);
        }
    }
    for (index, spec) in set.specs.iter().enumerate() {
        for signal in correlate(index, spec, std::mem::take(&mut inputs[index]), &mut found) {
            pass_on(set, spec.id, &signal, &mut inputs);
        }
    }
    found
}

fn values_of(event: &Event) -> Vec<(String, String)> {
    let group = event.group.map(|g| ("g".to_owned(), format!("g{g}")));
    let value = event.value.map(|v| ("v".to_owned(), v.to_string()));
    let number = event.number.map(|n| match n {
        Ok(quarters) => ("n".to_owned(), (quarters as f64 / 4.0).to_string()),
        Err(text) => ("n".to_owned(), text.to_owned()),
    });
    group.into_iter().chain(value).chain(number).collect()
}

/// Gives a signal of a rule to all that are about it.
fn pass_on(set: &Set, from: &str, signal: &Signal, inputs: &mut [Vec<Signal>]) {
    for (index, spec) in set.specs.iter().enumerate() {
        for (input, name) in spec.inputs.iter().enumerate() {
            if *name == from {
                let mut signal = Signal { input, ..signal.clone() };
                signal.rank.4.extend([index, input]);
                inputs[index].push(signal);
            }
        }
    }
}

fn group_of(spec: &Spec, signal: &Signal) -> Option<Vec<Option<String>>> {
    let values: Vec<Option<String>> =
        spec.group.iter().map(|name| signal.value(name).cloned()).collect();
    (spec.null_group || values.iter().all(Option::is_some)).then_some(values)
}

/// Whether a signal says what the correlation counts.
fn is_usable(spec: &Spec, signal: &Signal) -> bool {
    match spec.kind {
        Kind::Values(fields) => fields.iter().all(|f| signal.value(f).is_some()),
        Kind::Sum | Kind::Average | Kind::Percentile(_) | Kind::Median => {
            signal.value("n").is_some_and(|n| n.parse::<f64>().is_ok())
        }
        _ => true,
    }
}

/// What a correlation makes of its signals: episodes, and signals of its own.
fn correlate(
    index: usize,
    spec: &Spec,
    mut signals: Vec<Signal>,
    found: &mut BTreeSet<Found>,
) -> Vec<Signal> {
    let measures = !matches!(
        spec.kind,
        Kind::Values(_) | Kind::Temporal | Kind::AtLeast(_) | Kind::Names(_) | Kind::Ordered
    );
    signals.retain(|s| (s.first || !measures) && is_usable(spec, s));
    signals.sort_by(|a, b| a.rank.cmp(&b.rank));
    let mut groups: BTreeMap<Vec<Option<String>>, Vec<Signal>> = BTreeMap::new();
    for signal in signals {
        if let Some(group) = group_of(spec, &signal) {
            groups.entry(group).or_default().push(signal);
        }
    }
    let mut above = Vec::new();
    for (group, signals) in groups {
        let mut out = Out { index, spec, group, found, above: &mut above };
        match (spec.windows, spec.is_monotone()) {
            (Windows::Sliding, true) => out.sliding(&signals),
            _ => out.panes(&signals),
        }
    }
    above
}

struct Out<'o> {
    index: usize,
    spec: &'o Spec,
    group: Vec<Option<String>>,
    found: &'o mut BTreeSet<Found>,
    above: &'o mut Vec<Signal>,
}

impl Out<'_> {
    fn put(&mut self, start: i64, end: i64, began: i64, value: f64, events: usize) {
        self.found.insert(Found {
            rule: self.spec.id.into(),
            group: self.group.clone(),
            start,
            end,
            began,
            value: (value * 1e6).round() as i64,
            events: events as u64,
        });
    }

    /// What this rule says at one of its signals.
    fn say(&mut self, signal: &Signal, first: bool) {
        let own = self.spec.group.iter().zip(&self.group);
        let own = own.filter_map(|(n, v)| Some(((*n).to_owned(), v.clone()?)));
        let values = own.chain(signal.values.iter().cloned()).collect();
        self.above.push(Signal { values, first, ..signal.clone() });
    }

    /// Sliding windows: at each signal, those no further back than the timespan.
    fn sliding(&mut self, signals: &[Signal]) {
        let mut from = 0;
        while from < signals.len() {
            // Until the group is quiet for longer than the timespan.
            let mut to = from + 1;
            while to < signals.len() && signals[to].time() - signals[to - 1].time() <= SPAN {
                to += 1;
            }
            self.stretch(&signals[from..to]);
            from = to;
        }
    }

    /// At most one episode: from the first signal at which the condition holds.
    fn stretch(&mut self, signals: &[Signal]) {
        let window = |i: usize| -> Vec<&Signal> {
            signals[..=i].iter().filter(|s| signals[i].time() - s.time() <= SPAN).collect()
        };
        let mut began: Option<(usize, Vec<At>)> = None;
        let mut most = f64::MIN;
        for (i, signal) in signals.iter().enumerate() {
            let held = holds(self.spec, &window(i));
            let first = began.is_none() && held.is_some();
            if let (true, Some(behind)) = (first, &held) {
                began = Some((i, behind.clone()));
            }
            if began.is_some() {
                most = most.max(self.value_at(&window(i), held.as_deref()));
            }
            if held.is_some() {
                self.say(signal, first);
            }
        }
        let Some((i, behind)) = began else { return };
        let start = behind.iter().map(|b| b.0).min().unwrap_or(signals[i].time());
        let after = signals.len() - 1 - i;
        let events = behind.len() + after;
        let value = if self.spec.kind == Kind::Count { events as f64 } else { most };
        let end = signals[signals.len() - 1].time();
        self.put(start, end, signals[i].time(), value, events);
    }

    /// What the window that ends at a signal comes to.
    fn value_at(&self, window: &[&Signal], held: Option<&[At]>) -> f64 {
        match self.spec.kind {
            // An order that is not complete at this signal comes to nothing.
            Kind::Ordered => held.map_or(0.0, |chain| chain.len() as f64),
            _ => measure(self.spec, window),
        }
    }

    /// Windows that are looked at as a whole.
    fn panes(&mut self, signals: &[Signal]) {
        let mut from = 0;
        while from < signals.len() {
            let open = signals[from].time();
            let together = |before: &Signal, s: &Signal| match self.spec.windows {
                Windows::Sliding => s.time() - open <= SPAN,
                Windows::Tumbling => s.time().div_euclid(SPAN) == open.div_euclid(SPAN),
                Windows::Session => s.time() - before.time() <= GAP && s.time() - open <= SPAN,
            };
            let mut to = from + 1;
            while to < signals.len() && together(&signals[to - 1], &signals[to]) {
                to += 1;
            }
            self.pane(&signals[from..to]);
            from = to;
        }
    }

    fn pane(&mut self, signals: &[Signal]) {
        let (open, end) = (signals[0].time(), signals[signals.len() - 1].time());
        let prefix = |n: usize| signals[..n].iter().collect::<Vec<_>>();
        if self.spec.is_monotone() {
            let mut began = None;
            let mut most = f64::MIN;
            for n in 1..=signals.len() {
                let holds = pane_holds(self.spec, &prefix(n));
                let first = holds && began.is_none();
                if first {
                    began = Some(signals[n - 1].time());
                }
                if began.is_some() {
                    most = most.max(pane_measure(self.spec, &prefix(n)));
                }
                if holds {
                    self.say(&signals[n - 1], first);
                }
            }
            if let Some(began) = began {
                self.put(open, end, began, most, signals.len());
            }
            return;
        }
        let all = prefix(signals.len());
        if !pane_holds(self.spec, &all) {
            return;
        }
        let boundary = (open.div_euclid(SPAN) + 1) * SPAN;
        // A tumbling window ends a microsecond before the next one begins; for order that is after
        // every event in it and before all of the next.
        let (began, said) = match self.spec.windows {
            Windows::Sliding => (open + SPAN, open + SPAN),
            Windows::Tumbling => (boundary, boundary - 1),
            Windows::Session => ((end + GAP).min(open + SPAN), (end + GAP).min(open + SPAN)),
        };
        self.put(open, end, began, pane_measure(self.spec, &all), signals.len());
        let rank = (said, 1, (0, 0, 0), (self.index, self.group.clone()), Vec::new());
        let last = Signal { rank, values: Vec::new(), ..signals[signals.len() - 1].clone() };
        self.say(&last, true);
    }
}

/// Whether the condition holds for the window that ends with its last signal, and the signals behind it.
fn holds(spec: &Spec, window: &[&Signal]) -> Option<Vec<At>> {
    let place = |s: &&Signal| (s.time(), s.at);
    match spec.kind {
        Kind::Count => {
            let enough = (1..=window.len()).find(|n| in_bounds(spec, *n as f64))?;
            Some(window[window.len() - enough..].iter().map(place).collect())
        }
        Kind::Values(fields) => {
            // The latest sighting of each.
            let mut last = BTreeMap::new();
            for (number, s) in window.iter().enumerate() {
                last.insert(fields.map_values(s), (number, place(s)));
            }
            in_bounds(spec, last.len() as f64).then(|| last.into_values().map(|l| l.1).collect())
        }
        Kind::Sum => {
            in_bounds(spec, measure(spec, window)).then(|| window.iter().map(place).collect())
        }
        Kind::Temporal | Kind::AtLeast(_) | Kind::Names(_) => {
            let mut last = BTreeMap::new();
            for s in window {
                last.insert(s.input, place(s));
            }
            let seen: BTreeSet<usize> = last.keys().copied().collect();
            names_hold(spec, &seen).then(|| last.into_values().collect())
        }
        Kind::Ordered => chain(spec, window),
        Kind::Average | Kind::Percentile(_) | Kind::Median => None,
    }
}

trait Fields {
    fn map_values(&self, signal: &Signal) -> Vec<Option<String>>;
}

impl Fields for &[&str] {
    fn map_values(&self, signal: &Signal) -> Vec<Option<String>> {
        self.iter().map(|f| signal.value(f).cloned()).collect()
    }
}

/// The number of a window that the condition is about.
fn measure(spec: &Spec, window: &[&Signal]) -> f64 {
    let mut numbers: Vec<f64> = window.iter().filter_map(|s| s.value("n")?.parse().ok()).collect();
    match spec.kind {
        Kind::Count => window.len() as f64,
        Kind::Values(fields) => {
            window.iter().map(|s| fields.map_values(s)).collect::<BTreeSet<_>>().len() as f64
        }
        Kind::Sum => numbers.iter().sum(),
        Kind::Average => numbers.iter().sum::<f64>() / numbers.len() as f64,
        Kind::Percentile(p) => percentile(&mut numbers, p),
        Kind::Median => percentile(&mut numbers, 50.0),
        Kind::Temporal | Kind::AtLeast(_) | Kind::Names(_) => {
            window.iter().map(|s| s.input).collect::<BTreeSet<_>>().len() as f64
        }
        Kind::Ordered => 0.0,
    }
}

fn percentile(numbers: &mut [f64], percent: f64) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let rank = percent / 100.0 * (numbers.len() - 1) as f64;
    let (low, high) = (numbers[rank.floor() as usize], numbers[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

fn in_bounds(spec: &Spec, value: f64) -> bool {
    spec.bounds.iter().all(|(op, bound)| match *op {
        "gt" => value > *bound,
        "gte" => value >= *bound,
        "lt" => value < *bound,
        "lte" => value <= *bound,
        "eq" => value == *bound,
        _ => value != *bound,
    })
}

fn names_hold(spec: &Spec, seen: &BTreeSet<usize>) -> bool {
    let [a, b, c] = [0, 1, 2].map(|i| seen.contains(&i));
    match spec.kind {
        Kind::AtLeast(n) => seen.len() >= n,
        Kind::Names("a and (b or c)") => a && (b || c),
        Kind::Names("b or (a and c)") => b || (a && c),
        Kind::Names("a and not b" | "few and not high") => a && !b,
        Kind::Names("c and not (a or b)") => c && !(a || b),
        _ => seen.len() == spec.inputs.len(),
    }
}

/// Of all ways to find the inputs in order, the last signal among them, that which starts last. All
/// are tried.
fn chain(spec: &Spec, window: &[&Signal]) -> Option<Vec<At>> {
    let last = window.last()?;
    let mut best: Option<Vec<&Signal>> = None;
    let mut open: Vec<Vec<&Signal>> = vec![Vec::new()];
    while let Some(steps) = open.pop() {
        if steps.len() == spec.inputs.len() {
            let start = steps[0].time();
            let with_last = steps.iter().any(|s| s.at == last.at && s.time() == last.time());
            if with_last && best.as_ref().is_none_or(|b| b[0].time() < start) {
                best = Some(steps);
            }
            continue;
        }
        for next in window.iter().filter(|s| s.input == steps.len()) {
            let follows = steps.last().is_none_or(|before| {
                before.time() < next.time()
                    || before.time() == next.time()
                        && (before.at.0 != next.at.0 || before.at.1 < next.at.1)
            });
            if follows {
                open.push(steps.iter().copied().chain([*next]).collect());
            }
        }
    }
    best.map(|steps| steps.iter().map(|s| (s.time(), s.at)).collect())
}

/// Whether the condition holds for all signals of a window together.
fn pane_holds(spec: &Spec, window: &[&Signal]) -> bool {
    match spec.kind {
        Kind::Temporal | Kind::AtLeast(_) | Kind::Names(_) => {
            names_hold(spec, &window.iter().map(|s| s.input).collect())
        }
        // It was complete at one of them.
        Kind::Ordered => (1..=window.len()).any(|n| chain(spec, &window[..n]).is_some()),
        _ => in_bounds(spec, measure(spec, window)),
    }
}

fn pane_measure(spec: &Spec, window: &[&Signal]) -> f64 {
    match spec.kind {
        // Only complete orders are reported.
        Kind::Ordered => spec.inputs.len() as f64,
        _ => measure(spec, window),
    }
}
