//! What Watchfire relies on in a Kafka broker, as checks over a bootstrap address.
//!
//! The embedded broker and Apache Kafka must pass the same ones. Every check makes topics, groups and transactional ids
//! of its own, so they may run against a cluster in use, in any order and at once.
//!
//! A cluster needs `group.initial.rebalance.delay.ms=0` to be fast, and `group.min.session.timeout.ms` of at most 6000.

#![allow(clippy::disallowed_methods, reason = "a real broker runs on the real clock")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub mod batches;
pub mod groups;
pub mod kit;
pub mod records;
pub mod transactions;

/// Checks that run at the same time.
const AT_A_TIME: usize = 4;

/// One check: its name, and what it does to the broker at a bootstrap address.
pub type Check = (&'static str, fn(&str));

/// Every check.
pub const CHECKS: &[Check] = &[
    ("records of every codec come back", records::records_of_every_codec_come_back),
    ("offsets are found by time", records::offsets_are_found_by_time),
    ("deleted records move the log start", records::deleted_records_move_the_log_start),
    ("a record that is too large is refused", records::a_record_that_is_too_large_is_refused),
    ("topic configurations are described", records::topic_configurations_are_described),
    ("topics grow and go", records::topics_grow_and_go),
    (
        "batches hold every record once and in order",
        batches::batches_hold_every_record_once_and_in_order,
    ),
    (
        "batches tell nulls, empty values and headers",
        batches::batches_tell_nulls_empty_values_and_headers,
    ),
    (
        "a record larger than a fetch comes by the batch",
        batches::a_record_larger_than_a_fetch_comes_by_the_batch,
    ),
    (
        "a lost position is an error among the records",
        batches::a_lost_position_is_an_error_among_the_records,
    ),
    (
        "partitions given back and taken again begin anew",
        batches::partitions_given_back_and_taken_again_begin_anew,
    ),
    ("an open transaction is invisible", transactions::an_open_transaction_is_invisible),
    ("an aborted transaction is invisible", transactions::an_aborted_transaction_is_invisible),
    ("interleaved transactions stay apart", transactions::interleaved_transactions_stay_apart),
    (
        "offsets commit only with their transaction",
        transactions::offsets_commit_only_with_their_transaction,
    ),
    ("a new owner waits for open offsets", transactions::a_new_owner_waits_for_open_offsets),
    ("a second producer fences the first", transactions::a_second_producer_fences_the_first),
    (
        "a timed-out transaction is aborted and fenced",
        transactions::a_timed_out_transaction_is_aborted_and_fenced,
    ),
    ("stale group metadata is refused", transactions::stale_group_metadata_is_refused),
    (
        "an unknown member's offsets are refused",
        transactions::an_unknown_members_offsets_are_refused,
    ),
    (
        "a fenced static member's offsets are refused",
        transactions::a_fenced_static_members_offsets_are_refused,
    ),
    (
        "a pipeline that is interrupted writes each result once",
        transactions::a_pipeline_that_is_interrupted_writes_each_result_once,
    ),
    (
        "every record is read once through joins and leaves",
        groups::every_record_is_read_once_through_joins_and_leaves,
    ),
    ("a closed member's partitions move at once", groups::a_closed_members_partitions_move_at_once),
    (
        "a static member restarts without a rebalance",
        groups::a_static_member_restarts_without_a_rebalance,
    ),
    ("a second static member fences the first", groups::a_second_static_member_fences_the_first),
    ("a silent static member expires", groups::a_silent_static_member_expires),
    ("committed offsets outlive the members", groups::committed_offsets_outlive_the_members),
];

/// Runs every check, some at a time: most of their time they wait.
///
/// # Panics
/// If a check fails.
pub fn run_all(bootstrap: &str) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, check)) = CHECKS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let began = Instant::now();
            check(bootstrap);
            println!("ok {name} ({} ms)", began.elapsed().as_millis());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
}
