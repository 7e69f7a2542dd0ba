//! Where to begin reading a partition, and what has been lost before that. Pure decisions; the calls
//! to the broker are the worker's.
//!
//! Kafka's own answer to a position that is gone is to jump, in silence, to the oldest or newest
//! record. Here every position is looked up before reading and compared with what is still there.

use crate::bus::Bounds;
use crate::config::Start;

/// Where to begin, and what is missing before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// First offset to read.
    pub offset: i64,
    /// `[from, to)` that is lost, if any.
    pub lost: Option<(i64, i64)>,
    /// Whether the position lay beyond the end: the topic was made anew or cut at its end.
    pub rewound: bool,
}

/// Decides where to begin from the committed position (`None`: there is none).
pub fn beginning(committed: Option<i64>, bounds: Bounds, start: Start) -> Beginning {
    let at = |offset| Beginning { offset, lost: None, rewound: false };
    match (committed, start) {
        (None, Start::Earliest) => at(bounds.offset_low),
        (None, Start::Latest) => at(bounds.offset_high),
        (Some(c), _) if c < bounds.offset_low => Beginning {
            offset: bounds.offset_low,
            lost: Some((c, bounds.offset_low)),
            rewound: false,
        },
        (Some(c), _) if c > bounds.offset_high => {
            Beginning { offset: bounds.offset_low, lost: None, rewound: true }
        }
        (Some(c), _) => at(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_begin_is_decided_and_loss_is_exact() {
        let bounds = Bounds { offset_low: 100, offset_high: 200 };
        for (committed, start, offset, lost, rewound) in [
            (None, Start::Earliest, 100, None, false),
            (None, Start::Latest, 200, None, false),
            (Some(100), Start::Latest, 100, None, false),
            (Some(150), Start::Earliest, 150, None, false),
            (Some(200), Start::Earliest, 200, None, false),
            (Some(99), Start::Latest, 100, Some((99, 100)), false),
            (Some(0), Start::Earliest, 100, Some((0, 100)), false),
            (Some(201), Start::Latest, 100, None, true),
        ] {
            let expect = Beginning { offset, lost, rewound };
            assert_eq!(beginning(committed, bounds, start), expect, "{committed:?} {start:?}");
        }
    }
}
