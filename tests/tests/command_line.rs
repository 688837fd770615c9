//! The commands do what their help says: sharding, reproducing, resuming, interrupting.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use touchstone::{directory, prints, program, touchstone};
use touchstone_reports::{Record, Status, read_records};

const SUITE: &str = r#"
description = "two cases that are timed, and some that are not"

[[case]]
op = ["softmax", "gelu"]
dtype = "f32"
shape = "16x64"
time = "hot"

[[case]]
op = ["relu", "silu", "erf"]
dtype = ["f32", "bf16"]
shape = ["3x7", "257"]
"#;

fn rows(csv: &str) -> Vec<Record> {
    csv::Reader::from_reader(csv.as_bytes()).deserialize().map(Result::unwrap).collect()
}

#[test]
fn list_prints_json() {
    let here = directory();
    let list: serde_json::Value = serde_json::from_str(&prints(here.path(), &["list", "--json"])).unwrap();
    let backends = list["backends"].as_array().unwrap();
    for backend in backends {
        let key = if backend["present"].as_bool().unwrap() { "version" } else { "reason" };
        assert!(!backend[key].as_str().unwrap().is_empty(), "{backend}");
    }
    assert!(backends.iter().any(|backend| backend["id"] == "naive"));
    assert!(list["operations"].as_array().unwrap().iter().any(|op| op == "attention"));
    let text = prints(here.path(), &["list"]);
    assert!(backends.iter().all(|backend| text.contains(backend["id"].as_str().unwrap())));
}

/// Where the system tells, a call that writes into memory made before it needs none beyond its
/// operands and results. One that allocates its result anew may hold the last one meanwhile.
#[test]
fn the_memory_of_a_call_is_measured() {
    let here = directory();
    let suite = "[[case]]\nop = 'gelu'\ndtype = 'f32'\nshape = 4194304\ntime = 'hot'\n";
    std::fs::write(here.path().join("large.toml"), suite).unwrap();
    let arguments = ["bench", "--suite", "large.toml", "--threads", "1", "--slices", "5", "--format", "csv"];
    let rows = rows(&prints(here.path(), &arguments));
    assert!(rows.iter().any(|row| row.backend.starts_with("simd")), "{rows:?}");
    for row in rows.iter().filter(|row| row.is_timed()) {
        println!("{}: {:?} bytes, outputs {}", row.backend, row.extra_memory, row.allocation);
        if !cfg!(target_os = "linux") {
            assert_eq!(row.extra_memory, None);
        } else if row.allocation == "reused" {
            assert!(row.extra_memory.unwrap() < 1 << 20, "{row:?}");
        } else {
            assert!(row.extra_memory.unwrap() < 17 << 20, "{row:?}");
        }
    }
}

#[test]
fn roofline_prints_json_with_plausible_limits() {
    let here = directory();
    let roofline: serde_json::Value =
        serde_json::from_str(&prints(here.path(), &["roofline", "--json"])).unwrap();
    for peaks in roofline["peaks"].as_array().unwrap() {
        let gflops = peaks["fma_gflops"].as_f64().unwrap();
        assert!((0.1..1e6).contains(&gflops), "{gflops} GFLOP/s");
    }
    assert!(!roofline["peaks"].as_array().unwrap().is_empty());
}

/// Limits that were taken while the machine was busy are too low, and a kernel that does all its work lies
/// above them. They are measured again before it is called suspect.
#[test]
fn limits_are_doubted_before_a_right_kernel() {
    let here = directory();
    let cache = here.path().join("cache");
    let prints = |arguments: &[&str]| {
        let output = touchstone(here.path()).args(arguments).env("XDG_CACHE_HOME", &cache).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    prints(&["roofline"]);
    let file = std::fs::read_dir(cache.join("touchstone")).unwrap().next().unwrap().unwrap().path();
    // As kept: "name = value".
    let third = |line: &str| match line.split_once("_s = ").map(|(name, rate)| (name, rate.parse::<f64>())) {
        Some((name, Ok(rate))) => format!("{name}_s = {}", rate / 3.0),
        _ if line.starts_with("measurements") => "measurements = 2".into(),
        _ => line.into(),
    };
    let low = std::fs::read_to_string(&file).unwrap().lines().map(third).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, &low).unwrap();

    let suite = "[[case]]\nop = 'relu'\ndtype = 'f32'\nshape = '64x1024'\ntime = 'hot'\n";
    std::fs::write(here.path().join("copy.toml"), suite).unwrap();
    let bench = ["bench", "--suite", "copy.toml", "--backend", "simd,naive", "--reference", "naive"];
    let csv = prints(&[&bench[..], &["--threads", "1", "--slices", "5", "--format", "csv"]].concat());
    let rows = rows(&csv);
    assert!(rows.iter().all(|row| row.status == Status::Passed), "{rows:?}");
    assert_ne!(std::fs::read_to_string(&file).unwrap(), low, "nothing was measured again: {csv}");
}

/// Any row's repro line gives the same figures again, to the last bit.
#[test]
fn repro_reproduces_a_row() {
    let here = directory();
    let csv = prints(
        here.path(),
        &[
            "check",
            "--suite",
            "smoke",
            "--backend",
            "naive,simd",
            "--case",
            "seed=1",
            "--op",
            "norm,glu",
            "--format",
            "csv",
        ],
    );
    let rows = rows(&csv);
    let row = rows.iter().filter(|row| row.status == Status::Passed && row.dtype == "f32");
    let row = row.max_by(|a, b| a.error_over_bound.unwrap().total_cmp(&b.error_over_bound.unwrap())).unwrap();
    let words = row.repro.strip_prefix("touchstone ").unwrap();
    let text = words.split('\'').nth(1).unwrap();
    let options = words.rsplit('\'').next().unwrap().split_whitespace();
    let arguments: Vec<&str> = ["repro", text].into_iter().chain(options).chain(["--dump", "dump"]).collect();
    let printed = prints(here.path(), &arguments);
    assert!(printed.contains(text) && printed.contains("passed"), "{printed}");
    let tensor = |file: &str, name: &str| -> Vec<f64> {
        let bytes = std::fs::read(here.path().join("dump").join(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = tensors.tensor(name).unwrap();
        match view.dtype() {
            safetensors::Dtype::F64 => {
                view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
            }
            _ => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) as f64).collect(),
        }
    };
    let expected = tensor("expected.safetensors", "out");
    let got = tensor(&format!("{}.safetensors", row.backend.replace('/', "-")), "out");
    let max_abs = expected.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert_eq!(Some(max_abs), row.max_abs, "{}", row.repro);
}

/// A backend that can have one thread and all is checked with both, one that has a single thread once.
#[test]
fn a_check_is_with_one_thread_and_with_all() {
    let here = directory();
    std::fs::write(here.path().join("own.toml"), SUITE).unwrap();
    let csv =
        prints(here.path(), &["check", "--suite", "own.toml", "--backend", "naive,simd", "--format", "csv"]);
    let all = std::thread::available_parallelism().unwrap().get() as u32;
    let counts = |backend: &str| {
        let own = rows(&csv).into_iter().filter(|row| row.backend.starts_with(backend));
        own.map(|row| row.threads).collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(counts("naive"), [1]);
    assert_eq!(counts("simd"), if all > 1 { vec![1, all] } else { vec![1] });
    // Asked for more than it can have, a backend is still checked.
    let csv = prints(
        here.path(),
        &["check", "--suite", "own.toml", "--backend", "naive", "--threads", "2", "--format", "csv"],
    );
    assert_eq!(rows(&csv).len(), 14);
}

/// What tells one row from another, and what it found.
fn essence(records: &[Record]) -> Vec<(String, String, Option<u64>)> {
    let of = |r: &Record| (r.repro.clone(), r.status.to_string(), r.max_abs.map(f64::to_bits));
    let mut rows: Vec<_> = records.iter().map(of).collect();
    rows.sort();
    rows
}

#[test]
fn shards_together_are_the_whole() {
    let here = directory();
    std::fs::write(here.path().join("own.toml"), SUITE).unwrap();
    let check = ["check", "--suite", "own.toml", "--backend", "naive,simd", "--threads", "1"];
    let with = |more: &[&str]| prints(here.path(), &[&check[..], more].concat());
    let whole = rows(&with(&["--format", "csv"]));
    assert_eq!(whole.len(), 28);
    let first = rows(&with(&["--shard", "1/2", "--format", "csv", "--out", "first"]));
    let second = rows(&with(&["--shard", "2/2", "--format", "csv", "--out", "second"]));
    assert_eq!(first.len(), second.len());
    assert_eq!(essence(&[first, second].concat()), essence(&whole));
    // Their records merge by naming both.
    let merged = prints(here.path(), &["report", "first", "second", "--format", "csv"]);
    assert_eq!(essence(&rows(&merged)), essence(&whole));
}

const FILES: [&str; 5] = ["records.csv", "samples.csv", "environment.toml", "report.html", "report.md"];

#[test]
fn compare_leaves_a_run_that_can_be_resumed_reported_and_compared() {
    let here = directory();
    std::fs::write(here.path().join("own.toml"), SUITE).unwrap();
    #[rustfmt::skip]
    let compare = ["compare", "--suite", "own.toml", "--backend", "naive,simd", "--threads", "1", "--reference", "naive", "--slices", "5", "--max-time", "0.05", "--out", "run"];
    let printed = prints(here.path(), &compare);
    assert!(printed.contains("naive") && printed.contains("simd"), "{printed}");
    let run = here.path().join("run");
    let contents = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let before = FILES.map(|name| (name, contents(name)));
    assert!(
        before.iter().all(|(_, text)| !text.is_empty()),
        "{:?}",
        before.map(|(name, text)| (name, text.len()))
    );
    let records = rows(&before[0].1);
    assert_eq!(records.len(), 28);
    let timed: Vec<&Record> = records.iter().filter(|record| record.median_ns.is_some()).collect();
    let untimed: Vec<_> = records.iter().filter(|r| r.status != Status::Passed).map(|r| &r.reason).collect();
    assert_eq!(timed.len(), 4, "{untimed:?}");
    for record in timed {
        assert_eq!((record.status, record.samples.unwrap() >= 5), (Status::Passed, true), "{}", record.repro);
        assert!(record.speedup.is_some() && record.roofline_percent.is_some(), "{}", record.repro);
    }

    // Resumed, nothing is measured again.
    prints(here.path(), &[&compare[..], &["--resume"]].concat());
    for (name, text) in &before[..2] {
        assert_eq!(&contents(name), text, "{name}");
    }

    let json = prints(here.path(), &["report", "run", "--format", "json"]);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), records.len());
    prints(here.path(), &["report", "run", "--html", "page.html", "--markdown", "page.md", "--brief"]);
    let page = std::fs::read_to_string(here.path().join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("simd"), "a page without pictures");
    assert!(std::fs::read_to_string(here.path().join("page.md")).unwrap().contains("simd"));
    let diff = prints(here.path(), &["diff", "run", "run", "--cases"]);
    assert!(diff.contains("softmax") && diff.contains("1.00"), "{diff}");
}

/// Waits until a run has at least `count` rows.
fn wait_for_rows(run: &Path, count: usize) {
    let patience = Instant::now() + Duration::from_secs(120);
    while std::fs::read_to_string(run.join("records.csv")).map_or(0, |text| text.lines().count()) <= count {
        assert!(Instant::now() < patience, "no rows in {}", run.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_recorded() {
    let here = directory();
    for (command, suite) in [("check", "smoke"), ("compare", "standard")] {
        let run = here.path().join(command);
        let mut child = touchstone(here.path())
            .args([
                command,
                "--suite",
                suite,
                "--op",
                "softmax,layer_norm",
                "--backend",
                "naive,simd",
                "--out",
            ])
            .arg(&run)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_rows(&run, 2);
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let began = Instant::now();
        let status = child.wait().unwrap();
        println!("{command} ended {:?} after Ctrl-C", began.elapsed());
        assert_eq!(status.code(), Some(1), "{command}");
        let records = read_records(std::slice::from_ref(&run)).unwrap();
        assert!(records.len() >= 2, "{command}");
        assert!(records.iter().all(|record| record.status == Status::Passed), "{command}");
        prints(here.path(), &["report", command]);
    }
}

/// `harness/examples/own_backend.rs`, built as a program of its own.
#[test]
fn a_backend_of_ones_own_is_checked_and_timed_beside_the_others() {
    let here = directory();
    let own = |arguments: &[&str]| {
        let output = program(env!("CARGO_BIN_EXE_own-backend-under-test"), here.path())
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        rows(&String::from_utf8(output.stdout).unwrap())
    };
    let checked =
        own(&["check", "--backend", "mine", "--op", "softmax", "--suite", "smoke", "--format", "csv"]);
    let mut counts: HashMap<Status, usize> = HashMap::new();
    for row in &checked {
        *counts.entry(row.status).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(counts[&Status::Passed] >= 10, "{counts:?}");
    assert!(counts.keys().all(|status| [Status::Passed, Status::Unsupported].contains(status)), "{counts:?}");
    #[rustfmt::skip]
    let timed = own(&["bench", "--backend", "mine,naive", "--case", "^softmax f32 shape=256x1024 ", "--threads", "1", "--slices", "5", "--max-time", "0.05", "--format", "csv"]);
    assert!(timed.iter().any(|row| row.backend == "mine" && row.median_ns.is_some()), "{timed:?}");
}

/// `harness/examples/own_operation.rs`: every command takes an operation that a program brings along.
#[test]
fn an_operation_of_ones_own_is_taken_by_every_command() {
    let here = directory();
    let own = |arguments: &[&str]| {
        let output = program(env!("CARGO_BIN_EXE_own-operation-under-test"), here.path())
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/../harness/examples/own_operation.toml");
    let mine = ["--backend", "mine", "--suite", suite];
    let with = |before: &[&'static str], after: &[&'static str]| own(&[before, &mine, after].concat());
    let checked = rows(&with(&["check"], &["--format", "csv"]));
    assert!(checked.len() > 50 && checked.iter().all(|row| row.status == Status::Passed), "{checked:?}");
    let explored = own(&["check", "--explore", "300", "--seed", "1", "--op", "cosine", "--backend", "mine"]);
    assert!(explored.contains("cosine") && explored.contains("300"), "{explored}");
    assert!(with(&["check", "--invariants"], &[]).contains("batching"));
    let timed = with(
        &["bench", "--threads", "1", "--slices", "5", "--max-time", "0.05", "--out", "run"],
        &["--format", "csv"],
    );
    assert!(rows(&timed).iter().any(|row| row.median_ns.is_some()), "{timed}");
    assert!(own(&["report", "run"]).contains("similarity"));
    let caught = own(&["selftest", "--fault", "^cosine-", "--suite", suite]);
    assert!(caught.contains("1 of 1 planted faults caught"), "{caught}");
    assert!(own(&["list"]).contains("cosine"));
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let here = directory();
    let repro = ["repro", "softmax f32 shape=2x3", "--backend", "naive"];
    for arguments in [&["list"][..], &["roofline"], &repro] {
        let mut command = touchstone(here.path());
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("touchstone:"), "{arguments:?}: {stderr}");
    }
}
