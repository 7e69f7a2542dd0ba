//! Every bound of the HTTP server, in one block.

/// Most alerts of one page.
pub const PAGE_ALERTS_MAX: usize = 1_000;

/// Alerts of a page when the client names no limit.
pub const PAGE_ALERTS_DEFAULT: usize = 100;

/// Most bytes of one page: a page ends early rather than hold a gigabyte of large alerts at once.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// Largest alert that the index takes: what a Kafka topic takes by default.
pub const ALERT_BYTES_MAX: usize = 1 << 20;

/// What an entry costs besides its bytes and ids: two tree nodes and an allocation or two, rounded up.
pub const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Memory of the alert index unless configured: about 15,000 alerts of 4 kB.
pub const INDEX_BYTES_DEFAULT: usize = 64 << 20;

/// Gaps listed by the API; older ones are only counted.
pub const GAPS_MAX: usize = 1_000;

/// Longest time a request may take. Every answer comes from memory.
pub const REQUEST_MS_MAX: u64 = 10_000;

/// Requests worked on at once; health checks are not counted, so that a flood never looks like a death.
pub const REQUESTS_MAX: usize = 64;

/// Connections held at once; further ones wait in the listen backlog.
pub const CONNECTIONS_MAX: usize = 512;

/// How long a connection may neither read nor write before it is closed; bounds slow and idle clients.
pub const CONNECTION_IDLE_MS_MAX: u64 = 60_000;

/// Largest request body. No route takes one yet.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// How long open requests may go on after shutdown.
pub const DRAIN_MS_MAX: u64 = 5_000;

/// Shortest API token: 128 bits in hexadecimal, so that it cannot be guessed.
pub const TOKEN_BYTES_MIN: usize = 32;

/// Longest text of a faulty parameter that an error repeats, in characters.
pub const ECHO_CHARS_MAX: usize = 100;

const _: () = assert!(PAGE_ALERTS_DEFAULT <= PAGE_ALERTS_MAX);
const _: () = assert!(ALERT_BYTES_MAX <= PAGE_BYTES_MAX, "a page must be able to hold any alert");
const _: () = assert!(ALERT_BYTES_MAX < INDEX_BYTES_DEFAULT);
const _: () =
    assert!(REQUEST_MS_MAX < CONNECTION_IDLE_MS_MAX, "a slow answer is not an idle client");
