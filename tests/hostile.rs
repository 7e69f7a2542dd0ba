//! Bytes that nobody meant well: whatever comes in, there is an answer, no panic and no endless work.
//!
//! Inputs are random bytes, and good inputs that were cut, repeated and changed.

use std::sync::Arc;

use proptest::prelude::*;
use watchfire::decode::{Decoder, Format, Mapping, shipped_mappings};
use watchfire::detect::Engine;
use watchfire::pipeline::Message;
use watchfire::rule::RuleSet;
use watchfire::runtime::shipped_rules;
use watchfire::time::{Timestamp, parse_duration};

const LOGS: &[&str] = &[
    "Mar 27 13:06:56 h sshd[1]: Failed password for invalid user x from 1.2.3.4 port 5 ssh2",
    "<34>1 2003-10-11T22:14:15.003Z h su 7 ID47 [ex@1 a=\"x\\\"y\"][b c=\"d\"] \u{feff}message",
    "<191>Feb 29 23:59:60 h sudo:   bob : TTY=p ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
    "2017-03-27T13:06:56.123456+02:00 h pam: pam_unix(su:auth): authentication failure; tty= ruser= rhost=x",
    r#"{"@timestamp":"2026-01-01T00:00:00Z","user":"ü\ud83d\ude00","a":{"b":[1,2.5,null,{"c":true}]}}"#,
    r#"{"time":99999999999999999999,"n":-0.0e+10,"s":"\u0000"}"#,
];

const RULES: &[&str] = &[
    include_str!("../rules/linux/ssh_success_after_failures.yml"),
    include_str!("../rules/linux/sudo_abuse.yml"),
    include_str!("../rules/linux/auth_volume_spike.yml"),
    "title: t\nlogsource: {category: c}\ndetection:\n  a:\n    F|base64offset|contains: ['x*']\n    G|windash: ' -a -b'\n    H|re|i: '(a+)+$'\n    I|cidr: 10.0.0.0/8\n  b: [k, 'l*']\n  condition: 1 of a* and not (b or all of them)\n",
];

/// A good input with some of its bytes cut out, doubled or replaced.
fn damaged(good: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0usize..12, prop::collection::vec(any::<u8>(), 0..6));
    let edits = prop::collection::vec(edit, 0..6);
    (prop::sample::select(good), edits).prop_map(|(text, edits)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, length, with) in edits {
            let from = at.index(bytes.len() + 1);
            let to = (from + length).min(bytes.len());
            bytes.splice(from..to, with);
        }
        bytes
    })
}

fn decode_and_match(bytes: &[u8], reference: i64) {
    let rules = shipped_rules().rules;
    for format in [Format::Json, Format::Syslog] {
        let decoder = Decoder::new(format, shipped_mappings().expect("shipped"));
        if let Ok(event) = decoder.decode(Some(bytes), Timestamp(reference)) {
            Engine::new(Arc::clone(&rules)).detect(&event, |_| {});
            let _ = event.time.map(|t| t.to_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn records_are_decoded_or_rejected(bytes in damaged(LOGS), reference in any::<i64>()) {
        decode_and_match(&bytes, reference);
    }

    #[test]
    fn noise_is_decoded_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_and_match(&bytes, 0);
    }

    #[test]
    fn rules_are_compiled_or_explained(bytes in damaged(RULES)) {
        let text = String::from_utf8_lossy(&bytes);
        let file: Arc<str> = "hostile.yml".into();
        let (rules, diagnostics) = RuleSet::compile([(&file, &*text)]);
        for diagnostic in &diagnostics {
            prop_assert!(diagnostic.to_string().starts_with("hostile.yml"), "{diagnostic}");
            let (start, end) = (diagnostic.place, diagnostic.place.end_in(&text));
            prop_assert!((start.line, start.column) <= (end.line, end.column), "{diagnostic:?}");
        }
        let mut engine = Engine::new(Arc::new(rules));
        let decoder = Decoder::new(Format::Json, Vec::new());
        let event = decoder.decode(Some(LOGS[4].as_bytes()), Timestamp(0)).expect("a good event");
        engine.detect(&event, |_| {});
    }

    #[test]
    fn mappings_are_compiled_or_refused(
        bytes in damaged(&[include_str!("../mappings/sshd.yml"), include_str!("../mappings/pam.yml")]),
    ) {
        let _ = Mapping::parse("hostile.yml", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn messages_between_the_stages_are_read_or_refused(bytes in damaged(&[
        r#"{"m":{"m":1,"a":{"t":"x","p":0,"o":1},"f":"f","r":"r","v":[["a","b"]]}}"#,
        r#"{"k":{"n":[["x",6]],"w":[{"t":"x","p":0,"w":{"w":1},"d":2},{"t":"x","p":1,"w":"e","d":2}]}}"#,
    ])) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()).expect("its own form"), message);
        }
    }

    #[test]
    fn times_and_durations_are_read_or_refused(text in "[-+0-9TZ: .smhdwM]{0,40}", any in any::<i64>()) {
        let _ = Timestamp::parse(&text).map(|t| (t.to_string(), t.plus(any), t.minus(any), t.civil()));
        let _ = parse_duration(&text);
        let _ = Timestamp::from_epoch_number(any).to_string();
    }
}
