//! From outcomes to records.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use touchstone_kernels::{Backend, BackendId, BackendInfo, Declaration, DevicePeaks, Registry, Work};
use touchstone_reports::{
    BackendEntry, Environment, Record, RooflineEntry, SCHEMA_VERSION, SampleRow, Software,
};

use crate::accelerator::sensors_of;
use crate::case::Case;
use crate::machine::Machine;
use crate::outcome::{Against, Measurement, Outcome};
use crate::timing::CacheState;
use crate::timing::roofline::{Demand, Limit, Roofline, device_limit, limit};

/// What is the same in every row of a run.
#[derive(Clone, Debug)]
pub struct Run {
    id: String,
    revision: String,
    dirty: bool,
    machine: Machine,
    roofline: Option<Roofline>,
    devices: BTreeMap<String, DevicePeaks>,
}

/// Who computed a row.
#[derive(Clone, Debug)]
pub struct Who {
    /// The backend.
    pub id: BackendId,
    /// What it is.
    pub info: BackendInfo,
    /// What it declares about the problem.
    pub declaration: Declaration,
}

impl Who {
    /// A backend in this process.
    pub fn of(backend: &dyn Backend, case: &Case) -> Self {
        Who { id: backend.id().clone(), info: backend.info(), declaration: backend.declares(&case.problem) }
    }
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The suite of the case.
    pub suite: &'a str,
    /// The case.
    pub case: &'a Case,
    /// Threads the backend may use.
    pub threads: usize,
    /// The cache state in which it is timed; none where only agreement is checked.
    pub cache: Option<CacheState>,
    /// What the case's own inputs ask for, where that is known: masks and lengths may hide much of it.
    pub work: Option<Work>,
}

impl Run {
    /// A new run. `roofline` is there when something will be timed.
    pub fn new(roofline: Option<Roofline>) -> Self {
        let now = utc_now();
        let git = |arguments: &[&str]| -> Option<String> {
            let source = env!("CARGO_MANIFEST_DIR");
            let output = Command::new("git").args(["-C", source]).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        Run {
            // The process number tells shards apart that start in the same second.
            id: format!("{}-{}", now.replace([':', '-'], ""), std::process::id()),
            revision: git(&["rev-parse", "HEAD"]).unwrap_or_default(),
            // Not what is untracked: the run itself may be written into the repository.
            dirty: git(&["status", "--porcelain", "--untracked-files=no"])
                .is_some_and(|changes| !changes.is_empty()),
            machine: Machine::detect(),
            roofline,
            devices: BTreeMap::new(),
        }
    }

    /// With the rates of devices, by their names.
    #[must_use]
    pub fn with_devices(self, devices: BTreeMap<String, DevicePeaks>) -> Self {
        Run { devices, ..self }
    }

    /// Measures once more what limits a kernel on this machine, and keeps the better of both.
    pub(crate) fn renew_limits(&mut self) {
        self.roofline = self.roofline.take().map(|known| known.measured_again(&self.machine));
    }

    /// The rates of a device, measured once more: the better of both is kept.
    pub(crate) fn renew_device(&mut self, device: &str, measured: DevicePeaks) {
        self.devices.entry(device.into()).and_modify(|known| *known = known.best_of(measured));
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Continues an earlier run under its name.
    pub fn resumed(self, id: &str) -> Self {
        Run { id: id.into(), ..self }
    }

    /// The measured limits.
    pub fn roofline(&self) -> Option<&Roofline> {
        self.roofline.as_ref()
    }

    /// The machine it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The row of an outcome. `naive_rmse` is the error of the naive backend on the same case.
    pub fn record(&self, place: Place, who: &Who, outcome: &Outcome, naive_rmse: Option<f64>) -> Record {
        let problem = &place.case.problem;
        let work = place.work.unwrap_or_else(|| problem.work());
        let mut record = Record {
            schema: SCHEMA_VERSION,
            run_id: self.id.clone(),
            time: utc_now(),
            git_revision: self.revision.clone(),
            git_dirty: self.dirty,
            rustc: RUSTC.into(),
            target_features: TARGET_FEATURES.into(),
            suite: place.suite.into(),
            problem: problem.to_string(),
            family: problem.family().to_string(),
            op: problem.name().into(),
            dtype: problem.dtype.to_string(),
            fill: place.case.recipe(),
            seed: place.case.seed,
            backend: who.id.to_string(),
            version: who.info.version.clone(),
            device: who.info.device.clone(),
            isa: who.info.isa.clone(),
            threads: who.info.threads as u32,
            allocation: who.declaration.allocation.to_string(),
            contract: who.declaration.contract.to_string(),
            numerics: who.declaration.numerics(),
            path: who.declaration.path.to_string(),
            status: outcome.status(),
            reason: reason(outcome),
            cache: place.cache.map_or_else(String::new, |state| state.to_string()),
            flops: work.flops,
            bytes: work.bytes,
            repro: repro(place, who),
            machine: machine_entry(&self.machine).identity(),
            device_name: device_name(who),
            ..Record::default()
        };
        if let Some(figures) = outcome.figures() {
            record.max_abs = Some(figures.max_abs);
            record.max_rel = Some(figures.max_rel);
            record.rmse = Some(figures.rmse);
            record.ulp_p99 = Some(figures.ulp_p99);
            record.ulp_max = Some(figures.ulp_max);
            record.error_over_bound = Some(figures.error_over_bound);
            record.cosine = Some(figures.cosine);
            record.error_vs_naive = naive_rmse.filter(|&naive| naive > 0.0).map(|naive| figures.rmse / naive);
            if let Some(worst) = &figures.worst {
                record.worst_index = worst.place();
                record.worst_expected = Some(worst.expected);
                record.worst_got = Some(worst.got);
            }
        }
        if let Outcome::Measured(_, measurement) = outcome {
            self.add_times(&mut record, place, who, measurement);
        }
        record
    }

    fn add_times(&self, record: &mut Record, place: Place, who: &Who, measurement: &Measurement) {
        let Some(summary) = measurement.samples.summary() else { return };
        let seconds = summary.median.max(1) as f64 * 1e-9;
        record.method = measurement.clock.to_string();
        record.iterations = Some(measurement.samples.iterations);
        record.samples = Some(summary.slices as u32);
        record.min_ns = Some(summary.min);
        record.p10_ns = Some(summary.p10);
        record.median_ns = Some(summary.median);
        record.p90_ns = Some(summary.p90);
        record.mean_ns = Some(summary.mean);
        record.mad_ns = Some(summary.mad);
        record.gflops = Some(record.flops as f64 / seconds / 1e9);
        record.gb_per_s = Some(record.bytes as f64 / seconds / 1e9);
        // Two clocks do not measure the same, and give no ratio.
        let against = measurement.against.as_ref().filter(|against| against.clock == measurement.clock);
        if let Some(Against { reference, ratio, .. }) = against {
            record.reference = reference.clone();
            // The ratio is of times; the speed-up is its inverse.
            record.speedup = Some(1.0 / ratio.estimate);
            record.speedup_low = Some(1.0 / ratio.high);
            record.speedup_high = Some(1.0 / ratio.low);
        }
        if let Some(limit) = self.limit(place, who, measurement.working_set) {
            record.roofline_percent = Some(100.0 * limit.share(summary.median as f64));
            record.roofline_limit = limit.name;
        }
        record.peak_memory = measurement.peak_memory;
        record.extra_memory = measurement.extra_memory;
        record.load = measurement.health.load;
        record.clock_mhz = measurement.health.mhz;
        record.steal_percent = measurement.health.steal_percent;
        record.canary_ns = measurement.health.canary_ns;
        record.contaminated = Some(measurement.samples.disturbed() as u32);
        record.disturbed = measurement.samples.contaminated();
        record.prepare_ns = measurement.prepare_ns;
        record.load_ns = Some(measurement.audit.load_ns);
        record.outputs_ns = Some(measurement.audit.outputs_ns);
        record.audit_ns = Some(measurement.audit.run_ns);
        record.first_ns = measurement.first_ns;
        if let Some(device) = &measurement.device {
            record.clock_mhz = device.health.clock_mhz;
            record.temperature_c = device.health.temperature_c;
            record.throttle = device.health.throttle_words();
            record.device_memory = device.health.memory;
            record.waiting_percent = device.waiting.map(|share| 100.0 * share);
            if device.is_launch_bound() {
                record.reason = "launch-bound: the device waits for the host".into();
            }
        }
        if measurement.samples.contaminated() {
            let separator = if record.reason.is_empty() { "" } else { "; " };
            record.reason += separator;
            record.reason += "too few undisturbed slices: all are counted";
        }
    }

    /// The least time that the machine, or the device, allows.
    pub(crate) fn limit(&self, place: Place, who: &Who, working_set: u64) -> Option<Limit> {
        let problem = &place.case.problem;
        let demand = Demand::of(problem, place.work.unwrap_or_else(|| problem.work()));
        if who.info.is_on_cpu() {
            let peaks = self.roofline.as_ref()?.at(place.threads)?;
            return limit(demand, working_set, problem.dtype, peaks);
        }
        let device = &who.info.device;
        device_limit(demand, working_set, problem.dtype, self.devices.get(device)?, device)
    }

    /// The slices behind a record's times.
    pub fn samples(record: &Record, outcome: &Outcome) -> Vec<SampleRow> {
        let Outcome::Measured(_, measurement) = outcome else { return Vec::new() };
        let samples = &measurement.samples;
        let slices: Vec<(u64, u64)> =
            samples.slices.iter().map(|slice| (samples.iterations, slice.ns)).collect();
        let rows = SampleRow::of(record, &slices).into_iter().zip(&samples.slices);
        // The round, not the place in the list: slices of one round are neighbours in time.
        rows.map(|(row, slice)| SampleRow { slice: slice.round as u32, clean: slice.clean, ..row }).collect()
    }

    /// Machine, software and backends of the run.
    pub fn environment(&self, registry: &Registry, seeds: Vec<u64>) -> Environment {
        Environment {
            schema: SCHEMA_VERSION,
            run_id: self.id.clone(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            seeds,
            arguments: std::env::args().skip(1).collect(),
            machine: machine_entry(&self.machine),
            software: Software {
                touchstone: env!("CARGO_PKG_VERSION").into(),
                git_revision: self.revision.clone(),
                git_dirty: self.dirty,
                rustc: RUSTC.into(),
                features: features(),
            },
            backends: backends(registry),
            roofline: self
                .roofline
                .iter()
                .flat_map(|roofline| &roofline.peaks)
                .map(limits)
                .chain(self.devices.iter().map(device_limits))
                .collect(),
        }
    }
}

/// Version of the compiler, as the build script found it.
pub(crate) const RUSTC: &str = env!("TOUCHSTONE_RUSTC");

/// Instruction sets that the compiler was allowed everywhere. Kernels use more, chosen at run time.
const TARGET_FEATURES: &str = env!("TOUCHSTONE_TARGET_FEATURES");

pub(crate) fn features() -> Vec<String> {
    let features = [
        ("candle", cfg!(feature = "candle")),
        ("candle-cuda", cfg!(feature = "candle-cuda")),
        ("candle-metal", cfg!(feature = "candle-metal")),
        ("libtorch", cfg!(feature = "libtorch")),
        ("onnxruntime", cfg!(feature = "onnxruntime")),
    ];
    features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_string()).collect()
}

fn backends(registry: &Registry) -> Vec<BackendEntry> {
    let present = registry.present().iter().map(|backend| {
        let info = backend.info();
        BackendEntry {
            id: backend.id().to_string(),
            present: true,
            version: info.version,
            device: info.device,
            isa: info.isa,
            threads: Some(info.threads as u32),
            ..BackendEntry::default()
        }
    });
    let absent = registry.absent().iter().map(|absent| BackendEntry {
        id: absent.id.to_string(),
        present: false,
        reason: absent.reason.clone(),
        ..BackendEntry::default()
    });
    present.chain(absent).collect()
}

/// A machine as records and environments name it.
pub(crate) fn machine_entry(machine: &Machine) -> touchstone_reports::Machine {
    let size = |bytes: Option<u64>, name: &str| bytes.map(|b| format!("{name} {} KiB", b / 1024));
    let caches = &machine.caches;
    let caches = [size(caches.l1d, "L1d"), size(caches.l2, "L2"), size(caches.l3, "L3")];
    touchstone_reports::Machine {
        cpu: machine.cpu.clone().unwrap_or_default(),
        cores: Some(machine.cores as u32),
        memory_bytes: machine.memory,
        os: machine.os.clone(),
        kernel: machine.kernel.clone().unwrap_or_default(),
        caches: caches.into_iter().flatten().collect::<Vec<_>>().join(", "),
    }
}

/// The name of the device that a backend runs on; nothing for a processor, which the machine names.
fn device_name(who: &Who) -> String {
    if who.info.is_on_cpu() {
        return String::new();
    }
    sensors_of(&who.id).and_then(|sensors| sensors.name()).unwrap_or_default()
}

fn limits(peaks: &crate::timing::roofline::Peaks) -> RooflineEntry {
    let memory = peaks.levels.last();
    // The level before main memory.
    let cache = peaks.levels.iter().rev().nth(1);
    RooflineEntry {
        threads: peaks.threads as u32,
        device: "cpu".into(),
        fma_gflops: Some(peaks.fma_gflops),
        read_gb_s: memory.map(|level| level.read_gb_s),
        copy_gb_s: memory.map(|level| level.copy_gb_s),
        nt_copy_gb_s: memory.map(|level| level.nt_copy_gb_s),
        cache_read_gb_s: cache.map(|level| level.read_gb_s),
        cache_copy_gb_s: cache.map(|level| level.copy_gb_s),
        ..RooflineEntry::default()
    }
}

fn device_limits((device, peaks): (&String, &DevicePeaks)) -> RooflineEntry {
    RooflineEntry {
        device: device.clone(),
        fma_gflops: Some(peaks.f32_gflops),
        f16_gflops: Some(peaks.f16_gflops),
        bf16_gflops: Some(peaks.bf16_gflops),
        copy_gb_s: Some(peaks.copy_gb_s),
        ..RooflineEntry::default()
    }
}

/// Why the status of an outcome is what it is.
pub(crate) fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed(_) | Outcome::Measured(..) => String::new(),
        Outcome::Failed { why, .. } => why.to_string(),
        Outcome::Suspect { why, .. } => why.clone(),
        Outcome::Unsupported { reason } => reason.clone(),
        Outcome::Known { issue, why, .. } => format!("{issue}: {why}"),
        Outcome::NoLongerFails { issue, .. } => {
            format!("known issue '{issue}' no longer fails here: remove its entry")
        }
        Outcome::Error { message } | Outcome::Timeout { message } => message.clone(),
    }
}

/// A command that does this row again.
pub fn repro(place: Place, who: &Who) -> String {
    format!("touchstone repro '{}' --backend {} --threads {}", place.case, who.id, who.info.threads)
}

/// Now in UTC, as RFC 3339.
pub fn utc_now() -> String {
    utc(SystemTime::now())
}

/// A time in UTC, as RFC 3339.
pub(crate) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant 2013, *chrono-compatible
/// low-level date algorithms*: years begin in March, so that the leap day comes last).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_778), (2026, 11, 21));
    }
}
