//! The record batch (format v2) as a broker sees it: a checked header over bytes which stay as the client made them.
//!
//! Owns: validation of produced batches, the two fields a broker rewrites, control batches (transaction markers)
//! and the look-up by time inside a batch. Border: compressed payloads are never opened, so a broker needs no codec;
//! look-ups inside them answer for the whole batch.
//!
//! Layout (big endian), with the offset of each field:
//!
//! ```text
//! 0 base_offset i64 | 8 length i32 | 12 leader_epoch i32 | 16 magic i8 | 17 crc u32 | 21 attributes i16
//! 23 last_offset_delta i32 | 27 base_timestamp i64 | 35 max_timestamp i64 | 43 producer_id i64
//! 51 producer_epoch i16 | 53 base_sequence i32 | 57 record_count i32 | 61 records
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;

use super::ids::Producer;

/// Bytes of the fixed header, up to the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the part that `length` counts.
const PREFIX_BYTES: usize = 12;
/// Where the checksummed part begins.
const CRC_FROM: usize = 21;

const ATTRIBUTE_CODEC: i16 = 0x07;
const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
const ATTRIBUTE_CONTROL: i16 = 0x20;

/// What the broker reads of a batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of records, and of offsets, at least one.
    pub records: i32,
    /// Timestamp of the first record, milliseconds since the epoch.
    pub base_timestamp_ms: i64,
    /// Greatest timestamp of any record, milliseconds since the epoch.
    pub max_timestamp_ms: i64,
    /// The idempotent producer and the sequence number of the first record; `None` for a plain producer.
    pub sequence: Option<(Producer, i32)>,
    /// The batch belongs to a transaction.
    pub transactional: bool,
    /// The records are compressed.
    pub compressed: bool,
}

impl Header {
    /// Checks the bytes of one produced batch and reads its header.
    ///
    /// # Errors
    /// `CorruptMessage` for a short batch or a wrong checksum, `InvalidRecord` for anything a client must not send:
    /// more than one batch, an older format, a control batch, a count which disagrees with the offsets.
    pub fn check(batch: &[u8]) -> Result<Header, ResponseError> {
        let header = Header::read(batch).ok_or(ResponseError::CorruptMessage)?;
        let length = i32_at(batch, 8).ok_or(ResponseError::CorruptMessage)?;
        let whole = usize::try_from(length).ok().and_then(|n| n.checked_add(PREFIX_BYTES));
        match whole {
            Some(n) if n == batch.len() => {}
            Some(n) if n >= HEADER_BYTES && n < batch.len() => {
                return Err(ResponseError::InvalidRecord);
            }
            _ => return Err(ResponseError::CorruptMessage),
        }
        if batch.get(16) != Some(&2) {
            return Err(ResponseError::InvalidRecord);
        }
        let checksummed = batch.get(CRC_FROM..).unwrap_or_default();
        if u32_at(batch, 17) != Some(crc32c::crc32c(checksummed)) {
            return Err(ResponseError::CorruptMessage);
        }
        let control = i16_at(batch, CRC_FROM).is_none_or(|a| a & ATTRIBUTE_CONTROL != 0);
        let last_offset_delta = i32_at(batch, 23).unwrap_or(-1);
        let counts_agree = header.records > 0 && last_offset_delta == header.records - 1;
        let transaction_has_producer = !header.transactional || header.sequence.is_some();
        if control || !counts_agree || !transaction_has_producer {
            return Err(ResponseError::InvalidRecord);
        }
        Ok(header)
    }

    fn read(batch: &[u8]) -> Option<Header> {
        let attributes = i16_at(batch, CRC_FROM)?;
        let producer = Producer { id: i64_at(batch, 43)?, epoch: i16_at(batch, 51)? };
        let base_sequence = i32_at(batch, 53)?;
        Some(Header {
            records: i32_at(batch, 57)?,
            base_timestamp_ms: i64_at(batch, 27)?,
            max_timestamp_ms: i64_at(batch, 35)?,
            sequence: (producer.id >= 0 && base_sequence >= 0).then_some((producer, base_sequence)),
            transactional: attributes & ATTRIBUTE_TRANSACTIONAL != 0,
            compressed: attributes & ATTRIBUTE_CODEC != 0,
        })
    }
}

/// Copies a batch and sets what the broker decides: its base offset, and leader epoch 0. Neither is checksummed.
///
/// A copy, because the produced bytes are a view into a whole request which would otherwise stay in memory.
pub fn stamped(batch: &[u8], base_offset: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(batch.len());
    out.put_i64(base_offset);
    out.extend_from_slice(batch.get(8..12).unwrap_or_default());
    out.put_i32(0);
    out.extend_from_slice(batch.get(16..).unwrap_or_default());
    out.freeze()
}

/// Builds the control batch which ends a transaction in one partition: a commit or an abort marker.
pub fn marker(producer: Producer, commit: bool, base_offset: i64, now_ms: i64) -> Bytes {
    // One record: no attributes, timestamp delta 0, offset delta 0, key = version 0 and type, value = version 0 and
    // coordinator epoch 0, no headers. All lengths fit one zigzag byte.
    let kind = u8::from(commit);
    let record = [0, 0, 0, 4 << 1, 0, 0, 0, kind, 6 << 1, 0, 0, 0, 0, 0, 0, 0];
    let mut body = BytesMut::with_capacity(64);
    body.put_i16(ATTRIBUTE_TRANSACTIONAL | ATTRIBUTE_CONTROL);
    body.put_i32(0);
    body.put_i64(now_ms);
    body.put_i64(now_ms);
    body.put_i64(producer.id);
    body.put_i16(producer.epoch);
    body.put_i32(-1);
    body.put_i32(1);
    body.put_u8(16 << 1);
    body.extend_from_slice(&record);

    let mut out = BytesMut::with_capacity(CRC_FROM + body.len());
    out.put_i64(base_offset);
    // Leader epoch, magic and checksum come between the length and the body: nine bytes.
    out.put_i32(i32::try_from(body.len() + 9).unwrap_or(i32::MAX));
    out.put_i32(0);
    out.put_i8(2);
    out.put_u32(crc32c::crc32c(&body));
    out.extend_from_slice(&body);
    out.freeze()
}

/// Finds the first record of a stored batch with a timestamp of at least `timestamp_ms`: its offset and timestamp.
///
/// For a compressed batch it answers with the batch's first offset, which may be earlier than Kafka's exact answer
/// and never later.
pub fn first_at_or_after(batch: &[u8], timestamp_ms: i64) -> Option<(i64, i64)> {
    let header = Header::read(batch)?;
    let base_offset = i64_at(batch, 0)?;
    if header.max_timestamp_ms < timestamp_ms {
        return None;
    }
    if header.compressed {
        return Some((base_offset, header.max_timestamp_ms));
    }
    let mut rest = batch.get(HEADER_BYTES..)?;
    for _ in 0..header.records {
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let (record, after) = rest.split_at_checked(length)?;
        rest = after;
        let mut fields = record.get(1..)?;
        let timestamp = header.base_timestamp_ms.checked_add(varint(&mut fields)?)?;
        let offset = base_offset.checked_add(varint(&mut fields)?)?;
        if timestamp >= timestamp_ms {
            return Some((offset, timestamp));
        }
    }
    None
}

/// Reads one zigzag varint and moves the slice past it.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn i16_at(bytes: &[u8], at: usize) -> Option<i16> {
    array_at(bytes, at).map(i16::from_be_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array_at(bytes, at).map(i32::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    array_at(bytes, at).map(i64::from_be_bytes)
}

/// Batches for the unit tests of this folder.
#[cfg(test)]
pub mod sample {
    use super::*;

    /// How a sample batch is made.
    #[derive(Debug, Clone, Copy)]
    pub struct Sample {
        /// Idempotent producer and base sequence.
        pub sequence: Option<(Producer, i32)>,
        /// Part of a transaction.
        pub transactional: bool,
        /// Timestamp of the first record; each further one is a millisecond later.
        pub timestamp_ms: i64,
        /// Number of records, fewer than 64.
        pub records: u8,
    }

    impl Default for Sample {
        fn default() -> Self {
            Sample { sequence: None, transactional: false, timestamp_ms: 1_000, records: 1 }
        }
    }

    impl Sample {
        /// The bytes as a client would send them.
        pub fn bytes(self) -> Vec<u8> {
            let last = i32::from(self.records) - 1;
            let (producer, sequence) =
                self.sequence.unwrap_or((Producer { id: -1, epoch: -1 }, -1));
            let mut body = BytesMut::new();
            body.put_i16(if self.transactional { ATTRIBUTE_TRANSACTIONAL } else { 0 });
            body.put_i32(last);
            body.put_i64(self.timestamp_ms);
            body.put_i64(self.timestamp_ms + i64::from(last));
            body.put_i64(producer.id);
            body.put_i16(producer.epoch);
            body.put_i32(sequence);
            body.put_i32(i32::from(self.records));
            for delta in 0..self.records {
                // attributes, timestamp delta, offset delta, no key, empty value, no headers
                body.extend_from_slice(&[6 << 1, 0, delta << 1, delta << 1, 1, 0, 0]);
            }
            let mut out = BytesMut::new();
            out.put_i64(0);
            out.put_i32(i32::try_from(body.len() + 9).unwrap_or(i32::MAX));
            out.put_i32(-1);
            out.put_i8(2);
            out.put_u32(crc32c::crc32c(&body));
            out.extend_from_slice(&body);
            out.to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sample::Sample;
    use super::*;

    #[test]
    fn a_good_batch_passes_and_each_kind_of_damage_has_its_error() {
        type Damage = fn(&mut Vec<u8>);
        let recrc = |b: &mut Vec<u8>| {
            let crc = crc32c::crc32c(&b[CRC_FROM..]);
            b[17..21].copy_from_slice(&crc.to_be_bytes());
        };
        let cases: [(&str, Damage, bool, Result<(), ResponseError>); 9] = [
            ("untouched", |_| (), false, Ok(())),
            ("base offset is not checksummed", |b| b[7] = 9, false, Ok(())),
            ("one flipped bit", |b| b[63] ^= 1, false, Err(ResponseError::CorruptMessage)),
            ("cut short", |b| b.truncate(70), false, Err(ResponseError::CorruptMessage)),
            ("only a prefix", |b| b.truncate(11), false, Err(ResponseError::CorruptMessage)),
            ("two batches", |b| b.extend(b.clone()), false, Err(ResponseError::InvalidRecord)),
            ("old format", |b| b[16] = 1, false, Err(ResponseError::InvalidRecord)),
            ("control batch", |b| b[22] |= 0x20, true, Err(ResponseError::InvalidRecord)),
            ("count disagrees", |b| b[60] = 9, true, Err(ResponseError::InvalidRecord)),
        ];
        for (name, damage, fix_crc, expected) in cases {
            let mut batch = Sample { records: 3, ..Sample::default() }.bytes();
            damage(&mut batch);
            if fix_crc {
                recrc(&mut batch);
            }
            assert_eq!(Header::check(&batch).map(|_| ()), expected, "{name}");
        }
    }

    #[test]
    fn a_look_up_by_time_finds_the_exact_record() {
        let batch =
            stamped(&Sample { records: 3, timestamp_ms: 500, ..Sample::default() }.bytes(), 40);
        let cases =
            [(0, Some((40, 500))), (500, Some((40, 500))), (501, Some((41, 501))), (503, None)];
        for (timestamp, expected) in cases {
            assert_eq!(first_at_or_after(&batch, timestamp), expected, "{timestamp}");
        }
    }

    #[test]
    fn a_marker_is_a_whole_batch_with_a_right_checksum() {
        for commit in [false, true] {
            let bytes = marker(Producer { id: 7, epoch: 3 }, commit, 11, 1_000);
            assert_eq!(i32_at(&bytes, 8), Some(i32::try_from(bytes.len() - PREFIX_BYTES).unwrap()));
            assert_eq!(u32_at(&bytes, 17), Some(crc32c::crc32c(&bytes[CRC_FROM..])));
            // A client must not send one.
            assert_eq!(Header::check(&bytes), Err(ResponseError::InvalidRecord));
        }
    }
}
