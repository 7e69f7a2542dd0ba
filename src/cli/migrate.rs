//! `watchfire migrate`: rules of Sigma 1 with aggregations → Sigma 2.
//!
//! Files are read and written here; what becomes of a text is decided by [`crate::rule::migrate`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::rule::{Converted, Migrated, Node, Severity, migrate, parse_yaml};
use crate::runtime::yaml_files;
use crate::time::parse_duration;

/// Exit code when something could not be converted, or is not run by this version once it is.
const FINDINGS: u8 = 1;

/// Turn Sigma 1 rules with `| count() …` or `| near …` into Sigma 2: the rule without the
/// aggregation, and a correlation that refers to it.
///
/// New text goes to standard output, what was done and why not to standard error; no file is touched
/// without --write or --output. A rule's text is edited in place: comments, order and quotes stay.
/// Rules that are Sigma 2 already are left alone. docs/migrate.md says what becomes what.
///
/// Examples:
///   watchfire migrate rule.yml                       show the new text
///   watchfire migrate rule.yml | diff rule.yml -     show what would change
///   watchfire migrate sigma/unsupported >/dev/null   show what can be converted, and why not
///   watchfire migrate --output new sigma/unsupported write new files, the old ones stay
///   watchfire migrate --write --window 1h rules      rewrite files; 1h where a rule has no timeframe
///
/// Exit code: 0 all is converted or nothing had to be; 1 something could not be converted, or is not
/// run by this version; 3 wrong usage, or a file cannot be written.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Rewrite files in place
    #[arg(long, conflicts_with = "output")]
    write: bool,
    /// Write converted files into this folder, under the paths they have below PATH
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Timespan for aggregations without a timeframe [default: they are not converted]
    #[arg(long, value_name = "DURATION")]
    window: Option<String>,
    /// Rule files or folders (searched for .yml and .yaml)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// A file that was looked at.
struct Looked {
    path: PathBuf,
    /// Its path below the PATH that was given.
    relative: PathBuf,
    /// `Err` when it could not be read.
    migrated: Result<Migrated, io::Error>,
    /// Names of rules in it that are no work of this run.
    names: Vec<String>,
}

/// How many files, by what became of them.
#[derive(Default)]
struct Summary {
    converted: usize,
    not_run: usize,
    refused: usize,
    nothing: usize,
}

/// Runs the subcommand; the result is the exit code.
pub fn run(args: Args) -> anyhow::Result<u8> {
    if let Some(text) = &args.window
        && parse_duration(text).context("--window")? == 0
    {
        bail!("--window {text}: it must be more than zero");
    }
    let looked = look(&args)?;
    let mut taken = names(&looked);
    let mut summary = Summary::default();
    let mut ready: Vec<(&Looked, &Converted)> = Vec::new();
    for file in &looked {
        if let Some(new) = tell(file, &mut taken, &mut summary) {
            ready.push((file, new));
        }
    }
    let done = match (&args.output, args.write) {
        (Some(folder), _) => write_under(folder, &ready)?,
        (None, true) => write_in_place(&ready)?,
        (None, false) => {
            print(&ready)?;
            "printed; --write or --output DIR writes files"
        }
    };
    summary.print(done, ready.len());
    let found = summary.refused + summary.not_run > 0;
    Ok(if found { FINDINGS } else { super::FINE })
}

/// Reads and converts every file, each once.
fn look(args: &Args) -> anyhow::Result<Vec<Looked>> {
    let mut looked = Vec::new();
    let mut seen = BTreeSet::new();
    for root in &args.paths {
        for path in yaml_files(std::slice::from_ref(root))? {
            if !seen.insert(path.clone()) {
                continue;
            }
            let below = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty());
            let name = || path.file_name().map(PathBuf::from).unwrap_or_default();
            let relative = below.map_or_else(name, Path::to_path_buf);
            let file: Arc<str> = path.to_string_lossy().into();
            let text = std::fs::read_to_string(&path);
            let names = text.as_ref().map(|t| names_in(t)).unwrap_or_default();
            let migrated = text.map(|t| migrate(&file, &t, args.window.as_deref()));
            looked.push(Looked { path, relative, migrated, names });
        }
    }
    Ok(looked)
}

fn names_in(text: &str) -> Vec<String> {
    let nodes = parse_yaml(text).unwrap_or_default();
    nodes.iter().filter_map(|n| n.get("name").and_then(Node::scalar_text)).collect()
}

/// Who has which name already: the files that stay as they are.
fn names(looked: &[Looked]) -> BTreeMap<String, PathBuf> {
    let stay = looked.iter().filter(|f| !matches!(f.migrated, Ok(Migrated::Converted(_))));
    stay.flat_map(|f| f.names.iter().map(|n| (n.clone(), f.path.clone()))).collect()
}

/// Says what became of a file; gives its new text if it is to be used.
fn tell<'l>(
    file: &'l Looked,
    taken: &mut BTreeMap<String, PathBuf>,
    summary: &mut Summary,
) -> Option<&'l Converted> {
    let path = file.path.display();
    match &file.migrated {
        Err(e) => {
            eprintln!("refused   {path}: cannot be read: {e}");
            summary.refused += 1;
            None
        }
        Ok(Migrated::Nothing) => {
            summary.nothing += 1;
            None
        }
        Ok(Migrated::Refused(refusals)) => {
            for refusal in refusals {
                eprintln!("refused   [{}] {}", refusal.reason, refusal.diagnostic);
            }
            summary.refused += 1;
            None
        }
        Ok(Migrated::Converted(new)) => {
            if let Some((name, other)) = new.names.iter().find_map(|n| taken.get_key_value(n)) {
                let other = other.display();
                eprintln!("refused   [name-taken] {path}: `{name}` is a rule in {other} already");
                eprintln!("  help: give the rule a `name` of its own");
                summary.refused += 1;
                return None;
            }
            taken.extend(new.names.iter().map(|n| (n.clone(), file.path.clone())));
            tell_converted(file, new, summary);
            Some(new)
        }
    }
}

fn tell_converted(file: &Looked, new: &Converted, summary: &mut Summary) {
    summary.converted += 1;
    for change in &new.changes {
        eprintln!("converted {}: {change}", file.path.display());
    }
    for note in &new.notes {
        eprintln!("{note}");
    }
    if new.engine.iter().any(|d| d.severity == Severity::Error) {
        summary.not_run += 1;
        eprintln!("not run   {}: this version refuses the new text:", file.path.display());
    }
    for diagnostic in &new.engine {
        eprintln!("  {diagnostic}");
    }
}

/// Prints new texts as one YAML stream; more than one each under a comment with its path.
fn print(ready: &[(&Looked, &Converted)]) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut put = || -> io::Result<()> {
        for (index, (file, new)) in ready.iter().enumerate() {
            if index > 0 && !new.text.starts_with("---") {
                writeln!(out, "---")?;
            }
            if ready.len() > 1 {
                writeln!(out, "# {}", file.path.display())?;
            }
            out.write_all(new.text.as_bytes())?;
        }
        out.flush()
    };
    match put() {
        // `watchfire migrate … | head` ends when head has enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

fn write_in_place(ready: &[(&Looked, &Converted)]) -> anyhow::Result<&'static str> {
    for (file, new) in ready {
        write(&file.path, &new.text)?;
    }
    Ok("rewritten")
}

/// Writes new files; one that is there already stays, and is an error unless it is the same.
fn write_under(folder: &Path, ready: &[(&Looked, &Converted)]) -> anyhow::Result<&'static str> {
    let mut targets: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for (file, new) in ready {
        let target = folder.join(&file.relative);
        if let Some(other) = targets.insert(target.clone(), &file.path) {
            let (a, b, target) = (other.display(), file.path.display(), target.display());
            bail!("{a} and {b} would both become {target}: migrate them one by one");
        }
        if target.exists() && std::fs::read(&target).ok().as_deref() != Some(new.text.as_bytes()) {
            bail!("{} is there already and is not overwritten", target.display());
        }
    }
    for (file, new) in ready {
        let target = folder.join(&file.relative);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        write(&target, &new.text)?;
    }
    Ok("written")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Summary {
    fn print(&self, done: &str, files: usize) {
        let Self { converted, not_run, refused, nothing } = self;
        let legacy = converted + refused;
        eprint!("{legacy} of {} files are not Sigma 2: {converted} converted", legacy + nothing);
        if *not_run > 0 {
            eprint!(" ({not_run} not run by this version)");
        }
        eprintln!(", {refused} refused");
        if files > 0 {
            eprintln!("{files} {} {done}", if files == 1 { "file" } else { "files" });
        }
    }
}
