//! Whether a key stands twice in a record: then the last one counts, and the others say nothing.

use std::borrow::Cow;
use std::fmt;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use crate::event::{Facts, Kind, Scalar};

/// Whether some object of an event's record has two members of one name.
pub fn has_equal_keys(facts: Facts<'_>) -> bool {
    let said = &facts.view.scalars()[facts.view.said()];
    !are_plainly_different(facts.record, said)
        && may_have_equal_keys(facts.record)
        && have_equal_keys(facts.record)
}

/// The same, read as JSON is.
fn have_equal_keys(record: &[u8]) -> bool {
    serde_json::from_slice::<Keys>(record).is_ok_and(|keys| keys.equal)
}

/// True only when the record is one object, written without whitespace, of nothing but these scalars, and no two
/// of its names have the same hash: what most records are, found by names alone. The scalars are all that it has,
/// in order.
fn are_plainly_different(record: &[u8], scalars: &[Scalar]) -> bool {
    let mut names: SmallVec<[u64; PLAIN_NAMES_MAX]> = SmallVec::new();
    let (mut at, mut lead) = (0, &b"{\""[..]);
    for scalar in scalars {
        let is_text = scalar.kind == Kind::Str;
        let (from, colon) = (at + lead.len(), scalar.start as usize - usize::from(is_text) - 1);
        let is_lead = record.get(at..from) == Some(lead);
        if !is_lead || record[colon] != b':' || quote_or_backslash(record, from) != Some(colon - 1)
        {
            return false;
        }
        let hash = hash_of(&record[from..colon - 1]);
        if names.contains(&hash) || names.len() == PLAIN_NAMES_MAX {
            return false;
        }
        names.push(hash);
        (at, lead) = (scalar.end as usize, if is_text { &b"\",\""[..] } else { b",\"" });
    }
    matches!(record.get(at..), Some(b"}" | b"\"}"))
}

/// Names of a record that are told apart in the plain way.
const PLAIN_NAMES_MAX: usize = 64;

fn hash_of(name: &[u8]) -> u64 {
    FixedState::default().hash_one(name)
}

/// The start of the names of a container that has none.
const ARRAY: usize = usize::MAX;

/// Names of an object that are compared with each other; those of a larger one are sorted.
const NAMES_MAX: usize = 128;

/// False only when no two names of an object have the same hash, none has an escape, and there are not very many:
/// what nearly every record is, found without reading it as JSON.
fn may_have_equal_keys(record: &[u8]) -> bool {
    // Of all objects that are open; for each of these, where its names begin.
    let mut names: SmallVec<[u64; 64]> = SmallVec::new();
    let mut open: SmallVec<[usize; 16]> = SmallVec::new();
    let (mut at, mut is_name) = (0, false);
    while let Some(byte) = record.get(at) {
        match byte {
            b'{' => {
                open.push(names.len());
                is_name = true;
            }
            b'[' => {
                open.push(ARRAY);
                is_name = false;
            }
            b'}' | b']' => {
                names.truncate(open.pop().unwrap_or(ARRAY));
                is_name = false;
            }
            b',' => is_name = open.last().is_some_and(|from| *from != ARRAY),
            b'"' => {
                let Some(end) = end_of_string(record, at + 1) else { return true };
                if is_name {
                    let name = &record[at + 1..end];
                    let hash = hash_of(name);
                    let from = open.last().copied().unwrap_or_default();
                    let others = &names[from..];
                    if others.contains(&hash) || others.len() >= NAMES_MAX || name.contains(&b'\\')
                    {
                        return true;
                    }
                    names.push(hash);
                    is_name = false;
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    false
}

/// Where the quote is that ends the string from `at` on.
fn end_of_string(record: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = quote_or_backslash(record, at)?;
        if record[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Where the next of these is. Most strings end after a word or two, so it is looked for right here, by words.
#[inline(always)]
fn quote_or_backslash(record: &[u8], mut at: usize) -> Option<usize> {
    while let Some(bytes) = record.get(at..)?.first_chunk() {
        let word = u64::from_le_bytes(*bytes);
        let found = zero_bytes(word ^ each(b'"')) | zero_bytes(word ^ each(b'\\'));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += bytes.len();
    }
    let rest = record[at..].iter();
    Some(at + rest.copied().position(|byte| byte == b'"' || byte == b'\\')?)
}

/// A word of nothing but this byte.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The upper bit of each byte that is zero; of bytes above the first of them perhaps too many.
/// (Mycroft, 1987.)
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(each(1)) & !word & each(0x80)
}

/// A value, of which only this is known.
struct Keys {
    /// Whether two members of an object in it have one name.
    equal: bool,
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyValue).map(|equal| Self { equal })
    }
}

/// A key, borrowed where it can be.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut equal = false;
        while let Some(item) = seq.next_element::<Keys>()? {
            equal |= item.equal;
        }
        Ok(equal)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut names: Vec<Cow<'de, str>> = Vec::with_capacity(32);
        let mut equal = false;
        while let Some((Key(name), value)) = map.next_entry::<Key<'de>, Keys>()? {
            names.push(name);
            equal |= value.equal;
        }
        names.sort_unstable();
        Ok(equal || names.windows(2).any(|pair| pair[0] == pair[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::scan::{ScanScratch, Scanner};
    use crate::event::View;

    #[test]
    fn a_name_that_stands_twice_in_one_object_is_found() {
        for (record, expect) in [
            (r#"{"a":1,"b":2}"#, false),
            (r#"{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}"#, false),
            (r#"{"a":"a","b":["a","a"]}"#, false),
            (r#"{"a":"\"","b":"\\","c":","}"#, false),
            (r#"{"a":{},"b":[],"c":[[],{}]}"#, false),
            (r#"{"a":1,"a":2}"#, true),
            (r#"{"a" : 1 , "b" : [ 1 , 2 ] , "a" : 2}"#, true),
            (r#"{"x":{"a":1,"b":{},"a":2}}"#, true),
            (r#"{"x":[1,{"a":"}","b":"{","a":2}]}"#, true),
            (r#"{"a":1,"\u0061":2}"#, true),
            (r#"{"a\"":1,"b":2,"a\"":3}"#, true),
            (r#"{"":1,"":2}"#, true),
        ] {
            assert_eq!(have_equal_keys(record.as_bytes()), expect, "{record}");
            assert_eq!(may_have_equal_keys(record.as_bytes()), expect, "{record}");
        }
        for (last, expect) in [("end", false), ("k7", true)] {
            let many: String = (0..200).map(|n| format!("\"k{n}\":{n},")).collect();
            let record = format!("{{{many}\"{last}\":0}}");
            assert_eq!(have_equal_keys(record.as_bytes()), expect);
            assert!(may_have_equal_keys(record.as_bytes()), "more than are compared");
        }
    }

    /// Nothing when a record is out of the ordinary: nobody asks then.
    fn plainly_different(record: &str) -> Option<bool> {
        let (mut view, mut scratch) = (View::default(), ScanScratch::default());
        let known = Scanner::new(&[], &[], &[]).scan(record.as_bytes(), &mut view, &mut scratch);
        known.then(|| {
            let facts = Facts { record: record.as_bytes(), view: &view, raw: true };
            assert_eq!(has_equal_keys(facts), have_equal_keys(facts.record), "{record}");
            are_plainly_different(facts.record, &view.scalars()[view.said()])
        })
    }

    #[test]
    fn names_of_a_plain_record_are_told_apart_by_themselves() {
        for (record, expect) in [
            (r#"{"a":1,"b":2}"#, true),
            (r#"{"a":"1","b":true,"ab":null,"abcdefgh":-1.5,"abcdefghi":"x"}"#, true),
            (r#"{"a":"\"","b":"\\","c":",\"d\":"}"#, true),
            (r#"{"":1}"#, true),
            (r#"{"abcdefgh1abcdefgh":1,"abcdefgh2abcdefgh":2}"#, true),
            // Alike, or not plain.
            (r#"{"a":1,"b":2,"a":3}"#, false),
            (r#"{"a":1 ,"b":2}"#, false),
            (r#"{ "a":1}"#, false),
            (r#"{"a":1,"b":{}}"#, false),
            (r#"{"a":1,"b":[],"c":2}"#, false),
            (r#"{"a":["b","c"]}"#, false),
            (r#"{"a":{"b":1}}"#, false),
            (r#"{}"#, false),
        ] {
            assert_eq!(plainly_different(record).unwrap_or(expect), expect, "{record}");
        }
        let many: String = (0..65).map(|n| format!("\"k{n}\":{n},")).collect();
        assert_eq!(plainly_different(&format!("{{{many}\"end\":0}}")), Some(false));
    }

    proptest::proptest! {
        #[test]
        fn the_next_quote_or_backslash_is_that_which_bytes_show(
            // Neighbours of both, the same with the upper bit, zeros; and letters, so that words pass by.
            bytes in proptest::collection::vec(
                proptest::sample::select(&b"\"\\!#[]\xa2\xdc\x80\0aaaaaaaaaaaaaaaaaaaa"[..]), 0..30
            ),
            at in 0..32usize,
        ) {
            let next = |rest: &[u8]| rest.iter().position(|b| matches!(b, b'"' | b'\\'));
            let expect = bytes.get(at..).and_then(next).map(|place| at + place);
            proptest::prop_assert_eq!(quote_or_backslash(&bytes, at), expect);
        }

        #[test]
        fn it_is_found_as_by_reading_json(
            text in r#"(\{|\}|\[|\]|:|,|"|\\|a|b|1| ){0,24}"#,
            tree in "(\"[ab]\":(1|\"[ab,:{}]\"|\\{\"[ab]\":2,\"[ab]\":\\[\"[ab]\"\\]\\}),){0,3}",
        ) {
            for record in [text, format!("{{{tree}\"c\":0}}")] {
                plainly_different(&record);
                let record = record.as_bytes();
                let found = may_have_equal_keys(record) && have_equal_keys(record);
                proptest::prop_assert_eq!(found, have_equal_keys(record));
            }
        }
    }
}
