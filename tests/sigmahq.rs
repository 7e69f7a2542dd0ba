//! All of SigmaHQ's core rules: they load, and those with placeholders load once they have lists.

mod common;
#[path = "common/sigmahq.rs"]
mod sigmahq;

use watchfire::rule::{Code, Options, Placeholders, RuleSet, Severity};

#[test]
#[allow(clippy::disallowed_methods, reason = "the time it takes is only told")]
fn every_core_rule_loads_and_placeholders_need_lists() {
    let Some(dir) = common::corpora() else { return };
    let files = sigmahq::core_rules(&dir);
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
