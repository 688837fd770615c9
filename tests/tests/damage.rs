//! A run that is torn, mixed or edited by hand: one clear line with the file, the line, the column and
//! the value, exit status 1, and nothing written over what was there.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::Path;

use touchstone::{directory, prints, run};
use touchstone_reports::{Environment, Record, RunWriter, SCHEMA_VERSION, SampleRow, Status};

fn row(problem: &str, backend: &str) -> Record {
    Record {
        schema: SCHEMA_VERSION,
        run_id: "run".into(),
        time: "2026-01-31T12:00:00Z".into(),
        problem: problem.into(),
        family: "softmax".into(),
        op: "softmax".into(),
        dtype: "f32".into(),
        fill: "normal".into(),
        seed: 1,
        backend: backend.into(),
        device: "cpu".into(),
        threads: 1,
        status: Status::Passed,
        cache: "hot".into(),
        method: "wall".into(),
        iterations: Some(10),
        samples: Some(5),
        min_ns: Some(900),
        p10_ns: Some(901),
        median_ns: Some(1000),
        p90_ns: Some(1100),
        error_over_bound: Some(0.5),
        repro: "touchstone repro".into(),
        ..Record::default()
    }
}

/// A whole run of two rows.
fn whole(dir: &Path) {
    let mut writer = RunWriter::create(dir).unwrap();
    for backend in ["naive", "simd/avx2"] {
        let row = row("softmax f32 shape=2x3", backend);
        let slices: Vec<_> = (0..5).map(|i| (10, 9_990 + i)).collect();
        writer.push(&row, &SampleRow::of(&row, &slices)).unwrap();
    }
    Environment::default().write(dir).unwrap();
}

/// A file of a run, what is done to it, and what the complaint has to say.
type Damage = (&'static str, &'static str, fn(Vec<u8>) -> Vec<u8>, &'static [&'static str]);

/// Replaces the first of some text.
fn edit(bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

const RECORDS: &str = "records.csv";
const SAMPLES: &str = "samples.csv";
const ENVIRONMENT: &str = "environment.toml";

#[rustfmt::skip]
const DAMAGES: [Damage; 27] = [
    ("emptied", RECORDS, |_| Vec::new(), &["records.csv: empty", "76 columns"]),
    ("zeroed by a crash", RECORDS, |b| vec![0; b.len()], &["records.csv:1: column 1", "expected `schema`"]),
    ("cut in the header", RECORDS, |b| b[..40].to_vec(), &["records.csv:1: column 5", "`git_dirt`", "expected `git_dirty`"]),
    ("without rows", RECORDS, |b| b.split_inclusive(|&b| b == b'\n').next().unwrap().to_vec(), &["no records in", "records.csv|run"]),
    ("cut in a cell", RECORDS, |b| b[..b.len() - 90].to_vec(), &["records.csv:3: truncated row", "of 76 columns"]),
    ("cut before the line end", RECORDS, |b| b[..b.len() - 1].to_vec(), &["records.csv:3: truncated row"]),
    ("a cell too few", RECORDS, |b| edit(b, "\n6,run,", "\n6,"), &["records.csv:2: 75 columns, expected 76"]),
    ("a cell too many", RECORDS, |b| edit(b, "\n6,run,", "\n6,run,run,"), &["records.csv:2: 77 columns, expected 76"]),
    ("a letter in a number", RECORDS, |b| edit(b, ",1000,", ",1o00,"), &["records.csv:2: column `median_ns` is `1o00`", "integer"]),
    ("a negative time", RECORDS, |b| edit(b, ",1000,", ",-1000,"), &["records.csv:2: column `median_ns` is `-1000`"]),
    ("a fraction of a thread", RECORDS, |b| edit(b, ",cpu,,1,", ",cpu,,1.5,"), &["records.csv:2: column `threads` is `1.5`"]),
    ("no thread", RECORDS, |b| edit(b, ",cpu,,1,", ",cpu,,0,"), &["records.csv:2", "column `threads` is empty"]),
    ("an unknown status", RECORDS, |b| edit(b, ",passed,", ",past,"), &["records.csv:2: column `status` is `past`", "passed, failed"]),
    ("no flag", RECORDS, |b| edit(b, ",false,", ",perhaps,"), &["records.csv:2: column `git_dirty` is `perhaps`", "true or false"]),
    ("an unknown cache state", RECORDS, |b| edit(b, ",hot,", ",warm,"), &["records.csv:2", "column `cache` is `warm`", "hot, cold"]),
    ("a time in a failed row", RECORDS, |b| edit(b, ",passed,", ",failed,"), &["records.csv:2", "`method` is wall", "failed"]),
    ("percentiles out of order", RECORDS, |b| edit(b, ",1000,", ",2000,"), &["records.csv:2", "`median_ns` is 2000", "`p90_ns` is 1100"]),
    ("a local time", RECORDS, |b| edit(b, "12:00:00Z", "12:00:00+01:00"), &["records.csv:2", "12:00:00+01:00", "UTC"]),
    ("rows of two versions", RECORDS, |b| edit(b, "\n6,run", "\n5,run"), &["records.csv:2: schema version 5, expected 6"]),
    ("a version to come", RECORDS, |b| edit(edit(b, "\n6,run", "\n9,run"), "schema,", "schema,new,"), &["records.csv:2: schema version 9", "reads 1 to 6"]),
    ("a renamed column", RECORDS, |b| edit(b, "rustc", "compiler"), &["records.csv:1: column 6", "`compiler`", "`rustc`"]),
    ("columns in another order", RECORDS, |b| edit(b, "min_ns,p10_ns", "p10_ns,min_ns"), &["records.csv:1: column 41", "`p10_ns`", "`min_ns`"]),
    ("no UTF-8", RECORDS, |mut b| { let end = b.len() - 9; b[end] = 0xff; b }, &["records.csv:3", "UTF-8"]),
    ("an open quote", RECORDS, |b| edit(b, ",touchstone repro", ",\"touchstone repro"), &["records.csv:2: truncated row"]),
    ("samples cut in a cell", SAMPLES, |b| b[..b.len() - 9].to_vec(), &["samples.csv:11: truncated row"]),
    ("a letter in a sample", SAMPLES, |b| edit(b, ",9990,", ",999O,"), &["samples.csv:2: column `ns` is `999O`"]),
    ("an environment of another shape", ENVIRONMENT, |_| b"run_id = 'run'\ncommand = 3\n".to_vec(), &["environment.toml: line 2", "expected a string"]),
];

/// What a report writes, besides pictures, and what stands there before.
const WRITTEN: [&str; 2] = ["page", "document"];
const PAGE: &str = "<!-- touchstone:summary -->\nearlier\n<!-- /touchstone:summary -->\n\
    <!-- touchstone:verdicts -->\nearlier\n<!-- /touchstone:verdicts -->\n\
    <!-- touchstone:speed -->\nearlier\n<!-- /touchstone:speed -->\n";

#[test]
fn a_damaged_run_is_refused_with_the_place_and_nothing_is_written() {
    let here = directory();
    whole(&here.path().join("good"));
    let report: &[&str] = &[
        "report",
        "run",
        "--html",
        "page",
        "--markdown",
        "page",
        "--plots",
        "pictures",
        "--splice",
        "document",
    ];
    let commands: [&[&str]; 5] = [
        report,
        &["report", "good", "run", "--html", "page"],
        &["diff", "good", "run"],
        &["diff", "run", "good"],
        &["history", "good", "run", "--plots", "pictures"],
    ];
    let mut refused = 0;
    let mut wrong = Vec::new();
    for (what, file, damage, words) in DAMAGES {
        let dir = here.path().join("run");
        whole(&dir);
        let path = dir.join(file);
        let damaged = damage(std::fs::read(&path).unwrap());
        std::fs::write(&path, &damaged).unwrap();
        for name in WRITTEN {
            std::fs::write(here.path().join(name), PAGE).unwrap();
        }
        for command in commands {
            // A history needs no samples, an idle shard holds no rows, and a report's machine is that of
            // its first run.
            let first_is_good = command[..2] == ["report", "good"];
            let ignored = match file {
                SAMPLES => command[0] == "history",
                ENVIRONMENT => first_is_good,
                _ => what == "without rows" && (first_is_good || command[0] == "history"),
            };
            if ignored {
                continue;
            }
            let output = run(here.path(), command);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{what}, {command:?}: {stderr}");
            assert!(output.stdout.is_empty(), "{what}, {command:?}");
            assert!(stderr.starts_with("touchstone: ") && stderr.trim_end().lines().count() == 1, "{stderr}");
            let missing = words.iter().filter(|word| !word.split('|').any(|word| stderr.contains(word)));
            wrong.extend(missing.map(|word| format!("{what}: no '{word}' in {stderr}")));
            refused += 1;
        }
        for name in WRITTEN {
            assert_eq!(std::fs::read_to_string(here.path().join(name)).unwrap(), PAGE, "{what}: {name}");
        }
        assert!(!here.path().join("pictures").exists(), "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "{what}");
        let names: Vec<_> = std::fs::read_dir(here.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "{what}: {names:?}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
    println!("{refused} refusals of {} kinds of damage", DAMAGES.len());
    assert!(refused >= 4 * DAMAGES.len());

    // Undamaged, each of them works.
    whole(&here.path().join("run"));
    for command in commands {
        prints(here.path(), command);
    }
    assert!(here.path().join("pictures").exists());
}
