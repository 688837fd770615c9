//! Intel's AMX: products of bf16 matrices in tile registers.
//!
//! A tile is sixteen rows of 64 bytes: sixteen f32, or 32 bf16. One instruction adds to a tile of
//! sums the product of two others: 16,384 operations in 16 cycles, where two AVX-512 multiply-adds a
//! cycle make 1,024.
//!
//! What it computes: each sum takes the products of two neighbouring bf16, exact in f32, by additions
//! that round to nearest even. Subnormal operands count as zero, and subnormal sums become zero,
//! whatever the thread's modes are.
//!
//! The memory side is in *words*, each of two bf16, the first in the lower half; they travel in slices
//! of f32 like everything else here.

/// Words in a row of a tile, and f32 too.
pub const TILE: usize = 16;

/// Rows and columns of a block of sums: two tiles by two.
pub const BLOCK: usize = 2 * TILE;

pub use machine::{Session, Tiles};

/// Where a product of [`Session::multiply`] begins in its two operands.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Chunk {
    /// The first word of 32 rows of the left operand.
    pub a: usize,
    /// The first of the right operand's 16 rows of 32 words, which follow each other.
    pub b: usize,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod machine {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::cell::Cell;
    use std::marker::PhantomData;
    use std::sync::LazyLock;

    use super::{BLOCK, Chunk, TILE};

    /// The proof that this CPU has AMX for bf16 and that Linux lets this process use it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Tiles(());

    impl Tiles {
        /// The proof, where it can be had. The first call asks Linux for the tiles' place in the
        /// state of this process's threads, for good.
        pub fn detect() -> Option<Self> {
            static DETECTED: LazyLock<bool> = LazyLock::new(|| {
                const BF16: u32 = 1 << 22;
                const TILE: u32 = 1 << 24;
                const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
                const XFEATURE_XTILEDATA: libc::c_long = 18;
                let features = __cpuid_count(7, 0).edx;
                // SAFETY: the call reads its two numbers and changes what later threads may use.
                features & BF16 != 0
                    && features & TILE != 0
                    && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) }
                        == 0
            });
            DETECTED.then_some(Tiles(()))
        }

        /// Sets up the tiles of this thread. Sessions of one thread may overlap: the tiles are released
        /// when the last of them ends.
        pub fn session(self) -> Session {
            /// What `ldtilecfg` reads: eight tiles of sixteen rows of 64 bytes.
            #[repr(C, align(64))]
            struct Config {
                palette: u8,
                start_row: u8,
                reserved: [u8; 14],
                row_bytes: [u16; 16],
                rows: [u8; 16],
            }
            static CONFIG: Config = Config {
                palette: 1,
                start_row: 0,
                reserved: [0; 14],
                row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
                rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
            };
            SESSIONS.set(SESSIONS.get() + 1);
            // SAFETY: the token proves AMX; 64 bytes are readable. Where the tiles are set up already, they
            // are set up the same way again; no product is under way on this thread.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags)) };
            Session(PhantomData)
        }
    }

    thread_local! {
        /// Sessions of this thread that are open.
        static SESSIONS: Cell<usize> = const { Cell::new(0) };
    }

    /// The tiles of this thread while they are set up. It stays on its thread.
    #[derive(Debug)]
    pub struct Session(PhantomData<*const ()>);

    impl Drop for Session {
        fn drop(&mut self) {
            let others = SESSIONS.get() - 1;
            SESSIONS.set(others);
            if others == 0 {
                // SAFETY: a session exists only where AMX does. No other session of this thread is open.
                unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
            }
        }
    }

    impl Session {
        /// Σ over chunks of A·B, to the 32 rows of 32 f32 that begin `c`, which lie BLOCK apart: A is
        /// 32 rows of 32 bf16 that lie `stride` words apart, B sixteen rows of 32 words, each holding
        /// two rows of the product's right operand.
        ///
        /// # Panics
        /// When a chunk or the sums do not fit into their slices.
        #[inline]
        pub fn multiply(&self, a: &[f32], stride: usize, b: &[f32], chunks: &[Chunk], c: &mut [f32]) {
            let fits = |chunk: &Chunk| {
                let (rows, words) = ((BLOCK - 1) * stride + TILE, TILE * BLOCK);
                chunk.a.checked_add(rows).is_some_and(|end| end <= a.len())
                    && chunk.b.checked_add(words).is_some_and(|end| end <= b.len())
            };
            assert!(chunks.iter().all(fits) && stride <= a.len(), "a chunk lies outside its operand");
            assert!(c.len() >= BLOCK * BLOCK && !chunks.is_empty(), "no room for the sums");
            // SAFETY: a session exists only where AMX does. Tile loads read 16 rows of 64 bytes: of A
            // at a, a + 16·stride, each row `stride` words after the other, of B at b and 16 words on,
            // each row 32 words after the other; all within their slices, as asserted. Tile stores
            // write 32 rows of 128 bytes, as asserted. All eight tiles are clobbers.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "mov {at}, qword ptr [{chunk}]",
                    "lea {at}, [{a} + {at}*4]",
                    "tileloadd tmm4, [{at} + {stride}*1]",
                    "add {at}, {half}",
                    "tileloadd tmm5, [{at} + {stride}*1]",
                    "mov {at}, qword ptr [{chunk} + 8]",
                    "lea {at}, [{b} + {at}*4]",
                    "tileloadd tmm6, [{at} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [{at} + {row}*1 + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {chunk}, 16",
                    "cmp {chunk}, {end}",
                    "jne 2b",
                    "tilestored [{c} + {row}*1], tmm0",
                    "tilestored [{c} + {row}*1 + 64], tmm1",
                    "tilestored [{c} + {row}*1 + 2048], tmm2",
                    "tilestored [{c} + {row}*1 + 2112], tmm3",
                    a = in(reg) a.as_ptr(),
                    b = in(reg) b.as_ptr(),
                    c = in(reg) c.as_mut_ptr(),
                    chunk = inout(reg) chunks.as_ptr() => _,
                    end = in(reg) chunks.as_ptr_range().end,
                    stride = in(reg) stride * 4,
                    half = in(reg) stride * 4 * TILE,
                    row = in(reg) BLOCK * 4,
                    at = out(reg) _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod machine {
    use std::convert::Infallible;

    use super::Chunk;

    /// Nothing here has tiles.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Tiles(Infallible);

    /// Nor do its threads.
    #[derive(Debug)]
    pub struct Session(Infallible);

    impl Tiles {
        /// None.
        pub fn detect() -> Option<Self> {
            None
        }

        /// Never called.
        pub fn session(self) -> Session {
            Session(self.0)
        }
    }

    impl Session {
        /// Never called.
        pub fn multiply(&self, _: &[f32], _: usize, _: &[f32], _: &[Chunk], _: &mut [f32]) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of one session must not take the tiles from another on the same thread.
    #[test]
    #[cfg_attr(not(has_amx), ignore = "no AMX on this machine")]
    fn a_session_outlives_another_of_its_thread() {
        let tiles = Tiles::detect().expect("this was built on a machine with AMX");
        let ones = vec![f32::from_bits(0x3f80_3f80); TILE * BLOCK];
        let [first, second] = [tiles.session(), tiles.session()];
        drop(first);
        let mut c = vec![f32::NAN; BLOCK * BLOCK];
        second.multiply(&ones, TILE, &ones, &[Chunk { a: 0, b: 0 }], &mut c);
        assert!(c.iter().all(|&sum| sum == 2.0 * TILE as f32), "{c:?}");
    }

    /// Small integers, of which every sum is exact.
    #[test]
    #[cfg_attr(not(has_amx), ignore = "no AMX on this machine")]
    fn a_block_of_sums_is_that_of_the_definition() {
        let tiles = Tiles::detect().expect("this was built on a machine with AMX");
        let (stride, chunks) = (40, [Chunk { a: 3, b: 512 }, Chunk { a: 19, b: 0 }]);
        let number = |i: usize| ((i * 37 % 17) as f32 - 8.0, (i * 11 % 13) as f32 - 6.0);
        let word = |(low, high): (f32, f32)| f32::from_bits(low.to_bits() >> 16 | high.to_bits());
        let a: Vec<(f32, f32)> = (0..stride * BLOCK).map(number).collect();
        let b: Vec<(f32, f32)> = (0..2 * TILE * BLOCK).map(|i| number(i + 5)).collect();
        let [a_words, b_words] = [&a, &b].map(|x| x.iter().map(|&x| word(x)).collect::<Vec<f32>>());
        let mut c = vec![f32::NAN; BLOCK * BLOCK];
        tiles.session().multiply(&a_words, stride, &b_words, &chunks, &mut c);
        for (i, c) in c.iter().enumerate() {
            let (row, column) = (i / BLOCK, i % BLOCK);
            let sum: f32 = chunks
                .iter()
                .flat_map(|chunk| {
                    (0..TILE).map(move |k| (chunk.a + row * stride + k, chunk.b + k * BLOCK + column))
                })
                .map(|(i, j)| a[i].0 * b[j].0 + a[i].1 * b[j].1)
                .sum();
            assert_eq!(*c, sum, "[{row}, {column}]");
        }
    }

    #[test]
    #[cfg_attr(not(has_amx), ignore = "no AMX on this machine")]
    fn a_chunk_outside_is_refused() {
        let tiles = Tiles::detect().expect("this was built on a machine with AMX");
        let (a, b) = (vec![0.0; BLOCK * TILE], vec![0.0; TILE * BLOCK]);
        for chunk in [Chunk { a: 1, b: 0 }, Chunk { a: 0, b: 1 }, Chunk { a: usize::MAX, b: 0 }] {
            let outside = std::panic::catch_unwind(|| {
                tiles.session().multiply(&a, TILE, &b, &[chunk], &mut vec![0.0; BLOCK * BLOCK]);
            });
            assert!(outside.is_err(), "{chunk:?}");
        }
    }
}
