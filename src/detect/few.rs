//! Which of a few literals a text contains, found by vector instructions: see [`super::vector`].

use super::grams::Draft;
use super::vector::{BUCKETS, Tables, VectorPath, WINDOW};

/// Up to so many literals are found faster this way than by probes; fewer where bytes are mistaken for
/// others.
const LITERALS_MAX: usize = 200;
const MISTAKEN_LITERALS_MAX: usize = 96;

/// Literals of one bucket.
const BUCKET_LITERALS: usize = 8;

/// Literals in one pass.
const PASS_LITERALS: usize = BUCKETS * BUCKET_LITERALS;

/// Passes that are made at once with AVX-512: their tables are as many as vector registers hold.
const PASSES_AT_ONCE: usize = 3;

/// Bytes of a text for which that pays.
const LONG: usize = 128;

/// A few literals.
#[derive(Clone, Debug, Default)]
pub struct Few {
    /// Of each pass.
    tables: Box<[Tables]>,
    buckets: Box<[[Bucket; BUCKETS]]>,
}

/// Literals that are looked at together. Most positions are found for nothing, so their windows stand
/// side by side: all are compared at once.
#[derive(Clone, Debug, Default)]
struct Bucket {
    windows: [u32; BUCKET_LITERALS],
    /// Which bits of the windows count.
    masks: [u32; BUCKET_LITERALS],
    literals: Box<[Told]>,
}

/// A literal, told by a window.
#[derive(Clone, Debug)]
struct Told {
    literal: Box<[u8]>,
    /// Where the window is in the literal.
    offset: usize,
    number: u32,
}

impl Few {
    /// Takes those literals that are few enough, the shorter ones first, since probing for them costs
    /// more. They come in classes, the longest first.
    pub fn take(classes: &mut [Vec<Draft<'_>>], path: Option<VectorPath>) -> Self {
        let Some(path) = path else { return Self::default() };
        let room = if path.is_exact() { LITERALS_MAX } else { MISTAKEN_LITERALS_MAX };
        let mut taken = Vec::new();
        for class in classes.iter_mut().rev() {
            if taken.len() + class.len() > room {
                break;
            }
            taken.append(class);
        }
        let mut told: Vec<Told> = taken.into_iter().map(Told::new).collect();
        // Those in one bucket should look alike.
        told.sort_by_key(|told| told.window().0.swap_bytes());
        let passes = told.len().div_ceil(PASS_LITERALS).max(1);
        let passes = told.chunks(told.len().div_ceil(passes).max(1)).map(|told| pass(path, told));
        let (tables, buckets): (Vec<_>, Vec<_>) = passes.unzip();
        Self { tables: tables.into(), buckets: buckets.into() }
    }

    /// How many passes there are.
    pub fn passes(&self) -> usize {
        self.tables.len()
    }

    /// See [`Grams::search`](super::grams::Grams::search).
    #[inline]
    pub fn search(
        &self,
        buffer: &[u8],
        (start, end): (usize, usize),
        found: &mut impl FnMut(u32, usize) -> bool,
    ) -> bool {
        let text = (start, end);
        let at_once = if end - start < LONG { 1 } else { PASSES_AT_ONCE };
        let mut passes = self.tables.chunks(at_once).zip(self.buckets.chunks(at_once));
        passes.any(|(tables, all)| {
            let mut found =
                |pass: usize, at, told| confirm(&all[pass], buffer, text, (at, told), found);
            match tables {
                [a] => Tables::search([a], buffer, text, &mut found),
                [a, b] => Tables::search([a, b], buffer, text, &mut found),
                [a, b, c] => Tables::search([a, b, c], buffer, text, &mut found),
                _ => false,
            }
        })
    }
}

/// Looks closer at a position.
#[inline(never)]
fn confirm(
    all: &[Bucket; BUCKETS],
    buffer: &[u8],
    (start, end): (usize, usize),
    (at, mut buckets): (usize, u8),
    found: &mut impl FnMut(u32, usize) -> bool,
) -> bool {
    let Some(window) = buffer[at..].first_chunk().map(|b| u32::from_le_bytes(*b)) else {
        return false;
    };
    while buckets != 0 {
        let bucket = &all[buckets.trailing_zeros() as usize];
        buckets &= buckets - 1;
        let mut told_by = bucket.told_by(window);
        while told_by != 0 {
            let told = &bucket.literals[told_by.trailing_zeros() as usize];
            told_by &= told_by - 1;
            let Some(from) = at.checked_sub(told.offset).filter(|from| *from >= start) else {
                continue;
            };
            let to = from + told.literal.len();
            if to <= end && buffer[from..to] == *told.literal && found(told.number, from) {
                return true;
            }
        }
    }
    false
}

/// What tells literals, and where they stand.
fn pass(path: VectorPath, told: &[Told]) -> (Tables, [Bucket; BUCKETS]) {
    let size = told.len().div_ceil(BUCKETS).max(1);
    let windows = told.iter().enumerate().map(|(at, told)| (told.window_bytes(), at / size));
    let mut parts = told.chunks(size);
    let buckets = std::array::from_fn(|_| Bucket::new(parts.next().unwrap_or_default()));
    (Tables::new(path, windows), buckets)
}

impl Bucket {
    fn new(literals: &[Told]) -> Self {
        let mut bucket = Self { literals: literals.into(), ..Self::default() };
        for (at, told) in literals.iter().enumerate() {
            (bucket.windows[at], bucket.masks[at]) = told.window();
        }
        bucket
    }

    /// Which literals a window tells of, one bit each.
    #[inline(always)]
    fn told_by(&self, window: u32) -> u32 {
        let mut same = 0;
        for place in 0..BUCKET_LITERALS {
            let is_same = (self.windows[place] ^ window) & self.masks[place] == 0;
            same |= u32::from(is_same) << place;
        }
        same & ((1 << self.literals.len()) - 1)
    }
}

impl Told {
    fn new((literal, spots, number): Draft<'_>) -> Self {
        let last = literal.len().saturating_sub(WINDOW);
        Self { literal: literal.into(), offset: spots.gram.min(last), number }
    }

    /// The window, and which bits of it count.
    fn window(&self) -> (u32, u32) {
        let bytes = self.window_bytes();
        let mut window = [0; WINDOW];
        window[..bytes.len()].copy_from_slice(bytes);
        (u32::from_le_bytes(window), u32::MAX >> (32 - 8 * bytes.len()))
    }

    fn window_bytes(&self) -> &[u8] {
        &self.literal[self.offset..][..self.literal.len().min(WINDOW)]
    }
}
