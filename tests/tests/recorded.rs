//! The README's tables and pictures are those of the latest recorded run, and everything that is made
//! from records is made again to the last byte.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::{Path, PathBuf};

use touchstone::{directory, prints};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The run with the latest date; `latest/` holds its pictures.
fn latest() -> PathBuf {
    let runs = std::fs::read_dir(root().join("reports/recorded")).unwrap().map(|entry| entry.unwrap().path());
    runs.filter(|path| path.join("records.csv").is_file()).max().unwrap()
}

#[test]
fn the_readme_shows_the_latest_run() {
    let here = directory();
    let at = |name: &str| here.path().join(name).to_str().unwrap().to_owned();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    std::fs::write(at("README.md"), &readme).unwrap();
    let run = latest();
    let run = run.to_str().unwrap();
    prints(
        here.path(),
        &[
            "report",
            run,
            "--plots",
            &at("plots"),
            "--splice",
            &at("README.md"),
            "--markdown",
            &at("report.md"),
            "--brief",
        ],
    );
    let renew = "run `touchstone report RUN --plots reports/recorded/latest --splice README.md --brief`";
    let spliced = std::fs::read_to_string(at("README.md")).unwrap();
    let differing = readme.lines().zip(spliced.lines()).find(|(old, new)| old != new);
    assert!(readme == spliced, "README.md is not what {run} says: {differing:?}; {renew}");

    let pictures = |dir: &Path| -> Vec<(String, String)> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| {
                (
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    std::fs::read_to_string(path).unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let committed = pictures(&root().join("reports/recorded/latest"));
    let drawn = pictures(&here.path().join("plots"));
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&drawn), names(&committed), "{renew}");
    let stale: Vec<_> =
        drawn.iter().zip(&committed).filter(|(new, old)| new != old).map(|(new, _)| &new.0).collect();
    assert!(stale.is_empty() && !drawn.is_empty(), "{stale:?} are not what {run} says; {renew}");

    // Again, byte for byte.
    prints(here.path(), &["report", run, "--plots", &at("again"), "--markdown", &at("again.md"), "--brief"]);
    assert_eq!(pictures(&here.path().join("again")), drawn);
    let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    assert!(text("again.md") == text("report.md"));
}
