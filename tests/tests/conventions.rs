//! Which conventions are followed: ours are those of the semantics, and a library that changes one
//! with a new version is noticed.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use touchstone_harness::conventions::{Row, built_in};
use touchstone_kernels::Registry;

/// Every probe put to the backends of an implementation, and what it should answer.
fn follows(implementation: &str) {
    let on_device = |place: &str| place.starts_with("cuda") || place == "metal";
    let registry = Registry::standard(1);
    let backends: Vec<_> = registry
        .whole()
        .filter(|b| b.id().implementation() == implementation && !on_device(b.id().place()))
        .collect();
    assert!(!backends.is_empty(), "no backend of {implementation} is present");
    let mut wrong = Vec::new();
    for probe in built_in().unwrap() {
        for backend in &backends {
            let Row { answer, observed, path, .. } = probe.ask(backend.as_ref());
            let expected = probe.fact(implementation);
            if answer != expected {
                let name = &probe.name;
                wrong.push(format!(
                    "{name} on {}: {answer} ({observed}; {path}), expected {expected}",
                    backend.id()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are others:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn naive_follows_the_semantics() {
    follows("naive");
}

#[test]
fn simd_follows_the_semantics() {
    follows("simd");
}

#[test]
#[cfg(feature = "candle")]
fn candle_follows_what_is_on_record() {
    follows("candle");
}

#[test]
#[cfg(feature = "libtorch")]
fn libtorch_follows_what_is_on_record() {
    follows("libtorch");
}

#[test]
#[cfg(feature = "onnxruntime")]
fn onnxruntime_follows_what_is_on_record() {
    follows("onnxruntime");
}

/// A row for each question, none wider than 80 columns, and one for each question and backend in JSON.
#[test]
fn the_command_lists_them() {
    let here = touchstone::directory();
    let table = touchstone::prints(here.path(), &["list", "--conventions"]);
    let probes = built_in().unwrap();
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // With all libraries a question takes several lines.
    assert!(table.lines().count() > probes.len(), "{table}");
    let first_words = probes.iter().filter_map(|probe| probe.question.split(' ').next());
    for word in first_words.filter(|word| word.len() < 12).chain(["naive"]) {
        assert!(table.contains(word), "'{word}' is not in\n{table}");
    }
    let json = touchstone::prints(here.path(), &["list", "--conventions", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len() % probes.len(), 0);
    for row in &rows {
        for key in ["probe", "question", "exact", "backend", "answer", "path", "observed"] {
            assert!(row[key].is_string(), "{row}");
        }
    }
}
