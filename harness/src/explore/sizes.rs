//! Dimensions and parameters to draw from.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::SBoxedStrategy;

/// Every small size, then the neighbours of powers of two up to 131,072, some primes between them and the
/// head sizes in use. Nearly uniform on a logarithmic scale. Vectors have 4, 8 or 16
/// lanes and are unrolled up to eightfold, tiles go from 16 to 128.
const SIZES: &[usize] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 23, 24, 25, 29, 31, 32, 33, 37,
    40, 41, 47, 48, 49, 53, 61, 63, 64, 65, 67, 79, 80, 81, 95, 96, 97, 101, 112, 127, 128, 129, 131, 159,
    160, 161, 191, 192, 193, 239, 255, 256, 257, 263, 383, 384, 385, 509, 511, 512, 513, 521, 767, 768, 769,
    1009, 1023, 1024, 1025, 1031, 1535, 1536, 1537, 2047, 2048, 2049, 2053, 3072, 4093, 4095, 4096, 4097,
    5003, 8191, 8192, 8193, 16411, 32768, 65535, 65536, 65537, 65539, 131071,
];

/// A dimension of at most `most`; one in sixty-four is 0. Shrinks to smaller ones.
pub(crate) fn size(most: usize) -> SBoxedStrategy<usize> {
    let present = SIZES.partition_point(|&size| size <= most);
    prop_oneof![63 => select(&SIZES[..present]), 1 => Just(0)].sboxed()
}

/// A dimension of at least 1.
pub(crate) fn positive_size(most: usize) -> SBoxedStrategy<usize> {
    let present = SIZES.partition_point(|&size| size <= most);
    select(&SIZES[..present]).sboxed()
}

/// Dimensions of a tensor with that many axes, most of them short. See [`fit`] for how large it may
/// become.
pub(crate) fn shape(axes: std::ops::RangeInclusive<usize>) -> SBoxedStrategy<Vec<usize>> {
    let dim = prop_oneof![10 => size(9), 5 => size(65), 9 => size(4097), 1 => size(131_072)];
    prop::collection::vec(dim, axes).sboxed()
}

/// How many elements a tensor may have: mostly few, so that a problem is cheap.
pub(crate) fn budget() -> SBoxedStrategy<usize> {
    // Counters of 16 bits overflow in the last.
    select(vec![256, 1024, 4096, 4096, 4096, 16384, 16384, 16384, 65536, 65536, 65536, 262_144]).sboxed()
}

/// Cuts the largest dimension, and again, until `cost` is at most `budget`. What is cut to is a size
/// that might have been drawn.
pub(crate) fn fit(dims: &mut [usize], budget: usize, cost: impl Fn(&[usize]) -> usize) {
    while cost(dims) > budget {
        let Some(largest) = dims.iter_mut().max() else { return };
        let smaller = SIZES.partition_point(|size| size < largest);
        if smaller == 0 {
            return;
        }
        *largest = SIZES[smaller - 1];
    }
}

/// Dimensions cut to a budget of elements.
pub fn tensor(axes: std::ops::RangeInclusive<usize>) -> SBoxedStrategy<Vec<usize>> {
    (shape(axes), budget())
        .prop_map(|(mut dims, budget)| {
            fit(&mut dims, budget, product);
            dims
        })
        .sboxed()
}

/// The product of dimensions, without overflow.
pub(crate) fn product(dims: &[usize]) -> usize {
    dims.iter().fold(1, |n, &dim| n.saturating_mul(dim))
}

/// Which parameters are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Those in use, their edges, and others of moderate size: for problems that are computed.
    Moderate,
    /// Every finite f32: for texts.
    Any,
}

impl Numbers {
    /// A parameter of either sign; shrinks to the first of those in use.
    pub(crate) fn real(self, in_use: &'static [f32]) -> SBoxedStrategy<f32> {
        match self {
            Numbers::Any => any::<f32>().prop_filter("finite", |x| x.is_finite()).sboxed(),
            Numbers::Moderate => prop_oneof![
                4 => select(in_use),
                1 => (moderate(), any::<bool>()).prop_map(|(x, negative)| if negative { -x } else { x }),
            ]
            .sboxed(),
        }
    }

    /// A parameter greater than 0.
    pub(crate) fn positive(self, in_use: &'static [f32]) -> SBoxedStrategy<f32> {
        match self {
            Numbers::Any => any::<f32>()
                .prop_map(f32::abs)
                .prop_filter("positive", |&x| x > 0.0 && x.is_finite())
                .sboxed(),
            Numbers::Moderate => prop_oneof![4 => select(in_use), 1 => moderate()].sboxed(),
        }
    }
}

/// Two digits between 0.001 and 9.9: short to write.
fn moderate() -> SBoxedStrategy<f32> {
    (1u8..100, select(vec![10.0f32, 100.0, 1000.0]))
        .prop_map(|(digits, part)| f32::from(digits) / part)
        .sboxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_ascend() {
        assert!(SIZES.is_sorted());
    }

    #[test]
    fn what_is_too_large_is_cut_and_what_fits_is_not() {
        let mut dims = [3, 4097, 65];
        fit(&mut dims, 1024, product);
        assert_eq!(dims, [3, 18, 18]);
        fit(&mut dims, 1024, product);
        assert_eq!(dims, [3, 18, 18]);
        let mut empty = [4097, 0];
        fit(&mut empty, 1, product);
        assert_eq!(empty, [4097, 0]);
    }
}
