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

    /// Forgets the records before.
    pub fn forget(&mut self) {
        for (.., view, scratch) in &mut self.scanners {
            (*view, *scratch) = Default::default();
        }
    }

    /// Whether the record goes the fast way. If it does, what the view says is what serde_json says.
    ///
    /// # Panics
    /// When it does not, or when paths differ.
    pub fn check(&mut self, record: &[u8]) -> bool {
        let mut taken = Vec::new();
        for (_, scanner, view, scratch) in &mut self.scanners {
            taken.push(scanner.scan(record, view, scratch));
        }
        let first = taken.first() == Some(&true);
        assert!(taken.iter().all(|t| *t == first), "paths differ: {taken:?} {record:?}");
        if first {
            let told = Told::new(record, &self.fields);
            for (path, _, view, _) in &self.scanners {
                told.agrees(view, *path);
            }
        }
        first
    }
}

/// What serde_json and the slow way say of a record.
struct Told<'r> {
    record: &'r [u8],
    text: &'r str,
    /// The values of each field that is there.
    fields: Vec<Option<Vec<Value<'r>>>>,
    leaves: Vec<Value<'static>>,
    low: Vec<u8>,
    unusual: Vec<bool>,
}

impl<'r> Told<'r> {
    fn new(record: &'r [u8], fields: &[FieldPath]) -> Self {
        let body = serde_json::from_slice::<Object>(record);
        let body = body.unwrap_or_else(|e| panic!("taken, but {e}: {record:?}"));
        ordinary(&body, 0);
        let values = |found: Vec<&Value<'r>>| {
            let scalars = found.into_iter().filter(|v| !matches!(v, Value::Object(_)));
            scalars.cloned().collect()
        };
        let found = |field: &FieldPath| Some(field.find(&body)).filter(|found| found.present);
        Self {
            record,
            text: std::str::from_utf8(record).expect("JSON is UTF-8"),
            fields: fields.iter().map(|field| Some(values(found(field)?.values))).collect(),
            leaves: serde_json::from_slice::<Leaves>(record).expect("read before").0,
            low: record.to_ascii_lowercase(),
            unusual: unusual(record),
        }
    }

    fn agrees(&self, view: &View, path: SimdPath) {
        let text = self.text;
        for (number, told) in (0..).zip(&self.fields) {
            let present = told.is_some();
            assert_eq!(view.is_present(number), present, "{path:?}: field {number} of {text}");
            let values: Vec<Scalar> = view.values(number).map(|at| view.scalars()[at]).collect();
            self.same(&values, told.as_deref().unwrap_or_default(), path);
        }
        let mut touched = view.touched().to_vec();
        touched.sort_unstable();
        let there = (0..).zip(&self.fields).filter(|(_, told)| told.is_some());
        assert_eq!(touched, there.map(|(number, _)| number).collect::<Vec<u32>>(), "{text}");
        self.same(view.scalars(), &self.leaves, path);
        let low = &view.low[VIEW_PAD..][..self.low.len()];
        assert_eq!(low, self.low, "{path:?}: the lowered copy of {text}");
        let (front, behind) =
            (&view.low[..VIEW_PAD], &view.low[VIEW_PAD + low.len()..][..VIEW_PAD]);
        assert_eq!([front, behind], [&[0; VIEW_PAD]; 2], "{path:?}: the pads of {text}");
        for (block, unusual) in (0..).zip(&self.unusual) {
            let told = view.is_unusual(block * 64, block * 64 + 1);
            assert_eq!(told, *unusual, "{path:?}: block {block} of {text}");
        }
    }

    fn same(&self, scalars: &[Scalar], values: &[Value<'_>], path: SimdPath) {
        let Self { record, text, .. } = self;
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
                    !is_int(raw) && serde_json::from_str::<Value>(raw).ok().as_ref() == Some(value)
                }
                (Kind::Str, Value::Str(value)) if !raw.contains('\\') => raw == value,
                (Kind::Str, Value::Str(value)) => {
                    let quoted = &text[start - 1..=end];
                    serde_json::from_str::<String>(quoted).expect("a string") == *value
                }
                _ => false,
            };
            assert!(is, "{path:?}: {scalar:?} `{raw}` is not {value:?}: {text}");
        }
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
