//! Storage types of tensors, and correctly rounded conversion into them.

use std::fmt;
use std::str::FromStr;

pub use half::{bf16, f16};

use crate::error::ParseError;

/// The floating-point type in which a problem stores its operands and results.
///
/// Arithmetic below f32 accumulates in f32 for every type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
}

impl DType {
    /// Every storage type.
    pub const ALL: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    /// Bytes per element.
    #[inline]
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// Explicit bits of the significand.
    #[inline]
    pub const fn mantissa_bits(self) -> i32 {
        match self {
            DType::F32 => 23,
            DType::F16 => 10,
            DType::BF16 => 7,
        }
    }

    /// Exponent of the smallest normal number.
    const fn min_exponent(self) -> i32 {
        match self {
            DType::F32 | DType::BF16 => -126,
            DType::F16 => -14,
        }
    }

    /// Unit roundoff u = 2^-p: the largest relative error of one rounding to nearest.
    pub fn unit_roundoff(self) -> f64 {
        exp2i(-(self.mantissa_bits() + 1))
    }

    /// The smallest positive normal number.
    pub fn smallest_normal(self) -> f64 {
        exp2i(self.min_exponent())
    }

    /// The smallest positive number: the spacing of subnormals.
    pub fn smallest_subnormal(self) -> f64 {
        exp2i(self.min_exponent() - self.mantissa_bits())
    }

    /// The largest finite number.
    pub fn max(self) -> f64 {
        match self {
            DType::F32 => f32::MAX as f64,
            DType::F16 => f16::MAX.to_f64(),
            DType::BF16 => bf16::MAX.to_f64(),
        }
    }

    /// The distance between neighbouring numbers of this type around `x`
    /// (one *unit in the last place*; the spacing of subnormals near zero).
    #[inline]
    pub fn ulp(self, x: f64) -> f64 {
        let exponent = exponent_of(x).max(self.min_exponent());
        exp2i(exponent - self.mantissa_bits())
    }

    /// `x` rounded once, to nearest with ties to even, to this type: overflow gives an infinity,
    /// results below the smallest normal are rounded to the spacing of subnormals.
    ///
    /// Written here because a conversion by way of f32 rounds twice: f64 → f32 → f16 turns
    /// 1 + 2⁻¹¹ + 2⁻³⁰ into 1 instead of 1 + 2⁻¹⁰.
    #[inline]
    pub fn round(self, x: f64) -> f64 {
        match self {
            // The conversion is this very rounding.
            DType::F32 => f64::from(x as f32),
            DType::F16 | DType::BF16 => self.round_by_spacing(x),
        }
    }

    fn round_by_spacing(self, x: f64) -> f64 {
        if x == 0.0 || !x.is_finite() {
            return x;
        }
        // The quotient by the spacing is exact (a power of two); rounding it to an integer is the
        // one rounding, and the product is exact again.
        let spacing = self.ulp(x);
        let rounded = (x / spacing).round_ties_even() * spacing;
        if rounded.abs() > self.max() { f64::INFINITY.copysign(x) } else { rounded.copysign(x) }
    }
}

/// 2^e for any exponent whose result is a normal f64.
fn exp2i(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// ⌊log₂|x|⌋ of a finite, non-zero `x`; very small for zero and subnormal f64.
fn exponent_of(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
        })
    }
}

impl FromStr for DType {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        DType::ALL
            .into_iter()
            .find(|dtype| dtype.to_string() == text)
            .ok_or_else(|| ParseError::choice("dtype", text, "f32, f16, bf16"))
    }
}

/// What one element of a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// A number of the given floating-point type.
    Float(DType),
    /// A 64-bit integer: positions, lengths.
    I64,
    /// A truth value in one byte: 0 or 1.
    Bool,
}

impl ElementType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            ElementType::Float(dtype) => dtype.size(),
            ElementType::I64 => 8,
            ElementType::Bool => 1,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElementType::Float(dtype) => dtype.fmt(f),
            ElementType::I64 => f.pad("i64"),
            ElementType::Bool => f.pad("bool"),
        }
    }
}

/// A Rust type that a tensor can hold.
///
/// Sealed: kernels in unsafe code trust that the tag is the type's own.
pub trait Scalar: bytemuck::Pod + Send + Sync + sealed::Sealed {
    /// Its tag.
    const ELEMENT: ElementType;
}

/// A floating-point [`Scalar`]: stored in its own type, computed in f32.
///
/// No other crate can implement it. Here is everything that it and [`Scalar`] ask for, and still the
/// compiler says `the trait bound Own: Sealed is not satisfied`:
///
/// ```compile_fail,E0277
/// use touchstone_kernels::dtype::{DType, Element, ElementType, Scalar};
///
/// #[derive(Clone, Copy, PartialEq, PartialOrd)]
/// #[repr(transparent)]
/// struct Own(f32);
///
/// // SAFETY: an f32.
/// unsafe impl bytemuck::Zeroable for Own {}
/// // SAFETY: an f32.
/// unsafe impl bytemuck::Pod for Own {}
///
/// impl Scalar for Own {
///     const ELEMENT: ElementType = ElementType::Float(DType::F16);
/// }
///
/// impl Element for Own {
///     const DTYPE: DType = DType::F16;
///     fn to_f32(self) -> f32 {
///         self.0
///     }
///     fn from_f32(x: f32) -> Self {
///         Own(x)
///     }
/// }
/// ```
pub trait Element: Scalar + PartialOrd {
    /// Its tag.
    const DTYPE: DType;
    /// Exact.
    fn to_f32(self) -> f32;
    /// Rounded to nearest, ties to even.
    fn from_f32(x: f32) -> Self;
}

mod sealed {
    /// Private to this crate, so that no other crate can make a type of its own an element of tensors.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for i64 {}
    impl Sealed for u8 {}
}

macro_rules! element {
    ($type:ty, $dtype:expr, $to:expr, $from:expr) => {
        impl Scalar for $type {
            const ELEMENT: ElementType = ElementType::Float($dtype);
        }
        impl Element for $type {
            const DTYPE: DType = $dtype;
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to(self)
            }
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                $from(x)
            }
        }
    };
}
element!(f32, DType::F32, |x| x, |x| x);
element!(f16, DType::F16, f16::to_f32, f16::from_f32);
element!(bf16, DType::BF16, bf16::to_f32, bf16::from_f32);

impl Scalar for i64 {
    const ELEMENT: ElementType = ElementType::I64;
}
impl Scalar for u8 {
    const ELEMENT: ElementType = ElementType::Bool;
}

/// Runs an expression with a type name bound to the Rust type of a [`DType`]:
/// `with_element!(problem.dtype, T => kernel::<T>(inputs))`.
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::dtype::f16;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::dtype::bf16;
                $body
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every finite f16 and bf16, the midpoints between neighbours, and a hair on either side.
    #[test]
    fn round_is_exact_on_every_half_number_and_midpoint() {
        fn check<T: Element>(from_bits: impl Fn(u16) -> T, max_finite: u16) {
            for bits in 0..max_finite {
                let low = from_bits(bits).to_f32() as f64;
                let high = from_bits(bits + 1).to_f32() as f64;
                let middle = (low + high) / 2.0;
                let even = if bits % 2 == 0 { low } else { high };
                let hair = (high - low) * 2f64.powi(-30);
                for sign in [1.0, -1.0] {
                    let round = |x: f64| sign * T::DTYPE.round(sign * x);
                    assert_eq!(round(low), low, "{} {bits:#x}", T::DTYPE);
                    assert_eq!(round(middle), even, "{} {bits:#x} tie", T::DTYPE);
                    assert_eq!(round(middle - hair), low, "{} {bits:#x} below", T::DTYPE);
                    assert_eq!(round(middle + hair), high, "{} {bits:#x} above", T::DTYPE);
                }
            }
            let max = T::DTYPE.max();
            let spacing = T::DTYPE.ulp(max);
            assert_eq!(T::DTYPE.round(max + 0.499 * spacing), max);
            assert_eq!(T::DTYPE.round(max + 0.5 * spacing), f64::INFINITY);
        }
        check(f16::from_bits, 0x7bff);
        check(bf16::from_bits, 0x7f7f);
    }

    #[test]
    fn round_to_f32_is_the_hardware_conversion() {
        for x in [1.0 + 2f64.powi(-24), 1e-40, 3.4028235677973366e38, -0.0, 1e-46, 0.1] {
            assert_eq!(DType::F32.round_by_spacing(x).to_bits(), ((x as f32) as f64).to_bits(), "{x}");
        }
    }

    #[test]
    fn does_not_round_twice() {
        assert_eq!(DType::F16.round(1.0 + 2f64.powi(-11) + 2f64.powi(-30)), 1.0 + 2f64.powi(-10));
    }
}
