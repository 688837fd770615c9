//! The accuracy baseline: what is worse is named, what is not raises no alarm.

use std::path::Path;

use touchstone_reports::baseline::{Baseline, Comparison, Run, allowed, case_of};
use touchstone_reports::{Record, SCHEMA_VERSION, Status};

const PROCESSOR: &str = "Some CPU";

fn row(problem: &str, backend: &str, figure: f64) -> Record {
    Record {
        schema: SCHEMA_VERSION,
        suite: "smoke".into(),
        problem: problem.into(),
        fill: "normal".into(),
        seed: 1,
        backend: backend.into(),
        isa: backend.split('/').nth(1).unwrap_or("as compiled").into(),
        version: "1.0".into(),
        contract: "componentwise".into(),
        status: Status::Passed,
        error_over_bound: Some(figure),
        repro: format!("touchstone repro '{problem}' --backend {backend}"),
        ..Record::default()
    }
}

fn rows() -> Vec<Record> {
    vec![
        row("gelu f32 shape=7", "naive", 0.1),
        row("gelu f32 shape=7", "simd/avx2", 0.4),
        row("softmax f32 shape=2x3", "simd/avx2", 0.2),
        Record { contract: "normwise".into(), ..row("gelu f32 shape=7", "library/cpu", 0.9) },
    ]
}

fn run<'a>(records: &'a [Record], gone: &'a dyn Fn(&str, &str) -> bool) -> Run<'a> {
    Run { records, processor: PROCESSOR, portable: &|backend| !backend.starts_with("library"), gone }
}

fn nothing_gone(_: &str, _: &str) -> bool {
    false
}

fn accepted(records: &[Record]) -> Baseline {
    let mut baseline = Baseline::default();
    baseline.accept(run(records, &nothing_gone));
    baseline
}

fn compared(records: &[Record]) -> Comparison {
    accepted(&rows()).compare(run(records, &nothing_gone))
}

fn written(baseline: &Baseline) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a writable directory");
    let path = dir.path().join("baseline.csv");
    baseline.write(&path).expect("a writable directory");
    (dir, path)
}

#[test]
fn the_same_run_is_as_expected_and_the_file_keeps_it() {
    let baseline = accepted(&rows());
    let (_dir, path) = written(&baseline);
    assert_eq!(Baseline::read(&path).unwrap(), baseline);
    let compared = baseline.compare(run(&rows(), &nothing_gone));
    assert_eq!(compared, Comparison { compared: 4, ..Comparison::default() });
    let mut again = baseline.clone();
    again.accept(run(&rows(), &nothing_gone));
    assert_eq!(again, baseline);
}

/// Something done to a row.
type Edit = fn(&mut Record);

#[test]
fn what_is_worse_is_named() {
    let second = |change: fn(&mut Record)| {
        let mut rows = rows();
        change(&mut rows[1]);
        compared(&rows)
    };
    let changes: [(&str, Edit); 9] = [
        ("passed → failed", |row| row.status = Status::Failed),
        ("passed → error", |row| row.status = Status::Error),
        ("passed → timeout", |row| row.status = Status::Timeout),
        ("passed → unsupported", |row| (row.status, row.error_over_bound) = (Status::Unsupported, None)),
        ("passed → suspect", |row| row.status = Status::Suspect),
        ("passed → known", |row| (row.status, row.error_over_bound) = (Status::Known, Some(1.2))),
        ("componentwise → normwise", |row| row.contract = "normwise".into()),
        ("error over bound grew", |row| row.error_over_bound = Some(0.53)),
        ("error over bound grew", |row| row.error_over_bound = Some(f64::NAN)),
    ];
    for (what, change) in changes {
        let compared = second(change);
        let [finding] = &compared.worse[..] else { panic!("{what}: {compared:?}") };
        assert_eq!(finding.what, what);
        assert_eq!((finding.backend.as_str(), finding.before.as_str()), ("simd/avx2", "0.400"));
        assert_eq!(finding.case, "gelu f32 shape=7 fill=normal seed=1");
        assert!(compared.other.is_empty() && compared.compared == 4);
    }
}

#[test]
fn what_is_better_or_within_the_margin_is_no_alarm() {
    let with = |figure| {
        let mut rows = rows();
        rows[1].error_over_bound = Some(figure);
        compared(&rows)
    };
    assert_eq!(with(0.999 * allowed(0.4)), Comparison { compared: 4, ..Comparison::default() });
    assert_eq!(with(0.35), Comparison { compared: 4, ..Comparison::default() });
    let better = with(0.1);
    assert!(better.worse.is_empty());
    assert_eq!(better.other[0].what, "error over bound shrank");

    // A library whose error crosses its bound by a hair has not changed.
    let mut rows = rows();
    (rows[3].status, rows[3].error_over_bound) = (Status::Known, Some(1.01));
    let hair = compared(&rows);
    assert!(hair.worse.is_empty() && hair.other[0].what == "passed → known", "{hair:?}");
}

#[test]
fn a_case_that_is_gone_is_named_and_one_that_was_not_chosen_is_not() {
    let left: Vec<_> = rows().into_iter().filter(|row| row.problem.starts_with("gelu")).collect();
    assert!(compared(&left).worse.is_empty(), "not chosen");
    let gone = |suite: &str, case: &str| suite == "smoke" && case.starts_with("softmax");
    let mut baseline = accepted(&rows());
    let compared = baseline.compare(run(&left, &gone));
    assert_eq!(compared.worse.len(), 1);
    assert_eq!(compared.worse[0].case, case_of(&rows()[2]));
    assert_eq!(compared.worse[0].what, "no longer in the suite smoke");
    baseline.accept(run(&left, &gone));
    assert_eq!(baseline.cases(), 1);
    assert!(baseline.compare(run(&left, &gone)).worse.is_empty());
}

/// Rows are those of an instruction set, and of a library on one processor.
#[test]
fn another_machine_raises_no_alarm() {
    let mut here = rows();
    // No AVX2, but something that rounds differently; another libm beneath the library.
    for row in &mut here[1..3] {
        (row.backend, row.isa, row.error_over_bound) = ("simd/neon".into(), "neon".into(), Some(0.99));
    }
    here[3].error_over_bound = Some(3.0);
    here[3].status = Status::Known;
    let elsewhere = Run { processor: "Another CPU", ..run(&here, &nothing_gone) };
    let mut baseline = accepted(&rows());
    let compared = baseline.compare(elsewhere);
    assert!(compared.worse.is_empty() && compared.other.is_empty(), "{compared:?}");
    assert_eq!((compared.compared, compared.new), (1, 3));
    let skipped: Vec<_> = compared.skipped.iter().map(|s| (s.backend.as_str(), s.why.as_str())).collect();
    let other = "expected on Some CPU, this is Another CPU";
    assert_eq!(skipped, [("simd/avx2", "not in this run"), ("library/cpu", other)]);

    // What that machine finds stands beside what this one did.
    baseline.accept(elsewhere);
    assert_eq!(baseline.columns().len(), 5);
    assert_eq!(baseline.compare(run(&rows(), &nothing_gone)).compared, 4);
    assert_eq!(baseline.compare(elsewhere).new, 0);

    // The same backend on another instruction set is another column too.
    let mut wider = rows();
    wider[0].isa = "avx512".into();
    let compared = baseline.compare(run(&wider, &nothing_gone));
    assert!(compared.skipped.iter().any(|s| s.why == "expected on as compiled, here it uses avx512"));
}

#[test]
fn what_failed_is_not_accepted() {
    for status in [Status::Failed, Status::Error, Status::Timeout] {
        let mut worse = rows();
        worse[1].status = status;
        let mut baseline = accepted(&rows());
        baseline.accept(run(&worse, &nothing_gone));
        assert_eq!(baseline, accepted(&rows()));
    }
}

#[test]
fn a_damaged_file_is_refused_with_the_place() {
    let (_dir, path) = written(&accepted(&rows()));
    let text = std::fs::read_to_string(&path).unwrap();
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let message = Baseline::read(&path).unwrap_err().to_string();
        assert!(message.contains("baseline.csv:") && !message.contains('\n'), "{message}");
        message.split("baseline.csv:").nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(error(""), "1: not a baseline: expected `# touchstone baseline 1`");
    assert_eq!(
        error(&text.replacen("baseline 1", "baseline 2", 1)),
        "1: baseline version `2`, this program reads 1"
    );
    assert_eq!(
        error(&text.replace("0.400", "O.4")).split(", expected").next(),
        Some("10: column `simd/avx2` is `O.4`")
    );
    assert_eq!(error(&text.replace(",0.100", ",0.1,0.1")), "10: 6 columns, expected 5");
    assert_eq!(error(&text.replace("isa,", "iso,")), "7: the row begins with `iso`, expected `isa`");
    let gelu = text.lines().find(|line| line.starts_with("gelu")).unwrap();
    assert_eq!(
        error(&text.replace(gelu, &format!("{gelu}\n{gelu}"))),
        "11: `gelu f32 shape=7 fill=normal seed=1` is there twice"
    );
    let truncated = "truncated: expected `# cases: ` and their number as the last line";
    let lines: Vec<_> = text.lines().collect();
    let cut = |lines: &[&str]| format!("{}\n", lines.join("\n"));
    assert_eq!(error(&cut(&lines[..10])), format!("10: {truncated}"));
    assert_eq!(error(text.trim_end()), format!("11: {truncated}"));
    assert_eq!(error(&text[..text.len() - 30]), format!("10: {truncated}"));
    assert_eq!(error(&cut(&[&lines[..8], &lines[11..]].concat())), "9: the row `processor` is missing");
    let lost = cut(&[&lines[..10], &lines[11..]].concat());
    assert_eq!(error(&lost), "11: 1 cases, and the end says another number");
    assert!(Baseline::read(Path::new("/nonexistent.csv")).is_err());
}
