//! The allocator of the program: whether it has found its settings.
#![cfg(feature = "service")]

use std::process::Command;

#[test]
fn it_asks_for_large_pages() {
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("opt.thp: \"always\""), "{said}");
}
