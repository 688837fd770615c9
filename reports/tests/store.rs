//! The promises of the run directory: nothing is lost, nothing is overwritten, nothing is guessed.
#![forbid(unsafe_code)]

use std::path::Path;

use proptest::prelude::*;
use touchstone_reports::columns::COLUMNS;
use touchstone_reports::store::{
    RECORDS_FILE, SAMPLES_FILE, merge, one_machine, read_table_from, write_whole,
};
use touchstone_reports::{
    Environment, Record, RecordError, RooflineEntry, RunWriter, SCHEMA_VERSION, SampleRow, Status,
    StoreError, read_records, read_samples,
};

fn row(problem: &str, backend: &str) -> Record {
    Record {
        schema: SCHEMA_VERSION,
        run_id: "run".into(),
        time: "2026-01-31T12:00:00Z".into(),
        problem: problem.into(),
        family: "softmax".into(),
        op: "softmax".into(),
        dtype: "f32".into(),
        backend: backend.into(),
        threads: 1,
        status: Status::Passed,
        max_abs: Some(0.0),
        max_rel: Some(f64::INFINITY),
        worst_expected: Some(f64::NAN),
        worst_got: Some(f64::NEG_INFINITY),
        ..Record::default()
    }
}

fn timed(problem: &str, backend: &str) -> Record {
    Record {
        cache: "hot".into(),
        method: "wall".into(),
        iterations: Some(10),
        samples: Some(2),
        median_ns: Some(1000),
        error_over_bound: Some(0.5),
        ..row(problem, backend)
    }
}

/// Equality that takes NaN for equal to NaN, as text does.
fn same(a: &Record, b: &Record) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn written(rows: &[Record]) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a writable directory");
    let mut run = RunWriter::create(dir.path()).expect("a writable directory");
    for row in rows {
        run.push(row, &[]).expect("a writable directory");
    }
    let bytes = std::fs::read(dir.path().join(RECORDS_FILE)).expect("a writable directory");
    (dir, bytes)
}

/// An error and what caused it, each said once, as the command prints it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn error_of(bytes: &[u8]) -> String {
    let message = chain(&read_table_from(Path::new("a.csv"), bytes).expect_err("damaged"));
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

fn number() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        Just(None),
        any::<f64>().prop_map(Some),
        Just(Some(f64::NAN)),
        Just(Some(f64::INFINITY)),
        Just(Some(f64::NEG_INFINITY)),
        Just(Some(f64::from_bits(1))),
    ]
}

proptest! {
    #[test]
    fn any_record_survives_the_file(
        texts in proptest::collection::vec("(\\PC|[\"\n\r,;])*", 4),
        numbers in proptest::collection::vec(number(), 4),
        seed: u64, flops: u64, memory: Option<u64>, dirty: bool,
    ) {
        let record = Record {
            reason: format!("why: {}", texts[0]),
            version: texts[1].clone(),
            repro: format!("touchstone repro {}", texts[2]),
            fill: texts[3].clone(),
            status: Status::Failed,
            max_abs: numbers[0], rmse: numbers[1], worst_got: numbers[2], load: numbers[3],
            seed, flops, peak_memory: memory, git_dirty: dirty,
            ..row("p", "naive")
        };
        let (dir, _) = written(std::slice::from_ref(&record));
        let back = read_records(&[dir.path()]).unwrap();
        prop_assert!(same(&back[0], &record), "{:?} != {:?}", back[0], record);
    }

    #[test]
    fn a_torn_file_is_an_error_to_read_and_resumes(cut in 1usize..400) {
        let rows = [timed("a, \"quoted\"\nproblem", "naive"), timed("b", "naive")];
        let (dir, bytes) = written(&rows);
        let torn = &bytes[..bytes.len() - cut.min(bytes.len() / 3)];
        prop_assume!(torn.last() != Some(&b'\n') || torn.len() < bytes.len());
        std::fs::write(dir.path().join(RECORDS_FILE), torn).unwrap();
        let mut run = RunWriter::resume(dir.path()).unwrap();
        let kept = run.earlier().len();
        prop_assert!(kept < rows.len());
        for row in rows.iter().filter(|row| !run.is_done(&row.key())).collect::<Vec<_>>() {
            run.push(row, &[]).unwrap();
        }
        prop_assert_eq!(std::fs::read(dir.path().join(RECORDS_FILE)).unwrap(), bytes);
    }
}

#[test]
fn damaged_files_name_the_line_and_the_column() {
    let (_dir, bytes) = written(&[timed("a", "naive"), timed("b", "naive")]);
    let text = String::from_utf8(bytes.clone()).unwrap();

    assert!(error_of(b"").starts_with("a.csv: empty"));
    let torn = error_of(&bytes[..bytes.len() - 3]);
    assert!(torn.starts_with("a.csv:3: truncated row"), "{torn}");
    let torn = error_of(&bytes[..bytes.len() - 90]);
    assert!(torn.starts_with("a.csv:3: truncated row"), "{torn}");

    let number = error_of(text.replacen(",1000,", ",1o00,", 1).as_bytes());
    assert_eq!(number, "a.csv:2: column `median_ns` is `1o00`, expected a non-negative integer");
    let status = error_of(text.replacen(",passed,", ",past,", 1).as_bytes());
    assert!(status.starts_with("a.csv:2: column `status` is `past`, expected passed,"));
    let header = error_of(text.replacen("rustc", "compiler", 1).as_bytes());
    assert_eq!(header, "a.csv:1: column 6 of the header is `compiler`, expected `rustc`");
    let (now, wide) = (SCHEMA_VERSION, COLUMNS.len());
    let narrow = error_of(text.replacen(&format!("{now},run,"), &format!("{now},"), 1).as_bytes());
    assert_eq!(narrow, format!("a.csv:2: {} columns, expected {wide}", wide - 1));
    let schema = |found| {
        format!(
            "a.csv:2: schema version {found}, expected {now} by its header; this program reads 1 to {now}"
        )
    };
    let mixed = text.replacen(&format!("\n{now},run"), &format!("\n{},run", now - 1), 1);
    assert_eq!(error_of(mixed.as_bytes()), schema(now - 1));
    let newer = format!("schema,who\n{},x\n", now + 1);
    assert_eq!(error_of(newer.as_bytes()), schema(now + 1));
    let other = error_of(b"name,time\nx,1\n");
    assert!(other.starts_with("a.csv:1: column 1 of the header is `name`"));
    let wrong = error_of(text.replacen(",passed,", ",failed,", 1).as_bytes());
    assert!(wrong.starts_with("a.csv:2: `method` is wall in a row with status failed"));
    assert_eq!(wrong.matches("`method` is wall").count(), 1, "{wrong}");
    let mut binary = bytes.clone();
    let end = binary.len() - 5;
    binary[end] = 0xff;
    assert!(error_of(&binary).contains("UTF-8"));
}

#[test]
fn no_records_at_all_is_an_error_but_an_idle_shard_is_not() {
    let (idle, _) = written(&[]);
    let (busy, _) = written(&[row("a", "naive")]);
    assert!(matches!(read_records(&[idle.path()]), Err(StoreError::NoRecords { .. })));
    assert_eq!(read_records(&[idle.path(), busy.path()]).unwrap().len(), 1);
    assert!(matches!(read_records(&[Path::new("/nonexistent.csv")]), Err(StoreError::Io { .. })));
}

#[test]
fn merging_keeps_the_latest_of_each_key_in_order_of_appearance() {
    let old = row("a", "naive");
    let new = Record { time: "2026-01-31T12:00:00.5Z".into(), suite: "new".into(), ..old.clone() };
    for tables in [[vec![old.clone()], vec![new.clone()]], [vec![new], vec![old]]] {
        let merged = merge([tables[0].clone(), vec![row("b", "naive")], tables[1].clone()]);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].suite, "new");
    }
}

#[test]
fn eight_shards_merge_to_the_whole_run() {
    let rows: Vec<_> = (0..40).map(|i| timed(&format!("p{i}"), "naive")).collect();
    let (whole, _) = written(&rows);
    let shards: Vec<_> = (0..8)
        .map(|k| {
            let part: Vec<_> = rows.iter().skip(k).step_by(8).cloned().collect();
            written(&part).0
        })
        .collect();
    let paths: Vec<_> = shards.iter().map(|dir| dir.path()).collect();
    let mut merged = read_records(&paths).unwrap();
    let mut all = read_records(&[whole.path()]).unwrap();
    merged.sort_by_key(Record::key);
    all.sort_by_key(Record::key);
    assert!(merged.iter().zip(&all).all(|(a, b)| same(a, b)) && merged.len() == all.len());
}

#[test]
fn a_run_is_never_overwritten_or_doubled() {
    let (dir, bytes) = written(&[row("a", "naive")]);
    assert!(matches!(RunWriter::create(dir.path()), Err(StoreError::AlreadyThere { .. })));
    let mut run = RunWriter::resume(dir.path()).unwrap();
    assert!(matches!(run.push(&row("a", "naive"), &[]), Err(StoreError::Duplicate { .. })));
    assert_eq!(std::fs::read(dir.path().join(RECORDS_FILE)).unwrap(), bytes);
}

#[test]
fn samples_without_their_record_are_dropped_on_resume() {
    let (first, second) = (timed("a", "naive"), timed("b", "naive"));
    let dir = tempfile::tempdir().unwrap();
    let mut run = RunWriter::create(dir.path()).unwrap();
    run.push(&first, &SampleRow::of(&first, &[(10, 9_000), (10, 11_000)])).unwrap();
    run.push(&second, &SampleRow::of(&second, &[(10, 9_000)])).unwrap();
    drop(run);
    let path = dir.path().join(RECORDS_FILE);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    drop(RunWriter::resume(dir.path()).unwrap());
    let samples = read_samples(&[dir.path()]).unwrap();
    assert_eq!(samples, SampleRow::of(&first, &[(10, 9_000), (10, 11_000)]));
    let damaged = std::fs::read_to_string(dir.path().join(SAMPLES_FILE)).unwrap().replace("11000", "x");
    std::fs::write(dir.path().join(SAMPLES_FILE), damaged).unwrap();
    let message = read_samples(&[dir.path()]).unwrap_err().to_string();
    assert!(message.contains("samples.csv:3: column `ns` is `x`"), "{message}");
}

#[test]
fn a_time_without_agreement_cannot_be_recorded() {
    for status in Status::ALL {
        let record = Record {
            status,
            reason: "because".into(),
            repro: "touchstone repro 'a'".into(),
            ..timed("a", "naive")
        };
        let verdict = record.validate();
        if status == Status::Passed {
            assert_eq!(verdict, Ok(()));
        } else {
            assert!(
                matches!(&verdict, Err(RecordError::TimeWithoutAgreement { column: "method", .. })),
                "{status}: {verdict:?}"
            );
            let dir = tempfile::tempdir().unwrap();
            let mut run = RunWriter::create(dir.path()).unwrap();
            let refused = run.push(&record, &[]).unwrap_err();
            assert!(matches!(refused, StoreError::Refused { .. }));
            assert_eq!(chain(&refused).matches("`method` is wall").count(), 1);
        }
    }
}

#[test]
fn contradictions_are_refused_with_their_operands() {
    let order = Record { p90_ns: Some(5), ..timed("a", "naive") };
    assert_eq!(order.validate().unwrap_err().to_string(), "`median_ns` is 1000 but `p90_ns` is 5");
    let silent = Record { status: Status::Failed, ..row("a", "naive") };
    assert!(matches!(silent.validate(), Err(RecordError::Missing { column: "reason", .. })));
    let local = Record { time: "2026-01-31T12:00:00+01:00".into(), ..row("a", "naive") };
    assert!(matches!(local.validate(), Err(RecordError::Time { .. })));
}

#[test]
fn the_word_passed_is_no_evidence() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 7] = [
        ("error_over_bound", |r| r.error_over_bound = Some(700.0)),
        ("error_over_bound", |r| r.error_over_bound = Some(f64::NAN)),
        ("max_abs", |r| r.max_abs = Some(f64::NAN)),
        ("max_abs", |r| (r.worst_expected, r.worst_got, r.max_abs) = (Some(1.0), Some(3.0), Some(0.5))),
        ("speedup", |r| r.speedup = Some(f64::NAN)),
        ("roofline_percent", |r| r.roofline_percent = Some(43_010_038.0)),
        ("roofline_percent", |r| r.roofline_percent = Some(f64::NAN)),
    ];
    for (column, change) in changes {
        let mut record = timed("a", "naive");
        assert_eq!(record.validate(), Ok(()));
        change(&mut record);
        let verdict = record.validate();
        assert!(
            matches!(&verdict, Err(RecordError::Figure { column: c, .. }) if *c == column),
            "{verdict:?}"
        );
        // And a file that somebody else has written is not believed either.
        let (dir, bytes) = written(&[timed("a", "naive")]);
        let text = String::from_utf8(bytes).unwrap().replace("0.5", "700");
        std::fs::write(dir.path().join(RECORDS_FILE), text).unwrap();
        assert!(read_records(&[dir.path()]).is_err());
    }
    let unjudged = Record { error_over_bound: None, ..timed("a", "naive") };
    assert!(matches!(unjudged.validate(), Err(RecordError::Missing { column: "error_over_bound", .. })));
    let prepared = Record {
        status: Status::Failed,
        reason: "wrong".into(),
        repro: "touchstone repro 'a'".into(),
        prepare_ns: Some(1),
        ..row("a", "naive")
    };
    assert!(matches!(
        prepared.validate(),
        Err(RecordError::TimeWithoutAgreement { column: "prepare_ns", .. })
    ));
}

#[test]
fn times_of_two_machines_stay_apart() {
    let on = |machine: &str| Record { machine: machine.into(), ..timed("a", "naive") };
    let both = merge([vec![on("one")], vec![on("two")]]);
    assert_eq!(both.len(), 2, "neither replaces the other");
    let refused = one_machine(&both).unwrap_err().to_string();
    assert!(refused.contains("1 rows of one") && refused.contains("1 rows of two"), "{refused}");
    assert!(one_machine(&[on("one"), on("one")]).is_ok());
    let device = |name: &str| Record { device: "cuda:0".into(), device_name: name.into(), ..on("one") };
    let refused = one_machine(&[device("A100"), device("H200")]).unwrap_err().to_string();
    assert!(refused.contains("A100") && refused.contains("H200"), "{refused}");
    // Verdicts without times may come from anywhere.
    let untimed = |machine: &str| Record { machine: machine.into(), ..row("a", "naive") };
    assert!(one_machine(&[untimed("one"), untimed("two")]).is_ok());
}

#[test]
fn a_run_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let first = RunWriter::create(dir.path()).unwrap();
    for second in [RunWriter::create(dir.path()), RunWriter::resume(dir.path())] {
        assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    }
    drop(first);
    assert!(RunWriter::resume(dir.path()).is_ok());
}

/// Eight rows of which the third has a quote too many: seven are good, and none is thrown away.
#[test]
fn a_stray_quote_costs_no_good_row() {
    let rows: Vec<_> = (0..8).map(|i| row(&format!("p{i}"), "naive")).collect();
    let (dir, bytes) = written(&rows);
    let path = dir.path().join(RECORDS_FILE);
    let damaged = String::from_utf8(bytes).unwrap().replacen("p2", "\"p2", 1);
    std::fs::write(&path, &damaged).unwrap();
    let refused = RunWriter::resume(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. } | StoreError::Width { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
}

#[test]
fn what_a_resumed_run_removes_is_kept_beside_it() {
    let (dir, bytes) = written(&[row("a", "naive"), row("b", "naive")]);
    let path = dir.path().join(RECORDS_FILE);
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    let run = RunWriter::resume(dir.path()).unwrap();
    assert_eq!((run.earlier().len(), run.removed().len()), (1, 1));
    let kept = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let backup = kept.into_iter().find(|path| path.to_string_lossy().contains(".bak")).expect("a backup");
    assert_eq!(std::fs::read(backup).unwrap(), &bytes[..bytes.len() - 4]);
}

#[test]
fn environment_survives_the_file_and_older_files_read() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Environment::read(dir.path()).unwrap(), None);
    let environment = Environment {
        seeds: vec![0, u64::MAX],
        roofline: vec![RooflineEntry { threads: 2, fma_gflops: Some(190.0), ..RooflineEntry::default() }],
        ..Environment::default()
    };
    environment.write(dir.path()).unwrap();
    assert_eq!(Environment::read(dir.path()).unwrap(), Some(environment));

    let file = dir.path().join("environment.toml");
    std::fs::write(&file, "run_id = \"old\"\nseeds = [7]\nlater = true\n").unwrap();
    let old = Environment::beside(&dir.path().join("records.csv")).unwrap().unwrap();
    assert_eq!((old.run_id.as_str(), old.seeds), ("old", vec![7]));

    std::fs::write(&file, "run_id = 3\n").unwrap();
    let message = Environment::read(dir.path()).unwrap_err().to_string();
    assert!(message.contains("environment.toml") && message.contains("line 1"), "{message}");
}

#[test]
fn an_error_of_the_system_is_said_once() {
    let message = chain(&read_records(&[Path::new("/nonexistent.csv")]).unwrap_err());
    assert!(message.starts_with("/nonexistent.csv: "), "{message}");
    assert_eq!(message.matches("No such file").count(), 1, "{message}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_what_is_no_file_is_written_in_place() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("sub")).unwrap();
    symlink("sub/page.html", at("link")).unwrap();
    symlink("link", at("link to link")).unwrap();
    // First into a file that is yet to be made, then over it.
    for text in ["first", "second"] {
        write_whole(&at("link to link"), text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(at("sub/page.html")).unwrap(), text);
        assert!(at("link").is_symlink() && at("link to link").is_symlink());
    }
    assert_eq!(std::fs::read_dir(at("sub")).unwrap().count(), 1, "nothing partial is left");

    write_whole(Path::new("/dev/null"), b"gone").unwrap();
    assert!(std::fs::metadata("/dev/null").is_ok_and(|null| !null.is_file()));
    assert!(write_whole(dir.path(), b"a directory").is_err());

    symlink("round", at("round")).unwrap();
    let message = chain(&write_whole(&at("round"), b"").unwrap_err());
    assert!(message.contains("too many links"), "{message}");

    // An open file of a process is no place of its own: it is written through, not replaced.
    let file = std::fs::File::create(at("open")).unwrap();
    let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    if Path::new(&through).exists() {
        write_whole(Path::new(&through), b"through").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 7);
    }
}

/// The same rows as an older version of the schema wrote them: without what it did not have.
fn older(version: &str, columns: usize, bytes: &[u8]) -> Vec<u8> {
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    let mut old = csv::Writer::from_writer(Vec::new());
    for row in rows.records() {
        let row = row.expect("rows written above");
        let schema = if &row[0] == "schema" { "schema" } else { version };
        old.write_record(std::iter::once(schema).chain(row.iter().skip(1).take(columns - 1)))
            .expect("memory");
    }
    old.into_inner().expect("memory")
}

#[test]
fn an_older_version_is_read_and_resumed() {
    let rows = [timed("a", "naive"), timed("b", "naive")];
    let (dir, new) = written(&rows);
    let read_back = |old: &[u8]| {
        let read = read_table_from(Path::new("a.csv"), old).unwrap();
        assert!(read.len() == 2 && read.iter().zip(&rows).all(|(read, row)| same(read, row)));
    };
    read_back(&older("4", 68, &new));
    read_back(&older("3", 67, &new));
    read_back(&older("2", 66, &new));
    let old = older("1", 62, &new);
    read_back(&old);

    let path = dir.path().join(RECORDS_FILE);
    std::fs::write(&path, old).unwrap();
    let mut run = RunWriter::resume(dir.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), new, "one file is of one version");
    run.push(&timed("c", "naive"), &[]).unwrap();
    assert_eq!(read_records(&[dir.path()]).unwrap().len(), 3);
}

#[test]
fn samples_without_a_word_on_disturbance_are_read_as_undisturbed() {
    let dir = tempfile::tempdir().unwrap();
    let header = "run_id,problem,fill,seed,backend,threads,cache,slice,iterations,ns";
    let file = dir.path().join(SAMPLES_FILE);
    std::fs::write(&file, format!("{header}\nrun,p,normal,1,naive,1,hot,3,10,500\n")).unwrap();
    assert!(read_samples(&[&file]).unwrap()[0].clean);
    std::fs::write(&file, format!("{header},clean\nrun,p,normal,1,naive,1,hot,3,10,500,false\n")).unwrap();
    assert!(!read_samples(&[&file]).unwrap()[0].clean);
    std::fs::write(&file, format!("{header},clean\nrun,p,normal,1,naive,1,hot,3,10,500,maybe\n")).unwrap();
    let error = chain(&read_samples(&[&file]).unwrap_err());
    assert!(error.ends_with("column `clean` is `maybe`, expected true or false"), "{error}");
}
