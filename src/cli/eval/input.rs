//! Lines of a file or of standard input, in chunks.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::Context;

use crate::limits::{EVAL_BATCH_LINES, EVENT_BYTES_MAX};

/// Some lines, without their ends.
#[derive(Default)]
pub struct Chunk {
    /// Number of the first line, from 0.
    pub first_line: i64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Chunk {
    /// The lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let spans = starts.zip(self.ends.iter().copied());
        (self.first_line..).zip(spans.map(|(start, end)| &self.bytes[start..end]))
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Opens the file, or standard input for none and `-`.
pub fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn BufRead + Send>> {
    match file {
        None => Ok(Box::new(BufReader::with_capacity(1 << 18, io::stdin()))),
        Some(path) if path == Path::new("-") => open(None),
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            Ok(Box::new(BufReader::with_capacity(1 << 18, file)))
        }
    }
}

/// Reads the next chunk; an empty one at the end. Of a line over the limit just enough is kept to see
/// that it is over.
pub fn next(input: &mut dyn BufRead, first_line: i64) -> io::Result<Chunk> {
    let mut chunk = Chunk { first_line, ..Chunk::default() };
    while chunk.ends.len() < EVAL_BATCH_LINES && chunk.bytes.len() < EVENT_BYTES_MAX {
        let start = chunk.bytes.len();
        let ended = line(input, &mut chunk.bytes, start + EVENT_BYTES_MAX + 1)?;
        if !ended && chunk.bytes.len() == start {
            break;
        }
        chunk.ends.push(chunk.bytes.len());
    }
    Ok(chunk)
}

/// Appends one line up to `most` bytes in all; the rest of it is skipped. True when a line ended.
fn line(input: &mut dyn BufRead, into: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let end = memchr::memchr(b'\n', bytes);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let room = most.saturating_sub(into.len()).min(line.len());
        into.extend_from_slice(&line[..room]);
        let used = line.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}
