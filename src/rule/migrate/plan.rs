//! What is to be done with one document: nothing, a conversion, or a reason why not.

use super::aggregation::{self, Aggregation};
use super::source::Source;
use super::{Reason, Refusal};
use crate::rule::diagnostic::Place;
use crate::rule::yaml::{Node, Yaml};
use crate::time::parse_duration;

/// A document that can be converted.
#[derive(Debug)]
pub struct Plan<'s> {
    /// The condition as it is written.
    pub condition: &'s str,
    /// The node that holds it.
    pub condition_node: &'s Node,
    /// Its part before the `|`.
    pub search: &'s str,
    /// Its part behind.
    pub aggregation: Aggregation<'s>,
    /// Length of the window, as written.
    pub window: String,
    /// `timeframe:`; without it the window was given from outside.
    pub timeframe: Option<&'s Node>,
}

/// Looks at a document; `None` when there is nothing of Sigma 1 in it.
///
/// # Errors
/// Why it cannot be converted.
pub fn plan<'s>(source: &'s Source, window: Option<&str>) -> Result<Option<Plan<'s>>, Refusal> {
    let Some(detection) = source.node.get("detection") else { return Ok(None) };
    let timeframe = detection.get("timeframe");
    let condition_node = match detection.get("condition") {
        Some(node) => match &node.value {
            Yaml::Seq(items) if items.len() == 1 => &items[0],
            Yaml::Seq(items) => return several(source, items, timeframe),
            _ => node,
        },
        None => return Ok(None),
    };
    let Some(condition) = condition_node.as_str() else { return Ok(None) };
    let start = source.scalar(condition_node, condition);
    let place = |at: usize| {
        let mut place = source.in_file(condition_node.place);
        if let Some((line, bytes)) = &start {
            // The quote, if there is one, is no part of the condition.
            let before = source.lines[*line].text[..bytes.start].chars().count();
            place.column += before + 1 - condition_node.place.column + at;
        }
        place
    };
    let read = aggregation::parse(condition)
        .map_err(|fault| Refusal::at(fault.reason, place(fault.at), fault.what))?;
    let Some(aggregation) = read.aggregation else {
        return timeframe.map_or(Ok(None), |node| Err(alone(source, node)));
    };
    if start.is_none() {
        let what = "the condition does not have one line to itself";
        return Err(Refusal::at(Reason::Layout, place(0), what)
            .help("write it on a line of its own, without escapes"));
    }
    let bar = condition.chars().take_while(|c| *c != '|').count();
    let window = length(source, timeframe, window, place(bar))?;
    let search = read.search;
    Ok(Some(Plan { condition, condition_node, search, aggregation, window, timeframe }))
}

/// A list of conditions: each would need a rule of its own.
fn several<'s>(
    source: &Source,
    items: &[Node],
    timeframe: Option<&Node>,
) -> Result<Option<Plan<'s>>, Refusal> {
    let piped = items.iter().find(|n| n.as_str().is_some_and(|t| t.contains('|')));
    match (piped, timeframe) {
        (Some(node), _) => {
            let what = "a list of conditions with an aggregation is several rules in one";
            Err(Refusal::at(Reason::SeveralConditions, source.in_file(node.place), what)
                .help("write a rule for each condition"))
        }
        (None, Some(node)) => Err(alone(source, node)),
        (None, None) => Ok(None),
    }
}

fn alone(source: &Source, timeframe: &Node) -> Refusal {
    let what = "a `timeframe` without an aggregation: what should happen within it is not said";
    Refusal::at(Reason::TimeframeAlone, source.in_file(timeframe.place), what)
        .help("remove it if one event is enough, else write a `temporal` correlation of two rules")
}

/// The window: that of the rule, else the one given.
fn length(
    source: &Source,
    timeframe: Option<&Node>,
    given: Option<&str>,
    aggregation: Place,
) -> Result<String, Refusal> {
    let Some(node) = timeframe else {
        return given.map(str::to_owned).ok_or_else(|| {
            let what = "the aggregation has no `timeframe`, and Sigma names none to assume";
            Refusal::at(Reason::NoWindow, aggregation, what)
                .help("add `timeframe: 1h` to the detection, or `--window 1h` for all such rules")
        });
    };
    let text = node.scalar_text().unwrap_or_default();
    let refuse = |why: String| {
        let what = format!("the timeframe cannot be a timespan: {why}");
        Refusal::at(Reason::Timeframe, source.in_file(node.place), what)
    };
    match parse_duration(&text) {
        Ok(0) => Err(refuse(format!("`{text}` is no time at all"))),
        Ok(_) => Ok(text),
        Err(e) => Err(refuse(e.to_string())),
    }
}
