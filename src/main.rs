//! The `watchfire` command; everything is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Rules and plans are many small pieces, and alerts are a few kilobytes each: the allocator of glibc takes its time
/// for both. What librdkafka holds stays there.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// In large pages, where the system gives them to those who ask: plans are tens of megabytes that every event goes
/// through on ways of its own.
#[used]
#[allow(unsafe_code, reason = "the allocator finds its settings by this name alone")]
// SAFETY: nothing else has this name but a weak declaration of the allocator, of this type.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 11] = b"thp:always\0";

fn main() -> ExitCode {
    watchfire::cli::main()
}
