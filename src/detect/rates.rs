//! How common things are in events: what signs of rules are chosen by.
//!
//! Before the first event this is a guess from what logs are full of; afterwards it is counted in a
//! sample of the events of each kind. A wrong figure makes detection slower, never wrong.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::grams::{Gram, SPREAD, Spots, rarest_spots};

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
struct Counters<const COUNT: usize>(Box<[u16]>);

impl<const COUNT: usize> Default for Counters<COUNT> {
    fn default() -> Self {
        Self(vec![0; COUNT].into())
    }
}

impl<const COUNT: usize> Counters<COUNT> {
    fn at(key: u64) -> usize {
        (key.wrapping_mul(SPREAD) >> (64 - COUNT.ilog2())) as usize
    }

    fn add(&mut self, key: u64) {
        let counter = &mut self.0[Self::at(key)];
        *counter = counter.saturating_add(1);
    }

    fn get(&self, key: u64) -> u32 {
        self.0[Self::at(key)].into()
    }
}

/// How many counters there are for grams, and for values.
const GRAM_COUNTERS: usize = 1 << 14;
const VALUE_COUNTERS: usize = 1 << 10;

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
    grams: Counters<GRAM_COUNTERS>,
    /// Whole values.
    whole: Counters<VALUE_COUNTERS>,
}

impl Counted {
    fn add(&mut self, value: &[u8]) {
        self.values += 1;
        self.foreign += u32::from(!value.is_ascii());
        for gram in value.array_windows::<4>() {
            let four = u32::from_le_bytes(*gram);
            self.grams.add(four.into());
            self.grams.add((four & 0x00ff_ffff).into());
        }
        if let Some(last) = value.last_chunk::<3>() {
            self.grams.add(Gram::of(last).key.into());
        }
    }

    /// The share of values that contain a gram.
    fn gram(&self, gram: Gram) -> f64 {
        match self.grams.get(gram.key.into()) {
            _ if gram.length < 3 => guess(gram),
            0 => guess(gram).min(0.1) * 0.5 / f64::from(self.values),
            seen => (f64::from(seen) / f64::from(self.values)).min(1.0),
        }
    }
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

    /// Where a literal is best looked for, and the share of events in which its window is found.
    pub fn contains(&self, field: Option<u32>, literal: &[u8]) -> (Spots, f64) {
        let (spots, rate) = match self.field(field) {
            Some(counted) => rarest_spots(literal, &|gram| counted.gram(gram)),
            None => rarest_spots(literal, &guess),
        };
        let present = field.map_or(1.0, |field| self.present(field));
        // Short grams are probed for at more places.
        let probes = match literal.len() {
            9.. => 0.0,
            5.. => 0.001,
            3.. => 0.003,
            _ => 0.01,
        };
        (spots, present * (rate + probes))
    }
}

/// About how many values contain a gram of which nothing is known.
pub fn guess(gram: Gram) -> f64 {
    let at = Common::at(gram.key);
    if COMMON_GRAMS.0[at / 64] >> (at % 64) & 1 == 1 { 0.3 } else { rarity(gram) }
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

/// A bit for each gram of these; some others share one.
struct Common(Box<[u64; COMMON_WORDS]>);

const COMMON_WORDS: usize = 1 << 10;

impl Common {
    fn at(gram: u32) -> usize {
        (u64::from(gram).wrapping_mul(SPREAD) >> (64 - 6 - COMMON_WORDS.ilog2())) as usize
    }
}

static COMMON_GRAMS: LazyLock<Common> = LazyLock::new(|| {
    let mut bits = Box::new([0; COMMON_WORDS]);
    for text in COMMON.iter().map(|text| text.as_bytes()) {
        for gram in text.windows(4).chain(text.windows(3)) {
            let at = Common::at(Gram::of(gram).key);
            bits[at / 64] |= 1 << (at % 64);
        }
    }
    Common(bits)
});

/// About how many values contain a gram that nothing is known of: fewer the longer it is, and the less
/// usual its characters are.
fn rarity(gram: Gram) -> f64 {
    gram.bytes().map(|byte| USUAL[usize::from(byte)]).product()
}

/// About how usual each byte is.
static USUAL: [f64; 256] = {
    let mut usual = [0.12; 256];
    let classes: [(&[u8], f64); 3] =
        [(b"eaiosntr \\.", 0.5), (b"cdlmpuw0123456789", 0.35), (b"bfghvy-/:", 0.25)];
    let mut class = 0;
    while class < classes.len() {
        let (bytes, rate) = classes[class];
        let mut at = 0;
        while at < bytes.len() {
            usual[bytes[at] as usize] = rate;
            at += 1;
        }
        class += 1;
    }
    usual
};
