//! On the clock: lanes made so long that a second more or less of the machine is not all there is to see.
//!
//! CPU time can be told apart in a run of a tenth of a second; what two threads gain cannot. So the file of a
//! lane is repeated until it has some size, and a run takes seconds.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::Context;

use crate::Options;
use crate::contender::{Contender, Contenders, Mode};
use crate::data::{self, Corpora, Events};
use crate::measure::{figure, run};
use crate::report::Clocked;

/// The lanes that are clocked: real events, and short ones.
pub const LANES: [&str; 2] = ["win_mix", "auth_small"];

/// Bytes of each, at least.
const BYTES_MIN: u64 = 1 << 30;

/// Measures each lane with one thread and with two, in turn.
pub fn measure(
    contenders: &Contenders,
    corpora: &Corpora,
    folder: &Path,
    options: &Options,
) -> anyhow::Result<Vec<Clocked>> {
    let mut clocked = Vec::new();
    for lane in data::lanes(corpora).into_iter().filter(|lane| LANES.contains(&lane.name)) {
        let events = repeated(lane.prepare(folder, options.thin)?, options.thin)?;
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            eprintln!("{} on the clock: round {round} of {}", events.name, options.rounds);
            for (threads, runs) in [(1, &mut one), (2, &mut two)] {
                let who = Contender::Watchfire(threads);
                runs.push(run(contenders, who, Mode::Routed, &events)?);
            }
        }
        clocked.push(Clocked {
            lane: events.name.to_owned(),
            events: events.count,
            bytes: events.bytes,
            one: figure(&one, events.count),
            two: figure(&two, events.count),
        });
    }
    Ok(clocked)
}

/// The same events again and again, in a file that is kept as the others are.
fn repeated(events: Events, thin: usize) -> anyhow::Result<Events> {
    let times = (BYTES_MIN / thin as u64).div_ceil(events.bytes);
    if times <= 1 {
        return Ok(events);
    }
    let path = events.path.with_extension("long.ndjson");
    let (count, bytes) = (events.count * times, events.bytes * times);
    if fs::metadata(&path).map_or(0, |there| there.len()) != bytes {
        eprintln!("making {}", path.display());
        let mut out = File::create(&path).with_context(|| path.display().to_string())?;
        for _ in 0..times {
            io::copy(&mut File::open(&events.path)?, &mut out)?;
        }
    }
    Ok(Events { path, count, bytes, ..events })
}
