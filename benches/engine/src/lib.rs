//! The fixed load of both benches: events and rules that this repository makes up or holds.
//!
//! Third-party data would make the counts depend on what is on the machine.

#[path = "../../lanes/generate.rs"]
#[allow(dead_code, reason = "the lanes use more of it")]
mod generate;
#[path = "../../common/seeded.rs"]
mod seeded;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seeded::Seeded;
use watchfire::decode::{Decoder, Format};
use watchfire::ids::Coordinate;
use watchfire::pipeline::{Filter, FilterOutput, Record};
use watchfire::rule::RuleSet;
use watchfire::time::Timestamp;

/// Rules made up beside those of the repository.
const RULES: usize = 300;

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Logins: small, few fields, of which rules ask few.
    Auth,
    /// New processes: large, and most rules are about them.
    Windows,
}

/// So many events of a kind, as JSON.
pub fn events(kind: Kind, count: usize) -> Vec<Vec<u8>> {
    let mut random = Seeded::new(30);
    let make = |n| match kind {
        Kind::Auth => generate::login(&mut random, n),
        Kind::Windows => generate::process(&mut random, 2),
    };
    (0..count).map(make).map(|event| event.to_string().into_bytes()).collect()
}

/// The shipped rules and the made-up ones.
///
/// # Panics
/// When one of them is refused.
pub fn rules() -> Arc<RuleSet> {
    let mut texts = rule_texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules"));
    let mut random = Seeded::new(31);
    texts.push(("made up".into(), (0..RULES).map(|n| made_up_rule(n, &mut random)).collect()));
    let rules = compiled(&texts);
    assert!(rules.detections.len() > RULES, "rules were refused");
    Arc::new(rules)
}

/// The rule files of a folder with their texts.
///
/// # Panics
/// When one of them cannot be read.
pub fn rule_texts(folder: &Path) -> Vec<(Arc<str>, String)> {
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a rule");
    let files = yaml_files(folder);
    files.iter().map(|path| (path.display().to_string().into(), text(path))).collect()
}

/// The rules of these texts that are well.
pub fn compiled(texts: &[(Arc<str>, String)]) -> RuleSet {
    RuleSet::compile(texts.iter().map(|(file, text)| (file, text.as_str()))).0
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the shipped rules").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(yaml_files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

const PROGRAMS: [&str; 12] = [
    "rundll32",
    "certutil",
    "wmic",
    "mshta",
    "cscript",
    "bitsadmin",
    "reg",
    "sc",
    "schtasks",
    "net",
    "regsvr32",
    "vssadmin",
];
const WORDS: [&str; 16] = [
    "urlcache",
    "shadowcopy",
    "javascript:",
    "DownloadString",
    "MiniDump",
    "-decode",
    "hidden",
    "Invoke-",
    "lsass",
    "Public",
    "AppData",
    "process call",
    "delete",
    "localgroup",
    "/create",
    "add",
];
const SUFFIXES: [&str; 6] = [".dmp", ".hta", ".ps1", ".scr", "comsvcs.dll", " -enc"];

/// A rule as most are: a program by its path, words of its command line, an exception. One in ten is
/// for logins, and one in ten looks for words anywhere in the event.
fn made_up_rule(n: usize, random: &mut Seeded) -> String {
    let (program, parent) = (random.pick(&PROGRAMS), random.pick(&PROGRAMS));
    let number = random.below(1000);
    let words: String = (0..2 + random.below(4)).map(|_| word(random)).collect();
    let (all, suffix) = (random.pick(&["", "|all"]), random.pick(&SUFFIXES));
    let (logsource, or_tells) = match n % 10 {
        0 => ("{product: linux, service: sshd}", " or tells"),
        1 => ("{product: windows}", " or tells"),
        _ => ("{product: windows, category: process_creation}", ""),
    };
    let tells = match or_tells {
        "" => String::new(),
        _ => format!("  tells:\n    - 'tells {number}'\n    - '{program}{number}'\n"),
    };
    format!(
        "title: Made up {n}\nid: 00000000-0000-4000-8000-{n:012}\nlogsource: {logsource}\n\
         detection:\n  image:\n    - Image|endswith: '\\{program}.exe'\n    - OriginalFileName: \
         '{program}{number}.exe'\n  words:\n    CommandLine|contains{all}:\n{words}  end:\n    \
         CommandLine|endswith: '{suffix}'\n    User|startswith: 'EXAMPLE\\'\n  except:\n    \
         ParentImage|endswith: '\\{parent}.exe'\n{tells}  condition: (image and words) or (image and \
         end and not except){or_tells}\nlevel: medium\n---\n"
    )
}

/// One in three is as an attacker may write it, the others never occur.
fn word(random: &mut Seeded) -> String {
    let word = random.pick(&WORDS);
    match random.below(3) {
        0 => format!("      - '{word}'\n"),
        _ => format!("      - '{word}{}'\n", random.below(100)),
    }
}

/// A decoder as a service has it that knows its source.
pub fn decoder() -> Decoder {
    Decoder::new(Format::Json, Vec::new())
}

/// The first stage over all of them.
pub fn filter(rules: &Arc<RuleSet>) -> Filter {
    Filter::new(Arc::clone(rules), Arc::new(decoder()))
}

/// Runs events through the first stage and gives the number of matches.
pub fn matches(filter: &mut Filter, events: &[Vec<u8>]) -> usize {
    let (topic, mut out): (Arc<str>, _) = ("bench".into(), FilterOutput::default());
    for (n, event) in events.iter().enumerate() {
        let at = Coordinate { topic: Arc::clone(&topic), partition: 0, offset: n as i64 };
        let (payload, reference) = (Some(event.as_slice()), Timestamp(0));
        let record =
            Record { at: &at, payload, headers: &[], timestamp: None, reference, now: None };
        filter.record(&record, &mut out);
    }
    assert!(out.rejects.is_empty(), "rejected: {:?}", out.rejects.first());
    out.detections.len()
}
