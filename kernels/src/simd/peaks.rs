//! The machine's own limits, measured with the instructions that the kernels use.
//!
//! A rate is the caller's to compute: each function does a known amount of work, which must be
//! timed from outside. Percentages in reports refer to these, never to a data sheet.

use std::hint::black_box;

use super::isa::Isa;
use super::lanes::{Kernel, Lanes};
use super::pairs::Pairs;
use super::tiles::{BLOCK, Chunk, TILE, Tiles};

/// Independent chains of FMA: twice what two pipes with a latency of four cycles need, and few
/// enough for sixteen registers together with the two factors.
const CHAINS: usize = 14;

/// Runs fused multiply-adds that depend on nothing but registers; 14 independent chains,
/// `iterations` long. Returns the floating-point operations executed: two for each lane of each
/// FMA.
pub fn fma(isa: Isa, iterations: u64) -> u64 {
    isa.run(Fma { iterations });
    2 * isa.lanes() as u64 * CHAINS as u64 * iterations
}

struct Fma {
    iterations: u64,
}

impl Kernel for Fma {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        // x ← x/2 + 1 converges to 2, so that no operand is ever subnormal or infinite.
        let (factor, term) = (lanes.splat(black_box(0.5)), lanes.splat(black_box(1.0)));
        let mut chains = [lanes.splat(black_box(0.0)); CHAINS];
        for _ in 0..self.iterations {
            for chain in &mut chains {
                *chain = lanes.mul_add(*chain, factor, term);
            }
        }
        let mut sum = lanes.splat(0.0);
        for chain in chains {
            sum = lanes.add(sum, chain);
        }
        black_box(lanes.reduce_add(sum));
    }
}

/// Whether this processor has instructions for products of bf16.
pub fn has_bf16() -> bool {
    Tiles::detect().is_some() || Pairs::detect().is_some()
}

/// Multiplies small matrices of bf16 that stay in the first cache, by AMX or else AVX512-BF16, as our
/// attention does. Returns the floating-point operations executed: 0 where there is neither.
pub fn bf16(products: u64) -> u64 {
    // Words of two bf16 ones.
    let one = f32::from_bits(0x3f80_3f80);
    if let Some(tiles) = Tiles::detect() {
        // 32×32 sums over chunks of 32 bf16: 8 chunks are 32 KB of operands.
        const CHUNKS: usize = 8;
        let session = tiles.session();
        let a = vec![one; BLOCK * TILE * CHUNKS];
        let b = vec![one; BLOCK * TILE * CHUNKS];
        let chunks: Vec<Chunk> = (0..CHUNKS).map(|i| Chunk { a: i * TILE, b: i * TILE * BLOCK }).collect();
        let mut c = vec![0.0; BLOCK * BLOCK];
        for _ in 0..products {
            session.multiply(black_box(&a), TILE * CHUNKS, black_box(&b), &chunks, black_box(&mut c));
        }
        return products * (2 * BLOCK * BLOCK * 2 * TILE * CHUNKS) as u64;
    }
    let Some(pairs) = Pairs::detect() else { return 0 };
    // 64 keys of 64 bf16 against three vectors of queries.
    const KEYS: usize = 64;
    const DEPTH: usize = 64;
    const VECTORS: usize = 3;
    let k = vec![0x3f80_u16; KEYS * DEPTH];
    let q = vec![one; DEPTH / 2 * VECTORS * 16];
    let mut s = vec![0.0; KEYS * VECTORS * 16];
    for _ in 0..products {
        pairs.scores::<VECTORS>(black_box(&k), DEPTH, black_box(&q), black_box(&mut s));
    }
    products * (2 * KEYS * DEPTH * VECTORS * 16) as u64
}

/// Reads every element once and returns their sum (of all whole blocks of eight vectors), which
/// keeps the reads from being optimized away.
pub fn read(isa: Isa, x: &[f32]) -> f32 {
    isa.run(Read { x })
}

struct Read<'a> {
    x: &'a [f32],
}

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        const STREAMS: usize = 8;
        let mut sums = [lanes.splat(0.0); STREAMS];
        let blocks = self.x.chunks_exact(STREAMS * L::N);
        let rest = blocks.remainder();
        for block in blocks {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = lanes.add(*sum, lanes.load(&block[i * L::N..]));
            }
        }
        let mut total = lanes.splat(0.0);
        for sum in sums {
            total = lanes.add(total, sum);
        }
        lanes.reduce_add(total) + rest.iter().sum::<f32>()
    }
}

/// Copies with ordinary stores, which read the destination's cache lines first.
///
/// # Panics
/// When the lengths differ.
pub fn copy(isa: Isa, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "source and destination of a copy");
    isa.run(Copy { x, out, past_caches: false });
}

/// Copies with non-temporal stores, which write past the caches: the limit for a kernel whose
/// output nobody reads soon. Needs a destination aligned to 64 bytes to be one.
///
/// # Panics
/// When the lengths differ.
pub fn nt_copy(isa: Isa, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "source and destination of a copy");
    isa.run(Copy { x, out, past_caches: true });
}

struct Copy<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    past_caches: bool,
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        const STREAMS: usize = 4;
        let mut from = self.x.chunks_exact(STREAMS * L::N);
        let mut to = self.out.chunks_exact_mut(STREAMS * L::N);
        if self.past_caches {
            for (x, out) in from.by_ref().zip(to.by_ref()) {
                for i in (0..STREAMS).map(|i| i * L::N) {
                    lanes.stream(&mut out[i..], lanes.load(&x[i..]));
                }
            }
            lanes.fence();
        } else {
            for (x, out) in from.by_ref().zip(to.by_ref()) {
                for i in (0..STREAMS).map(|i| i * L::N) {
                    lanes.store(&mut out[i..], lanes.load(&x[i..]));
                }
            }
        }
        to.into_remainder().copy_from_slice(from.remainder());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_reads_every_element() {
        for isa in Isa::present() {
            for len in [0, 1, 63, 64, 65, 1000] {
                let x: Vec<f32> = (0..len).map(|i| (i % 7) as f32).collect();
                assert_eq!(read(isa, &x), x.iter().sum::<f32>(), "{isa} {len}");
                for copy in [copy, nt_copy] {
                    let mut out = vec![f32::NAN; len];
                    copy(isa, &x, &mut out);
                    assert_eq!(out, x, "{isa} {len}");
                }
            }
        }
    }

    #[test]
    #[ignore = "prints rates of this machine"]
    fn rates() {
        let x = vec![1.0; 1 << 26];
        let mut out = aligned_vec::AVec::<f32>::from_slice(64, &vec![0.0; 1 << 26]);
        for isa in Isa::present() {
            let time = |name: &str, unit: f64, work: &mut dyn FnMut()| {
                work();
                let start = std::time::Instant::now();
                work();
                println!("{isa} {name}: {:.1} G/s", unit / start.elapsed().as_secs_f64() / 1e9);
            };
            let flops = fma(isa, 10_000_000) as f64;
            time("fma", flops, &mut || {
                fma(isa, 10_000_000);
            });
            time("read", 4.0 * x.len() as f64, &mut || {
                read(isa, &x);
            });
            time("copy", 8.0 * x.len() as f64, &mut || copy(isa, &x, &mut out));
            time("nt_copy", 8.0 * x.len() as f64, &mut || nt_copy(isa, &x, &mut out));
        }
    }
}
