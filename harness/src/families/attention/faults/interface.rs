//! Mistakes at the edges of the kernel: results that are not handed over, memory that is not its own.

use touchstone_kernels::op::Attention;
use touchstone_kernels::op::attention::FAMILY;

use crate::selftest::planted::{Specimen, naive_on, unsupported};

pub(super) fn faults() -> Vec<Specimen> {
    let mut all = vec![Specimen::new(
        Some(&FAMILY),
        "second-result-missing",
        "The log-sum-exp that was asked for is not handed over.",
        |p| p.get::<Attention>().is_some_and(|spec| spec.lse),
        |problem, inputs| {
            let spec = problem.get::<Attention>().ok_or_else(unsupported)?;
            naive_on(Attention { lse: false, ..spec.clone() }, problem.dtype, inputs)
        },
    )];
    all.extend(clearing());
    all
}

/// Nothing that is computed changes by it.
#[cfg(target_os = "linux")]
fn clearing() -> Option<Specimen> {
    Some(crate::selftest::machinery::stray::foreign::overwriting(
        "clears-the-cache",
        "Rows of the cache that are not in use yet are cleared on the way.",
        Some("k"),
        |p| p.get::<Attention>().is_some_and(|spec| spec.kv_rows() > spec.kv_len && spec.head_dim > 0),
        |bytes| bytes.as_ptr_range().end.wrapping_sub(1),
    ))
}

#[cfg(not(target_os = "linux"))]
fn clearing() -> Option<Specimen> {
    None
}
