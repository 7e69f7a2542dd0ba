//! A logsource table as it is written.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::event::EventSource;

/// The file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub name: String,
    /// What all entries say.
    #[serde(default)]
    pub logsource: WrittenSource,
    pub entries: Vec<WrittenEntry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenEntry {
    pub when: InOrder<Words>,
    #[serde(default)]
    pub logsource: WrittenSource,
    #[serde(default)]
    pub rename: InOrder<Words>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSource {
    #[serde(default)]
    product: Words,
    #[serde(default)]
    category: Words,
    #[serde(default)]
    service: Words,
}

impl WrittenSource {
    pub fn source(&self) -> EventSource {
        let mut source = EventSource::default();
        self.product.0.iter().for_each(|n| source.add_product(n));
        self.category.0.iter().for_each(|n| source.add_category(n));
        self.service.0.iter().for_each(|n| source.add_service(n));
        source
    }
}

/// A mapping in the order in which it is written: the tree asks fields in that order.
pub(super) struct InOrder<V>(pub Vec<(String, V)>);

impl<V> Default for InOrder<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for InOrder<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Members<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = InOrder<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<V>, A::Error> {
                let mut members: Vec<(String, V)> = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    if members.iter().any(|(k, _)| *k == key) {
                        return Err(A::Error::custom(format!("`{key}` stands twice")));
                    }
                    members.push((key, value));
                }
                Ok(InOrder(members))
            }
        }
        d.deserialize_map(Members(PhantomData))
    }
}

/// One text, whole number or truth value, or a list of them; as text.
#[derive(Default)]
pub(super) struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, true, false, or a list of them")
            }
            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words(vec![text.to_owned()]))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Words, E> {
                Ok(Words(vec![value.to_string()]))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Words, E> {
                Ok(Words(vec![number.to_string()]))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Words, E> {
                Ok(Words(vec![number.to_string()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(Words(mut more)) = items.next_element()? {
                    words.append(&mut more);
                }
                Ok(Words(words))
            }
        }
        d.deserialize_any(Texts)
    }
}
