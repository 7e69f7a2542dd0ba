//! Events with times through both stages, in several orders of arrival: the alerts must be the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfire::correlate::{Finding, Fold, FoldOptions, Match, Offered, Updates};
use watchfire::decimal::Decimal;
use watchfire::ids::Coordinate;
use watchfire::pipeline::{Filter, FilterOutput, Record};
use watchfire::rule::RuleSet;
use watchfire::time::{Timestamp, parse_duration};

use super::format::{Events, Expect};
use super::{Wrong, decoder};

/// An event's matches, and when and where it happened.
struct Arrival {
    micros: i64,
    late: bool,
    matches: Vec<Match>,
}

/// Compares the alerts of a block of events with those that are expected.
pub fn correlate(
    line: usize,
    rules: &Arc<RuleSet>,
    events: &Events,
    expect: &[String],
    wrong: &mut Wrong,
) {
    let mut filter = Filter::new(Arc::clone(rules), decoder(events));
    let mut out = FilterOutput::default();
    let mut arrivals = Vec::new();
    for (offset, event) in (0..).zip(&events.lines) {
        let Expect::At { micros, partition, late } = event.expect else {
            return wrong.push((event.line, "expected a time before the event".into()));
        };
        let at = Coordinate { topic: "spec".into(), partition, offset };
        let record = Record {
            at: &at,
            headers: &[],
            payload: Some(event.json.as_bytes()),
            timestamp: Some(Timestamp(micros)),
            reference: Timestamp(micros),
            now: None,
        };
        filter.record(&record, &mut out);
        let matches = out.matches.drain(..).map(|m| m.unpack(rules, at.clone())).collect();
        arrivals.push(Arrival { micros, late, matches });
    }
    let single = out.alerts.iter().map(|a| format!("{} {}", seconds(a.time.0), a.rule));
    let single: Vec<String> = single.collect();
    let lateness = events.about.iter().find(|(name, _)| name == "lateness");
    let lateness = lateness.map(|(_, text)| parse_duration(text).expect("a duration"));
    let span = 400 * 86_400 * 1_000_000;
    let orders = match lateness {
        Some(lateness) => vec![("as written", arrivals.iter().collect(), lateness)],
        None => orders(&arrivals, span),
    };
    let mut expect = expect.to_vec();
    expect.sort();
    for (name, order, lateness) in orders {
        let mut found = single.clone();
        match fold(rules, &order, lateness) {
            Ok(alerts) => found.extend(alerts),
            Err(e) => wrong.push((line, format!("{name}: {e}"))),
        }
        found.sort();
        if found != expect {
            wrong.push((line, format!("arriving {name}: expected {expect:?}, found {found:?}")));
        }
    }
}

/// Orders of arrival, each with a lateness within which it lies.
fn orders(arrivals: &[Arrival], span: i64) -> Vec<(&'static str, Vec<&Arrival>, i64)> {
    let written: Vec<&Arrival> = arrivals.iter().collect();
    let mut sorted = written.clone();
    sorted.sort_by_key(|a| a.micros);
    let reversed = sorted.iter().rev().copied().collect();
    let (even, odd): (Vec<_>, Vec<_>) = (0..written.len()).partition(|i| i % 2 == 0);
    let halves = odd.into_iter().chain(even).map(|i| written[i]).collect();
    vec![
        ("as written", written, span),
        ("in the order of time", sorted, 0),
        ("backwards", reversed, span),
        ("every second event first", halves, span),
    ]
}

/// The alerts as `tests/spec/README.md` writes them. Each is reported once, and with revisions as
/// often as it grows; both must tell the same story.
fn fold(rules: &Arc<RuleSet>, order: &[&Arrival], lateness: i64) -> Result<Vec<String>, String> {
    let run = |updates: Updates| {
        let options = FoldOptions { updates, ..FoldOptions::default() };
        let mut fold = Fold::new(Arc::clone(rules), options);
        let (mut found, mut latest) = (Vec::new(), i64::MIN);
        for arrival in order {
            if arrival.late && arrival.matches.is_empty() {
                return Err(format!("at {}: `late` on a quiet event", seconds(arrival.micros)));
            }
            for event in &arrival.matches {
                let taken = fold.offer(event.clone(), &mut found) == Offered::Taken;
                if taken == arrival.late {
                    return Err(format!("at {}: late or not", seconds(arrival.micros)));
                }
            }
            latest = latest.max(arrival.micros);
            fold.advance(Timestamp(latest.saturating_sub(lateness)), &mut found);
        }
        fold.finish(&mut found);
        match (fold.groups(), fold.waiting()) {
            (0, 0) => Ok(found),
            left => Err(format!("{left:?} groups and events are left at the end")),
        }
    };
    let (once, grown) = (run(Updates::None)?, run(Updates::All)?);
    let key = |f: &Finding| (f.rule, f.group.clone(), f.episode.began);
    let last: BTreeMap<_, Decimal> = grown.iter().map(|f| (key(f), f.episode.value)).collect();
    let first = grown.iter().filter(|f| f.episode.revision == 1);
    if !first.eq(&once) {
        return Err("with revisions the first reports are others".into());
    }
    let alerting = once.iter().filter(|f| rules.correlations[f.rule].alerts);
    Ok(alerting.map(|f| describe(rules, f, last[&key(f)])).collect())
}

fn describe(rules: &RuleSet, finding: &Finding, last: Decimal) -> String {
    let rule = &rules.correlations[finding.rule];
    let episode = &finding.episode;
    let mut text = format!("{} {}", seconds(episode.time().0), rule.header.id);
    for (field, value) in rule.group_by.iter().zip(&finding.group.0) {
        let value = value.as_deref().unwrap_or("none");
        text += &format!(" {}={value}", field.as_str());
    }
    text += &format!(" value {}", episode.value);
    if last != episode.value {
        text += &format!(" to {last}");
    }
    text + &format!(" from {}", seconds(episode.start.0))
}

fn seconds(micros: i64) -> String {
    format!("{}s", micros as f64 / 1e6)
}
