//! Puts libtorch's folder into the run path of the programs linked here, so that they start with no
//! environment variable. Cargo does not hand link arguments on to dependents, so every package with
//! programs runs this same file: harness/build.rs and tests/build.rs call it.
//!
//! torch-sys tells its direct dependents (this package) where it found the library, and this package
//! tells its own. Neither says anything without the feature `libtorch`.

use std::env;
use std::path::Path;

pub(crate) fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
