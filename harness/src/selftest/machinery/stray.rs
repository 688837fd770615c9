//! Writes where nothing may be written.

use touchstone_kernels::Outputs;
use touchstone_kernels::tensor::GUARD_BYTES;

use super::len;
use crate::selftest::planted::{Specimen, naive};

/// Changes a byte near the first result; `place` finds it from the length of the data with both
/// guard zones.
pub(super) fn stray(outputs: &mut Outputs, place: fn(usize) -> usize) {
    if let Some((_, tensor)) = outputs.iter_mut().next() {
        let all = tensor.surroundings_mut();
        let at = place(all.len());
        all[at] = 0;
    }
}

/// The first byte behind the data.
pub(super) fn past_the_end(len: usize) -> usize {
    len - GUARD_BYTES
}

/// Writes into the surroundings of a right result.
fn straying(name: &'static str, about: &'static str, place: fn(usize) -> usize) -> Specimen {
    Specimen::new(
        None,
        name,
        about,
        |p| len(p) > 0,
        move |problem, inputs| {
            let mut outputs = naive(problem, inputs)?;
            stray(&mut outputs, place);
            Ok(outputs)
        },
    )
}

pub(super) fn faults() -> Vec<Specimen> {
    let mut all = vec![
        straying("writes-past-the-end", "A full vector is stored over the last tail.", past_the_end),
        straying("writes-before-the-start", "The first tile begins one element early.", |_| GUARD_BYTES - 1),
    ];
    all.extend(foreign::faults());
    all
}

/// What only a kernel in another language can do. Rust hands a backend no way to write to operands
/// that it shares; the memory of this process as a file, a debugger's way, stands for one.
#[cfg(target_os = "linux")]
pub(crate) mod foreign {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use touchstone_kernels::{BackendError, Problem};

    use crate::selftest::planted::{Specimen, naive, unsupported};

    fn write(byte: *const u8) -> std::io::Result<()> {
        let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
        memory.write_all_at(&[0x5a], byte as u64)
    }

    /// Writes into or near the first operand, or that of a name.
    pub(crate) fn overwriting(
        name: &'static str,
        about: &'static str,
        operand: Option<&'static str>,
        differs: fn(&Problem) -> bool,
        place: fn(&[u8]) -> *const u8,
    ) -> Specimen {
        Specimen::new(
            None,
            name,
            about,
            move |p| p.operands().iter().any(|o| !o.is_empty()) && differs(p),
            move |problem, inputs| {
                let outputs = naive(problem, inputs)?;
                let mut named =
                    inputs.iter().filter(|(name, _)| operand.is_none_or(|wanted| wanted == *name));
                let operand = named.find_map(|(_, t)| (!t.is_empty()).then_some(t.bytes()));
                write(place(operand.ok_or_else(unsupported)?)).map_err(|error| BackendError::Library {
                    library: "planted",
                    message: error.to_string(),
                })?;
                Ok(outputs)
            },
        )
    }

    pub(super) fn faults() -> Vec<Specimen> {
        vec![
            overwriting(
                "modifies-an-input",
                "An operand serves as scratch space.",
                None,
                |_| true,
                |bytes| bytes.as_ptr(),
            ),
            overwriting(
                "writes-past-an-input",
                "Padding is written behind an operand.",
                None,
                |_| true,
                |bytes| bytes.as_ptr_range().end,
            ),
        ]
    }
}

#[cfg(not(target_os = "linux"))]
mod foreign {
    pub(super) fn faults() -> Vec<super::Specimen> {
        Vec::new()
    }
}
