//! Record batches as a client makes and reads them: what the broker's state takes and gives are bytes.

use watchfire::broker::ids::Producer;
use watchfire::broker::log::Aborted;

/// Where the checksummed part of a batch begins.
const CRC_FROM: usize = 21;
const HEADER_BYTES: usize = 61;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A record, to be written or as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub offset: i64,
    pub time_ms: i64,
    pub key: Vec<u8>,
    pub payload: Option<Vec<u8>>,
}

/// One batch, at least one record. `sequence` is of a transactional producer.
pub fn encode(entries: &[Entry], sequence: Option<(Producer, i32)>) -> Vec<u8> {
    let last = entries.len() as i32 - 1;
    let first_ms = entries[0].time_ms;
    let max_ms = entries.iter().map(|e| e.time_ms).max().unwrap();
    let (producer, number) = sequence.unwrap_or((Producer { id: -1, epoch: -1 }, -1));
    let mut body = Vec::with_capacity(64 + entries.len() * 64);
    body.extend((if sequence.is_some() { TRANSACTIONAL } else { 0 }).to_be_bytes());
    body.extend(last.to_be_bytes());
    body.extend(first_ms.to_be_bytes());
    body.extend(max_ms.to_be_bytes());
    body.extend(producer.id.to_be_bytes());
    body.extend(producer.epoch.to_be_bytes());
    body.extend(number.to_be_bytes());
    body.extend((last + 1).to_be_bytes());
    let mut record = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        record.clear();
        record.push(0);
        put(&mut record, entry.time_ms - first_ms);
        put(&mut record, n as i64);
        put(&mut record, entry.key.len() as i64);
        record.extend(&entry.key);
        put(&mut record, entry.payload.as_ref().map_or(-1, |p| p.len() as i64));
        record.extend(entry.payload.iter().flatten());
        put(&mut record, 0);
        put(&mut body, record.len() as i64);
        body.extend(&record);
    }
    let mut out = Vec::with_capacity(CRC_FROM + body.len());
    out.extend(0i64.to_be_bytes());
    out.extend((body.len() as i32 + 9).to_be_bytes());
    out.extend((-1i32).to_be_bytes());
    out.push(2);
    out.extend(crc32c::crc32c(&body).to_be_bytes());
    out.extend(&body);
    out
}

/// A stored batch.
pub struct Stored {
    pub base: i64,
    /// Of a batch in a transaction.
    pub producer_id: Option<i64>,
    /// Offset after its last.
    pub end: i64,
    pub entries: Vec<Entry>,
}

impl Stored {
    /// Whether a transaction that was aborted holds it.
    pub fn is_aborted(&self, aborted: &[Aborted]) -> bool {
        aborted.iter().any(|a| {
            Some(a.producer_id) == self.producer_id
                && (a.first_offset..a.marker_offset).contains(&self.base)
        })
    }
}

/// Reads what [`encode`] has made and the broker has stamped, or a marker of the broker.
pub fn decode(batch: &[u8]) -> Stored {
    let base = i64_at(batch, 0);
    let attributes = i16::from_be_bytes(batch[CRC_FROM..CRC_FROM + 2].try_into().unwrap());
    let first_ms = i64_at(batch, 27);
    let count = i32::from_be_bytes(batch[57..61].try_into().unwrap());
    let is_marker = attributes & CONTROL != 0;
    let mut rest = &batch[HEADER_BYTES..];
    let mut entries = Vec::new();
    for _ in 0..if is_marker { 0 } else { count } {
        let length = take(&mut rest) as usize;
        let (mut record, after) = rest.split_at(length);
        rest = after;
        record = &record[1..];
        let time_ms = first_ms + take(&mut record);
        let offset = base + take(&mut record);
        let key = bytes(&mut record).unwrap_or_default();
        let payload = bytes(&mut record);
        entries.push(Entry { offset, time_ms, key, payload });
    }
    let producer_id = (attributes & TRANSACTIONAL != 0).then(|| i64_at(batch, 43));
    Stored { base, producer_id, end: base + i64::from(count), entries }
}

fn i64_at(batch: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(batch[at..at + 8].try_into().unwrap())
}

fn bytes(from: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(take(from)).ok()?;
    let (found, rest) = from.split_at(length);
    *from = rest;
    Some(found.to_vec())
}

/// Adds a zigzag varint.
fn put(to: &mut Vec<u8>, number: i64) {
    let mut raw = ((number << 1) ^ (number >> 63)) as u64;
    while raw >= 0x80 {
        to.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    to.push(raw as u8);
}

/// Takes a zigzag varint.
fn take(from: &mut &[u8]) -> i64 {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from[0];
        *from = &from[1..];
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}
