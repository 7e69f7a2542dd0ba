//! From producing an event to reading its committed alert, at 50,000 events a second.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::common::{PARTITIONS, sample};
use crate::events::{Dice, login};
use crate::{App, MARKED, Tail, marked, quantile, until};

const RATE: u64 = 50_000;
/// One event in so many alerts.
const ONE_IN: u64 = 100;
const WARM: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(2);
/// How many different events there are.
const EVENTS: usize = 50_000;

pub fn measure(brokers: &str) {
    println!(
        "latency: {RATE} events/s of 250 B, one in {ONE_IN} alerts, {MEASURED:?} after {WARM:?}"
    );
    println!(
        "| commit interval | alerts | p50 ms | p90 ms | p99 ms | worst ms | commits | commit p50 ms | p99 ms | share of the worker's time |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for interval in ["100ms", "25ms"] {
        let app = App::new(brokers, "latency", MARKED, &format!("commit_interval: {interval}\n"));
        lane(&app, interval);
    }
}

fn lane(app: &App, interval: &str) {
    let _service = app.start("a");
    app.metrics();
    let tail = Tail::of(app);
    let mut paced = Paced::new(app);
    paced.run(WARM);
    let (before, began, from) = (app.metrics(), Instant::now(), crate::micros());
    let alerts = paced.run(MEASURED);
    let (seconds, after) = (began.elapsed().as_secs_f64(), app.metrics());
    let all = paced.finish();
    until("all alerts are there", || (tail.count() >= all).then_some(()));
    // Some more time, in which none may come.
    std::thread::sleep(Duration::from_secs(1));
    let arrivals = tail.finish();
    assert_eq!(arrivals.len(), all, "each event alerts once");
    let measured = arrivals.iter().filter(|a| a.sent >= from);
    let mut ms: Vec<f64> = measured.map(|a| (a.arrived - a.sent) as f64 / 1e3).collect();
    ms.sort_by(f64::total_cmp);
    assert_eq!(ms.len(), alerts);
    let of = |name: &str| {
        let series = format!("watchfire_transaction_{name}{{stage=\"filter\"}}");
        (sample(&before, &series), sample(&after, &series))
    };
    let (waited, count) = (of("wait_seconds_sum"), of("seconds_count"));
    println!(
        "| {interval} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {:.1} | {:.1} | {:.1} % |",
        ms.len(),
        quantile(&ms, 0.5),
        quantile(&ms, 0.9),
        quantile(&ms, 0.99),
        quantile(&ms, 1.0),
        count.1 - count.0,
        of("p50_seconds").1 * 1e3,
        of("p99_seconds").1 * 1e3,
        (waited.1 - waited.0) / seconds * 100.0,
    );
}

/// Writes at a steady rate.
struct Paced<'a> {
    app: &'a App,
    producer: BaseProducer,
    events: Vec<String>,
    written: u64,
    alerts: usize,
}

impl<'a> Paced<'a> {
    fn new(app: &'a App) -> Paced<'a> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &app.brokers)
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .expect("producer");
        let mut dice = Dice(11);
        let events = (0..EVENTS).map(|_| login(&mut dice)).collect();
        Paced { app, producer, events, written: 0, alerts: 0 }
    }

    /// Writes for so long; gives how many of the events alert.
    fn run(&mut self, length: Duration) -> usize {
        let (began, first, alerts) = (Instant::now(), self.written, self.alerts);
        while began.elapsed() < length {
            let due = first + (began.elapsed().as_secs_f64() * RATE as f64) as u64;
            while self.written < due {
                self.write();
            }
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(TICK);
        }
        self.alerts - alerts
    }

    fn write(&mut self) {
        let members = &self.events[self.written as usize % EVENTS];
        let event = match self.written % ONE_IN {
            0 => marked(members),
            _ => format!("{{{members}}}"),
        };
        self.alerts += usize::from(self.written.is_multiple_of(ONE_IN));
        // A prime number of events in a row, so that alerts are of all partitions.
        let partition = (self.written / 97 % PARTITIONS as u64) as i32;
        let mut record = BaseRecord::<(), str>::to(&self.app.topic);
        record = record.partition(partition).payload(&event);
        while let Err((error, same)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            self.producer.poll(Duration::from_millis(1));
            record = same;
        }
        self.written += 1;
    }

    /// How many events alert in all.
    fn finish(self) -> usize {
        self.producer.flush(crate::PATIENCE).expect("flushed");
        self.alerts
    }
}
