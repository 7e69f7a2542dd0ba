//! What more rules cost: sets from a hundred to ten thousand, over the same events.
//!
//! Beyond what there is, rules are copied with other literals: a copy that asks the same question
//! would cost nothing, since equal questions are asked once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::Options;
use crate::contender::{Contender, Contenders, Mode};
use crate::data::{self, Corpora, rule_files};
use crate::measure::{figure, run};
use crate::report::Growth;
use crate::seeded::Seeded;

const SIZES: [usize; 4] = [100, 1000, 3141, 10_000];
const LANE: &str = "win_mix";
const SEED: u64 = 20;

/// Measures each set in each mode there is.
pub fn measure(
    contenders: &Contenders,
    corpora: &Corpora,
    folder: &Path,
    options: &Options,
) -> anyhow::Result<Vec<Growth>> {
    ensure!(corpora.are_there(), "--growth needs the corpora: set WATCHFIRE_CORPORA");
    let lane = data::lanes(corpora).into_iter().find(|l| l.name == LANE).context(LANE)?;
    let events = lane.prepare(folder, options.thin)?;
    let mut modes = vec![Mode::Routed];
    modes.extend(contenders.unrouted.then_some(Mode::Unrouted));
    let mut cells = Vec::new();
    for size in SIZES {
        let rules = write_rules(&corpora.rules(), folder, size)?;
        let sized = contenders.with_rules(rules);
        let loaded = sized.rules_loaded()?;
        ensure!(loaded == size, "{loaded} of {size} rules were loaded");
        modes.iter().for_each(|mode| cells.push((size, *mode, sized.clone(), Vec::new())));
    }
    for round in 1..=options.rounds {
        for (size, mode, sized, runs) in &mut cells {
            eprintln!("{size} rules {mode:?}: round {round} of {}", options.rounds);
            runs.push(run(sized, Contender::Watchfire(1), *mode, &events)?);
        }
    }
    let growth = |(rules, mode, _, runs): &(usize, Mode, _, Vec<_>)| Growth {
        rules: *rules,
        mode: *mode,
        figure: figure(runs, events.count),
    };
    Ok(cells.iter().map(growth).collect())
}

/// A folder with so many rules: every n-th of the given ones, or all of them and copies.
fn write_rules(from: &Path, folder: &Path, size: usize) -> anyhow::Result<PathBuf> {
    let target = folder.join(format!("rules-{size}"));
    if target.is_dir() {
        return Ok(target);
    }
    let files = rule_files(from);
    let texts: Vec<String> = files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let part = target.with_extension("part");
    fs::create_dir_all(&part)?;
    let mut random = Seeded::new(SEED);
    let write = |n: usize, text: &str| fs::write(part.join(format!("{n:05}.yml")), text);
    for n in 0..size.min(texts.len()) {
        write(n, &texts[n * texts.len() / size.min(texts.len())])?;
    }
    // A regular expression or a network with other letters may be none.
    let plain: Vec<&String> =
        texts.iter().filter(|t| !t.contains("|re") && !t.contains("|cidr")).collect();
    for n in texts.len()..size {
        write(n, &copy(plain[n % plain.len()], n, &mut random))?;
    }
    fs::rename(&part, &target)?;
    Ok(target)
}

/// The rule with another id and title, and other letters in what it looks for.
fn copy(text: &str, n: usize, random: &mut Seeded) -> String {
    let mut out = String::with_capacity(text.len());
    let mut detection = false;
    for line in text.lines() {
        let top = line.starts_with(|c: char| c.is_ascii_alphabetic());
        detection = if top { line.starts_with("detection:") } else { detection };
        match line.split_once(':') {
            Some(("id", _)) => out += &format!("id: 00000000-0000-4000-8000-{n:012}"),
            Some(("title", title)) => out += &format!("title:{title} ({n})"),
            Some(("name", _)) => out += &format!("name: copy_{n}"),
            Some((key, _)) if !detection || top || key.trim() == "condition" => out += line,
            _ if !detection => out += line,
            _ => out += &changed(line, random),
        }
        out.push('\n');
    }
    out
}

/// A line of a detection with other letters in its value. Lengths, case, digits, separators and
/// wildcards stay, so the copy costs what its original does.
fn changed(line: &str, random: &mut Seeded) -> String {
    let item = line.find("- ").filter(|at| line[..*at].trim().is_empty()).map(|at| at + 2);
    let open = line.trim_end().strip_suffix(':').map(|key| key.trim_start_matches([' ', '-']));
    if open.is_some_and(is_key) {
        return line.to_owned();
    }
    let start = match (item, line.find(": ")) {
        (Some(_), Some(colon)) if is_key(line[..colon].trim_start_matches([' ', '-'])) => colon + 2,
        (Some(at), _) => at,
        (None, Some(colon)) => colon + 2,
        (None, None) => return line.to_owned(),
    };
    let (key, value) = line.split_at(start);
    // What is no literal, or might be none any more with other letters.
    let word = ["true", "false", "null"].contains(&value.trim()) || key.contains("|fieldref");
    let escaped = value.starts_with('"') && value.contains('\\');
    if word || escaped || value.contains(" #") {
        return line.to_owned();
    }
    let letter = |c: char, random: &mut Seeded| match c {
        'a'..='z' => (b'a' + random.below(26) as u8) as char,
        'A'..='Z' => (b'A' + random.below(26) as u8) as char,
        other => other,
    };
    let value: String = value.chars().map(|c| letter(c, random)).collect();
    format!("{key}{value}")
}

fn is_key(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "|_-.".contains(c))
}
