//! The fast way from records to outputs against the plain one: the same alerts, byte by byte, the same
//! matches, times and counts, whether a record was decoded into a tree or not.

mod common;
#[path = "common/sigmahq.rs"]
mod sigmahq;

use std::sync::Arc;

use proptest::prelude::*;
use watchfire::decode::{Decoder, Format, Tables, Tag, TagOrigin, shipped_tables};
use watchfire::event::FieldPath;
use watchfire::ids::Coordinate;
use watchfire::pipeline::{Filter, FilterOutput, Record};
use watchfire::rule::RuleSet;
use watchfire::time::Timestamp;

/// Both ways over the same records.
struct Pair {
    fast: Filter,
    plain: Filter,
    at: Coordinate,
    /// Events that were decoded by the fast filter.
    decoded: u64,
    hits: u64,
}

impl Pair {
    fn new(rules: &Arc<RuleSet>, decoder: Decoder, routed: bool) -> Self {
        let filter = Filter::new(Arc::clone(rules), Arc::new(decoder));
        let filter = if routed { filter } else { filter.without_routing() };
        let at = Coordinate { topic: "t".into(), partition: 0, offset: 0 };
        Self { plain: filter.clone().without_reader(), fast: filter, at, decoded: 0, hits: 0 }
    }

    fn check(&mut self, payload: &[u8]) {
        self.at.offset += 1;
        let record = Record {
            at: &self.at,
            payload: Some(payload),
            headers: &[],
            timestamp: Some(Timestamp(7)),
            reference: Timestamp(0),
            now: None,
        };
        let (mut fast, mut plain) = (FilterOutput::default(), FilterOutput::default());
        let times = (self.fast.record(&record, &mut fast), self.plain.record(&record, &mut plain));
        let text = String::from_utf8_lossy(payload);
        assert_eq!(times.0, times.1, "{text}");
        self.decoded += fast.counts.decoded;
        self.hits += plain.detections.len() as u64;
        fast.counts.decoded = plain.counts.decoded;
        assert_eq!(fast.counts, plain.counts, "{text}");
        assert_eq!(fast.detections, plain.detections, "{text}");
        assert_eq!(fast.matches, plain.matches, "{text}");
        assert_eq!(fast.rejects, plain.rejects, "{text}");
        let shown = |out: &FilterOutput| -> Vec<(String, String)> {
            let body = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
            out.alerts.iter().map(|a| (a.summary.clone(), body(&a.body))).collect()
        };
        assert_eq!(shown(&fast), shown(&plain), "{text}");
    }
}

fn with_tables() -> Decoder {
    let tables = Tables::new(shipped_tables().expect("shipped")).expect("few");
    Decoder::new(Format::Json, Vec::new()).with_tables(tables)
}

#[test]
fn both_ways_say_the_same_of_real_events() {
    let Some(dir) = common::corpora() else { return };
    let files = sigmahq::rules(&dir.join("sigmahq/rules"));
    let (rules, _) = RuleSet::compile(files.iter().map(|(n, t)| (n, t.as_str())));
    let rules = Arc::new(rules);
    let text = sigmahq::windows_events(&dir);
    let lines: Vec<&str> = text.lines().collect();

    let mut routed = Pair::new(&rules, with_tables(), true);
    lines.iter().step_by(2).for_each(|line| routed.check(line.as_bytes()));
    let events = lines.len() as u64 / 2;
    eprintln!("{events} events routed: {} hits, {} decoded", routed.hits, routed.decoded);
    assert!(routed.hits > 1_000 && routed.decoded * 100 < events, "{}", routed.decoded);

    let plain = Decoder::new(Format::Json, Vec::new());
    let mut all = Pair::new(&rules, plain, false);
    lines.iter().step_by(40).for_each(|line| all.check(line.as_bytes()));
    assert!(all.hits > 1_000, "{}", all.hits);
}

const RULES: &str = r#"
title: literals
logsource: {product: windows}
detection:
  s1: {Image|endswith: ['\cmd.exe', 'x', '.exe', '\b.dll', 'é']}
  s2: {CommandLine|contains: [ab, 'a\b', ' -c ', 'longer text', '\\', '🔥', 'Ä', 'k']}
  condition: s1 or s2
---
title: fields of all kinds
logsource: {category: process_creation}
detection:
  s1: {a.b.c: [1, null, true, 'x*']}
  s2: {a.b: ''}
  s3: {n|gte: 2}
  s4: {a.e|exists: false, a|exists: true}
  s5: {Image|fieldref: CommandLine}
  s6: {CommandLine|re: '^[a-z\\]+\s?-?\w'}
  condition: 1 of s*
---
title: keywords
logsource: {product: linux}
detection:
  k: ['b\', 'longer', 12, 'A', '"']
  f: {message|cidr: 10.0.0.0/8}
  condition: k and not f
---
title: all of them
logsource: {category: x}
detection: {k: {'|all': ['ab', 'é']}, condition: k}
fields: [CommandLine, a.b.c, nowhere]
---
title: correlated
name: base
logsource: {service: security}
detection: {s: {Image|contains: 'e'}, condition: s}
---
title: many
correlation: {type: event_count, rules: [base], group-by: [User, a.b], timespan: 5m, condition: {gte: 2}}
"#;

/// Records of which each differs from some other in a field's name, a value's kind or where values end.
const ALIKE: [&str; 11] = [
    r#"{"product":"linux","k":"x"}"#,
    r#"{"service":"linux","k":"x"}"#,
    r#"{"product":"true","k":"x"}"#,
    r#"{"product":true,"k":"x"}"#,
    r#"{"product":["true"],"k":"x"}"#,
    r#"{"product":"null","k":"x"}"#,
    r#"{"product":null,"k":"x"}"#,
    r#"{"product":"linux","service":"","k":"x"}"#,
    r#"{"product":"lin","service":"ux","k":"x"}"#,
    r#"{"product":"linux","service":"linux","k":"x"}"#,
    r#"{"k":"x"}"#,
];

#[test]
fn what_is_much_like_the_record_before_is_told_from_it() {
    let sources = [
        "product: linux",
        "service: linux",
        "product: 'true'",
        "product: 'null'",
        "product: lin",
        "service: ux",
    ];
    let rules = sources.map(|source| {
        let title = source.replace([':', '\''], "");
        format!("title: {title}\nlogsource: {{{source}}}\ndetection: {{s: {{k: x}}, condition: s}}")
    });
    let names: Vec<Arc<str>> = sources.iter().map(|name| (*name).into()).collect();
    let (rules, _) = RuleSet::compile(names.iter().zip(rules.iter().map(String::as_str)));
    assert_eq!(rules.detections.len(), sources.len());
    let rules = Arc::new(rules);
    for decoder in [with_tables(), Decoder::new(Format::Json, Vec::new())] {
        let mut pair = Pair::new(&rules, decoder, true);
        // Each behind each other, when all are known.
        for (before, record) in ALIKE.iter().flat_map(|a| ALIKE.map(|b| (a, b))) {
            pair.check(before.as_bytes());
            pair.check(record.as_bytes());
        }
        assert!(pair.hits > 150 && pair.decoded <= 32, "{} {}", pair.hits, pair.decoded);
    }
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r#""(ab|a\\\\b|\\\\cmd.exe|x| -c |longer text|k|K|A|Ä|ä|é|\\u00e9|\\u0041|\\n|\\/|\\"|e|1|K|🔥|12){0,4}""#,
        1 => Just("\"10.1.2.3\"".to_owned()),
        1 => Just("\"2026-01-02T03:04:05.678Z\"".to_owned()),
        1 => prop_oneof![
            Just("null"), Just("true"), Just("false"), Just("1"), Just("12"), Just("-0"),
            Just("1.0"), Just("2e0"), Just("0.30000000000000004"), Just("12345678901234567890")
        ].prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            prop::collection::vec((key(), inner), 0..4).prop_map(object),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "Image",
        "CommandLine",
        "a",
        "b",
        "c",
        "a.b",
        "b.c",
        "a.b.c",
        "e",
        "n",
        "message",
        "User",
        "x y",
        "Com mandLine",
        "@timestamp",
        "UtcTime",
        "time",
        "Channel",
        "EventID",
        "product",
        "category",
        "service",
        "NewProcessName",
        "Provider_Name",
        "Event",
        "winlog.channel",
        "event_data",
        "\\u0061",
    ])
    .prop_map(str::to_owned)
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<String> = members.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
    format!("{{{}}}", members.join(" , "))
}

fn record() -> impl Strategy<Value = String> {
    let source = prop::sample::select(vec![
        "",
        r#""product":"windows","category":"process_creation","#,
        r#""product":"linux","#,
        r#""Channel":"Security","EventID":4688,"NewProcessName":"C:\\b.exe","#,
        r#""Channel":"Microsoft-Windows-Sysmon/Operational","EventID":"1","#,
        r#""service":"security","User":"u","a.b":"g","#,
    ]);
    let members = prop::collection::vec((key(), value()), 1..8).prop_map(object);
    (source, members).prop_map(|(source, object)| format!("{{{source}{}", &object[1..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn both_ways_say_the_same_of_made_up_records(
        records in prop::collection::vec(record(), 1..12),
        tables in any::<bool>(),
        tag in any::<bool>(),
        routed in any::<bool>(),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let name: Arc<str> = "r.yml".into();
        let (rules, diagnostics) = RuleSet::compile([(&name, RULES)]);
        prop_assert_eq!(rules.detections.len(), 5, "{:?}", diagnostics);
        let mut decoder =
            if tables { with_tables() } else { Decoder::new(Format::Json, Vec::new()) };
        if tag {
            let origin = TagOrigin::Field(FieldPath::new("a.b"));
            decoder.tags = vec![Tag { part: watchfire::decode::Part::Service, origin, map: None }];
        }
        let mut pair = Pair::new(&Arc::new(rules), decoder, routed);
        for record in &records {
            // The first of its kind is decoded, the second is not.
            pair.check(record.as_bytes());
            pair.check(record.as_bytes());
            if let Some((at, byte)) = damage {
                let mut damaged = record.clone().into_bytes();
                let at = at.index(damaged.len());
                damaged[at] = byte;
                pair.check(&damaged);
            }
        }
    }
}
