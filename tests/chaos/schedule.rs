//! What is done to instances, brokers and the network, and when: a function of the seed and nothing else.
//!
//! Kinds of faults are dealt like cards, so that each comes about as often as the others. A fault may last while others
//! begin; only what would make no sense together is kept apart: an instance that is down is not stopped, a second broker
//! does not die before the first is back, and a topic is cut only while all instances run.

use std::time::Duration;

use crate::kit::Dice;
use crate::proxy::Weather;

/// How many instances there are, now and then one more or less.
pub const INSTANCES: usize = 3;

/// An instance by its number; those from [`INSTANCES`] on replace others.
pub type Number = usize;

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL.
    Kill(Number),
    /// SIGTERM.
    Terminate(Number),
    /// Starts an instance that is down, or a new one.
    Start(Number),
    /// SIGSTOP.
    Pause(Number),
    /// SIGCONT.
    Resume(Number),
    /// SIGKILL to a broker, which is started again at once.
    KillBroker(usize),
    /// The network between the instances and one broker.
    Network(usize, Weather),
    /// Stops all instances, writes to a partition of the ledger, deletes most of that, and lets them go on.
    Truncate(i32),
    /// Ten times as many events, or the usual number.
    Burst(bool),
}

/// What can be done at all.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub brokers: usize,
    /// Whether proxies stand in front of the brokers.
    pub proxies: bool,
    /// Seconds from one fault to the next: least and most.
    pub pause: (u64, u64),
    /// Longest that an instance is stopped, seconds.
    pub stopped_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Stop,
    Restart,
    Replace,
    Roll,
    KillBroker,
    Cut,
    Freeze,
    Slow,
    Truncate,
    Burst,
}

/// Deeds in the order of their times.
pub fn schedule(seed: u64, length: Duration, means: &Means) -> Vec<(Duration, Deed)> {
    let mut plan = Plan::new(seed, means);
    let (least, most) = means.pause;
    let mut at = 1_000;
    // Later it may take long until no instance has anything to get over.
    plan.add(Kind::Truncate, at);
    while at < length.as_millis() as u64 {
        at += plan.between(least * 1_000, most * 1_000);
        plan.deal(at);
    }
    plan.deeds.sort_by_key(|(at, _)| *at);
    plan.deeds.into_iter().map(|(at, deed)| (Duration::from_millis(at), deed)).collect()
}

/// Times are milliseconds since the beginning.
struct Plan<'m> {
    means: &'m Means,
    dice: Dice,
    cards: Vec<Kind>,
    deeds: Vec<(u64, Deed)>,
    /// Each instance that is meant to run, and until when it has something to get over.
    instances: Vec<(Number, u64)>,
    next_number: Number,
    brokers_busy: u64,
    network_busy: u64,
    burst_busy: u64,
}

impl<'m> Plan<'m> {
    fn new(seed: u64, means: &'m Means) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.below(2); // the first answer is nearly the seed
        Self {
            means,
            dice,
            cards: Vec::new(),
            deeds: Vec::new(),
            instances: (0..INSTANCES).map(|n| (n, 0)).collect(),
            next_number: INSTANCES,
            brokers_busy: 0,
            network_busy: 0,
            burst_busy: 0,
        }
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.dice.below((most - least + 1) as usize) as u64
    }

    fn deal(&mut self, at: u64) {
        if self.cards.is_empty() {
            self.cards = self.shuffled();
        }
        // From the top, the first that fits.
        let fits = (0..self.cards.len()).rev().find(|n| self.fits(self.cards[*n], at));
        if let Some(card) = fits {
            let kind = self.cards.remove(card);
            self.add(kind, at);
        }
    }

    fn add(&mut self, kind: Kind, at: u64) {
        match kind {
            Kind::Kill => {
                let (down, number) = (self.between(0, 8_000), self.take(at, 14_000));
                self.deeds.extend([(at, Deed::Kill(number)), (at + down, Deed::Start(number))]);
            }
            Kind::Stop => {
                let stopped = self.between(3_000, self.means.stopped_max * 1_000);
                let number = self.take(at, stopped + 6_000);
                self.deeds
                    .extend([(at, Deed::Pause(number)), (at + stopped, Deed::Resume(number))]);
            }
            Kind::Restart => {
                let (down, number) = (self.between(0, 4_000), self.take(at, 10_000));
                self.restart(at, down, number);
            }
            Kind::Replace => self.replace(at),
            Kind::Roll => {
                for nth in 0..self.instances.len() {
                    let number = self.instances[nth].0;
                    self.instances[nth].1 = at + 18_000;
                    self.restart(at + 3_000 * nth as u64, 0, number);
                }
            }
            Kind::KillBroker => {
                let broker = 1 + self.dice.below(self.means.brokers);
                self.brokers_busy = at + 25_000;
                self.deeds.push((at, Deed::KillBroker(broker)));
            }
            Kind::Cut => self.network(at, Weather::Closed, 6_000),
            Kind::Freeze => self.network(at, Weather::Frozen, 15_000),
            Kind::Slow => self.network(at, Weather::Slow, 12_000),
            Kind::Truncate => {
                self.instances.iter_mut().for_each(|(_, busy)| *busy = at + 8_000);
                let partition = self.dice.below(crate::traffic::LEDGER_PARTITIONS as usize);
                self.deeds.push((at, Deed::Truncate(partition as i32)));
            }
            Kind::Burst => {
                let long = self.between(2_000, 6_000);
                self.burst_busy = at + long + 5_000;
                self.deeds.extend([(at, Deed::Burst(true)), (at + long, Deed::Burst(false))]);
            }
        }
    }

    fn shuffled(&mut self) -> Vec<Kind> {
        use Kind::*;
        let mut cards =
            vec![Kill, Stop, Restart, Replace, Roll, Kill, Stop, Truncate, Truncate, Burst];
        if self.means.proxies {
            cards.extend([Cut, Freeze, Slow]);
        }
        if self.means.brokers > 1 {
            cards.extend([KillBroker, KillBroker]);
        }
        for last in (1..cards.len()).rev() {
            let other = self.dice.below(last + 1);
            cards.swap(last, other);
        }
        cards
    }

    fn fits(&self, kind: Kind, at: u64) -> bool {
        let free = self.instances.iter().filter(|(_, busy)| *busy <= at).count();
        match kind {
            Kind::Kill | Kind::Stop | Kind::Restart | Kind::Replace => free > 0,
            Kind::Roll => free == self.instances.len(),
            Kind::Truncate => free == self.instances.len() && self.brokers_busy <= at,
            Kind::KillBroker => self.brokers_busy <= at,
            Kind::Cut | Kind::Freeze | Kind::Slow => self.network_busy <= at,
            Kind::Burst => self.burst_busy <= at,
        }
    }

    /// One of the instances that have nothing to get over; from now on it has.
    fn take(&mut self, at: u64, busy: u64) -> Number {
        let free: Vec<usize> =
            (0..self.instances.len()).filter(|n| self.instances[*n].1 <= at).collect();
        let chosen = free[self.dice.below(free.len())];
        self.instances[chosen].1 = at + busy;
        self.instances[chosen].0
    }

    fn restart(&mut self, at: u64, down: u64, number: Number) {
        self.deeds.extend([(at, Deed::Terminate(number)), (at + down, Deed::Start(number))]);
    }

    /// One goes for good, by SIGTERM or SIGKILL, and one with a new name comes, before it or after.
    fn replace(&mut self, at: u64) {
        let (old, new) = (self.take(at, 12_000), self.next_number);
        self.next_number += 1;
        let (goes, comes) = (at + self.between(0, 5_000), at + self.between(0, 5_000));
        let end = if self.dice.below(2) == 0 { Deed::Terminate(old) } else { Deed::Kill(old) };
        self.deeds.extend([(goes, end), (comes, Deed::Start(new))]);
        self.instances.retain(|(number, _)| *number != old);
        self.instances.push((new, at + 12_000));
    }

    fn network(&mut self, at: u64, weather: Weather, long_max: u64) {
        let long = self.between(1_000, long_max);
        let broker = 1 + self.dice.below(self.means.brokers);
        self.network_busy = at + long + 2_000;
        self.deeds.extend([
            (at, Deed::Network(broker, weather)),
            (at + long, Deed::Network(broker, Weather::Clear)),
        ]);
    }
}

const ALL: Means = Means { brokers: 3, proxies: true, pause: (5, 15), stopped_max: 30 };

#[test]
fn a_seed_always_gives_the_same_schedule_and_another_seed_another() {
    let long = Duration::from_secs(600);
    assert_eq!(schedule(7, long, &ALL), schedule(7, long, &ALL));
    assert_ne!(schedule(7, long, &ALL), schedule(8, long, &ALL));
}

#[test]
fn instances_are_started_only_when_down_and_hurt_only_when_up() {
    for seed in 0..200 {
        let mut up: Vec<Number> = (0..INSTANCES).collect();
        for (at, deed) in schedule(seed, Duration::from_secs(600), &ALL) {
            let is_up = |n: Number| up.contains(&n);
            match deed {
                Deed::Kill(n) | Deed::Terminate(n) => {
                    assert!(is_up(n), "seed {seed}, {at:?}: {deed:?}");
                    up.retain(|other| *other != n);
                }
                Deed::Start(n) => {
                    assert!(!is_up(n), "seed {seed}, {at:?}: {deed:?}");
                    up.push(n);
                }
                Deed::Pause(n) | Deed::Resume(n) => {
                    assert!(is_up(n), "seed {seed}, {at:?}: {deed:?}");
                }
                Deed::Truncate(_) => assert_eq!(up.len(), INSTANCES, "seed {seed}, {at:?}"),
                _ => {}
            }
        }
        assert_eq!(up.len(), INSTANCES, "seed {seed}");
    }
}

#[test]
fn ten_minutes_hold_every_kind_of_fault() {
    for seed in 0..50 {
        let deeds = schedule(seed, Duration::from_secs(600), &ALL);
        let has = |wanted: fn(&Deed) -> bool| deeds.iter().any(|(_, deed)| wanted(deed));
        assert!(has(|d| matches!(d, Deed::Kill(_))) && has(|d| matches!(d, Deed::Pause(_))));
        assert!(
            has(|d| matches!(d, Deed::KillBroker(_))) && has(|d| matches!(d, Deed::Truncate(_)))
        );
        for weather in [Weather::Closed, Weather::Frozen, Weather::Slow] {
            assert!(deeds.iter().any(|(_, d)| matches!(d, Deed::Network(_, w) if *w == weather)));
        }
    }
}
