//! `touchstone report target/criterion`: what `cargo bench` left is a report too.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::{Path, PathBuf};

use touchstone::{directory, prints, run};
use touchstone_reports::{Record, Status};

/// The benchmark that is damaged below.
const ONE: &str = "softmax/simd_avx512/softmax f32 shape=256x1024/new";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// Four benchmarks as criterion left them, in a directory of our own.
fn bench(here: &Path) -> PathBuf {
    let bench = here.join("criterion");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/criterion"), &bench);
    bench
}

#[test]
fn a_bench_is_a_report() {
    let here = directory();
    bench(here.path());
    let csv = prints(here.path(), &["report", "criterion", "--format", "csv"]);
    let rows: Vec<Record> =
        csv::Reader::from_reader(csv.as_bytes()).deserialize().map(Result::unwrap).collect();
    assert!(rows.len() >= 2, "{csv}");
    for row in &rows {
        assert_eq!((row.status, row.op.as_str(), row.dtype.as_str()), (Status::Passed, "softmax", "f32"));
        assert!(row.validate().is_ok() && row.problem == "softmax f32 shape=256x1024");
        let ladder = [row.min_ns, row.p10_ns, row.median_ns, row.p90_ns];
        assert!(ladder.is_sorted() && ladder[0].is_some_and(|ns| ns > 1000), "{ladder:?}");
        assert!(row.gb_per_s.is_some_and(|rate| rate > 0.1) && row.error_over_bound.is_none());
        assert!(row.speedup.is_some() && row.speedup_low.is_none(), "no interval that is none");
    }
    let simd = rows.iter().find(|row| row.backend == "simd/avx512").unwrap();
    assert_eq!((simd.median_ns, simd.samples, simd.threads), (Some(85_089), Some(20), 2));
    assert!(simd.speedup.unwrap() > 1.0);

    prints(here.path(), &["report", "criterion", "--html", "page.html", "--markdown", "page.md"]);
    let page = std::fs::read_to_string(here.path().join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("simd/avx512") && page.contains("softmax"));

    // Benchmarks of somebody else's are named and left out.
    let other = here.path().join("criterion/sorting/quick/new");
    std::fs::create_dir_all(&other).unwrap();
    let names = r#"{"group_id":"sorting","function_id":"quick","value_str":null,"full_id":"sorting/quick"}"#;
    std::fs::write(other.join("benchmark.json"), names).unwrap();
    let output = run(here.path(), &["report", "criterion", "--format", "csv"]);
    assert_eq!((output.status.code(), output.stdout), (Some(0), csv.into_bytes()));
    assert!(String::from_utf8(output.stderr).unwrap().contains("sorting/quick"));
}

/// What a kernel left that was wrong after its last iteration, or an earlier run, has a time and no judge.
#[test]
fn a_benchmark_that_this_run_has_not_judged_is_left_out() {
    let here = directory();
    let ledger = bench(here.path()).join("judged.csv");
    let text = std::fs::read_to_string(&ledger).unwrap();
    let without: String = text.split_inclusive('\n').filter(|line| !line.contains("simd")).collect();
    std::fs::write(&ledger, without).unwrap();
    let output = run(here.path(), &["report", "criterion", "--format", "csv"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8(output.stdout).unwrap().contains("simd/avx512"));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("not judged in the last run: softmax/simd/avx512")
    );
}

/// A file of a benchmark, what becomes of it, and what the complaint has to say.
type Damage = (&'static str, fn(&str) -> Option<String>, &'static [&'static str]);

#[rustfmt::skip]
const DAMAGES: [Damage; 10] = [
    ("sample.json", |_| None, &["sample.json", "No such file"]),
    ("sample.json", |_| Some(String::new()), &["sample.json", "line 1 column 0"]),
    ("sample.json", |text| Some(text[..text.len() / 2].into()), &["sample.json", "line 1 column"]),
    ("sample.json", |text| Some(text.replacen("51.0", "\"51\"", 1)), &["sample.json", "expected f64", "column"]),
    ("sample.json", |text| Some(text.replacen("[51.0,", "[", 1)), &["sample.json", "19 iteration counts and 20 times"]),
    ("sample.json", |text| Some(text.replacen("51.0", "0.0", 1)), &["sample.json", "0 is no count"]),
    ("sample.json", |text| Some(text.replacen("51.0", "-51.0", 1)), &["sample.json", "-51"]),
    ("sample.json", |_| Some(r#"{"iters":[],"times":[]}"#.into()), &["sample.json", "0 times"]),
    ("estimates.json", |text| Some(text.replace("85088", "95088")), &["estimates.json", "95088", "sample.json"]),
    ("estimates.json", |_| Some("{}".into()), &["estimates.json", "median"]),
];

#[test]
fn a_damaged_bench_is_refused_with_the_file() {
    let here = directory();
    let refuses = |words: &[&str]| {
        std::fs::write(here.path().join("page"), "earlier").unwrap();
        let output = run(here.path(), &["report", "criterion", "--html", "page"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty() && stderr.trim_end().lines().count() == 1, "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{words:?}: {stderr}");
        assert_eq!(std::fs::read_to_string(here.path().join("page")).unwrap(), "earlier");
    };
    for (file, damage, words) in DAMAGES {
        let path = bench(here.path()).join(ONE).join(file);
        match damage(&std::fs::read_to_string(&path).unwrap()) {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        refuses(words);
    }
    let environment = bench(here.path()).join("environment.toml");
    let text = std::fs::read_to_string(&environment).unwrap();
    std::fs::write(&environment, text.replace("simd/avx512", "simd/avx1024")).unwrap();
    refuses(&["simd/avx512", "not in environment.toml"]);
    let ledger = bench(here.path()).join("judged.csv");
    let text = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, text.replace("20261122T120000Z-1", "20261121T120000Z-1")).unwrap();
    refuses(&["judged.csv", "none of the 4 benchmarks", "cargo bench"]);
    std::fs::remove_file(&ledger).unwrap();
    refuses(&["judged.csv: missing", "cargo bench"]);
    let environment = bench(here.path()).join("environment.toml");
    std::fs::write(&environment, "machine = 7\n").unwrap();
    refuses(&["environment.toml: line 1"]);
    std::fs::remove_file(&environment).unwrap();
    refuses(&["environment.toml", "cargo bench"]);
}
