//! What is written to the sources while things break, and the rules that look at it.
//!
//! Events bear the time at which they are written, up to a second less, and no two the same: so what a correlation must
//! find does not depend on which partition is read first. Attacks are spread over all partitions; most are large enough
//! to be found, some just not. What nobody can foretell is kept to rules of its own: events an hour ahead are seen by
//! one rule for single events, those ten minutes late feed one correlation that must never find anything.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use watchfire::time::Timestamp;

use crate::conformance::kit::config;
use crate::kit::Dice;

pub const EVENT_PARTITIONS: i32 = 6;
pub const LEDGER_PARTITIONS: i32 = 3;
/// Events a second outside of bursts, and how much more in them.
const RATE: u64 = 300;
const BURST: u64 = 10;
/// Of how many events one goes to the ledger, begins an attack, is broken, is ahead, is late.
const ONE_IN: [u64; 5] = [60, 60, 400, 500, 500];
const TICK: Duration = Duration::from_millis(20);
/// How long the last records may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(120);

pub const LEDGER: &str = "chaos-ledger";
pub const LATE: &str = "chaos-late";

pub const RULES: &str = "\
title: Marked
id: chaos-marked
logsource: {product: test}
detection: {s: {mark: 'yes'}, condition: s}
level: low
---
title: Ledger
id: chaos-ledger
logsource: {product: test}
detection: {s: {kind: ledger}, condition: s}
level: low
---
title: Ahead of its time
id: chaos-ahead
logsource: {product: test}
detection: {s: {kind: ahead}, condition: s}
level: low
---
title: Failed
id: chaos-failed
name: failed
logsource: {product: test}
detection: {s: {kind: failed}, condition: s}
---
title: Login
id: chaos-login
name: login
logsource: {product: test}
detection: {s: {kind: login}, condition: s}
---
title: Probe
id: chaos-probe
name: probe
logsource: {product: test}
detection: {s: {kind: probe}, condition: s}
---
title: Exploit
id: chaos-exploit
name: exploit
logsource: {product: test}
detection: {s: {kind: exploit}, condition: s}
---
title: Visit
id: chaos-visit
name: visit
logsource: {product: test}
detection: {s: {kind: visit}, condition: s}
---
title: Late
id: chaos-late-one
name: late
logsource: {product: test}
detection: {s: {kind: late}, condition: s}
---
title: Many failures of a user
id: chaos-brute
name: brute
correlation:
  type: event_count
  rules: [failed]
  group-by: [user]
  timespan: 10s
  condition: {gte: 4}
level: high
---
title: Failures of many users
id: chaos-spray
correlation:
  type: value_count
  rules: [failed]
  group-by: [src]
  timespan: 10s
  condition: {field: user, gte: 4}
level: high
---
title: Probe and exploit
id: chaos-together
correlation:
  type: temporal
  rules: [probe, exploit]
  group-by: [host]
  timespan: 5s
level: high
---
title: Probe, then exploit
id: chaos-ordered
correlation:
  type: temporal_ordered
  rules: [probe, exploit]
  group-by: [host]
  timespan: 5s
level: high
---
title: Many failures, then a login
id: chaos-entered
correlation:
  type: temporal_ordered
  rules: [brute, login]
  group-by: [user]
  timespan: 10s
  generate: true
level: critical
---
title: Three visits, no more
id: chaos-visits
correlation:
  type: event_count
  rules: [visit]
  group-by: [session]
  timespan: 4s
  condition: {eq: 3}
level: medium
---
title: A late event was counted
id: chaos-late
correlation:
  type: event_count
  rules: [late]
  group-by: [user]
  timespan: 10s
  condition: {gte: 1}
level: high
";

/// Counts what is acknowledged, and how long that took.
#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    failed: AtomicU64,
    /// From the time that an event bears to its acknowledgement, microseconds: an upper bound of how late it was.
    longest: AtomicI64,
}

struct Context(Arc<Acknowledged>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, time: Box<i64>) {
        let known = &self.0;
        match result {
            Ok(_) => {
                known.count.fetch_add(1, Ordering::Relaxed);
                known.longest.fetch_max(now_micros() - *time, Ordering::Relaxed);
            }
            Err(_) => drop(known.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Records of the source of events, broken ones too; not those of the ledger.
    pub events: u64,
    /// The longest from the time that an event bears until it was there.
    pub delay_max: Duration,
}

/// A thread that writes until it is told to end.
pub struct Traffic {
    controls: Arc<Controls>,
    thread: JoinHandle<Written>,
}

#[derive(Default)]
struct Controls {
    stop: AtomicBool,
    burst: AtomicBool,
    /// Whether some events are so late that they must not count; before event time runs they would.
    late: AtomicBool,
}

impl Traffic {
    pub fn start(bootstrap: &str, events: &str, ledger: &str, seed: u64) -> Traffic {
        let controls = Arc::new(Controls::default());
        let writer = Writer::new(bootstrap, events, ledger, seed);
        let shared = Arc::clone(&controls);
        let thread = std::thread::spawn(move || writer.run(&shared));
        Traffic { controls, thread }
    }

    pub fn burst(&self, on: bool) {
        self.controls.burst.store(on, Ordering::SeqCst);
    }

    pub fn allow_late(&self) {
        self.controls.late.store(true, Ordering::SeqCst);
    }

    /// Ends it; all is acknowledged then.
    pub fn stop(self) -> Written {
        self.controls.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the generator did not panic")
    }
}

struct Writer {
    producer: ThreadedProducer<Context>,
    acknowledged: Arc<Acknowledged>,
    events: String,
    ledger: String,
    dice: Dice,
    sent: u64,
    in_ledger: u64,
    /// Steps of attacks that are under way, by when they are due.
    due: BTreeMap<i64, Vec<String>>,
    times: HashSet<i64>,
}

impl Writer {
    fn new(bootstrap: &str, events: &str, ledger: &str, seed: u64) -> Writer {
        let acknowledged = Arc::new(Acknowledged::default());
        let settings = [
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("compression.type", "lz4"),
            // As a shipper that never gives up: what is not acknowledged is written again, and stays in its order.
            ("message.timeout.ms", "0"),
        ];
        let context = Context(Arc::clone(&acknowledged));
        let producer = config(bootstrap, &settings).create_with_context(context).unwrap();
        Writer {
            producer,
            acknowledged,
            events: events.to_owned(),
            ledger: ledger.to_owned(),
            dice: Dice(seed),
            sent: 0,
            in_ledger: 0,
            due: BTreeMap::new(),
            times: HashSet::new(),
        }
    }

    fn run(mut self, controls: &Controls) -> Written {
        let mut owed = 0.0;
        let mut before = Instant::now();
        while !controls.stop.load(Ordering::SeqCst) {
            std::thread::sleep(TICK);
            let factor = if controls.burst.load(Ordering::SeqCst) { BURST } else { 1 };
            owed += before.elapsed().as_secs_f64() * (RATE * factor) as f64;
            before = Instant::now();
            while owed >= 1.0 {
                self.next(controls.late.load(Ordering::SeqCst));
                owed -= 1.0;
            }
            let later = self.due.split_off(&now_micros());
            for event in std::mem::replace(&mut self.due, later).into_values().flatten() {
                self.event(&event);
            }
        }
        self.finish()
    }

    fn finish(self) -> Written {
        let began = Instant::now();
        while self.producer.in_flight_count() > 0 {
            assert!(began.elapsed() < PATIENCE, "the generator cannot write");
            std::thread::sleep(TICK);
        }
        let known = &self.acknowledged;
        assert_eq!(known.failed.load(Ordering::SeqCst), 0, "the generator lost records");
        assert_eq!(known.count.load(Ordering::SeqCst), self.sent);
        let delay = known.longest.load(Ordering::SeqCst).max(0) as u64;
        Written { events: self.sent - self.in_ledger, delay_max: Duration::from_micros(delay) }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.dice.below(n as usize) == 0
    }

    /// One more event, and what it may begin.
    fn next(&mut self, late: bool) {
        let [ledger, attack, broken, ahead, behind] = ONE_IN.map(|n| self.one_in(n));
        if broken {
            let what: &[Option<&[u8]>] =
                &[Some(b"{\"kind\": broken"), Some(b"\xff\xfe"), Some(b""), None];
            let what = what[self.dice.below(what.len())];
            self.send(false, what, now_micros());
        }
        if ledger {
            self.send(true, Some(ledger_event().as_bytes()), now_micros());
        }
        if ahead {
            let time = self.time(now_micros() + 3_600_000_000);
            let event = body(time, r#""kind":"ahead""#);
            self.send(false, Some(event.as_bytes()), now_micros());
        }
        if behind && late {
            let time = self.time(now_micros() - 600_000_000);
            let user = self.dice.below(50);
            let event = body(time, &format!(r#""kind":"late","user":"late-{user}""#));
            self.send(false, Some(event.as_bytes()), now_micros());
        }
        if attack {
            self.attack();
        }
        let mark = if self.one_in(50) { "yes" } else { "no" };
        self.event(&format!(r#""kind":"noise","mark":"{mark}","user":"user-{}""#, self.sent % 500));
    }

    /// Plans the steps of an attack over the next seconds.
    fn attack(&mut self) {
        let now = now_micros();
        let step = |writer: &mut Writer, within_ms: usize, event: String| {
            let at = now + writer.dice.below(within_ms * 1000) as i64;
            writer.due.entry(at).or_default().push(event);
        };
        let (count, whose) = (3 + self.dice.below(4), self.dice.below(300));
        match self.dice.below(4) {
            0 => {
                for _ in 0..count {
                    let event =
                        format!(r#""kind":"failed","user":"user-{whose}","src":"home-{whose}""#);
                    step(self, 12_000, event);
                }
                if self.one_in(2) {
                    step(self, 16_000, format!(r#""kind":"login","user":"user-{whose}""#));
                }
            }
            1 => {
                for _ in 0..count {
                    let user = 1_000 + self.dice.below(100_000);
                    let event =
                        format!(r#""kind":"failed","user":"user-{user}","src":"src-{whose}""#);
                    step(self, 12_000, event);
                }
            }
            2 => {
                for kind in ["probe", "exploit"] {
                    step(self, 7_000, format!(r#""kind":"{kind}","host":"host-{whose}""#));
                }
            }
            _ => {
                for _ in 0..2 + count % 3 {
                    step(self, 5_000, format!(r#""kind":"visit","session":"session-{whose}""#));
                }
            }
        }
    }

    /// Writes an event of about now: one in four is up to a second old.
    fn event(&mut self, fields: &str) {
        let behind = if self.one_in(4) { self.dice.below(1_000_000) as i64 } else { 0 };
        let time = self.time(now_micros() - behind);
        self.send(false, Some(body(time, fields).as_bytes()), time);
    }

    /// The next time from `micros` on that no event bears.
    fn time(&mut self, micros: i64) -> i64 {
        (micros..).find(|t| self.times.insert(*t)).expect("there is time")
    }

    fn send(&mut self, ledger: bool, payload: Option<&[u8]>, time: i64) {
        let (topic, partitions) = match ledger {
            true => (&self.ledger, LEDGER_PARTITIONS),
            false => (&self.events, EVENT_PARTITIONS),
        };
        let partition = self.dice.below(partitions as usize) as i32;
        let opaque = Box::new(time);
        let mut record =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, opaque).partition(partition);
        if let Some(bytes) = payload {
            record = record.payload(bytes);
        }
        while let Err((error, same)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full);
            std::thread::sleep(TICK);
            record = same;
        }
        self.sent += 1;
        self.in_ledger += u64::from(ledger);
    }
}

/// An event for the ledger, whose rule looks at nothing else.
pub fn ledger_event() -> String {
    body(now_micros(), r#""kind":"ledger""#)
}

fn body(time: i64, fields: &str) -> String {
    format!(r#"{{"@timestamp":"{}",{fields}}}"#, Timestamp(time))
}
