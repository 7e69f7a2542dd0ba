//! The `watchfire` command; everything is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Rules and plans are many small pieces, and alerts are a few kilobytes each: the allocator of glibc takes its time
/// for both. What librdkafka holds stays there.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    watchfire::cli::main()
}
