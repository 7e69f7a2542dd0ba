//! Lines of a file or of standard input, in chunks; or the values of a JSON file, one a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;

use crate::limits::{EVAL_BATCH_LINES, EVAL_DOCUMENT_BYTES_MAX, EVENT_BYTES_MAX};

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
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(bytes.is_empty()) };
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
