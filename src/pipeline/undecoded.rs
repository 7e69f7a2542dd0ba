//! What alerts and correlations see of an event that was not decoded.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::filter::Record;
use crate::alert::Exhibit;
use crate::decode::{Decoder, Known};
use crate::event::{Event, FieldPath, Value};

/// An event as the reader knows it.
pub struct Undecoded<'r> {
    known: Known<'r>,
    decoder: &'r Decoder,
    record: &'r Record<'r>,
    /// The event decoded after all, for a field that the reader does not number.
    tree: OnceCell<Option<Event<'r>>>,
}

impl<'r> Undecoded<'r> {
    /// For the record that the reader has just read.
    pub fn new(known: Known<'r>, decoder: &'r Decoder, record: &'r Record<'r>) -> Self {
        Self { known, decoder, record, tree: OnceCell::new() }
    }

    fn tree(&self) -> Option<&Event<'r>> {
        let Record { payload, headers, reference, .. } = self.record;
        let decode = || self.decoder.decode_record(*payload, headers, *reference).ok();
        self.tree.get_or_init(decode).as_ref()
    }
}

impl Exhibit for Undecoded<'_> {
    fn text(&self, path: &FieldPath) -> Option<Cow<'_, str>> {
        match self.known.number(path) {
            Some(field) => self.known.text(field),
            None => self.tree()?.text(path),
        }
    }

    fn bytes(&self, path: &FieldPath, number: Option<u32>) -> Option<Cow<'_, [u8]>> {
        match number.or_else(|| self.known.number(path)) {
            Some(field) => self.known.bytes(field),
            None => self.tree()?.text(path).map(|text| text.into_owned().into_bytes().into()),
        }
    }

    fn record(&self) -> Option<&[u8]> {
        self.record.payload
    }

    fn fields(&self, sink: &mut dyn FnMut(&str, &Value<'_>)) {
        self.known.renamed(sink);
    }
}
