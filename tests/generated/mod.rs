//! Generated rules and events: what they are made of, how they are made, made small again, and the
//! faults that a test of them must notice.
//!
//! Everything follows from a seed. Rules go through their YAML, events through their JSON.

pub mod event;
pub mod fault;
pub mod items;
pub mod random;
pub mod rule;
pub mod shrink;

use std::collections::HashSet;
use std::sync::Arc;

use watchfire::detect::{Engine, reference};
use watchfire::event::Event;
use watchfire::rule::{RuleSet, Severity};

use event::{Draft, Texts};
use items::World;
use random::Random;
use rule::{Body, Condition, Filter, Item, Part, Rule, Selection};

/// Rules and events that meet each other.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub rules: Vec<Rule>,
    pub filters: Vec<Filter>,
    pub drafts: Vec<Draft>,
}

/// For each event the rules that match it, by index, in the order in which they were found.
pub type Answers = Vec<Vec<usize>>;

impl Case {
    /// A case of that many rules and events about the same few words.
    pub fn generate(random: &mut Random, rules: usize, events: usize) -> Self {
        let world = World::new(random);
        let rules: Vec<Rule> = (0..rules).map(|n| rule(random, &world, n)).collect();
        let filters = (0..random.below(3)).map(|n| filter(random, &world, &rules, n)).collect();
        let drafts = (0..events).map(|_| event::draft(random, &world, &rules)).collect();
        Self { rules, filters, drafts }
    }

    /// Compiles the rules.
    ///
    /// # Errors
    /// What is said of the first that does not compile, and its text.
    pub fn compile(&self) -> Result<Arc<RuleSet>, String> {
        let rules = self.rules.iter().map(|r| (r.title.as_str().into(), r.yaml()));
        let filters = self.filters.iter().map(|f| (f.title.as_str().into(), f.yaml()));
        let files: Vec<(Arc<str>, String)> = rules.chain(filters).collect();
        let texts = files.iter().map(|(file, text)| (file, text.as_str()));
        let (rules, diagnostics) = RuleSet::compile(texts);
        if let Some(wrong) = diagnostics.iter().find(|d| d.severity == Severity::Error) {
            let text = files.iter().find(|(file, _)| wrong.file.as_ref() == Some(file));
            return Err(format!("{wrong}\n{}", text.map(|(_, t)| t.as_str()).unwrap_or_default()));
        }
        assert_eq!(rules.detections.len(), self.rules.len(), "a rule is lost without a word");
        Ok(Arc::new(rules))
    }

    /// What the engine says. One engine sees all events, as it does in a worker.
    pub fn engine_answers(&self, rules: &Arc<RuleSet>) -> Answers {
        let mut engine = Engine::new(Arc::clone(rules));
        self.each_event(|event| {
            let mut found = Vec::new();
            engine.detect(event, |index| found.push(index));
            found
        })
    }

    /// What is true.
    pub fn true_answers(&self, rules: &RuleSet) -> Answers {
        self.each_event(|event| {
            let rules = rules.detections.iter().enumerate();
            let matching = rules.filter(|(_, rule)| {
                rule.logsource.admits(&event.source) && reference::matches(&rule.condition, event)
            });
            matching.map(|(index, _)| index).collect()
        })
    }

    fn each_event(&self, mut answer: impl FnMut(&Event<'_>) -> Vec<usize>) -> Answers {
        let texts: Vec<Texts> = self.drafts.iter().map(Draft::texts).collect();
        self.drafts.iter().zip(&texts).map(|(draft, texts)| answer(&draft.event(texts))).collect()
    }
}

const SOURCES: [[Option<&str>; 3]; 6] = [
    [Some("windows"), None, None],
    [Some("windows"), None, None],
    [Some("windows"), Some("process_creation"), None],
    [Some("linux"), None, Some("sshd")],
    [None, Some("process_creation"), None],
    [None, None, Some("auth")],
];

const NAMES: [&str; 5] = ["selection", "selection_b", "sel_c", "filter_main", "filter_x"];

fn rule(random: &mut Random, world: &World, number: usize) -> Rule {
    let title = format!("r{number}");
    let source = *random.pick(&SOURCES);
    if random.percent(50) {
        let item = items::item(random, world);
        let labels = item.labels.clone();
        let selections = vec![Selection { name: NAMES[0].into(), body: Body::Map(vec![item]) }];
        let conditions = vec![Condition::Name(NAMES[0].into())];
        return Rule { title, source, selections, conditions, labels };
    }
    let mut labels = Vec::new();
    let count = random.from(1, 4);
    let mut names = random.several(&NAMES, count);
    if random.percent(10) {
        names.push("_hidden");
    }
    let selections: Vec<Selection> =
        names.iter().map(|name| selection(random, world, name, &mut labels)).collect();
    let mut conditions = vec![condition(random, &names, 2, &mut labels)];
    if random.percent(8) {
        conditions.push(condition(random, &names, 1, &mut labels));
        labels.push("list of conditions");
    }
    Rule { title, source, selections, conditions, labels }
}

fn selection(
    random: &mut Random,
    world: &World,
    name: &str,
    labels: &mut Vec<&'static str>,
) -> Selection {
    let body = match random.below(10) {
        0 => {
            labels.push("list of maps");
            let maps = (0..2).map(|_| Part::Map(map(random, world, 2)));
            Body::List(maps.collect())
        }
        1 => {
            labels.push("list of keywords");
            let words = (0..random.from(1, 3)).map(|_| items::keyword(random, world));
            Body::List(words.map(|(word, bait)| Part::Word(word, bait)).collect())
        }
        2 => {
            labels.push("list of both");
            let (word, bait) = items::keyword(random, world);
            Body::List(vec![Part::Word(word, bait), Part::Map(map(random, world, 1))])
        }
        3 => {
            let item = items::keywords(random, world);
            labels.extend(item.labels.last());
            Body::Map(vec![item])
        }
        _ => Body::Map(map(random, world, 2)),
    };
    Selection { name: name.to_owned(), body }
}

/// Items of which no two have the same key.
fn map(random: &mut Random, world: &World, most: usize) -> Vec<Item> {
    let mut keys = HashSet::new();
    let items: Vec<Item> = (0..random.from(1, most)).map(|_| items::item(random, world)).collect();
    items.into_iter().filter(|item| keys.insert(item.key())).collect()
}

fn condition(
    random: &mut Random,
    names: &[&str],
    depth: usize,
    labels: &mut Vec<&'static str>,
) -> Condition {
    let kind = if depth == 0 { 0 } else { random.below(9) };
    let parts = |random: &mut Random, labels: &mut Vec<&'static str>| {
        (0..2).map(|_| condition(random, names, depth - 1, labels)).collect()
    };
    match kind {
        0 | 1 => Condition::Name((*random.pick(names)).to_owned()),
        2 => {
            labels.push("not");
            Condition::Not(Box::new(condition(random, names, depth - 1, labels)))
        }
        3 | 4 => {
            labels.push("and");
            Condition::And(parts(random, labels))
        }
        5 => {
            labels.push("or");
            Condition::Or(parts(random, labels))
        }
        6 if names.iter().any(|n| n.starts_with("filter")) && names.len() > 1 => {
            labels.push("and not of");
            let quantifier = if random.percent(50) { "1" } else { "any" };
            let none = Condition::Of(quantifier, "filter_*".to_owned());
            let name = Condition::Name((*random.pick(names)).to_owned());
            Condition::And(vec![name, Condition::Not(Box::new(none))])
        }
        _ => quantified(random, names, labels),
    }
}

fn quantified(random: &mut Random, names: &[&str], labels: &mut Vec<&'static str>) -> Condition {
    let shown = names.iter().filter(|n| !n.starts_with('_')).count();
    let (label, quantifier) = match random.below(if shown > 1 { 4 } else { 3 }) {
        0 => ("1 of", "1"),
        1 => ("any of", "any"),
        2 => ("all of", "all"),
        _ => ("2 of", "2"),
    };
    labels.push(label);
    let prefix: String = random.pick(names).chars().take(3).collect();
    let pattern = match random.below(3) {
        _ if quantifier == "2" => "them".to_owned(),
        0 => "them".to_owned(),
        1 => format!("{prefix}*"),
        _ => format!("{}*{}", &prefix[..1], &prefix[2..]) + "*",
    };
    Condition::Of(quantifier, pattern)
}

fn filter(random: &mut Random, world: &World, rules: &[Rule], number: usize) -> Filter {
    let some = random.percent(60);
    let named = if some { random.several(rules, 1 + rules.len() / 8) } else { Vec::new() };
    let product = if some { None } else { Some("linux") };
    let selection = selection(random, world, "selection", &mut Vec::new());
    let rules = named.into_iter().map(|r| r.title).collect();
    Filter { title: format!("f{number}"), product, rules, selection }
}
