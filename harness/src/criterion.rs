//! What `cargo bench` left behind, as records.
//!
//! Criterion keeps, for each benchmark, `new/benchmark.json` (its names), `new/sample.json` (every
//! sample: iterations and nanoseconds) and `new/estimates.json` in a folder of its own under
//! `target/criterion`. Our benchmarks are named `backend/problem` and write an `environment.toml`
//! beside the folders, which knows the backends' versions, instruction sets and thread counts.
//!
//! Criterion keeps the times of a kernel before anybody knows whether it was right at the end, and those of
//! earlier runs for ever. So a benchmark counts only if `judged.csv` beside the environment names it for the
//! same run: it is written, a line each, after the results have been judged ([`Ledger`]). How far they were
//! off is not kept, and stays empty. Criterion times one
//! backend after the other. So there are ratios here, but no intervals for them: what an interval
//! would have to cover, the drift from one benchmark to the next, is not in the samples. For the same
//! reason its samples do not become rows of `samples.csv`, whose slices of one number are neighbours
//! in time.

use std::collections::HashSet;
use std::fs::{File, metadata, read_dir, read_to_string};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use touchstone_reports::statistics::{quantile, sorted};
use touchstone_reports::{
    BackendEntry, Environment, Record, SCHEMA_VERSION, Status, StoreError, environment,
};

use crate::case::Case;
use crate::comparison::REFERENCES;
use crate::recording::utc;

/// Folders between the top and a benchmark: group, function, value, and one to spare.
const DEEPEST: usize = 4;

/// What cannot be read as criterion's output of our benchmarks.
#[derive(Debug, thiserror::Error)]
pub enum CriterionError {
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// A file is not JSON of the shape that criterion writes.
    #[error("{}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the reader says, with line and column.
        source: serde_json::Error,
    },
    /// A file contradicts itself or the one beside it.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no benchmark of ours.
    #[error("{}: none of its {found} benchmarks is named backend/problem", path.display())]
    NoneOfOurs {
        /// The directory.
        path: PathBuf,
        /// Benchmarks there.
        found: usize,
    },
    /// The environment is missing or damaged.
    #[error(transparent)]
    Environment(#[from] StoreError),
}

/// The benchmarks of a directory as a run.
#[derive(Debug, Default)]
pub struct Benches {
    /// A record for each benchmark.
    pub records: Vec<Record>,
    /// Benchmarks of somebody else, which have no problem of ours as their value.
    pub others: Vec<String>,
    /// Benchmarks of an earlier run, or of one that ended before it was judged.
    pub unjudged: Vec<String>,
}

/// The file that names the benchmarks of a run that have been judged.
pub const LEDGER_FILE: &str = "judged.csv";

/// Names the benchmarks of a run whose results were right before the first and after the last iteration.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    run_id: String,
    file: File,
}

#[derive(Serialize, Deserialize)]
struct Judged {
    run_id: String,
    backend: String,
    case: String,
}

impl Ledger {
    /// Starts the ledger of a run in criterion's directory, and leaves its environment there.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(dir: &Path, environment: &Environment) -> Result<Self, CriterionError> {
        let path = dir.join(LEDGER_FILE);
        let io = |source| CriterionError::Io { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        // Emptied first: no line of another run stands beside this environment.
        let mut file = File::create(&path).map_err(io)?;
        file.write_all(b"run_id,backend,case\n").map_err(io)?;
        environment.write(dir)?;
        Ok(Ledger { run_id: environment.run_id.clone(), file, path })
    }

    /// Adds a benchmark that has been judged.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, backend: &str, case: &Case) -> Result<(), CriterionError> {
        let line =
            Judged { run_id: self.run_id.clone(), backend: backend.to_owned(), case: case.to_string() };
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        let bytes = writer
            .serialize(line)
            .map_err(io::Error::other)
            .and_then(|()| writer.into_inner().map_err(|error| io::Error::other(error.to_string())));
        let written = bytes.and_then(|bytes| self.file.write_all(&bytes));
        written.map_err(|source| CriterionError::Io { path: self.path.clone(), source })
    }
}

/// The benchmarks that were judged in a run, as backend and case.
fn judged(dir: &Path, run_id: &str) -> Result<HashSet<(String, String)>, CriterionError> {
    let path = dir.join(LEDGER_FILE);
    let content = |what: String| CriterionError::Content { path: path.clone(), what };
    if !path.exists() {
        let what = "missing: it says which benchmarks were judged; run `cargo bench` again";
        return Err(content(what.into()));
    }
    let file = File::open(&path).map_err(|source| CriterionError::Io { path: path.clone(), source })?;
    let mut found = HashSet::new();
    for line in csv::Reader::from_reader(file).deserialize() {
        let line: Judged = line.map_err(|error| content(error.to_string()))?;
        if line.run_id == run_id {
            found.insert((line.backend, line.case));
        }
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Names {
    full_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
}

#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Whether a directory is criterion's: it has benchmarks and is no run.
pub fn is_criterion(path: &Path) -> bool {
    path.is_dir()
        && !path.join(touchstone_reports::store::RECORDS_FILE).exists()
        && benchmarks(path, DEEPEST).is_ok_and(|found| !found.is_empty())
}

/// The folders with a benchmark's latest files, in the order of their names.
fn benchmarks(path: &Path, depth: usize) -> Result<Vec<PathBuf>, CriterionError> {
    let io = |source| CriterionError::Io { path: path.to_owned(), source };
    let latest = path.join("new");
    let mut found = Vec::new();
    if latest.join("benchmark.json").exists() {
        found.push(latest);
    }
    if depth > 0 {
        let entries = read_dir(path).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
        let mut folders: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
        folders.retain(|folder| folder.is_dir() && !folder.ends_with("new"));
        folders.sort();
        for folder in folders {
            found.extend(benchmarks(&folder, depth - 1)?);
        }
    }
    Ok(found)
}

/// Reads what criterion left in a directory.
///
/// # Errors
/// A file is missing, damaged or at odds with another one; the message names it. Nothing there is ours.
pub fn read(path: &Path) -> Result<Benches, CriterionError> {
    let folders = benchmarks(path, DEEPEST)?;
    let environment = Environment::read(path)?.ok_or_else(|| CriterionError::Content {
        path: path.join(environment::ENVIRONMENT_FILE),
        what: "missing: it says on how many threads the benchmarks ran; run `cargo bench` again".into(),
    })?;
    let judged = judged(path, &environment.run_id)?;
    let mut benches = Benches::default();
    for folder in &folders {
        let names: Names = json(&folder.join("benchmark.json"))?;
        let case = names.value_str.as_deref().and_then(|text| text.parse::<Case>().ok());
        let (Some(backend), Some(case)) = (names.function_id, case) else {
            benches.others.push(names.full_id);
            continue;
        };
        if !judged.contains(&(backend.clone(), case.to_string())) {
            benches.unjudged.push(names.full_id);
            continue;
        }
        benches.records.push(bench(folder, &environment, &backend, &case)?);
    }
    if benches.records.is_empty() && !benches.unjudged.is_empty() {
        return Err(CriterionError::Content {
            path: path.join(LEDGER_FILE),
            what: format!("names none of the {} benchmarks: run `cargo bench` again", benches.unjudged.len()),
        });
    }
    if benches.records.is_empty() {
        return Err(CriterionError::NoneOfOurs { path: path.to_owned(), found: folders.len() });
    }
    add_speedups(&mut benches.records);
    Ok(benches)
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, CriterionError> {
    let text = read_to_string(path).map_err(|source| CriterionError::Io { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| CriterionError::Json { path: path.to_owned(), source })
}

/// One benchmark.
fn bench(
    folder: &Path,
    environment: &Environment,
    backend: &str,
    case: &Case,
) -> Result<Record, CriterionError> {
    let file = folder.join("sample.json");
    let wrong = |what: String| CriterionError::Content { path: file.clone(), what };
    let Sample { iters, times } = json(&file)?;
    if iters.len() != times.len() || iters.is_empty() {
        return Err(wrong(format!("{} iteration counts and {} times", iters.len(), times.len())));
    }
    // No range holds a NaN.
    let whole = |n: f64| (1.0..1e18).contains(&n);
    if let Some(bad) = iters.iter().chain(&times).find(|&&n| !whole(n)) {
        return Err(wrong(format!("{bad} is no count and no time")));
    }
    let each = sorted(times.iter().zip(&iters).map(|(ns, n)| ns / n));
    let at = |share: f64| quantile(&each, share).unwrap_or(f64::NAN);
    let median = at(0.5);
    let estimates: Estimates = json(&folder.join("estimates.json"))?;
    let estimate = estimates.median.point_estimate;
    // The same samples, so nothing but rounding lies between.
    if !estimate.is_finite() || (median - estimate).abs() > 1e-3 * median {
        return Err(CriterionError::Content {
            path: folder.join("estimates.json"),
            what: format!("the median is {estimate} ns, and that of sample.json {median}"),
        });
    }
    let who = environment.backends.iter().find(|entry| entry.id == backend && entry.present);
    let Some((who, threads)) = who.and_then(|who| Some((who, who.threads.filter(|&n| n > 0)?))) else {
        return Err(CriterionError::Content {
            path: folder.join("benchmark.json"),
            what: format!("backend `{backend}` is not in environment.toml, or without threads"),
        });
    };
    let time = metadata(&file).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let deviations = sorted(each.iter().map(|ns| (ns - median).abs()));
    let ns = |value: f64| Some(value.round() as u64);
    let record = Record {
        time: utc(time),
        iterations: ns(quantile(&sorted(iters.iter().copied()), 0.5).unwrap_or(1.0)),
        samples: Some(each.len() as u32),
        min_ns: ns(at(0.0)),
        p10_ns: ns(at(0.1)),
        median_ns: ns(median),
        p90_ns: ns(at(0.9)),
        mean_ns: ns(each.iter().sum::<f64>() / each.len() as f64),
        mad_ns: ns(quantile(&deviations, 0.5).unwrap_or(0.0)),
        ..described(environment, who, threads, case)
    };
    let rate = |amount: u64| Some(amount as f64 / median.max(1.0));
    Ok(Record { gflops: rate(record.flops), gb_per_s: rate(record.bytes), ..record })
}

/// What is known of a benchmark beside its times.
fn described(environment: &Environment, who: &BackendEntry, threads: u32, case: &Case) -> Record {
    let problem = &case.problem;
    let work = problem.work();
    Record {
        schema: SCHEMA_VERSION,
        run_id: environment.run_id.clone(),
        git_revision: environment.software.git_revision.clone(),
        git_dirty: environment.software.git_dirty,
        rustc: environment.software.rustc.clone(),
        suite: "cargo bench".into(),
        problem: problem.to_string(),
        family: problem.family().to_string(),
        op: problem.name().into(),
        dtype: problem.dtype.to_string(),
        fill: case.recipe(),
        seed: case.seed,
        backend: who.id.clone(),
        version: who.version.clone(),
        device: who.device.clone(),
        isa: who.isa.clone(),
        threads,
        status: Status::Passed,
        cache: "hot".into(),
        method: "wall".into(),
        flops: work.flops,
        bytes: work.bytes,
        repro: format!("touchstone repro '{case}' --backend {} --threads {threads}", who.id),
        ..Record::default()
    }
}

/// Speed-ups over the reference that a comparison would take.
fn add_speedups(records: &mut [Record]) {
    let is_there = |name: &&&str| records.iter().any(|record| record.backend == ***name);
    let Some(reference) = REFERENCES.iter().find(is_there).copied() else { return };
    let case = |record: &Record| (record.problem.clone(), record.fill.clone(), record.seed);
    let times: Vec<_> = records
        .iter()
        .filter(|record| record.backend == reference)
        .filter_map(|record| Some((case(record), record.median_ns?)))
        .collect();
    for record in records {
        let own = case(record);
        let time = times.iter().find(|(case, _)| *case == own);
        if let (Some((_, time)), Some(own)) = (time, record.median_ns.filter(|&ns| ns > 0)) {
            record.reference = reference.into();
            record.speedup = Some(*time as f64 / own as f64);
        }
    }
}
