//! Whether a key stands twice in a record: then the last one counts, and the others say nothing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Whether some object of this JSON has two members of one name.
pub fn has_equal_keys(record: &[u8]) -> bool {
    serde_json::from_slice::<Keys>(record).is_ok_and(|keys| keys.equal)
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
