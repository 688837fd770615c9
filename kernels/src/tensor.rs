//! Dense row-major host tensors: aligned, and with guard zones around their data.

use std::cell::Cell;

use aligned_vec::{AVec, RuntimeAlign};
use half::{bf16, f16};

use crate::dtype::{DType, ElementType, Scalar};
use crate::error::InputError;
use crate::with_element;

/// Alignment of the first element: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Bytes on either side of the data that no kernel may touch: four of the widest vector stores.
pub const GUARD_BYTES: usize = 256;

/// What the guard zones hold. As f32, f16 and bf16 it is a small negative number, so a kernel
/// that reads past its input computes something plausible and wrong rather than a NaN.
const GUARD: u8 = 0xa5;

/// Bytes of a page of memory.
const PAGE: usize = 4096;

/// How tensors lie in memory.
#[derive(Clone, Copy)]
enum Placement {
    /// Between guard zones, on a boundary of [`ALIGNMENT`].
    Guarded,
    /// See [`bare`].
    Bare,
    /// See [`scattered`]: the state of a linear congruential generator.
    Scattered(u64),
    /// See [`unaligned`]: the same.
    Unaligned(u64),
}

thread_local! {
    static PLACEMENT: Cell<Placement> = const { Cell::new(Placement::Guarded) };
}

impl Placement {
    /// Runs `work`, in which the tensors of this thread lie so.
    fn during<R>(self, work: impl FnOnce() -> R) -> R {
        struct Restore(Placement);
        impl Drop for Restore {
            fn drop(&mut self) {
                PLACEMENT.set(self.0);
            }
        }
        let _restore = Restore(PLACEMENT.replace(self));
        work()
    }

    /// Guard bytes before and after the next tensor, whose elements have this size.
    fn guards(size: usize) -> [usize; 2] {
        // Knuth's; the high bits are the good ones.
        let after = |state: u64| state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let draw = |state: u64| (state >> 32) as usize;
        match PLACEMENT.get() {
            Placement::Guarded => [GUARD_BYTES; 2],
            Placement::Bare => [0; 2],
            Placement::Scattered(state) => {
                let next = after(state);
                PLACEMENT.set(Placement::Scattered(next));
                let before = draw(next) % (PAGE / ALIGNMENT) * ALIGNMENT;
                [GUARD_BYTES + before, GUARD_BYTES + PAGE - ALIGNMENT - before]
            }
            Placement::Unaligned(state) => {
                let next = after(state);
                PLACEMENT.set(Placement::Unaligned(next));
                let places = ALIGNMENT / size - 1;
                [GUARD_BYTES + (1 + draw(next) % places) * size, GUARD_BYTES]
            }
        }
    }
}

/// Runs `work`, in which tensors that this thread makes are bare: nothing but their data, aligned
/// as their elements have to be and no better.
///
/// Guard zones show a write; to a tool that watches the edges of allocations (guard pages, a
/// sanitizer) they hide a read. And kernels over operands of one alignment say nothing of others.
pub fn bare<R>(work: impl FnOnce() -> R) -> R {
    Placement::Bare.during(work)
}

/// Runs `work`, in which every tensor that this thread makes starts at another cache line of a page,
/// drawn from `seed`.
///
/// Loads and stores whose addresses differ by a multiple of a page, or nearly, wait for each other on
/// most processors, so that the time of a kernel depends on how its operands lie. Where an allocator puts
/// them follows from everything that was allocated before: of two programs that differ in nothing
/// else, one can be faster every time. Who compares two programs had better draw.
pub fn scattered<R>(seed: u64, work: impl FnOnce() -> R) -> R {
    Placement::Scattered(seed).during(work)
}

/// Runs `work`, in which no tensor that this thread makes starts at a cache line: each is aligned as its
/// elements have to be, and begins at one of the other places of a line, drawn from `seed`.
///
/// A caller's operand may be a slice of something larger. A kernel that loads whole lines, or that treats
/// the elements before the first line apart, is wrong there if anywhere.
pub fn unaligned<R>(seed: u64, work: impl FnOnce() -> R) -> R {
    Placement::Unaligned(seed).during(work)
}

/// A dense row-major tensor in host memory.
///
/// The data start on a 64-byte boundary and lie between two guard zones, so that a kernel which
/// writes past either end is found by [`guards_intact`](Tensor::guards_intact); unless the tensor
/// is [`bare`], and anywhere in a page if it is [`scattered`], and off the boundary if it is [`unaligned`].
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    element: ElementType,
    /// Bytes before the data, and after them.
    guards: [usize; 2],
    buffer: AVec<u8, RuntimeAlign>,
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(element: ElementType, shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() * element.size();
        let guards @ [before, after] = Placement::guards(element.size());
        let alignment = if before == 0 { element.size() } else { ALIGNMENT };
        let mut buffer = AVec::with_capacity(alignment, before + bytes + after);
        buffer.resize(before, GUARD);
        buffer.resize(before + bytes, 0);
        buffer.resize(before + bytes + after, GUARD);
        Tensor { shape: shape.to_vec(), element, guards, buffer }
    }

    /// A tensor of NaN: an output before its kernel ran, so that an element which was never
    /// written cannot be mistaken for a result.
    pub fn unwritten(dtype: DType, shape: &[usize]) -> Self {
        let mut tensor = Tensor::zeros(ElementType::Float(dtype), shape);
        tensor.poison();
        tensor
    }

    /// Overwrites every number with NaN (integers with their minimum).
    pub fn poison(&mut self) {
        match self.element {
            ElementType::Float(DType::F32) => self.data_mut::<f32>().fill(f32::NAN),
            ElementType::Float(DType::F16) => self.data_mut::<f16>().fill(f16::NAN),
            ElementType::Float(DType::BF16) => self.data_mut::<bf16>().fill(bf16::NAN),
            ElementType::I64 => self.data_mut::<i64>().fill(i64::MIN),
            ElementType::Bool => self.data_mut::<u8>().fill(u8::MAX),
        }
    }

    /// A tensor of the given elements in row-major order.
    ///
    /// # Errors
    /// [`InputError::Length`] when their number is not that of the shape.
    pub fn from_slice<T: Scalar>(shape: &[usize], data: &[T]) -> Result<Self, InputError> {
        Tensor::from_bytes(T::ELEMENT, shape, bytemuck::cast_slice(data))
    }

    /// A tensor of little-endian bytes in row-major order.
    ///
    /// # Errors
    /// [`InputError::Length`] when their number is not that of the shape.
    pub fn from_bytes(element: ElementType, shape: &[usize], bytes: &[u8]) -> Result<Self, InputError> {
        let expected =
            shape.iter().try_fold(element.size(), |n, &d| n.checked_mul(d)).filter(|&n| n == bytes.len());
        if expected.is_none() {
            return Err(InputError::Length {
                shape: shape.to_vec(),
                expected: shape.iter().product::<usize>() * element.size(),
                found: bytes.len(),
            });
        }
        let mut tensor = Tensor::zeros(element, shape);
        tensor.bytes_mut().copy_from_slice(bytes);
        Ok(tensor)
    }

    /// A floating-point tensor whose elements are each rounded once from f64.
    ///
    /// # Errors
    /// [`InputError::Length`] when their number is not that of the shape.
    pub fn from_f64(dtype: DType, shape: &[usize], data: &[f64]) -> Result<Self, InputError> {
        with_element!(dtype, T => {
            // After the one rounding the value is exact in f32 too.
            let rounded: Vec<T> = data
                .iter()
                .map(|&x| <T as crate::Element>::from_f32(dtype.round(x) as f32))
                .collect();
            Tensor::from_slice(shape, &rounded)
        })
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data as bytes.
    pub fn bytes(&self) -> &[u8] {
        let [before, after] = self.guards;
        &self.buffer[before..self.buffer.len() - after]
    }

    /// The data as bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let [before, after] = self.guards;
        let end = self.buffer.len() - after;
        &mut self.buffer[before..end]
    }

    /// The data together with both guard zones, at least [`GUARD_BYTES`] each unless [`bare`]: where a kernel over raw
    /// memory may stray, and what proves that [`guards_intact`](Tensor::guards_intact) notices.
    pub fn surroundings_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// [`InputError::Type`] when the tensor holds another type.
    pub fn as_slice<T: Scalar>(&self) -> Result<&[T], InputError> {
        self.expect::<T>()?;
        Ok(bytemuck::cast_slice(self.bytes()))
    }

    /// The elements in row-major order, to be written.
    ///
    /// # Errors
    /// [`InputError::Type`] when the tensor holds another type.
    pub fn as_mut_slice<T: Scalar>(&mut self) -> Result<&mut [T], InputError> {
        self.expect::<T>()?;
        Ok(self.data_mut())
    }

    /// The elements as f64: exact for every floating-point type.
    pub fn to_f64(&self) -> Vec<f64> {
        fn widen<T: Scalar>(bytes: &[u8], to: impl Fn(T) -> f64) -> Vec<f64> {
            bytemuck::cast_slice::<u8, T>(bytes).iter().map(|&x| to(x)).collect()
        }
        match self.element {
            ElementType::Float(DType::F32) => widen(self.bytes(), |x: f32| x as f64),
            ElementType::Float(DType::F16) => widen(self.bytes(), f16::to_f64),
            ElementType::Float(DType::BF16) => widen(self.bytes(), bf16::to_f64),
            ElementType::I64 => widen(self.bytes(), |x: i64| x as f64),
            ElementType::Bool => widen(self.bytes(), |x: u8| x as f64),
        }
    }

    /// Whether nothing wrote outside the data.
    pub fn guards_intact(&self) -> bool {
        let [before, after] = self.guards;
        let (front, back) = (&self.buffer[..before], &self.buffer[self.buffer.len() - after..]);
        front.iter().chain(back).all(|&byte| byte == GUARD)
    }

    fn data_mut<T: Scalar>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    fn expect<T: Scalar>(&self) -> Result<(), InputError> {
        if self.element == T::ELEMENT {
            Ok(())
        } else {
            Err(InputError::Type {
                name: format!("tensor {:?}", self.shape),
                expected: T::ELEMENT,
                found: self.element,
            })
        }
    }
}

/// Equality of shape, type and every bit: NaN equals itself, −0 differs from 0.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.element == other.element && self.bytes() == other.bytes()
    }
}

impl Eq for Tensor {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_tensors_start_off_a_cache_line() {
        unaligned(3, || {
            let mut places = std::collections::HashSet::new();
            for (dtype, size) in [(DType::F32, 4), (DType::BF16, 2)] {
                for _ in 0..300 {
                    let mut tensor = Tensor::unwritten(dtype, &[5]).clone();
                    let place = tensor.bytes().as_ptr() as usize % ALIGNMENT;
                    assert!(place != 0 && place.is_multiple_of(size), "{dtype} at {place}");
                    assert!(tensor.guards_intact());
                    tensor.surroundings_mut()[0] = 0;
                    assert!(!tensor.guards_intact());
                    places.insert((size, place));
                }
            }
            assert_eq!(places.len(), 15 + 31);
        });
    }

    #[test]
    fn scattered_tensors_start_at_any_line_of_a_page() {
        let make = |seed| {
            scattered(seed, || {
                let tensors = (0..640).map(|_| Tensor::unwritten(DType::F32, &[3]));
                tensors
                    .map(|mut tensor| {
                        assert_eq!(
                            (tensor.bytes().len(), tensor.bytes().as_ptr() as usize % ALIGNMENT),
                            (12, 0)
                        );
                        assert!(tensor.guards_intact());
                        tensor.surroundings_mut()[0] = 0;
                        assert!(!tensor.guards_intact());
                        tensor.guards
                    })
                    .collect::<Vec<_>>()
            })
        };
        let guards = make(7);
        assert_eq!(make(7), guards);
        assert_ne!(make(8), guards);
        let lines: std::collections::HashSet<_> = guards.iter().map(|[before, _]| before % PAGE).collect();
        assert_eq!(lines.len(), PAGE / ALIGNMENT);
        assert!(guards.iter().all(|[before, after]| before.min(after) >= &GUARD_BYTES));
        // And no longer.
        assert_eq!(Tensor::zeros(ElementType::Bool, &[1]).guards, [GUARD_BYTES; 2]);
    }
}
