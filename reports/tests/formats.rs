//! What other programs read: the schema and the columns as documents, and runs of every version.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use touchstone_reports::columns::{COLUMNS, SAMPLES, document, json_schema};
use touchstone_reports::{Environment, SCHEMA_VERSION, Status, read_records, read_samples, sample};

fn committed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/version-{version}"))
}

#[test]
fn the_documents_are_those_of_the_code() {
    let renew = "run `cargo run --release -p touchstone-reports --example schema`";
    assert_eq!(committed("record.schema.json"), format!("{:#}\n", json_schema()), "{renew}");
    assert_eq!(committed("columns.md"), document(), "{renew}");
    for column in COLUMNS.iter().chain(&SAMPLES) {
        assert!(document().contains(&format!("| `{}` |", column.name)) && !column.meaning.is_empty());
    }
    assert_eq!(SAMPLES.map(|column| column.name), sample::SAMPLE_COLUMNS);
}

/// Rows that earlier versions of this program wrote, as they stand in its own history.
#[test]
fn every_earlier_version_is_read() {
    for version in 1..SCHEMA_VERSION {
        let run = fixture(version);
        let records = read_records(&[&run]).unwrap();
        let samples = read_samples(&[&run]).unwrap();
        assert!(records.len() >= 4, "version {version}: {} records", records.len());
        assert!(records.iter().all(|record| record.schema == SCHEMA_VERSION));
        let timed: Vec<_> = records.iter().filter(|record| record.is_timed()).collect();
        assert_eq!(timed.len(), 2, "version {version}");
        for record in timed {
            assert_eq!(record.status, Status::Passed);
            // What the version did not have is empty, and what it had is there.
            assert!(record.gflops.is_some() && record.roofline_percent.is_some() && record.load.is_some());
            assert!(record.extra_memory.is_none() || version >= 3);
            assert!(record.canary_ns.is_none() || version >= 4);
            // A row of its own has no machine; the environment beside it names one.
            assert!(!record.machine.is_empty() && record.first_ns.is_none(), "version {version}");
            assert!(record.audit_ns.is_none() || version >= 5);
            let own = samples.iter().filter(|sample| sample.key() == record.key()).count();
            let left_out = if record.disturbed { 0 } else { record.contaminated.unwrap_or(0) };
            assert_eq!(Some(own as u32), record.samples.map(|kept| kept + left_out));
        }
        let environment = Environment::read(&run).unwrap().unwrap();
        assert_eq!((environment.schema, environment.machine.cores), (version, Some(2)));
        assert!(environment.roofline.iter().all(|entry| entry.fma_gflops.is_some()));
    }
    // All versions together make one report.
    let all = read_records(&(1..SCHEMA_VERSION).map(fixture).collect::<Vec<_>>()).unwrap();
    assert!(all.len() >= 8, "{}", all.len());
}
