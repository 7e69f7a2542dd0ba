//! The `watchfire` command; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchfire::cli::main()
}
