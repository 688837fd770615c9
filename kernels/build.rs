//! Puts libtorch's folder into the run path of the programs linked here, so that they start with no
//! environment variable. Cargo does not hand link arguments on to dependents, so every package with
//! programs runs this same file: harness/build.rs and tests/build.rs call it.
//!
//! torch-sys tells its direct dependents (this package) where it found the library, and this package
//! tells its own. Neither says anything without the feature `libtorch`.

use std::env;
use std::path::Path;

/// Tells the tests of matrix units whether this machine has them, so that they are reported as ignored
/// where it has not, rather than as passed.
fn units() {
    println!("cargo::rustc-check-cfg=cfg(has_amx, has_avx512_bf16)");
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for (flag, cfg) in [("amx_bf16", "has_amx"), ("avx512_bf16", "has_avx512_bf16")] {
        if env::var("TARGET") == env::var("HOST") && told.split_whitespace().any(|word| word == flag) {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}

pub(crate) fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    units();
    let told = ["DEP_TCH_LIBTORCH_LIB", "DEP_TOUCHSTONE_LIBTORCH_LIB"];
    let Some(lib) = told.into_iter().find_map(|name| env::var(name).ok()) else {
        return;
    };
    println!("cargo::rerun-if-changed={lib}");

    // torch-sys does not look again once it is compiled; without this the linker or the loader would tell.
    let names = ["libtorch_cpu.so", "libtorch_cpu.dylib", "libtorch_cpu.a"];
    let Some(lib) =
        Path::new(&lib).canonicalize().ok().filter(|lib| names.iter().any(|name| lib.join(name).exists()))
    else {
        println!(
            "cargo::error=libtorch is no longer in {lib}: run scripts/setup-libtorch, or set LIBTORCH to a libtorch of your own"
        );
        return;
    };

    println!("cargo::metadata=lib={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
