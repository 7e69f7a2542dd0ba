//! The one list of metrics: name, kind, labels and help of everything that `/metrics` can show.
//!
//! A row is enough to add a metric: the macro makes its [`MetricSpec`] and its field in [`Families`], whose
//! type carries the number of labels, so that a call with too few of them does not compile. Elements that
//! never become labels: user, address, host, group key, URL. They have no bound.

use prometheus::Registry;

use super::MetricsError;
use super::family::{Counter, Gauge, Histogram};

/// What kind of series a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; starts again at 0 with the process.
    Counter,
    /// A present value.
    Gauge,
    /// Counts per bucket, their sum and their number.
    Histogram,
}

impl MetricKind {
    /// Returns the kind as it stands in the `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSpec {
    /// Full name, with prefix and unit.
    pub name: &'static str,
    /// The kind of its series.
    pub kind: MetricKind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence for the reader of a dashboard.
    pub help: &'static str,
}

macro_rules! catalogue {
    (
        families { $( $field:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal; )* }
        collected { $( $id:ident: $ckind:ident $cname:literal [$($clabel:literal),*] $chelp:literal; )* }
    ) => {
        /// Every metric, in the order of the documentation.
        pub const CATALOGUE: &[MetricSpec] = &[
            $( MetricSpec {
                name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help,
            }, )*
            $( $id, )*
        ];

        $(
            #[doc = $chelp]
            pub(super) const $id: MetricSpec = MetricSpec {
                name: $cname, kind: MetricKind::$ckind, labels: &[$($clabel),*], help: $chelp,
            };
        )*

        /// The metrics that are written to directly; one field a row.
        #[derive(Debug, Clone)]
        pub struct Families {
            $( #[doc = $help] pub $field: $kind<{ <[&str]>::len(&[$($label),*]) }>, )*
        }

        impl Families {
            /// Creates and registers all families.
            pub(super) fn register(registry: &Registry) -> Result<Self, MetricsError> {
                Ok(Families {
                    $( $field: $kind::register(registry, &MetricSpec {
                        name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help,
                    })?, )*
                })
            }

            /// Gives each family one series, so that a test sees all of them.
            #[cfg(test)]
            pub(super) fn touch_all(&self) {
                $( self.$field.touch(); )*
            }
        }
    };
}

catalogue! {
families {
    // Ingest.
    events_consumed: Counter "watchfire_events_consumed_total" ["topic"]
        "Records read from Kafka.";
    bytes_consumed: Counter "watchfire_bytes_consumed_total" ["topic"]
        "Bytes of record values read from Kafka.";
    parse_errors: Counter "watchfire_parse_errors_total" ["topic", "format", "reason"]
        "Records that could not be decoded, by stable reject code.";
    dead_letters: Counter "watchfire_dead_letters_total" ["topic", "reason"]
        "Records written to the dead-letter topic.";
    events_late: Counter "watchfire_events_late_total" ["topic"]
        "Events older than the watermark by more than the grace.";
    events_skewed: Counter "watchfire_events_skewed_total" ["topic"]
        "Events whose time lies too far in the future to move the watermark.";
    events_decoded: Counter "watchfire_events_decoded_total" ["topic"]
        "Events out of the ordinary, which were decoded into a tree: slower, not otherwise.";
    correlation_dropped: Counter "watchfire_correlation_dropped_total" ["rule_id", "reason"]
        "Detections that a correlation could not take in.";

    // Data safety.
    consumer_lag: Gauge "watchfire_consumer_lag_events" ["topic", "partition"]
        "Records between the next unprocessed offset and the end of the log.";
    retention_headroom_events: Gauge "watchfire_retention_headroom_events" ["topic", "partition"]
        "Records between the start of the log and the next unprocessed offset.";
    retention_headroom_seconds: Gauge "watchfire_retention_headroom_seconds" ["topic", "partition"]
        "Time until retention deletes the next unprocessed record; +Inf when it is safe.";
    events_lost: Counter "watchfire_events_lost_total" ["topic", "partition"]
        "Records that retention deleted before they were processed.";
    gaps_open: Gauge "watchfire_gaps_open" []
        "Known ranges of lost records since the start of the process.";

    // Time.
    watermark_lag: Gauge "watchfire_watermark_lag_seconds" ["topic", "partition"]
        "Wall clock minus watermark.";

    // Rules.
    rule_info: Gauge "watchfire_rule_info" ["rule_id", "title", "level", "kind"]
        "Always 1; joins the title, level and kind of a rule to its id.";
    rule_matches: Counter "watchfire_rule_matches_total" ["rule_id"]
        "Events that matched the rule.";
    rule_alerts: Counter "watchfire_rule_alerts_total" ["rule_id"]
        "Alerts that the rule published.";
    rule_errors: Counter "watchfire_rule_errors_total" ["rule_id", "reason"]
        "Values that a rule could not decide, counted as no match; regex_steps: out of steps.";
    rules_loaded: Gauge "watchfire_rules_loaded" ["kind"]
        "Rules in force.";
    rule_load_errors: Gauge "watchfire_rule_load_errors" []
        "Rules that the last load refused.";

    // Kafka and state.
    transactions: Counter "watchfire_transactions_total" ["stage", "outcome"]
        "Transactions, by the stage that ran them and how they ended.";
    transaction_wait: Histogram "watchfire_transaction_wait_seconds" ["stage"]
        "How long a worker stood still for a commit.";
    rebalances: Counter "watchfire_rebalances_total" ["kind"]
        "Rebalance callbacks: assign, revoke or lost.";
    partitions_assigned: Gauge "watchfire_partitions_assigned" ["topic"]
        "Partitions that this process owns now.";
    partitions_unowned: Gauge "watchfire_partitions_unowned" ["topic"]
        "Partitions that no process reads although the group is at rest.";
    kafka_errors: Counter "watchfire_kafka_errors_total" ["code"]
        "Errors that the Kafka client reported.";
    state_keys: Gauge "watchfire_state_keys" []
        "Groups held in window state.";
    state_bytes: Gauge "watchfire_state_bytes" []
        "Memory of the groups held in window state.";
    state_limit_bytes: Gauge "watchfire_state_limit_bytes" []
        "Memory that the groups of one partition of the matches topic may take.";
    rule_state_keys: Gauge "watchfire_rule_state_keys" ["rule_id"]
        "Groups that a correlation holds.";
    rule_state_bytes: Gauge "watchfire_rule_state_bytes" ["rule_id"]
        "Memory of the groups that a correlation holds.";
    restore_seconds: Gauge "watchfire_restore_seconds" []
        "Duration of the last restore from the changelog.";
    restores: Counter "watchfire_restores_total" ["from"]
        "Partitions of the matches topic whose state was restored, by what from: kept, nothing or unusable.";
    changelog_bytes: Counter "watchfire_changelog_bytes_total" []
        "State written to the changelog.";
    changelog_records: Counter "watchfire_changelog_records_total" []
        "Groups and other records of state written to the changelog.";
    rule_warming_seconds: Gauge "watchfire_rule_warming_seconds" ["rule_id"]
        "Event time until a correlation whose meaning changed has seen a whole timespan; 0 when it has.";

    // Alerts and their delivery.
    alerts: Counter "watchfire_alerts_total" ["level"]
        "Alerts published.";
    alert_updates: Counter "watchfire_alert_updates_total" ["level"]
        "Further revisions of alerts published.";
    notify_attempts: Counter "watchfire_notify_attempts_total" ["endpoint", "outcome"]
        "Delivery attempts to a webhook endpoint, by outcome.";
    notify_seconds: Histogram "watchfire_notify_seconds" ["endpoint"]
        "Duration of delivery attempts.";
    notify_pending: Gauge "watchfire_notify_pending" ["endpoint"]
        "Alerts that the endpoint has not taken yet.";
    notify_dead_letters: Counter "watchfire_notify_dead_letters_total" ["endpoint"]
        "Alerts given up for the endpoint and written to the dead-letter topic.";

    // The service itself.
    http_requests: Counter "watchfire_http_requests_total" ["route", "method", "code"]
        "HTTP requests answered.";
    http_request_seconds: Histogram "watchfire_http_request_seconds" ["route"]
        "Duration of HTTP requests.";
    auth_failures: Counter "watchfire_auth_failures_total" ["reason"]
        "Requests refused for want of a valid token.";
    alert_index_alerts: Gauge "watchfire_alert_index_alerts" []
        "Alerts that the API can show from memory.";
    alert_index_bytes: Gauge "watchfire_alert_index_bytes" []
        "Memory charged to the alert index.";
    alert_index_dropped: Counter "watchfire_alert_index_dropped_total" []
        "Oldest alerts that left the index of the API for want of memory.";
    build_info: Gauge "watchfire_build_info" ["version"]
        "Always 1; the version that runs.";
    ready: Gauge "watchfire_ready" []
        "1 when every readiness check holds, else 0.";
}
collected {
    MATCH_LATENESS: Histogram "watchfire_match_lateness_seconds" ["topic", "rule_id"]
        "Matches too late for correlations, by how far behind the watermark they were.";
    TRANSACTION_SECONDS: Histogram "watchfire_transaction_seconds" ["stage"]
        "Duration of transactions, from begin to committed.";
    TRANSACTION_P50: Gauge "watchfire_transaction_p50_seconds" ["stage"]
        "Median of watchfire_transaction_seconds since the start, from the same counts.";
    TRANSACTION_P99: Gauge "watchfire_transaction_p99_seconds" ["stage"]
        "99th percentile of watchfire_transaction_seconds since the start, from the same counts.";
    TRANSACTION_MAX: Gauge "watchfire_transaction_max_seconds" ["stage"]
        "Longest transaction since the start, from the same counts.";
}
}
