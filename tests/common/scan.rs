//! The scanner held against serde_json, for tests and for fuzzing.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use watchfire::decode::scan::{ScanScratch, Scanner, SimdPath};
use watchfire::event::{FieldPath, Kind, Object, Scalar, VIEW_PAD, Value, View};

/// Names that the scanner is told to stop at.
pub const STOP_NAMES: &[&str] = &["Event", "winlog", "System"];
/// Beginnings of names that the scanner is told to stop at.
pub const STOP_PREFIXES: &[&str] = &["Event.", "winlog."];

/// Scanners on every path that the machine has, and the buffers that they keep.
pub struct Oracle {
    fields: Vec<FieldPath>,
    scanners: Vec<(SimdPath, Scanner, View, ScanScratch)>,
}

impl Oracle {
    /// For these names of fields, which are distinct.
    pub fn new(names: &[&str]) -> Self {
        let fields: Vec<FieldPath> = names.iter().map(|name| FieldPath::new(name)).collect();
        let scanner = |path| Scanner::with_path(&fields, STOP_NAMES, STOP_PREFIXES, path);
        let scanners = SimdPath::available().into_iter();
        let scanners = scanners.map(|p| (p, scanner(p), View::default(), ScanScratch::default()));
        Self { scanners: scanners.collect(), fields }
    }

    /// Whether the record goes the fast way. If it does, what the view says is what serde_json says.
    ///
    /// # Panics
    /// When it does not, or when paths do not agree.
    pub fn check(&mut self, record: &[u8]) -> bool {
        let mut taken = Vec::new();
        for (path, scanner, view, scratch) in &mut self.scanners {
            taken.push(scanner.scan(record, view, scratch));
            if taken == [true] {
                let text = String::from_utf8_lossy(record);
                let body = serde_json::from_slice::<Object>(record);
                let body = body.unwrap_or_else(|e| panic!("taken, but {e}: {text}"));
                ordinary(&body, 0);
            }
            if taken.last() == Some(&true) {
                agrees(record, &self.fields, view, *path);
            }
        }
        let first = taken.first().copied();
        assert!(taken.iter().all(|t| Some(*t) == first), "paths differ: {taken:?} {record:?}");
        first == Some(true)
    }
}

/// Keys that must be read the slow way are not there.
fn ordinary(object: &Object<'_>, depth: usize) {
    for (key, value) in object.iter() {
        assert!(!key.contains([' ', '\\', '"']), "taken with the key {key:?}");
        let stops = STOP_NAMES.contains(&key) || STOP_PREFIXES.iter().any(|p| key.starts_with(p));
        assert!(depth > 0 || !stops, "taken with the key {key:?}");
        below(value, depth + 1);
    }
}

fn below(value: &Value<'_>, depth: usize) {
    match value {
        Value::Object(object) => ordinary(object, depth),
        Value::Array(items) => items.iter().for_each(|item| below(item, depth)),
        _ => {}
    }
}

fn agrees(record: &[u8], fields: &[FieldPath], view: &View, path: SimdPath) {
    let body: Object<'_> = serde_json::from_slice(record).expect("checked before");
    for (number, field) in (0..).zip(fields) {
        let found = field.find(&body);
        assert_eq!(view.is_present(number), found.present, "{path:?}: {field:?} is there");
        assert_eq!(view.touched().contains(&number), found.present, "{path:?}: {field:?} touched");
        let found: Vec<&Value> =
            found.values.into_iter().filter(|v| !matches!(v, Value::Object(_))).collect();
        let values: Vec<Scalar> = view.values(number).map(|at| view.scalars()[at]).collect();
        same(record, &values, &found, path);
    }
    let leaves: Leaves = serde_json::from_slice(record).expect("checked before");
    same(record, view.scalars(), &leaves.0.iter().collect::<Vec<_>>(), path);
    let low = &view.low[VIEW_PAD..VIEW_PAD + record.len()];
    assert_eq!(low, record.to_ascii_lowercase(), "{path:?}: the lowered copy");
    assert!(view.low.len() >= record.len() + 2 * VIEW_PAD, "{path:?}: no room behind");
    let unusual = unusual(record);
    for block in 0..record.len().div_ceil(64) {
        let told = view.is_unusual(block as u32 * 64, block as u32 * 64 + 1);
        assert_eq!(told, unusual[block], "{path:?}: block {block} of {record:?}");
    }
}

fn same(record: &[u8], scalars: &[Scalar], values: &[&Value<'_>], path: SimdPath) {
    let text = String::from_utf8_lossy(record);
    assert_eq!(scalars.len(), values.len(), "{path:?}: how many values: {text}");
    for (scalar, value) in scalars.iter().zip(values) {
        let (start, end) = (scalar.start as usize, scalar.end as usize);
        let raw = std::str::from_utf8(&record[start..end]).expect("UTF-8");
        let is = match (scalar.kind, value) {
            (Kind::Null, Value::Null) => raw == "null",
            (Kind::True, Value::Bool(true)) => raw == "true",
            (Kind::False, Value::Bool(false)) => raw == "false",
            (Kind::Int, value) => is_int(raw) && value.text().as_deref() == Some(raw),
            (Kind::Number, Value::Int(_) | Value::UInt(_) | Value::Float(_)) => {
                !is_int(raw) && serde_json::from_str::<Value>(raw).expect("a number") == **value
            }
            (Kind::Str, Value::Str(value)) => {
                let quoted = &text[start - 1..=end];
                serde_json::from_str::<String>(quoted).expect("a string") == *value
            }
            _ => false,
        };
        assert!(is, "{path:?}: {scalar:?} `{raw}` is not {value:?}: {text}");
    }
}

fn is_int(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    let leads = digits.starts_with('0') && raw != "0";
    !leads && (1..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Which blocks have a byte that is not ASCII or the letter of a rare escape, byte by byte.
fn unusual(record: &[u8]) -> Vec<bool> {
    let mut blocks = vec![false; record.len().div_ceil(64)];
    let mut escaped = false;
    for (at, byte) in record.iter().enumerate() {
        let rare = escaped && !br#"\"nrt"#.contains(byte);
        blocks[at / 64] |= rare || !byte.is_ascii();
        escaped = !escaped && *byte == b'\\';
    }
    blocks
}

/// Every scalar of a record in order, those of duplicate keys too.
struct Leaves(Vec<Value<'static>>);

impl<'de> Deserialize<'de> for Leaves {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(LeavesOnly)
    }
}

struct LeavesOnly;

impl<'de> Visitor<'de> for LeavesOnly {
    type Value = Leaves;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Leaves, E> {
        Ok(Leaves(vec![Value::Null]))
    }

    fn visit_bool<E>(self, b: bool) -> Result<Leaves, E> {
        Ok(Leaves(vec![Value::Bool(b)]))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Leaves, E> {
        Ok(Leaves(vec![Value::Int(n)]))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Leaves, E> {
        Ok(Leaves(vec![i64::try_from(n).map_or(Value::UInt(n), Value::Int)]))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Leaves, E> {
        Ok(Leaves(vec![Value::Float(n)]))
    }

    fn visit_str<E>(self, s: &str) -> Result<Leaves, E> {
        Ok(Leaves(vec![Value::Str(s.to_owned().into())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Leaves, A::Error> {
        let mut leaves = Vec::new();
        while let Some(item) = seq.next_element::<Leaves>()? {
            leaves.extend(item.0);
        }
        Ok(Leaves(leaves))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaves, A::Error> {
        let mut leaves = Vec::new();
        while let Some((_, value)) = map.next_entry::<IgnoredAny, Leaves>()? {
            leaves.extend(value.0);
        }
        Ok(Leaves(leaves))
    }
}
