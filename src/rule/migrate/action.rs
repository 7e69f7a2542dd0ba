//! `action:` documents of Sigma 1, written out: what a `global` document says is said by each that
//! follows, until a `reset`.
//!
//! Where both say something, mappings (`logsource`, `detection`) are joined; anything else must be the
//! same in both, since Sigma tools did not agree on which one counts.

use std::collections::BTreeSet;

use super::source::{Block, Line, Source, alike, shifted};
use super::{Reason, Refusal};
use crate::limits::RULE_FILE_BYTES_MAX;
use crate::rule::yaml::{Node, Yaml};

/// Writes out the documents of a file. `None` stands for a document that goes or holds nothing.
///
/// # Errors
/// An action that is not supported, or two documents that contradict each other.
pub fn expand(documents: &[Option<Source>]) -> Result<Vec<Option<Source>>, Refusal> {
    let mut global: Option<Source> = None;
    let mut out = Vec::new();
    let mut bytes = 0;
    for document in documents {
        let Some(source) = document else {
            out.push(None);
            continue;
        };
        let action = source.node.get("action");
        let expanded = match (action.map(|a| a.as_str().unwrap_or_default()), &global) {
            (None, Some(base)) if source.node.get("detection").is_some() => {
                Some(merge(base, source)?)
            }
            (None, _) => Some(source.clone()),
            (Some("global"), base) => {
                let bare = without_action(source)?;
                global = Some(match base {
                    Some(base) => merge(base, &bare)?,
                    None => bare,
                });
                None
            }
            (Some("reset"), _) => {
                global = None;
                None
            }
            (Some(other), _) => {
                let what = format!("`action: {other}` cannot be written out");
                let help = "write each rule out in a document of its own";
                let place = action.map_or(source.node.place, |n| n.place);
                return Err(Refusal::at(Reason::Action, source.in_file(place), what).help(help));
            }
        };
        bytes += expanded.iter().flat_map(|s| &s.lines).map(|l| l.text.len()).sum::<usize>();
        if bytes > RULE_FILE_BYTES_MAX {
            let what =
                format!("written out, the file is over the limit of {RULE_FILE_BYTES_MAX} bytes");
            let place = source.in_file(source.node.place);
            return Err(Refusal::at(Reason::Action, place, what));
        }
        out.push(expanded);
    }
    Ok(out)
}

fn layout(source: &Source) -> Refusal {
    let what = "the document is not laid out as a block mapping with one key on a line";
    Refusal::at(Reason::Layout, source.in_file(source.node.place), what)
}

fn without_action(source: &Source) -> Result<Source, Refusal> {
    let blocks = source.blocks(&source.node, source.lines.len()).ok_or_else(|| layout(source))?;
    let gone: BTreeSet<usize> =
        blocks.iter().filter(|b| b.name == "action").flat_map(|b| b.lines.clone()).collect();
    let kept = source.lines.iter().enumerate().filter(|(i, _)| !gone.contains(i));
    let lines = kept.map(|(_, line)| line.clone()).collect();
    Source::read(lines).ok_or_else(|| layout(source))
}

/// `base` with all that `top` says besides.
fn merge(base: &Source, top: &Source) -> Result<Source, Refusal> {
    let refuse = || layout(top);
    let base_blocks = base.blocks(&base.node, base.lines.len()).ok_or_else(|| layout(base))?;
    let top_blocks = top.blocks(&top.node, top.lines.len()).ok_or_else(refuse)?;
    let indents = (base_blocks.first(), top_blocks.first());
    let (Some(first), Some(other)) = indents else { return Err(refuse()) };
    let shift = first.indent as isize - other.indent as isize;
    let mut lines: Vec<Line> = Vec::new();
    let mut at = 0;
    let mut joined: BTreeSet<usize> = BTreeSet::new();
    for block in &base_blocks {
        push(&mut lines, base.lines[at..block.lines.end].iter().cloned());
        at = block.lines.end;
        let Some(same) = top_blocks.iter().find(|b| b.name == block.name) else { continue };
        push(&mut lines, additions(base, block, top, same)?.into_iter());
        joined.extend(same.lines.clone());
    }
    push(&mut lines, base.lines[at..].iter().cloned());
    let rest = top.lines.iter().enumerate().filter(|(i, _)| !joined.contains(i));
    push(&mut lines, rest.map(|(_, line)| shifted(line, shift)));
    let merged = Source::read(lines).ok_or_else(refuse)?;
    if says(&merged, base) && says(&merged, top) { Ok(merged) } else { Err(refuse()) }
}

/// Adds lines; one that had no end gets one.
fn push(lines: &mut Vec<Line>, more: impl Iterator<Item = Line>) {
    for line in more {
        if let Some(last) = lines.last_mut().filter(|l| !l.text.ends_with('\n')) {
            last.text.push('\n');
        }
        lines.push(line);
    }
}

/// What `top` says in a member that `base` has as well.
fn additions(
    base: &Source,
    block: &Block,
    top: &Source,
    same: &Block,
) -> Result<Vec<Line>, Refusal> {
    let (Some(a), Some(b)) = (base.node.get(&block.name), top.node.get(&block.name)) else {
        return Err(layout(top));
    };
    if !matches!((&a.value, &b.value), (Yaml::Map(_), Yaml::Map(_))) {
        return if alike(a, b) { Ok(Vec::new()) } else { Err(conflict(top, b, &block.name)) };
    }
    let inner = base.blocks(a, block.lines.end).ok_or_else(|| layout(base))?;
    let more = top.blocks(b, same.lines.end).ok_or_else(|| layout(top))?;
    let mut lines = Vec::new();
    for member in more {
        match (a.get(&member.name), b.get(&member.name)) {
            (Some(x), Some(y)) if !alike(x, y) => return Err(conflict(top, y, &member.name)),
            (Some(_), _) => {}
            (None, _) => {
                let shift = inner.first().map_or(0, |i| i.indent) as isize - member.indent as isize;
                lines.extend(top.lines[member.lines].iter().map(|l| shifted(l, shift)));
            }
        }
    }
    Ok(lines)
}

fn conflict(top: &Source, node: &Node, name: &str) -> Refusal {
    let what = format!("`{name}` differs from what the `action: global` document says");
    Refusal::at(Reason::Action, top.in_file(node.place), what)
        .help("write each rule out in a document of its own")
}

/// Whether `merged` says all that `part` says.
fn says(merged: &Source, part: &Source) -> bool {
    part.node.members().iter().all(|(key, value)| {
        let Some(whole) = merged.node.get(&key.text) else { return false };
        let inner = |(k, v): &(_, Node)| {
            let k: &crate::rule::yaml::Key = k;
            whole.get(&k.text).is_some_and(|w| alike(w, v))
        };
        alike(whole, value) || (!value.members().is_empty() && value.members().iter().all(inner))
    })
}
