//! The alerts that the API can show: an index in memory over the alerts topic. Pure: no clock, no I/O.
//!
//! The topic is the store; this is a view of its newest alerts, bounded by bytes. Alerts stay the bytes that
//! were read. Order is (time, id) descending; a cursor names the last alert seen, so pages neither repeat nor
//! skip while alerts arrive.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::limits::{ALERT_BYTES_MAX, ENTRY_OVERHEAD_BYTES, PAGE_BYTES_MAX};
use crate::alert::{AlertHead, HeadError};
use crate::rule::Level;

/// Where an alert stands in the alerts topic: partition and offset.
pub type Position = (i32, i64);

/// Why an alert is not in the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Its bytes are no alert.
    #[error("alert at partition {} offset {}: {source}", position.0, position.1)]
    Unreadable {
        /// Where it stands.
        position: Position,
        /// What is wrong.
        source: HeadError,
    },
    /// It would push out too many others.
    #[error(
        "alert at partition {} offset {} has {bytes} bytes, at most {ALERT_BYTES_MAX} are indexed",
        position.0, position.1
    )]
    TooLarge {
        /// Where it stands.
        position: Position,
        /// Its size.
        bytes: usize,
    },
}

/// What became of an alert that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is new.
    Added,
    /// It replaced an older revision of itself.
    Replaced,
    /// The same or a newer revision is there already.
    Stale,
}

/// Which alerts are wanted; empty means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Not before, in ms since 1970.
    pub from_ms: Option<i64>,
    /// Before, in ms since 1970.
    pub to_ms: Option<i64>,
    /// Of this rule.
    pub rule: Option<String>,
    /// Of this level or above; an alert of unknown level always is.
    pub level_min: Option<Level>,
}

impl AlertFilter {
    fn holds(&self, entry: &Entry) -> bool {
        let rule = self.rule.as_ref().is_none_or(|rule| entry.head.rule_id.as_ref() == Some(rule));
        rule && entry.head.is_at_least(self.level_min)
    }

    /// Names the filter in a cursor: two filters never share a cursor.
    fn hash(&self) -> [u8; 8] {
        let hash = Sha256::digest(format!("{self:?}"));
        std::array::from_fn(|n| hash[n])
    }
}

/// Why a cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It is not one of ours.
    #[error("a cursor that this server gave out")]
    Malformed,
    /// It continues another query.
    #[error("a cursor of the same from, to, rule and level")]
    OtherFilter,
}

/// One page of alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The alerts' own bytes, newest first.
    pub items: Vec<Bytes>,
    /// Where the next page starts; none on the last page.
    pub next: Option<String>,
}

/// How full the index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Alerts that can be shown.
    pub alerts: usize,
    /// Memory charged for them.
    pub bytes: usize,
    /// Oldest alerts that had to go, since the start.
    pub dropped: u64,
}

type SortKey = (i64, Arc<str>);

#[derive(Debug)]
struct Entry {
    head: AlertHead,
    body: Bytes,
}

impl Entry {
    fn bytes(&self) -> usize {
        // The id stands in the head, in the key and in the map.
        let rule = self.head.rule_id.as_ref().map_or(0, String::len);
        self.body.len() + 3 * self.head.id.len() + rule + ENTRY_OVERHEAD_BYTES
    }
}

#[derive(Debug, Default)]
struct State {
    by_time: BTreeMap<SortKey, Entry>,
    time_of: HashMap<Arc<str>, i64>,
    stats: IndexStats,
    dropped_untaken: u64,
}

impl State {
    fn take(&mut self, id: &str) {
        if let Some((id, time_ms)) = self.time_of.remove_entry(id)
            && let Some(entry) = self.by_time.remove(&(time_ms, id))
        {
            self.stats.bytes -= entry.bytes();
        }
    }

    fn put(&mut self, entry: Entry) {
        let id: Arc<str> = entry.head.id.as_str().into();
        self.stats.bytes += entry.bytes();
        self.time_of.insert(Arc::clone(&id), entry.head.time_ms);
        self.by_time.insert((entry.head.time_ms, id), entry);
    }

    fn shrink(&mut self, bytes_max: usize) {
        while self.stats.bytes > bytes_max
            && let Some(((_, id), entry)) = self.by_time.pop_first()
        {
            self.time_of.remove(&id);
            self.stats.bytes -= entry.bytes();
            self.stats.dropped += 1;
            self.dropped_untaken += 1;
        }
    }
}

/// The index; may be shared between one writer and many readers.
#[derive(Debug)]
pub struct AlertIndex {
    state: Mutex<State>,
    bytes_max: usize,
}

impl AlertIndex {
    /// Creates an empty index that holds at most `bytes_max`.
    pub fn new(bytes_max: usize) -> AlertIndex {
        AlertIndex { state: Mutex::default(), bytes_max }
    }

    /// Puts in an alert as it stands in the topic. Feeding the same alerts again changes nothing.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are no alert or too many.
    pub fn insert(&self, position: Position, body: Bytes) -> Result<Inserted, IndexError> {
        if body.len() > ALERT_BYTES_MAX {
            return Err(IndexError::TooLarge { position, bytes: body.len() });
        }
        let head =
            AlertHead::read(&body).map_err(|source| IndexError::Unreadable { position, source })?;
        // A slice may hold on to the whole fetch it was cut from; what is charged is what is kept.
        let entry = Entry { head, body: Bytes::copy_from_slice(&body) };

        let mut state = self.lock();
        let id = entry.head.id.as_str();
        let present =
            state.time_of.get_key_value(id).map(|(id, time_ms)| (*time_ms, Arc::clone(id)));
        let present = present.and_then(|key| state.by_time.get(&key)).map(|old| old.head.revision);
        let inserted = match present {
            Some(revision) if revision >= entry.head.revision => return Ok(Inserted::Stale),
            Some(_) => Inserted::Replaced,
            None => Inserted::Added,
        };
        state.take(id);
        state.put(entry);
        state.shrink(self.bytes_max);
        Ok(inserted)
    }

    /// Returns the newest revision of an alert.
    pub fn get(&self, id: &str) -> Option<Bytes> {
        let state = self.lock();
        let (id, time_ms) = state.time_of.get_key_value(id)?;
        state.by_time.get(&(*time_ms, Arc::clone(id))).map(|entry| entry.body.clone())
    }

    /// Returns at most `limit` alerts that the filter lets through, newest first, behind the cursor.
    ///
    /// A page ends early when it gets large; `next` says whether there is more.
    ///
    /// # Errors
    ///
    /// Fails when the cursor is not ours or belongs to another filter.
    pub fn query(
        &self,
        filter: &AlertFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, CursorError> {
        let mut to: SortKey = (filter.to_ms.unwrap_or(i64::MAX), "".into());
        if let Some(cursor) = cursor {
            to = to.min(decode(cursor, filter.hash())?);
        }
        let from: SortKey = (filter.from_ms.unwrap_or(i64::MIN), "".into());
        let mut page = Page { items: Vec::new(), next: None };
        if from >= to {
            return Ok(page);
        }

        let state = self.lock();
        let mut bytes = 0;
        let mut last: Option<&SortKey> = None;
        let found = state.by_time.range(from..to).rev().filter(|(_, entry)| filter.holds(entry));
        for (key, entry) in found {
            bytes += entry.body.len();
            if let Some(last) = last
                && (page.items.len() >= limit || bytes > PAGE_BYTES_MAX)
            {
                page.next = Some(encode(last, filter.hash()));
                break;
            }
            page.items.push(entry.body.clone());
            last = Some(key);
        }
        Ok(page)
    }

    /// Says how full the index is.
    pub fn stats(&self) -> IndexStats {
        let state = self.lock();
        IndexStats { alerts: state.by_time.len(), ..state.stats }
    }

    /// Returns how many alerts had to go since the last call, so that a counter may add them.
    pub fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped_untaken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cursor: filter hash (8 bytes), time (8 bytes, big endian), id; in base64.
fn encode((time_ms, id): &SortKey, filter: [u8; 8]) -> String {
    let mut bytes = filter.to_vec();
    bytes.extend_from_slice(&time_ms.to_be_bytes());
    bytes.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(cursor: &str, filter: [u8; 8]) -> Result<SortKey, CursorError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CursorError::Malformed)?;
    let (hash, rest) = bytes.split_first_chunk::<8>().ok_or(CursorError::Malformed)?;
    let (time_ms, id) = rest.split_first_chunk::<8>().ok_or(CursorError::Malformed)?;
    let id = std::str::from_utf8(id).map_err(|_| CursorError::Malformed)?;
    if id.is_empty() {
        return Err(CursorError::Malformed);
    }
    if *hash != filter {
        return Err(CursorError::OtherFilter);
    }
    Ok((i64::from_be_bytes(*time_ms), id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alert(id: &str, time_ms: i64, revision: u64, rule: &str, level: &str) -> Bytes {
        Bytes::from(format!(
            r#"{{"time":{time_ms},"metadata":{{"sequence":{revision}}},"finding_info":{{"uid":"{id}",
            "analytic":{{"uid":"{rule}"}},"tags":[{{"name":"level","value":"{level}"}}]}}}}"#
        ))
    }

    fn id_of(alert: &Bytes) -> String {
        AlertHead::read(alert).unwrap().id
    }

    fn walk(index: &AlertIndex, filter: &AlertFilter, limit: usize) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = index.query(filter, cursor.as_deref(), limit).unwrap();
            assert!(page.items.len() <= limit);
            ids.extend(page.items.iter().map(id_of));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    }

    #[test]
    fn a_higher_revision_replaces_and_a_replay_changes_nothing() {
        let index = AlertIndex::new(1 << 20);
        let insert = |time_ms, revision| {
            index.insert((0, 0), alert("a", time_ms, revision, "r", "low")).unwrap()
        };
        assert_eq!(insert(10, 1), Inserted::Added);
        let bytes = index.stats().bytes;
        assert_eq!(insert(10, 1), Inserted::Stale);
        assert_eq!(insert(20, 2), Inserted::Replaced);
        assert_eq!(insert(10, 1), Inserted::Stale);
        assert_eq!(index.get("a").unwrap(), alert("a", 20, 2, "r", "low"));
        assert_eq!(walk(&index, &AlertFilter::default(), 9), ["a"]);
        assert_eq!(index.stats(), IndexStats { alerts: 1, bytes, dropped: 0 });
    }

    #[test]
    fn the_oldest_go_when_memory_is_full_and_are_counted() {
        let index = AlertIndex::new(10_000);
        for n in 0..100 {
            index.insert((0, n), alert(&format!("{n:03}"), n, 1, "r", "low")).unwrap();
        }
        let stats = index.stats();
        assert!(stats.bytes <= 10_000 && stats.alerts > 10, "{stats:?}");
        assert_eq!(stats.alerts as u64 + stats.dropped, 100);
        assert!(index.get("099").is_some() && index.get("000").is_none());
        assert_eq!(index.state.lock().unwrap().time_of.len(), stats.alerts);
        assert_eq!((index.take_dropped(), index.take_dropped()), (stats.dropped, 0));
        assert!(matches!(
            index.insert((0, 1), Bytes::from(vec![b' '; ALERT_BYTES_MAX + 1])),
            Err(IndexError::TooLarge { .. })
        ));
        assert!(matches!(
            index.insert((0, 1), Bytes::from_static(b"{}")),
            Err(IndexError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_filter_takes_from_inclusive_to_exclusive_rule_and_least_level() {
        let index = AlertIndex::new(1 << 20);
        for (id, time_ms, rule, level) in [
            ("a", 10, "r1", "low"),
            ("b", 20, "r1", "high"),
            ("c", 20, "r2", "medium"),
            ("d", 30, "r1", "critical"),
            ("e", 40, "r1", "odd"),
        ] {
            index.insert((0, 0), alert(id, time_ms, 1, rule, level)).unwrap();
        }
        let all = AlertFilter::default;
        let rule = |rule: &str| Some(rule.to_owned());
        for (filter, ids) in [
            (all(), "edcba"),
            (AlertFilter { from_ms: Some(20), to_ms: Some(30), ..all() }, "cb"),
            (AlertFilter { from_ms: Some(30), to_ms: Some(20), ..all() }, ""),
            (AlertFilter { rule: rule("r2"), ..all() }, "c"),
            (AlertFilter { rule: rule("r"), ..all() }, ""),
            (AlertFilter { level_min: Some(Level::High), ..all() }, "edb"),
            (AlertFilter { level_min: Some(Level::High), rule: rule("r2"), ..all() }, ""),
        ] {
            for limit in [1, 2, 100] {
                assert_eq!(walk(&index, &filter, limit).concat(), ids, "{filter:?}");
            }
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_filter() {
        let index = AlertIndex::new(1 << 20);
        for n in 0..3 {
            index.insert((0, n), alert(&n.to_string(), n, 1, "r", "low")).unwrap();
        }
        let filter = AlertFilter::default();
        let cursor = index.query(&filter, None, 1).unwrap().next.unwrap();
        let other = AlertFilter { rule: Some("r".to_owned()), ..AlertFilter::default() };
        assert_eq!(index.query(&other, Some(&cursor), 1), Err(CursorError::OtherFilter));
        for cursor in ["", "x", "!!", "AAAA", &cursor[1..]] {
            assert!(index.query(&filter, Some(cursor), 1).is_err(), "{cursor}");
        }
    }

    #[test]
    fn alerts_that_arrive_between_pages_neither_repeat_nor_hide_others() {
        let index = AlertIndex::new(1 << 20);
        for n in [10, 20, 30, 40] {
            index.insert((0, n), alert(&n.to_string(), n, 1, "r", "low")).unwrap();
        }
        let filter = AlertFilter::default();
        let first = index.query(&filter, None, 2).unwrap();
        index.insert((0, 9), alert("50", 50, 1, "r", "low")).unwrap();
        index.insert((0, 9), alert("30", 60, 2, "r", "low")).unwrap();
        let second = index.query(&filter, first.next.as_deref(), 2).unwrap();
        assert_eq!(second.items.iter().map(id_of).collect::<String>(), "2010");
        assert_eq!(second.next, None);
    }

    proptest! {
        #[test]
        fn pages_of_any_size_give_the_sorted_whole(
            times in prop::collection::vec(0i64..20, 0..60), limit in 1usize..20,
        ) {
            let index = AlertIndex::new(1 << 20);
            let mut expected = Vec::new();
            for (n, time_ms) in times.into_iter().enumerate() {
                let id = format!("{n:02}");
                index.insert((0, n as i64), alert(&id, time_ms, 1, "r", "low")).unwrap();
                expected.push((time_ms, id));
            }
            expected.sort_by(|a, b| b.cmp(a));
            let expected: Vec<String> = expected.into_iter().map(|(_, id)| id).collect();
            prop_assert_eq!(walk(&index, &AlertFilter::default(), limit), expected);
        }
    }
}
