//! What must have come of a run: the pure pipeline over the source log, without faults, and what of it was
//! reported lost or late left out. Everything is compared by its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use watchfire::ids::Coordinate;
use watchfire::pipeline::{
    Correlate, CorrelateOutput, Filter, FilterOutput, Marker, Message, Progressed, Record,
};
use watchfire::time::Timestamp;
use watchfire::window::Progress;

use super::batch::Entry;
use super::plan::Plan;
use super::setup::{DECODER, RULE_SET, SOURCE, fold_options};

/// What the first stage must make of the source.
pub struct Expected {
    /// By the source record: alerts with their ids; the body where it does not depend on the time of
    /// reading.
    pub alerts: Vec<(Place, String, Option<Vec<u8>>)>,
    pub matches: Vec<(Place, Vec<u8>)>,
    pub rejects: Vec<(Place, String)>,
    pub quiet: usize,
}

/// Partition and offset of a source record.
pub type Place = (i32, i64);

/// What was published.
#[derive(Default)]
pub struct Published {
    /// Key and body of each alert but those about lost records.
    pub alerts: Vec<(String, Vec<u8>)>,
    /// Lost ranges as reported: partition, from, to.
    pub gaps: Vec<(i32, i64, i64)>,
    pub matches: Vec<Vec<u8>>,
    pub rejects: Vec<String>,
    pub late: Vec<Vec<u8>>,
}

/// Runs the first stage over all that was ever written.
pub fn expected(sources: &[Vec<Entry>]) -> Expected {
    let mut filter = Filter::for_view(Arc::clone(&RULE_SET), Arc::clone(&DECODER), 0);
    let mut expected = Expected { alerts: vec![], matches: vec![], rejects: vec![], quiet: 0 };
    for (partition, log) in sources.iter().enumerate() {
        for entry in log {
            let place = (partition as i32, entry.offset);
            let at = Coordinate { topic: SOURCE.into(), partition: place.0, offset: place.1 };
            let written = Timestamp::from_millis(entry.time_ms);
            let record = Record {
                at: &at,
                payload: entry.payload.as_deref(),
                headers: &[],
                timestamp: Some(written),
                reference: written,
                now: Some(written),
            };
            let mut out = FilterOutput::default();
            filter.record(&record, &mut out);
            expected.quiet += out.counts.quiet as usize;
            for alert in out.alerts {
                let body = (out.counts.skewed == 0).then(|| alert.body.to_vec());
                expected.alerts.push((place, alert.id.to_string(), body));
            }
            let matches = out.matches.iter().map(|m| m.unpack(&RULE_SET, at.clone()));
            expected.matches.extend(matches.map(|m| (place, Message::Match(m).encode())));
            expected.rejects.extend(out.rejects.iter().map(|r| (place, r.at.to_string())));
        }
    }
    expected
}

/// Alerts of the second stage for these matches, in whatever order they came.
fn correlated(plan: &Plan, matches: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let mut correlate = Correlate::new(Arc::clone(&RULE_SET), fold_options(plan));
    let mut out = CorrelateOutput::default();
    for bytes in matches {
        correlate.record(0, Message::decode(bytes).unwrap(), &mut out);
    }
    let topic: Arc<str> = SOURCE.into();
    let far = Timestamp(i64::MAX / 2);
    let end = Progressed {
        topic: Arc::clone(&topic),
        partition: 0,
        progress: Progress::Active(far),
        at: far,
    };
    correlate.record(
        0,
        Message::Marker(Marker { topics: vec![(topic, 1)], progress: vec![end] }),
        &mut out,
    );
    assert!(out.late.is_empty());
    out.alerts.into_iter().map(|a| (a.id.to_string(), a.body.to_vec())).collect()
}

/// What is wrong, if anything. `lost` are the records that were gone when a commit passed them, `unseen`
/// those that were gone before there was a position.
pub fn wrong(
    plan: &Plan,
    all: &Expected,
    found: &Published,
    lost: &BTreeSet<Place>,
    unseen: &BTreeSet<Place>,
) -> Option<String> {
    // 1. Lost records are reported exactly, once.
    let mut reported = BTreeSet::new();
    for &(partition, from, to) in &found.gaps {
        for offset in from..to {
            if !reported.insert((partition, offset)) {
                return Some(format!("loss of {partition}/{offset} was reported twice"));
            }
        }
    }
    // A worker that had begun before there was a position may know of more than the positions say.
    if !lost.is_subset(&reported)
        || !reported.iter().all(|p| lost.contains(p) || unseen.contains(p))
    {
        return Some(format!("lost: {lost:?}; reported as lost: {reported:?}"));
    }
    // 2. All others are matched, alerted and rejected exactly once.
    let kept = |place: &Place| !lost.contains(place) && !unseen.contains(place);
    let matches: Vec<Vec<u8>> =
        all.matches.iter().filter(|(p, _)| kept(p)).map(|(_, m)| m.clone()).collect();
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    if let Some(what) = differ("match", matches.iter().map(text), found.matches.iter().map(text)) {
        return Some(what);
    }
    let rejects = all.rejects.iter().filter(|(p, _)| kept(p)).map(|(_, r)| r.clone());
    if let Some(what) = differ("reject", rejects, found.rejects.iter().cloned()) {
        return Some(what);
    }
    // 3. What is late is late once, and was matched; the others make the alerts.
    if !plan.may_be_late && !found.late.is_empty() {
        return Some(format!("late without a reason: {}", text(&found.late[0])));
    }
    let mut used = matches;
    for late in &found.late {
        match used.iter().position(|m| m == late) {
            Some(at) => drop(used.swap_remove(at)),
            None => return Some(format!("late twice, or never matched: {}", text(late))),
        }
    }
    let bodiless: BTreeSet<&str> =
        all.alerts.iter().filter(|(_, _, b)| b.is_none()).map(|(_, id, _)| &**id).collect();
    let shown = |id: &str, body: &[u8]| match bodiless.contains(id) {
        true => id.to_owned(),
        false => format!("{id} {}", String::from_utf8_lossy(body)),
    };
    let alone = all.alerts.iter().filter(|(p, _, _)| kept(p));
    let alone = alone.map(|(_, id, body)| shown(id, body.as_deref().unwrap_or_default()));
    let together = correlated(plan, &used);
    let together = together.iter().map(|(id, body)| shown(id, body));
    differ("alert", alone.chain(together), found.alerts.iter().map(|(id, body)| shown(id, body)))
}

/// The first difference between what is to be there and what is, how often too.
fn differ(
    what: &str,
    expected: impl Iterator<Item = String>,
    found: impl Iterator<Item = String>,
) -> Option<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    expected.for_each(|one| *counts.entry(one).or_default() += 1);
    found.for_each(|one| *counts.entry(one).or_default() -= 1);
    let (one, n) = counts.into_iter().find(|(_, n)| *n != 0)?;
    let how = if n > 0 { "missing" } else { "too much" };
    Some(format!("{what}: {} {how}: {one}", n.abs()))
}
