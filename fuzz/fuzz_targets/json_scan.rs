//! Any bytes through the scanner: what it takes, serde_json takes, and both say the same of every field
//! and value; all paths of this machine agree. Between records stands the record separator of ASCII: how one
//! is read depends on those before.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/common/scan.rs"]
mod oracle;

const FIELDS: &[&str] = &["a", "b", "a.b", "a.b.c", "b.a", "CommandLine", "é", "a.a.a", "n"];

thread_local! {
    static ORACLE: RefCell<oracle::Oracle> = RefCell::new(oracle::Oracle::new(FIELDS));
}

fuzz_target!(|bytes: &[u8]| {
    ORACLE.with_borrow_mut(|oracle| {
        oracle.forget();
        for record in bytes.split(|byte| *byte == 0x1E) {
            oracle.check(record);
        }
    });
});
