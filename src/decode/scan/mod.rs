//! The fast way from JSON bytes to a [`View`]: the scalars of a record and its wanted fields, without
//! a tree and without a copy of any string.
//!
//! 1. `index` reads 64 bytes at a time: where quotes and brackets stand, what is escaped, and the
//!    lower-cased copy. `simd` holds its vector forms, chosen once when a scanner is made.
//! 2. `walk` goes over the bytes outside of strings, which are all checked, and asks `order` what a key
//!    begins: most came in the same place before. Of those that did not, `keys` knows it.
//!
//! The border: the scanner knows no Sigma and no Windows, and words no error. Whatever is malformed or
//! only out of the ordinary is left to the slow way, which decides; so a scanner may refuse a good
//! record, but what it accepts says exactly what serde_json and [`FieldPath::find`] would say.

mod index;
mod keys;
mod order;
mod simd;
mod walk;

#[cfg(test)]
mod tests;

pub use simd::SimdPath;

use index::Index;
use keys::Keys;
use order::Order;
use simd::Dispatch;
use walk::{Seen, Walk};

use crate::event::{FieldPath, View};
use crate::limits::EVENT_BYTES_MAX;

/// Reads records into views; shared by threads.
#[derive(Clone, Debug)]
pub struct Scanner {
    keys: Keys,
    dispatch: Dispatch,
    /// Whether scalars that belong to no field are kept.
    keeps_all: bool,
}

/// What a scanner keeps between records; one for each thread.
#[derive(Clone, Debug, Default)]
pub struct ScanScratch {
    index: Index,
    seen: Vec<Seen>,
    order: Order,
    objects: u32,
}

impl Scanner {
    /// For fields by number. `stop_names` are keys at the top of a record whose presence means that
    /// the slow way must read it; `stop_prefixes` are how such keys may start.
    pub fn new(fields: &[FieldPath], stop_names: &[&str], stop_prefixes: &[&str]) -> Self {
        Self::with_path(fields, stop_names, stop_prefixes, SimdPath::best())
    }

    /// Does the same with a given instruction set, or the portable one where the machine lacks it.
    pub fn with_path(
        fields: &[FieldPath],
        stop_names: &[&str],
        stop_prefixes: &[&str],
        path: SimdPath,
    ) -> Self {
        let keys = Keys::new(fields, stop_names, stop_prefixes);
        Self { keys, dispatch: Dispatch::new(path), keeps_all: true }
    }

    /// The same without the scalars that belong to no field: for who asks of none but fields.
    #[must_use]
    pub fn of_fields_only(self) -> Self {
        Self { keeps_all: false, ..self }
    }

    /// Reads one record into the view. True: it is a JSON object to serde_json, and the view says of
    /// every field what [`FieldPath::find`] would. False: malformed or out of the ordinary, the slow
    /// way has to decide; the view is then in no defined state.
    pub fn scan(&self, record: &[u8], view: &mut View, scratch: &mut ScanScratch) -> bool {
        if record.len() > EVENT_BYTES_MAX {
            return false;
        }
        view.begin(self.keys.fields());
        let ScanScratch { index, seen, order, objects } = scratch;
        index.begin(record.len(), view);
        if !self.dispatch.index(record, index, view) || !index.is_utf8(record, view) {
            return false;
        }
        if seen.len() != self.keys.len() || *objects > u32::MAX / 2 {
            seen.clear();
            seen.resize(self.keys.len(), Seen::default());
            *objects = 0;
        }
        order.begin(self.keys.identity(), self.keys.objects());
        let (places, marks) = (&index.places[..index.count], &index.marks[..]);
        let (keys, keeps_all) = (&self.keys, self.keeps_all);
        Walk { keys, keeps_all, record, places, marks, view, seen, order, objects }
            .record()
            .is_some()
    }
}
