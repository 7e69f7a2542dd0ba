//! The shape of every request that is spoken, walked before it is decoded.
//!
//! The decoder reserves memory for as many elements as an array claims to have. A claim of two thousand million costs a
//! client four bytes, and the whole process its life, so no claim is believed: this walk follows the lengths over the
//! bytes that are there, and what it has passed holds at least a byte for each element. It looks at nothing else; what
//! a field means, and whether a text is UTF-8, is the decoder's to say.

use kafka_protocol::messages::ApiKey;

/// Most elements of all arrays of one request together: a decoded element is many times its bytes on the wire.
const ELEMENTS_MAX: usize = 1_000_000;

/// A field, as far as its length goes.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A text, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// An array of single fields, null or not.
    List(&'static Field),
    /// An array of structures, null or not.
    Array(&'static [Part]),
}

/// A field and the versions that have it.
#[derive(Debug, Clone, Copy)]
struct Part {
    field: Field,
    since: i16,
    until: i16,
}

const fn part(field: Field) -> Part {
    Part { field, since: 0, until: i16::MAX }
}

const fn since(since: i16, field: Field) -> Part {
    Part { field, since, until: i16::MAX }
}

const fn between(since: i16, until: i16, field: Field) -> Part {
    Part { field, since, until }
}

const I8: Field = Field::Fixed(1);
const I16: Field = Field::Fixed(2);
const I32: Field = Field::Fixed(4);
const I64: Field = Field::Fixed(8);
const TEXT: Field = Field::Text;
const TOPIC_AND_PARTITIONS: &[Part] = &[part(TEXT), part(Field::List(&I32))];

const PRODUCE: &[Part] = &[
    part(TEXT), // transactional id
    part(I16),  // acks
    part(I32),  // timeout
    part(Field::Array(&[part(TEXT), part(Field::Array(&[part(I32), part(Field::Blob)]))])),
];
const FETCH: &[Part] = &[
    part(I32),     // replica
    part(I32),     // wait
    part(I32),     // least bytes
    part(I32),     // most bytes
    part(I8),      // isolation
    since(7, I32), // session
    since(7, I32), // session epoch
    part(Field::Array(&[
        part(TEXT),
        part(Field::Array(&[
            part(I32),     // partition
            since(9, I32), // leader epoch
            part(I64),     // offset
            since(5, I64), // log start
            part(I32),     // most bytes
        ])),
    ])),
    since(7, Field::Array(TOPIC_AND_PARTITIONS)), // forgotten
    since(11, TEXT),                              // rack
];
const LIST_OFFSETS: &[Part] = &[
    part(I32),    // replica
    since(2, I8), // isolation
    part(Field::Array(&[
        part(TEXT),
        part(Field::Array(&[part(I32), since(4, I32), part(I64)])), // partition, leader epoch, time
    ])),
];
const METADATA: &[Part] = &[
    part(Field::Array(&[part(TEXT)])),
    since(4, I8), // auto creation
    since(8, I8), // cluster operations
    since(8, I8), // topic operations
];
const OFFSET_COMMIT: &[Part] = &[
    part(TEXT),         // group
    part(I32),          // generation
    part(TEXT),         // member
    since(7, TEXT),     // instance
    between(2, 4, I64), // retention
    part(Field::Array(&[
        part(TEXT),
        part(Field::Array(&[part(I32), part(I64), since(6, I32), part(TEXT)])),
    ])),
];
const OFFSET_FETCH: &[Part] = &[part(TEXT), part(Field::Array(TOPIC_AND_PARTITIONS)), since(7, I8)];
const FIND_COORDINATOR: &[Part] = &[part(TEXT), since(1, I8)];
const JOIN_GROUP: &[Part] = &[
    part(TEXT),     // group
    part(I32),      // session timeout
    since(1, I32),  // rebalance timeout
    part(TEXT),     // member
    since(5, TEXT), // instance
    part(TEXT),     // protocol type
    part(Field::Array(&[part(TEXT), part(Field::Blob)])),
];
const HEARTBEAT: &[Part] = &[part(TEXT), part(I32), part(TEXT), since(3, TEXT)];
const LEAVE_GROUP: &[Part] =
    &[part(TEXT), between(0, 2, TEXT), since(3, Field::Array(&[part(TEXT), part(TEXT)]))];
const SYNC_GROUP: &[Part] = &[
    part(TEXT),     // group
    part(I32),      // generation
    part(TEXT),     // member
    since(3, TEXT), // instance
    part(Field::Array(&[part(TEXT), part(Field::Blob)])),
];
const DESCRIBE_GROUPS: &[Part] = &[part(Field::List(&TEXT)), since(3, I8)];
const API_VERSIONS: &[Part] = &[since(3, TEXT), since(3, TEXT)];
const CREATE_TOPICS: &[Part] = &[
    part(Field::Array(&[
        part(TEXT),
        part(I32), // partitions
        part(I16), // replicas
        part(Field::Array(&[part(I32), part(Field::List(&I32))])),
        part(Field::Array(&[part(TEXT), part(TEXT)])),
    ])),
    part(I32), // timeout
    part(I8),  // validate only
];
const DELETE_TOPICS: &[Part] = &[part(Field::List(&TEXT)), part(I32)];
const DELETE_RECORDS: &[Part] =
    &[part(Field::Array(&[part(TEXT), part(Field::Array(&[part(I32), part(I64)]))])), part(I32)];
const INIT_PRODUCER_ID: &[Part] = &[part(TEXT), part(I32), since(3, I64), since(3, I16)];
const ADD_PARTITIONS: &[Part] =
    &[part(TEXT), part(I64), part(I16), part(Field::Array(TOPIC_AND_PARTITIONS))];
const ADD_OFFSETS: &[Part] = &[part(TEXT), part(I64), part(I16), part(TEXT)];
const END_TXN: &[Part] = &[part(TEXT), part(I64), part(I16), part(I8)];
const TXN_OFFSET_COMMIT: &[Part] = &[
    part(TEXT),     // transactional id
    part(TEXT),     // group
    part(I64),      // producer
    part(I16),      // its epoch
    since(3, I32),  // generation
    since(3, TEXT), // member
    since(3, TEXT), // instance
    part(Field::Array(&[
        part(TEXT),
        part(Field::Array(&[part(I32), part(I64), since(2, I32), part(TEXT)])),
    ])),
];
const DESCRIBE_CONFIGS: &[Part] = &[
    part(Field::Array(&[part(I8), part(TEXT), part(Field::List(&TEXT))])),
    part(I8),
    since(3, I8),
];
const CREATE_PARTITIONS: &[Part] = &[
    part(Field::Array(&[part(TEXT), part(I32), part(Field::Array(&[part(Field::List(&I32))]))])),
    part(I32),
    part(I8),
];

/// The shape of an API's requests, and the first version with compact lengths and tagged fields.
fn shape_of(api: ApiKey) -> Option<(&'static [Part], i16)> {
    Some(match api {
        ApiKey::Produce => (PRODUCE, 9),
        ApiKey::Fetch => (FETCH, 12),
        ApiKey::ListOffsets => (LIST_OFFSETS, 6),
        ApiKey::Metadata => (METADATA, 9),
        ApiKey::OffsetCommit => (OFFSET_COMMIT, 8),
        ApiKey::OffsetFetch => (OFFSET_FETCH, 6),
        ApiKey::FindCoordinator => (FIND_COORDINATOR, 3),
        ApiKey::JoinGroup => (JOIN_GROUP, 6),
        ApiKey::Heartbeat => (HEARTBEAT, 4),
        ApiKey::LeaveGroup => (LEAVE_GROUP, 4),
        ApiKey::SyncGroup => (SYNC_GROUP, 4),
        ApiKey::DescribeGroups => (DESCRIBE_GROUPS, 5),
        ApiKey::ListGroups => (&[], 3),
        ApiKey::ApiVersions => (API_VERSIONS, 3),
        ApiKey::CreateTopics => (CREATE_TOPICS, 5),
        ApiKey::DeleteTopics => (DELETE_TOPICS, 4),
        ApiKey::DeleteRecords => (DELETE_RECORDS, 2),
        ApiKey::InitProducerId => (INIT_PRODUCER_ID, 2),
        ApiKey::AddPartitionsToTxn => (ADD_PARTITIONS, 3),
        ApiKey::AddOffsetsToTxn => (ADD_OFFSETS, 3),
        ApiKey::EndTxn => (END_TXN, 3),
        ApiKey::TxnOffsetCommit => (TXN_OFFSET_COMMIT, 3),
        ApiKey::DescribeConfigs => (DESCRIBE_CONFIGS, 4),
        ApiKey::CreatePartitions => (CREATE_PARTITIONS, 2),
        _ => return None,
    })
}

/// Walks a request body. Gives the number of bytes after it, zero for a well-made one.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, &'static str> {
    let (parts, flexible_since) = shape_of(api).ok_or("no shape is known")?;
    let flexible = version >= flexible_since;
    let mut walk = Walk { rest: body, version, flexible, elements: 0 };
    walk.structure(parts)?;
    Ok(walk.rest.len())
}

const CUT_SHORT: &str = "cut short";

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, parts: &[Part]) -> Result<(), &'static str> {
        for part in parts {
            if (part.since..=part.until).contains(&self.version) {
                self.field(part.field)?;
            }
        }
        if self.flexible { self.tagged_fields() } else { Ok(()) }
    }

    fn field(&mut self, field: Field) -> Result<(), &'static str> {
        match field {
            Field::Fixed(bytes) => self.skip(bytes),
            Field::Text => {
                let length =
                    if self.flexible { self.compact_length()? } else { self.short_length()? };
                self.skip(length)
            }
            Field::Blob => {
                let length = self.long_length()?;
                self.skip(length)
            }
            Field::List(element) => self.elements(|walk| walk.field(*element)),
            Field::Array(parts) => self.elements(|walk| walk.structure(parts)),
        }
    }

    fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let claimed = self.long_length()?;
        self.elements = self.elements.saturating_add(claimed);
        if claimed > self.rest.len() || self.elements > ELEMENTS_MAX {
            return Err("more elements than bytes, or than 1000000");
        }
        (0..claimed).try_for_each(|_| element(self))
    }

    fn tagged_fields(&mut self) -> Result<(), &'static str> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Ok(())
    }

    fn short_length(&mut self) -> Result<usize, &'static str> {
        let (length, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        length_or_null(i32::from(i16::from_be_bytes(*length)))
    }

    fn long_length(&mut self) -> Result<usize, &'static str> {
        if self.flexible {
            return self.compact_length();
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        length_or_null(i32::from_be_bytes(*length))
    }

    /// One more than the length; zero is null.
    fn compact_length(&mut self) -> Result<usize, &'static str> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn varint(&mut self) -> Result<usize, &'static str> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(CUT_SHORT)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| "length too large");
            }
        }
        Err("length of more than five bytes")
    }

    fn skip(&mut self, bytes: usize) -> Result<(), &'static str> {
        let (_, rest) = self.rest.split_at_checked(bytes).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(())
    }
}

fn length_or_null(length: i32) -> Result<usize, &'static str> {
    if length == -1 { Ok(0) } else { usize::try_from(length).map_err(|_| "negative length") }
}
