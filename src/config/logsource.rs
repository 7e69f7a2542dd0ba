//! `sources[].logsource`: what the events of a source are, as written.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::decode::{Decoder, Part, Tag, TagOrigin};
use crate::event::FieldPath;

/// What the events of a source are.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTags {
    /// Sigma product.
    #[serde(default)]
    pub product: Option<SourceTag>,
    /// Sigma category.
    #[serde(default)]
    pub category: Option<SourceTag>,
    /// Sigma service.
    #[serde(default)]
    pub service: Option<SourceTag>,
}

/// One part: the same for all events, or told by each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceTag {
    /// The name.
    Constant(String),
    /// Where the name comes from, and what the values there mean if they are no names.
    Told {
        /// The field or header.
        origin: TagOrigin,
        /// Value → name.
        map: Option<BTreeMap<String, String>>,
    },
}

impl SourceTags {
    /// Hands what is written to the decoder of the source.
    pub fn apply(&self, decoder: &mut Decoder) {
        let parts = [
            (Part::Product, &self.product),
            (Part::Category, &self.category),
            (Part::Service, &self.service),
        ];
        for (part, tag) in parts {
            match (part, tag) {
                (_, None) => {}
                (Part::Product, Some(SourceTag::Constant(name))) => {
                    decoder.source.add_product(name);
                }
                (Part::Category, Some(SourceTag::Constant(name))) => {
                    decoder.source.add_category(name);
                }
                (Part::Service, Some(SourceTag::Constant(name))) => {
                    decoder.source.add_service(name);
                }
                (part, Some(SourceTag::Told { origin, map })) => {
                    let (origin, map) = (origin.clone(), map.clone());
                    decoder.tags.push(Tag { part, origin, map });
                }
            }
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    header: Option<String>,
    #[serde(default)]
    map: Option<BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for SourceTag {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SourceTag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or `field` or `header` with an optional `map`")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<SourceTag, E> {
                Ok(SourceTag::Constant(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SourceTag, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                let origin = match (written.field, written.header) {
                    (Some(field), None) => TagOrigin::Field(FieldPath::new(&field)),
                    (None, Some(header)) => TagOrigin::Header(header.into()),
                    _ => return Err(A::Error::custom("write one of `field` and `header`")),
                };
                Ok(SourceTag::Told { origin, map: written.map })
            }
        }
        d.deserialize_any(Either)
    }
}
