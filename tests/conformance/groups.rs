//! Checks of consumer groups.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::kit::*;

/// Less than the session timeout of 6 s by far: whoever waits it out takes longer.
const AT_ONCE: Duration = Duration::from_secs(4);

fn send_numbers(bootstrap: &str, topic: &str, partitions: i32, from: usize, to: usize) {
    let producer = producer(bootstrap, &[]);
    for (partition, number) in (0..partitions).cycle().zip(from..to) {
        send(&producer, topic, partition, &[&number.to_string()]);
    }
    drain(&producer);
}

pub fn every_record_is_read_once_through_joins_and_leaves(bootstrap: &str) {
    let topic = topic(bootstrap, "once", 4);
    let group = unique("once");
    let mut first = Member::join(bootstrap, &group, &topic, &[]);
    send_numbers(bootstrap, &topic, 4, 0, 100);
    until("the first member has begun", || {
        first.poll();
        (first.values.len() >= 20).then_some(())
    });
    let mut second = Member::join(bootstrap, &group, &topic, &[]);
    send_numbers(bootstrap, &topic, 4, 100, 200);
    settle(&mut [&mut first, &mut second], &[2, 2]);
    until("both have read", || {
        first.poll();
        second.poll();
        (first.values.len() + second.values.len() >= 150).then_some(())
    });
    let mut values = std::mem::take(&mut second.values);
    drop(second);
    send_numbers(bootstrap, &topic, 4, 200, 300);
    until("all is read", || {
        first.poll();
        (values.len() + first.values.len() >= 300).then_some(())
    });
    values.append(&mut first.values);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for value in &values {
        *counts.entry(value.parse().unwrap()).or_default() += 1;
    }
    assert_eq!(counts, (0..300).map(|n| (n, 1)).collect());
}

pub fn a_closed_members_partitions_move_at_once(bootstrap: &str) {
    let topic = topic(bootstrap, "closed", 2);
    let group = unique("closed");
    let mut first = Member::join(bootstrap, &group, &topic, &[("session.timeout.ms", "30000")]);
    settle(&mut [&mut first], &[2]);
    drop(first);
    let began = Instant::now();
    let mut second = Member::join(bootstrap, &group, &topic, &[("session.timeout.ms", "30000")]);
    settle(&mut [&mut second], &[2]);
    assert!(began.elapsed() < AT_ONCE, "took {:?}", began.elapsed());
}

pub fn a_static_member_restarts_without_a_rebalance(bootstrap: &str) {
    let topic = topic(bootstrap, "static", 4);
    let group = unique("static");
    let join =
        |instance| Member::join(bootstrap, &group, &topic, &[("group.instance.id", instance)]);
    let (mut one, mut two) = (join("one"), join("two"));
    settle(&mut [&mut one, &mut two], &[2, 2]);
    // Either may lead the group; a leader's restart must not bring a rebalance either.
    for _ in 0..2 {
        let (kept, rebalances) = (one.partitions(), two.rebalances());
        let began = Instant::now();
        drop(one);
        one = join("one");
        settle(&mut [&mut one, &mut two], &[2, 2]);
        assert!(began.elapsed() < AT_ONCE, "took {:?}", began.elapsed());
        assert_eq!(one.partitions(), kept);
        assert_eq!(two.rebalances(), rebalances);
        std::mem::swap(&mut one, &mut two);
        // The other one has the other name.
        let (kept, rebalances) = (one.partitions(), two.rebalances());
        drop(one);
        one = join("two");
        settle(&mut [&mut one, &mut two], &[2, 2]);
        assert_eq!(one.partitions(), kept);
        assert_eq!(two.rebalances(), rebalances);
        std::mem::swap(&mut one, &mut two);
    }
}

pub fn a_second_static_member_fences_the_first(bootstrap: &str) {
    let topic = topic(bootstrap, "instance", 1);
    let group = unique("instance");
    let settings = [("group.instance.id", "one")];
    let mut first = Member::join(bootstrap, &group, &topic, &settings);
    settle(&mut [&mut first], &[1]);
    let mut second = Member::join(bootstrap, &group, &topic, &settings);
    settle(&mut [&mut second], &[1]);
    let error = until("the first member knows", || {
        first.poll();
        first.error.take()
    });
    let fenced = RDKafkaErrorCode::FencedInstanceId;
    assert!(
        error == KafkaError::MessageConsumptionFatal(fenced)
            || error == KafkaError::MessageConsumption(fenced),
        "{error:?}"
    );
}

pub fn a_silent_static_member_expires(bootstrap: &str) {
    let topic = topic(bootstrap, "silent", 2);
    let group = unique("silent");
    let join =
        |instance| Member::join(bootstrap, &group, &topic, &[("group.instance.id", instance)]);
    let (mut one, mut two) = (join("one"), join("two"));
    settle(&mut [&mut one, &mut two], &[1, 1]);
    // A static member does not leave when it closes: its partitions move when its session ends.
    drop(one);
    let began = Instant::now();
    settle(&mut [&mut two], &[2]);
    assert!(began.elapsed() > Duration::from_secs(4), "took only {:?}", began.elapsed());
}

pub fn committed_offsets_outlive_the_members(bootstrap: &str) {
    let topic = topic(bootstrap, "committed", 1);
    let group = unique("committed");
    send_all(bootstrap, &topic, 0, &["a", "b", "c"]);
    assert_eq!(committed(bootstrap, &group, &topic, PATIENCE), Ok(None));
    let mut first = Member::join(bootstrap, &group, &topic, &[("enable.auto.commit", "false")]);
    settle(&mut [&mut first], &[1]);
    first.consumer.commit(&at(&topic, 0, Offset::Offset(2)), CommitMode::Sync).unwrap();
    drop(first);
    assert_eq!(committed(bootstrap, &group, &topic, PATIENCE), Ok(Some(2)));
    let mut second = Member::join(bootstrap, &group, &topic, &[]);
    until("the rest is read", || {
        second.poll();
        (!second.values.is_empty()).then_some(())
    });
    assert_eq!(second.values, ["c"]);
}
