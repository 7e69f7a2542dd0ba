//! Every bound of the service in one place: unit in the name, reason in the doc.
//!
//! Nothing in Watchfire grows without one of these. Where two bounds depend on each other, a
//! `const` assertion below holds the relation.

/// Largest record payload that is decoded. Kafka's own default for a record is 1 MiB; what is larger
/// goes to the dead-letter topic by its coordinate.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Bytes of a rejected payload that the dead-letter record carries. The whole stays at its source
/// coordinate, which the record's headers name.
pub const DEAD_LETTER_BYTES_MAX: usize = 256 << 10;

/// One rule file. The largest of SigmaHQ is 295 kB.
pub const RULE_FILE_BYTES_MAX: usize = 4 << 20;

/// Nodes of one YAML file after aliases are expanded, against alias bombs.
pub const YAML_NODES_MAX: usize = 500_000;

/// Nesting depth of one YAML file.
pub const YAML_DEPTH_MAX: usize = 64;

/// Nesting depth of a condition.
pub const CONDITION_DEPTH_MAX: usize = 64;

/// Compiled size of one regular expression. SigmaHQ has `\w{1,64}`, which takes three and a quarter MiB.
pub const REGEX_BYTES_MAX: usize = 4 << 20;

/// Regular expressions of one rule: each may take milliseconds to compile.
pub const RULE_REGEXES_MAX: usize = 200;

/// Custom attributes of one rule, as JSON: every alert carries them.
pub const CUSTOM_BYTES_MAX: usize = 16 << 10;

/// Steps that a regular expression with look-around or back-references may take on one value.
pub const REGEX_STEPS_MAX: usize = 100_000;

/// Values that the placeholders of one value of a rule may be replaced by.
pub const PLACEHOLDER_FORMS_MAX: usize = 10_000;

/// Depth of `nest` in a processing pipeline.
pub const PIPELINE_NESTING_MAX: usize = 8;

/// Dashes of one `windash` value: each has five forms, and the forms multiply.
pub const WINDASH_DASHES_MAX: usize = 3;

/// Longest name of a field that is made of several names of an event, so that one long name is not
/// written out for each of many short ones below it.
pub const FIELD_NAME_BYTES_MAX: usize = 256;

/// Longest name of a product, category or service; what is longer is no such name. Events may name
/// their own, and plans are remembered by these names.
pub const LOGSOURCE_NAME_BYTES_MAX: usize = 128;

/// Combinations of values that all entries of the logsource tables of one source may spell out. Those
/// that come with Watchfire need a few hundred.
pub const LOGSOURCE_PATHS_MAX: usize = 50_000;

/// Signatures of events that a worker remembers; an event with any other is decoded into a tree.
pub const SIGNATURES_MAX: usize = 4_096;

/// Longest timespan of a correlation: 90 days.
pub const TIMESPAN_SECONDS_MAX: u64 = 90 * 86_400;

/// How long the matches topic keeps matches by default: what a correlation can know after a restart.
pub const MATCHES_RETENTION_MICROS: i64 = 7 * 86_400 * 1_000_000;

/// Depth of a chain of correlations: each is a call into the next.
pub const CORRELATION_DEPTH_MAX: usize = 128;

/// How far event time may lie ahead of the clock of the machine that reads it.
pub const FUTURE_SKEW_MICROS_MAX: i64 = 300 * 1_000_000;

/// A jump of event time ahead of its partition that needs a second event to be believed.
pub const FRONTIER_JUMP_MICROS_MAX: i64 = 300 * 1_000_000;

/// How many coordinates of contributing events an alert names at its start and at its end.
pub const EVIDENCE_EACH_END_MAX: usize = 10;

/// Bytes of the event that an alert carries; a larger event is named by its coordinate alone.
pub const ALERT_EVENT_BYTES_MAX: usize = 64 << 10;

/// Bytes of a value that decides a group; of a longer one the start and a hash are kept.
pub const GROUP_VALUE_BYTES_MAX: usize = 1 << 10;

/// Entries (events or values) that one group of one correlation may hold.
pub const GROUP_ENTRIES_MAX: usize = 100_000;

/// Distinct values that a group counts one by one when its threshold needs no more; beyond them a sketch
/// says how many there are.
pub const DISTINCT_EXACT_MAX: usize = 1_024;

/// Values that a group adds up one by one; beyond them those of one slice of the timespan leave together.
pub const SUM_ENTRIES_MAX: usize = 4_096;

/// Values of which a group knows percentiles exactly; beyond them to within 1 %.
pub const QUANTILE_EXACT_MAX: usize = 4_096;

/// Events of one instant that a `temporal_ordered` group puts in order among each other.
pub const INSTANT_EVENTS_MAX: usize = 64;

/// Groups that one partition of the correlation stage may hold.
pub const GROUPS_MAX: usize = 2_000_000;

/// Groups of one correlation in one partition of the correlation stage.
pub const RULE_GROUPS_MAX: usize = 1_000_000;

/// Bytes that the groups of one partition of the correlation stage may take.
pub const STATE_BYTES_MAX: usize = 512 << 20;

/// Event time after which a correlation that still refuses groups says so again.
pub const OVERFLOW_REPORT_MICROS: i64 = 3_600 * 1_000_000;

/// Matches that may wait for the watermark in one partition of the correlation stage.
pub const PENDING_MATCHES_MAX: usize = 2_000_000;

/// Bytes of whole lines that `eval` hands to a worker at once: enough that handing over costs nothing,
/// few enough to stay in the cache of a core.
pub const EVAL_BLOCK_BYTES: usize = 512 << 10;

/// Output that `eval` holds back until event time has passed it. What is more is written early: where so much comes
/// within the lateness, its order is not that of time throughout.
pub const EVAL_HELD_BYTES_MAX: usize = 48 << 20;

/// A file of JSON that is not one object a line is read into memory as a whole, if it is not larger.
pub const EVAL_DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Records of kept state that one loop of a worker takes: some ten milliseconds.
pub const KEPT_BATCH_RECORDS_MAX: usize = 10_000;

/// Changed groups that a partition still writes when it is given back, about 2 MB; with more than that the
/// next owner reads a little more of the matches again.
pub const LEAVE_GROUPS_MAX: usize = 20_000;

/// Records that one loop of a worker takes before it looks at its other duties. Those in hand are no
/// longer in librdkafka's queue, which fills again meanwhile: at most as much as it holds is on top.
pub const POLL_BATCH_RECORDS_MAX: usize = 2_048;

/// How long one loop of a worker waits for a record.
pub const POLL_WAIT_MS: u64 = 5;

/// How often librdkafka says what it knows of the partitions.
pub const STATISTICS_INTERVAL_MS: u64 = 500;

/// Matches of one bundle: in their largest form some 400 KB, less than Kafka's default for a record.
pub const BUNDLE_MATCHES_MAX: usize = 10_000;

/// Matches that the first stage gathers before it sends them in bundles.
pub const GATHERED_MATCHES_MAX: usize = 50_000;

/// Outputs after which a worker commits before its interval is over.
pub const EPOCH_OUTPUTS_MAX: usize = 5_000;

/// Bytes of outputs after which a worker commits before its interval is over.
pub const EPOCH_OUTPUT_BYTES_MAX: usize = 4 << 20;

/// Epochs of a worker that are being committed: a producer has one transaction.
pub const COMMITS_MAX: usize = 1;

/// How long a worker waits for acknowledgements before it looks whether one of its outputs failed.
pub const FLUSH_SLICE_MS: u64 = 20;

/// How long positions wait to be committed when there is no output to commit them with.
pub const OFFSETS_ONLY_COMMIT_MS: u64 = 1_000;

/// Memory of one librdkafka consumer queue, in KiB.
pub const CONSUMER_QUEUE_KIB: usize = 32 << 10;

/// Records in that queue from which on librdkafka does not ask for more.
pub const CONSUMER_QUEUE_RECORDS: usize = 100_000;

/// Bytes, as compressed, of a broker's answer to one fetch. More does not make reading faster.
pub const FETCH_BYTES_MAX: usize = 4 << 20;

/// `transaction.timeout.ms`: what a dead worker's open transaction may hold up.
pub const TRANSACTION_TIMEOUT_MS: u64 = 10_000;

/// `session.timeout.ms` of the consumer groups.
pub const SESSION_TIMEOUT_MS: u64 = 10_000;

/// Longest wait for one call to the broker (metadata, offsets, commit).
pub const BROKER_CALL_MS_MAX: u64 = 10_000;

/// How often, 100 ms apart, a fenced worker looks whether another has its name before it is built anew.
pub const FENCING_LOOKS: usize = 30;

/// Records before its position that a new reader of a source looks at again, for how far event time has come.
pub const FRONTIER_RECORDS: i64 = 16;

/// How long a worker listens for what its group has asked already: time for everything in the queue.
pub const HEARING_MS: u64 = 20;

/// How long a producer's connection may be idle. Short, since librdkafka 2.12 looks for a new group
/// coordinator only when a connection changes: with the old one gone, positions would otherwise wait for
/// the next broker that comes or goes, however long (its issues 5456 and 5511).
pub const PRODUCER_IDLE_MS_MAX: u64 = 5_000;

/// How often in a row a worker is fenced until it counts as replaced. Once can be its own doing: a request to
/// join that the network held back, and that arrives when the worker has joined in another way, looks to the
/// group like another process. Two processes of one name fence each other again and again.
pub const FENCED_MAX: usize = 3;

/// How long a guest of a group waits to be given something: a heartbeat of everybody, and what they have to
/// commit.
pub const GUEST_MS_MAX: u64 = 20_000;

/// Epochs in a row that may be aborted before the worker is built anew, which readiness tells: missing rights abort
/// each of them.
pub const ABORTS_MAX: u32 = 10;

/// Looks in a row that find the same partitions without a reader, before the group is stirred: one alone may
/// fall between two generations.
pub const UNOWNED_LOOKS: u32 = 2;

/// How often the partition counts of source topics are looked up, and whether each has a reader.
pub const METADATA_REFRESH_MS: u64 = 10_000;

/// First wait before a failed worker is built anew; it doubles up to the next bound.
pub const RESTART_BACKOFF_MS_MIN: u64 = 200;

/// Longest wait before a failed worker is built anew.
pub const RESTART_BACKOFF_MS_MAX: u64 = 5_000;

/// A worker that ran for so long before it failed is built anew as if it had never failed before.
pub const RESTART_SETTLED_MS: u64 = 60_000;

const _: () = assert!(DEAD_LETTER_BYTES_MAX < EVENT_BYTES_MAX);
const _: () = assert!(EVAL_BLOCK_BYTES <= EVENT_BYTES_MAX);
const _: () = assert!(RULE_GROUPS_MAX <= GROUPS_MAX);
const _: () = assert!(DISTINCT_EXACT_MAX <= GROUP_ENTRIES_MAX);
const _: () = assert!(BROKER_CALL_MS_MAX <= TRANSACTION_TIMEOUT_MS);
const _: () = assert!(RESTART_BACKOFF_MS_MAX < RESTART_SETTLED_MS);
