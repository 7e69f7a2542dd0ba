//! What a record says, by field number, without a tree: where each scalar stands in its bytes.
//!
//! The fast way from bytes to detections. A view is filled by the scanner of `decode`, or from an
//! [`Event`](super::Event) that was decoded the slow way; whoever reads it cannot tell which. It keeps
//! its buffers between records.

/// Bytes before and after the lowered copy that may be read, but say nothing.
pub const VIEW_PAD: usize = 128;

/// No scalar.
const NONE: u32 = u32::MAX;

/// What a scalar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// An integer whose digits are its text: at most 18, no leading zero, not `-0`.
    Int,
    /// Any other number.
    Number,
    /// A string, as it is written between its quotes.
    Str,
}

/// One scalar of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// First byte; of a string, the one behind the quote.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
    /// What it is.
    pub kind: Kind,
    /// The next value of the same field.
    next: u32,
}

/// A field of the record at hand.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    epoch: u32,
    first: u32,
    last: u32,
    /// Whether a scalar was found before an array or an object.
    scalar: bool,
}

/// The scalars of one record, and which fields they are.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The record with ASCII letters in lower case, from [`VIEW_PAD`] on, and at least as much behind
    /// it.
    pub low: Vec<u8>,
    /// A bit for each 64 bytes of the record: whether they hold a byte that is not ASCII, or an escape
    /// other than `\\`, `\"`, `\n`, `\r`, `\t`.
    pub unusual: Vec<u64>,
    scalars: Vec<Scalar>,
    /// Whether some scalar is a [`Kind::Number`].
    pub numbers: bool,
    /// From which on the scalars are those that the record said, each once.
    said_from: usize,
    epoch: u32,
    heads: Vec<Head>,
    touched: Vec<u32>,
    aliases: Vec<(u32, u32)>,
}

impl View {
    /// Begins with the next record; fields are numbered below `fields`.
    pub fn begin(&mut self, fields: usize) {
        self.scalars.clear();
        self.numbers = false;
        self.said_from = 0;
        self.touched.clear();
        self.aliases.clear();
        if self.heads.len() != fields || self.epoch == u32::MAX {
            self.heads.clear();
            self.heads.resize(fields, Head::default());
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    /// Notes that a field is there, with or without values.
    #[inline]
    pub fn touch(&mut self, field: u32) {
        let head = &mut self.heads[field as usize];
        if head.epoch != self.epoch {
            *head = Head { epoch: self.epoch, first: NONE, last: NONE, scalar: false };
            self.touched.push(field);
        }
    }

    /// Takes a scalar that belongs to no field.
    #[inline]
    pub fn push(&mut self, kind: Kind, start: u32, end: u32) {
        self.numbers |= kind == Kind::Number;
        self.scalars.push(Scalar { start, end, kind, next: NONE });
    }

    /// Takes a scalar as the next value of a field.
    #[inline(always)]
    pub fn push_to(&mut self, field: u32, kind: Kind, start: u32, end: u32) {
        let at = self.scalars.len() as u32;
        self.push(kind, start, end);
        let head = &mut self.heads[field as usize];
        if head.epoch != self.epoch {
            *head = Head { epoch: self.epoch, first: at, last: at, scalar: true };
            self.touched.push(field);
            return;
        }
        match head.last {
            NONE => head.first = at,
            last => self.scalars[last as usize].next = at,
        }
        head.last = at;
    }

    /// Gives a field the values of another, unless it is there already.
    pub fn alias(&mut self, from: u32, to: u32) {
        if self.is_present(from) && !self.is_present(to) {
            self.heads[to as usize] = self.heads[from as usize];
            self.touched.push(to);
            self.aliases.push((from, to));
        }
    }

    /// What [`View::alias`] did, in order: from where, to where.
    pub fn aliases(&self) -> &[(u32, u32)] {
        &self.aliases
    }

    /// Whether a field is there, be it null or empty.
    #[inline]
    pub fn is_present(&self, field: u32) -> bool {
        self.heads[field as usize].epoch == self.epoch
    }

    /// The fields that are there, in the order in which they were found.
    #[inline]
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Where the values of a field stand in [`View::scalars`].
    #[inline]
    pub fn values(&self, field: u32) -> impl Iterator<Item = usize> + '_ {
        let head = self.heads[field as usize];
        let mut at = if head.epoch == self.epoch { head.first } else { NONE };
        std::iter::from_fn(move || {
            let here = (at != NONE).then_some(at as usize)?;
            at = self.scalars[here].next;
            Some(here)
        })
    }

    /// The value of a field that has one only, and not in an array.
    #[inline]
    pub fn single(&self, field: u32) -> Option<Scalar> {
        let head = self.heads[field as usize];
        let is_single = head.epoch == self.epoch && head.scalar && head.first == head.last;
        is_single.then(|| self.scalars[head.first as usize])
    }

    /// Ends the values of fields: what is pushed from here on is what the record said.
    pub fn begin_said(&mut self) {
        self.said_from = self.scalars.len();
    }

    /// Where the scalars that the record said stand in [`View::scalars`].
    pub fn said(&self) -> std::ops::Range<usize> {
        self.said_from..self.scalars.len()
    }

    /// Every scalar.
    #[inline]
    pub fn scalars(&self) -> &[Scalar] {
        &self.scalars
    }

    /// Whether some of these bytes of the record may be unusual, see [`View::unusual`].
    #[inline]
    pub fn is_unusual(&self, start: u32, end: u32) -> bool {
        let (first, last) = (start as usize / 64, (end.max(start + 1) as usize - 1) / 64);
        if first / 64 == last / 64 {
            // Of one word those bits, mostly one or two.
            return (self.unusual[first / 64] >> (first % 64)) << (63 - (last - first)) != 0;
        }
        (first..=last).any(|block| self.unusual[block / 64] >> (block % 64) & 1 == 1)
    }
}
