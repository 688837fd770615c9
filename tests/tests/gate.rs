//! The regression gate end to end: the same executable on both sides, and faults on request.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use touchstone::{directory, prints, run, touchstone};

const SUITE: &str = r#"
description = "two kernels of some microseconds"

[[case]]
op = ["softmax", "gelu"]
dtype = "f32"
shape = "16x256"
"#;

const SOFTMAX: &str = "softmax f32 shape=16x256";
const GELU: &str = "gelu f32 shape=16x256";

/// Two gates at a time would be each other's noise.
static ONE: Mutex<()> = Mutex::new(());

/// Runs a gate over two small cases, in few rounds: its exit status, its report, its complaints.
fn gate(here: &Path, more: &[&str]) -> (i32, Value, String) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::write(here.join("small.toml"), SUITE).unwrap();
    let mut arguments =
        vec!["gate", "--cases", "small.toml", "--rounds", "15", "--confirm-rounds", "20", "--json"];
    let own = env!("CARGO_BIN_EXE_touchstone-under-test");
    if !more.contains(&"--base-binary") && !more.contains(&"--base") {
        arguments.extend(["--base-binary", own]);
    }
    // A base goes into the repository's own target folder.
    let mut command = touchstone(here);
    let output = command.args(arguments).args(more).env_remove("CARGO_TARGET_DIR").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    println!("{more:?}: {:?}, {} {stderr}", output.status.code(), report["summary"]);
    (output.status.code().unwrap(), report, stderr)
}

fn verdicts(report: &Value) -> Vec<(&str, &str)> {
    let of = |case: &'static str| move |value: &Value| value["problem"] == case;
    let cases = report["cases"].as_array().unwrap();
    let verdict = |case| cases.iter().find(|value| of(case)(value)).unwrap()["verdict"].as_str().unwrap();
    [SOFTMAX, GELU].map(|case| (case, verdict(case))).to_vec()
}

#[test]
fn the_same_twice_is_never_red() {
    let here = directory();
    let (status, report, _) = gate(here.path(), &["--out", "kept"]);
    assert_eq!(status, 0, "{report}");
    assert!(["steady", "inconclusive"].contains(&report["outcome"].as_str().unwrap()), "{report}");

    // What it leaves behind: the report twice, and every round of both cases and the canary.
    let kept = |name: &str| std::fs::read_to_string(here.path().join("kept").join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept("gate.json")).unwrap(), report);
    assert!(kept("gate.md").starts_with("## Regression gate: "));
    let rounds = kept("rounds.csv");
    for case in [SOFTMAX, GELU, "canary"] {
        let rows =
            rounds.lines().filter(|line| line.starts_with("screen,") && line.contains(&format!(",{case},")));
        assert_eq!(rows.count(), 15, "{rounds}");
    }
}

/// On a restless machine a gate may leave it open, as it should; then it is asked again.
#[test]
fn a_slowdown_is_named_and_nothing_else() {
    let here = directory();
    for _ in 0..5 {
        let (status, report, _) = gate(here.path(), &["--inject", "gelu=2"]);
        if report["outcome"] == "inconclusive" {
            assert_eq!(status, 0, "inconclusive is never red");
            continue;
        }
        assert_eq!(status, 3, "{report}");
        assert_eq!(verdicts(&report)[1], (GELU, "slower"));
        assert_ne!(verdicts(&report)[0], (SOFTMAX, "slower"));
        assert!(report["summary"].as_str().unwrap().contains(GELU));
        let change = report["cases"].as_array().unwrap().iter().find(|case| case["problem"] == GELU).unwrap();
        let percent = change["change"]["percent"].as_f64().unwrap();
        assert!((60.0..160.0).contains(&percent), "{percent}");
        return;
    }
    panic!("no verdict in five gates");
}

#[test]
fn wrong_results_get_no_time() {
    let here = directory();
    let (status, report, _) = gate(here.path(), &["--inject-wrong", "softmax"]);
    assert_eq!((status, &report["outcome"]), (2, &Value::from("wrong")));
    assert_eq!(verdicts(&report), [(SOFTMAX, "wrong"), (GELU, "not_measured")]);
}

#[test]
fn a_worker_that_is_killed_from_outside_decides_nothing() {
    let here = directory();
    let (status, report, _) = gate(here.path(), &["--inject-death", "gelu"]);
    assert_eq!((status, &report["outcome"]), (4, &Value::from("died")));
    assert!(report["summary"].as_str().unwrap().starts_with("the candidate: "), "{report}");
}

/// A kernel that was right and now fails in any way is wrong, and never green.
#[test]
#[cfg(unix)]
fn a_candidate_that_panics_refuses_or_crashes_is_wrong() {
    let here = directory();
    for (fault, words) in [
        ("--inject-panic", "panicked: index out of bounds"),
        ("--inject-refusal", "refused on request"),
        ("--inject-crash", "SIGABRT"),
    ] {
        let (status, report, _) = gate(here.path(), &[fault, "gelu"]);
        assert_eq!((status, &report["outcome"]), (2, &Value::from("wrong")), "{fault}: {report}");
        assert_eq!(verdicts(&report)[1], (GELU, "wrong"), "{fault}");
        assert!(report.to_string().contains(words), "{fault}: {report}");
    }
}

/// A repository whose package builds a base in a moment: a program that becomes the command under test. Its
/// second commit has this message.
#[cfg(unix)]
fn repository(here: &Path, message: &str) {
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        let mut command = Command::new("git");
        let output = command.current_dir(here).args(identity).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let write = |name: &str, text: &str| std::fs::write(here.join(name), text).unwrap();
    let package = "name = \"touchstone-harness\"\nversion = \"0.1.0\"\n";
    let features: String = ["candle", "candle-cuda", "candle-metal", "libtorch", "onnxruntime"]
        .map(|f| format!("{f} = []\n"))
        .concat();
    write(
        "Cargo.toml",
        &format!(
            "[package]\n{package}edition = \"2024\"\n\n[features]\n{features}\n\
             [[bin]]\nname = \"touchstone\"\npath = \"main.rs\"\n"
        ),
    );
    write("Cargo.lock", &format!("version = 4\n\n[[package]]\n{package}"));
    write("rust-toolchain.toml", include_str!("../../rust-toolchain.toml"));
    write(
        "main.rs",
        &format!(
            "use std::os::unix::process::CommandExt;\n\nfn main() {{\n    \
             let error = std::process::Command::new({:?}).args(std::env::args_os().skip(1)).exec();\n    \
             panic!(\"{{error}}\");\n}}\n",
            env!("CARGO_BIN_EXE_touchstone-under-test")
        ),
    );
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "the base"]);
    git(&["commit", "--quiet", "--allow-empty", "-m", message]);
}

/// A candidate that refuses what its base computes is wrong, unless a commit since the base says so.
#[test]
#[cfg(unix)]
#[cfg_attr(debug_assertions, ignore = "a base is built for release, and has to be like the candidate")]
fn support_that_is_lost_is_wrong_unless_a_trailer_declares_it() {
    let here = directory();
    repository(here.path(), &format!("drop a kernel\n\nSupport-Removed: {GELU} nobody used it"));
    let refuses = |base| gate(here.path(), &["--base", base, "--inject-refusal", "gelu"]);

    // Since itself, the second commit has declared nothing.
    let (status, report, stderr) = refuses("HEAD");
    assert_eq!((status, &report["outcome"]), (2, &Value::from("wrong")), "{report} {stderr}");
    assert_eq!(verdicts(&report), [(SOFTMAX, "not_measured"), (GELU, "wrong")]);
    assert!(report["summary"].as_str().unwrap().contains("Support-Removed: <problem> <reason>"), "{report}");

    let (status, report, stderr) = refuses("HEAD~1");
    assert_eq!(status, 0, "{report} {stderr}");
    assert_eq!(verdicts(&report)[1], (GELU, "not_compared"));
    let gelu = report["cases"].as_array().unwrap().iter().find(|case| case["problem"] == GELU).unwrap();
    assert_eq!(gelu["why"], "nobody used it");
    // The trailer names one problem, and excuses no other.
    let (status, report, _) = gate(here.path(), &["--base", "HEAD~1", "--inject-refusal", "softmax"]);
    assert_eq!((status, verdicts(&report)[0]), (2, (SOFTMAX, "wrong")), "{report}");
}

#[test]
#[cfg(unix)]
fn strangers_are_not_comparable() {
    use std::os::unix::fs::PermissionsExt;

    let here = directory();
    let stranger = here.path().join("stranger");
    std::fs::write(&stranger, "#!/bin/sh\necho touchstone-worker 2 backend=x\nread -r _\n").unwrap();
    std::fs::set_permissions(&stranger, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (status, report, _) = gate(here.path(), &["--base-binary", stranger.to_str().unwrap()]);
    assert_eq!((status, &report["outcome"]), (5, &Value::from("not_comparable")));
    assert!(report["summary"].as_str().unwrap().contains("version 2 of the protocol"), "{report}");
}

#[test]
fn mistakes_are_one_clear_line() {
    let here = directory();
    for (arguments, complaint) in [
        (&["--inject", "f32=1.1"][..], "'f32' names 2 cases here, expected one"),
        (&["--inject", "gelu=0.5"], "a factor from 1 to 1000"),
        (
            &["--base-binary", "/no/such/program"],
            "/no/such/program: cannot be copied for a round: No such file or directory (os error 2)\n",
        ),
        (&["--case", "rope"], "no case of small matches the filter"),
        (&["--margin", "101"], "expected percent from 0 to 100"),
    ] {
        let (status, _, stderr) = gate(here.path(), arguments);
        assert_eq!((status, stderr.lines().count()), (1, 1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(complaint), "{arguments:?}: {stderr}");
    }
}

#[test]
fn its_help_says_how_it_proves_itself() {
    let help = prints(directory().path(), &["gate", "--help"]);
    for words in [
        "Exit status",
        "--inject ",
        "--inject-wrong",
        "--inject-death",
        "--inject-panic",
        "Perf-Accepted",
        "Support-Removed",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}

/// From git to a verdict: the base is built as a user's would be.
#[test]
#[ignore = "builds Touchstone once more, and wants a repository"]
fn the_last_commit_is_not_slower_than_itself() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = run(Path::new(env!("CARGO_MANIFEST_DIR")), &["gate", "--base", "HEAD", "--case", "norm"]);
    println!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0));
}
