//! The whole service against a real Apache Kafka: what is promised about loss, repetition and crashes.
//!
//! `scripts/kafka run -- cargo test --test kafka` gives it a cluster, and so does `scripts/test`. Every test has topics,
//! groups and an app name of its own, so they run at once. The service is the built binary, in processes of its own.

#![allow(clippy::disallowed_methods, reason = "a real broker runs on the real clock")]

mod common;
mod conformance;

#[path = "kafka/crashes.rs"]
mod crashes;
#[path = "kafka/delivery.rs"]
mod delivery;
#[path = "kafka/kit.rs"]
mod kit;
#[path = "kafka/lateness.rs"]
mod lateness;
#[path = "kafka/losses.rs"]
mod losses;
#[path = "kafka/outputs.rs"]
mod outputs;
#[path = "kafka/partitions.rs"]
mod partitions;
#[path = "kafka/rejects.rs"]
mod rejects;
#[path = "kafka/routing.rs"]
mod routing;
#[path = "kafka/rules.rs"]
mod rules;
#[path = "kafka/security.rs"]
mod security;
#[path = "kafka/service.rs"]
mod service;
#[path = "kafka/sshd.rs"]
mod sshd;
#[path = "kafka/state.rs"]
mod state;
#[path = "kafka/webhooks.rs"]
mod webhooks;

#[test]
fn apache_kafka_does_what_the_service_relies_on() {
    let Some(bootstrap) = kit::kafka() else { return };
    conformance::run_all(&bootstrap);
}
