//! `watchfire demo`: the whole service against an embedded broker and a simulated log.

mod story;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::alert::AlertHead;
use crate::broker::{BrokerConfig, EmbeddedBroker};
use crate::config::Config;
use crate::rule::Level;
use crate::runtime::{Service, Stopwatch, SystemClock, shipped_rules};
use crate::time::{Clock, Timestamp, parse_duration};
use story::Story;

/// Calm history before the story begins: a spike can only be seen against what was usual before.
const CALM_SECONDS: i64 = 15 * 60;

/// See it work: no Kafka, no configuration. Ctrl-C ends it.
///
/// Starts a small Kafka broker inside this process, writes a simulated auth log to it (with a brute
/// force attack, a password spray, a login after many failures, sudo abuse and a spike in volume), runs
/// the whole service on it, and prints each alert as it happens.
#[derive(clap::Args)]
pub struct Args {
    /// Address of the API
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    http: SocketAddr,
    /// End by itself after this time
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// Seed of the story
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only write the simulated log, to the Kafka given by --brokers
    #[arg(long, requires = "brokers")]
    produce_only: bool,
    /// With --produce-only: where to write
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// Topic of the simulated log
    #[arg(long, default_value = "auth-logs")]
    topic: String,
}

/// Runs the subcommand; the result is the exit code.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let duration =
        args.duration.as_deref().map(parse_duration).transpose().context("--duration")?;
    super::logging::start(super::logging::LogFormat::Text, "warn");
    if let (true, Some(brokers)) = (args.produce_only, &args.brokers) {
        let stop = AtomicBool::new(false);
        let end = duration.map(|us| SystemClock.now().plus(us));
        eprintln!("writing a simulated auth log to {} at {brokers}", args.topic);
        produce(brokers, &args.topic, args.seed, &|| {
            stop.load(Ordering::Relaxed) || end.is_some_and(|t| SystemClock.now() >= t)
        })?;
        return Ok(super::FINE);
    }
    let clock = Stopwatch::start();
    let broker = EmbeddedBroker::start(BrokerConfig::default())?;
    broker.create_topic(&args.topic, 4)?;
    let config = Config::parse(&configuration(args, &broker), Path::new("demo"))?;
    let alerts_topic = config.alerts_topic();
    let loaded = shipped_rules();
    let service = Service::start(config, &loaded)
        .context("the demo cannot start (is the address of the API taken? see --http)")?;
    greet(&service, &broker, &args.topic, loaded.rules.len());

    let stop = Arc::new(AtomicBool::new(false));
    let (bootstrap, topic, seed) = (broker.bootstrap(), args.topic.clone(), args.seed);
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        produce(&bootstrap, &topic, seed, &|| stopped.load(Ordering::Relaxed))
    });
    let (bootstrap, stopped) = (broker.bootstrap(), Arc::clone(&stop));
    let printer =
        std::thread::spawn(move || show_alerts(&bootstrap, &alerts_topic, &stopped, clock));
    if let Some(micros) = duration {
        let shared = Arc::clone(service.shared());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(micros.max(0) as u64));
            shared.stop.store(true, Ordering::SeqCst);
        });
    }
    service.wait();
    println!("\nending …");
    stop.store(true, Ordering::SeqCst);
    let failure = service.stop();
    let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
    let shown = printer.join().map_err(|_| anyhow::anyhow!("the printer panicked"))?;
    broker.shutdown();
    if let Some(why) = failure {
        anyhow::bail!("{why}");
    }
    println!("{} log lines written, {} alerts.", written?, shown?);
    Ok(super::FINE)
}

fn configuration(args: &Args, broker: &EmbeddedBroker) -> String {
    format!(
        "version: 1\n\
         app: demo\n\
         instance: demo\n\
         kafka: {{brokers: ['{}']}}\n\
         sources: [{{topic: {}, format: syslog, lateness: 1s}}]\n\
         rules: [shipped]\n\
         topics: {{matches_partitions: 4, alerts_partitions: 1, replication_factor: 1}}\n\
         workers: {{filter: 1, correlate: 1}}\n\
         http: {{bind: '{}'}}\n",
        broker.bootstrap(),
        args.topic,
        args.http
    )
}

fn greet(service: &Service, broker: &EmbeddedBroker, topic: &str, rules: usize) {
    let api = format!("http://{}", service.address());
    println!("Watchfire demo: {rules} rules on a simulated auth log ({topic}).");
    println!("  alerts   {api}/api/v1/alerts");
    println!("  rules    {api}/api/v1/rules");
    println!("  metrics  {api}/metrics      health {api}/readyz");
    println!("  API docs {api}/api/v1/openapi.json");
    println!("  Kafka    {}  (embedded; any Kafka client can connect)", broker.bootstrap());
    println!("Ctrl-C ends it.\n");
}

/// Writes the story until told to stop; gives the number of lines.
fn produce(brokers: &str, topic: &str, seed: u64, stop: &dyn Fn() -> bool) -> anyhow::Result<u64> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "5").create()?;
    let mut story = Story::new(seed, SystemClock.now().plus(1_000_000), CALM_SECONDS);
    let mut lines = 0;
    while !stop() {
        for (time, line) in story.until(SystemClock.now()) {
            let text = line.syslog(time);
            let record = BaseRecord::to(topic).key(line.host).payload(text.as_str());
            producer.send(record).map_err(|(e, _)| e)?;
            lines += 1;
        }
        producer.poll(Duration::from_millis(50));
    }
    producer.flush(Duration::from_secs(5))?;
    Ok(lines)
}

/// Prints alerts as they are committed, until told to stop; gives their number.
fn show_alerts(
    brokers: &str,
    topic: &str,
    stop: &AtomicBool,
    clock: Stopwatch,
) -> anyhow::Result<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "demo-screen")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[topic])?;
    let colour = std::io::stdout().is_terminal();
    let mut shown = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let body = message.payload().unwrap_or_default();
        let head = AlertHead::read(body)?;
        let document: serde_json::Value = serde_json::from_slice(body)?;
        let sentence = document["message"].as_str().unwrap_or_default();
        shown += 1;
        if shown == 1 {
            println!("first alert {:.1} s after the start", clock.elapsed().as_secs_f64());
        }
        let line = readable(&head, sentence, colour);
        if writeln!(std::io::stdout(), "{line}").is_err() {
            break;
        }
    }
    Ok(shown)
}

/// `14:03:27  HIGH      sentence`
fn readable(head: &AlertHead, sentence: &str, colour: bool) -> String {
    let time = Timestamp::from_millis(head.time_ms).to_string();
    let clock = time.get(11..19).unwrap_or(&time);
    let level = head.level.unwrap_or_default();
    let name = level.as_str().to_uppercase();
    if !colour {
        return format!("{clock}  {name:<13} {sentence}");
    }
    let code = match level {
        Level::Critical => "1;37;41",
        Level::High => "1;31",
        Level::Medium => "33",
        Level::Low => "36",
        Level::Informational => "2",
    };
    format!("{clock}  \x1b[{code}m{name:<13}\x1b[0m {sentence}")
}
