//! Parsers alone, over the same bytes: what reading JSON costs before anything is asked of it.
//!
//! They run as child processes of the bench, so that one account (`wait4`) holds for all contenders.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader};

use anyhow::{Context, bail};

const BUFFER_BYTES: usize = 1 << 20;

/// Parses each line of a file.
pub fn run(parser: &str, path: &str) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| path.to_owned())?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut line = Vec::new();
    match parser {
        "serde_json" => {
            while next(&mut input, &mut line)? {
                black_box(serde_json::from_slice::<serde_json::Value>(&line)?);
            }
        }
        "simd-json" => {
            let mut buffers = simd_json::Buffers::new(BUFFER_BYTES);
            while next(&mut input, &mut line)? {
                black_box(simd_json::to_tape_with_buffers(&mut line, &mut buffers)?);
            }
        }
        other => bail!("no parser {other}"),
    }
    Ok(())
}

fn next(input: &mut impl BufRead, line: &mut Vec<u8>) -> anyhow::Result<bool> {
    line.clear();
    let read = input.read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}
