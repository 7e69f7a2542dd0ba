//! Event → detections: which rules match one event.

mod absence;
mod edges;
mod equal_keys;
mod few;
mod grams;
mod memo;
mod prefilter;
mod program;
mod rates;
pub mod reference;
mod run;
mod text;
mod texts;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(unused_variables, dead_code, reason = "other machines have no path yet")
)]
mod vector;
mod witness;

use std::collections::HashMap;
use std::sync::Arc;

pub use grams::{Draft, GRAM_PAD, Grams, Spots};
pub use vector::VectorPath;

use crate::event::{Event, EventSource, Facts, FieldPath, Rewritten, VIEW_PAD};
use crate::rule::RuleSet;
use memo::Memo;
use program::{Plan, Program};
use rates::{Rates, Sample};
use run::Scratch;

/// Kinds of source that have a plan of their own; there are a few dozen, unless events make them up.
/// All others share one plan of all rules.
const PLANS_MAX: usize = 128;

/// Events that are looked at closely before a plan is made anew.
const SAMPLE_EVENTS: usize = 128;

/// At first every event is in the sample; after each new plan one of so many times as many, up to the
/// second bound.
const SAMPLE_THINNING: u32 = 16;
const SAMPLE_INTERVAL_MAX: u32 = 8_192;

/// A plan is made anew once this many conditions were tested for each of its rules.
const WORK_PER_RULE: u64 = 3;

/// Plans of fewer rules are not made anew: there is nothing to gain.
const LEARNING_RULES_MIN: usize = 8;

/// Runs a rule set over events. One per worker; it owns its scratch and its plans.
#[derive(Clone, Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    program: Arc<Program>,
    scratch: Scratch,
    /// How the rules are seen: see [`DetectionRule::seen`](crate::rule::DetectionRule::seen).
    view: usize,
    /// Whether rules run only on events that they are meant for.
    routed: bool,
    plans: Vec<Planned>,
    /// What is run for a kind of source.
    by_source: HashMap<EventSource, PlanId>,
    /// What is run for a kind that has no plan of its own.
    shared: Option<PlanId>,
    rewritten: Rewritten,
    /// Plans that were made anew.
    better_plans: usize,
}

/// Which plan an event is for; see [`Engine::plan_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanId {
    index: usize,
    /// Whether it holds the rules for one kind of source alone.
    own: bool,
}

/// A plan, and what is learned for the next one.
#[derive(Clone, Debug)]
struct Planned {
    plan: Arc<Plan>,
    memo: Memo,
    chosen: Arc<[u32]>,
    sample: Sample,
    /// Conditions that were tested since the plan was made.
    work: u64,
    /// Events until the next one of the sample.
    wait: u32,
    interval: u32,
}

impl Engine {
    /// For a linked rule set.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self::for_view(rules, 0)
    }

    /// For a linked rule set in one of its views; 0 is the plain one.
    pub fn for_view(rules: Arc<RuleSet>, view: usize) -> Self {
        let program = Arc::new(Program::new(&rules, view));
        let rewritten = Rewritten::new(&program.fields);
        Self {
            rules,
            program,
            scratch: Scratch::default(),
            view,
            routed: true,
            plans: Vec::new(),
            by_source: HashMap::new(),
            shared: None,
            rewritten,
            better_plans: 0,
        }
    }

    /// Runs every rule on every event, whatever its logsource.
    #[must_use]
    pub fn unrouted(mut self) -> Self {
        self.routed = false;
        self
    }

    /// The rules it runs.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// How many plans were made so far: first ones, and those made anew once events were seen.
    pub fn plans_made(&self) -> (usize, usize) {
        (self.plans.len(), self.better_plans)
    }

    /// The fields that its rules ask for, by number.
    pub fn fields(&self) -> &[FieldPath] {
        &self.program.fields
    }

    /// Whether a rule asks for values wherever they are.
    pub fn asks_keywords(&self) -> bool {
        self.program.items.iter().any(|item| item.field.is_none())
    }

    /// Calls `sink` with the index of each detection rule that matches, in load order.
    pub fn detect(&mut self, event: &Event<'_>, sink: impl FnMut(usize)) {
        let plan = self.plan_for(&event.source);
        let mut rewritten = std::mem::take(&mut self.rewritten);
        let program = Arc::clone(&self.program);
        self.detect_facts(rewritten.of(event, &program.fields), plan, &event.source, sink);
        self.rewritten = rewritten;
    }

    /// As [`Engine::detect`], for an event that was not decoded into a tree; its fields are numbered as
    /// [`Engine::fields`], others may follow. False when it is not sure of the answer: the event must be
    /// decoded then.
    pub fn detect_facts(
        &mut self,
        facts: Facts<'_>,
        plan: PlanId,
        source: &EventSource,
        mut sink: impl FnMut(usize),
    ) -> bool {
        let (rules, view) = (&self.rules, self.view);
        let planned = &mut self.plans[plan.index];
        let Planned { plan: now, memo, .. } = planned;
        let outcome = self.program.run(facts, now, memo, &mut self.scratch, |rule| {
            if plan.own || admits(rules, view, rule, source) {
                sink(rule);
            }
        });
        planned.work += outcome.candidates as u64;
        planned.wait -= 1;
        if planned.wait == 0 {
            self.learn(facts, plan);
        }
        !outcome.unsure
    }

    /// The plan for a kind of source.
    pub fn plan_for(&mut self, source: &EventSource) -> PlanId {
        if !self.routed {
            return self.plan_for_all(true);
        }
        if let Some(plan) = self.by_source.get(source) {
            return *plan;
        }
        if self.by_source.len() >= PLANS_MAX {
            return self.plan_for_all(false);
        }
        let all = 0..self.rules.detections.len();
        let chosen = all.filter(|rule| admits(&self.rules, self.view, *rule, source));
        let plan = self.add_plan(chosen.map(|rule| rule as u32).collect(), true);
        self.by_source.insert(source.clone(), plan);
        plan
    }

    fn plan_for_all(&mut self, own: bool) -> PlanId {
        if let Some(plan) = self.shared {
            return plan;
        }
        let plan = self.add_plan((0..self.rules.detections.len() as u32).collect(), own);
        *self.shared.insert(plan)
    }

    fn add_plan(&mut self, chosen: Arc<[u32]>, own: bool) -> PlanId {
        let plan = self.program.first_plan(&chosen);
        let (plan, sample) = (Arc::new(plan), Sample::default());
        self.plans.push(Planned {
            plan,
            memo: Memo::default(),
            chosen,
            sample,
            work: 0,
            wait: 1,
            interval: 1,
        });
        PlanId { index: self.plans.len() - 1, own }
    }

    /// Looks at an event closely; after enough of them the plan is made anew.
    #[cold]
    fn learn(&mut self, facts: Facts<'_>, plan: PlanId) {
        let planned = &mut self.plans[plan.index];
        planned.wait = planned.interval;
        if planned.chosen.len() < LEARNING_RULES_MIN {
            planned.wait = u32::MAX;
            return;
        }
        let (texts, sample) = (&mut self.scratch.texts, &mut planned.sample);
        let fields = facts.view.touched().iter().copied();
        for field in fields.filter(|field| (*field as usize) < self.program.fields.len()) {
            for at in facts.view.values(field) {
                let text = texts.canonical(facts, at);
                sample.value(field, text.map_or(&[][..], |t| t.bytes()));
            }
        }
        sample.event(&facts.view.low[VIEW_PAD..VIEW_PAD + facts.record.len()]);
        if sample.events() < SAMPLE_EVENTS {
            return;
        }
        let sample = std::mem::take(&mut planned.sample);
        planned.interval = (planned.interval * SAMPLE_THINNING).min(SAMPLE_INTERVAL_MAX);
        planned.wait = planned.interval;
        // A new plan has to be worth what it costs.
        if planned.work < WORK_PER_RULE * planned.chosen.len() as u64 {
            return;
        }
        planned.work = 0;
        let rates = Rates::counted(&sample);
        let plan = self.program.plan(&planned.chosen, &rates);
        planned.plan = Arc::new(plan);
        planned.memo = Memo::default();
        self.better_plans += 1;
    }
}

/// Whether a rule, as the view sees it, is meant for such events.
fn admits(rules: &RuleSet, view: usize, rule: usize, source: &EventSource) -> bool {
    let seen = rules.detections[rule].seen(view);
    seen.is_some_and(|(logsource, _)| logsource.admits(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_source_beyond_the_limit_see_the_same_rules() {
        let rules = "title: one\nlogsource: {product: a}\ndetection: {s: {f: 1}, condition: s}\n---\n\
            title: two\nlogsource: {service: s7}\ndetection: {s: {f: 1}, condition: s}\n";
        let file: Arc<str> = "r.yml".into();
        let (rules, _) = RuleSet::compile([(&file, rules)]);
        let mut engine = Engine::new(Arc::new(rules));
        let mut hits = |product: &str, service: &str| {
            let body = serde_json::from_str(r#"{"f": 1}"#).expect("an event");
            let mut event = Event { body, ..Event::default() };
            event.source.add_product(product);
            event.source.add_service(service);
            event.source.settle();
            let mut hits = Vec::new();
            engine.detect(&event, |rule| hits.push(rule));
            hits
        };
        for n in 0..2 * PLANS_MAX {
            let (known, other) = (hits("a", &format!("x{n}")), hits("b", &format!("y{n}")));
            assert_eq!((known, other), (vec![0], vec![]), "{n}");
        }
        assert_eq!(hits("a", "s7"), [0, 1]);
        assert_eq!(hits("b", "s7"), [1]);
    }
}
