//! Who gets which partitions, as `cooperative-sticky` decides it: evenly, everybody keeps what it has as
//! far as that allows, and what has to move is first given back and only then given away.

use std::collections::{BTreeMap, BTreeSet};

/// A partition of the one topic that a group reads here.
pub type Partition = i32;

/// A member as it presents itself.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub generation: i32,
    pub owned: BTreeSet<Partition>,
}

impl Member {
    /// What stands in a join.
    pub fn metadata(generation: i32, owned: &BTreeSet<Partition>) -> Vec<u8> {
        let mut bytes = generation.to_be_bytes().to_vec();
        bytes.extend(encode(owned));
        bytes
    }

    pub fn read(id: String, metadata: &[u8]) -> Self {
        let generation = i32::from_be_bytes(metadata[..4].try_into().unwrap());
        Self { id, generation, owned: decode(&metadata[4..]) }
    }
}

pub fn encode(partitions: &BTreeSet<Partition>) -> Vec<u8> {
    partitions.iter().flat_map(|p| p.to_be_bytes()).collect()
}

pub fn decode(bytes: &[u8]) -> BTreeSet<Partition> {
    bytes.chunks_exact(4).map(|c| i32::from_be_bytes(c.try_into().unwrap())).collect()
}

/// What each member holds from now on.
pub fn assign(members: &[Member], partitions: i32) -> BTreeMap<String, BTreeSet<Partition>> {
    // 1. Who holds what: what two claim belongs to who claims it in the later generation.
    let mut holder: BTreeMap<Partition, usize> = BTreeMap::new();
    for partition in 0..partitions {
        let claims = (0..members.len()).filter(|m| members[*m].owned.contains(&partition));
        let latest = claims.clone().map(|m| members[m].generation).max();
        let mut latest = claims.filter(|m| Some(members[*m].generation) == latest);
        if let (Some(one), None) = (latest.next(), latest.next()) {
            holder.insert(partition, one);
        }
    }
    // 2. Who is to hold what.
    let least = partitions as usize / members.len();
    let mut more = partitions as usize % members.len();
    let mut target: Vec<BTreeSet<Partition>> = vec![BTreeSet::new(); members.len()];
    for (&partition, &member) in &holder {
        let has = target[member].len();
        if has < least || has == least && more > 0 {
            more -= usize::from(has == least);
            target[member].insert(partition);
        }
    }
    for partition in 0..partitions {
        if !target.iter().any(|t| t.contains(&partition)) {
            let fewest = (0..members.len()).min_by_key(|m| target[*m].len()).unwrap();
            target[fewest].insert(partition);
        }
    }
    // 3. Nobody gets what another still holds.
    let free = |partition: &Partition, member: usize| {
        holder.get(partition).is_none_or(|holder| *holder == member)
    };
    let given = |(m, target): (usize, BTreeSet<Partition>)| {
        let now = target.into_iter().filter(|p| free(p, m)).collect();
        (members[m].id.clone(), now)
    };
    target.into_iter().enumerate().map(given).collect()
}
