//! How many copies of a problem keep it out of the caches.

use touchstone_kernels::{Operand, Problem};

use crate::machine::Caches;
use touchstone_reports::words::bytes;

/// What the caches hold when an iteration starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheState {
    /// The operands of the iteration before, as far as they fit: one problem, over and over.
    Hot,
    /// Other copies of the problem: a rotation through more memory than the last-level cache has.
    Cold,
}

touchstone_kernels::named_enum!(CacheState, "cache state", {
    CacheState::Hot => "hot",
    CacheState::Cold => "cold",
});

/// Most bytes in a rotation. A virtual machine may state the whole 300 MB cache of its host, and
/// twice that in every one of six workers would not fit into a small machine's memory. Other
/// tenants and other cores use that cache too: 512 MiB is beyond what one machine gets of it.
const MAX_BYTES: u64 = 512 << 20;

/// Most copies in a rotation: preparing is not free, and beyond this the copies are so small that
/// one asks for the time of a call rather than of memory.
const MAX_ENTRIES: u64 = 256;

/// The last-level cache where the system states none: that of a large desktop processor.
const ASSUMED_LAST_LEVEL: u64 = 32 << 20;

impl CacheState {
    /// The copies to rotate through: one when hot; when cold, as many as take more than twice the
    /// last-level cache, but no more than 512 MiB and 256.
    ///
    /// # Errors
    /// A sentence where so many copies would stay within that cache: the row would be a hot one.
    pub fn entries(self, problem: &Problem, caches: &Caches) -> Result<usize, String> {
        if self == CacheState::Hot {
            return Ok(1);
        }
        let one = footprint(problem).max(1);
        let last_level = caches.last_level().unwrap_or(ASSUMED_LAST_LEVEL);
        let wanted = (2 * last_level / one + 1).min(MAX_BYTES / one).clamp(1, MAX_ENTRIES);
        if wanted * one <= last_level.min(MAX_BYTES / 2) {
            return Err(format!(
                "too small to be timed cold: {wanted} copies of {} lie in a cache of {}",
                bytes(one),
                bytes(last_level)
            ));
        }
        Ok(wanted as usize)
    }
}

/// Bytes of the operands and results of one copy.
pub fn footprint(problem: &Problem) -> u64 {
    problem.operands().iter().chain(&problem.results()).map(Operand::bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(problem: &str, last_level: Option<u64>) -> (usize, u64) {
        let problem: Problem = problem.parse().unwrap();
        let caches = Caches { l3: last_level, ..Caches::default() };
        assert_eq!(CacheState::Hot.entries(&problem, &caches), Ok(1));
        let entries = CacheState::Cold.entries(&problem, &caches).unwrap();
        (entries, entries as u64 * footprint(&problem))
    }

    #[test]
    fn a_rotation_exceeds_twice_the_cache_within_its_caps() {
        // 8 MiB a copy.
        let (count, bytes) = entries("softmax f32 shape=1024x1024", Some(32 << 20));
        assert_eq!(count, 9);
        assert!(bytes > 64 << 20);
        assert_eq!(entries("softmax f32 shape=1024x1024", None), (count, bytes));
        assert_eq!(entries("softmax f32 shape=1024x1024", Some(300 << 20)), (64, MAX_BYTES));
        // One copy larger than the cap, which leaves the cache by itself.
        let (count, bytes) = entries("softmax f32 shape=16384x8192", Some(32 << 20));
        assert_eq!(count, 1);
        assert!(bytes > 2 * (32 << 20));
    }

    #[test]
    fn a_rotation_that_stays_in_a_cache_is_not_called_cold() {
        for (problem, last_level) in [
            ("softmax f16 shape=4x4", 32 << 20),
            ("softmax f32 shape=64x64", 32 << 20),
            ("softmax f32 shape=64x256", 1 << 30),
        ] {
            let caches = Caches { l3: Some(last_level), ..Caches::default() };
            let why = CacheState::Cold.entries(&problem.parse().unwrap(), &caches).unwrap_err();
            assert!(why.contains("256 copies"), "{why}");
        }
    }
}
