//! The world of one run: the broker, the clocks, the processes, and the plan that moves them.
//!
//! One thread does it all. A worker that is held inside a call is held on the stack: the plan goes on
//! around it, other workers do their rounds, and the call returns when its time has come.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use watchfire::broker::group::GroupSettings;
use watchfire::broker::ids::TopicPartition;
use watchfire::broker::log::Isolation;
use watchfire::broker::offsets::Position;
use watchfire::broker::state::{Settings, State};
use watchfire::broker::topic::TopicConfig;
use watchfire::bus::{BusError, Offsets, Place};
use watchfire::config::Config;
use watchfire::http::Health;
use watchfire::limits::{
    FENCED_MAX, RESTART_BACKOFF_MS_MIN, RESTART_SETTLED_MS, TRANSACTION_TIMEOUT_MS,
};
use watchfire::metrics::Metrics;
use watchfire::pipeline::Message;
use watchfire::runtime::{CorrelateStage, FilterStage, Shared, Worker};
use watchfire::time::{Clock, Timestamp};

use super::assignor;
use super::batch::{self, Entry};
use super::bus::{SimBus, SimOutbox};
use super::client::Client;
use super::mutant::{Mutant, Mutation};
use super::oracle::{self, Published};
use super::plan::{Action, Event, FIRST_CORRELATE, Kind, Plan, SLOTS};
use super::setup::{
    ALERTS, DEAD_LETTERS, LATE, MATCHES, MATCHES_PARTITIONS, RULE_SET, SOURCE, STATE, config,
    payload, source,
};

/// When every run begins.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// Partitions of the source, at most.
const PARTITIONS_MAX: usize = 4;
/// Processes of one run, the dead included.
const PROCESSES_MAX: usize = 14;
/// Calls that may be held at the same time.
const HELD_MAX: usize = 4;
/// Actions of the plan that happen while one call is held.
const ACTIONS_HELD: usize = 30;
/// Rounds in which everything must come to its end, and how long each is.
const ROUNDS_MAX: usize = 160;
const ROUND_MS: i64 = 500;
/// Rounds after which a partition that nobody has is stranded.
const STRANDED_ROUNDS: usize = 40;

/// What happened how often.
pub type Tally = BTreeMap<&'static str, u64>;

/// The clocks of one process.
#[derive(Default)]
struct Clocks {
    true_ms: AtomicI64,
    skew_ms: AtomicI64,
}

#[derive(Clone, Copy)]
struct ProcessClock(&'static Clocks);

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        let skew = self.0.skew_ms.load(Ordering::Relaxed);
        Timestamp::from_millis(self.0.true_ms.load(Ordering::Relaxed) + skew)
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.0.true_ms.load(Ordering::Relaxed) as u64)
    }
}

/// What a process needs for as long as its thread lives; used again by the next run.
#[derive(Clone, Copy)]
struct Lasting {
    clocks: &'static Clocks,
    clock: &'static ProcessClock,
    metrics: &'static Arc<Metrics>,
}

thread_local! {
    static LASTING: RefCell<Vec<Lasting>> = const { RefCell::new(Vec::new()) };
}

fn lasting(number: usize) -> Lasting {
    LASTING.with_borrow_mut(|all| {
        while all.len() <= number {
            let clocks: &'static Clocks = Box::leak(Box::default());
            let clock = Box::leak(Box::new(ProcessClock(clocks)));
            let metrics = Box::leak(Box::new(Arc::new(Metrics::new("sim").unwrap())));
            all.push(Lasting { clocks, clock, metrics });
        }
        all[number]
    })
}

enum Unit {
    Filter(Box<Worker<'static, SimBus, Mutant<FilterStage>>>),
    Correlate(Box<Worker<'static, SimBus, Mutant<CorrelateStage>>>),
}

impl Unit {
    fn step(&mut self) -> Result<(), BusError> {
        match self {
            Self::Filter(worker) => worker.step(),
            Self::Correlate(worker) => worker.step(),
        }
    }

    fn finish(self, done: Result<(), BusError>) -> Result<(), BusError> {
        match self {
            Self::Filter(worker) => worker.finish(done),
            Self::Correlate(worker) => worker.finish(done),
        }
    }
}

fn is_filter(slot: usize) -> bool {
    slot < FIRST_CORRELATE || slot == SLOTS
}

/// One worker and whoever builds it anew when it fails.
struct Process {
    slot: usize,
    name: String,
    shared: Arc<Shared>,
    lasting: Lasting,
    client: Option<Rc<RefCell<Client>>>,
    unit: Option<Unit>,
    /// In a call of its own.
    is_busy: bool,
    /// Stopped by the plan; stopped in a call.
    is_paused: bool,
    is_held: bool,
    /// Killed, ended in order, or ended because another has its name.
    is_over: bool,
    restart_at_ms: i64,
    built_at_ms: i64,
    /// How often in a row it was fenced.
    fenced: usize,
}

pub struct World {
    pub broker: RefCell<State>,
    pub mutation: Option<Mutation>,
    plan: Plan,
    config: Config,
    next: Cell<usize>,
    now_ms: Cell<i64>,
    held: Cell<usize>,
    processes: RefCell<Vec<Process>>,
    /// All that was ever written to the source, by partition.
    sources: RefCell<Vec<Vec<Entry>>>,
    /// Source records that were deleted before anybody had read them; and before there was any position.
    lost: RefCell<BTreeSet<oracle::Place>>,
    unseen: RefCell<BTreeSet<oracle::Place>>,
    tally: RefCell<Tally>,
    violation: RefCell<Option<String>>,
    /// Faults are over, and what is begun is done at once.
    pub is_settling: Cell<bool>,
    is_told: bool,
}

/// Runs a plan; gives what is wrong, if anything, and what happened.
pub fn run(plan: &Plan, mutation: Option<Mutation>, is_told: bool) -> (Option<String>, Tally) {
    let world = Rc::new(World::new(plan, mutation, is_told));
    while world.violation.borrow().is_none()
        && let Some(action) = world.next_action()
    {
        world.act(action);
    }
    world.settle();
    // Workers hold the world, and the world the workers.
    let processes = std::mem::take(&mut *world.processes.borrow_mut());
    drop(processes);
    (world.violation.take(), world.tally.take())
}

impl World {
    fn new(plan: &Plan, mutation: Option<Mutation>, is_told: bool) -> Self {
        let group = GroupSettings { initial_delay_ms: 50, session_ms_min: 6_000 };
        let mut broker = State::new(Settings {
            advertised: ("none".into(), 9),
            auto_create_partitions: None,
            memory_bytes_max: 1 << 30,
            group,
        });
        let topics = [
            (SOURCE, usize::from(plan.partitions)),
            (MATCHES, MATCHES_PARTITIONS as usize),
            (ALERTS, 1),
            (DEAD_LETTERS, 1),
            (LATE, 1),
            (STATE, MATCHES_PARTITIONS as usize),
        ];
        for (name, partitions) in topics {
            broker.create_topic(name, partitions, TopicConfig::default()).unwrap();
        }
        Self {
            broker: RefCell::new(broker),
            mutation,
            plan: plan.clone(),
            config: config(plan),
            next: Cell::new(0),
            now_ms: Cell::new(BEGIN_MS),
            held: Cell::new(0),
            processes: RefCell::default(),
            sources: RefCell::new(vec![Vec::new(); usize::from(plan.partitions)]),
            lost: RefCell::default(),
            unseen: RefCell::default(),
            tally: RefCell::default(),
            violation: RefCell::default(),
            is_settling: Cell::default(),
            is_told,
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    /// Notes that something happened that the plan was to bring about.
    pub fn happened(&self, what: &'static str) {
        self.tell(|| format!("    {what}"));
        *self.tally.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn tell(&self, what: impl Fn() -> String) {
        if self.is_told {
            let indent = "  ".repeat(self.held.get());
            println!("{:>7} {indent}{}", self.now_ms() - BEGIN_MS, what());
        }
    }

    fn violated(&self, what: String) {
        self.tell(|| format!("VIOLATION: {what}"));
        self.violation.borrow_mut().get_or_insert(what);
    }
}

/// The plan.
impl World {
    fn next_action(&self) -> Option<Action> {
        let action = self.plan.actions.get(self.next.get())?;
        self.next.set(self.next.get() + 1);
        Some(*action)
    }

    fn act(self: &Rc<Self>, action: Action) {
        self.tell(|| format!("{action:?}"));
        match action {
            Action::Write { partition, event } => self.write(partition, &event),
            Action::Serve { slot } => self.each(slot, |n| self.work(n)),
            Action::Step { slot, records } => self.each(slot, |n| self.step(n, records.into())),
            Action::Pass { ms } => self.pass(ms),
            Action::Arm { slot, fault } => self.newest(slot, |process| {
                if let Some(client) = &process.client {
                    client.borrow_mut().armed.push(fault);
                }
            }),
            Action::Pause { slot } => {
                self.newest(slot, |process| process.is_paused = true);
                self.happened("paused");
            }
            Action::Wake { slot } => self.each_of(slot, |process| process.is_paused = false),
            Action::Kill { slot } => {
                let found = self.find(slot);
                found.into_iter().for_each(|n| self.kill(n));
            }
            Action::Start { slot } if self.find(slot).is_some() => {}
            Action::Start { slot } | Action::Replace { slot } => self.start(slot.into()),
            Action::Stop { slot } => {
                if let Some(n) = self.find(slot) {
                    self.stop(n);
                }
            }
            Action::Delete { partition, keep } => self.delete(partition, keep),
            Action::Jump { slot, ms } => {
                self.newest(slot, |process| {
                    process.lasting.clocks.skew_ms.store(ms, Ordering::Relaxed);
                });
                self.happened("a clock was set");
            }
            Action::Grow => self.grow(),
        }
    }

    fn write(&self, partition: u8, event: &Event) {
        let mut sources = self.sources.borrow_mut();
        let partition = usize::from(partition) % sources.len();
        let offset = sources[partition].len() as i64;
        let (time_ms, bytes) = (self.now_ms(), payload(event, self.now_ms()));
        let entry = Entry { offset, time_ms, key: Vec::new(), payload: Some(bytes) };
        let at = TopicPartition::new(SOURCE, partition as i32);
        let batch = batch::encode(std::slice::from_ref(&entry), None);
        self.broker.borrow_mut().produce(None, &at, &batch).unwrap();
        sources[partition].push(entry);
    }

    /// Lets the plan go on for so long while a call waits.
    pub fn meanwhile(self: &Rc<Self>, ms: i64) {
        let until_ms = self.now_ms() + ms;
        if self.held.get() >= HELD_MAX {
            return self.pass(ms);
        }
        self.held.set(self.held.get() + 1);
        let mut left = ACTIONS_HELD;
        while self.now_ms() < until_ms && self.violation.borrow().is_none() {
            left = left.saturating_sub(1);
            match if left > 0 { self.next_action() } else { None } {
                Some(action) => self.act(action),
                None => self.round((until_ms - self.now_ms()).min(ROUND_MS)),
            }
        }
        self.held.set(self.held.get() - 1);
    }

    /// Holds a process in a call; stopped as a whole, or just its worker.
    pub fn hold(self: &Rc<Self>, process: usize, ms: i64, stopped: bool) {
        self.processes.borrow_mut()[process].is_held = stopped;
        self.meanwhile(ms);
        self.processes.borrow_mut()[process].is_held = false;
    }

    fn pass(&self, ms: i64) {
        self.now_ms.set(self.now_ms() + ms);
        self.broker.borrow_mut().tick(self.now_ms());
        for process in self.processes.borrow().iter() {
            process.lasting.clocks.true_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// Everybody works for a while.
    fn round(self: &Rc<Self>, ms: i64) {
        self.pass(ms);
        for n in 0..self.count() {
            self.work(n);
            self.step(n, 100);
        }
    }

    fn delete(&self, partition: u8, keep: u8) {
        let partition = usize::from(partition) % self.sources.borrow().len();
        let at = TopicPartition::new(SOURCE, partition as i32);
        let mut broker = self.broker.borrow_mut();
        let bounds = broker.log(&at).unwrap().bounds();
        let before = bounds.end - i64::from(keep);
        if before > bounds.start {
            broker.delete_records(&at, before).unwrap();
            drop(broker);
            self.happened("records deleted");
        }
    }

    fn grow(&self) {
        let mut sources = self.sources.borrow_mut();
        if sources.len() < PARTITIONS_MAX {
            sources.push(Vec::new());
            self.broker.borrow_mut().grow_topic(SOURCE, sources.len(), false).unwrap();
            for process in self.processes.borrow().iter() {
                process.shared.set_partition_count(&SOURCE.into(), sources.len() as i32);
            }
            self.happened("a partition more");
        }
    }
}

/// Processes.
impl World {
    fn count(&self) -> usize {
        self.processes.borrow().len()
    }

    /// The newest process of a name that is not over.
    fn find(&self, slot: u8) -> Option<usize> {
        let processes = self.processes.borrow();
        processes.iter().rposition(|p| p.slot == usize::from(slot) && !p.is_over)
    }

    fn newest(&self, slot: u8, deed: impl FnOnce(&mut Process)) {
        if let Some(n) = self.find(slot) {
            deed(&mut self.processes.borrow_mut()[n]);
        }
    }

    fn each_of(&self, slot: u8, deed: impl Fn(&mut Process)) {
        let mut processes = self.processes.borrow_mut();
        processes.iter_mut().filter(|p| p.slot == usize::from(slot)).for_each(deed);
    }

    fn each(&self, slot: u8, deed: impl Fn(usize)) {
        for n in 0..self.count() {
            let slot_of = self.processes.borrow()[n].slot;
            if slot_of == usize::from(slot) {
                deed(n);
            }
        }
    }

    fn start(&self, slot: usize) {
        if self.count() >= PROCESSES_MAX && self.next.get() < self.plan.actions.len() {
            return;
        }
        let stage = if is_filter(slot) { "filter" } else { "correlate" };
        // Who joins to no other end has a name that nobody had before.
        let number = if slot < SLOTS { slot } else { SLOTS + self.count() };
        let lasting = lasting(self.count());
        lasting.clocks.true_ms.store(self.now_ms(), Ordering::Relaxed);
        lasting.clocks.skew_ms.store(0, Ordering::Relaxed);
        lasting.metrics.state_keys.set([], 0.0);
        let shared = Shared::new(
            self.config.clone(),
            Arc::clone(&RULE_SET),
            vec![source()],
            MATCHES_PARTITIONS,
            Arc::clone(lasting.metrics),
            Arc::new(Health::new(&[])),
            Box::new(*lasting.clock),
        );
        let counted = match self.mutation {
            Some(Mutation::PartitionsNotCounted) => 1,
            _ => self.sources.borrow().len(),
        };
        shared.set_partition_count(&SOURCE.into(), counted as i32);
        if self.find(slot as u8).is_some() {
            self.happened("two of one name");
        }
        self.processes.borrow_mut().push(Process {
            slot,
            name: format!("{stage}-{number}"),
            shared: Arc::new(shared),
            lasting,
            client: None,
            unit: None,
            is_busy: false,
            is_paused: false,
            is_held: false,
            is_over: false,
            restart_at_ms: 0,
            built_at_ms: 0,
            fenced: 0,
        });
    }

    /// The threads of a client do what they do.
    pub fn work(&self, process: usize) {
        let processes = self.processes.borrow();
        let Process { client, lasting, is_paused, is_held, .. } = &processes[process];
        if let (Some(client), false, false) = (client, is_paused, is_held) {
            let wall = lasting.clock.now();
            client.borrow_mut().work(&mut self.broker.borrow_mut(), self.now_ms(), wall);
        }
    }

    fn step(self: &Rc<Self>, process: usize, records: usize) {
        let taken = {
            let p = &mut self.processes.borrow_mut()[process];
            if p.is_over || p.is_paused || p.is_held || p.is_busy {
                return;
            }
            p.is_busy = true;
            p.unit.take()
        };
        let due = self.processes.borrow()[process].restart_at_ms <= self.now_ms();
        match taken {
            None if due => self.build(process),
            None => {}
            Some(mut unit) => {
                if let Some(client) = &self.processes.borrow()[process].client {
                    client.borrow_mut().records_max = records;
                }
                match unit.step() {
                    Ok(()) => self.processes.borrow_mut()[process].unit = Some(unit),
                    Err(error) => self.failed(process, unit, error),
                }
            }
        }
        let over = {
            let p = &mut self.processes.borrow_mut()[process];
            p.is_busy = false;
            if p.is_over { p.unit.take() } else { None }
        };
        drop(over);
    }

    /// As `supervise` does it: a worker that is fenced again and again ends its process, any other is built
    /// anew.
    fn failed(self: &Rc<Self>, process: usize, unit: Unit, error: BusError) {
        self.tell(|| format!("    process {process} failed: {error}"));
        let is_over = self.processes.borrow()[process].is_over;
        let error = match is_over {
            true => {
                drop(unit);
                error
            }
            false => unit.finish(Err(error)).unwrap_err(),
        };
        let p = &mut self.processes.borrow_mut()[process];
        p.client = None;
        p.restart_at_ms = self.now_ms() + RESTART_BACKOFF_MS_MIN as i64;
        if self.now_ms() - p.built_at_ms >= RESTART_SETTLED_MS as i64 {
            p.fenced = 0;
        }
        p.fenced += usize::from(error.is_fenced());
        if p.fenced >= FENCED_MAX {
            p.is_over = true;
            self.happened("ended for another of its name");
        } else if !is_over {
            self.happened("built anew");
        }
    }

    fn build(self: &Rc<Self>, process: usize) {
        let (slot, name, shared, lasting) = {
            let p = &self.processes.borrow()[process];
            (p.slot, p.name.clone(), Arc::clone(&p.shared), p.lasting)
        };
        let timeout = TRANSACTION_TIMEOUT_MS as i32;
        let producer = self.broker.borrow_mut().init_producer(&name, None, timeout, self.now_ms());
        let (group, topic) = match is_filter(slot) {
            true => ("sim-filter", SOURCE),
            false => ("sim-correlate", MATCHES),
        };
        let client = Client::new(&name, group, topic, producer.unwrap(), &self.plan, self.mutation);
        let client = Rc::new(RefCell::new(client));
        let (world, member) = (Rc::clone(self), OnceCell::new());
        let bus = SimBus { world, process, client: Rc::clone(&client), member };
        let outbox = SimOutbox(Rc::clone(&client));
        let interval = shared.config.commit_interval.duration();
        let Lasting { clock, metrics, .. } = lasting;
        let unit = if is_filter(slot) {
            let stage = Mutant::new(FilterStage::new(&shared, 0), self.mutation);
            Unit::Filter(Box::new(Worker::new(bus, outbox, stage, interval, clock, metrics)))
        } else {
            let stage = Mutant::new(CorrelateStage::new(&shared, 0), self.mutation);
            Unit::Correlate(Box::new(Worker::new(bus, outbox, stage, interval, clock, metrics)))
        };
        let p = &mut self.processes.borrow_mut()[process];
        (p.client, p.unit, p.built_at_ms) = (Some(client), Some(unit), self.now_ms());
    }

    /// Whether another process has the same name.
    pub fn has_namesake(&self, process: usize) -> bool {
        let processes = self.processes.borrow();
        let is_other = |(n, p): (usize, &Process)| {
            n != process && p.name == processes[process].name && !p.is_over
        };
        processes.iter().enumerate().any(is_other)
    }

    pub fn kill(&self, process: usize) {
        self.happened("killed");
        let unit = {
            let p = &mut self.processes.borrow_mut()[process];
            p.is_over = true;
            if let Some(client) = p.client.take() {
                client.borrow_mut().is_dead = true;
            }
            p.unit.take()
        };
        drop(unit);
    }

    fn stop(self: &Rc<Self>, process: usize) {
        let unit = {
            let p = &mut self.processes.borrow_mut()[process];
            if p.is_busy || p.is_paused || p.is_held {
                return;
            }
            p.is_busy = true;
            p.unit.take()
        };
        if let Some(unit) = unit {
            self.happened("stopped in order");
            if let Err(error) = unit.finish(Ok(())) {
                self.tell(|| format!("    process {process} ended with {error}"));
            }
        }
        let p = &mut self.processes.borrow_mut()[process];
        (p.is_busy, p.is_over, p.client) = (false, true, None);
    }
}

/// The log and the positions.
impl World {
    /// Start and stable end of a partition.
    pub fn bounds(&self, (topic, partition): &Place) -> (i64, i64) {
        let at = TopicPartition::new(&**topic, *partition);
        let bounds = self.broker.borrow().log(&at).unwrap().bounds();
        (bounds.start, bounds.stable)
    }

    pub fn position(
        &self,
        group: &str,
        (topic, partition): &Place,
        stable: bool,
    ) -> Result<Option<i64>, ResponseError> {
        let broker = self.broker.borrow();
        let Some(group) = broker.group(group) else { return Ok(None) };
        let at = TopicPartition::new(&**topic, *partition);
        Ok(group.offsets.fetch(&at, stable)?.map(|p| p.offset))
    }

    fn positions(&self, client: &Client) -> Vec<(Place, Option<i64>)> {
        let partitions = self.broker.borrow().topic(&client.topic).unwrap().partitions().len();
        let place = |n| (Arc::clone(&client.topic), n as i32);
        let of = |place: Place| {
            let position = self.position(&client.group, &place, false).unwrap_or_default();
            (place, position)
        };
        (0..partitions).map(place).map(of).collect()
    }

    /// Ends the transaction of a client; what a commit does to positions is looked at.
    pub fn end_transaction(
        &self,
        client: &Client,
        offsets: &Offsets,
        commit: bool,
    ) -> Result<(), ResponseError> {
        let before = if commit { self.positions(client) } else { Vec::new() };
        let now_ms = self.now_ms();
        let mut broker = self.broker.borrow_mut();
        broker.end_transaction(&client.name, client.epoch.producer, commit, now_ms)?;
        drop(broker);
        self.tell(|| format!("    {} commit={commit} {offsets:?}", client.name));
        self.check_positions(client, &before);
        Ok(())
    }

    /// Commits positions without a transaction, as one of the mutations does.
    pub fn commit_apart(&self, group: &str, client: &Client, offsets: &Offsets) {
        let before = self.positions(client);
        if let Ok(group) = self.broker.borrow_mut().group_or_new(group) {
            for ((topic, partition), offset) in offsets {
                let at = TopicPartition::new(&**topic, *partition);
                group.offsets.commit(at, Position::new(*offset, -1, "").unwrap());
            }
        }
        self.check_positions(client, &before);
    }

    /// Positions never go back, and never beyond what whoever commits has read or what is gone.
    fn check_positions(&self, client: &Client, before: &[(Place, Option<i64>)]) {
        for (place, from) in before {
            let to = self.position(&client.group, place, false).unwrap_or_default();
            if to < *from {
                self.violated(format!(
                    "the position of {place:?} went back from {from:?} to {to:?}"
                ));
            }
            let (Some(to), SOURCE) = (to, &*place.0) else { continue };
            let offset_low = self.bounds(place).0;
            for offset in from.unwrap_or(0)..to {
                if client.handed.contains(&(place.1, offset)) {
                    continue;
                }
                let gone = if from.is_some() { &self.lost } else { &self.unseen };
                if offset < offset_low {
                    gone.borrow_mut().insert((place.1, offset));
                } else {
                    self.violated(format!(
                        "the position of {place:?} passed {offset}, which was not read"
                    ));
                }
            }
        }
    }

    /// All committed records of a partition.
    fn committed_records(&self, topic: &str, partition: i32) -> Vec<Entry> {
        let broker = self.broker.borrow();
        let log = broker.log(&TopicPartition::new(topic, partition)).unwrap();
        let slice = log.read(0, Isolation::ReadCommitted, usize::MAX, true).unwrap();
        let mut records = Vec::new();
        for bytes in &slice.batches {
            let stored = batch::decode(bytes);
            let is_aborted = slice.aborted.iter().any(|a| {
                Some(a.producer_id) == stored.producer_id
                    && (a.first_offset..a.marker_offset).contains(&stored.base)
            });
            records.extend(stored.entries.into_iter().filter(|_| !is_aborted));
        }
        records
    }
}

/// The end.
impl World {
    /// Faults are over: everything must come to its end, and stay there.
    fn settle(self: &Rc<Self>) {
        self.is_settling.set(true);
        for process in self.processes.borrow_mut().iter_mut() {
            process.is_paused = false;
            if let Some(client) = &process.client {
                client.borrow_mut().armed.clear();
            }
        }
        let mut expected = oracle::expected(&self.sources.borrow());
        let mut wrong = None;
        let mut right = 0;
        for round in 0..ROUNDS_MAX {
            if self.violation.borrow().is_some() {
                return;
            }
            self.man(round);
            let is_stuck = round % STRANDED_ROUNDS == STRANDED_ROUNDS - 1 && wrong.is_some();
            if is_stuck && !self.unstrand() {
                self.go_on();
                expected = oracle::expected(&self.sources.borrow());
            }
            self.round(ROUND_MS);
            if round % 4 == 3 {
                wrong = self.unfinished().or_else(|| self.wrong(&expected));
                right = if wrong.is_none() { right + 1 } else { 0 };
            }
            if right == 3 {
                break;
            }
        }
        if let Some(what) = wrong {
            self.violated(what);
        }
        let records: usize = self.sources.borrow().iter().map(Vec::len).sum();
        let late = self.committed_records(LATE, 0).len();
        let counts = [
            ("records", records),
            ("quiet", expected.quiet),
            ("lost records", self.lost.borrow().len()),
            ("late", late),
        ];
        let mut tally = self.tally.borrow_mut();
        counts.iter().for_each(|(what, n)| *tally.entry(what).or_default() += *n as u64);
    }

    /// Sees that both stages have a process, once those that others have fenced are over.
    fn man(&self, round: usize) {
        for first in [0, FIRST_CORRELATE] {
            let is_live = |p: &Process| is_filter(p.slot) == is_filter(first) && !p.is_over;
            if round.is_multiple_of(8) && !self.processes.borrow().iter().any(is_live) {
                self.start(first);
            }
        }
    }

    /// When readers are replaced before they could say how far event time has come, and nothing is read
    /// after them, nobody knows of any event time: the last matches wait until the source goes on.
    fn go_on(&self) {
        self.happened("waited for the source to go on");
        let event = Event { kind: Kind::Quiet, user: 0, age_ms: 0 };
        let partitions = self.sources.borrow().len();
        (0..2 * partitions).for_each(|n| self.write((n % partitions) as u8, &event));
    }

    /// A static member that is built anew between the two generations of a cooperative rebalance gets what
    /// the first of them gave it, and nobody asks for the second: what it had given back is read by nobody
    /// until somebody joins. So somebody joins. False if all have a reader.
    fn unstrand(&self) -> bool {
        let mut found = false;
        for (slot, group, topic) in
            [(SLOTS, "sim-filter", SOURCE), (SLOTS + 1, "sim-correlate", MATCHES)]
        {
            let broker = self.broker.borrow();
            let assigned: usize = broker.group(group).map_or(0, |group| {
                group.members().map(|m| assignor::decode(m.assignment).len()).sum()
            });
            let partitions = broker.topic(topic).unwrap().partitions().len();
            drop(broker);
            if assigned < partitions {
                found = true;
                self.happened("a partition was stranded");
                self.start(slot);
            }
        }
        found
    }

    /// What keeps the run from being over.
    fn unfinished(&self) -> Option<String> {
        for (n, log) in self.sources.borrow().iter().enumerate() {
            let place = (Arc::from(SOURCE), n as i32);
            let position = self.position("sim-filter", &place, false).unwrap_or_default();
            if position != Some(log.len() as i64) {
                return Some(format!("{place:?} was read up to {position:?} of {}", log.len()));
            }
        }
        for (name, topic) in self.broker.borrow().topics() {
            for (n, log) in topic.partitions().iter().enumerate() {
                let bounds = log.bounds();
                if bounds.stable != bounds.end && name != MATCHES && name != ALERTS {
                    return Some(format!("a transaction is open in {name}[{n}]: {bounds:?}"));
                }
            }
        }
        let state = self
            .processes
            .borrow()
            .iter()
            .filter(|p| !p.is_over)
            .map(|p| p.lasting.metrics.state_keys.get([]))
            .sum::<f64>();
        (state > 0.0).then(|| format!("{state} groups are left in the state"))
    }

    fn wrong(&self, expected: &oracle::Expected) -> Option<String> {
        let keys = |topic| self.committed_records(topic, 0).into_iter();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let mut found = Published::default();
        for entry in keys(ALERTS) {
            let body = entry.payload.unwrap_or_default();
            match gap_of(&body) {
                Some(gap) => found.gaps.push(gap),
                None => found.alerts.push((text(entry.key), body)),
            }
        }
        found.rejects = keys(DEAD_LETTERS).map(|e| text(e.key)).collect();
        found.late = keys(LATE).map(|e| e.payload.unwrap_or_default()).collect();
        for partition in 0..MATCHES_PARTITIONS {
            let records = self.committed_records(MATCHES, partition).into_iter();
            let payloads = records.map(|e| e.payload.unwrap_or_default());
            for payload in payloads {
                // One by one, as they are counted.
                match Message::decode(&payload) {
                    Ok(Message::Match(_)) => found.matches.push(payload),
                    Ok(Message::Bundle(bundle)) => {
                        found.matches.extend(bundle.matches().map(|m| Message::Match(m).encode()));
                    }
                    _ => {}
                }
            }
        }
        oracle::wrong(&self.plan, expected, &found, &self.lost.borrow(), &self.unseen.borrow())
    }
}

/// The range that an alert about lost records tells of.
fn gap_of(body: &[u8]) -> Option<(i32, i64, i64)> {
    let text = std::str::from_utf8(body).ok()?;
    if !text.contains("\"gap\"") {
        return None;
    }
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let gap = search(&document, "gap")?;
    let number = |name: &str| gap.get(name)?.as_i64();
    Some((number("partition")? as i32, number("from")?, number("to")?))
}

fn search<'v>(value: &'v serde_json::Value, name: &str) -> Option<&'v serde_json::Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| object.values().find_map(|inner| search(inner, name)))
}
