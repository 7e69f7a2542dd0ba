//! Lines of output in the order of event time.
//!
//! Lines come in runs. A run is put in order by itself, which it mostly is already, and the runs that
//! are held back are merged when event time has passed their lines. Where event time stands still while lines pile up,
//! the first are written before it has passed them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use crate::limits::EVAL_HELD_BYTES_MAX;
use crate::time::Timestamp;

/// Lines in one buffer, with what orders them.
#[derive(Default)]
pub struct Run {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// The next to be written.
    next: usize,
}

struct Line {
    /// `None` when the event has none; it is put where event time was when its line was read.
    time: Option<Timestamp>,
    /// Line of the input.
    line: i64,
    start: usize,
    end: usize,
}

impl Run {
    /// Makes room for so many lines of so many bytes together.
    pub fn reserve(&mut self, lines: usize, bytes: usize) {
        self.lines.reserve_exact(lines);
        self.bytes.reserve_exact(bytes);
    }

    /// Adds a line as `write` appends it.
    pub fn put(&mut self, time: Option<Timestamp>, line: i64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.bytes.push(b'\n');
        self.lines.push(Line { time, line, start, end: self.bytes.len() });
    }

    /// Puts the lines in order; of equal ones that which was added first comes first.
    fn settle(&mut self, now: Timestamp) {
        for line in &mut self.lines {
            line.time.get_or_insert(now);
        }
        self.lines.sort_by_key(|line| (line.time, line.line));
    }

    /// Bytes that it takes.
    fn held(&self) -> usize {
        self.bytes.capacity() + self.lines.capacity() * size_of::<Line>()
    }
}

/// A run that is held back, and what orders runs: time and line of their next lines, then the order in
/// which they came.
struct Held {
    next: (Option<Timestamp>, i64, u64),
    run: Run,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.next.cmp(&other.next)
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.next == other.next
    }
}

impl Eq for Held {}

/// Holds lines back until event time has passed them.
pub struct Writer<W: Write> {
    out: W,
    held: BinaryHeap<Reverse<Held>>,
    /// Bytes that these take.
    held_bytes: usize,
    number: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, held: BinaryHeap::new(), held_bytes: 0, number: 0 }
    }

    /// Takes a run; what has no time in it belongs to `now`.
    pub fn take(&mut self, mut run: Run, now: Timestamp) {
        run.settle(now);
        if let Some(first) = run.lines.first() {
            self.number += 1;
            self.held_bytes += run.held();
            self.held.push(Reverse(Held { next: (first.time, first.line, self.number), run }));
        }
    }

    /// Writes what lies before `time`, and the first of what is more than may be held.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn release(&mut self, time: Timestamp) -> io::Result<()> {
        self.write_while(|next, held| next < Some(time) || held > EVAL_HELD_BYTES_MAX)
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.write_while(|_, _| true)?;
        self.out.flush()
    }

    fn write_while(&mut self, due: impl Fn(Option<Timestamp>, usize) -> bool) -> io::Result<()> {
        while let Some(Reverse(first)) = self.held.peek()
            && due(first.next.0, self.held_bytes)
        {
            let Some(Reverse(Held { next: (.., number), mut run })) = self.held.pop() else {
                break;
            };
            let others = self.held.peek().map(|Reverse(held)| held.next);
            let is_next = |line: &Line| {
                let next = (line.time, line.line, number);
                due(line.time, self.held_bytes) && others.is_none_or(|others| next < others)
            };
            // Lines that stand side by side are written at once.
            while let Some(first) = run.lines.get(run.next).filter(|line| is_next(line)) {
                let mut end = first.end;
                run.next += 1;
                while let Some(line) = run.lines.get(run.next).filter(|line| is_next(line))
                    && line.start == end
                {
                    end = line.end;
                    run.next += 1;
                }
                self.out.write_all(&run.bytes[first.start..end])?;
            }
            match run.lines.get(run.next) {
                Some(line) => {
                    let next = (line.time, line.line, number);
                    self.held.push(Reverse(Held { next, run }));
                }
                None => self.held_bytes -= run.held(),
            }
        }
        Ok(())
    }

    /// Hands what was written to the reader.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of lines that say their time and line, and a letter to tell equal ones apart.
    fn run(lines: &[(i64, i64, char)]) -> Run {
        let mut run = Run::default();
        for &(time, line, letter) in lines {
            let time = (time >= 0).then_some(Timestamp(time));
            run.put(time, line, |out| out.push(letter as u8));
        }
        run
    }

    #[test]
    fn runs_are_merged_by_time_then_line_then_the_order_of_coming() {
        let mut writer = Writer::new(Vec::new());
        writer.take(run(&[(1, 0, 'a'), (5, 1, 'e'), (3, 2, 'c'), (-1, 3, 'b')]), Timestamp(2));
        writer.take(Run::default(), Timestamp(2));
        writer.release(Timestamp(3)).expect("writes");
        assert_eq!(writer.out, b"a\nb\n", "what lies before 3");
        writer.take(run(&[(5, 1, 'f'), (3, 1, 'C'), (9, 9, 'z'), (9, 9, 'Z')]), Timestamp(0));
        writer.release(Timestamp(5)).expect("writes");
        assert_eq!(writer.out, b"a\nb\nC\nc\n");
        writer.take(run(&[(4, 0, 'l'), (5, 1, 'g')]), Timestamp(0));
        writer.finish().expect("writes");
        assert_eq!(writer.out, b"a\nb\nC\nc\nl\ne\nf\ng\nz\nZ\n");
    }

    #[test]
    fn what_is_more_than_may_be_held_is_written_early_and_nothing_is_lost() {
        const LINE: usize = 1 << 20;
        let mut writer = Writer::new(io::sink());
        let mut most = 0;
        for line in 0..200 {
            let mut run = Run::default();
            run.put(Some(Timestamp(7)), line, |out| out.resize(LINE, b'x'));
            writer.take(run, Timestamp(7));
            writer.release(Timestamp(7)).expect("writes");
            most = most.max(writer.held_bytes);
        }
        assert!(most > EVAL_HELD_BYTES_MAX / 2 && most <= EVAL_HELD_BYTES_MAX, "{most}");
        let left: usize = writer.held.iter().map(|Reverse(held)| held.run.held()).sum();
        assert_eq!(writer.held_bytes, left);
        writer.finish().expect("writes");
        assert_eq!((writer.held_bytes, writer.held.len()), (0, 0));
    }
}
