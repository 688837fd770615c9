//! What records say of the build; and the run path to libtorch, which the programs of this
//! package need too (see `kernels/build.rs`).

use std::env;
use std::process::Command;

#[path = "../kernels/build.rs"]
mod run_path;

fn main() {
    run_path::main();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version =
        Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    println!("cargo::rustc-env=TOUCHSTONE_RUSTC={}", String::from_utf8_lossy(&version).trim());
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    println!("cargo::rustc-env=TOUCHSTONE_TARGET_FEATURES={features}");
}
