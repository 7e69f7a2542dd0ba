//! How common things are in events: what signs of rules are chosen by.
//!
//! Before the first event this is a guess from what logs are full of; afterwards it is counted in a
//! sample of the events of each kind. A wrong figure makes detection slower, never wrong.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::grams::{SPREAD, rarest_window};

/// Values that a field must have been seen with before they are counted on.
const VALUES_MIN: u32 = 16;

/// Events that were looked at closely.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The lowered record of each.
    lines: Vec<Box<[u8]>>,
    /// Number of the event from 1, field and canonical form of values.
    values: Vec<(u32, u32, Box<[u8]>)>,
}

/// Bytes of a value, and of an event, that a sample keeps.
const VALUE_BYTES: usize = 512;
const LINE_BYTES: usize = 4 << 10;

impl Sample {
    /// Events in it.
    pub fn events(&self) -> usize {
        self.lines.len()
    }

    /// Takes the line of the event at hand, and ends it.
    pub fn event(&mut self, line: &[u8]) {
        self.lines.push(line[..line.len().min(LINE_BYTES)].into());
    }

    /// Takes a value of a field of the event at hand.
    pub fn value(&mut self, field: u32, canonical: &[u8]) {
        let event = self.lines.len() as u32 + 1;
        self.values.push((event, field, canonical[..canonical.len().min(VALUE_BYTES)].into()));
    }
}

/// How common things are; by default a guess.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    fields: HashMap<u32, Counted, FixedState>,
    lines: Counted,
    events: u32,
}

/// Counters of one kind; things that share one look more common than they are.
#[derive(Clone, Debug)]
struct Counters(Box<[u16]>);

impl Default for Counters {
    fn default() -> Self {
        Self(vec![0; COUNTERS].into())
    }
}

impl Counters {
    fn at(key: u64) -> usize {
        (key.wrapping_mul(SPREAD) >> (64 - COUNTERS.ilog2())) as usize
    }

    fn add(&mut self, key: u64) {
        let counter = &mut self.0[Self::at(key)];
        *counter = counter.saturating_add(1);
    }

    fn get(&self, key: u64) -> u32 {
        self.0[Self::at(key)].into()
    }
}

/// How many counters there are.
const COUNTERS: usize = 1 << 14;

/// What was counted in values of one field.
#[derive(Clone, Debug, Default)]
struct Counted {
    values: u32,
    /// Values with a byte that is not ASCII.
    foreign: u32,
    /// Events that have the field.
    present: u32,
    last_event: u32,
    /// Grams of three and four bytes.
    grams: Counters,
    /// Whole values.
    whole: Counters,
}

impl Counted {
    fn add(&mut self, value: &[u8]) {
        self.values += 1;
        self.foreign += u32::from(!value.is_ascii());
        value.windows(4).chain(value.windows(3)).for_each(|gram| self.grams.add(key(gram).into()));
    }
}

/// A gram of up to four bytes as a number; those of three bytes end with a zero.
fn key(gram: &[u8]) -> u32 {
    let mut word = [0; 4];
    let length = gram.len().min(4);
    word[..length].copy_from_slice(&gram[..length]);
    u32::from_le_bytes(word)
}

fn hash(value: &[u8]) -> u64 {
    FixedState::default().hash_one(value)
}

impl Rates {
    /// Counted in a sample.
    pub fn counted(sample: &Sample) -> Self {
        let mut rates = Self { events: sample.events() as u32, ..Self::default() };
        for (event, field, value) in &sample.values {
            let counted = rates.fields.entry(*field).or_default();
            counted.add(value);
            counted.whole.add(hash(value));
            counted.present += u32::from(counted.last_event != *event);
            counted.last_event = *event;
        }
        sample.lines.iter().for_each(|line| rates.lines.add(line));
        rates
    }

    fn field(&self, field: Option<u32>) -> Option<&Counted> {
        let counted = match field {
            Some(field) => self.fields.get(&field)?,
            None => &self.lines,
        };
        (counted.values >= VALUES_MIN).then_some(counted)
    }

    /// The share of events that have a field.
    pub fn present(&self, field: u32) -> f64 {
        match self.fields.get(&field) {
            Some(counted) => f64::from(counted.present) / f64::from(self.events.max(1)),
            None if self.events >= VALUES_MIN => 0.5 / f64::from(self.events),
            None => 0.9,
        }
    }

    /// The share of events in which a value of a field is this text.
    pub fn equal(&self, field: u32, text: &[u8]) -> f64 {
        match self.field(Some(field)) {
            Some(counted) => {
                let seen = f64::from(counted.whole.get(hash(text))).max(0.1);
                seen / f64::from(self.events.max(1))
            }
            None => self.present(field) * if text.len() <= 5 { 0.1 } else { 0.02 },
        }
    }

    /// The share of events with a value that is not ASCII in a field.
    pub fn foreign(&self, field: u32) -> f64 {
        match self.field(Some(field)) {
            Some(counted) => (f64::from(counted.foreign) + 0.1) / f64::from(counted.values),
            None => self.present(field) * 0.05,
        }
    }

    /// The share of values of a field, or of events, that contain a gram.
    fn gram(&self, field: Option<u32>, gram: &[u8]) -> f64 {
        let guess = guess(gram);
        match self.field(field) {
            Some(counted) if gram.len() >= 3 => match counted.grams.get(key(gram).into()) {
                0 => guess.min(0.1) * 0.5 / f64::from(counted.values),
                seen => (f64::from(seen) / f64::from(counted.values)).min(1.0),
            },
            _ => guess,
        }
    }

    /// Where the window of a literal is that is best looked for, and the share of events in which it
    /// is found.
    pub fn contains(&self, field: Option<u32>, literal: &[u8]) -> (usize, f64) {
        let (window, rate) = rarest_window(literal, &|gram| self.gram(field, gram));
        let present = field.map_or(1.0, |field| self.present(field));
        // Short grams are probed for at more places.
        let probes = match literal.len() {
            9.. => 0.0,
            5.. => 0.001,
            3.. => 0.003,
            _ => 0.01,
        };
        (window, present * (rate + probes))
    }
}

/// About how many values contain a gram of which nothing is known.
pub fn guess(gram: &[u8]) -> f64 {
    if COMMON_GRAMS.contains(&key(gram)) { 0.3 } else { rarity(gram) }
}

/// What logs are full of: a text that stands in one of these says little.
const COMMON: &[&str] = &[
    r"c:\\windows\\system32\\",
    r"c:\\windows\\syswow64\\",
    r"c:\\program files (x86)\\",
    r"c:\\programdata\\microsoft\\",
    r"c:\\users\\",
    r"\\appdata\\local\\temp\\",
    r"\\appdata\\roaming\\",
    r"hklm\\software\\microsoft\\windows\\currentversion\\",
    r"hklm\\system\\currentcontrolset\\services\\",
    r"\\windowspowershell\\v1.0\\powershell.exe",
    r"\\cmd.exe /c ",
    r"\\svchost.exe -k ",
    r"\\rundll32.exe",
    r"\\explorer.exe",
    ".dll",
    "microsoft® windows® operating system",
    "microsoft corporation",
    "authenticated ",
    "https://www.",
    "http://",
    "/usr/bin/",
    "/usr/sbin/",
    "/bin/bash -c ",
    "localhost",
    "127.0.0.1",
    "0x00000000",
    "user",
    "name",
    "server",
    "service",
    "process",
    "system",
    "network",
    "account",
    "windows",
    "message",
    "event",
    "2026-",
    "2025-",
    "2024-",
    "t00:00:00",
    ".000z",
];

/// The grams of these.
static COMMON_GRAMS: LazyLock<HashSet<u32, FixedState>> = LazyLock::new(|| {
    let grams = |text: &&'static str| {
        let text = text.as_bytes();
        text.windows(4).chain(text.windows(3)).map(key)
    };
    COMMON.iter().flat_map(grams).collect()
});

/// About how many values contain a gram that nothing is known of: fewer the longer it is, and the less
/// usual its characters are.
fn rarity(gram: &[u8]) -> f64 {
    let usual = |byte: &u8| match byte {
        b'e' | b'a' | b'i' | b'o' | b's' | b'n' | b't' | b'r' | b' ' | b'\\' | b'.' => 0.5,
        b'c' | b'd' | b'l' | b'm' | b'p' | b'u' | b'w' | b'0'..=b'9' => 0.35,
        b'b' | b'f' | b'g' | b'h' | b'v' | b'y' | b'-' | b'/' | b':' => 0.25,
        _ => 0.12,
    };
    gram.iter().map(usual).product()
}
