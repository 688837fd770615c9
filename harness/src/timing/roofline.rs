//! The machine's measured peaks, and the least time that they allow a problem.
//!
//! The roofline model (Williams, Waterman and Patterson, *Roofline: an insightful visual
//! performance model*, 2009): a kernel needs at least flops ÷ peak arithmetic rate, and at least
//! bytes ÷ peak bandwidth of the memory that its working set lies in. Percentages in reports are
//! of this time, with peaks measured here by the same instructions the kernels use, never of a
//! data sheet.
//!
//! A share above 105 % means that the peak or the declared work is wrong, and is flagged.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use touchstone_kernels::simd::{isa::Isa, peaks};
use touchstone_kernels::{Operand, Problem};

use crate::machine::{Caches, Machine, load_average};

/// The measured limits of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// Model name of the processor.
    pub cpu: String,
    /// The instruction set they were measured with.
    pub isa: String,
    /// Load average of the minute before measuring. A busy machine gives low peaks, and shares above
    /// 105 % later.
    pub load: Option<f64>,
    /// How many measurements these are the best of.
    pub measurements: u32,
    /// The peaks at one thread, and at all.
    pub peaks: Vec<Peaks>,
}

/// The peaks at one number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Threads together.
    pub threads: usize,
    /// Fused multiply-adds on registers, in 10⁹ floating-point operations a second.
    pub fma_gflops: f64,
    /// Bandwidths, from the first level of cache to main memory.
    pub levels: Vec<Level>,
}

/// The bandwidths of one level of the memory hierarchy, in GB (10⁹ bytes) a second, of all threads
/// together. Copies count what is read and what is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub name: String,
    /// Largest working set, in bytes, that fits: of all threads together. Main memory has none.
    pub capacity: Option<u64>,
    /// The working set, in bytes, with which it was measured: of all threads together.
    pub probe: u64,
    /// Reading.
    pub read_gb_s: f64,
    /// Copying with ordinary stores.
    pub copy_gb_s: f64,
    /// Copying with stores that bypass the caches.
    pub nt_copy_gb_s: f64,
}

/// The peaks cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RooflineError {
    /// The file in which they are kept.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The peaks cannot be written as TOML.
    #[error("{path}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: toml::ser::Error,
    },
}

/// What a problem asks of a machine in one iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

impl From<&Problem> for Demand {
    fn from(problem: &Problem) -> Self {
        let work = problem.work();
        let written = problem.results().iter().map(Operand::bytes).sum::<u64>().min(work.bytes);
        Demand { flops: work.flops, read: work.bytes - written, written }
    }
}

/// The least time that the peaks allow.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What limits: `FMA`, `L2 read`, `DRAM copy`, `DRAM nt_copy` …
    pub name: String,
    /// Seconds for one iteration.
    pub seconds: f64,
}

/// A share of the roofline from which on the roofline, not the kernel, is in doubt.
pub const DOUBTFUL: f64 = 1.05;

impl Limit {
    /// The share of the roofline that an iteration of `ns` nanoseconds reaches: 1 is the limit.
    pub fn share(&self, ns: f64) -> f64 {
        self.seconds * 1e9 / ns
    }

    /// Whether a share is more than a measured limit can explain.
    pub fn is_doubtful(&self, ns: f64) -> bool {
        self.share(ns) > DOUBTFUL
    }
}

/// The least time for `demand` when the working set (of one problem, or of a whole rotation of
/// copies) has `working_set` bytes.
///
/// Memory time is taken as the sum of two streams: what is written together with as much that is
/// read goes at the better of the two copy bandwidths, the rest at the read bandwidth. Softmax is
/// then held against a copy, decoding against a read, and a gated unit against both in turn.
pub fn limit(demand: Demand, working_set: u64, peaks: &Peaks) -> Option<Limit> {
    let level = peaks
        .levels
        .iter()
        .find(|level| level.capacity.is_none_or(|capacity| working_set <= capacity))
        .or(peaks.levels.last())?;
    let (copy, copy_name) = if level.nt_copy_gb_s > level.copy_gb_s {
        (level.nt_copy_gb_s, "nt_copy")
    } else {
        (level.copy_gb_s, "copy")
    };
    // A problem that writes more than it reads (sampling from a table) is all copy: reading is not
    // slower than writing on any machine we know.
    let copied = 2 * demand.written;
    let read = demand.read.saturating_sub(demand.written);
    let arithmetic = demand.flops as f64 / (peaks.fma_gflops * 1e9);
    let copying = copied as f64 / (copy * 1e9);
    let reading = read as f64 / (level.read_gb_s * 1e9);
    let (name, seconds) = if arithmetic >= copying + reading {
        ("FMA".to_string(), arithmetic)
    } else {
        let stream = if copying >= reading { copy_name } else { "read" };
        (format!("{} {stream}", level.name), copying + reading)
    };
    Some(Limit { name, seconds })
}

impl Roofline {
    /// The peaks at so many threads. Nothing where those were not measured: no limit is claimed
    /// that was not seen.
    pub fn at(&self, threads: usize) -> Option<&Peaks> {
        self.peaks.iter().find(|peaks| peaks.threads == threads)
    }

    /// The peaks of this machine: those measured before, unless `remeasure` or never measured.
    /// Measuring takes some seconds and wants the machine to itself. What was measured on a busy
    /// machine, such as one that has just compiled this program, is measured once more, and the best
    /// of both counts. `announce` is called before anything is measured.
    ///
    /// Beside them stands why they could not be kept, if so: they serve all the same.
    pub fn of_this_machine(remeasure: bool, announce: impl FnOnce()) -> (Roofline, Option<RooflineError>) {
        let machine = Machine::detect();
        let path = cache_file(&machine, Isa::best());
        let known = path.as_deref().filter(|_| !remeasure).and_then(Roofline::load);
        if let Some(known) = &known
            && !known.is_provisional(&machine)
        {
            return (known.clone(), None);
        }
        announce();
        let measured = Roofline::measure(&machine);
        let roofline = match &known {
            Some(known) => measured.best_of(known),
            None => measured,
        };
        let kept = path.map_or(Ok(()), |path| roofline.save(&path));
        (roofline, kept.err())
    }

    /// Measures the peaks at one thread and at all.
    pub fn measure(machine: &Machine) -> Roofline {
        let isa = Isa::best();
        let load = load_average().map(|[minute, ..]| minute);
        let mut threads = vec![1];
        threads.extend((machine.cores > 1).then_some(machine.cores));
        let peaks = threads.into_iter().map(|threads| measure_peaks(isa, threads, &machine.caches)).collect();
        Roofline { cpu: cpu_name(machine), isa: isa.to_string(), load, measurements: 1, peaks }
    }

    /// Whether the machine was busy when the peaks were measured, and a second look is due.
    fn is_provisional(&self, machine: &Machine) -> bool {
        self.measurements < 2 && self.load.is_some_and(|load| load > machine.cores as f64 / 2.0)
    }

    /// The better of two measurements in each respect: interference only ever slows a probe down.
    fn best_of(mut self, other: &Roofline) -> Roofline {
        for (mine, theirs) in self.peaks.iter_mut().zip(&other.peaks) {
            mine.fma_gflops = mine.fma_gflops.max(theirs.fma_gflops);
            for (mine, theirs) in mine.levels.iter_mut().zip(&theirs.levels) {
                mine.read_gb_s = mine.read_gb_s.max(theirs.read_gb_s);
                mine.copy_gb_s = mine.copy_gb_s.max(theirs.copy_gb_s);
                mine.nt_copy_gb_s = mine.nt_copy_gb_s.max(theirs.nt_copy_gb_s);
            }
        }
        self.measurements += other.measurements;
        self
    }

    /// Reads what [`save`](Roofline::save) wrote. A file that is missing, of another version or damaged
    /// means only that the peaks must be measured again.
    fn load(path: &Path) -> Option<Roofline> {
        toml::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    fn save(&self, path: &Path) -> Result<(), RooflineError> {
        let format = |source| RooflineError::Format { path: path.into(), source };
        let file = |source| RooflineError::File { path: path.into(), source };
        let text = toml::to_string_pretty(self).map_err(format)?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(file)?;
        }
        // Renamed into place, so that no reader sees half of it.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(file)
    }
}

fn cpu_name(machine: &Machine) -> String {
    machine.cpu.clone().unwrap_or_else(|| "unknown".into())
}

/// Where the peaks of a machine are kept: one file for each processor, instruction set and cache.
fn cache_file(machine: &Machine, isa: Isa) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    let identity = format!("{} {} {:?} {isa} {VERSION}", cpu_name(machine), machine.cores, machine.caches);
    let mut name = String::from("roofline-");
    // Writing to a String cannot fail.
    let _ = write!(name, "{:016x}.toml", fnv1a(identity.as_bytes()));
    Some(directory.join("touchstone").join(name))
}

/// Raised when the way of measuring changes, so that older files are not read.
const VERSION: u32 = 2;

/// FNV-1a: the same in every build, which the standard hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3))
}

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
enum Probe {
    Fma,
    Read,
    Copy,
    NtCopy,
}

/// The levels of this machine for `threads` threads: name, capacity, and the bytes each thread probes.
///
/// A probe takes half of a cache, so that all of it stays. The third level is shared and, under a
/// hypervisor, not all ours: its probe is twice the second level, where it is fastest, since a
/// limit must not be below what a kernel can reach.
fn levels(caches: &Caches, threads: usize) -> Vec<(&'static str, Option<u64>, u64)> {
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

fn measure_peaks(isa: Isa, threads: usize, caches: &Caches) -> Peaks {
    let levels = levels(caches, threads);
    let largest = levels.iter().map(|&(_, _, bytes)| bytes).max().unwrap_or(0);
    let probes: Vec<(Probe, u64)> =
        std::iter::once((Probe::Fma, 0))
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
        levels: levels.iter().zip(rates[1..].chunks_exact(3)).map(level).collect(),
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
struct Bench {
    isa: Isa,
    from: Vec<f32>,
    to: Vec<f32>,
}

/// Floats in a cache line: the alignment that non-temporal stores ask for.
const LINE: usize = 16;

/// FMA iterations in one pass: some microseconds.
const FMA_PASS: u64 = 1000;

impl Bench {
    /// Buffers for reading `bytes`, or copying half of them. Ones, since pages of zeros may be shared by the
    /// system until they are written.
    fn new(isa: Isa, bytes: u64) -> Self {
        let elements = (bytes / 4) as usize;
        Bench { isa, from: vec![1.0; elements + LINE], to: vec![1.0; elements / 2 + LINE] }
    }

    /// Passes that take about [`PROBE`], by doubling: which also warms clock and caches up.
    fn passes(&mut self, probe: (Probe, u64)) -> u64 {
        let mut passes = 1;
        loop {
            let start = Instant::now();
            self.work(probe, passes);
            if start.elapsed() >= PROBE / 2 {
                return passes;
            }
            passes *= 2;
        }
    }

    /// Does the work of a probe, and says how much it was: operations, or bytes read and written.
    fn work(&mut self, (probe, bytes): (Probe, u64), passes: u64) -> u64 {
        let Bench { isa, from, to } = self;
        // A copy has half its working set on either side.
        let half = (bytes / 8) as usize;
        let from = &aligned(from)[..2 * half];
        let to = &mut aligned(to)[..half];
        match probe {
            Probe::Fma => return peaks::fma(*isa, FMA_PASS * passes),
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
fn aligned(buffer: &mut [f32]) -> &mut [f32] {
    let skip = buffer.as_ptr().align_offset(4 * LINE);
    &mut buffer[skip.min(LINE)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 GFLOP/s, and round bandwidths.
    fn peaks() -> Peaks {
        let level = |name: &str, capacity, read_gb_s, copy_gb_s, nt_copy_gb_s| Level {
            name: name.into(),
            capacity,
            probe: 0,
            read_gb_s,
            copy_gb_s,
            nt_copy_gb_s,
        };
        let levels =
            vec![level("L2", Some(1 << 20), 100.0, 80.0, 10.0), level("DRAM", None, 20.0, 10.0, 16.0)];
        Peaks { threads: 1, fma_gflops: 100.0, levels }
    }

    fn limit_of(flops: u64, read: u64, written: u64, working_set: u64) -> (String, f64) {
        let Limit { name, seconds } = limit(Demand { flops, read, written }, working_set, &peaks()).unwrap();
        (name, (seconds * 1e12).round() / 1e12)
    }

    #[test]
    fn the_slower_of_arithmetic_and_memory_limits() {
        assert_eq!(limit_of(1_000_000, 80, 80, 160), ("FMA".into(), 1e-5));
        assert_eq!(limit_of(0, 80_000, 80_000, 160_000), ("L2 copy".into(), 2e-6));
        assert_eq!(limit_of(0, 80_000, 80_000, 2 << 20), ("DRAM nt_copy".into(), 1e-5));
        assert_eq!(limit_of(0, 200_000, 0, 2 << 20), ("DRAM read".into(), 1e-5));
        // A copy of one part and reading of the rest, in turn.
        assert_eq!(limit_of(0, 190_000, 40_000, 1 << 20), ("L2 read".into(), 2.5e-6));
        assert_eq!(limit_of(0, 0, 40_000, 1 << 20), ("L2 copy".into(), 1e-6));
    }

    #[test]
    fn a_share_beyond_the_limit_is_doubtful() {
        let limit = Limit { name: "FMA".into(), seconds: 1e-6 };
        assert!((limit.share(2000.0) - 0.5).abs() < 1e-12);
        assert!(!limit.is_doubtful(960.0));
        assert!(limit.is_doubtful(950.0));
    }

    #[test]
    fn demand_of_a_problem() {
        let problem: Problem = "softmax f32 shape=4x1024".parse().unwrap();
        let demand = Demand::from(&problem);
        assert_eq!((demand.read, demand.written), (16384, 16384));
        assert_eq!(demand.flops, problem.work().flops);
        let decode: Problem = "attention f16 h=8 lq=1 lk=1024 d=64".parse().unwrap();
        let demand = Demand::from(&decode);
        assert!(demand.read > 1000 * demand.written, "{demand:?}");
    }

    #[test]
    fn levels_ascend_and_end_in_memory() {
        let caches = Caches { l1d: Some(32 << 10), l2: Some(512 << 10), l3: Some(32 << 20) };
        for caches in [caches, Caches { l3: None, ..caches }, Caches::default()] {
            for threads in [1, 2, 64] {
                let levels = levels(&caches, threads);
                assert_eq!(levels.last().map(|&(name, capacity, _)| (name, capacity)), Some(("DRAM", None)));
                for (name, capacity, probe) in &levels {
                    let together = probe * threads as u64;
                    assert!(*probe > 0 && capacity.is_none_or(|bytes| together <= bytes), "{name}");
                }
            }
        }
    }

    fn measured_under(load: f64) -> Roofline {
        Roofline {
            cpu: "a".into(),
            isa: "avx2".into(),
            load: Some(load),
            measurements: 1,
            peaks: vec![peaks()],
        }
    }

    #[test]
    fn a_busy_machine_is_measured_twice() {
        let machine = Machine { cores: 4, ..Machine::detect() };
        assert!(!measured_under(1.9).is_provisional(&machine));
        let (first, mut second) = (measured_under(2.1), measured_under(2.1));
        assert!(first.is_provisional(&machine));
        second.peaks[0].fma_gflops *= 2.0;
        second.peaks[0].levels[0].read_gb_s /= 2.0;
        let best = second.clone().best_of(&first);
        assert!(!best.is_provisional(&machine));
        assert_eq!(best.peaks[0].fma_gflops, second.peaks[0].fma_gflops);
        assert_eq!(best.peaks[0].levels[0].read_gb_s, first.peaks[0].levels[0].read_gb_s);
    }

    #[test]
    fn what_is_kept_is_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("touchstone/roofline.toml");
        assert_eq!(Roofline::load(&path), None);
        let roofline = measured_under(0.5);
        roofline.save(&path).unwrap();
        assert_eq!(Roofline::load(&path), Some(roofline));
        fs::write(&path, "cpu = ").unwrap();
        assert_eq!(Roofline::load(&path), None);
    }

    #[test]
    fn probes_do_the_work_they_count() {
        for isa in Isa::present() {
            let mut bench = Bench::new(isa, 4096);
            assert!(bench.work((Probe::Fma, 0), 1) > 0);
            assert_eq!(bench.work((Probe::Read, 4096), 3), 3 * 4096);
            bench.from.fill(7.0);
            for probe in [Probe::Copy, Probe::NtCopy] {
                bench.to.fill(0.0);
                assert_eq!(bench.work((probe, 4096), 2), 2 * 4096);
                assert!(aligned(&mut bench.to)[..512].iter().all(|&x| x == 7.0));
            }
        }
    }

    #[test]
    #[ignore = "measures this machine: wants it to itself"]
    fn this_machine() {
        let start = Instant::now();
        let roofline = Roofline::measure(&Machine::detect());
        println!(
            "{}
{:.1} s",
            toml::to_string_pretty(&roofline).unwrap(),
            start.elapsed().as_secs_f64()
        );
    }
}
