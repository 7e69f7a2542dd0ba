//! From kill -9 with an open transaction to the first alert of an event that was written after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::common::PARTITIONS;
use crate::{App, MARKED, Tail, consumer, ends, marked, micros, quantile, until};

const ROUNDS: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// Between two rounds, so that the next one begins in the middle of ordinary work.
const ORDINARY: Duration = Duration::from_secs(2);

pub fn measure(brokers: &str) {
    println!(
        "failover: one instance, {} marked events/s, {ROUNDS} times kill -9 in a transaction",
        1000 / PAUSE.as_millis()
    );
    println!(
        "| ids | p50 s | p90 s | worst s | until the API answers, p50 s |\n|---|--:|--:|--:|--:|"
    );
    for (what, stable) in
        [("stable: the same instance again", true), ("random: an instance with a new name", false)]
    {
        let app = App::new(brokers, "failover", MARKED, "");
        let (mut seconds, mut answers) = rounds(&app, stable);
        seconds.sort_by(f64::total_cmp);
        answers.sort_by(f64::total_cmp);
        println!(
            "| {what} | {:.2} | {:.2} | {:.2} | {:.2} |",
            quantile(&seconds, 0.5),
            quantile(&seconds, 0.9),
            quantile(&seconds, 1.0),
            quantile(&answers, 0.5),
        );
    }
}

fn rounds(app: &App, stable: bool) -> (Vec<f64>, Vec<f64>) {
    let mut service = app.start("a0");
    app.metrics();
    let (tail, feed) = (Tail::of(app), Feed::start(app));
    until("the first alert is there", || tail.first_after(0));
    let isolations = ["read_committed", "read_uncommitted"];
    let consumers: BTreeMap<&str, _> =
        isolations.into_iter().map(|i| (i, consumer(&app.brokers, i))).collect();
    let is_open = || {
        let [committed, written] = ends(&consumers, &app.alerts());
        committed != written
    };
    let (mut seconds, mut answers) = (Vec::new(), Vec::new());
    while seconds.len() < ROUNDS {
        std::thread::sleep(ORDINARY);
        until("a transaction is open", || is_open().then_some(()));
        service.0.kill().expect("killed");
        service.0.wait().expect("ended");
        let killed = micros();
        let counts = is_open();
        let name = if stable { "a0".to_owned() } else { format!("a{}", seconds.len() + 1) };
        service = app.start(&name);
        app.metrics();
        let answered = micros();
        let first = until("a new alert is there", || tail.first_after(killed));
        if counts {
            seconds.push((first.arrived - killed) as f64 / 1e6);
            answers.push((answered - killed) as f64 / 1e6);
        }
    }
    let written = feed.finish();
    until("all alerts are there", || (tail.count() >= written).then_some(()));
    std::thread::sleep(ORDINARY);
    assert_eq!(tail.finish().len(), written, "each event alerts once");
    (seconds, answers)
}

/// A thread that writes marked events.
struct Feed {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Feed {
    fn start(app: &App) -> Feed {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", &app.brokers)
            .set("linger.ms", "0")
            .create()
            .expect("producer");
        let (topic, stop) = (app.topic.clone(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut written = 0;
            while !ended.load(Ordering::Relaxed) {
                let event = marked("\"kind\":\"failover\"");
                let partition = written as i32 % PARTITIONS;
                let record = BaseRecord::<(), str>::to(&topic).partition(partition);
                producer.send(record.payload(&event)).map_err(|(e, _)| e).expect("queued");
                written += 1;
                std::thread::sleep(PAUSE);
            }
            producer.flush(crate::PATIENCE).expect("flushed");
            written
        });
        Feed { stop, thread }
    }

    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("written")
    }
}
