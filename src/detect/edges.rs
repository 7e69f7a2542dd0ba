//! Whether a text begins, or ends, with one of many: a search among sorted edges. Texts are canonical.

use super::texts::is_whole;

/// Bytes of an edge by which it is sorted.
const KEY: usize = 8;

/// Which edge of a text is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Start,
    End,
}

/// Texts of which one has to be at an edge.
#[derive(Clone, Debug)]
pub struct Edges {
    side: Side,
    /// The edge of each text as a number, in ascending order.
    keys: Box<[u64]>,
    texts: Box<[Box<[u8]>]>,
    /// Ends of which a part looks like another: these are compared one by one.
    apart: Box<[Box<[u8]>]>,
}

impl Edges {
    /// For texts that are not empty.
    pub fn new(side: Side, texts: &[Box<[u8]>]) -> Self {
        // From the edge inwards, so that who has a shorter one at its edge stands right behind it. It says
        // nothing more. Of the others only one can be at the edge of a text: the last that is not behind it.
        let mut sorted: Vec<Vec<u8>> = texts.iter().map(|text| inwards(side, text)).collect();
        sorted.sort_unstable();
        let mut apart = Vec::new();
        sorted.dedup_by(|text, shorter| {
            let is_behind = text.starts_with(shorter);
            if is_behind && !has(side, &inwards(side, text), &inwards(side, shorter)) {
                apart.push(inwards(side, text).into());
            }
            is_behind
        });
        let texts = sorted.iter().map(|text| inwards(side, text));
        let keyed: Vec<(u64, Vec<u8>)> = texts.map(|text| (key(side, &text), text)).collect();
        let keys = keyed.iter().map(|(key, _)| *key).collect();
        let texts = keyed.into_iter().map(|(_, text)| text.into()).collect();
        Self { side, keys, texts, apart: apart.into() }
    }

    /// Whether one of them is at the edge of a text.
    pub fn are_at(&self, text: &[u8]) -> bool {
        self.is_sorted_at(text) || self.apart.iter().any(|edge| has(self.side, text, edge))
    }

    fn is_sorted_at(&self, text: &[u8]) -> bool {
        let key = key(self.side, text);
        let behind = self.keys.partition_point(|other| *other <= key);
        let Some(last) = self.keys[..behind].last() else { return false };
        // Several may be alike in their first bytes.
        let alike = self.keys[..behind].iter().rev().take_while(|key| *key == last).count();
        self.texts[behind - alike..behind].iter().any(|edge| has(self.side, text, edge))
    }
}

/// A text read from the edge on; done twice, it is as it was.
fn inwards(side: Side, text: &[u8]) -> Vec<u8> {
    match side {
        Side::Start => text.to_vec(),
        Side::End => text.iter().rev().copied().collect(),
    }
}

/// Whether a text has another at its edge.
fn has(side: Side, text: &[u8], edge: &[u8]) -> bool {
    match side {
        Side::Start => text.starts_with(edge),
        Side::End => text.ends_with(edge) && is_whole(text, text.len() - edge.len()),
    }
}

/// The bytes at the edge as a number, the outermost first; zeros where there are none.
fn key(side: Side, text: &[u8]) -> u64 {
    match (side, text.first_chunk(), text.last_chunk()) {
        (Side::Start, Some(first), _) => u64::from_be_bytes(*first),
        (Side::End, _, Some(last)) => u64::from_le_bytes(*last),
        _ => {
            let mut word = [0; KEY];
            match side {
                Side::Start => word[..text.len()].copy_from_slice(text),
                Side::End => {
                    word.iter_mut().zip(text.iter().rev()).for_each(|(to, byte)| *to = *byte);
                }
            }
            u64::from_be_bytes(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::texts::escaped;
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_edge_is_found_where_it_is(
            edges in proptest::collection::vec("[an\0]{1,3}|[an\n]{7,10}|[an\n\\\\]{1,2}", 1..30),
            text in "[an\0\n\\\\]{0,12}",
        ) {
            let texts: Vec<Box<[u8]>> = edges.iter().map(|edge| escaped(edge).into()).collect();
            for (side, expect) in [
                (Side::Start, edges.iter().any(|edge| text.starts_with(edge.as_str()))),
                (Side::End, edges.iter().any(|edge| text.ends_with(edge.as_str()))),
            ] {
                proptest::prop_assert_eq!(Edges::new(side, &texts).are_at(&escaped(&text)), expect);
            }
        }
    }
}
