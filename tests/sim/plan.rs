//! What happens in one run, decided before it begins: a list of actions, made from a seed.
//!
//! An action that cannot happen when its turn comes is passed over. So any part of a plan is a plan, and
//! a failing one is made smaller by leaving actions out.

use watchfire::limits::SESSION_TIMEOUT_MS;

use super::random::Random;

/// Names that workers may have: three of the first stage, then three of the second.
pub const SLOTS: usize = 6;
pub const FIRST_CORRELATE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Quiet,
    /// An alert of its own.
    Alert,
    /// Feeds the correlations.
    Fail,
    Success,
    /// No event.
    Broken,
}

/// A record of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub user: u8,
    /// How long before it was written it happened; less than nothing for one from the future.
    pub age_ms: i64,
}

/// A place in a call of a worker at which something may happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    Batch,
    Committed,
    Bounds,
    Assign,
    Unassign,
    BeforeDrain,
    BeforeOffsets,
    BeforeEnd,
    AfterEnd,
}

pub const POINTS: [Point; 9] = [
    Point::Batch,
    Point::Committed,
    Point::Bounds,
    Point::Assign,
    Point::Unassign,
    Point::BeforeDrain,
    Point::BeforeOffsets,
    Point::BeforeEnd,
    Point::AfterEnd,
];

/// What will happen to a worker when it comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call takes so long; all of the process is stopped meanwhile, or only the one thread.
    Hold { point: Point, ms: i64, stopped: bool },
    /// The process is killed there.
    Crash(Point),
    /// The answer to the commit never comes; the commit was applied or not, and asking again helps or not.
    AnswerLost { applied: bool, again: bool },
    /// The coordinator is not there for a while.
    Retriable,
    /// The transaction can only be aborted.
    Abortable,
    /// The same, and then the abort fails too.
    AbortFails,
    /// The producer is spent.
    Fatal,
    /// A record cannot be delivered.
    NotDelivered,
    /// A batch is sent twice, since the first answer was lost.
    Resent,
    /// The committed positions cannot be had.
    CommittedFails,
    /// The bounds of a partition cannot be had.
    BoundsFails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Write {
        partition: u8,
        event: Event,
    },
    /// The threads of the client work, the worker does not: heartbeats, fetches, what is to be sent.
    Serve {
        slot: u8,
    },
    /// The worker does a round, with so many records at most.
    Step {
        slot: u8,
        records: u8,
    },
    Pass {
        ms: i64,
    },
    Arm {
        slot: u8,
        fault: Fault,
    },
    /// The process is stopped, and later goes on.
    Pause {
        slot: u8,
    },
    Wake {
        slot: u8,
    },
    Kill {
        slot: u8,
    },
    /// A worker of this name is started if there is none.
    Start {
        slot: u8,
    },
    /// The same, also if there is one: whoever starts workers thought it dead.
    Replace {
        slot: u8,
    },
    /// The process ends in order.
    Stop {
        slot: u8,
    },
    /// Retention deletes all but the last so many records of a source partition.
    Delete {
        partition: u8,
        keep: u8,
    },
    /// The wall clock of a machine is set.
    Jump {
        slot: u8,
        ms: i64,
    },
    /// The source gets one more partition.
    Grow,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub partitions: u8,
    /// Outputs that fill an epoch.
    pub full_at: usize,
    /// Silence after which the group expels a member: shorter than a transaction may take, or as long.
    pub session_ms: i64,
    /// Event time between two revisions of an alert, ms; none for 0.
    pub update_ms: i64,
    /// Whether an event may be late: by plan, by a clock that was set, by a partition nobody knew of.
    pub may_be_late: bool,
    pub actions: Vec<Action>,
}

/// The kinds of things that one run has, so that runs differ by more than luck.
struct Mix {
    faults: usize,
    deaths: usize,
    pauses: usize,
    losses: usize,
    jumps: usize,
    strange: usize,
    growth: usize,
}

impl Mix {
    fn new(r: &mut Random) -> Self {
        let mut weight = |percent, weight| if r.percent(percent) { weight } else { 0 };
        Self {
            faults: weight(80, 14),
            deaths: weight(60, 3),
            pauses: weight(60, 3),
            losses: weight(35, 2),
            jumps: weight(12, 1),
            strange: weight(15, 15),
            growth: weight(15, 1),
        }
    }
}

/// Actions of a plan before the shrinking.
const ACTIONS: usize = 190;

impl Plan {
    pub fn of(seed: u64) -> Self {
        let r = &mut Random::new(seed);
        let mix = Mix::new(r);
        let partitions = r.from(1, 3) as u8;
        let mut actions =
            vec![Action::Start { slot: 0 }, Action::Start { slot: FIRST_CORRELATE as u8 }];
        for slot in [1, FIRST_CORRELATE as u8 + 1] {
            if r.percent(50) {
                actions.push(Action::Start { slot });
            }
        }
        for _ in 0..ACTIONS {
            actions.push(action(r, &mix));
        }
        Self {
            partitions,
            full_at: if r.percent(30) { r.from(1, 6) } else { 5_000 },
            session_ms: *r.pick(&[6_000, SESSION_TIMEOUT_MS as i64]),
            update_ms: *r.pick(&[0, 1, 2_000]),
            may_be_late: mix.jumps + mix.strange + mix.growth > 0,
            actions,
        }
    }

    /// How many of its actions are not just work.
    pub fn faults(&self) -> usize {
        let is_work = |a: &&Action| {
            matches!(
                a,
                Action::Write { .. }
                    | Action::Serve { .. }
                    | Action::Step { .. }
                    | Action::Pass { .. }
            )
        };
        self.actions.len() - self.actions.iter().filter(is_work).count()
    }
}

fn action(r: &mut Random, mix: &Mix) -> Action {
    // Those that are usually there get most of what happens.
    let slot = *r.pick(&[0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5]);
    let partition = r.below(4) as u8;
    let weights = [
        22,
        14,
        36,
        16,
        mix.faults,
        mix.pauses,
        mix.pauses * 2,
        mix.deaths,
        mix.deaths.max(1) * 3,
        mix.deaths.div_ceil(2),
        1,
        mix.losses,
        mix.jumps,
        mix.growth,
    ];
    match r.weighted(&weights) {
        0 => Action::Write { partition, event: event(r, mix) },
        1 => Action::Serve { slot },
        2 => Action::Step { slot, records: if r.percent(25) { r.from(1, 3) as u8 } else { 100 } },
        3 if r.percent(5) => Action::Pass { ms: 7_000 },
        3 => Action::Pass { ms: *r.pick(&[0, 1, 20, 60, 110, 250, 600, 1_100, 2_500]) },
        4 => Action::Arm { slot, fault: fault(r) },
        5 => Action::Pause { slot },
        6 => Action::Wake { slot },
        7 => Action::Kill { slot },
        8 => Action::Start { slot },
        9 => Action::Replace { slot },
        10 => Action::Stop { slot },
        11 => Action::Delete { partition, keep: r.below(4) as u8 },
        12 => Action::Jump { slot, ms: *r.pick(&[-4_000, -700, 700, 4_000]) },
        _ => Action::Grow,
    }
}

fn event(r: &mut Random, mix: &Mix) -> Event {
    let kind = *r.pick(&[
        Kind::Quiet,
        Kind::Alert,
        Kind::Fail,
        Kind::Fail,
        Kind::Fail,
        Kind::Success,
        Kind::Success,
        Kind::Broken,
    ]);
    let user = *r.pick(&[0, 0, 0, 1, 2]);
    // Coarse, so that events of one instant are common; within the lateness that is allowed.
    let mut age_ms = *r.pick(&[0, 0, 0, 100, 300, 500, 800]);
    if r.percent(mix.strange) {
        age_ms = match kind {
            Kind::Quiet | Kind::Alert => *r.pick(&[-400_000, -86_400_000, 3_600_000]),
            _ => *r.pick(&[2_500, 10_000, 3_600_000]),
        };
    }
    Event { kind, user, age_ms }
}

fn fault(r: &mut Random) -> Fault {
    let point = *r.pick(&POINTS);
    match r.below(14) {
        0..=2 => {
            let ms = *r.pick(&[100, 1_500, 7_000, 8_500, 12_000]);
            Fault::Hold { point, ms, stopped: r.percent(60) }
        }
        3 | 4 => Fault::Crash(point),
        5 | 6 => Fault::AnswerLost { applied: r.percent(60), again: r.percent(50) },
        7 => Fault::Retriable,
        8 => Fault::Abortable,
        9 => Fault::AbortFails,
        10 => Fault::Fatal,
        11 => *r.pick(&[Fault::NotDelivered, Fault::Resent]),
        12 => Fault::CommittedFails,
        _ => Fault::BoundsFails,
    }
}

/// Tries after which a plan is small enough.
const TRIES_MAX: usize = 3_000;

/// The smallest plan that was found for which `fails` still holds: runs of actions are left out, each
/// half as long as the one before, until none of one action can go.
pub fn shrink(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut small = plan.clone();
    let mut tries = 0;
    loop {
        let before = small.actions.len();
        let mut length = before.div_ceil(2);
        while length > 0 {
            let mut at = 0;
            while at < small.actions.len() && tries < TRIES_MAX {
                let mut candidate = small.clone();
                candidate.actions.drain(at..(at + length).min(small.actions.len()));
                tries += 1;
                if fails(&candidate) {
                    small = candidate;
                } else {
                    at += length;
                }
            }
            length /= 2;
        }
        if small.actions.len() == before || tries >= TRIES_MAX {
            return small;
        }
    }
}
