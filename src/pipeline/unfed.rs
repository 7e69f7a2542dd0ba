//! Which rules no source can feed, so that whoever runs them knows.

use std::sync::Arc;

use crate::decode::Decoder;
use crate::rule::{Code, Diagnostic, Place, RuleSet};

/// A rule that no source can feed: its index, and what to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfed {
    /// The rule, by index.
    pub rule: usize,
    /// What to tell.
    pub diagnostic: Diagnostic,
}

/// The event rules that none of the sources can feed, going by what is configured for them
/// ([`Decoder::can_feed`]).
pub fn unfed(rules: &RuleSet, sources: &[Arc<Decoder>]) -> Vec<Unfed> {
    let starving = rules
        .detections
        .iter()
        .enumerate()
        .filter(|(_, rule)| !sources.iter().any(|source| source.can_feed(&rule.logsource)));
    let told = starving.map(|(index, rule)| {
        let what = format!("no source is configured that has events of {}", rule.logsource);
        let diagnostic = Diagnostic::warning(Code::NoSource, Place::default(), what)
            .help("the parts are product/category/service; see `sources[].logsource` and `tables`")
            .in_file(&rule.header.file);
        Unfed { rule: index, diagnostic }
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Format, Part, Table, Tables, Tag, TagOrigin};
    use crate::event::FieldPath;
    use crate::rule::Severity;

    const RULES: &str = "title: a
logsource: {product: windows, category: process_creation}
detection: {s: {x: 1}, condition: s}
---
title: b
logsource: {product: windows, service: system}
detection: {s: {x: 1}, condition: s}
---
title: c
logsource: {product: linux, service: sshd}
detection: {s: {x: 1}, condition: s}
---
title: d
logsource: {category: process_creation}
detection: {s: {x: 1}, condition: s}
";

    const TABLE: &str = "name: t
logsource: {product: windows}
entries:
  - when: {id: 1}
    logsource: {category: process_creation}
  - when: {id: 2}
    logsource: {service: system}
";

    /// Titles of the rules that sources with these constants (`product/category/service`) cannot feed.
    fn unfed_by(sources: &[&str], change: impl Fn(&mut Decoder)) -> String {
        let file: Arc<str> = "r.yml".into();
        let (rules, found) = RuleSet::compile([(&file, RULES)]);
        assert!(found.iter().all(|d| d.severity == Severity::Hint), "{found:?}");
        let decoders = sources.iter().map(|source| {
            let table = Table::parse("t.yml", TABLE).expect("a table");
            let tables = Tables::new(vec![table]).expect("few");
            let mut decoder = Decoder::new(Format::Json, Vec::new()).with_tables(tables);
            let parts: Vec<&str> = source.split('/').collect();
            decoder.source.add_product(parts[0]);
            decoder.source.add_category(parts[1]);
            decoder.source.add_service(parts[2]);
            change(&mut decoder);
            Arc::new(decoder)
        });
        let found = unfed(&rules, &decoders.collect::<Vec<_>>());
        let titles = found.iter().map(|u| rules.detections[u.rule].header.title.as_str());
        titles.collect()
    }

    #[test]
    fn a_rule_is_unfed_when_no_source_can_have_its_events() {
        for (sources, expect) in [
            (&["//"][..], ""),
            (&["windows//"], "c"),
            (&["linux//"], "ab"),
            (&["windows//", "linux//"], ""),
            // The service is said, the category is what the table adds to it.
            (&["windows//security"], "bc"),
            (&["linux//sshd"], "abd"),
            (&["linux/process_creation/"], "abc"),
        ] {
            assert_eq!(unfed_by(sources, |_| {}), expect, "{sources:?}");
        }
    }

    #[test]
    fn a_source_whose_events_say_what_they_are_may_be_anything() {
        let by_field = |decoder: &mut Decoder| {
            let origin = TagOrigin::Field(FieldPath::new("kind"));
            decoder.tags.push(Tag { part: Part::Service, origin, map: None });
        };
        assert_eq!(unfed_by(&["windows//"], by_field), "c");
        assert_eq!(unfed_by(&["//"], by_field), "");
    }

    #[test]
    fn the_warning_names_what_the_rule_is_written_for() {
        let file: Arc<str> = "r.yml".into();
        let (rules, _) = RuleSet::compile([(&file, RULES)]);
        let found = unfed(&rules, &[]);
        assert_eq!(found.len(), 4);
        let text = found[2].diagnostic.to_string();
        let expect =
            "r.yml: warning[W0302]: no source is configured that has events of linux/-/sshd";
        assert!(text.starts_with(expect), "{text}");
    }
}
