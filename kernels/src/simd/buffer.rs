//! Memory of a kernel's own, kept from run to run.

use aligned_vec::{AVec, ConstAlign};

use crate::tensor::ALIGNMENT;

/// Floats from a cache line on: no vector of any instruction set lies across two lines, wherever the
/// allocator has put what came before.
#[derive(Debug, Default)]
pub(super) struct Buffer(Option<AVec<f32, ConstAlign<ALIGNMENT>>>);

impl Buffer {
    /// Without memory.
    pub(super) const EMPTY: Buffer = Buffer(None);

    /// The first `len` floats. They hold what the run before has left, or zeros.
    pub(super) fn reserve(&mut self, len: usize) -> &mut [f32] {
        if self.0.as_ref().is_none_or(|floats| floats.len() < len) {
            let mut larger = AVec::with_capacity(ALIGNMENT, len);
            larger.resize(len, 0.0);
            self.0 = Some(larger);
        }
        match &mut self.0 {
            Some(floats) => &mut floats[..len],
            None => &mut [],
        }
    }
}
