//! The machine's own limits, measured with the instructions that the kernels use.
//!
//! A rate is the caller's to compute: each function does a known amount of work, which must be
//! timed from outside. Percentages in reports refer to these, never to a data sheet.

use std::hint::black_box;

use super::isa::Isa;
use super::lanes::{Kernel, Lanes};

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
