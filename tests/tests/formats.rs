//! What `--format json` prints is what the committed schema says, for each command that prints records.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::Path;

use serde_json::{Value, json};
use touchstone::{directory, prints};

fn schema() -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/schema/record.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// The objects of JSON lines, each of which is valid.
fn valid(schema: &jsonschema::Validator, lines: &str) -> Vec<Value> {
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for object in &objects {
        let errors: Vec<_> = schema.iter_errors(object).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {object}");
    }
    assert!(!objects.is_empty());
    objects
}

#[test]
fn json_is_what_the_schema_says() {
    let here = directory();
    let schema = schema();
    // NaN, infinities, what is not supported, and times.
    let check = ["check", "--suite", "smoke", "--op", "softmax,gelu", "--format", "json"];
    let checked = valid(&schema, &prints(here.path(), &check));
    let suite = "[[case]]\nop = 'gelu'\ndtype = 'f32'\nshape = '16x64'\ntime = 'hot'\n";
    std::fs::write(here.path().join("own.toml"), suite).unwrap();
    #[rustfmt::skip]
    let bench = ["bench", "--suite", "own.toml", "--backend", "naive,simd", "--threads", "1", "--slices", "5", "--max-time", "0.05", "--format", "json", "--out", "run"];
    let benched = valid(&schema, &prints(here.path(), &bench));
    let canaries: Vec<_> = benched.iter().filter_map(|row| row["canary_ns"].as_u64()).collect();
    assert!(
        canaries.len() == 2 && canaries.iter().all(|ns| (10_000..10_000_000).contains(ns)),
        "{canaries:?}"
    );
    let reported = valid(&schema, &prints(here.path(), &["report", "run", "--format", "json"]));
    assert_eq!(reported, benched);
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/tests/fixtures/version-1");
    valid(&schema, &prints(here.path(), &["report", old.to_str().unwrap(), "--format", "json"]));

    // And the schema refuses what is not.
    let row = &checked[0];
    let wrong: [(&str, Value); 6] = [
        ("status", json!("past")),
        ("seed", json!(-1)),
        ("git_dirty", json!("false")),
        ("schema", json!(3)),
        ("max_abs", json!("much")),
        ("unheard_of", json!(1)),
    ];
    for (name, value) in wrong {
        let mut row = row.clone();
        row[name] = value;
        assert!(!schema.is_valid(&row), "{name}");
    }
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("problem");
    assert!(!schema.is_valid(&row));
}
