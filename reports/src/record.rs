//! One row of `records.csv`.

use serde::{Deserialize, Serialize};

use crate::status::Status;

/// The version written into the first column of every row.
pub const SCHEMA_VERSION: u32 = 6;

/// The outcome of one case on one backend with one thread count and one cache state.
///
/// Fields stand in the order of the columns; [`crate::columns::COLUMNS`] describes each one for readers of the file.
/// An empty cell is `None` (or the empty string), never zero. NaN and infinities are written as
/// `NaN`, `inf` and `-inf`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema: u32,
    /// Names the run: the same in every row of one invocation, resumed or sharded.
    pub run_id: String,
    /// When the row was finished: RFC 3339 in UTC, `2026-01-31T12:00:00Z`.
    pub time: String,
    /// Git revision of the harness that wrote the row.
    pub git_revision: String,
    /// Whether that revision had uncommitted changes.
    pub git_dirty: bool,
    /// Version of the compiler.
    pub rustc: String,
    /// CPU features the binary was compiled for.
    pub target_features: String,
    /// Suite the case came from.
    pub suite: String,
    /// Canonical problem text, such as `softmax f32 shape=4096x1024 axis=-1`.
    pub problem: String,
    /// attention, softmax, norm, activation or rope.
    pub family: String,
    /// The operation within the family, such as `log_softmax`, `rms_norm` or `gelu`.
    pub op: String,
    /// Storage type of inputs and outputs: f32, f16 or bf16.
    pub dtype: String,
    /// How the inputs were drawn.
    pub fill: String,
    /// Seed of the inputs.
    pub seed: u64,
    /// Backend id, such as `simd/avx2` or `libtorch/cuda:0`.
    pub backend: String,
    /// Version of the backend's library.
    pub version: String,
    /// The device it ran on: `cpu`, or one such as `cuda:0`.
    pub device: String,
    /// Instruction set it used.
    pub isa: String,
    /// Threads it was allowed.
    pub threads: u32,
    /// How the backend allocates its outputs.
    pub allocation: String,
    /// What the backend promises: `componentwise` or `normwise`; empty if it made no statement.
    pub contract: String,
    /// What else it declares about its arithmetic, in short words.
    pub numerics: String,
    /// The implementation path that ran, such as `fused` or `composed`.
    pub path: String,
    /// The verdict.
    pub status: Status,
    /// Why the status is what it is, or what a passed row's times are to be read with.
    pub reason: String,
    /// Largest absolute error.
    pub max_abs: Option<f64>,
    /// Largest relative error.
    pub max_rel: Option<f64>,
    /// Root mean square error.
    pub rmse: Option<f64>,
    /// 99th percentile of the error in units in the last place.
    pub ulp_p99: Option<f64>,
    /// Largest error in units in the last place.
    pub ulp_max: Option<f64>,
    /// Largest ratio of error to its a-priori bound; above 1 fails.
    pub error_over_bound: Option<f64>,
    /// Root mean square error relative to that of the naive backend on the same case, where that ran
    /// before.
    pub error_vs_naive: Option<f64>,
    /// Cosine of the angle between output and expectation.
    pub cosine: Option<f64>,
    /// The worst element, such as `out[3,17]`.
    pub worst_index: String,
    /// What the oracle expected there.
    pub worst_expected: Option<f64>,
    /// What the kernel returned there.
    pub worst_got: Option<f64>,
    /// `hot`, `cold`, or empty when nothing was timed.
    pub cache: String,
    /// Clock: `wall`, `device` (CUDA events, for instance), or empty when nothing was timed.
    pub method: String,
    /// Iterations in one timed slice.
    pub iterations: Option<u64>,
    /// Slices kept.
    pub samples: Option<u32>,
    /// Fastest time of one iteration, in nanoseconds.
    pub min_ns: Option<u64>,
    /// 10th percentile of the time of one iteration, in nanoseconds.
    pub p10_ns: Option<u64>,
    /// Median time of one iteration, in nanoseconds.
    pub median_ns: Option<u64>,
    /// 90th percentile of the time of one iteration, in nanoseconds.
    pub p90_ns: Option<u64>,
    /// Mean time of one iteration, in nanoseconds.
    pub mean_ns: Option<u64>,
    /// Median absolute deviation of the time of one iteration, in nanoseconds.
    pub mad_ns: Option<u64>,
    /// Backend id the ratios are against.
    pub reference: String,
    /// Time of the reference divided by this time.
    pub speedup: Option<f64>,
    /// Lower end of the 95 % bootstrap interval of the speed-up.
    pub speedup_low: Option<f64>,
    /// Upper end of the 95 % bootstrap interval of the speed-up.
    pub speedup_high: Option<f64>,
    /// Floating-point operations the problem needs.
    pub flops: u64,
    /// Fewest bytes the problem must move.
    pub bytes: u64,
    /// 10⁹ floating-point operations per second at the median.
    pub gflops: Option<f64>,
    /// 10⁹ bytes per second at the median.
    pub gb_per_s: Option<f64>,
    /// Share of the measured limit reached, in percent.
    pub roofline_percent: Option<f64>,
    /// Which limit that is, such as `FMA`, `DRAM copy` or `cuda:0 matmul`; or empty.
    pub roofline_limit: String,
    /// Largest resident memory of the timed process, in bytes.
    pub peak_memory: Option<u64>,
    /// Load average while measuring.
    pub load: Option<f64>,
    /// Clock of the processor while measuring, or the lowest of the device, in MHz.
    pub clock_mhz: Option<f64>,
    /// Time stolen by the hypervisor, in percent.
    pub steal_percent: Option<f64>,
    /// Slices that the machine is known to have disturbed. They are left out, unless [`disturbed`] says
    /// otherwise.
    ///
    /// [`disturbed`]: Record::disturbed
    pub contaminated: Option<u32>,
    /// A command line that reproduces this row.
    pub repro: String,
    /// Highest temperature of the device while measuring, in degrees Celsius.
    #[serde(default)]
    pub temperature_c: Option<f64>,
    /// What held the device's clock down while measuring.
    #[serde(default)]
    pub throttle: String,
    /// Most memory in use on the device, by whomever, in bytes.
    #[serde(default)]
    pub device_memory: Option<u64>,
    /// Share of the time that the host waited for the device, in percent: next to none is
    /// launch-bound.
    #[serde(default)]
    pub waiting_percent: Option<f64>,
    /// Memory that one call needs beyond its operands and results, in bytes.
    #[serde(default)]
    pub extra_memory: Option<u64>,
    /// Time of one pass of the canary around the measurement, in nanoseconds.
    #[serde(default)]
    pub canary_ns: Option<u64>,
    /// The machine: processor, cores and caches. Times of different machines are not compared.
    #[serde(default)]
    pub machine: String,
    /// The name of the device where it is not the processor, such as `NVIDIA H200`.
    #[serde(default)]
    pub device_name: String,
    /// Whether too few slices were undisturbed, so that all of them count.
    #[serde(default)]
    pub disturbed: bool,
    /// Time of preparing the problem (weights, plans, memory), in nanoseconds. No part of the kernel's time.
    #[serde(default)]
    pub prepare_ns: Option<u64>,
    /// Time of loading the data operands, in nanoseconds.
    #[serde(default)]
    pub load_ns: Option<u64>,
    /// Time of handing out the results, in nanoseconds.
    #[serde(default)]
    pub outputs_ns: Option<u64>,
    /// Time of a single run on inputs that are new, in nanoseconds, when everything else is warm.
    #[serde(default)]
    pub audit_ns: Option<u64>,
    /// Time of the first call of the prepared problem, in nanoseconds.
    #[serde(default)]
    pub first_ns: Option<u64>,
}

/// Where a row's times hold: they are compared with times of the same machine and device only. Times of two
/// clocks have no ratio either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Setting {
    /// See [`Record::machine`].
    pub machine: String,
    /// See [`Record::device_name`].
    pub device_name: String,
}

/// What makes two rows the same measurement: used to resume, to merge and to compare runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// See [`Record::problem`].
    pub problem: String,
    /// See [`Record::fill`].
    pub fill: String,
    /// See [`Record::seed`].
    pub seed: u64,
    /// See [`Record::backend`].
    pub backend: String,
    /// See [`Record::threads`].
    pub threads: u32,
    /// See [`Record::cache`].
    pub cache: String,
}

impl Record {
    /// The key under which this row is found again.
    #[must_use]
    pub fn key(&self) -> RowKey {
        RowKey {
            problem: self.problem.clone(),
            fill: self.fill.clone(),
            seed: self.seed,
            backend: self.backend.clone(),
            threads: self.threads,
            cache: self.cache.clone(),
        }
    }

    /// Where its times hold.
    #[must_use]
    pub fn setting(&self) -> Setting {
        Setting { machine: self.machine.clone(), device_name: self.device_name.clone() }
    }

    /// Whether the row carries a time. By [`Record::validate`] only passed rows do.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.median_ns.is_some()
    }
}
