//! Tables that tell what an event is from what it says: declared in YAML, compiled into one tree.
//!
//! An entry holds when each of its fields has one of the values it names. The tree asks one field
//! after the other, in the order in which entries write them, and goes on by the value it finds; so an
//! event costs a few lookups, however many entries there are. Where to begin is found from the names
//! of the event's own fields.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use super::table_yaml::{Written, WrittenEntry};
use crate::event::{Event, EventSource, FieldPath, Value};
use crate::limits::LOGSOURCE_PATHS_MAX;

/// One table, checked.
#[derive(Clone, Debug)]
pub struct Table {
    name: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    when: Vec<(FieldPath, Vec<Wanted>)>,
    gives: Gift,
}

/// What an entry says of an event.
#[derive(Clone, Debug)]
struct Gift {
    source: EventSource,
    rename: Vec<(FieldPath, FieldPath)>,
}

/// What a value must be like; lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `*`: the field is there.
    Present,
    /// `text`.
    Exact(Box<str>),
    /// `text*`.
    Starts(Box<str>),
    /// `*text`.
    Ends(Box<str>),
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Not YAML, or an unknown key.
    #[error("{file}: {reason}")]
    Shape {
        /// The file.
        file: String,
        /// What the reader said, with line and column.
        reason: String,
    },
    /// An entry that cannot be meant so.
    #[error("{file}, entry {index}: {reason}")]
    Entry {
        /// The file.
        file: String,
        /// Which entry, from 1.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// More than can be looked up.
    #[error(
        "the tables spell out {paths} combinations of values, the limit is {LOGSOURCE_PATHS_MAX}"
    )]
    TooMany {
        /// How many.
        paths: usize,
    },
}

impl Table {
    /// Reads a table; `file` names it in errors.
    ///
    /// # Errors
    /// [`TableError`] with the file, the entry and what is wrong.
    pub fn parse(file: &str, yaml: &str) -> Result<Self, TableError> {
        let written = Written::deserialize(yaml_serde::Deserializer::from_str(yaml))
            .map_err(|e| TableError::Shape { file: file.to_owned(), reason: e.to_string() })?;
        let common = written.logsource.source();
        let mut entries = Vec::with_capacity(written.entries.len());
        for (i, entry) in written.entries.into_iter().enumerate() {
            let wrong = |reason| TableError::Entry { file: file.to_owned(), index: i + 1, reason };
            entries.push(Entry::compile(entry, &common).map_err(wrong)?);
        }
        Ok(Self { name: written.name, entries })
    }

    /// The name it gives itself.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Entry {
    fn compile(written: WrittenEntry, common: &EventSource) -> Result<Self, String> {
        let mut source = common.clone();
        source.extend(&written.logsource.source());
        if written.when.0.is_empty() {
            return Err("`when` is empty: name a field and its values".to_owned());
        }
        if source.is_unknown() && written.rename.0.is_empty() {
            return Err("it says nothing: give `logsource` or `rename`".to_owned());
        }
        let mut when = Vec::with_capacity(written.when.0.len());
        for (field, values) in written.when.0 {
            if values.0.is_empty() {
                return Err(format!("`{field}` has no value: write `\"*\"` for any"));
            }
            let wanted: Result<Vec<Wanted>, String> =
                values.0.iter().map(|v| Wanted::parse(v)).collect();
            when.push((FieldPath::new(&field.replace(' ', "")), wanted?));
        }
        let path = |name: &str| FieldPath::new(&name.replace(' ', ""));
        let pairs =
            written.rename.0.iter().flat_map(|(from, to)| to.0.iter().map(move |t| (from, t)));
        let rename = pairs.map(|(from, to)| (path(from), path(to))).collect();
        Ok(Self { when, gives: Gift { source, rename } })
    }

    /// How many ways through the tree it takes.
    fn paths(&self) -> usize {
        self.when.iter().map(|(_, values)| values.len()).fold(1, usize::saturating_mul)
    }
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_lowercase();
        let (starts, ends) = (lower.strip_suffix('*'), lower.strip_prefix('*'));
        let wanted = match (starts, ends) {
            (Some(_), Some("")) => return Ok(Self::Present),
            (Some(start), None) => Self::Starts(start.into()),
            (None, Some(end)) => Self::Ends(end.into()),
            _ => Self::Exact(lower.as_str().into()),
        };
        let (Self::Exact(rest) | Self::Starts(rest) | Self::Ends(rest)) = &wanted else {
            return Ok(wanted);
        };
        match rest.contains('*') {
            true => Err(format!("`{text}`: `*` may stand at the start or at the end, once")),
            false => Ok(wanted),
        }
    }

    /// Whether a text in lower case is such.
    pub(super) fn holds(&self, text: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(wanted) => wanted.as_bytes() == text,
            Self::Starts(start) => text.starts_with(start.as_bytes()),
            Self::Ends(end) => text.ends_with(end.as_bytes()),
        }
    }
}

/// The tables of a source, compiled into one tree.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    gifts: Vec<Gift>,
    root: Node,
    begin: Beginnings,
    /// Every name that an entry gives.
    names: EventSource,
}

/// A place in the tree: what holds here, and which fields may tell more.
#[derive(Clone, Debug, Default)]
struct Node {
    gives: Vec<usize>,
    fields: Vec<FieldNode>,
}

/// What a field may say at a place of the tree.
#[derive(Clone, Debug)]
pub(super) struct FieldNode {
    field: FieldPath,
    exact: HashMap<Box<str>, Node>,
    /// Those of any other form, one after the other; there are few.
    others: Vec<(Wanted, Node)>,
}

impl Tables {
    /// Compiles tables; what several say of one event adds up.
    ///
    /// # Errors
    /// [`TableError::TooMany`].
    pub fn new(tables: Vec<Table>) -> Result<Self, TableError> {
        let paths = tables.iter().flat_map(|t| &t.entries).map(Entry::paths);
        let paths = paths.fold(0, usize::saturating_add);
        if paths > LOGSOURCE_PATHS_MAX {
            return Err(TableError::TooMany { paths });
        }
        let mut compiled = Self::default();
        for entry in tables.into_iter().flat_map(|t| t.entries) {
            compiled.root.insert(&entry.when, compiled.gifts.len());
            compiled.names.extend(&entry.gives.source);
            compiled.gifts.push(entry.gives);
        }
        compiled.begin = Beginnings::of(&compiled.root);
        Ok(compiled)
    }

    /// Every name that an entry gives to some event; `None` without tables.
    pub fn names(&self) -> Option<&EventSource> {
        (!self.gifts.is_empty()).then_some(&self.names)
    }

    /// What the entries say that events are.
    pub fn sources(&self) -> impl Iterator<Item = &EventSource> {
        self.gifts.iter().map(|gift| &gift.source)
    }

    /// Adds what these entries say of the event. Renamed fields are derived; none takes the place of a
    /// field that is there.
    pub(super) fn apply(&self, event: &mut Event<'_>, entries: &[usize]) {
        for gift in entries.iter().map(|index| &self.gifts[*index]) {
            event.source.extend(&gift.source);
            for (from, to) in &gift.rename {
                rename(event, from, to);
            }
        }
    }

    /// The entries that hold for an event, in order.
    pub(super) fn holding(&self, event: &Event<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        for field in self.begin.fields(event) {
            self.root.fields[field].follow(event, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What these entries rename, from and to, in order.
    pub(super) fn renames<'t>(
        &'t self,
        entries: &'t [usize],
    ) -> impl Iterator<Item = &'t (FieldPath, FieldPath)> {
        entries.iter().flat_map(|index| &self.gifts[*index].rename)
    }

    /// Every rename of every entry.
    pub(super) fn all_renames(&self) -> impl Iterator<Item = &(FieldPath, FieldPath)> {
        self.gifts.iter().flat_map(|gift| &gift.rename)
    }

    /// Calls `ask` with each field that some entry asks for, and what values it tells apart: whole texts,
    /// and tests. A field may come more than once.
    pub(super) fn asked<'t>(&'t self, ask: &mut dyn FnMut(&'t FieldPath, &'t FieldNode)) {
        self.root.asked(ask);
    }
}

fn rename(event: &mut Event<'_>, from: &FieldPath, to: &FieldPath) {
    if event.find(to).present {
        return;
    }
    let mut values = event.find(from).values.into_iter().cloned();
    let Some(first) = values.next() else { return };
    let rest: Vec<Value<'_>> = values.collect();
    let value = match rest.is_empty() {
        true => first,
        false => Value::Array(std::iter::once(first).chain(rest).collect()),
    };
    event.derive(to.as_str().to_owned(), value);
}

impl Node {
    fn insert(&mut self, when: &[(FieldPath, Vec<Wanted>)], entry: usize) {
        let Some(((field, values), rest)) = when.split_first() else {
            self.gives.push(entry);
            return;
        };
        let at = self.fields.iter().position(|f| f.field == *field).unwrap_or_else(|| {
            let (exact, others) = (HashMap::new(), Vec::new());
            self.fields.push(FieldNode { field: field.clone(), exact, others });
            self.fields.len() - 1
        });
        for wanted in values {
            self.fields[at].node(wanted).insert(rest, entry);
        }
    }

    fn asked<'t>(&'t self, ask: &mut dyn FnMut(&'t FieldPath, &'t FieldNode)) {
        for node in &self.fields {
            ask(&node.field, node);
            node.exact.values().for_each(|next| next.asked(ask));
            node.others.iter().for_each(|(_, next)| next.asked(ask));
        }
    }

    fn follow(&self, event: &Event<'_>, found: &mut Vec<usize>) {
        found.extend(&self.gives);
        self.fields.iter().for_each(|field| field.follow(event, found));
    }
}

impl FieldNode {
    /// The whole texts that it tells apart.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(|text| &**text)
    }

    /// The other tests that it makes.
    pub(super) fn tests(&self) -> impl Iterator<Item = &Wanted> {
        self.others.iter().map(|(wanted, _)| wanted)
    }

    fn node(&mut self, wanted: &Wanted) -> &mut Node {
        if let Wanted::Exact(text) = wanted {
            return self.exact.entry(text.clone()).or_default();
        }
        let at = self.others.iter().position(|(w, _)| w == wanted).unwrap_or_else(|| {
            self.others.push((wanted.clone(), Node::default()));
            self.others.len() - 1
        });
        &mut self.others[at].1
    }

    fn follow(&self, event: &Event<'_>, found: &mut Vec<usize>) {
        let here = event.find(&self.field);
        let texts: Vec<Cow<'_, str>> =
            here.values.iter().filter_map(|v| v.text()).map(lower).collect();
        for node in texts.iter().filter_map(|text| self.exact.get(&**text)) {
            node.follow(event, found);
        }
        for (wanted, node) in &self.others {
            let holds = match wanted {
                Wanted::Present => here.present,
                wanted => texts.iter().any(|text| wanted.holds(text.as_bytes())),
            };
            if holds {
                node.follow(event, found);
            }
        }
    }
}

/// In lower case; as it is when it already was.
fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    let ready = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
    if text.bytes().all(ready) { text } else { Cow::Owned(text.to_lowercase()) }
}

/// Which fields of the root an event can have at all, by the names at its top.
#[derive(Clone, Debug, Default)]
struct Beginnings {
    /// Bit [`spot`] of each name below: most names of an event are told apart by it.
    spots: [u64; 4],
    by_name: HashMap<Box<str>, Vec<usize>>,
}

impl Beginnings {
    fn of(root: &Node) -> Self {
        let mut begin = Self::default();
        for (index, node) in root.fields.iter().enumerate() {
            let path = node.field.as_str();
            let dots = path.match_indices('.').map(|(dot, _)| dot);
            // `a.b.c` may lie under `a.b.c`, `a.b` or `a`.
            for name in dots.chain([path.len()]).map(|end| &path[..end]) {
                let spot = spot(name);
                begin.spots[spot / 64] |= 1 << (spot % 64);
                begin.by_name.entry(name.into()).or_default().push(index);
            }
        }
        begin
    }

    fn fields(&self, event: &Event<'_>) -> Vec<usize> {
        let mut fields = Vec::new();
        for (name, _) in event.derived.iter().chain(event.body.iter()) {
            let spot = spot(name);
            if self.spots[spot / 64] >> (spot % 64) & 1 == 1 {
                fields.extend(self.by_name.get(name).into_iter().flatten());
            }
        }
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

/// A number below 256 from a name's length and ends.
fn spot(name: &str) -> usize {
    let bytes = name.as_bytes();
    let end = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
    (bytes.len() * 31 + end(bytes.first()) * 7 + end(bytes.last()) * 13) % 256
}

/// The tables that come with Watchfire.
///
/// # Errors
/// Never in a released build: a test compiles them.
pub fn shipped_tables() -> Result<Vec<Table>, TableError> {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            [$(($name, include_str!(concat!("../../logsources/", $name)))),*]
        };
    }
    let texts = files![
        "windows.yml",
        "linux.yml",
        "ecs.yml",
        "zeek.yml",
        "aws.yml",
        "azure.yml",
        "gcp.yml",
        "okta.yml",
        "onelogin.yml",
        "kubernetes.yml",
        "m365.yml",
        "code_hosts.yml",
        "network.yml",
        "web.yml",
    ];
    texts
        .into_iter()
        .map(|(file, yaml)| Table::parse(&format!("logsources/{file}"), yaml))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Format};
    use super::*;
    use crate::time::Timestamp;

    fn decoder(yaml: &str) -> Decoder {
        let table = Table::parse("t.yml", yaml).expect("a table");
        Decoder::new(Format::Json, Vec::new()).with_tables(Tables::new(vec![table]).expect("few"))
    }

    fn source(decoder: &Decoder, json: &str) -> String {
        let event = decoder.decode(Some(json.as_bytes()), Timestamp(0)).expect("decodes");
        event.source.to_string()
    }

    const TABLE: &str = "name: t
logsource: {product: p}
entries:
  - when: {a.b: [1, 'x*'], c: '*'}
    logsource: {service: one}
    rename: {c: [d, e]}
  - when: {a.b: '*y', f: true}
    logsource: {service: two, category: [k, l]}
";

    #[test]
    fn entries_hold_by_exact_values_starts_ends_and_presence() {
        let decoder = decoder(TABLE);
        for (json, expect) in [
            (r#"{"a.b": "1", "c": null}"#, "p/-/one"),
            (r#"{"a": {"b": 1}, "c": {}}"#, "p/-/one"),
            (r#"{"a": {"b": 1}}"#, "-/-/-"),
            (r#"{"a": {"b": "XZ"}, "c": 0}"#, "p/-/one"),
            (r#"{"a": [{"b": 2}, {"b": "x..Y"}], "c": 0, "f": true}"#, "p/k+l/one+two"),
            (r#"{"a": {"b": "y"}, "f": "false"}"#, "-/-/-"),
            (r#"{"b": "y", "f": true}"#, "-/-/-"),
        ] {
            assert_eq!(source(&decoder, json), expect, "{json}");
        }
    }

    #[test]
    fn a_renamed_field_takes_the_place_of_none_that_is_there() {
        let decoder = decoder(TABLE);
        let json = br#"{"a.b": 1, "c": ["v", "w"], "e": "own"}"#;
        let event = decoder.decode(Some(json), Timestamp(0)).expect("decodes");
        let texts = |name: &str| {
            let found = event.find(&FieldPath::new(name));
            found.values.iter().filter_map(|v| v.text()).collect::<Vec<_>>().join("|")
        };
        assert_eq!([texts("c"), texts("d"), texts("e")], ["v|w", "v|w", "own"]);
    }

    #[test]
    fn mistakes_in_a_table_are_named_with_their_place() {
        for (entry, expect) in [
            ("{when: {}, logsource: {service: s}}", "t.yml, entry 1: `when` is empty"),
            ("{when: {a: []}, logsource: {service: s}}", "`a` has no value"),
            ("{when: {a: x*y}, logsource: {service: s}}", "`x*y`: `*` may stand"),
            ("{when: {a: '*x*'}, logsource: {service: s}}", "`*x*`: `*` may stand"),
            ("{when: {a: x}}", "it says nothing"),
            ("{when: {a: 1.5}, logsource: {service: s}}", "a whole number"),
            ("{when: {a: x}, logsource: {servce: s}}", "unknown field `servce`"),
            ("{when: {a: x}, renam: {a: b}}", "unknown field `renam`"),
        ] {
            let yaml = format!("name: t\nentries:\n  - {entry}\n");
            let error = Table::parse("t.yml", &yaml).expect_err(entry).to_string();
            assert!(error.contains(expect), "{entry}: {error}");
        }
    }

    #[test]
    fn tables_that_spell_out_too_much_are_refused() {
        let many = vec!["x"; 300].join(", ");
        let entry = format!("{{when: {{a: [{many}], b: [{many}]}}, logsource: {{service: s}}}}");
        let table = Table::parse("t.yml", &format!("name: t\nentries:\n  - {entry}\n"));
        let error = Tables::new(vec![table.expect("reads")]).expect_err("too many").to_string();
        assert!(error.contains("90000 combinations") && error.contains("50000"), "{error}");
    }

    #[test]
    fn the_shipped_tables_compile_and_are_those_of_the_folder() {
        let tables = shipped_tables().expect("shipped tables");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/logsources");
        let files = std::fs::read_dir(folder).expect("the folder").count();
        assert_eq!(tables.len(), files);
        for table in &tables {
            assert!(std::path::Path::new(folder).join(format!("{}.yml", table.name())).is_file());
        }
        assert!(Tables::new(tables).is_ok());
    }
}
