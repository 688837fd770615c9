//! The command as its users run it.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// An empty directory to run in.
pub(crate) fn directory() -> TempDir {
    TempDir::new().unwrap()
}

/// The command, to be run in a directory. The machine's limits are kept from test to test.
pub(crate) fn touchstone(directory: &Path) -> Command {
    program(env!("CARGO_BIN_EXE_touchstone-under-test"), directory)
}

/// Any program built around the harness.
pub(crate) fn program(path: &str, directory: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(directory).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env("NO_COLOR", "1");
    command
}

/// Runs it with arguments.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Output {
    touchstone(directory).args(arguments).output().unwrap()
}

/// Runs it, and returns what it prints when all is well.
pub(crate) fn prints(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
