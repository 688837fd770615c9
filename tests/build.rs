//! See `kernels/build.rs`: the run path has to be set for the programs of this package, too.

include!("../kernels/build.rs");
