//! The first stage at work: sources → alerts, matches, dead letters, markers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shared::{Shared, Unreported};
use super::stage::{Assigned, Entry, Run, Stage};
use crate::alert::{self, Gap};
use crate::bus::{self, BusError, Outbox, Outgoing, Place, Stats};
use crate::config::Start;
use crate::decode::Decoder;
use crate::ids::Coordinate;
use crate::limits::FRONTIER_RECORDS;
use crate::pipeline::{Bundles, Filter, FilterOutput, Marker, Message, Progressed, Record};
use crate::sink::{send_alert, send_reject};
use crate::time::Timestamp;
use crate::window::{PartitionClock, Progress};

/// A source as it runs.
#[derive(Clone)]
pub struct SourceSpec {
    /// Its topic.
    pub topic: Arc<str>,
    /// How its records are decoded.
    pub decoder: Arc<Decoder>,
    /// How it sees the rules: 0 without processing pipelines.
    pub view: usize,
    /// How late events may be, microseconds.
    pub lateness: i64,
    /// Where to begin without a position.
    pub start: Start,
    /// How long the topic keeps records, milliseconds.
    pub retention_ms: Option<i64>,
}

struct SourceState {
    spec: SourceSpec,
    filter: Filter,
    /// Events whose clock turned out to be wrong, since the last publication.
    skewed: u64,
    /// Events that were decoded into a tree.
    decoded: u64,
    /// Records and bytes since the last publication.
    read: (u64, u64),
}

#[derive(Default)]
struct PartitionState {
    clock: PartitionClock,
    /// Kafka's time of the last record read.
    written_at: Option<Timestamp>,
    /// What the last marker said of it, as of when.
    said: Option<(Progress, Timestamp)>,
}

/// The first stage of one worker.
pub struct FilterStage {
    shared: Arc<Shared>,
    number: usize,
    sources: BTreeMap<Arc<str>, SourceState>,
    partitions: BTreeMap<Place, PartitionState>,
    found: Found,
    marked_at: Timestamp,
}

/// What the filters gave, and its way out.
struct Found {
    shared: Arc<Shared>,
    output: FilterOutput,
    /// Matches that go out with the epoch.
    bundles: Bundles,
    unreported: Unreported,
}

impl Found {
    /// Sends what the last record of a source brought about; true if that was anything.
    fn flush(
        &mut self,
        spec: &SourceSpec,
        at: &Coordinate,
        out: &mut impl Outbox,
    ) -> Result<bool, BusError> {
        let output = &mut self.output;
        if output.alerts.is_empty() && output.matches.is_empty() && output.rejects.is_empty() {
            return Ok(false);
        }
        let Shared { rules, topics, metrics, matches_partitions, .. } = &*self.shared;
        for alert in output.alerts.drain(..) {
            send_alert(out, &topics.alerts, &alert)?;
            self.unreported.alert(&alert);
        }
        for event in output.matches.drain(..) {
            let family = &rules.families[event.family as usize];
            if family.is_alike {
                self.bundles.add(event, at, *matches_partitions);
                continue;
            }
            let partition = event.partition(family, *matches_partitions);
            let value = Message::Match(event.unpack(rules, at.clone())).encode();
            send_to(out, &topics.matches, partition, &value)?;
        }
        for rejected in output.rejects.drain(..) {
            send_reject(out, &topics.dead_letters, &rejected)?;
            let reason = rejected.reject.code.as_str();
            let format = spec.decoder.format.as_str();
            metrics.parse_errors.add([&spec.topic, format, reason], 1);
            metrics.dead_letters.add([&spec.topic, reason], 1);
        }
        if self.bundles.is_full() {
            self.send_bundles(out)?;
        }
        Ok(true)
    }

    fn send_bundles(&mut self, out: &mut impl Outbox) -> Result<(), BusError> {
        let matches = &self.shared.topics.matches;
        for (partition, message) in self.bundles.take() {
            send_to(out, matches, partition, &message.encode())?;
        }
        Ok(())
    }
}

impl FilterStage {
    /// For worker `number`.
    pub fn new(shared: &Arc<Shared>, number: usize) -> Self {
        let state = |spec: &SourceSpec| SourceState {
            filter: Filter::for_view(
                Arc::clone(&shared.rules),
                Arc::clone(&spec.decoder),
                spec.view,
            ),
            spec: spec.clone(),
            skewed: 0,
            decoded: 0,
            read: (0, 0),
        };
        Self {
            sources: shared.sources.iter().map(|s| (Arc::clone(&s.topic), state(s))).collect(),
            shared: Arc::clone(shared),
            number,
            partitions: BTreeMap::new(),
            found: Found {
                shared: Arc::clone(shared),
                output: FilterOutput::default(),
                bundles: Bundles::new(Arc::clone(&shared.rules)),
                unreported: Unreported::default(),
            },
            marked_at: Timestamp::MIN,
        }
    }

    /// Publishes what was counted since the last time.
    fn publish_counts(&mut self) {
        let counts = std::mem::take(&mut self.found.output.counts);
        let rules = &self.shared.rules;
        let metrics = &self.shared.metrics;
        let mut hits: BTreeMap<usize, u64> = BTreeMap::new();
        for hit in self.found.output.detections.drain(..) {
            *hits.entry(hit.rule).or_default() += 1;
        }
        for (rule, n) in hits {
            metrics.rule_matches.add([&rules.detections[rule].header.id.0], n);
        }
        for (topic, source) in &mut self.sources {
            let (records, bytes) = std::mem::take(&mut source.read);
            metrics.events_consumed.add([topic], records);
            metrics.bytes_consumed.add([topic], bytes);
            metrics.events_skewed.add([topic], std::mem::take(&mut source.skewed));
            metrics.events_decoded.add([topic], std::mem::take(&mut source.decoded));
        }
        for (member, n) in &counts.missing_field {
            let id = &rules.correlations[*member].header.id.0;
            metrics.correlation_dropped.add([id, "missing_field"], *n);
        }
        for (id, n) in rules.take_regex_overruns() {
            metrics.rule_errors.add([&id.0, "regex_steps"], n);
        }
    }

    /// What there is to say about event time that has not been said yet.
    fn marker(&mut self) -> Option<Marker> {
        let mut news = Vec::new();
        for ((topic, partition), state) in &mut self.partitions {
            let lateness = self.sources.get(topic).map_or(0, |s| s.spec.lateness);
            let known = state.said;
            state.said = state.clock.progress(lateness);
            let Some((progress, at)) = state.said.filter(|_| state.said != known) else { continue };
            let (topic, partition) = (Arc::clone(topic), *partition);
            news.push(Progressed { topic, partition, progress, at });
        }
        if news.is_empty() {
            return None;
        }
        Some(Marker { topics: self.shared.partition_counts(), progress: news })
    }
}

/// Sends what the other stage reads.
fn send_to(
    out: &mut impl Outbox,
    topic: &str,
    partition: i32,
    value: &[u8],
) -> Result<(), BusError> {
    let (partition, payload) = (Some(partition), Some(value));
    Ok(out.send(Outgoing { topic, partition, key: &[], payload, headers: &[] })?)
}

/// The headers that the decoder looks at; most look at none.
fn headers<'m>(message: &'m impl bus::Record, decoder: &Decoder) -> Vec<(&'m str, &'m [u8])> {
    if decoder.headers().next().is_none() {
        return Vec::new();
    }
    let wanted = |(key, value)| Some((key, value?));
    let named = |header: &(&str, _)| decoder.headers().any(|name| name == header.0);
    message.headers().filter(named).filter_map(wanted).collect()
}

impl Stage for FilterStage {
    const NAME: &'static str = "filter";

    fn topics(&self) -> Vec<String> {
        self.sources.keys().map(|t| t.to_string()).collect()
    }

    fn start(&self, topic: &str) -> Start {
        self.sources.get(topic).map_or(Start::Earliest, |s| s.spec.start)
    }

    fn assign(&mut self, partition: &Assigned, out: &mut impl Outbox) -> Result<(), BusError> {
        let (topic, number) = &partition.place;
        if let Some((from, to)) = partition.beginning.lost {
            let held = self.partitions.contains_key(&partition.place);
            let gap = Gap {
                topic: topic.to_string(),
                partition: *number,
                from,
                to,
                detected_by: if held { "running" } else { "assignment" },
                time: self.shared.now(),
            };
            send_alert(out, &self.shared.topics.alerts, &alert::of_gap(&gap))?;
            self.found.unreported.gap(gap);
        }
        self.partitions.entry(partition.place.clone()).or_default();
        Ok(())
    }

    /// Whoever read the partition before may not have said yet how far event time had come.
    fn enter(&mut self, partition: &Assigned, _out: &mut impl Outbox) -> Result<Entry, BusError> {
        let published = partition.beginning.offset;
        let from = (published - FRONTIER_RECORDS).max(partition.bounds.offset_low).min(published);
        Ok(Entry { from, published })
    }

    fn revoke(&mut self, place: &Place) {
        self.partitions.remove(place);
    }

    fn run<R: bus::Record>(
        &mut self,
        run: Run<'_, R>,
        out: &mut impl Outbox,
    ) -> Result<usize, BusError> {
        let (topic, partition) = run.place;
        let source = self.sources.get_mut(topic);
        let state = self.partitions.get_mut(run.place);
        let (Some(source), Some(state)) = (source, state) else { return Ok(run.records.len()) };
        let mut at = Coordinate { topic: Arc::clone(topic), partition: *partition, offset: 0 };
        let mut taken = 0;
        // What comes of records that are looked at again.
        let mut known = FilterOutput::default();
        for message in run.records {
            at.offset = message.offset();
            let payload = message.payload();
            let written_at = message.written_at();
            let record = Record {
                at: &at,
                payload,
                headers: &headers(message, &source.spec.decoder),
                timestamp: written_at,
                reference: run.now,
                now: Some(run.now),
            };
            let output = if run.restoring { &mut known } else { &mut self.found.output };
            let time = source.filter.record(&record, output);
            state.written_at = written_at;
            let skewed = time.is_some_and(|t| state.clock.observe(t, run.now));
            taken += 1;
            if run.restoring {
                continue;
            }
            source.skewed += u64::from(skewed);
            source.read.0 += 1;
            source.read.1 += payload.map_or(0, <[u8]>::len) as u64;
            if self.found.flush(&source.spec, &at, out)? && out.is_full() {
                break;
            }
        }
        source.skewed += std::mem::take(&mut self.found.output.counts.skewed);
        source.decoded += std::mem::take(&mut self.found.output.counts.decoded);
        Ok(taken)
    }

    fn observe(&mut self, stats: &Stats, next: &BTreeMap<Place, i64>) {
        let now = self.shared.now();
        for (place, at) in next {
            let Some(stats) = stats.get(place) else { continue };
            let Some(state) = self.partitions.get_mut(place) else { continue };
            if let Some(then) = stats.read_to_end(*at) {
                state.clock.reached_end(then);
            }
            let retention = self.sources.get(&place.0).and_then(|s| s.spec.retention_ms);
            self.shared.report_partition(place, stats, *at, state.written_at, retention);
            if let Some((Progress::Active(w) | Progress::AtEnd(w), _)) = state.clock.progress(0) {
                let lag = now.since(w) as f64 / 1e6;
                let labels = [&*place.0, &place.1.to_string()];
                self.shared.metrics.watermark_lag.set(labels, lag);
            }
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut impl Outbox) -> Result<(), BusError> {
        self.publish_counts();
        let every = self.shared.config.marker_interval.0;
        if now.since(self.marked_at) < every {
            return Ok(());
        }
        self.marked_at = now;
        // What a marker says of event time is said after the matches that it is about.
        self.found.send_bundles(out)?;
        let Some(marker) = self.marker() else { return Ok(()) };
        let value = Message::Marker(marker).encode();
        for partition in 0..self.shared.matches_partitions {
            send_to(out, &self.shared.topics.matches, partition, &value)?;
        }
        Ok(())
    }

    fn gathered(&self) -> usize {
        self.found.bundles.gathered()
    }

    fn send_gathered(&mut self, out: &mut impl Outbox) -> Result<(), BusError> {
        self.found.send_bundles(out)
    }

    fn sealed(&mut self) {
        self.found.unreported.seal();
    }

    fn committed(&mut self) {
        self.found.unreported.report(&self.shared);
    }

    fn aborted(&mut self) {
        self.found.unreported = Unreported::default();
        self.found.bundles.clear();
    }

    fn ready(&mut self, _restoring: usize) {
        let what = format!("{} partitions", self.partitions.len());
        self.shared.health.set_check(&format!("filter-{}", self.number), true, what);
    }
}
