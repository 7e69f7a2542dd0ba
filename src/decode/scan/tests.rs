//! Tables of cases for every path; also run under Miri. Random cases and real events are in
//! `tests/scan.rs`.

#[path = "../../../tests/common/scan.rs"]
mod oracle;

use oracle::Oracle;

const NAMES: &[&str] = &[
    "a",
    "b",
    "a.b",
    "a.b.c",
    "a.b.d",
    "c.d",
    "long.name.with.dots",
    "CommandLine",
    "ParentCommandLine",
    "ParentCommandLane",
    "a_name_of_more_than_sixteen_bytes",
    "a_name_of_less_than_sixteen_bytes",
    "é",
    "x..y",
    "z.",
    "Event.EventData.Image",
];

fn check_all(taken: bool, records: &[&str]) {
    let mut oracle = Oracle::new(NAMES);
    for record in records.iter().chain(records) {
        assert_eq!(oracle.check(record.as_bytes()), taken, "{record}");
    }
    for record in records {
        oracle.forget();
        assert_eq!(oracle.check(record.as_bytes()), taken, "the first: {record}");
    }
}

#[test]
fn ordinary_records_are_read_as_serde_json_reads_them() {
    check_all(
        true,
        &[
            "{}",
            " {\t}\r\n ",
            r#"{"a":1}"#,
            r#"{"a":"","b":"x","c":{"d":null,"e":true},"CommandLine":false}"#,
            "{ \"a\" : 1 ,\n\t\"b\" : [ 1 , 2.5 , -3 , \"x\" , [ null , [ ] ] , { } ] }",
            r#"{"a":{"b":{"c":1,"d":[2]}},"b":{"a":1}}"#,
            r#"{"a":[{"b":{"c":1}},{"b.c":2},{"b":[{"c":[3,[4]]},{"d":5}]},6]}"#,
            r#"{"a.b":1,"a.b.d":2,"c":[[{"d":1}],{"d":2}]}"#,
            r#"{"a":[],"b":{},"long.name.with.dots":[{"x":1},2,{"y":3}],"c":{"d":[[],{}]}}"#,
            r#"{"ParentCommandLine":1,"ParentCommandLane":2,"ParentCommandLina":3}"#,
            r#"{"a_name_of_more_than_sixteen_bytes":1,"a_name_of_less_than_sixteen_bytes":2}"#,
            r#"{"x":{"-":{"y":1}},"z":{"q":1},"é":"é\u00e9\ud83d\uDE00","t":"\/\b\f\n\r\t\\\""}"#,
            r#"{"n":[0,-0,1,-1,10,999999999999999999,1000000000000000000,18446744073709551616]}"#,
            r#"{"n":[0.0,-0.5,1e5,1E+5,1.5e-99,123456789012345678901234567890.5e10,0e0]}"#,
            r#"{"x":"\\","y":"\\\"","z":"\\\\\"{[","CommandLine":"C:\\a\\b \"c\" ]}"}"#,
            r#"{"u":1,"u":2,"y":{"u":1,"u":[]}}"#,
            r#"{"x":{"Event":1,"winlog.y":2},"EventID":3,"winlo":4,"Events":5,"SystemX":6}"#,
            "{\"del\":\"\u{7f}\u{80}\u{2028}\"}",
        ],
    );
}

#[test]
fn what_is_out_of_the_ordinary_is_left_to_the_slow_way() {
    check_all(
        false,
        &[
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "null",
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1},"a":2}"#,
            r#"{"a":[{"b":1},{"b":2,"b":3}]}"#,
            r#"{"a.b":1,"a":{"b":2}}"#,
            r#"{"a":{"b":2},"a.b":1}"#,
            r#"{"a":{"b":{"c":1},"b.c":2}}"#,
            r#"{"a b":1}"#,
            r#"{"x":[{"y":{" z":1}}]}"#,
            r#"{"\u0061":1}"#,
            r#"{"x":{"y\\z":1}}"#,
            r#"{"":1}"#,
            r#"{"Event":{}}"#,
            r#"{"x":1,"winlog.y":2}"#,
            r#"{"Event.":2}"#,
            r#"{"n":1e100}"#,
            r#"{"n":1e400}"#,
        ],
    );
    let long = format!("{{\"n\":1{}}}", "0".repeat(400));
    let long_key = format!("{{\"{} {}\":1}}", "k".repeat(70), "k".repeat(70));
    check_all(false, &[&long, &long_key]);
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    check_all(true, &[&nested(99), &format!("{{\"{}\":1}}", "k".repeat(140))]);
    check_all(false, &[&nested(100), &nested(5000)]);
}

#[test]
fn what_is_malformed_is_not_taken() {
    let mut oracle = Oracle::new(NAMES);
    for record in [
        "{",
        "}",
        "{}}",
        "{} x",
        "{}{}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 2}",
        "{\"a\":1]",
        "{\"a\":[1}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\" 1}",
        "{\"a\"::1}",
        "{\"a\":1,,\"b\":2}",
        "{a:1}",
        "{\"a\":a}",
        "{\"a\":tru}",
        "{\"a\":truE}",
        "{\"a\":True}",
        "{\"a\":nulll}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":-01}",
        "{\"a\":+1}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":1.e5}",
        "{\"a\":0x1}",
        "{\"a\":\"}",
        "{\"a\":\"x\\\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\n\"}",
        "{\"a\":\"\\",
        "{\"a\":\"\\ud800\\ud800\"}",
        "{\"a\":\"\\ud83d\\ude00\\ude00\"}",
        "{\"a\":\"\\ud83dx\\ude00\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\0\"}",
        "{\"a\":\"\u{1f}\"}",
        "{\\\"a\":1}",
        "{\"a\":1\\}",
        "{\"a\":1}\0",
        "\u{feff}{}",
        "{\"a\":1}\u{b}",
        "{\u{a0}}",
        "{'a':1}",
        "{\"a\":\"x\"\"y\"}",
        "{\"a\":1\"b\":2}",
        "{\"a\":{\"b\":1}",
        "{\"a\":{\"b\":1]}",
        "{[]:1}",
        "{\"a\":[1],[2]}",
    ] {
        assert!(serde_json::from_str::<serde_json::Value>(record).is_err(), "a bad case: {record}");
        assert!(!oracle.check(record.as_bytes()), "{record}");
    }
    for bytes in
        [&b"{\"a\":\"\xff\"}"[..], b"{\"\xc3\":1}", b"{\"a\":\"\xed\xa0\x80\"}", b"{\xc3\xa9}"]
    {
        assert!(!oracle.check(bytes), "{bytes:?}");
    }
}

#[test]
fn records_of_every_length_around_the_blocks_are_read_alike() {
    let mut oracle = Oracle::new(NAMES);
    let lengths = if cfg!(miri) { 60..70 } else { 0..200 };
    for length in lengths {
        for (left, right) in [
            (r#"{"a":""#, r#""}"#),
            (r#"{"a":"\\"#, r#"\"\\\\","b":"x"}"#),
            (r#"{"a":"\\\\\\\\\\\\\\\\\\\\"#, r#"\u00e9\ud83d\ude00\n"}"#),
            (r#"{"x":{"a":["é"#, r#"😀"]},"a":{"b":{"c":[1,{}]}}}"#),
            (r#"{"x"#, r#"":12345678,"CommandLine":true}"#),
        ] {
            for fill in ["x", "é", " "] {
                let middle = fill.repeat(length);
                let record = format!("{left}{middle}{right}");
                let plain = fill != " " || !left.starts_with(r#"{"x"#) || left.len() > 4;
                let taken = oracle.check(record.as_bytes());
                assert_eq!(taken, plain || length == 0, "{record}");
            }
            let blank = " ".repeat(length);
            let record = format!("{blank}{left}x{right}{blank}");
            assert!(oracle.check(record.as_bytes()), "{record}");
            let broken = &record[..record.trim_end().len() - 1];
            assert!(!oracle.check(broken.as_bytes()), "{broken}");
        }
    }
}

#[test]
fn one_scratch_serves_scanners_of_other_fields() {
    use super::{ScanScratch, Scanner};
    use crate::event::{FieldPath, View};
    let (mut view, mut scratch) = (View::default(), ScanScratch::default());
    for names in [&["a"][..], &["b", "a.b"], &["a"], &["b"]] {
        let fields: Vec<FieldPath> = names.iter().map(|n| FieldPath::new(n)).collect();
        let scanner = Scanner::new(&fields, &[], &[]);
        for _ in 0..2 {
            assert!(scanner.scan(br#"{"a":{"b":"x"},"b":"yy"}"#, &mut view, &mut scratch));
            for (name, field) in names.iter().zip(0..) {
                assert!(view.is_present(field), "{name}");
                let first = view.values(field).next().map(|at| view.scalars()[at].start);
                let expected = [("a.b", 11), ("b", 20)].into_iter().find(|(n, _)| n == name);
                assert_eq!(first, expected.map(|(_, start)| start), "{name}");
            }
        }
    }
}
