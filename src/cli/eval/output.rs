//! Lines of output in the order of event time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use crate::time::Timestamp;

/// A line and what orders it: time, then line of input, then the order in which it was made.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    time: Timestamp,
    line: i64,
    number: u64,
    text: Vec<u8>,
}

/// Holds lines back until event time has passed them.
pub struct Writer<W: Write> {
    out: W,
    held: BinaryHeap<Reverse<Held>>,
    number: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, held: BinaryHeap::new(), number: 0 }
    }

    /// Takes one line.
    pub fn put(&mut self, time: Timestamp, line: i64, text: Vec<u8>) {
        self.number += 1;
        self.held.push(Reverse(Held { time, line, number: self.number, text }));
    }

    /// Writes what lies before `time`.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn release(&mut self, time: Timestamp) -> io::Result<()> {
        while self.held.peek().is_some_and(|Reverse(h)| h.time < time) {
            let Some(Reverse(held)) = self.held.pop() else { break };
            self.write(&held.text)?;
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.out.write_all(text)?;
        self.out.write_all(b"\n")
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        while let Some(Reverse(held)) = self.held.pop() {
            self.write(&held.text)?;
        }
        self.out.flush()
    }

    /// Hands what was written to the reader.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
