//! A hash whose value is part of interfaces: of what a seed draws, and of the names of files in the cache.

/// FNV-1a of 64 bits (Fowler, Noll and Vo; RFC 9923): the same in every build, which the standard hasher does
/// not promise.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    /// Values of the RFC's appendix.
    #[test]
    fn the_hash_is_that_of_its_definition() {
        assert_eq!(super::fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(super::fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
