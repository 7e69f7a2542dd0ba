//! Holds `docs/semantics.md` to what the specs and the compiler say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use watchfire::detect::Engine;
use watchfire::event::Event;
use watchfire::rule::{Diagnostic, RuleSet, Severity};

use super::{common, decisions};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/semantics.md");
    std::fs::read_to_string(path).expect("docs/semantics.md")
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn every_decision_of_the_document_has_a_spec_and_every_spec_is_in_the_document() {
    let document = document();
    let mut linked: BTreeMap<String, String> = BTreeMap::new();
    for (at, _) in document.match_indices("](../tests/spec/") {
        let id = document[..at].rsplit('[').next().unwrap_or_default();
        let target = &document[at + "](../tests/spec/".len()..];
        let target = target[..target.find(')').expect("a link ends")].to_owned();
        if target.contains('#') {
            linked.insert(id.to_owned(), target);
        }
    }
    let specs: BTreeMap<String, String> = decisions()
        .iter()
        .map(|d| (d.id.clone(), format!("{}#{}", d.file, anchor(&d.heading))))
        .collect();
    assert_eq!(specs.len(), decisions().len(), "two headings have the same id");
    let wrong: Vec<String> = specs
        .keys()
        .chain(linked.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|id| specs.get(*id) != linked.get(*id))
        .map(|id| format!("{id}: spec {:?}, document {:?}", specs.get(id), linked.get(id)))
        .collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} decisions are in the document", specs.len());
}

/// Modifiers that may stand where the first of their row may.
const ALIKE: &[&[&str]] = &[
    &["contains", "startswith", "endswith"],
    &["all"],
    &["cased"],
    &["neq"],
    &["exists"],
    &["re"],
    &["i", "m", "s"],
    &["base64"],
    &["base64offset"],
    &["wide", "utf16le", "utf16be", "utf16"],
    &["windash"],
    &["cidr"],
    &["lt", "lte", "gt", "gte"],
    &["hour", "minute", "day", "week", "month", "year"],
    &["fieldref"],
    &["expand"],
];

/// The flags by pySigma's names.
const OTHER_NAMES: &[&str] = &["ignorecase", "multiline", "dotall"];

fn compile(rule: &str) -> (RuleSet, Vec<Diagnostic>) {
    let file: Arc<str> = "rule.yml".into();
    let (rules, mut found) = RuleSet::compile([(&file, rule)]);
    found.retain(|d| d.severity == Severity::Error);
    (rules, found)
}

fn selection(item: &str) -> Vec<Diagnostic> {
    let head = "title: t\nlogsource: {category: c}\ndetection:\n";
    compile(&format!("{head}  s:\n    {item}\n  condition: s\n")).1
}

/// Whether some value may follow these two modifiers; flags of `re` get their `re`.
fn legal(first: &str, second: &str) -> bool {
    let flag = |name: &str| ["i", "m", "s"].contains(&name);
    let chain = match (flag(first), flag(second)) {
        (true, _) if second == "re" => format!("{first}|re"),
        (true, _) => format!("re|{first}|{second}"),
        (false, true) if first != "re" => format!("{first}|re|{second}"),
        _ => format!("{first}|{second}"),
    };
    takes_a_value(&chain)
}

/// An encoding needs `base64` somewhere after it, which is no matter of the pair.
fn takes_a_value(chain: &str) -> bool {
    let values = ["abc", "5", "true", "10.0.0.0/8"];
    let taken = |chain: &str| {
        values.iter().any(|value| selection(&format!("f|{chain}: {value}")).is_empty())
    };
    match chain.rfind("wide").or_else(|| chain.rfind("utf16")) {
        Some(at) if !chain.contains("base64") => {
            let end = chain[at..].find('|').map_or(chain.len(), |i| at + i);
            taken(&format!("{}|base64{}", &chain[..end], &chain[end..]))
        }
        _ => taken(chain),
    }
}

#[test]
fn a_chain_of_three_whose_pairs_are_legal_is_legal() {
    // The flags of `re` are left out: for them the pairs have three already.
    let names: Vec<&str> = ALIKE.iter().map(|row| row[0]).filter(|n| *n != "i").collect();
    let legal: BTreeSet<(&str, &str)> = names
        .iter()
        .flat_map(|a| names.iter().map(move |b| (*a, *b)))
        .filter(|(a, b)| legal(a, b))
        .collect();
    let mut tried = 0;
    for (a, b) in &legal {
        for c in names.iter().filter(|c| legal.contains(&(*a, **c)) && legal.contains(&(*b, **c))) {
            tried += 1;
            assert!(takes_a_value(&format!("{a}|{b}|{c}")), "{a}|{b}|{c} is refused");
        }
    }
    println!("{tried} chains of three");
}

/// Whether all modifiers of two rows agree; `None` when they do not.
fn rows_legal(first: &[&str], second: &[&str]) -> Option<bool> {
    let pairs = first.iter().flat_map(|a| second.iter().map(move |b| (*a, *b)));
    let distinct = pairs.filter(|(a, b)| a != b || first.len() == 1);
    let answers: BTreeSet<bool> = distinct.map(|(a, b)| legal(a, b)).collect();
    (answers.len() == 1).then(|| answers.contains(&true))
}

fn modifier_table() -> String {
    let names: Vec<String> = ALIKE.iter().map(|row| format!("`{}`", row[0])).collect();
    let mut table = format!("| first ↓ second → | {} |\n|---{}|\n", names.join(" | "), {
        "|:-:".repeat(names.len())
    });
    for (first, name) in ALIKE.iter().zip(&names) {
        let cell = |second: &&[&str]| match rows_legal(first, second) {
            Some(true) => "✓",
            Some(false) => "",
            None => panic!("{first:?} and {second:?} do not agree: give them rows of their own"),
        };
        let cells: Vec<&str> = ALIKE.iter().map(cell).collect();
        table += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    table
}

#[test]
fn the_table_of_modifiers_is_what_the_compiler_does() {
    let unknown = selection("f|no-such-modifier: x").remove(0).help.expect("the list");
    let known: BTreeSet<&str> =
        unknown.trim_start_matches("the modifiers are: ").split(", ").collect();
    let listed = ALIKE.iter().flat_map(|row| row.iter()).chain(OTHER_NAMES).copied().collect();
    assert_eq!(known, listed, "a modifier is missing in ALIKE, or gone");
    let document = document();
    let (begin, end) = ("<!-- modifiers: begin -->\n\n", "\n<!-- modifiers: end -->");
    let written = document.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    let written = written.expect("the marks of the table").0;
    let table = modifier_table();
    assert!(written == table, "put this into docs/semantics.md:\n\n{table}");
}

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    rule: String,
    event: serde_json::Value,
    expect: Option<serde_json::Value>,
}

fn answer(vector: &Vector) -> &'static str {
    let (rules, errors) = compile(&vector.rule);
    if !errors.is_empty() {
        return "refused";
    }
    let text = vector.event.to_string();
    let body = serde_json::from_str(&text).expect("the event was JSON");
    let mut hit = false;
    Engine::new(Arc::new(rules)).detect(&Event { body, ..Event::default() }, |_| hit = true);
    if hit { "match" } else { "no match" }
}

#[test]
fn every_open_vector_is_decided_in_the_document() {
    let Some(dir) = common::corpora() else { return };
    let text = std::fs::read_to_string(dir.join("vectors/detection.json")).expect("vectors");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors are JSON");
    let document = document().replace("\\|", "|");
    let open: Vec<&Vector> = vectors.iter().filter(|v| v.expect.is_none()).collect();
    assert!(!open.is_empty(), "no vector is open");
    let missing = |v: &&&Vector| !document.contains(&format!("| `{}` | {} |", v.name, answer(v)));
    let missing: Vec<String> =
        open.iter().filter(missing).map(|v| format!("| `{}` | {} |", v.name, answer(v))).collect();
    assert!(missing.is_empty(), "not in docs/semantics.md:\n{}", missing.join("\n"));
    println!("{} open vectors are decided", open.len());
}
