//! `cargo bench`: every backend on the cases that matter for speed, by criterion.
//!
//! One group for each operation, `backend/problem` within it; `cargo bench -- 'softmax/simd'`
//! runs what matches. Attention is shown in GFLOP/s, everything else in GB/s of minimal traffic:
//! floating-point operations never pass for bytes.
//!
//! Before the first and after the last iteration the results are judged by the oracle: a wrong
//! kernel ends the run with an error instead of a time. What a backend does not support is
//! skipped, and says why. Devices and processors alike are synchronized once for each batch.
//!
//! This is for people at their desks. Criterion times one backend after the other, so that a
//! machine that slows down looks like a slower kernel, and it exits with 0 after a regression:
//! `touchstone compare` interleaves.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use touchstone_harness::agreement::judge;
use touchstone_harness::criterion::{CriterionError, Ledger};
use touchstone_harness::known::KnownIssues;
use touchstone_harness::oracle::{self, Expected};
use touchstone_harness::recording::Run;
use touchstone_harness::suite::Suite;
use touchstone_harness::{Case, Outcome, check};
use touchstone_kernels::op::Unit;
use touchstone_kernels::{Backend, Inputs, Prepared, Registry, Support};

/// The suite whose timed cases are benchmarked.
const SUITE: &str = "standard";

/// Cases with more floating-point operations or bytes are left to `touchstone bench`: here a
/// sample takes at least one iteration, and there are many.
const MOST_FLOPS: u64 = 2_000_000_000;
const MOST_BYTES: u64 = 20_000_000;

/// What the naive backend is asked to do: seconds, not minutes.
const MOST_NAIVE_FLOPS: u64 = 50_000_000;

const WARM_UP: Duration = Duration::from_millis(300);
const MEASUREMENT: Duration = Duration::from_millis(1500);
const SAMPLES: usize = 20;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut criterion = Criterion::default()
        .with_measurement(Rate)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .sample_size(SAMPLES)
        .configure_from_args();
    let mut stamps = Stamps { threads, ledger: None };
    if let Err(error) = run(&mut criterion, &Registry::standard(threads), &mut stamps) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    criterion.final_summary();
}

/// What says of a benchmark that it was judged, for `touchstone report target/criterion`. Where nothing is
/// measured, as in test mode, nothing is written.
struct Stamps {
    threads: usize,
    ledger: Option<Ledger>,
}

impl Stamps {
    fn add(&mut self, backend: &str, case: &Case) -> Result<(), CriterionError> {
        let Some(dir) = criterion_directory() else { return Ok(()) };
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            none => {
                let registry = Registry::standard(self.threads);
                let environment = Run::new(None).environment(&registry, vec![Case::DEFAULT_SEED]);
                none.insert(Ledger::create(&dir, &environment)?)
            }
        };
        ledger.add(backend, case)
    }
}

/// Where criterion writes: it has its own words for it, or that of cargo, under which this program is.
fn criterion_directory() -> Option<PathBuf> {
    if let Some(home) = std::env::var_os("CRITERION_HOME") {
        return Some(home.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // target/release/deps/kernels-…
    let target = target.or_else(|| Some(std::env::current_exe().ok()?.ancestors().nth(3)?.to_owned()));
    Some(target?.join("criterion"))
}

fn run(
    criterion: &mut Criterion<Rate>,
    registry: &Registry,
    stamps: &mut Stamps,
) -> Result<(), Box<dyn std::error::Error>> {
    let known = KnownIssues::built_in()?;
    let mut operations: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for timed in Suite::load(SUITE)?.cases.into_iter().filter(|suite_case| !suite_case.timed.is_empty()) {
        let work = timed.case.problem.work();
        if work.flops <= MOST_FLOPS && work.bytes <= MOST_BYTES {
            operations.entry(timed.case.problem.name()).or_default().push(timed.case);
        }
    }
    for (operation, cases) in operations {
        let mut group = criterion.benchmark_group(operation);
        for case in cases {
            let posed = Posed { inputs: OnceCell::new(), expected: OnceCell::new(), case };
            for backend in registry.best() {
                if posed.measure(&mut group, backend.as_ref(), &known) {
                    stamps.add(backend.id().as_str(), &posed.case)?;
                }
            }
        }
        group.finish();
    }
    Ok(())
}

/// A case whose inputs and expectation are computed when the first backend needs them: most
/// calls are for one group.
struct Posed {
    case: Case,
    inputs: OnceCell<Inputs>,
    expected: OnceCell<Expected>,
}

impl Posed {
    fn inputs(&self) -> &Inputs {
        self.inputs.get_or_init(|| self.case.inputs())
    }

    fn expected(&self) -> &Expected {
        self.expected.get_or_init(|| oracle::expect(&self.case.problem, self.inputs()))
    }

    /// Whether it was measured, and right to the end.
    fn measure(
        &self,
        group: &mut BenchmarkGroup<'_, Rate>,
        backend: &dyn Backend,
        known: &KnownIssues,
    ) -> bool {
        let problem = &self.case.problem;
        let id = backend.id();
        let work = problem.work();
        if let Support::No(reason) = backend.supports(problem) {
            eprintln!("skipped {id}/{problem}: unsupported: {reason}");
            return false;
        }
        if let Some(issue) = known.expecting(id, &self.case, self.inputs()) {
            eprintln!("skipped {id}/{problem}: known issue {}", issue.id);
            return false;
        }
        if id.as_str() == "naive" && work.flops > MOST_NAIVE_FLOPS {
            eprintln!("skipped {id}/{problem}: more than {MOST_NAIVE_FLOPS} FLOPs");
            return false;
        }
        group.throughput(match problem.family().unit {
            Unit::Flop => Throughput::Elements(work.flops),
            Unit::Byte => Throughput::BytesDecimal(work.bytes),
        });
        // Prepared when the filter has let it through, and kept between samples.
        let mut running: Option<Box<dyn Prepared>> = None;
        // A test is one iteration.
        let mut all = 0;
        group.bench_function(BenchmarkId::new(id.as_str(), &self.case), |bencher| {
            let prepared = running.get_or_insert_with(|| self.verified(backend, known));
            bencher.iter_custom(|iterations| {
                all += iterations;
                match batch(prepared.as_mut(), iterations) {
                    Ok(elapsed) => elapsed,
                    Err(error) => panic!("{id} failed on '{}': {error}", self.case),
                }
            });
        });
        let is_measured = running.is_some() && all > 1;
        if let Some(mut prepared) = running {
            let outputs = prepared.outputs();
            let outputs = outputs.unwrap_or_else(|error| panic!("{id} failed on '{}': {error}", self.case));
            if let Some(why) = judge(self.expected(), &backend.declares(problem), &outputs).failure {
                panic!("{id} is wrong after the last iteration of '{}': {why}", self.case);
            }
        }
        is_measured
    }

    /// The case on its backend, after it was found right.
    fn verified(&self, backend: &dyn Backend, known: &KnownIssues) -> Box<dyn Prepared> {
        let id = backend.id();
        match check::check(backend, &self.case, self.inputs(), self.expected(), known) {
            Outcome::Passed(_) => {}
            Outcome::Failed { why, .. } => panic!("{id} is wrong on '{}': {why}", self.case),
            other => panic!("{id} came to no result on '{}': {other:?}", self.case),
        }
        let prepared = backend.ready(&self.case.problem, self.inputs());
        prepared.unwrap_or_else(|error| panic!("{id} failed on '{}': {error}", self.case))
    }
}

/// Runs a number of iterations, and waits once, for all of them.
fn batch(prepared: &mut dyn Prepared, iterations: u64) -> Result<Duration, touchstone_kernels::BackendError> {
    prepared.sync()?;
    let start = Instant::now();
    for _ in 0..iterations {
        prepared.run()?;
    }
    prepared.sync()?;
    Ok(start.elapsed())
}

/// Wall time that is shown as GFLOP/s where elements are counted, which here are floating-point
/// operations, and as GB/s where bytes are.
struct Rate;

impl Measurement for Rate {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Rate {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        // The values are nanoseconds, so that a count over them is in 10⁹ per second.
        let mut per_second = |count: u64| values.iter_mut().for_each(|value| *value = count as f64 / *value);
        match throughput {
            Throughput::Elements(flops) => {
                per_second(*flops);
                "GFLOP/s"
            }
            Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes) => {
                per_second(*bytes);
                "GB/s"
            }
            other => WallTime.formatter().scale_throughputs(typical, other, values),
        }
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
