//! The idempotent producer's guard: sequence numbers and epochs of one producer in one partition (KIP-98).
//!
//! A batch is new (its sequence follows the last), a duplicate (one of the last five, answered with its old offset)
//! or an error. Five, because a client may have five requests in flight.

use std::collections::VecDeque;

use kafka_protocol::error::ResponseError;

const REMEMBERED: usize = 5;

/// What to do with a batch which passed the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Append,
    /// It was appended before, at this offset.
    Duplicate(i64),
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: i32,
    last: i32,
    base_offset: i64,
}

/// What one partition remembers of one producer.
#[derive(Debug)]
pub struct Guard {
    epoch: i16,
    seen: VecDeque<Seen>,
}

impl Guard {
    /// Makes the guard of a producer not seen before.
    pub fn new(epoch: i16) -> Self {
        Guard { epoch, seen: VecDeque::new() }
    }

    /// Judges a batch of `records` records whose first has the sequence number `first`.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for a fenced producer, `OutOfOrderSequenceNumber` for a hole or a repeat too old to know.
    pub fn judge(&self, epoch: i16, first: i32, records: i32) -> Result<Verdict, ResponseError> {
        if epoch < self.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if epoch > self.epoch {
            return if first == 0 {
                Ok(Verdict::Append)
            } else {
                Err(ResponseError::OutOfOrderSequenceNumber)
            };
        }
        let last = advance(first, records - 1);
        if let Some(seen) = self.seen.iter().find(|s| s.first == first && s.last == last) {
            return Ok(Verdict::Duplicate(seen.base_offset));
        }
        match self.seen.back() {
            Some(previous) if advance(previous.last, 1) != first => {
                Err(ResponseError::OutOfOrderSequenceNumber)
            }
            // A producer this partition has forgotten, or never saw, may begin anywhere (KIP-360).
            _ => Ok(Verdict::Append),
        }
    }

    /// Remembers a batch that was appended.
    pub fn remember(&mut self, epoch: i16, first: i32, records: i32, base_offset: i64) {
        self.raise_epoch(epoch);
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { first, last: advance(first, records - 1), base_offset });
    }

    /// Fences every earlier epoch, as a transaction marker of a newer epoch does.
    pub fn raise_epoch(&mut self, epoch: i16) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.seen.clear();
        }
    }
}

/// Adds to a sequence number, which wraps from `i32::MAX` to zero.
fn advance(sequence: i32, by: i32) -> i32 {
    let room = i32::MAX - sequence;
    if by <= room { sequence + by } else { by - room - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_new_or_a_duplicate_or_out_of_order_or_fenced() {
        let mut guard = Guard::new(3);
        guard.remember(3, 10, 2, 100);
        guard.remember(3, 12, 3, 102);
        let cases = [
            ("the next one", 3, 15, 1, Ok(Verdict::Append)),
            ("the last again", 3, 12, 3, Ok(Verdict::Duplicate(102))),
            ("the one before again", 3, 10, 2, Ok(Verdict::Duplicate(100))),
            ("half of a known one", 3, 12, 1, Err(ResponseError::OutOfOrderSequenceNumber)),
            ("a hole", 3, 16, 1, Err(ResponseError::OutOfOrderSequenceNumber)),
            ("an old epoch", 2, 15, 1, Err(ResponseError::InvalidProducerEpoch)),
            ("a new epoch from zero", 4, 0, 1, Ok(Verdict::Append)),
            ("a new epoch, not from zero", 4, 15, 1, Err(ResponseError::OutOfOrderSequenceNumber)),
        ];
        for (name, epoch, first, records, expected) in cases {
            assert_eq!(guard.judge(epoch, first, records), expected, "{name}");
        }
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        let mut guard = Guard::new(0);
        guard.remember(0, i32::MAX - 1, 2, 0);
        assert_eq!(guard.judge(0, 0, 1), Ok(Verdict::Append));
        guard.remember(0, i32::MAX, 3, 2);
        assert_eq!(guard.judge(0, 2, 1), Ok(Verdict::Append));
    }

    #[test]
    fn only_the_last_five_batches_are_remembered() {
        let mut guard = Guard::new(0);
        for sequence in 0..6 {
            guard.remember(0, sequence, 1, i64::from(sequence));
        }
        assert_eq!(guard.judge(0, 1, 1), Ok(Verdict::Duplicate(1)));
        assert_eq!(guard.judge(0, 0, 1), Err(ResponseError::OutOfOrderSequenceNumber));
    }
}
