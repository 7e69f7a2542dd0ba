//! The two engines that run in this process: ours and the crate `rsigma-eval`.

use std::collections::HashMap;
use std::sync::Arc;

use rsigma_eval::LogSourceExtractor;
use rsigma_eval::event::JsonEvent;
use watchfire::event::{Event, EventSource, Object};
use watchfire::rule::RuleSet;

use crate::corpus::RuleFile;

/// Rules that an engine does not take, by number, with its reason.
pub type Refused = HashMap<usize, String>;

/// Whether rules see only events of their logsource.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Every rule sees every event.
    Off,
    /// The members `product`, `category` and `service` of an event are its logsource.
    ByFields,
}

/// Watchfire.
pub struct Ours {
    engine: watchfire::detect::Engine,
    numbers: Vec<usize>,
    routing: Routing,
    /// What it does not take.
    pub refused: Refused,
}

impl Ours {
    /// Compiles all rules.
    pub fn new(rules: &[RuleFile], routing: Routing) -> Self {
        let number: HashMap<Arc<str>, usize> =
            rules.iter().enumerate().map(|(i, r)| (Arc::clone(&r.name), i)).collect();
        let (set, diagnostics) = RuleSet::compile(rules.iter().map(|r| (&r.name, r.text.as_str())));
        let numbers: Vec<usize> = set.detections.iter().map(|d| number[&d.header.file]).collect();
        let mut refused: Refused =
            (0..rules.len()).map(|i| (i, "no detection rule in it".to_owned())).collect();
        numbers.iter().for_each(|n| drop(refused.remove(n)));
        for diagnostic in diagnostics {
            let n = diagnostic.file.as_ref().map(|f| number[f]);
            if let Some(reason) = n.and_then(|n| refused.get_mut(&n)) {
                *reason = format!("{}: {}", diagnostic.code.as_str(), diagnostic.message);
            }
        }
        Self { engine: watchfire::detect::Engine::new(Arc::new(set)), numbers, routing, refused }
    }

    /// The numbers of the rules that match the event, sorted.
    ///
    /// # Errors
    /// Text that is no JSON object.
    pub fn hits(&mut self, line: &str) -> Result<Vec<usize>, serde_json::Error> {
        let body: Object<'_> = serde_json::from_str(line)?;
        let mut event = Event { body, ..Event::default() };
        if self.routing == Routing::ByFields {
            event.source = source(&event);
        }
        let mut hits = Vec::new();
        self.engine.detect(&event, |rule| hits.push(self.numbers[rule]));
        hits.sort_unstable();
        Ok(hits)
    }
}

fn source(event: &Event<'_>) -> EventSource {
    let text = |name: &str| event.body.get(name).and_then(|v| v.text());
    let mut source = EventSource::default();
    text("product").iter().for_each(|n| source.add_product(n));
    text("category").iter().for_each(|n| source.add_category(n));
    text("service").iter().for_each(|n| source.add_service(n));
    source
}

/// The crate `rsigma-eval`.
pub struct Rsigma {
    engine: rsigma_eval::Engine,
    number: HashMap<String, usize>,
    /// What it does not take.
    pub refused: Refused,
}

impl Rsigma {
    /// Compiles all rules.
    pub fn new(rules: &[RuleFile], routing: Routing) -> Self {
        let mut parsed = Vec::with_capacity(rules.len());
        let mut refused = Refused::new();
        let mut number = HashMap::new();
        for (i, file) in rules.iter().enumerate() {
            number.insert(file.name.to_string(), i);
            match parse(file) {
                Ok(rule) => parsed.push((i, rule)),
                Err(reason) => drop(refused.insert(i, reason)),
            }
        }
        let mut engine = rsigma_eval::Engine::new();
        if routing == Routing::ByFields {
            engine.set_logsource_extractor(Some(LogSourceExtractor::new()));
        }
        for (place, error) in engine.add_rules(parsed.iter().map(|(_, rule)| rule)) {
            refused.insert(parsed[place].0, error.to_string());
        }
        Self { engine, number, refused }
    }

    /// The numbers of the rules that match the event, sorted.
    ///
    /// # Errors
    /// Text that is no JSON.
    pub fn hits(&self, line: &str) -> Result<Vec<usize>, serde_json::Error> {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let found = self.engine.evaluate(&JsonEvent::borrow(&value));
        let ids = found.iter().filter_map(|result| result.header.rule_id.as_ref());
        let mut hits: Vec<usize> = ids.map(|id| self.number[id]).collect();
        hits.sort_unstable();
        Ok(hits)
    }
}

/// The one rule of a file, with the file's name for its id, so that its hits find back to it.
fn parse(file: &RuleFile) -> Result<rsigma_parser::SigmaRule, String> {
    let mut found = rsigma_parser::parse_sigma_yaml(&file.text).map_err(|e| e.to_string())?;
    match (found.rules.pop(), found.rules.len(), found.errors.first()) {
        (Some(mut rule), 0, None) => {
            rule.id = Some(file.name.to_string());
            Ok(rule)
        }
        (_, _, Some(error)) => Err(error.clone()),
        (None, _, None) => Err("no detection rule in it".to_owned()),
        (Some(_), more, None) => Err(format!("{} rules in one file", more + 1)),
    }
}
