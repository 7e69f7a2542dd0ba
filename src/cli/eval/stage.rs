//! Chunks of lines → results of workers → findings → output.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::input::{Chunk, Chunks};
use super::lines::{self, DetectionLines};
use super::output::{Run, Writer};
use crate::alert;
use crate::correlate::{Finding, Fold, FoldOptions, PackedMatch, Updates};
use crate::decode::{Decoder, RejectCode};
use crate::ids::Coordinate;
use crate::pipeline::{Counts, Filter, FilterOutput, Record};
use crate::rule::RuleSet;
use crate::runtime::SystemClock;
use crate::time::{Clock, Timestamp};
use crate::window::Frontier;

/// Chunks for each worker that may be read before the earliest of them is put out.
const CHUNKS_AHEAD_MAX: usize = 4;

/// A chunk gets room for this part more of what there was in the chunk before.
const MORE: usize = 8;

/// How to evaluate.
pub struct Options {
    pub decoder: Arc<Decoder>,
    pub view: usize,
    pub routing: bool,
    pub lateness: i64,
    pub threads: usize,
    pub matches: bool,
    pub revisions: bool,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub events: u64,
    pub bytes: u64,
    pub detections: u64,
    pub findings: u64,
    pub alerts: u64,
    pub rejected: BTreeMap<RejectCode, u64>,
    pub late: u64,
    pub skewed: u64,
    pub decoded: u64,
    pub untimed: u64,
    pub missing_field: u64,
    pub no_number: u64,
    pub overflow: u64,
}

/// What a worker made of a chunk.
struct Worked {
    counts: Counts,
    detections: u64,
    alerts: u64,
    /// The times of the events that have one, in the order of the input.
    times: Vec<Timestamp>,
    /// Matches for the fold, each with its line and how many of the times were before it.
    matches: Vec<(usize, i64, PackedMatch)>,
    lines: Run,
}

/// Evaluates the whole input. Calls `ready` before the first of it is read.
///
/// # Errors
/// When the input cannot be read or the output not be written.
pub fn evaluate<W: Write>(
    rules: &Arc<RuleSet>,
    options: &Options,
    input: Box<dyn BufRead + Send>,
    writer: &mut Writer<W>,
    ready: impl FnOnce(),
) -> io::Result<Totals> {
    let detection_lines = options.matches.then(|| DetectionLines::new(rules));
    let detection_lines = detection_lines.as_ref();
    // Compiled once; the clones share the program.
    let filter = filter(rules, options);
    std::thread::scope(|scope| {
        let ahead = CHUNKS_AHEAD_MAX * options.threads;
        let (permit, permits) = sync_channel(ahead);
        let intake = Arc::new(Mutex::new(Intake { chunks: Chunks::new(input), next: 0, permits }));
        // One for each chunk, and one for each worker that fails: nobody waits to be heard.
        let (sender, results) = sync_channel(ahead + options.threads);
        for _ in 0..options.threads {
            let mut worker = Worker::new(filter.clone(), rules, detection_lines);
            let (intake, sender) = (Arc::clone(&intake), sender.clone());
            scope.spawn(move || worker.run(&intake, &Results(sender)));
        }
        drop((intake, sender));
        let mut collector = Collector::new(rules, options, writer);
        ready();
        for _ in 0..ahead {
            // It is heard while there is a worker.
            let _ = permit.send(());
        }
        let (mut next, mut early) = (0, BTreeMap::new());
        for result in results {
            let (number, worked) = result?;
            early.insert(number, worked);
            while let Some(worked) = early.remove(&next) {
                collector.take(worked)?;
                next += 1;
                let _ = permit.send(());
            }
        }
        collector.finish()
    })
}

/// The input, of which workers take the next chunk each when they are ready. Who reads a chunk works on it,
/// so that its bytes do not change from core to core.
struct Intake {
    chunks: Chunks,
    next: u64,
    /// One for each chunk that may be read.
    permits: Receiver<()>,
}

impl Intake {
    /// The next chunk and its number; `None` at the end, or when nobody wants to hear of it.
    fn next(&mut self, buffer: Vec<u8>) -> io::Result<Option<(u64, Chunk)>> {
        if self.permits.recv().is_err() {
            return Ok(None);
        }
        let chunk = self.chunks.next(buffer)?;
        let number = self.next;
        self.next += 1;
        Ok(chunk.map(|chunk| (number, chunk)))
    }
}

/// Where a worker sends what it made of chunks. If it panics, this is told, too: nobody else has its chunk.
struct Results(SyncSender<io::Result<(u64, Worked)>>);

impl Drop for Results {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send(Err(io::Error::other("a working thread failed")));
        }
    }
}

fn filter(rules: &Arc<RuleSet>, options: &Options) -> Filter {
    let decoder = Arc::clone(&options.decoder);
    let mut filter = Filter::for_view(Arc::clone(rules), decoder, options.view);
    if options.matches {
        filter = filter.without_alerts();
    }
    if !options.routing {
        filter = filter.without_routing();
    }
    filter
}

/// Turns chunks into results; nothing of it is shared with others for each event.
struct Worker<'r> {
    filter: Filter,
    rules: &'r RuleSet,
    /// What is printed of detections; without them alerts are.
    detection_lines: Option<&'r DetectionLines<'r>>,
    output: FilterOutput,
    /// How many times and matches there were in the chunk before.
    before: (usize, usize),
    at: Coordinate,
    /// Times without a year need to know about what time it is; one reading for the whole run.
    reference: Timestamp,
}

impl<'r> Worker<'r> {
    fn new(
        filter: Filter,
        rules: &'r RuleSet,
        detection_lines: Option<&'r DetectionLines<'r>>,
    ) -> Self {
        let reference = SystemClock.now();
        let output = FilterOutput::default();
        Self { filter, rules, detection_lines, output, before: (0, 0), at: start(), reference }
    }

    fn run(&mut self, intake: &Mutex<Intake>, results: &Results) {
        let mut buffer = Vec::new();
        loop {
            let chunk = intake
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next(std::mem::take(&mut buffer));
            let worked = match chunk {
                Ok(None) => return,
                Ok(Some((number, chunk))) => {
                    let worked = self.work(&chunk);
                    buffer = chunk.into_buffer();
                    Ok((number, worked))
                }
                Err(e) => Err(e),
            };
            let failed = worked.is_err();
            if results.0.send(worked).is_err() || failed {
                return;
            }
        }
    }

    fn work(&mut self, chunk: &Chunk) -> Worked {
        let (times_before, matches_before) = self.before;
        let mut times = Vec::with_capacity(times_before + times_before / MORE);
        let mut matches = Vec::with_capacity(matches_before + matches_before / MORE);
        for (line, payload) in chunk.lines() {
            self.at.offset = line;
            let record = Record {
                at: &self.at,
                payload: Some(payload),
                headers: &[],
                timestamp: None,
                reference: self.reference,
                now: None,
            };
            let time = self.filter.record(&record, &mut self.output);
            matches.extend(self.output.matches.drain(..).map(|m| (times.len(), line, m)));
            times.extend(time);
        }
        self.before = (times.len(), matches.len());
        let output = &mut self.output;
        let alerting = |rule: usize| self.rules.detections[rule].alerts;
        let worked = Worked {
            detections: output.detections.len() as u64,
            alerts: output.detections.iter().filter(|hit| alerting(hit.rule)).count() as u64,
            times,
            matches,
            lines: lines_of(output, self.detection_lines),
            counts: std::mem::take(&mut output.counts),
        };
        output.detections.clear();
        output.rejects.clear();
        worked
    }
}

fn lines_of(output: &mut FilterOutput, detection_lines: Option<&DetectionLines<'_>>) -> Run {
    let mut run = Run::default();
    if let Some(lines) = detection_lines {
        let bytes = output.detections.iter().map(|hit| lines.bytes(hit)).sum();
        run.reserve(output.detections.len(), bytes);
        for hit in &output.detections {
            run.put(hit.time, hit.offset, |out| lines.write(hit, out));
        }
    }
    let bytes = output.alerts.iter().map(|alert| alert.body.len() + 1).sum();
    run.reserve(output.alerts.len(), bytes);
    for alert in output.alerts.drain(..) {
        run.put(Some(alert.time), alert.at.offset, |out| out.extend_from_slice(&alert.body));
    }
    run
}

/// The first line of the input.
fn start() -> Coordinate {
    Coordinate { topic: "input".into(), partition: 0, offset: 0 }
}

fn fold_options(revisions: bool) -> FoldOptions {
    let updates = if revisions { Updates::All } else { Updates::None };
    FoldOptions { updates, ..FoldOptions::default() }
}

/// Puts results together in the order of the input.
struct Collector<'c, W: Write> {
    rules: Arc<RuleSet>,
    options: &'c Options,
    writer: &'c mut Writer<W>,
    fold: Fold,
    /// The line of the match at hand.
    at: Coordinate,
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
            fold: Fold::new(Arc::clone(rules), fold_options(options.revisions)),
            at: start(),
            frontier: Frontier::default(),
            findings: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn take(&mut self, worked: Worked) -> io::Result<()> {
        self.count(&worked);
        self.writer.take(worked.lines, self.frontier.latest().unwrap_or(Timestamp::MIN));
        let mut observed = 0;
        for (before, line, event) in worked.matches {
            self.observe(&worked.times[observed..before]);
            observed = before;
            self.at.offset = line;
            self.fold.offer_packed(event, &self.at, &mut self.findings);
        }
        self.observe(&worked.times[observed..]);
        self.fold.run(&mut self.findings);
        self.put_findings();
        let watermark =
            self.frontier.latest().map_or(Timestamp::MAX, |t| t.minus(self.options.lateness));
        self.writer.release(watermark)?;
        self.writer.flush()
    }

    /// Lets event time come as far as these say. The fold hears of it only now: nothing was offered to
    /// it in between. It runs once a chunk, which costs less than once a match.
    fn observe(&mut self, times: &[Timestamp]) {
        for time in times {
            self.totals.skewed += u64::from(self.frontier.observe(*time));
        }
        if let Some(latest) = self.frontier.latest() {
            self.fold.reach(latest.minus(self.options.lateness));
        }
    }

    fn count(&mut self, worked: &Worked) {
        let totals = &mut self.totals;
        let counts = &worked.counts;
        let rejected: u64 = counts.rejected.values().sum();
        totals.events += counts.read - rejected;
        totals.bytes += counts.bytes;
        totals.detections += worked.detections;
        totals.alerts += worked.alerts;
        totals.skewed += counts.skewed;
        totals.decoded += counts.decoded;
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
        self.totals.late = counts.late_total();
        self.totals.missing_field += counts.missing_field.values().sum::<u64>();
        self.totals.no_number = counts.no_number.values().sum();
        self.totals.overflow = counts.overflow.values().sum();
        Ok(self.totals)
    }

    fn put_findings(&mut self) {
        let mut run = Run::default();
        for finding in self.findings.drain(..) {
            let rule = &self.rules.correlations[finding.rule];
            self.totals.findings += u64::from(finding.episode.revision == 1);
            self.totals.alerts += u64::from(rule.alerts && finding.episode.revision == 1);
            let (time, line) = (finding.episode.time(), finding.trigger.offset);
            let text = match self.options.matches {
                true => lines::finding(&self.rules, &finding).to_string().into_bytes(),
                false if rule.alerts => alert::of_finding(&self.rules, &finding).body,
                false => continue,
            };
            run.put(Some(time), line, |out| out.extend_from_slice(&text));
        }
        self.writer.take(run, Timestamp::MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Format;
    use crate::limits::EVAL_BLOCK_BYTES;

    const RULES: &str = "title: hit
name: hit
logsource: {product: linux}
detection: {s: {kind|startswith: h}, condition: s}
level: high
tags: [attack.t1110]
---
title: quiet
name: quiet
logsource: {product: linux}
detection: {s: {kind: q}, condition: s}
---
title: many
correlation:
  type: event_count
  rules: [hit]
  group-by: [user]
  timespan: 5s
  condition: {gte: 4}
---
title: kinds
correlation:
  type: value_count
  rules: [hit]
  group-by: [user]
  timespan: 5s
  condition: {gte: 2, field: kind}
";

    /// Events that come out of order, some beyond the lateness, some without time, some no events, and
    /// a few whose clock is far ahead.
    fn events(count: u64) -> String {
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut text = String::new();
        for n in 0..count {
            let ahead = if random(500) == 0 { 3_600_000 } else { 0 };
            let most = [1, 1, 2000, 30_000][random(4) as usize];
            let back = random(most);
            let time = Timestamp::from_millis((1_700_000_000_000 + n * 40 + ahead - back) as i64);
            let kind = ["a", "a", "h1", "h2"][random(4) as usize];
            let (user, pad) = (random(20), "x".repeat(random(400) as usize));
            text += &match random(50) {
                0 => format!("{{\"kind\":\"h3\",\"user\":\"u{user}\"}}\n"),
                1 => "no event\n".to_owned(),
                2 => "\n".to_owned(),
                _ => format!(
                    "{{\"time\":\"{time}\",\"kind\":\"{kind}\",\"user\":\"u{user}\",\"p\":\"{pad}\"}}\n"
                ),
            };
        }
        text
    }

    fn rules() -> Arc<RuleSet> {
        let file: Arc<str> = "r.yml".into();
        let (rules, _) = RuleSet::compile([(&file, RULES)]);
        assert_eq!((rules.detections.len(), rules.correlations.len()), (2, 2));
        Arc::new(rules)
    }

    fn options(threads: usize, matches: bool, revisions: bool) -> Options {
        Options {
            decoder: Arc::new(Decoder::new(Format::Json, Vec::new())),
            view: 0,
            routing: true,
            lateness: 10_000_000,
            threads,
            matches,
            revisions,
        }
    }

    /// What is printed, and what was counted.
    fn evaluated(rules: &Arc<RuleSet>, options: &Options, text: &str) -> (String, Totals) {
        let input = io::Cursor::new(text.to_owned().into_bytes());
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let totals =
            evaluate(rules, options, Box::new(input), &mut writer, || ()).expect("evaluates");
        drop(writer);
        (String::from_utf8(out).expect("text"), totals)
    }

    #[test]
    fn the_output_is_the_same_for_every_number_of_threads() {
        let (rules, text) = (rules(), events(24_000));
        assert!(text.len() > 8 * EVAL_BLOCK_BYTES, "chunks for all threads");
        for (matches, revisions) in [(true, false), (true, true), (false, false)] {
            let one = evaluated(&rules, &options(1, matches, revisions), &text);
            assert!(one.1.findings > 100 && one.1.late > 100 && one.1.skewed > 5);
            for threads in [2, 5] {
                let mut more = evaluated(&rules, &options(threads, matches, revisions), &text);
                // Each thread learns the kinds of events for itself, and decodes the first of each.
                assert!(more.1.decoded.abs_diff(one.1.decoded) < 10);
                more.1.decoded = one.1.decoded;
                assert!(more.0 == one.0, "{threads} threads, matches: {matches}");
                assert_eq!(more.1, one.1);
            }
        }
    }

    /// Event by event through filter and fold, as slowly as can be said.
    fn findings_one_by_one(rules: &Arc<RuleSet>, text: &str) -> Vec<(usize, i64, u64)> {
        let mut worker = Worker::new(filter(rules, &options(1, true, true)), rules, None);
        let mut fold = Fold::new(Arc::clone(rules), fold_options(true));
        let (mut frontier, mut findings) = (Frontier::default(), Vec::new());
        for (line, payload) in text.lines().enumerate() {
            worker.at.offset = line as i64;
            let record = Record {
                at: &worker.at,
                payload: Some(payload.as_bytes()),
                headers: &[],
                timestamp: None,
                reference: worker.reference,
                now: None,
            };
            let time = worker.filter.record(&record, &mut worker.output);
            for event in worker.output.matches.drain(..) {
                fold.offer(event.unpack(rules, worker.at.clone()), &mut findings);
            }
            let Some(time) = time else { continue };
            frontier.observe(time);
            if let Some(latest) = frontier.latest() {
                fold.advance(latest.minus(10_000_000), &mut findings);
            }
        }
        fold.finish(&mut findings);
        findings.iter().map(|f| (f.rule, f.trigger.offset, f.episode.revision)).collect()
    }

    #[test]
    fn chunks_change_no_finding() {
        let (rules, text) = (rules(), events(24_000));
        let (printed, _) = evaluated(&rules, &options(3, true, true), &text);
        let lines = printed.lines().map(|l| serde_json::from_str(l).expect("JSON"));
        let lines: Vec<serde_json::Value> = lines.collect();
        let of_finding = |m: &&serde_json::Value| m["kind"] == "finding";
        let number = |v: &serde_json::Value| v.as_i64().expect("a number");
        let read = |m: &serde_json::Value| {
            let rule = usize::from(m["title"] == "kinds");
            (rule, number(&m["line"]), number(&m["revision"]) as u64)
        };
        let mut found: Vec<_> = lines.iter().filter(of_finding).map(read).collect();
        let mut expected = findings_one_by_one(&rules, &text);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let hit = lines.iter().find(|m| m["kind"] == "detection").expect("a detection");
        assert_eq!((&hit["title"], &hit["level"]), (&"hit".into(), &"high".into()));
        assert_eq!((&hit["rule"], &hit["tags"][0]), (&"hit".into(), &"attack.t1110".into()));
    }

    /// Fails for good at the first call; when it is read from, after what it holds.
    struct Broken(io::Cursor<Vec<u8>>);

    impl io::Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("torn off")),
                read => Ok(read),
            }
        }
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("nobody reads"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn input_that_breaks_and_output_that_nobody_reads_end_the_run() {
        let (rules, text) = (rules(), events(24_000));
        let broken = |bytes: &str| Broken(io::Cursor::new(bytes.as_bytes().to_vec()));
        for threads in [1, 3] {
            let options = options(threads, true, false);
            let input = io::BufReader::new(broken(&text));
            let mut kept = Vec::new();
            let mut writer = Writer::new(&mut kept);
            let done = evaluate(&rules, &options, Box::new(input), &mut writer, || ());
            assert_eq!(done.expect_err("input ends").to_string(), "torn off");
            let input = Box::new(io::Cursor::new(text.clone().into_bytes()));
            let done = evaluate(&rules, &options, input, &mut Writer::new(broken("")), || ());
            assert_eq!(done.expect_err("output ends").to_string(), "nobody reads");
        }
    }

    #[test]
    fn without_routing_every_rule_sees_every_event() {
        let rules = rules();
        let text = "{\"product\":\"windows\",\"service\":\"x\",\"kind\":\"h\"}\n";
        for (routing, detections) in [(true, 0), (false, 1)] {
            let options = Options { routing, ..options(1, true, false) };
            assert_eq!(evaluated(&rules, &options, text).1.detections, detections);
        }
    }
}
