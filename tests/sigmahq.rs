//! All of SigmaHQ's core rules: they load, and those with placeholders load once they have lists.

mod common;

use std::path::Path;
use std::sync::Arc;

use watchfire::rule::{Code, Options, Placeholders, RuleSet, Severity};

/// The folders that SigmaHQ calls core.
const CORE: &[&str] = &[
    "rules",
    "rules-compliance",
    "rules-dfir",
    "rules-emerging-threats",
    "rules-placeholder",
    "rules-threat-hunting",
];

fn read(folder: &Path, into: &mut Vec<(Arc<str>, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|e| e == "yml") {
            let text = std::fs::read_to_string(&path).expect("a rule file");
            into.push((path.to_string_lossy().into(), text));
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the time it takes is only told")]
fn every_core_rule_loads_and_placeholders_need_lists() {
    let Some(dir) = common::corpora() else { return };
    let mut files = Vec::new();
    CORE.iter().for_each(|folder| read(&dir.join("sigmahq").join(folder), &mut files));
    let texts = || files.iter().map(|(name, text)| (name, text.as_str()));

    let (without, found) = RuleSet::compile(texts());
    let errors: Vec<_> = found.iter().filter(|d| d.severity == Severity::Error).collect();
    let unlisted = errors.iter().filter(|d| d.code == Code::Placeholder).count();
    assert_eq!(errors.len(), unlisted, "only placeholders may be refused: {errors:#?}");
    assert!(errors.iter().all(|d| d.help.is_some() && d.place.line > 0));
    let refused = files.len() - without.len();
    assert!(refused >= 20, "{refused} rules need lists");

    let mut lists = Placeholders::new();
    for error in &errors {
        let name = error.message.split('%').nth(1).expect("the message names the placeholder");
        lists.insert(name.to_owned(), vec!["one".to_owned(), "two*".to_owned()]);
    }
    let (all, found) =
        RuleSet::compile_with(texts(), &Options { placeholders: lists, ..Options::default() });
    let errors: Vec<_> = found.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(all.len(), files.len());
    eprintln!(
        "{} rules of {} files load; {refused} are refused without lists; {} warnings and hints",
        all.len(),
        files.len(),
        found.len()
    );
    // Lints are right about public rules: nothing is worth a warning, and few rules get a hint.
    let warnings: Vec<_> = found.iter().filter(|d| d.severity == Severity::Warning).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    assert!(found.len() < files.len() / 20, "{} hints", found.len());
    assert!(found.iter().all(|d| d.help.is_some() && d.place.line > 0));
    let mut by_code = std::collections::BTreeMap::<&str, usize>::new();
    found.iter().for_each(|d| *by_code.entry(d.code.as_str()).or_default() += 1);
    eprintln!("{by_code:?}");
}
