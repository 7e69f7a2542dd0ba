//! The disagreements that are explained, each with the authority that makes our answer right.
//!
//! A row explains a disagreement only where the rule and the event show its cause. For
//! `rsigma-eval` there is a second lock: pySigma's evaluator, which knows nothing of the first
//! oracle, is asked about every single one and has to agree with us. A row that explains nothing
//! any more is reported.

use crate::tally::{Dispute, Oracle};

/// One kind of disagreement.
pub struct Known {
    /// Who disagrees.
    pub oracle: Oracle,
    /// What it is about.
    pub kind: &'static str,
    /// Why our answer is right: specification (R rules, M modifiers) or pySigma.
    pub why: &'static str,
    /// Whether the text of the rule and the disagreement show the cause.
    pub shows: fn(rule: &str, dispute: &Dispute) -> bool,
}

/// Every kind that is known; the first that shows counts.
pub const KNOWN: &[Known] = &[
    Known {
        oracle: Oracle::Rsigma,
        kind: "windash: varies `-` but not `/`, and dashes inside words",
        why: "M windash: permutations of - / – — ―; pySigma: only where a parameter starts",
        shows: |rule, _| rule.contains("|windash"),
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "keywords with `all`: wants all of them in one value",
        why: "M all: each value must match; pySigma: each keyword is a condition of its own",
        shows: |rule, d| d.ours && (rule.contains("'|all'") || rule.contains("\"|all\"")),
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "wildcards stop at a line break",
        why: "R String Wildcard: `*` stands for anything, `?` for any one character",
        shows: |rule, d| d.ours && d.event.contains("\\n") && rule.contains(['*', '?']),
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "`endswith` or `startswith` with a wildcard: anchored at the wrong end",
        why: "M endswith: the value is expected at the end; pySigma puts one `*` in front",
        shows: |rule, _| {
            let anchored = rule.contains("|endswith") || rule.contains("|startswith");
            anchored && rule.lines().any(is_wildcard_value)
        },
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "a number equals a text with leading zeros",
        why: "R is silent; ours: the decimal text of a number alone, vector `leading zero str`",
        shows: |_, d| !d.ours && has_leading_zero(&d.event),
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "base64offset: keeps a last character that depends on what follows",
        why: "M base64offset: found at every offset; pySigma cuts it off (end_offsets)",
        shows: |rule, d| d.ours && rule.contains("|base64offset"),
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "lists in an event: not looked into by `fieldref` and `null`",
        why: "R is silent; ours: any element, everywhere the same, vectors `array …`",
        shows: |rule, d| {
            let not_looked_into = rule.contains("|fieldref") || rule.contains(": null");
            not_looked_into && d.event.contains('[')
        },
    },
    Known {
        oracle: Oracle::Rsigma,
        kind: "keywords that are numbers: never found in text",
        why: "R Keywords: searched as text in the whole event, vector `keyword number`",
        shows: |rule, d| d.ours && rule.lines().any(is_bare_number),
    },
    Known {
        oracle: Oracle::PySigma,
        kind: "`re`: classes and word boundaries beyond ASCII",
        why: "M is silent; ours: Unicode's, as lower case is; RE2's: ASCII's",
        shows: |rule, d| {
            let classes = ["\\\\w", "\\\\d", "\\\\s", "\\\\b"];
            !d.event.is_ascii() && rule.contains("|re") && classes.iter().any(|c| rule.contains(c))
        },
    },
    Known {
        oracle: Oracle::PySigma,
        kind: "parts of a date: a text of nine or more digits alone",
        why: "M is silent on what is a date; ours: so many digits are seconds since 1970",
        shows: |rule, d| {
            let parts = ["minute", "hour", "day", "week", "month", "year"];
            let part = parts.iter().any(|p| rule.contains(&format!("|{p}\"")));
            part && d.ours && texts(&d.event).any(|t| t.len() > 8 && is_digits(t))
        },
    },
    Known {
        oracle: Oracle::PySigma,
        kind: "a number with a point equals a text that spells it in another way",
        why: "R is silent; ours: the decimal text of a number alone, as for integers",
        shows: |rule, d| !d.ours && rule.contains('.') && texts(&d.event).any(spells_float_oddly),
    },
];

/// Whether this line of a rule is a number in a list.
fn is_bare_number(line: &str) -> bool {
    line.trim().strip_prefix("- ").is_some_and(is_digits)
}

/// Whether this line of a rule is a quoted value with a wildcard.
fn is_wildcard_value(line: &str) -> bool {
    line.contains(['*', '?']) && line.contains('\'') && !line.trim().starts_with('#')
}

/// The strings of an event, keys too, and what stands between them.
fn texts(event: &str) -> impl Iterator<Item = &str> {
    event.split('"')
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn has_leading_zero(event: &str) -> bool {
    texts(event).any(|text| text.len() > 1 && text.starts_with('0') && is_digits(text))
}

fn spells_float_oddly(text: &str) -> bool {
    let number = text.parse::<f64>().ok().filter(|_| text.contains('.'));
    number.is_some_and(|n| n.to_string() != text)
}

/// The reason of a refusal that is ours alone and right.
pub const PLACEHOLDERS: &str =
    "R Placeholders: a tool that cannot handle a placeholder must reject the rule";

/// Whether we refuse a rule because nobody gave values for its placeholder.
pub fn is_placeholder(reason: &str) -> bool {
    reason.contains("the placeholder `%") && reason.contains("has no list of values")
}
