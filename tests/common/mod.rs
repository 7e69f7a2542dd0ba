//! What several test binaries need.

use std::path::PathBuf;

/// The folder with third-party data, or `None` with a loud note when it is not on this machine.
///
/// # Panics
/// With `CI=true`, where a missing corpus is a failure.
pub fn corpora() -> Option<PathBuf> {
    let given = std::env::var_os("WATCHFIRE_CORPORA").map(PathBuf::from);
    let dir = given
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"));
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI=true and no corpora at {}: set WATCHFIRE_CORPORA",
        dir.display()
    );
    eprintln!(
        "SKIPPED: no corpora at {}. Get them (README, Test data) and set WATCHFIRE_CORPORA.",
        dir.display()
    );
    None
}
