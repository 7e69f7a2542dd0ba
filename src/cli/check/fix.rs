//! `--fix`: puts the safe changes of findings into the files they are about, and nothing else.
//!
//! A change is checked like any other text: when a file that had no error has one afterwards, or does
//! not read as YAML any more, the file stays as it was.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use anyhow::Context;

use crate::rule::{Code, Diagnostic, Fix, Options, Severity};
use crate::runtime::RuleTexts;

/// How often files are looked at again: mending one thing may bring another to light.
const PASSES_MAX: usize = 8;

/// A file that was mended.
pub struct Changed {
    file: Arc<str>,
    before: String,
    after: String,
}

/// Mends the texts as far as it is safe; what findings are hints is left when `hints` is not set.
pub fn mend(files: &mut RuleTexts, options: &Options, hints: bool) -> Vec<Changed> {
    let originals: Vec<String> = files.texts.iter().map(|(_, text)| text.clone()).collect();
    let mut left_alone = BTreeSet::new();
    let (_, mut found) = files.compile(options);
    for _ in 0..PASSES_MAX {
        let mut tried = Vec::new();
        for (at, (name, text)) in files.texts.iter_mut().enumerate() {
            let mine = found.iter().filter(|d| d.file.as_ref() == Some(name));
            let shown = mine.filter(|d| hints || d.severity != Severity::Hint);
            let fixes: Vec<&Fix> = shown.filter_map(|d| d.fix.as_ref()).collect();
            if !fixes.is_empty() && !left_alone.contains(name) {
                let mended = apply(text, fixes);
                tried.push((at, std::mem::replace(text, mended)));
            }
        }
        if tried.is_empty() {
            break;
        }
        let (_, after) = files.compile(options);
        let mut went_back = false;
        for (at, before) in tried {
            let (name, text) = &mut files.texts[at];
            if is_worse(name, &found, &after) || *text == before {
                *text = before;
                left_alone.insert(Arc::clone(name));
                went_back = true;
            }
        }
        found = if went_back { files.compile(options).1 } else { after };
    }
    let texts = files.texts.iter().zip(originals);
    let changed = texts.filter(|((_, text), before)| text != before);
    changed
        .map(|((file, after), before)| Changed {
            file: Arc::clone(file),
            before,
            after: after.clone(),
        })
        .collect()
}

/// Replaces from the end, so that earlier places stay right; of two that overlap the later is left
/// for the next pass.
fn apply(text: &str, mut fixes: Vec<&Fix>) -> String {
    fixes.sort_by_key(|f| f.place);
    let mut mended = text.to_owned();
    let mut replaced: Vec<std::ops::Range<usize>> = Vec::new();
    for fix in fixes.into_iter().rev() {
        let bytes = fix.place.bytes_in(text);
        if replaced.last().is_none_or(|later| bytes.end <= later.start) {
            mended.replace_range(bytes.clone(), &fix.text);
            replaced.push(bytes);
        }
    }
    mended
}

/// Whether a file has its first error now, or reads worse as YAML than before.
fn is_worse(file: &Arc<str>, before: &[Diagnostic], after: &[Diagnostic]) -> bool {
    let errors = |found: &[Diagnostic], yaml: bool| {
        let mine = found.iter().filter(|d| d.file.as_ref() == Some(file));
        mine.filter(|d| d.severity == Severity::Error)
            .filter(|d| !yaml || matches!(d.code, Code::Yaml | Code::DuplicateKey))
            .count()
    };
    (errors(before, false) == 0 && errors(after, false) > 0)
        || errors(before, true) < errors(after, true)
}

/// Writes the lines that change. No change adds or removes a line.
pub fn show(changed: &[Changed], out: &mut dyn Write) -> std::io::Result<()> {
    for Changed { file, before, after } in changed {
        writeln!(out, "--- {file}\n+++ {file}")?;
        for (number, (old, new)) in before.lines().zip(after.lines()).enumerate() {
            if old != new {
                writeln!(out, "@@ -{0} +{0} @@\n-{old}\n+{new}", number + 1)?;
            }
        }
    }
    if !changed.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

/// Writes the files.
pub fn write(changed: &[Changed]) -> anyhow::Result<()> {
    for Changed { file, after, .. } in changed {
        std::fs::write(&**file, after).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(text: &str) -> String {
        let texts = vec![("a.yml".into(), text.to_owned())];
        let mut files = RuleTexts { texts, unread: Vec::new() };
        mend(&mut files, &Options::default(), true);
        files.texts.remove(0).1
    }

    const HEAD: &str = "title: T # as is\nid: 6ccbd6d2-9d5f-4d7e-8a71-5f3c8d1e2b10\nlevel: high\n\
                        logsource: {product: linux}\n";

    #[test]
    fn a_fix_changes_what_is_meant_and_nothing_else() {
        for (before, after) in [
            (
                "detection:\n  a:\n    x|Contains|all: '*it''s*'   # keep\n  condition: a AND a\n",
                "detection:\n  a:\n    x|contains: 'it''s'   # keep\n  condition: a and a\n",
            ),
            (
                "detection:\n  a: {x|gt: \"5\", 'y|startswith': ä*}\n  condition: >\n    NOT\n    a\n",
                "detection:\n  a: {x|gt: 5, 'y|startswith': ä}\n  condition: >\n    not\n    a\n",
            ),
            // Without its wildcard the value would be a number: it stays.
            (
                "detection:\n  a: {x|startswith: 5*}\n  condition: a\n",
                "detection:\n  a: {x|startswith: 5*}\n  condition: a\n",
            ),
            // Without its `all` the key would stand there twice: it stays.
            (
                "detection:\n  a:\n    x|contains: b\n    x|contains|all: c\n  condition: a\n",
                "detection:\n  a:\n    x|contains: b\n    x|contains|all: c\n  condition: a\n",
            ),
        ] {
            assert_eq!(mended(&format!("{HEAD}{before}")), format!("{HEAD}{after}"));
        }
    }

    #[test]
    fn a_fix_that_would_break_the_file_is_taken_back() {
        let text = format!(
            "{HEAD}detection:\n  a:\n    x|contains: b\n    x|Contains: c\n  condition: a\n"
        );
        assert_eq!(mended(&text), text);
    }
}
