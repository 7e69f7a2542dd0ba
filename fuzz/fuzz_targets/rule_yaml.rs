//! Any bytes as a rule file: compiled or explained, and what compiles runs like the full scan.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What is not UTF-8 is refused where the file is read.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let rules = watchfire_fuzz::compile(text);
    watchfire_fuzz::run_everywhere(rules);
});
