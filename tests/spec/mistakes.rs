//! A mistake in a spec is a failure: nothing is passed over.

use super::{format, run};

const RULE: &str = "```selection\nf: a\n```\n";
const TIMED: &str = "```yaml
title: a
logsource: {product: linux}
detection: {s: {f: a}, condition: s}
---
title: two
correlation: {type: event_count, rules: [a], timespan: 10s, condition: {gte: 2}}
```
";

/// Reads and runs a spec of one decision; what is wrong with it in one text.
fn wrong(body: &str) -> String {
    match format::read("mistake.md", &format!("## S1.1 Decision\n{body}")) {
        Err(e) => e,
        Ok(decisions) => {
            let found = decisions.iter().flat_map(|d| &d.cases).flat_map(run);
            found.map(|(line, what)| format!("{line}: {what}")).collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn a_spec_that_cannot_be_read_is_a_failure() {
    for (body, expect) in [
        ("", "no case"),
        ("## Heading\n", "begins with an id"),
        ("```selection\nf: a\n", "never closed"),
        ("```events\nhit {}\n```\n", "before the rule"),
        ("```yaml second.yml\nf: a\n```\n", "a second file before the first"),
        (&format!("{RULE}```json\n{{}}\n```\n"), "no block is called `json`"),
        (&format!("{RULE}```events\nhits {{}}\n```\n"), "is neither `hit` nor `miss` nor a time"),
        (&format!("{RULE}```events\nhit f=a\n```\n"), "holds one JSON object"),
        (&format!("{RULE}```events\nhit {{\"f\": }}\n```\n"), "expected value"),
        (&format!("{RULE}```events for=linux\nhit {{}}\n```\n"), "is none of product="),
        (&format!("{RULE}```events\n5m {{}}\n```\n"), "nor a time"),
        (&format!("{RULE}```events\nmiss a {{}}\n```\n"), "expected `hit`"),
        (&format!("{RULE}```diagnostics\nwrong\n```\n"), "expected `error[W0104]"),
    ] {
        let wrong = wrong(body);
        assert!(wrong.contains(expect), "{body}\n{wrong}");
    }
}

#[test]
fn a_spec_that_says_too_little_or_something_else_is_a_failure() {
    let events = |text: &str| format!("```events product=linux\n{text}\n```\n");
    let two = events("0s {\"f\": \"a\"}\n1s {\"f\": \"a\"}");
    for (body, expect) in [
        (RULE.to_owned(), "neither events nor diagnostics"),
        (format!("{RULE}{}", events("")), "neither events nor diagnostics"),
        (format!("{RULE}{}", events("miss {\"f\": \"a\"}")), "expected Miss"),
        (format!("{RULE}{}", events("hit {\"f\": \"b\"}")), "expected Hit"),
        (format!("{RULE}{}", events("hit other {\"f\": \"a\"}")), "expected Hit"),
        (format!("```selection\nf|no: a\n```\n{}", events("miss {}")), "not expected: "),
        (format!("{RULE}```diagnostics\nerror[W0104]: x\n```\n"), "not found"),
        (format!("{TIMED}{two}"), "`alerts` go together"),
        (format!("{TIMED}{two}```alerts\nnone\n```\n"), "arriving backwards: expected []"),
        (
            format!("{TIMED}{two}```alerts\n1s two value 3 from 0s\n```\n"),
            "found [\"1s two value 2 from 0s\"]",
        ),
        (
            format!("{TIMED}{}```alerts\nnone\n```\n", events("0s late {\"f\": \"b\"}")),
            "`late` on a quiet event",
        ),
        (
            format!("{TIMED}{}```alerts\nnone\n```\n", events("0s late {\"f\": \"a\"}")),
            "late or not",
        ),
        (
            format!("{RULE}{}```in-alert\nnothing of it\n```\n", events("hit {\"f\": \"a\"}")),
            "no alert holds nothing of it",
        ),
    ] {
        let wrong = wrong(&body);
        assert!(wrong.contains(expect), "{body}\n{wrong}");
    }
}
