//! Chaos: instances, brokers and the network break by a schedule that a seed decides, while events come in; then all is
//! made whole, and every promise is held against what `watchfire eval` finds in the same records.
//!
//! ```sh
//! scripts/chaos                  # three brokers, six minutes for each of five seeds
//! scripts/chaos 120 7            # two minutes of seed 7
//! ```
//!
//! With one broker (`scripts/kafka run -- cargo test --test chaos`, and so `scripts/test`) half a minute of one seed, and
//! no broker dies. `WATCHFIRE_CHAOS_SEED` and `WATCHFIRE_CHAOS_SECONDS` choose others, `WATCHFIRE_TEST_LOG` what the
//! instances log, `WATCHFIRE_CHAOS_DEBUG` contexts of librdkafka (`cgrp,eos`). The schedule is printed.
//!
//! What is checked, each by its name in the failure:
//!
//! | | |
//! |---|---|
//! | C1 | the alerts are those of `eval`, each once |
//! | C2 | no id with its revision twice; what was written and aborted was published later |
//! | C3 | the events behind an alert are committed when it can be seen |
//! | C4 | positions never go back, nor beyond the end |
//! | C5 | every record alerted where it must, or is a dead letter, late, or in a reported gap; none is two of these |
//! | C6 | no window was closed too early: nothing is late that was not meant to be, and conditions that need complete windows hold |
//! | C8 | memory of each instance stays in its bounds |
//! | C9 | lag returns to 0 soon after all is whole, and no partition stands still behind an open transaction |
//!
//! C7 (how soon an instance that was killed works again) is measured by `benches/faults.rs`, C10 (restored state is equal
//! to that of an uninterrupted run) cannot be seen from outside; its effect is C1.

#![allow(clippy::disallowed_methods, reason = "a real broker runs on the real clock")]

#[allow(dead_code, reason = "its kit is needed, not its checks")]
mod conformance;
#[path = "chaos/fleet.rs"]
mod fleet;
#[allow(dead_code, reason = "each binary needs another part of the kit")]
#[path = "kafka/kit.rs"]
mod kit;
#[path = "chaos/oracle.rs"]
mod oracle;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/schedule.rs"]
mod schedule;
#[allow(dead_code, reason = "each binary needs another part of the kit")]
#[path = "kafka/service.rs"]
mod service;
#[path = "chaos/traffic.rs"]
mod traffic;
#[path = "chaos/watch.rs"]
mod watch;

use std::time::{Duration, Instant};

use conformance::kit::topic;
use fleet::{Cluster, Fleet};
use kit::{wait_at_most, wait_for};
use oracle::{Outcome, Truth, wait_for_alerts};
use schedule::{Deed, Means, schedule};
use service::App;
use traffic::{LEDGER_PARTITIONS, Traffic, now_micros};
use watch::{Processes, Watch};
use watchfire::time::Timestamp;

/// How soon after all is whole nothing may be unread.
const CATCHES_UP: Duration = Duration::from_secs(120);
/// How long after that the last window may take to be complete: lateness, the longest timespan, some markers.
const DECIDES: Duration = Duration::from_secs(60);

/// How much is done.
struct Scale {
    means: Means,
    source: &'static str,
    lateness: Duration,
    seconds: u64,
}

impl Scale {
    /// When a broker dies, its partitions take nothing for some seconds: so long events may be late.
    fn of(brokers: usize, proxies: bool) -> Scale {
        let (pause, stopped_max, lateness) =
            if brokers > 1 { ((5, 15), 30, 30) } else { ((2, 5), 12, 5) };
        let source = match lateness {
            30 => "format: json, lateness: 30s, logsource: {product: test}",
            _ => "format: json, lateness: 5s, logsource: {product: test}",
        };
        Scale {
            means: Means { brokers, proxies, pause, stopped_max },
            source,
            lateness: Duration::from_secs(lateness),
            seconds: 30,
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

#[test]
fn whatever_breaks_the_alerts_are_those_of_eval_each_once() {
    let Some(bootstrap) = kit::kafka() else { return };
    let seed = number("WATCHFIRE_CHAOS_SEED").unwrap_or(1);
    let cluster = Cluster::found();
    let (proxies, detour) = match &cluster {
        Some(cluster) => {
            let (proxies, at) = cluster.proxies();
            (proxies, Some(at))
        }
        None => (Vec::new(), None),
    };
    let brokers = cluster.as_ref().map_or(1, |c| c.brokers);
    let mut scale = Scale::of(brokers, !proxies.is_empty());
    scale.seconds = number("WATCHFIRE_CHAOS_SECONDS").unwrap_or(scale.seconds);
    let length = Duration::from_secs(scale.seconds);
    println!("seed {seed}, {length:?}, {brokers} brokers");

    let (mut app, ledger) = app(&bootstrap, &scale);
    app.detour = detour;
    let processes = Processes::default();
    let mut fleet = Fleet::start(&app, &ledger, cluster.as_ref(), proxies, processes.clone());
    let traffic = Traffic::start(&bootstrap, &app.topic, &ledger, seed);
    let watch = Watch::start(&app, &ledger, processes);
    wait_for("a correlation has found something", || watch.has_finding().then_some(()));
    traffic.allow_late();

    let began = Instant::now();
    for (at, deed) in schedule(seed, length, &scale.means) {
        while began.elapsed() < at {
            fleet.look();
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{:7.1} s  {}  {deed:?}", began.elapsed().as_secs_f64(), Timestamp(now_micros()));
        match deed {
            Deed::Burst(on) => traffic.burst(on),
            deed => fleet.apply(deed),
        }
    }
    traffic.burst(false);
    fleet.heal();
    println!("{:7.1} s  {}  all is whole", began.elapsed().as_secs_f64(), Timestamp(now_micros()));
    let whole = Instant::now();
    let written = traffic.stop();
    wait_at_most(CATCHES_UP, "C9: lag returns to 0", || {
        app.has_read(&[&app.topic, &ledger]).then_some(())
    });
    let caught_up = whole.elapsed();

    let truth = Truth::read(&app);
    let expected = truth.alerts(&app);
    wait_for_alerts(&app, &expected, DECIDES);
    fleet.look();
    let seen = watch.stop();
    let outcome = Outcome::read(&app);
    let mut wrong = [fleet.wrong.clone(), seen.wrong.clone()].concat();
    if written.delay_max >= scale.lateness {
        wrong.push(format!("the generator was late itself, the run says nothing: {written:?}"));
    }
    if written.events as usize != truth.written() {
        wrong.push(format!("C5: {} records were written, {}", written.events, truth.summary()));
    }
    wrong.extend(outcome.compare(&expected));
    wrong.extend(truth.compare_refused(&app));
    wrong.extend(outcome.compare_ledger(&app, &ledger, &fleet.cuts));
    println!(
        "{} events written ({}), the slowest after {:.1?}; {} alerts, {} expected of events; gaps {:?} for cuts {:?}",
        written.events,
        truth.summary(),
        written.delay_max,
        outcome.len(),
        expected.len(),
        outcome.gaps(),
        fleet.cuts,
    );
    println!(
        "caught up {caught_up:.1?} after all was whole; the longest stall behind a transaction {:.1?}; without any alert \
         (since when, how long) {:.1?}; at most {} MiB; {} samples",
        seen.stall_max, seen.silences, seen.rss_mib_max, seen.samples,
    );
    assert!(expected.len() > 50, "{} alerts are too few to say anything", expected.len());
    if !wrong.is_empty() {
        app.dir.disable_cleanup(true);
        println!("the logs of all instances stay in {}", app.dir.path().display());
    }
    assert!(wrong.is_empty(), "seed {seed}: {} findings\n{}", wrong.len(), wrong.join("\n"));
}

/// An app over a topic of events and one whose records are deleted, the ledger.
fn app(bootstrap: &str, scale: &Scale) -> (App, String) {
    let rules = std::path::PathBuf::new();
    let mut app = App::new(bootstrap, "chaos", traffic::EVENT_PARTITIONS, scale.source, rules);
    app.rules = app.dir.path().join("rules");
    std::fs::create_dir(&app.rules).unwrap();
    std::fs::write(app.rules.join("chaos.yml"), traffic::RULES).unwrap();
    let ledger = topic(bootstrap, "chaos-ledger", LEDGER_PARTITIONS);
    if let Ok(contexts) = std::env::var("WATCHFIRE_CHAOS_DEBUG") {
        app.properties = Box::leak(format!("debug: '{contexts}'").into_boxed_str());
    }
    app.more_sources = format!(", {{topic: {ledger}, {}}}", scale.source);
    (app, ledger)
}
