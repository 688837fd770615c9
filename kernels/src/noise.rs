//! Numbers that look random, for the tests of this crate.

/// A number in −1..1 for each seed and index: the output function of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn noise(seed: u64, index: usize) -> f64 {
    let mut x = seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
