//! Accuracy is what it was: the committed baseline holds here, and a kernel that has become worse is
//! named.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::{Path, PathBuf};

use touchstone::{directory, prints, run};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/baseline.csv").canonicalize().unwrap()
}

/// Runs `check` against a baseline: its exit status, and all that it says.
fn check(directory: &Path, baseline: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = run(directory, &[&["check", "--baseline", baseline.to_str().unwrap()], more].concat());
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), said.concat())
}

/// Every backend that is here, libraries where they have a column for this processor. After an
/// intended change: `touchstone check --baseline reports/baseline.csv --accept`.
#[test]
fn the_committed_baseline_holds() {
    let here = directory();
    let said = prints(here.path(), &["check", "--baseline", committed().to_str().unwrap()]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let held = said.split(" verdicts held against the baseline: 0 worse").next().unwrap_or_default();
    let count: usize = held.rsplit(' ').next().unwrap().parse().unwrap_or(0);
    println!("{count} verdicts held against the baseline");
    // naive and scalar code are everywhere.
    assert!(count >= 2 * 1202, "{said}");
}

const ONE: &str = "rms_norm f32 shape=14x96 fill=offset seed=1";

/// The committed baseline with another cell for one case on simd/scalar.
fn doctored(directory: &Path, cell: &str) -> PathBuf {
    let text = std::fs::read_to_string(committed()).unwrap();
    let backends = text.lines().find(|line| line.starts_with("case,")).unwrap();
    let place = backends.split(',').position(|name| name == "simd/scalar").unwrap();
    let line = text.lines().find(|line| line.starts_with(ONE)).unwrap_or_else(|| panic!("no {ONE}"));
    let mut cells: Vec<&str> = line.split(',').collect();
    cells[place] = cell;
    let path = directory.join("doctored.csv");
    std::fs::write(&path, text.replace(line, &cells.join(","))).unwrap();
    path
}

#[test]
fn what_is_worse_is_named_and_accepting_it_renews_the_file() {
    let here = directory();
    let norms = ["--op", "rms_norm", "--backend", "naive,simd/scalar"];
    let path = doctored(here.path(), "0.001");
    let (status, said) = check(here.path(), &path, &norms);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("1 worse") && said.contains("error over bound grew"), "{said}");
    assert!(said.contains(ONE) && said.contains("--backend simd/scalar"), "{said}");

    // Better than expected is told, and no failure.
    let (status, said) = check(here.path(), &doctored(here.path(), "known 7.1"), &norms);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("known → passed"), "{said}");

    // To programs, rows alone are printed.
    let path = doctored(here.path(), "0.001");
    let output = run(
        here.path(),
        &[&["check", "--format", "csv", "--baseline", path.to_str().unwrap()], &norms[..]].concat(),
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8(output.stdout).unwrap().contains("grew"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("grew"));

    let (status, said) = check(here.path(), &path, &[&norms[..], &["--accept"]].concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("grew") && said.contains("git diff"), "{said}");
    let (status, said) = check(here.path(), &path, &norms);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("0 worse"), "{said}");
    // What was not chosen is as it was.
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines(&path), lines(&committed()));
}

#[test]
fn a_case_that_is_gone_is_named_whatever_the_shard() {
    let here = directory();
    let suite = |shapes: &str| {
        let text = format!("[[case]]\nop = 'gelu'\ndtype = 'f32'\nshape = [{shapes}]\n");
        std::fs::write(here.path().join("own.toml"), text).unwrap();
    };
    let file = here.path().join("own.csv");
    let own = |more: &[&str]| {
        check(here.path(), &file, &[&["--suite", "own.toml", "--backend", "naive"], more].concat())
    };
    suite("'3x5', '7', '2x9'");
    assert_eq!(own(&["--accept"]).0, Some(0));
    suite("'3x5', '2x9'");
    let (status, said) = own(&["--shard", "2/2"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no longer in the suite own") && said.contains("gelu f32 shape=7 "), "{said}");
    assert!(said.contains("1 worse"), "only what is gone is, not what other shards do: {said}");
    let (status, said) = own(&["--case", "2x9"]);
    assert_eq!(status, Some(0), "not asked for: {said}");
    assert_eq!(own(&["--accept"]).0, Some(0));
    let (status, said) = own(&[]);
    assert!(status == Some(0) && said.contains("2 verdicts held"), "{said}");
}

#[test]
fn a_baseline_that_cannot_be_used_is_refused() {
    let here = directory();
    let refuses = |arguments: &[&str], words: &[&str]| {
        let output = run(here.path(), &[&["check"], arguments].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty() && stderr.lines().count() == 1, "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
    };
    refuses(&["--baseline", "none.csv"], &["none.csv", "No such file"]);
    std::fs::write(here.path().join("old.csv"), "# touchstone baseline 7\n").unwrap();
    refuses(&["--baseline", "old.csv"], &["old.csv:1", "version `7`"]);
    refuses(&["--accept"], &["--baseline"]);
    refuses(&["--baseline", "old.csv", "--threads", "2"], &["--threads"]);
    refuses(&["--baseline", "old.csv", "--explore", "5"], &["--explore"]);
}
