//! What is looked after beside the workers: topics that grow, and partitions that nobody reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

use super::correlate::CorrelateStage;
use super::filter::FilterStage;
use super::shared::Shared;
use super::stage::Stage;
use crate::bus::{BusError, Place};
use crate::kafka::{Clients, WorkerContext, partition_count, share_out_anew, unowned};
use crate::limits::{METADATA_REFRESH_MS, UNOWNED_LOOKS};

/// The partitions of a stage that nobody read at the last look.
struct Unowned {
    stage: &'static str,
    places: BTreeSet<Place>,
    /// Looks in a row that found the same.
    looks: u32,
}

/// Looks after them until told to stop.
pub fn look_after(shared: &Shared, clients: &Clients, consumer: &BaseConsumer<WorkerContext>) {
    let mut stages = [FilterStage::NAME, CorrelateStage::NAME].map(|stage| Unowned {
        stage,
        places: BTreeSet::new(),
        looks: 0,
    });
    let mut waited = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        waited += 100;
        if waited < METADATA_REFRESH_MS {
            continue;
        }
        waited = 0;
        for source in &shared.sources {
            match partition_count(consumer, &source.topic) {
                Ok(count) => shared.set_partition_count(&source.topic, count),
                Err(error) => tracing::warn!(%error, "metadata"),
            }
        }
        for stage in &mut stages {
            if let Err(error) = look(shared, clients, consumer, stage) {
                tracing::warn!(%error, stage = stage.stage, "whether each partition has a reader");
            }
        }
    }
}

/// Looks whether each partition of a stage has a reader. When the same ones have none for a while, the group
/// is made to share them out anew.
fn look(
    shared: &Shared,
    clients: &Clients,
    consumer: &BaseConsumer<WorkerContext>,
    known: &mut Unowned,
) -> Result<(), BusError> {
    let topics: BTreeMap<Arc<str>, i32> = if known.stage == FilterStage::NAME {
        shared.partition_counts().into_iter().collect()
    } else {
        BTreeMap::from([(shared.topics.matches.as_str().into(), shared.matches_partitions)])
    };
    let found = unowned(consumer, &clients.group(known.stage), &topics)?;
    for topic in topics.keys() {
        let count = found.iter().filter(|(t, _)| t == topic).count();
        shared.metrics.partitions_unowned.set([topic], count as f64);
    }
    known.looks = if found == known.places { known.looks + 1 } else { 1 };
    known.places = found;
    if known.places.is_empty() || known.looks < UNOWNED_LOOKS {
        return Ok(());
    }
    known.looks = 0;
    let partitions: Vec<String> = known.places.iter().map(|(t, p)| format!("{t}[{p}]")).collect();
    let partitions = partitions.join(", ");
    tracing::error!(
        stage = known.stage,
        partitions,
        "nobody reads these: they are shared out anew"
    );
    let topics: Vec<String> = topics.keys().map(ToString::to_string).collect();
    share_out_anew(clients, known.stage, &topics)
}
