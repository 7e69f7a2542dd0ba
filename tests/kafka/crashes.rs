//! Instances that end in the middle: by SIGKILL, by a stop that outlives their session, by SIGTERM.

use std::io::Write;
use std::time::Duration;

use jiff::ToSpan;

use crate::common::corpora;
use crate::kit::{
    Dice, Topic, Writer, has_open_transaction, kafka, members, wait_at_most, wait_for,
};
use crate::service::{App, Instance};
use crate::sshd::{evaluated, expect};

/// How often the log is repeated, a month later each time.
const COPIES: i64 = 14;

/// How soon an instance that was paused works again: it joins anew, and its old session may have to end first.
const GOES_ON: Duration = Duration::from_secs(40);

/// A correlation over JSON events that finds each `n` once.
const EACH_NUMBER_ONCE: &str = "\
title: Marked
name: marked
logsource: {product: test}
detection:
  marked: {mark: 'yes'}
  condition: marked
---
title: A number
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0004
correlation:
  type: event_count
  rules: [marked]
  group-by: [n]
  timespan: 1m
  condition: {gte: 1}
level: high
";

/// About 100,000 lines: the log's copies, with years.
fn long_log() -> Option<Vec<String>> {
    let text = std::fs::read_to_string(corpora()?.join("auth/sshd_auth.log")).expect("the log");
    let months = ["Jan", "Feb", "Mar", "Apr"];
    let mut lines = Vec::new();
    for copy in 0..COPIES {
        for line in text.lines() {
            let month = months.iter().position(|m| line.starts_with(m)).expect("a spring log");
            let number = |range: std::ops::Range<usize>| line[range].trim().parse::<i8>().unwrap();
            let time = jiff::civil::date(2017, month as i8 + 1, number(4..6)).at(
                number(7..9),
                number(10..12),
                number(13..15),
                0,
            );
            let time = time.checked_add((30 * copy).days()).unwrap();
            lines.push(format!("{time}Z{}", &line[15..]));
        }
    }
    Some(lines)
}

/// The long log in a topic, a slow app that has begun to read it, and what it must find.
struct Begun {
    app: App,
    expected: Vec<String>,
    alerts: Topic,
    instances: Vec<Instance>,
}

/// Brings the app to where some alerts are committed and most of the source is unread.
fn begin(bootstrap: &str, what: &str, instances: &[&str]) -> Option<Begun> {
    let lines = long_log()?;
    let mut app = App::syslog(bootstrap, what);
    // Small fetches, so that there is a middle to be interrupted in.
    app.properties = "fetch.message.max.bytes: '8192', queued.min.messages: '100'";
    let mut writer = Writer::new(bootstrap, &app.topic);
    let mut file = tempfile::NamedTempFile::new_in(app.dir.path()).unwrap();
    let mut dice = Dice(3);
    for line in &lines {
        writer.send(dice.below(6) as i32, Some(line.as_bytes()));
        writeln!(file, "{line}").unwrap();
    }
    writer.finish(bootstrap);
    let expected = evaluated(file.path());
    assert!(expected.len() > 500, "{} alerts", expected.len());
    let mut instances: Vec<Instance> = instances.iter().map(|i| app.spawn(i)).collect();
    instances.iter_mut().for_each(Instance::wait_until_it_runs);
    let mut alerts = app.alerts();
    alerts.wait_for(3);
    Some(Begun { app, expected, alerts, instances })
}

impl Begun {
    fn assert_in_the_middle(&self) {
        let (done, all) = (self.app.processed(), 7_121 * COPIES);
        assert!(done < all, "all was read before the crash: make fetches smaller");
        println!("{done} of {all} records were committed at the crash");
    }
}

#[test]
fn an_instance_that_is_killed_for_good_costs_and_repeats_nothing() {
    let Some(bootstrap) = kafka() else { return };
    let Some(mut begun) = begin(&bootstrap, "killed", &["a", "b"]) else { return };
    begun.instances.remove(1).kill();
    begun.assert_in_the_middle();
    let Begun { app, expected, alerts, instances } = begun;
    expect(&app, &expected, alerts, &[&instances[0]]);
}

#[test]
fn instances_that_are_killed_and_come_back_cost_and_repeat_nothing() {
    let Some(bootstrap) = kafka() else { return };
    let Some(mut begun) = begin(&bootstrap, "restarted", &["a", "b"]) else { return };
    begun.instances.remove(1).kill();
    begun.assert_in_the_middle();
    let b = begun.app.start("b");
    let sofar = begun.alerts.records.len();
    begun.alerts.wait_for(sofar + 1);
    begun.instances.remove(0).kill();
    let a = begun.app.start("a");
    let Begun { app, expected, alerts, .. } = begun;
    expect(&app, &expected, alerts, &[&a, &b]);
}

#[test]
fn an_instance_that_wakes_after_its_session_has_ended_repeats_nothing() {
    let Some(bootstrap) = kafka() else { return };
    let Some(begun) = begin(&bootstrap, "zombie", &["a", "b"]) else { return };
    begun.instances[1].signal("STOP");
    begun.assert_in_the_middle();
    let Begun { app, expected, alerts, instances } = begun;
    // Its partitions can only be read to their ends once the other has taken them over.
    app.wait_until_read();
    instances[1].signal("CONT");
    expect(&app, &expected, alerts, &[&instances[0]]);
}

#[test]
fn an_instance_that_pauses_for_longer_than_a_transaction_may_take_goes_on() {
    let Some(bootstrap) = kafka() else { return };
    let mut app = App::json(&bootstrap, "paused", 1);
    std::fs::write(app.rules.join("marked.yml"), EACH_NUMBER_ONCE).unwrap();
    // An alert of the second stage waits up to a second, acknowledged but in an open transaction, and nothing else is
    // sent meanwhile: so the first that it hears after the pause is that its transaction is over.
    app.more = "commit_interval: 5s\n".to_owned();
    let mut instance = app.start("a");
    let topic = format!("{}.alerts", app.name);
    let mut written = 0;
    // As a virtual machine that is moved, or a laptop that is closed.
    wait_for("it is paused in a transaction", || {
        if has_open_transaction(&bootstrap, &topic) {
            instance.signal("STOP");
            if has_open_transaction(&bootstrap, &topic) {
                return Some(());
            }
            instance.signal("CONT");
        }
        let mut writer = Writer::new(&bootstrap, &app.topic);
        writer.send(0, Some(format!(r#"{{"mark":"yes","n":{written}}}"#).as_bytes()));
        writer.flush();
        written += 1;
        None
    });
    wait_for("Kafka has given the transaction up", || {
        (!has_open_transaction(&bootstrap, &topic)).then_some(())
    });
    instance.signal("CONT");
    // Nobody else has its name: it begins anew at the committed offsets.
    let mut alerts = app.alerts();
    wait_at_most(GOES_ON, "it goes on", || {
        assert!(instance.is_alive(), "it has ended");
        alerts.poll();
        (alerts.records.len() >= written).then_some(())
    });
    app.settle();
    alerts.poll();
    assert_eq!(alerts.records.len(), written);
}

#[test]
fn an_idle_instance_that_pauses_for_longer_than_its_session_goes_on_and_can_be_stopped() {
    let Some(bootstrap) = kafka() else { return };
    let mut app = App::json(&bootstrap, "idle", 1);
    // Seldom in a transaction: that pause has a test of its own.
    app.more = "marker_interval: 5s\n".to_owned();
    let mut instance = app.start("a");
    let write = |n: usize| {
        let mut writer = Writer::new(&bootstrap, &app.topic);
        writer.send(0, Some(format!(r#"{{"mark":"yes","n":{n}}}"#).as_bytes()));
        writer.flush();
    };
    write(0);
    let mut alerts = app.alerts();
    alerts.wait_for(1);
    app.wait_until_read();
    instance.signal("STOP");
    for stage in ["filter", "correlate"] {
        wait_for("its session has ended", || {
            (members(&bootstrap, &format!("{}-{stage}", app.name)) == 0).then_some(())
        });
    }
    instance.signal("CONT");
    write(1);
    wait_at_most(GOES_ON, "it goes on", || {
        assert!(instance.is_alive(), "it has ended");
        alerts.poll();
        (alerts.records.len() >= 2).then_some(())
    });
    assert_eq!(alerts.records.len(), 2);
    instance.stop();
}

#[test]
fn an_instance_that_is_told_to_end_commits_and_the_next_goes_on() {
    let Some(bootstrap) = kafka() else { return };
    let Some(mut begun) = begin(&bootstrap, "terminated", &["a"]) else { return };
    begun.instances.remove(0).stop();
    begun.assert_in_the_middle();
    let app = &begun.app;
    for kind in ["alerts", "matches", "dlq"] {
        let topic = format!("{}.{kind}", app.name);
        assert!(!has_open_transaction(&bootstrap, &topic), "{topic} has an open transaction");
    }
    let stood = app.processed();
    let a = app.start("a");
    wait_for("it goes on", || (app.processed() > stood).then_some(()));
    let Begun { app, expected, alerts, .. } = begun;
    expect(&app, &expected, alerts, &[&a]);
    a.stop();
}

#[test]
fn of_two_instances_with_one_name_one_ends_and_says_why_and_the_other_goes_on() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "namesakes", 1);
    let write = |n: usize| {
        let mut writer = Writer::new(&bootstrap, &app.topic);
        writer.send(0, Some(format!(r#"{{"mark":"yes","n":{n}}}"#).as_bytes()));
        writer.flush();
    };
    let mut both = vec![app.start("a"), app.start("a")];
    let gone = wait_for("one of them ends", || {
        let gone = both.iter_mut().position(|instance| !instance.is_alive())?;
        Some(both.remove(gone))
    });
    let log = gone.log();
    assert!(log.contains("another instance has taken over"), "{log}");
    assert!(log.contains("give each instance a name of its own"), "{log}");
    write(0);
    let mut alerts = app.alerts();
    wait_at_most(GOES_ON, "the other goes on", || {
        alerts.poll();
        (alerts.records.len() == 1).then_some(())
    });
    assert!(both[0].is_alive(), "it has ended, too");
    both.remove(0).stop();
}
