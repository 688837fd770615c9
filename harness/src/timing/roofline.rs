//! The machine's measured peaks, and the least time that they allow a problem.
//!
//! The roofline model (Williams, Waterman and Patterson, *Roofline: an insightful visual
//! performance model*, 2009): a kernel needs at least flops ÷ peak arithmetic rate, and at least
//! bytes ÷ peak bandwidth of the memory that its working set lies in. Percentages in reports are
//! of this time, with peaks measured here by the same instructions the kernels use, never of a
//! data sheet.
//!
//! The work is what the data make visible (masks, lengths, windows), so that a kernel which skips the rest
//! does not exceed the limit. A share whose interval lies above 110 % is not believed
//! ([`honesty`](super::honesty)).

mod probe;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use touchstone_kernels::simd::isa::Isa;
use touchstone_kernels::{DType, DevicePeaks, Operand, Problem, Work};

use self::probe::measure_peaks;
use crate::fnv1a::fnv1a;
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
    /// Products of bf16 by the instructions that this processor has for them (AVX512-BF16, AMX), where it
    /// has any.
    #[serde(default)]
    pub bf16_gflops: Option<f64>,
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

impl Peaks {
    /// The best rate of arithmetic for a storage type. Nothing here computes in f16, and libraries may
    /// (AVX512-FP16 doubles the lanes): twice the rate of f32 is allowed for.
    fn gflops(&self, dtype: DType) -> f64 {
        match dtype {
            DType::F32 => self.fma_gflops,
            DType::F16 => 2.0 * self.fma_gflops,
            DType::BF16 => self.bf16_gflops.unwrap_or(0.0).max(self.fma_gflops),
        }
    }
}

impl Demand {
    /// What a problem asks for whose inputs ask for so much work.
    pub fn of(problem: &Problem, work: Work) -> Self {
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

impl Limit {
    /// The share of the roofline that an iteration of `ns` nanoseconds reaches: 1 is the limit.
    pub fn share(&self, ns: f64) -> f64 {
        self.seconds * 1e9 / ns
    }
}

/// The least time for `demand` when the working set (of one problem, or of a whole rotation of
/// copies) has `working_set` bytes.
///
/// Memory time is taken as the sum of two streams: what is written together with as much that is
/// read goes at the better of the two copy bandwidths, the rest at the read bandwidth. Softmax is
/// then held against a copy, decoding against a read, and a gated unit against both in turn.
pub fn limit(demand: Demand, working_set: u64, dtype: DType, peaks: &Peaks) -> Option<Limit> {
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
    let arithmetic = demand.flops as f64 / (peaks.gflops(dtype) * 1e9);
    let copying = copied as f64 / (copy * 1e9);
    let reading = read as f64 / (level.read_gb_s * 1e9);
    let (name, seconds) = if arithmetic >= copying + reading {
        let name = if dtype == DType::BF16 && peaks.bf16_gflops.is_some() { "bf16 products" } else { "FMA" };
        (name.to_string(), arithmetic)
    } else {
        let stream = if copying >= reading { copy_name } else { "read" };
        (format!("{} {stream}", level.name), copying + reading)
    };
    Some(Limit { name, seconds })
}

/// The least time for `demand` on a device: at the rate of its matrix products in that storage
/// type, or at that of copying. Nothing for a working set that its cache may hold, unless it is the
/// arithmetic that limits: how fast that cache is was not measured.
pub fn device_limit(
    demand: Demand,
    working_set: u64,
    dtype: DType,
    peaks: &DevicePeaks,
    device: &str,
) -> Option<Limit> {
    let arithmetic = demand.flops as f64 / (peaks.gflops(dtype) * 1e9);
    let memory = (demand.read + demand.written) as f64 / (peaks.copy_gb_s * 1e9);
    let fits = Caches::GPU.last_level().is_some_and(|cache| working_set <= cache);
    match arithmetic >= memory {
        true => Some(Limit { name: format!("{device} matmul"), seconds: arithmetic }),
        false if fits => None,
        false => Some(Limit { name: format!("{device} copy"), seconds: memory }),
    }
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

    /// Measures once more and keeps the better of both, for later runs too: a kernel was seen above a peak,
    /// and either is wrong.
    pub fn measured_again(&self, machine: &Machine) -> Roofline {
        let roofline = Roofline::measure(machine).best_of(self);
        // Who keeps nothing measures again: said when the run began.
        let _ = cache_file(machine, Isa::best()).map(|path| roofline.save(&path));
        roofline
    }

    /// Measures the peaks at one thread and at all.
    fn measure(machine: &Machine) -> Roofline {
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
            mine.bf16_gflops = mine.bf16_gflops.into_iter().chain(theirs.bf16_gflops).reduce(f64::max);
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
const VERSION: u32 = 3;

#[cfg(test)]
mod tests;
