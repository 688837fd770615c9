//! See `kernels/build.rs`: the programs of this package need the run path, too.

#[path = "../kernels/build.rs"]
mod run_path;

fn main() {
    run_path::main();
}
