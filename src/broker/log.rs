//! One partition's log: batches in memory, the transactions open and aborted in it, and where it begins.
//!
//! Pure: no clock, thread or socket. Offsets only grow; whatever removes batches moves the log start, so every loss is
//! visible to a consumer as an offset out of range.
//!
//! ```text
//!   start            stable (LSO)         end
//!     |  readable by read_committed |  open  |
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::batch::{self, Header};
use super::ids::Producer;
use super::sequence::{Guard, Verdict};

/// What a stored batch costs beside its bytes, for the memory bound: its entry here and the allocation's own header.
const BATCH_OVERHEAD_BYTES: u64 = 96;

/// Which records a reader wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything that was appended.
    ReadUncommitted,
    /// Nothing at or after the first open transaction.
    ReadCommitted,
}

/// The three offsets which bound a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The first offset that can be read.
    pub start: i64,
    /// The last stable offset: a read_committed consumer reads up to here.
    pub stable: i64,
    /// The offset the next record gets, also the high watermark.
    pub end: i64,
}

/// Where a produced batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// It had been appended before.
    pub duplicate: bool,
}

/// A transaction which was aborted, as a read_committed consumer needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Whose transaction it was.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its abort marker.
    pub marker_offset: i64,
}

/// What one read gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Whole batches; the first may begin before the offset that was asked for.
    pub batches: Vec<Bytes>,
    /// Sum of their lengths.
    pub bytes: usize,
    /// Aborted transactions which overlap them; empty for read_uncommitted.
    pub aborted: Vec<Aborted>,
}

#[derive(Debug)]
struct Stored {
    last: i64,
    max_timestamp_ms: i64,
    bytes: Bytes,
}

impl Stored {
    fn cost(&self) -> u64 {
        self.bytes.len() as u64 + BATCH_OVERHEAD_BYTES
    }
}

/// One partition's log.
#[derive(Debug, Default)]
pub struct PartitionLog {
    batches: VecDeque<Stored>,
    start: i64,
    end: i64,
    bytes: u64,
    guards: BTreeMap<i64, Guard>,
    /// First offset of the open transaction of each producer.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

impl PartitionLog {
    /// Start, stable and end offset.
    pub fn bounds(&self) -> LogBounds {
        let first_open = self.open.values().copied().min();
        let stable = first_open.map_or(self.end, |first| first.max(self.start));
        LogBounds { start: self.start, stable, end: self.end }
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends one batch that [`Header::check`] has passed.
    ///
    /// # Errors
    /// Those of [`Guard::judge`].
    pub fn append(&mut self, header: &Header, produced: &[u8]) -> Result<Appended, ResponseError> {
        if let Some((producer, first)) = header.sequence {
            let known = self.guards.get(&producer.id);
            let verdict = known
                .map_or(Ok(Verdict::Append), |g| g.judge(producer.epoch, first, header.records))?;
            if let Verdict::Duplicate(base_offset) = verdict {
                return Ok(Appended { base_offset, duplicate: true });
            }
            let guard =
                self.guards.entry(producer.id).or_insert_with(|| Guard::new(producer.epoch));
            guard.remember(producer.epoch, first, header.records, self.end);
            if header.transactional {
                self.open.entry(producer.id).or_insert(self.end);
            }
        }
        let base_offset = self.end;
        self.push(batch::stamped(produced, base_offset), header.records, header.max_timestamp_ms);
        Ok(Appended { base_offset, duplicate: false })
    }

    /// Ends the producer's transaction in this partition with a commit or an abort marker, which takes one offset.
    pub fn end_transaction(&mut self, producer: Producer, commit: bool, now_ms: i64) {
        let marker_offset = self.end;
        self.push(batch::marker(producer, commit, marker_offset, now_ms), 1, now_ms);
        self.guards
            .entry(producer.id)
            .or_insert_with(|| Guard::new(producer.epoch))
            .raise_epoch(producer.epoch);
        if let Some(first_offset) = self.open.remove(&producer.id)
            && !commit
        {
            self.aborted.push(Aborted { producer_id: producer.id, first_offset, marker_offset });
        }
    }

    fn push(&mut self, bytes: Bytes, records: i32, max_timestamp_ms: i64) {
        self.end += i64::from(records);
        let stored = Stored { last: self.end - 1, max_timestamp_ms, bytes };
        self.bytes += stored.cost();
        self.batches.push_back(stored);
    }

    /// Reads whole batches from an offset on, up to `bytes_max`; with `at_least_one` the first is given even if larger.
    ///
    /// # Errors
    /// `OffsetOutOfRange` before the log start or beyond the log end.
    pub fn read(
        &self,
        from: i64,
        isolation: Isolation,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Slice, ResponseError> {
        if from < self.start || from > self.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let until = self.readable_until(isolation);
        let mut slice = Slice { batches: Vec::new(), bytes: 0, aborted: Vec::new() };
        let mut last = from;
        for stored in self.batches.range(self.index_of(from)..).take_while(|s| s.last < until) {
            let fits = slice.bytes + stored.bytes.len() <= bytes_max;
            let needed = at_least_one && slice.batches.is_empty();
            if !fits && !needed {
                break;
            }
            slice.bytes += stored.bytes.len();
            slice.batches.push(stored.bytes.clone());
            last = stored.last;
        }
        if isolation == Isolation::ReadCommitted && !slice.batches.is_empty() {
            let overlaps = |a: &&Aborted| a.first_offset <= last && a.marker_offset >= from;
            slice.aborted = self.aborted.iter().filter(overlaps).copied().collect();
        }
        Ok(slice)
    }

    /// The first offset whose record has at least this timestamp, and that record's timestamp.
    pub fn offset_at_time(&self, timestamp_ms: i64, isolation: Isolation) -> Option<(i64, i64)> {
        let until = self.readable_until(isolation);
        self.batches
            .iter()
            .filter(|stored| stored.max_timestamp_ms >= timestamp_ms)
            .find_map(|stored| batch::first_at_or_after(&stored.bytes, timestamp_ms))
            .map(|(offset, timestamp)| (offset.max(self.start), timestamp))
            .filter(|(offset, _)| *offset < until)
    }

    /// Removes every record before an offset; `-1` means all of them. Gives the new log start.
    ///
    /// # Errors
    /// `OffsetOutOfRange` beyond the log end.
    pub fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        let target = if offset == -1 { self.end } else { offset };
        if target < 0 || target > self.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        while self.batches.front().is_some_and(|oldest| oldest.last < target) {
            self.drop_oldest();
        }
        self.move_start(target);
        Ok(self.start)
    }

    /// Removes the oldest batches until the log holds at most `bytes_max`, but never its newest batch.
    pub fn retain_bytes(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max && self.batches.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Removes the oldest batch and moves the log start past it. Gives `false` when there was none.
    pub fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.batches.pop_front() else {
            return false;
        };
        self.bytes -= oldest.cost();
        self.move_start(oldest.last + 1);
        true
    }

    fn move_start(&mut self, to: i64) {
        self.start = self.start.max(to);
        let start = self.start;
        self.aborted.retain(|a| a.marker_offset >= start);
    }

    fn readable_until(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end,
            Isolation::ReadCommitted => self.bounds().stable,
        }
    }

    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|stored| stored.last < offset)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::sample::Sample;
    use super::*;

    const P: Producer = Producer { id: 1, epoch: 0 };
    const Q: Producer = Producer { id: 2, epoch: 0 };

    fn append(log: &mut PartitionLog, sample: Sample) -> Result<Appended, ResponseError> {
        let bytes = sample.bytes();
        log.append(&Header::check(&bytes).unwrap(), &bytes)
    }

    fn plain(records: u8) -> Sample {
        Sample { records, ..Sample::default() }
    }

    fn transactional(producer: Producer, sequence: i32) -> Sample {
        Sample { sequence: Some((producer, sequence)), transactional: true, ..Sample::default() }
    }

    /// Base offsets of the stored batches.
    fn bases(log: &PartitionLog) -> Vec<i64> {
        let base = |s: &Stored| i64::from_be_bytes(s.bytes[..8].try_into().unwrap());
        log.batches.iter().map(base).collect()
    }

    fn read(log: &PartitionLog, from: i64) -> Slice {
        log.read(from, Isolation::ReadCommitted, usize::MAX, true).unwrap()
    }

    #[test]
    fn the_stable_offset_waits_for_the_oldest_open_transaction() {
        let mut log = PartitionLog::default();
        append(&mut log, plain(2)).unwrap();
        append(&mut log, transactional(P, 0)).unwrap();
        append(&mut log, transactional(Q, 0)).unwrap();
        assert_eq!(log.bounds(), LogBounds { start: 0, stable: 2, end: 4 });
        log.end_transaction(P, true, 0);
        assert_eq!(log.bounds(), LogBounds { start: 0, stable: 3, end: 5 });
        log.end_transaction(Q, false, 0);
        assert_eq!(log.bounds(), LogBounds { start: 0, stable: 6, end: 6 });
        let aborted = vec![Aborted { producer_id: 2, first_offset: 3, marker_offset: 5 }];
        assert_eq!(read(&log, 0).aborted, aborted);
        assert_eq!(
            log.read(0, Isolation::ReadUncommitted, usize::MAX, true).unwrap().aborted,
            vec![]
        );
    }

    #[test]
    fn a_read_gives_whole_batches_within_the_byte_limit_and_at_least_one() {
        let mut log = PartitionLog::default();
        for _ in 0..3 {
            append(&mut log, plain(2)).unwrap();
        }
        let one = plain(2).bytes().len();
        let cases = [
            (0, usize::MAX, true, 3),
            (0, one * 2, true, 2),
            (3, one * 9, true, 2),
            (0, 1, true, 1),
            (0, 1, false, 0),
        ];
        for (from, bytes_max, at_least_one, expected) in cases {
            let slice =
                log.read(from, Isolation::ReadUncommitted, bytes_max, at_least_one).unwrap();
            assert_eq!(slice.batches.len(), expected, "from {from} max {bytes_max}");
        }
        assert_eq!(
            log.read(7, Isolation::ReadUncommitted, 1, true),
            Err(ResponseError::OffsetOutOfRange)
        );
    }

    #[test]
    fn deleting_records_moves_the_start_even_inside_a_batch() {
        let mut log = PartitionLog::default();
        append(&mut log, plain(4)).unwrap();
        append(&mut log, plain(4)).unwrap();
        assert_eq!(log.delete_before(2), Ok(2));
        assert_eq!(bases(&log), vec![0, 4]);
        assert_eq!(log.delete_before(1), Ok(2), "the start never moves back");
        assert_eq!(log.delete_before(4), Ok(4));
        assert_eq!(bases(&log), vec![4]);
        assert_eq!(log.delete_before(9), Err(ResponseError::OffsetOutOfRange));
        assert_eq!(log.delete_before(-1), Ok(8));
        assert_eq!((bases(&log), log.bytes()), (vec![], 0));
        assert_eq!(
            log.read(7, Isolation::ReadUncommitted, 1, true),
            Err(ResponseError::OffsetOutOfRange)
        );
        assert_eq!(log.read(8, Isolation::ReadUncommitted, 1, true).unwrap().bytes, 0);
    }

    #[test]
    fn retention_by_bytes_keeps_the_newest_batch() {
        let mut log = PartitionLog::default();
        for _ in 0..10 {
            append(&mut log, plain(1)).unwrap();
        }
        let each = log.bytes() / 10;
        log.retain_bytes(each * 3);
        assert_eq!(bases(&log), vec![7, 8, 9]);
        log.retain_bytes(0);
        assert_eq!(log.bounds(), LogBounds { start: 9, stable: 10, end: 10 });
    }

    #[test]
    fn a_duplicate_is_answered_with_its_old_offset_and_a_fenced_epoch_is_refused() {
        let mut log = PartitionLog::default();
        append(&mut log, plain(3)).unwrap();
        let first = append(&mut log, transactional(P, 0)).unwrap();
        assert_eq!(
            append(&mut log, transactional(P, 0)).unwrap(),
            Appended { duplicate: true, ..first }
        );
        log.end_transaction(Producer { epoch: 1, ..P }, false, 0);
        assert_eq!(append(&mut log, transactional(P, 1)), Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn a_look_up_by_time_stops_at_the_stable_offset() {
        let mut log = PartitionLog::default();
        append(&mut log, Sample { timestamp_ms: 100, records: 5, ..Sample::default() }).unwrap();
        append(&mut log, Sample { timestamp_ms: 200, ..transactional(P, 0) }).unwrap();
        assert_eq!(log.offset_at_time(103, Isolation::ReadCommitted), Some((3, 103)));
        assert_eq!(log.offset_at_time(150, Isolation::ReadUncommitted), Some((5, 200)));
        assert_eq!(log.offset_at_time(150, Isolation::ReadCommitted), None);
        assert_eq!(log.offset_at_time(201, Isolation::ReadUncommitted), None);
    }

    #[test]
    fn an_aborted_transaction_is_forgotten_when_its_marker_is_deleted() {
        let mut log = PartitionLog::default();
        append(&mut log, transactional(P, 0)).unwrap();
        log.end_transaction(P, false, 0);
        append(&mut log, plain(1)).unwrap();
        log.delete_before(1).unwrap();
        assert_eq!(read(&log, 1).aborted.len(), 1);
        log.delete_before(2).unwrap();
        assert_eq!(read(&log, 2).aborted.len(), 0);
    }
}
