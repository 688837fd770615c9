//! What `--format json` prints is what the committed schema says, for each command that prints records.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::Path;

use serde_json::{Value, json};
use touchstone::{directory, prints};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/schema/record.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What is wrong with a value by a schema of JSON Schema 2020-12, as far as ours needs it; a keyword
/// that is not known here fails the test. (A full validator would turn on features of our own
/// dependencies, so that another program would be tested than the one that is shipped.)
fn complaint(schema: &Value, value: &Value) -> Option<String> {
    let is = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let properties = &schema["properties"];
    for (keyword, what) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => list(what).iter().any(is),
            "const" => value == what,
            "enum" => list(what).contains(value),
            "minimum" => value.as_f64().is_none_or(|n| n >= what.as_f64().unwrap()),
            "anyOf" => list(what).iter().any(|schema| complaint(schema, value).is_none()),
            "required" => list(what).iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => {
                assert_eq!(what, false);
                value.as_object().unwrap().keys().all(|name| properties.get(name).is_some())
            }
            "properties" => {
                let members = value.as_object().unwrap().iter();
                let known = members.filter_map(|(name, value)| Some((name, properties.get(name)?, value)));
                let mut wrong = known.filter_map(|(name, schema, value)| {
                    Some(format!("{name}: {}", complaint(schema, value)?))
                });
                if let Some(wrong) = wrong.next() {
                    return Some(wrong);
                }
                true
            }
            other => panic!("keyword {other}"),
        };
        if !holds {
            return Some(format!("{value} against {keyword} {what}"));
        }
    }
    None
}

/// The objects of JSON lines, each of which is valid.
fn valid(schema: &Value, lines: &str) -> Vec<Value> {
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for object in &objects {
        assert_eq!(complaint(schema, object), None, "{object}");
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
        assert!(complaint(&schema, &row).is_some(), "{name}");
    }
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("problem");
    assert!(complaint(&schema, &row).is_some());
}
