//! Probes: what this machine reaches in arithmetic, reading and copying at each level of its memory.

use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use touchstone_kernels::simd::isa::Isa;
use touchstone_kernels::simd::peaks;

use super::{Level, Peaks};
use crate::machine::Caches;

/// Rounds over all probes; the best of each counts. Interference only ever slows a probe down.
const ROUNDS: usize = 11;

/// Rounds made even when time is up.
const MIN_ROUNDS: usize = 3;

/// Time for the rounds of one thread count: a busy machine is slow, but a person still waits.
const BUDGET: Duration = Duration::from_secs(6);

/// Time for one probe in one round: long beside the start of a thread, short beside the patience of a
/// person.
const PROBE: Duration = Duration::from_millis(20);

/// Bytes that no last-level cache we know of holds for one machine: see the rotation of cold problems.
const DRAM_BYTES: u64 = 512 << 20;

/// What one probe measures.
#[derive(Clone, Copy)]
pub(super) enum Probe {
    Fma,
    Bf16,
    Read,
    Copy,
    NtCopy,
}

/// The levels of this machine for `threads` threads: name, capacity, and the bytes each thread probes.
///
/// A probe takes half of a cache, so that all of it stays. The third level is shared and, under a
/// hypervisor, not all ours: its probe is twice the second level, where it is fastest, since a
/// limit must not be below what a kernel can reach.
pub(super) fn levels(caches: &Caches, threads: usize) -> Vec<(&'static str, Option<u64>, u64)> {
    let count = threads as u64;
    let mut levels = Vec::new();
    for (name, cache) in [("L1", caches.l1d), ("L2", caches.l2)] {
        levels.extend(cache.map(|bytes| (name, Some(bytes * count), bytes / 2)));
    }
    let inner = caches.l2.or(caches.l1d).unwrap_or(1 << 20);
    levels.extend(caches.l3.map(|bytes| ("L3", Some(bytes), (2 * inner).min(bytes / 2 / count))));
    let dram = caches.last_level().map_or(DRAM_BYTES, |bytes| (2 * bytes).min(DRAM_BYTES));
    levels.push(("DRAM", None, dram.max(64 << 20) / count));
    levels
}

pub(super) fn measure_peaks(isa: Isa, threads: usize, caches: &Caches) -> Peaks {
    let levels = levels(caches, threads);
    let largest = levels.iter().map(|&(_, _, bytes)| bytes).max().unwrap_or(0);
    let probes: Vec<(Probe, u64)> =
        [(Probe::Fma, 0), (Probe::Bf16, 0)]
            .into_iter()
            .chain(levels.iter().flat_map(|&(_, _, bytes)| {
                [(Probe::Read, bytes), (Probe::Copy, bytes), (Probe::NtCopy, bytes)]
            }))
            .collect();
    let rates = best_rates(isa, threads, largest, &probes);
    let level = |(&(name, capacity, probe), rates): (&(&str, Option<u64>, u64), &[f64])| Level {
        name: name.into(),
        capacity,
        probe: probe * threads as u64,
        read_gb_s: rates[0],
        copy_gb_s: rates[1],
        nt_copy_gb_s: rates[2],
    };
    Peaks {
        threads,
        fma_gflops: rates[0],
        bf16_gflops: (rates[1] > 0.0).then_some(rates[1]),
        levels: levels.iter().zip(rates[2..].chunks_exact(3)).map(level).collect(),
    }
}

/// The best rate of each probe over all rounds, in units of 10⁹ a second, of all threads together.
fn best_rates(isa: Isa, threads: usize, buffer_bytes: u64, probes: &[(Probe, u64)]) -> Vec<f64> {
    let barrier = Barrier::new(threads);
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let run = || {
        let mut bench = Bench::new(isa, buffer_bytes);
        let passes: Vec<u64> = probes.iter().map(|&probe| bench.passes(probe)).collect();
        let mut stints = Vec::with_capacity(ROUNDS * probes.len());
        for round in 0..ROUNDS {
            // One thread looks at the clock for all, between two barriers.
            if barrier.wait().is_leader() {
                over.store(round >= MIN_ROUNDS && start.elapsed() > BUDGET, Ordering::Relaxed);
            }
            barrier.wait();
            if over.load(Ordering::Relaxed) {
                break;
            }
            for (&probe, &passes) in probes.iter().zip(&passes) {
                barrier.wait();
                let begin = Instant::now();
                let work = bench.work(probe, passes);
                stints.push(Stint { begin, end: Instant::now(), work });
            }
        }
        stints
    };
    let of_threads: Vec<Vec<Stint>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let join =
            |handle: ScopedJoinHandle<'_, _>| handle.join().unwrap_or_else(|panic| resume_unwind(panic));
        handles.into_iter().map(join).collect()
    });
    let mut best = vec![0.0; probes.len()];
    for i in 0..of_threads[0].len() {
        let slot: &mut f64 = &mut best[i % probes.len()];
        *slot = slot.max(rate(of_threads.iter().map(|stints| &stints[i])));
    }
    best
}

/// One thread's part in one probe.
struct Stint {
    begin: Instant,
    end: Instant,
    work: u64,
}

/// The rate of threads together, in 10⁹ a second, from the first to begin to the last to end.
fn rate<'a>(stints: impl Iterator<Item = &'a Stint> + Clone) -> f64 {
    let begin = stints.clone().map(|stint| stint.begin).min();
    let end = stints.clone().map(|stint| stint.end).max();
    let work: u64 = stints.map(|stint| stint.work).sum();
    begin.zip(end).map_or(0.0, |(begin, end)| work as f64 / (end - begin).as_secs_f64() / 1e9)
}

/// One thread's buffers. They are its own, and touched by it.
pub(super) struct Bench {
    isa: Isa,
    pub(super) from: Vec<f32>,
    pub(super) to: Vec<f32>,
}

/// Floats in a cache line: the alignment that non-temporal stores ask for.
const LINE: usize = 16;

/// FMA iterations in one pass: some microseconds.
const FMA_PASS: u64 = 1000;

/// Small matrix products of bf16 in one pass: some microseconds.
const BF16_PASS: u64 = 4;

impl Bench {
    /// Buffers for reading `bytes`, or copying half of them. Ones, since pages of zeros may be shared by the
    /// system until they are written.
    pub(super) fn new(isa: Isa, bytes: u64) -> Self {
        let elements = (bytes / 4) as usize;
        Bench { isa, from: vec![1.0; elements + LINE], to: vec![1.0; elements / 2 + LINE] }
    }

    /// Passes that take about [`PROBE`], by doubling: which also warms clock and caches up.
    fn passes(&mut self, probe: (Probe, u64)) -> u64 {
        let mut passes = 1;
        loop {
            let start = Instant::now();
            self.work(probe, passes);
            if start.elapsed() >= PROBE / 2 || (matches!(probe.0, Probe::Bf16) && !peaks::has_bf16()) {
                return passes;
            }
            passes *= 2;
        }
    }

    /// Does the work of a probe, and says how much it was: operations, or bytes read and written.
    pub(super) fn work(&mut self, (probe, bytes): (Probe, u64), passes: u64) -> u64 {
        let Bench { isa, from, to } = self;
        // A copy has half its working set on either side.
        let half = (bytes / 8) as usize;
        let from = &aligned(from)[..2 * half];
        let to = &mut aligned(to)[..half];
        match probe {
            Probe::Fma => return peaks::fma(*isa, FMA_PASS * passes),
            Probe::Bf16 => return peaks::bf16(BF16_PASS * passes),
            Probe::Read => (0..passes).for_each(|_| {
                black_box(peaks::read(*isa, black_box(from)));
            }),
            Probe::Copy => {
                (0..passes).for_each(|_| peaks::copy(*isa, black_box(&from[..half]), black_box(&mut *to)));
            }
            Probe::NtCopy => {
                (0..passes).for_each(|_| peaks::nt_copy(*isa, black_box(&from[..half]), black_box(&mut *to)));
            }
        }
        // Reading two halves, or reading one and writing the other.
        8 * half as u64 * passes
    }
}

/// The part of a buffer that begins with a cache line.
pub(super) fn aligned(buffer: &mut [f32]) -> &mut [f32] {
    let skip = buffer.as_ptr().align_offset(4 * LINE);
    &mut buffer[skip.min(LINE)..]
}
