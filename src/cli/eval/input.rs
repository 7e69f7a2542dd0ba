//! Lines of a file or of standard input, in chunks; or the values of a JSON file, one a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use memchr::{memchr, memchr_iter, memrchr};

use crate::limits::{EVAL_BLOCK_BYTES, EVAL_DOCUMENT_BYTES_MAX, EVENT_BYTES_MAX};

/// Bytes that are read at once where only the first line is wanted; chunks are larger, and read past them.
const READ_BYTES: usize = 1 << 16;

/// Whole lines, one behind the other.
#[derive(Default)]
pub struct Chunk {
    /// Number of the first line, from 0.
    pub first_line: i64,
    /// They are the first `end` of these.
    bytes: Vec<u8>,
    end: usize,
}

impl Chunk {
    /// The lines with their numbers, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let mut rest = &self.bytes[..self.end];
        let lines = std::iter::from_fn(move || {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest.get(..end).filter(|_| !rest.is_empty())?;
            rest = rest.get(end + 1..).unwrap_or_default();
            Some(line)
        });
        (self.first_line..).zip(lines)
    }

    /// The buffer, to be filled again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// An input in chunks. Where they are cut depends on the lines alone, so that output which waits for a
/// chunk to end is the same for a file and a pipe.
pub struct Chunks {
    input: Box<dyn BufRead + Send>,
    line: i64,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
}

impl Chunks {
    /// From the first line on.
    pub fn new(input: Box<dyn BufRead + Send>) -> Self {
        Self { input, line: 0, rest: Vec::new() }
    }

    /// Reads the next chunk into a buffer that may hold anything; `None` at the end. Of a line over the
    /// limit just enough is kept to see that it is over.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn next(&mut self, mut bytes: Vec<u8>) -> io::Result<Option<Chunk>> {
        let mut end = self.rest.len();
        let mut room = EVAL_BLOCK_BYTES.max(end);
        bytes.resize(room.max(bytes.len()), 0);
        bytes[..end].copy_from_slice(&self.rest);
        self.rest.clear();
        loop {
            let read = fill(&mut *self.input, &mut bytes[end..room])?;
            let before = end;
            end += read;
            // What was there before holds no line end, or it would have been given out.
            let line_end = memrchr(b'\n', &bytes[before..end]).map(|at| before + at);
            if let Some(at) = line_end.filter(|_| end == room) {
                self.rest.extend_from_slice(&bytes[at + 1..end]);
                end = at + 1;
                break;
            }
            if end < room {
                break;
            }
            if end > EVENT_BYTES_MAX {
                skip_line(&mut *self.input)?;
                bytes.resize(bytes.len().max(EVENT_BYTES_MAX + 2), 0);
                bytes[EVENT_BYTES_MAX + 1] = b'\n';
                end = EVENT_BYTES_MAX + 2;
                break;
            }
            room = (2 * room).min(EVENT_BYTES_MAX + 2);
            bytes.resize(room.max(bytes.len()), 0);
        }
        let first_line = self.line;
        let open = bytes[..end].last().is_some_and(|last| *last != b'\n');
        self.line += memchr_iter(b'\n', &bytes[..end]).count() as i64 + i64::from(open);
        Ok((end > 0).then_some(Chunk { first_line, bytes, end }))
    }
}

/// Reads until the buffer is full or the input ends; gives how much that was.
fn fill(input: &mut dyn BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Reads past the end of the line at hand.
fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    input.skip_until(b'\n').map(|_| ())
}

/// Opens the file, or standard input for none and `-`.
pub fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn BufRead + Send>> {
    match file {
        None => Ok(Box::new(BufReader::with_capacity(READ_BYTES, io::stdin()))),
        Some(path) if path == Path::new("-") => open(None),
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
        }
    }
}

/// Opens a file of JSON: one object a line, or, as people and tools write single events, objects over
/// several lines, one after another or in one array. Standard input is always taken line by line.
pub fn open_json(file: Option<&Path>) -> anyhow::Result<Box<dyn BufRead + Send>> {
    let mut lines = open(file)?;
    if file.is_none_or(|path| path == Path::new("-")) || first_line_is_json(&mut *lines)? {
        return Ok(lines);
    }
    let mut start = Vec::new();
    lines.by_ref().take(EVAL_DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut start)?;
    let whole = (start.len() <= EVAL_DOCUMENT_BYTES_MAX).then(|| values(&start)).flatten();
    match whole {
        Some(values) => Ok(Box::new(io::Cursor::new(values))),
        // Some lines are no JSON; they are rejected one by one.
        None => Ok(Box::new(io::Cursor::new(start).chain(lines))),
    }
}

/// Whether the first line is a JSON value by itself, and no array.
fn first_line_is_json(input: &mut dyn BufRead) -> io::Result<bool> {
    let bytes = input.fill_buf()?;
    let Some(end) = memchr(b'\n', bytes) else { return Ok(bytes.is_empty()) };
    let line = bytes[..end].trim_ascii_start();
    Ok(!line.starts_with(b"[") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok())
}

/// The objects of a text of JSON values, one a line; `None` when any of it is no JSON.
fn values(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = Vec::with_capacity(text.len());
    let mut put = |value: &[u8]| {
        // Between tokens a line end is a blank, and inside a string there is none.
        lines.extend(value.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
        lines.push(b'\n');
    };
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    for value in cut(text, &[])? {
        match value.trim_ascii().strip_prefix(b"[").and_then(|v| v.strip_suffix(b"]")) {
            Some(items) => cut(items, b",")?.into_iter().for_each(&mut put),
            None => put(value),
        }
    }
    Some(lines)
}

/// Cuts a text into the JSON values in it, which may have one of these bytes between them.
fn cut<'t>(mut text: &'t [u8], between: &[u8]) -> Option<Vec<&'t [u8]>> {
    let mut values = Vec::new();
    while !text.trim_ascii_start().is_empty() {
        let mut stream =
            serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
        stream.next()?.ok()?;
        let (value, rest) = text.split_at(stream.byte_offset());
        values.push(value);
        let rest = rest.trim_ascii_start();
        text = match rest.first() {
            Some(b) if between.contains(b) => &rest[1..],
            _ => rest,
        };
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.json");
        std::fs::write(&path, text).expect("a file");
        let lines = open_json(Some(&path)).expect("opens").lines();
        lines.map(|l| l.expect("a line").replace(' ', "")).collect()
    }

    /// The lines of all chunks, by the chunk that each was in.
    fn chunked(input: impl BufRead + Send + 'static) -> Vec<Vec<(i64, Vec<u8>)>> {
        let mut chunks = Chunks::new(Box::new(input));
        let (mut found, mut buffer) = (Vec::new(), vec![b'\n'; 7]);
        while let Some(chunk) = chunks.next(buffer).expect("reads") {
            found.push(chunk.lines().map(|(n, line)| (n, line.to_vec())).collect());
            buffer = chunk.into_buffer();
        }
        found
    }

    /// An input that gives few bytes at a time.
    struct Slow(io::Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let some = into.len().min(1 + self.0.position() as usize % 9973);
            self.0.read(&mut into[..some])
        }
    }

    #[test]
    fn chunks_hold_each_line_once_whole_and_numbered() {
        let at_limit = EVENT_BYTES_MAX;
        for lengths in [
            &[][..],
            &[0],
            &[0, 0, 5, 0],
            &[at_limit, 1, at_limit + 1, 2, 5 * at_limit, 3],
            &[at_limit + 1],
            &[EVAL_BLOCK_BYTES - 1, EVAL_BLOCK_BYTES, EVAL_BLOCK_BYTES + 1, 0],
            &[300_000, 700_000, 1_000_000, 10, 10],
            &[1000; 2000],
        ] {
            let line = |(n, bytes): (usize, &usize)| vec![b'a' + (n % 26) as u8; *bytes];
            let lines: Vec<Vec<u8>> = lengths.iter().enumerate().map(line).collect();
            let kept = |l: &Vec<u8>| l[..l.len().min(EVENT_BYTES_MAX + 1)].to_vec();
            let expect: Vec<(i64, Vec<u8>)> = (0..).zip(lines.iter().map(kept)).collect();
            for end in [&b"\n"[..], b""] {
                let open = end.is_empty() && lengths.last() == Some(&0);
                let text = [lines.join(&b'\n'), end.to_vec()].concat();
                let text = if lengths.is_empty() { Vec::new() } else { text };
                let chunks = chunked(io::Cursor::new(text.clone()));
                let expect = &expect[..expect.len() - usize::from(open)];
                assert!(chunks.concat() == expect, "{lengths:?} {end:?}");
                assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
                let slow = BufReader::with_capacity(100, Slow(io::Cursor::new(text)));
                assert!(chunked(slow) == chunks, "cut at the same lines: {lengths:?}");
            }
        }
    }

    #[test]
    fn a_json_file_may_hold_events_over_several_lines() {
        for (text, expect) in [
            ("{\"a\": 1}\n{\"b\": 2}\n", &[r#"{"a":1}"#, r#"{"b":2}"#][..]),
            ("{\n  \"a\": \"x\\ny\"\n}\n", &[r#"{"a":"x\ny"}"#]),
            ("{\n\"a\": 1\n}\n{\r\n\"b\": 2\r\n}", &[r#"{"a":1}"#, r#"{"b":2}"#]),
            ("[\n{\"a\": 1},\n{\"b\": [2, 3]}\n]\n", &[r#"{"a":1}"#, r#"{"b":[2,3]}"#]),
            ("[{\"a\": 1}, {\"b\": 2}]\n", &[r#"{"a":1}"#, r#"{"b":2}"#]),
            ("{\"a\":\n{\"b\": 2}\n", &[r#"{"a":"#, r#"{"b":2}"#]),
            ("{\"a\": 1}", &[r#"{"a":1}"#]),
            ("", &[]),
        ] {
            assert_eq!(lines(text), expect, "{text}");
        }
    }
}
