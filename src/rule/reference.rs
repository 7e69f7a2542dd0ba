//! What is wrong with the references of correlations: to nothing, in a circle, too deep, by title.
//!
//! Resolving them is in `link.rs`; here is only what is said about those that it could not resolve.

use std::collections::BTreeMap;

use super::correlation::Correlation;
use super::diagnostic::{Code, Diagnostic, nearest};
use super::header::Header;
use super::yaml::Key;
use crate::limits::CORRELATION_DEPTH_MAX;

/// Why each of the pending correlations cannot run: `loaded` says whether a reference leads to a
/// loaded rule, `heads` are those of the rules that are loaded.
pub fn unresolved(
    pending: &[(Header, Correlation)],
    loaded: &dyn Fn(&Key) -> bool,
    heads: &[&Header],
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let index = Index::new(pending);
    for (header, correlation) in pending {
        let missing = correlation.rules.iter().filter(|k| !loaded(k));
        let mut missing = missing.peekable();
        if missing.peek().is_none() {
            let Some(key) = correlation.rules.first() else { continue };
            let what = format!("a chain of correlations is deeper than {CORRELATION_DEPTH_MAX}");
            let diagnostic = Diagnostic::error(Code::Reference, key.place, what);
            found.push(diagnostic.help("make the chain shorter").in_file(&header.file));
        }
        for key in missing {
            let diagnostic = match index.path(header, key) {
                Path::Circle(names) => circle(key, &names),
                Path::Refused => refused(key),
                Path::Nowhere => nowhere(key, heads),
            };
            found.push(diagnostic.in_file(&header.file));
        }
    }
    found
}

/// Where a reference leads to.
enum Path<'p> {
    /// To no rule.
    Nowhere,
    /// To a correlation that does not run either.
    Refused,
    /// Back to where it starts, over these rules.
    Circle(Vec<&'p str>),
}

/// Pending correlations by all that they can be referred to by.
struct Index<'p> {
    pending: &'p [(Header, Correlation)],
    by_name: BTreeMap<&'p str, usize>,
}

impl<'p> Index<'p> {
    fn new(pending: &'p [(Header, Correlation)]) -> Self {
        let mut by_name = BTreeMap::new();
        for (at, (header, _)) in pending.iter().enumerate() {
            let names = header.names().map(|(_, name, _)| name);
            for name in names.chain([header.title.as_str()]) {
                by_name.entry(name).or_insert(at);
            }
        }
        Self { pending, by_name }
    }

    fn target(&self, key: &Key) -> Option<usize> {
        self.by_name.get(key.text.as_str()).copied()
    }

    /// Goes from rule to rule, each but once, until the start is met again.
    fn path(&self, start: &Header, key: &Key) -> Path<'p> {
        let Some(first) = self.target(key) else { return Path::Nowhere };
        let mut came_from = vec![None; self.pending.len()];
        let mut seen = vec![false; self.pending.len()];
        seen[first] = true;
        let mut open = vec![first];
        while let Some(at) = open.pop() {
            let (header, correlation) = &self.pending[at];
            if header.id == start.id {
                let steps = std::iter::successors(Some(at), |at| came_from[*at]);
                let mut names: Vec<&str> = steps.map(|at| called(&self.pending[at].0)).collect();
                names.reverse();
                return Path::Circle(names);
            }
            for next in correlation.rules.iter().filter_map(|k| self.target(k)) {
                if !std::mem::replace(&mut seen[next], true) {
                    came_from[next] = Some(at);
                    open.push(next);
                }
            }
        }
        Path::Refused
    }
}

fn called(header: &Header) -> &str {
    header.name.as_deref().unwrap_or(&header.id.0)
}

fn circle(key: &Key, names: &[&str]) -> Diagnostic {
    let last = names.last().copied().unwrap_or_default();
    let what = match names {
        [_] => format!("`{}` is the correlation itself", key.text),
        _ => format!("the references run in a circle: {last} → {}", names.join(" → ")),
    };
    Diagnostic::error(Code::Reference, key.place, what)
        .help("a correlation is about other rules; take this reference out")
}

fn refused(key: &Key) -> Diagnostic {
    let what = format!("the correlation `{}` is refused itself", key.text);
    Diagnostic::error(Code::Reference, key.place, what).help("mend that one first")
}

fn nowhere(key: &Key, heads: &[&Header]) -> Diagnostic {
    let what = format!("no loaded rule has the id or name `{}`", key.text);
    let all = heads.iter().flat_map(|h| h.names().map(|(_, name, _)| name));
    Diagnostic::error(Code::Reference, key.place, what).help(match nearest(&key.text, all) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "load the file that holds it too, or mend that rule if it is refused".to_owned(),
    })
}

/// References by title: public rules have them, other tools refuse them. `heads` are those of the
/// rules that the correlation refers to, in its order.
pub fn by_title<'h>(
    header: &Header,
    correlation: &Correlation,
    heads: impl Iterator<Item = &'h Header>,
) -> Vec<Diagnostic> {
    let pairs = correlation.rules.iter().zip(heads);
    let proper = |key: &Key, head: &Header| {
        head.names().any(|(kind, name, _)| kind != "title" && name == key.text)
    };
    let titled = pairs.filter(|(key, head)| !proper(key, head));
    let told = titled.map(|(key, head)| {
        let what = "a rule is referred to by its title: other tools refuse that";
        let help = format!("write its id or name: `{}`", called(head));
        Diagnostic::warning(Code::Portability, key.place, what).help(help).in_file(&header.file)
    });
    told.collect()
}
