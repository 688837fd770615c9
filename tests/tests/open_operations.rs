//! An operation is known to its own files alone: those of its family in `kernels/src/op`, in each backend and
//! in `harness/src/families`. Everything else asks what it says of itself.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust files under a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file: without comments, texts and tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
    let comments = Regex::new(r"(?m)//.*$").unwrap();
    let texts = Regex::new(r#""(?:[^"\\]|\\.)*""#).unwrap();
    comments.replace_all(&texts.replace_all(&text, "\"\""), "").into_owned()
}

#[test]
fn no_file_outside_its_family_names_an_operation() {
    let root = root();
    let op = root.join("kernels/src/op");
    let declared = Regex::new(r"impl Operation for (\w+)").unwrap();
    let mut operations = BTreeSet::new();
    let mut families = BTreeSet::new();
    for path in sources(&op) {
        let own: Vec<String> =
            declared.captures_iter(&code(&path)).map(|found| found[1].to_string()).collect();
        if !own.is_empty() {
            families.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
            operations.extend(own);
        }
    }
    assert!(operations.len() >= 10 && families.len() >= 5, "{operations:?} {families:?}");
    let names = operations.iter().cloned().collect::<Vec<_>>().join("|");
    let named = Regex::new(&format!(r"\b({names})\b")).unwrap();

    let is_of_a_family = |path: &Path| {
        let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy());
        parts.any(|part| families.contains(part.trim_end_matches(".rs")))
    };
    let (mut looked_at, mut strangers) = (0, Vec::new());
    for part in ["kernels/src", "harness/src", "reports/src"] {
        let directory = root.join(part);
        for path in sources(&directory) {
            let relative = path.strip_prefix(&directory).unwrap();
            let is_test = relative
                .components()
                .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
            if path.starts_with(&op) || is_of_a_family(relative) || is_test {
                continue;
            }
            looked_at += 1;
            let code = code(&path);
            let found: BTreeSet<&str> = named.find_iter(&code).map(|found| found.as_str()).collect();
            if !found.is_empty() {
                strangers.push(format!("{part}/{}: {found:?}", relative.display()));
            }
        }
    }
    assert!(looked_at > 100, "{looked_at} files");
    assert!(strangers.is_empty(), "these name operations of a family:\n{}", strangers.join("\n"));
}
