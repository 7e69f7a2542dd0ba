//! The bounded keyed store: all groups of all correlations, each with a timer, all accounted for.
//!
//! A group enters with its end and leaves when that is behind; nothing else takes it out. What would be
//! too much does not enter, and the caller says so.

use super::groups::{Group, Groups, NOWHERE, Note};
use super::packed::Key;
use super::timers::{Due, Ends, Timers};
use crate::time::Timestamp;
use crate::window::{Change, Episode, Happening, Window, WindowKind};

/// How many happenings can be [prefetched](Store::prefetch) at a time.
pub const PREFETCHED: usize = 64;

/// How the windows of one correlation work.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What they do.
    pub kind: WindowKind,
    /// How long they are, microseconds.
    pub timespan: i64,
}

/// What a group is looked up by.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'k> {
    /// Its values, packed.
    pub bytes: &'k [u8],
    /// Their hash, which is that of one correlation: see [`Store::keyed`].
    pub hash: u32,
    /// Where it is looked for first.
    pub number: u32,
}

/// A group that is wanted soon.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The correlation.
    pub rule: usize,
    /// The hash of its key.
    pub hash: u32,
    /// Where it seems to be, when that has been found out.
    pub number: u32,
}

impl Wanted {
    /// One of which no more is known yet.
    pub fn new(rule: usize, hash: u32) -> Self {
        Self { rule, hash, number: NOWHERE }
    }

    /// To look it up with its key.
    pub fn keyed(self, bytes: &[u8]) -> Keyed<'_> {
        Keyed { bytes, hash: self.hash, number: self.number }
    }
}

/// What a happening did to its group.
#[derive(Debug)]
pub struct Applied {
    /// The group's number.
    pub group: u32,
    /// What changed.
    pub change: Change,
    /// The episode before, where the happening may have ended it.
    pub before: Option<Box<Episode>>,
}

/// A group that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Of which correlation, under which number, and when.
    pub due: Due,
    /// What it was.
    pub group: Group,
    /// The shard that it was in.
    pub shard: u8,
}

/// How much the store may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Groups of one correlation.
    pub rule_groups: usize,
    /// Groups of all of them.
    pub groups: usize,
    /// Bytes of all groups together.
    pub bytes: usize,
}

/// What has changed of a shard since it was written: groups by correlation and number, and what they were
/// called that are no more.
#[derive(Debug, Default)]
struct Changes {
    changed: Vec<(u32, u32)>,
    gone: Vec<(u32, Key)>,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self { rule_groups: usize::MAX, groups: usize::MAX, bytes: usize::MAX };
}

/// Groups of correlations, by the correlation's number and the group's key.
#[derive(Debug, Default)]
pub struct Store {
    groups: Vec<Groups>,
    timers: Timers,
    /// By shard; of none when the state is not kept.
    changes: Vec<Changes>,
    /// Groups and bytes of all correlations together.
    used: (usize, usize),
}

impl Store {
    /// An empty one for so many correlations. What changes is listed by shard, if there are any.
    pub fn new(correlations: usize, shards: u8) -> Self {
        let groups = (0..correlations).map(|_| Groups::default()).collect();
        let changes = (0..shards).map(|_| Changes::default()).collect();
        Self { groups, changes, ..Self::default() }
    }

    /// Groups and bytes of all correlations together.
    pub fn used(&self) -> (usize, usize) {
        self.used
    }

    /// How many groups are to end at some time: as many as there are.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The groups of each correlation.
    pub fn all(&self) -> &[Groups] {
        &self.groups
    }

    /// A group of a correlation.
    pub fn get(&self, rule: usize, group: u32) -> Option<&Group> {
        self.groups.get(rule)?.get(group)
    }

    /// Works on the groups of a correlation, and keeps account.
    fn of<T>(&mut self, rule: usize, work: impl FnOnce(&mut Groups) -> T) -> T {
        let groups = &mut self.groups[rule];
        let before = (groups.len(), groups.bytes());
        let result = work(groups);
        self.used.0 = self.used.0 + groups.len() - before.0;
        self.used.1 = self.used.1 + groups.bytes() - before.1;
        result
    }

    /// Lets a happening reach its group, which is new if need be and then of that shard; `None` when there
    /// is no room for it.
    pub fn apply(
        &mut self,
        rule: usize,
        specs: &[Spec],
        bounds: &Bounds,
        key: Keyed<'_>,
        what: &Happening,
        shard: impl FnOnce() -> u8,
    ) -> Option<Applied> {
        let spec = specs.get(rule)?;
        let known = self.groups[rule].find(key);
        if known.is_none() && self.is_full(rule, bounds) {
            return None;
        }
        let (group, applied) = self.of(rule, |groups| {
            let group = known.unwrap_or_else(|| groups.insert(key, Window::new(&spec.kind)));
            let applied = groups.change(group, |g| {
                let before = may_end_within(&spec.kind, &g.window);
                (g.window.apply(&spec.kind, spec.timespan, what), before)
            });
            (group, applied)
        });
        if known.is_none() {
            if !self.changes.is_empty() {
                self.groups[rule].set_note(group, Note { shard: shard(), ..Note::default() });
            }
            self.arm(rule, group, specs);
        }
        self.note_change(rule, group);
        applied.map(|(change, before)| Applied { group, change, before })
    }

    /// A group of a correlation, to be looked up.
    pub fn keyed<'k>(&self, rule: usize, bytes: &'k [u8]) -> Keyed<'k> {
        self.groups[rule].keyed(bytes)
    }

    /// Has what happenings to come will need brought near, and notes where their groups seem to be.
    ///
    /// Among millions of groups nearly every step to one (index, group, what it remembers) waits for
    /// memory, one after the other. Taken one step for all of them at a time, they wait together.
    pub fn prefetch(&self, wanted: &mut [Wanted]) {
        wanted.iter().for_each(|it| self.groups[it.rule].prefetch_slot(it.hash));
        for it in wanted.iter_mut() {
            it.number = self.groups[it.rule].prefetch(it.hash);
        }
        for it in wanted {
            self.get(it.rule, it.number).into_iter().for_each(|group| group.window.prefetch());
        }
    }

    fn is_full(&self, rule: usize, bounds: &Bounds) -> bool {
        self.groups[rule].len() >= bounds.rule_groups
            || self.used.0 >= bounds.groups
            || self.used.1 >= bounds.bytes
    }

    /// Works on the running episode of a group.
    pub fn episode<T>(
        &mut self,
        rule: usize,
        group: u32,
        work: impl FnOnce(&mut Episode) -> T,
    ) -> Option<T> {
        let work = |g: &mut Group| g.window.episode_mut().map(work);
        self.groups.get_mut(rule)?.change(group, work).flatten()
    }

    /// Takes out the first group whose end lies before `time`, with what it was.
    pub fn end_before(&mut self, time: Timestamp, specs: &[Spec]) -> Option<Ended> {
        loop {
            let all = All { groups: &self.groups, specs };
            let due = self.timers.pop_before(time, &all)?;
            match all.end(due.rule, due.group) {
                Some((later, _)) if later > due.deadline => {
                    self.timers.arm(Due { deadline: later, ..due }, &all);
                }
                Some(_) => {
                    if let Some((group, shard)) = self.remove(due.rule as usize, due.group) {
                        return Some(Ended { due, group, shard });
                    }
                }
                None => {}
            }
        }
    }

    fn arm(&mut self, rule: usize, group: u32, specs: &[Spec]) {
        let (all, rule) = (All { groups: &self.groups, specs }, rule as u32);
        if let Some((deadline, _)) = all.end(rule, group) {
            self.timers.arm(Due { deadline, rule, group }, &all);
        }
    }

    /// Takes a group out; says in which shard it was.
    fn remove(&mut self, rule: usize, group: u32) -> Option<(Group, u8)> {
        let (group, note) = self.of(rule, |groups| groups.remove(group))?;
        if note.written
            && let Some(changes) = self.changes.get_mut(usize::from(note.shard))
        {
            changes.gone.push((rule as u32, group.key.clone()));
        }
        Some((group, note.shard))
    }

    /// Lists a group as changed, unless it is.
    fn note_change(&mut self, rule: usize, number: u32) {
        if self.changes.is_empty() {
            return;
        }
        let Some(note) = self.groups[rule].note(number).filter(|n| !n.changed) else { return };
        note.changed = true;
        if let Some(changes) = self.changes.get_mut(usize::from(note.shard)) {
            changes.changed.push((rule as u32, number));
        }
    }

    /// How many groups are listed as changed or gone.
    pub fn unwritten(&self) -> usize {
        self.changes.iter().map(|c| c.changed.len() + c.gone.len()).sum()
    }

    /// Hands out what has changed of a shard since the last time: the groups that are gone without a
    /// window, then the others.
    pub fn write(&mut self, shard: u8, mut out: impl FnMut(usize, &Key, Option<&Window>)) {
        let Some(changes) = self.changes.get_mut(usize::from(shard)) else { return };
        let Changes { changed, gone } = std::mem::take(changes);
        gone.iter().for_each(|(rule, key)| out(*rule as usize, key, None));
        for (rule, number) in changed {
            // By now the number may be another group's, which has an entry of its own.
            let groups = &mut self.groups[rule as usize];
            let note = groups.note(number).filter(|n| n.changed && n.shard == shard);
            let Some(note) = note else { continue };
            (note.changed, note.written) = (false, true);
            if let Some(group) = groups.get(number) {
                out(rule as usize, &group.key, Some(&group.window));
            }
        }
    }

    /// Puts a group back as it was written; its timer has still to be [armed](Self::arm_kept).
    pub fn put_kept(&mut self, rule: usize, key: &[u8], shard: u8, window: Window) {
        let key = self.groups[rule].keyed(key);
        let known = self.groups[rule].find(key);
        self.of(rule, |groups| {
            let number = match known {
                Some(number) => groups.change(number, |g| g.window = window).map(|()| number),
                None => Some(groups.insert(key, window)),
            };
            let note = Note { shard, changed: false, written: true };
            number.into_iter().for_each(|number| groups.set_note(number, note));
        });
    }

    /// Takes a group out that was written as gone.
    pub fn drop_kept(&mut self, rule: usize, key: &[u8]) {
        if let Some(number) = self.groups[rule].find(self.keyed(rule, key)) {
            self.of(rule, |groups| groups.remove(number));
        }
    }

    /// Sets the timer of every group that was put back. Those that had ended by the time of their shard,
    /// as a record that was deleted and turned up again may say, are taken out.
    pub fn arm_kept(&mut self, specs: &[Spec], happened: &[Option<Timestamp>]) {
        for rule in 0..self.groups.len() {
            let numbers: Vec<u32> = self.groups[rule].iter().map(|(number, _)| number).collect();
            for number in numbers {
                let all = All { groups: &self.groups, specs };
                let Some((deadline, _)) = all.end(rule as u32, number) else { continue };
                let shard =
                    self.groups[rule].note(number).map_or(0, |note| usize::from(note.shard));
                if happened.get(shard).is_some_and(|w| Some(deadline) < *w) {
                    self.remove(rule, number);
                } else {
                    self.arm(rule, number, specs);
                }
            }
        }
    }
}

/// All groups, to be asked when they end.
struct All<'s> {
    groups: &'s [Groups],
    specs: &'s [Spec],
}

impl Ends for All<'_> {
    fn end(&self, rule: u32, group: u32) -> Option<(Timestamp, &Key)> {
        let spec = self.specs.get(rule as usize)?;
        let found = self.groups.get(rule as usize)?.get(group)?;
        Some((found.window.deadline(&spec.kind, spec.timespan), &found.key))
    }

    fn prefetch(&self, rule: u32, group: u32) {
        if let Some(groups) = self.groups.get(rule as usize) {
            groups.prefetch_group(group);
        }
    }

    fn prefetch_slot(&self, rule: u32, group: u32) {
        if let Some(groups) = self.groups.get(rule as usize) {
            groups.prefetch_slot_of(group);
        }
    }
}

/// Episodes of most windows end with the window; those of a spike may end before.
fn may_end_within(kind: &WindowKind, window: &Window) -> Option<Box<Episode>> {
    matches!(kind, WindowKind::Spike { .. }).then(|| window.episode().cloned().map(Box::new))?
}
