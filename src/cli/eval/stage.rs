//! Chunks of lines → results of workers → findings → output.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde_json::json;

use super::input::{self, Chunk};
use super::output::Writer;
use crate::alert;
use crate::correlate::{Finding, Fold};
use crate::decode::{Decoder, RejectCode};
use crate::ids::Coordinate;
use crate::pipeline::{Detected, Filter, FilterOutput, Record};
use crate::rule::RuleSet;
use crate::runtime::SystemClock;
use crate::time::{Clock, Timestamp};
use crate::window::Frontier;

/// Chunks that may wait for one worker, and results for the collector.
const CHUNKS_WAITING_MAX: usize = 4;

/// How to evaluate.
pub struct Options {
    pub decoder: Arc<Decoder>,
    pub view: usize,
    pub lateness: i64,
    pub threads: usize,
    pub matches: bool,
    pub revisions: bool,
}

/// What was done.
#[derive(Default)]
pub struct Totals {
    pub events: u64,
    pub bytes: u64,
    pub detections: u64,
    pub findings: u64,
    pub alerts: u64,
    pub rejected: BTreeMap<RejectCode, u64>,
    pub late: u64,
    pub skewed: u64,
    pub untimed: u64,
    pub missing_field: u64,
}

/// What a worker made of a chunk.
struct Worked {
    first_line: i64,
    times: Vec<Option<Timestamp>>,
    output: FilterOutput,
}

/// Evaluates the whole input.
///
/// # Errors
/// When the input cannot be read or the output not be written.
pub fn evaluate<W: Write>(
    rules: &Arc<RuleSet>,
    options: &Options,
    mut input: Box<dyn BufRead + Send>,
    writer: &mut Writer<W>,
) -> io::Result<Totals> {
    std::thread::scope(|scope| {
        let mut to_workers: Vec<SyncSender<Chunk>> = Vec::new();
        let mut from_workers: Vec<Receiver<Worked>> = Vec::new();
        // Compiled once; the clones share the program.
        let decoder = Arc::clone(&options.decoder);
        let filter = Filter::for_view(Arc::clone(rules), decoder, options.view);
        for _ in 0..options.threads {
            let (chunk_sender, chunks) = sync_channel(CHUNKS_WAITING_MAX);
            let (sender, worked) = sync_channel(CHUNKS_WAITING_MAX);
            let filter = filter.clone();
            scope.spawn(move || work(filter, &chunks, &sender));
            to_workers.push(chunk_sender);
            from_workers.push(worked);
        }
        let reader = scope.spawn(move || read(&mut *input, &to_workers));
        let mut collector = Collector::new(rules, options, writer);
        for worked in (0..from_workers.len()).cycle().map_while(|i| from_workers[i].recv().ok()) {
            collector.take(worked)?;
        }
        let totals = collector.finish()?;
        match reader.join() {
            Ok(read) => read.map(|()| totals),
            Err(_) => Err(io::Error::other("the reading thread failed")),
        }
    })
}

/// Hands chunks to the workers in turn, until the input or the workers end.
fn read(input: &mut dyn BufRead, workers: &[SyncSender<Chunk>]) -> io::Result<()> {
    let mut line = 0;
    for worker in workers.iter().cycle() {
        let chunk = input::next(input, line)?;
        if chunk.is_empty() {
            break;
        }
        line += chunk.lines().count() as i64;
        if worker.send(chunk).is_err() {
            break;
        }
    }
    Ok(())
}

fn work(mut filter: Filter, chunks: &Receiver<Chunk>, results: &SyncSender<Worked>) {
    let mut at = Coordinate { topic: "input".into(), partition: 0, offset: 0 };
    // Times without a year need to know about what time it is; one reading for the whole run.
    let reference = SystemClock.now();
    while let Ok(chunk) = chunks.recv() {
        let mut worked = Worked {
            first_line: chunk.first_line,
            times: Vec::new(),
            output: FilterOutput::default(),
        };
        for (line, payload) in chunk.lines() {
            at.offset = line;
            let record = Record {
                at: &at,
                payload: Some(payload),
                headers: &[],
                timestamp: None,
                reference,
                now: None,
            };
            worked.times.push(filter.record(&record, &mut worked.output));
        }
        if results.send(worked).is_err() {
            return;
        }
    }
}

/// Puts results together in the order of the input.
struct Collector<'c, W: Write> {
    rules: Arc<RuleSet>,
    options: &'c Options,
    writer: &'c mut Writer<W>,
    fold: Fold,
    frontier: Frontier,
    findings: Vec<Finding>,
    totals: Totals,
}

impl<'c, W: Write> Collector<'c, W> {
    fn new(rules: &Arc<RuleSet>, options: &'c Options, writer: &'c mut Writer<W>) -> Self {
        Self {
            rules: Arc::clone(rules),
            options,
            writer,
            fold: Fold::new(Arc::clone(rules), options.revisions),
            frontier: Frontier::default(),
            findings: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn take(&mut self, worked: Worked) -> io::Result<()> {
        self.count(&worked.output);
        let now = self.frontier.latest().unwrap_or(Timestamp::MIN);
        if self.options.matches {
            for hit in &worked.output.detections {
                self.put_detection(hit, now);
            }
        }
        for alert in &worked.output.alerts {
            self.totals.alerts += 1;
            if !self.options.matches {
                self.writer.put(alert.time, alert.at.offset, alert.body.clone());
            }
        }
        let mut matches = worked.output.matches.into_iter().peekable();
        for (line, time) in (worked.first_line..).zip(worked.times) {
            while let Some(routed) = matches.next_if(|m| m.event.at.offset == line) {
                self.fold.offer(routed.event, &mut self.findings);
            }
            let Some(time) = time else { continue };
            self.totals.skewed += u64::from(self.frontier.observe(time));
            if let Some(latest) = self.frontier.latest() {
                self.fold.advance(latest.minus(self.options.lateness), &mut self.findings);
            }
        }
        self.put_findings();
        let watermark =
            self.frontier.latest().map_or(Timestamp::MAX, |t| t.minus(self.options.lateness));
        self.writer.release(watermark)?;
        self.writer.flush()
    }

    fn count(&mut self, output: &FilterOutput) {
        let totals = &mut self.totals;
        let counts = &output.counts;
        let rejected: u64 = counts.rejected.values().sum();
        totals.events += counts.read - rejected;
        totals.bytes += counts.bytes;
        totals.detections += output.detections.len() as u64;
        totals.skewed += counts.skewed;
        totals.untimed += counts.untimed;
        totals.missing_field += counts.missing_field.values().sum::<u64>();
        for (code, n) in &counts.rejected {
            *totals.rejected.entry(*code).or_default() += n;
        }
    }

    fn finish(mut self) -> io::Result<Totals> {
        self.fold.finish(&mut self.findings);
        self.put_findings();
        self.writer.finish()?;
        let counts = self.fold.counts();
        self.totals.late = counts.late.values().sum();
        self.totals.missing_field += counts.missing_field.values().sum::<u64>();
        Ok(self.totals)
    }

    fn put_detection(&mut self, hit: &Detected, now: Timestamp) {
        let text = json!({
            "kind": "detection",
            "rule": self.rules.detections[hit.rule].header.id.0,
            "line": hit.offset,
            "time": hit.time.map(|t| t.to_string()),
            "group": null,
            "value": null,
            "revision": 1,
        });
        self.writer.put(hit.time.unwrap_or(now), hit.offset, text.to_string().into_bytes());
    }

    fn put_findings(&mut self) {
        for finding in self.findings.drain(..) {
            let rule = &self.rules.correlations[finding.rule];
            self.totals.findings += u64::from(finding.episode.revision == 1);
            self.totals.alerts += u64::from(rule.alerts && finding.episode.revision == 1);
            let (time, line) = (finding.episode.time(), finding.trigger.offset);
            if !self.options.matches {
                if rule.alerts {
                    self.writer.put(time, line, alert::of_finding(&self.rules, &finding).body);
                }
                continue;
            }
            let names = rule.group_by.iter().map(|f| f.as_str().to_owned());
            let values = finding.group.0.iter().map(|v| serde_json::Value::from(&**v));
            let group: serde_json::Map<String, serde_json::Value> = names.zip(values).collect();
            let text = json!({
                "kind": "finding",
                "rule": rule.header.id.0,
                "line": line,
                "time": time.to_string(),
                "group": group,
                "value": finding.episode.value,
                "revision": finding.episode.revision,
            });
            self.writer.put(time, line, text.to_string().into_bytes());
        }
    }
}
