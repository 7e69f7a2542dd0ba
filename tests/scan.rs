//! The scanner over random JSON, damaged JSON and real events: what it takes is what serde_json reads,
//! on every path, and it takes what is ordinary.

use proptest::prelude::*;

#[path = "common/mod.rs"]
mod common;
#[path = "common/scan.rs"]
mod oracle;
#[path = "common/sigmahq.rs"]
mod sigmahq;

use oracle::Oracle;

/// Keys of random objects, most of them fields as well.
const PLAIN: &[&str] = &[
    "a",
    "b",
    "c",
    "CommandLine",
    "ParentCommandLine",
    "é",
    "a_rather_long_key_that_goes_on",
    "a_rather_long_key_that_goes_no",
    "Eve",
    "d",
    "x.y.z",
    "Image",
    "User",
    "winlo",
    "EventID",
];
/// Keys that may make an object one for the slow way.
const ODD: &[&str] = &["x y", "Event", "winlog.a", "a.b", "b.c", "a.b.c"];
/// Keys that are fields, parts of them, rivals of each other, or differ late.
const ALIKE: &[&str] = &[
    "a",
    "b",
    "a.b",
    "b.c",
    "CommandLine",
    "a_rather_long_key_that_goes_on",
    "a_rather_long_key_that_goes_no",
    "aaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "an_unknown_key_that_is_longer_than_others",
    "x y",
    "Event",
];
const FIELDS: &[&str] = &[
    "a",
    "b",
    "a.b",
    "b.c",
    "a.b.c",
    "a.a.a",
    "c.c.c.c",
    "b.b",
    "CommandLine",
    "ParentCommandLine",
    "é",
    "a_rather_long_key_that_goes_on",
    "aaaaaaaaaaaaaaaaaaaa",
    "Eve",
    "x",
];

/// The text of a string, as it may be written.
fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => "[ -!#-\\[\\]-~]{0,20}",
        2 => prop::sample::select(vec![
            r"\\", r#"\""#, r"\n", r"\r", r"\t", r"\/", r"\b", r"\f", r"\u0041", r"\uD83D\uDE00",
            r"\u00e9", "é", "😀", "\u{7f}", "\\\\\\\\", "{", "]", ",", ":",
        ]).prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (0..10_000i32).prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        (-1e40..1e40f64).prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => Just(""), 4 => Just(" "), 1 => Just("\n\t\r ")]
}

fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        4 => string(),
        2 => number(),
        1 => prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let items = prop::collection::vec((space(), inner.clone(), space()), 0..4);
        let items = items.prop_map(|items| {
            let items: Vec<String> =
                items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
            format!("[{}]", items.join(","))
        });
        prop_oneof![object_of(inner), items]
    })
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop_oneof![9 => prop::sample::select(PLAIN), 1 => prop::sample::select(ODD)];
    let member = (space(), key, space(), space(), value, space());
    prop::collection::vec(member, 0..6).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(a, key, b, c, value, d)| format!("{a}\"{key}\"{b}:{c}{value}{d}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Whether the slow way must be asked: keys that are twice in an object or both flat and nested,
/// that have a space, or at which the scanner stops. More is not asked than that.
fn out_of_the_ordinary(text: &str) -> bool {
    let times = |key: &str| text.matches(&format!("\"{key}\"")).count();
    ODD.iter().any(|key| times(key) > 0) || PLAIN.iter().any(|key| times(key) > 1)
}

/// Objects of few keys, so that many go a part of the way that others went.
fn like_others() -> impl Strategy<Value = String> {
    let members = |value: BoxedStrategy<String>| {
        let member = (prop::sample::select(ALIKE), value);
        prop::collection::vec(member, 0..5).prop_map(|members| {
            let members = members.iter().map(|(key, value)| format!("\"{key}\":{value}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        })
    };
    let scalar = prop_oneof![Just("1".to_owned()), Just("\"x\"".to_owned())].boxed();
    let inner = prop_oneof![4 => scalar.clone(), 1 => members(scalar)].boxed();
    members(inner)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn objects_are_read_alike_behind_others(texts in prop::collection::vec(like_others(), 2..30)) {
        let (mut used, mut new) = (Oracle::new(FIELDS), Oracle::new(FIELDS));
        for text in texts.iter().chain(&texts) {
            new.forget();
            prop_assert_eq!(used.check(text.as_bytes()), new.check(text.as_bytes()), "{}", text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn random_objects_are_read_as_serde_json_reads_them(text in object_of(value())) {
        let mut oracle = Oracle::new(FIELDS);
        let taken = oracle.check(text.as_bytes());
        prop_assert!(taken || out_of_the_ordinary(&text), "ordinary, but not taken: {text}");
    }

    #[test]
    fn damaged_objects_are_never_misread(
        text in object_of(value()),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..4, prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\u0159eE+-.tfn \n".to_vec())],
                0..3,
            )),
            1..4,
        ),
    ) {
        let mut bytes = text.into_bytes();
        for (at, length, with) in edits {
            let from = at.index(bytes.len() + 1);
            let to = (from + length).min(bytes.len());
            bytes.splice(from..to, with);
        }
        Oracle::new(FIELDS).check(&bytes);
    }
}

#[test]
fn real_windows_events_go_the_fast_way() {
    let Some(corpora) = common::corpora() else { return };
    let events = sigmahq::windows_events(&corpora);
    let names = names(&events);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut oracle = Oracle::new(&names);
    let (mut taken, mut all) = (0, 0);
    for line in events.lines() {
        all += 1;
        taken += usize::from(oracle.check(line.as_bytes()));
    }
    assert!(all > 0 && taken * 100 >= all * 99, "{taken} of {all} go the fast way");
}

/// Every key at the top of some event, and each of a nested object with dots.
fn names(events: &str) -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    for line in events.lines() {
        let body: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).expect("an event");
        for (key, value) in body {
            let below = value.as_object().into_iter().flat_map(|object| object.keys());
            names.extend(below.map(|inner| format!("{key}.{inner}")));
            names.insert(key);
        }
    }
    names.into_iter().collect()
}
