//! The `touchstone` command over the standard backends.

use std::process::ExitCode;

use touchstone_kernels::Registry;

fn main() -> ExitCode {
    touchstone_harness::cli::run(Registry::standard)
}
