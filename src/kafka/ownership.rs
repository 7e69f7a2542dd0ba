//! Partitions that a group has given to nobody, and how they find a reader.
//!
//! ```text
//!   generation 7   a: 0 1 2 3
//!   b joins
//!   generation 8   a: 0 1        b: –          a is to give 2 and 3 back, then to ask for the next one
//!   a dies and is back under its static name: generation 8 still holds, a gets 0 and 1, nobody asks
//! ```
//!
//! Kafka lets a static member that is back take its place without a new generation, and so without the one
//! in which 2 and 3 would have found b. Nobody reads them until something else changes the group. A client
//! cannot ask for a new generation; but one that joins and leaves again causes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ConsumerProtocolAssignment;
use kafka_protocol::protocol::Decodable;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Clients, KafkaBus, WorkerContext};
use crate::bus::{Bus, BusError, Place, ReadError};
use crate::limits::{BROKER_CALL_MS_MAX, GUEST_MS_MAX, HEARING_MS};

/// What a group is called that has come to rest.
const AT_REST: &str = "Stable";

/// Which partitions of topics with so many of them nobody has in a group. None while the group is not at
/// rest.
///
/// # Errors
/// When the group's coordinator does not answer, or with something else than assignments.
pub fn unowned(
    client: &BaseConsumer<WorkerContext>,
    group: &str,
    topics: &BTreeMap<Arc<str>, i32>,
) -> Result<BTreeSet<Place>, BusError> {
    let call = Duration::from_millis(BROKER_CALL_MS_MAX);
    let found = client.client().fetch_group_list(Some(group), call)?;
    let mut all = BTreeSet::new();
    let mut groups = found.groups().iter();
    let at_rest = groups.find(|g| g.name() == group && g.state() == AT_REST);
    let Some(group) = at_rest else { return Ok(all) };
    for (topic, partitions) in topics {
        all.extend((0..*partitions).map(|p| (Arc::clone(topic), p)));
    }
    for member in group.members() {
        let assigned = assigned(member.assignment().unwrap_or_default())?;
        all.retain(|(topic, partition)| !assigned.contains(&(topic.to_string(), *partition)));
    }
    Ok(all)
}

/// The partitions in a member's assignment: a version, then the message.
fn assigned(bytes: &[u8]) -> Result<BTreeSet<(String, i32)>, BusError> {
    let Some((version, rest)) = bytes.split_first_chunk() else { return Ok(BTreeSet::new()) };
    let mut rest = Bytes::copy_from_slice(rest);
    let read = ConsumerProtocolAssignment::decode(&mut rest, i16::from_be_bytes(*version));
    let read = read.map_err(|e| BusError::Call(format!("a member's assignment: {e}")))?;
    let mut all = BTreeSet::new();
    for topic in read.assigned_partitions {
        all.extend(topic.partitions.iter().map(|p| (topic.topic.to_string(), *p)));
    }
    Ok(all)
}

/// Joins the group of a stage and leaves it again, so that all of its partitions are shared out anew. What
/// the guest is given meanwhile it does not read.
///
/// # Errors
/// When the client refuses.
pub fn share_out_anew(clients: &Clients, stage: &str, topics: &[String]) -> Result<(), BusError> {
    let guest = KafkaBus::guest(clients, stage, topics)?;
    let given = (0..GUEST_MS_MAX / HEARING_MS).find_map(|_| {
        std::thread::sleep(Duration::from_millis(HEARING_MS));
        if let Err(ReadError { error, .. }) = guest.serve() {
            tracing::warn!(%error, stage, "guest of the group");
        }
        guest.next_rebalance()
    });
    guest.close(given);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read() {
        // Version 1; one topic, `ev`, partitions 0 and 7; no user data.
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 2, b'e', b'v', 0, 0, 0, 2];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
        let places = [("ev".to_owned(), 0), ("ev".to_owned(), 7)];
        assert_eq!(assigned(&bytes).unwrap(), BTreeSet::from(places));
        assert_eq!(assigned(&[]).unwrap(), BTreeSet::new(), "a member that was given nothing");
        assert!(assigned(&bytes[..9]).is_err());
    }
}
