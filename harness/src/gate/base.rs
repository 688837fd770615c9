//! The base: which revision it is, and how it is built.
//!
//! It is built from a git worktree of its own, by the toolchain that is in force for the candidate
//! and with the same profile, features and flags. Its executable is kept under a name made of all
//! of these, so that a second gate against the same base builds nothing. No number is kept: a time
//! of another day is no base for anything.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What stands between a gate and its base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// A program cannot be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// A program has failed.
    #[error("'{command}' failed{}", reason(.stderr))]
    Failed {
        /// What was run.
        command: String,
        /// What it said, if that was not shown already.
        stderr: String,
    },
    /// There is nothing to compare with.
    #[error("there is no revision before this one to compare with: give --base")]
    NoBase,
    /// This executable is not one that a base could be built like.
    #[error("{why}")]
    Unlike {
        /// Why.
        why: String,
    },
    /// A file cannot be kept.
    #[error("{path}: {source}")]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn reason(stderr: &str) -> String {
    match stderr.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", line.trim()),
        None => String::new(),
    }
}

/// The git repository that a gate runs in.
#[derive(Clone, Debug)]
pub struct Repository {
    root: PathBuf,
}

/// The revision that a candidate is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its commit.
    pub commit: String,
    /// How it was chosen.
    pub choice: String,
}

/// The trailer of a commit that accepts a slowdown.
const ACCEPTED: &str = "Perf-Accepted";

/// The trailer by which a commit declares that a problem is no longer supported.
const REMOVED: &str = "Support-Removed";

impl Repository {
    /// That around the current directory.
    ///
    /// # Errors
    /// [`BaseError`] where there is none.
    pub fn here() -> Result<Self, BaseError> {
        let root = output(Command::new("git").args(["rev-parse", "--show-toplevel"]))?;
        Ok(Repository { root: root.into() })
    }

    /// Where its builds go.
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// The revision asked for. By default, where the work in hand left the main branch; on that
    /// branch itself the last commit, or, with nothing uncommitted, the one before it.
    ///
    /// # Errors
    /// [`BaseError`] when git knows no such revision.
    pub fn base(&self, named: Option<&str>) -> Result<Base, BaseError> {
        let commit = |revision: &str| self.git(["rev-parse", "--verify", &format!("{revision}^{{commit}}")]);
        if let Some(named) = named {
            return Ok(Base { commit: commit(named)?, choice: named.into() });
        }
        let head = commit("HEAD")?;
        // The first that exists.
        for main in ["origin/HEAD", "origin/main", "origin/master", "main", "master"] {
            let Ok(base) = self.git(["merge-base", "HEAD", main]) else { continue };
            if base != head {
                return Ok(Base { commit: base, choice: format!("merge-base with {main}") });
            }
            break;
        }
        if !self.is_clean()? {
            return Ok(Base { commit: head, choice: "HEAD, for what is not committed yet".into() });
        }
        let parent = commit("HEAD~1").map_err(|_| BaseError::NoBase)?;
        Ok(Base { commit: parent, choice: "HEAD~1".into() })
    }

    /// What the candidate is: the last commit, and whether there is more.
    ///
    /// # Errors
    /// [`BaseError`] without a commit.
    pub fn candidate(&self) -> Result<String, BaseError> {
        let head = self.git(["rev-parse", "--short=12", "HEAD"])?;
        Ok(if self.is_clean()? { head } else { format!("{head} and changes not committed") })
    }

    fn is_clean(&self) -> Result<bool, BaseError> {
        Ok(self.git(["status", "--porcelain", "--untracked-files=no"])?.is_empty())
    }

    /// What commits since the base say after `Perf-Accepted:`, one entry each.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn accepted(&self, base: &str) -> Result<Vec<String>, BaseError> {
        self.trailers(ACCEPTED, base)
    }

    /// What commits since the base say after `Support-Removed:`, one entry each.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn removed(&self, base: &str) -> Result<Vec<String>, BaseError> {
        self.trailers(REMOVED, base)
    }

    fn trailers(&self, key: &str, base: &str) -> Result<Vec<String>, BaseError> {
        let format = format!("--format=%(trailers:key={key},valueonly,unfold)");
        let trailers = self.git(["log", &format, &format!("{base}..HEAD")])?;
        Ok(trailers.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
    }

    /// The executable of a revision, built where it is not there yet. `like` is what it must have in
    /// common with the candidate.
    ///
    /// # Errors
    /// [`BaseError`] when it cannot be built.
    pub fn build(&self, commit: &str, like: &Build) -> Result<PathBuf, BaseError> {
        let toolchain = Toolchain::of(&self.root)?;
        if !toolchain.version.starts_with(&like.rustc) {
            let found = toolchain.version.lines().next().unwrap_or_default();
            let why =
                format!("this executable was built by {}, and here is {found}: build it again", like.rustc);
            return Err(BaseError::Unlike { why });
        }
        let gate = self.target().join("gate");
        let kept = gate.join(key(commit, &toolchain, like, std::env::vars_os()));
        let executable = kept.join(format!("touchstone{}", std::env::consts::EXE_SUFFIX));
        if executable.exists() {
            return Ok(executable);
        }
        let tree = self.worktree(&gate, commit)?;
        let build = gate.join("build");
        let mut cargo = Command::new(&toolchain.cargo);
        cargo
            .current_dir(&tree)
            .args([
                "build",
                "--release",
                "--locked",
                "--package",
                "touchstone-harness",
                "--bin",
                "touchstone",
            ])
            .args(["--no-default-features", "--features", &like.features.join(",")])
            .arg("--target-dir")
            .arg(&build)
            .env("RUSTC", &toolchain.rustc)
            .env_remove("CARGO_TARGET_DIR")
            // Its progress is ours to show; our standard output is the verdict's.
            .stdout(Stdio::null());
        show(&mut cargo)?;
        let keep = |path: &Path, result: io::Result<()>| {
            result.map_err(|source| BaseError::Keep { path: path.into(), source })
        };
        keep(&kept, fs::create_dir_all(&kept))?;
        // In one step, so that no half of it is ever taken for the whole.
        let built = build.join("release").join(format!("touchstone{}", std::env::consts::EXE_SUFFIX));
        let partial = kept.join("partial");
        keep(&partial, fs::copy(&built, &partial).map(drop))?;
        keep(&executable, fs::rename(&partial, &executable))?;
        Ok(executable)
    }

    /// One worktree for all bases. Git renews the time of each file that differs between two of
    /// them, so that cargo compiles those again and no others; trees side by side, with older
    /// times, could be taken for built.
    fn worktree(&self, gate: &Path, commit: &str) -> Result<PathBuf, BaseError> {
        let tree = gate.join("tree");
        let moved = tree.join(".git").exists()
            && run(Command::new("git")
                .arg("-C")
                .arg(&tree)
                .args(["checkout", "--quiet", "--force", "--detach", commit]))
            .is_ok();
        if !moved {
            // What is there is no tree of this repository: a cache of a build machine may have kept it.
            if tree.exists() {
                fs::remove_dir_all(&tree).map_err(|source| BaseError::Keep { path: tree.clone(), source })?;
            }
            self.git(["worktree", "prune"])?;
            let add = ["worktree", "add", "--quiet", "--force", "--detach"].map(OsStr::new);
            self.git(add.into_iter().chain([tree.as_os_str(), OsStr::new(commit)]))?;
        }
        Ok(tree)
    }

    fn git(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, BaseError> {
        output(Command::new("git").arg("-C").arg(&self.root).args(arguments))
    }
}

/// What two executables must have in common to be comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The compiler, as `rustc --version` says it.
    pub rustc: String,
    /// Cargo features.
    pub features: Vec<String>,
}

impl Build {
    /// How this executable was built.
    ///
    /// # Errors
    /// [`BaseError::Unlike`] for a debug build: a base is always built for release.
    pub fn own() -> Result<Self, BaseError> {
        if cfg!(debug_assertions) {
            let why = "this is a debug build, which says nothing about speed: build it with --release".into();
            return Err(BaseError::Unlike { why });
        }
        Ok(Build { rustc: crate::recording::RUSTC.into(), features: crate::recording::features() })
    }
}

/// The toolchain in force in a directory. A base that asks for another one gets this one all the same.
struct Toolchain {
    version: String,
    rustc: PathBuf,
    cargo: PathBuf,
}

impl Toolchain {
    fn of(root: &Path) -> Result<Self, BaseError> {
        let rustc = |argument: &[&str]| output(Command::new("rustc").current_dir(root).args(argument));
        let version = rustc(&["--version", "--verbose"])?;
        let programs = Path::new(&rustc(&["--print", "sysroot"])?).join("bin");
        let program = |name: &str| {
            let own = programs.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
            if own.exists() { own } else { name.into() }
        };
        Ok(Toolchain { version, rustc: program("rustc"), cargo: program("cargo") })
    }
}

/// A name for a build: its commit, and a hash of whatever else decides what comes out.
fn key(
    commit: &str,
    toolchain: &Toolchain,
    like: &Build,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> String {
    let decides = |name: &str| {
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].contains(&name)
            || ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                && name != "CARGO_TARGET_DIR"
    };
    let flags: BTreeMap<OsString, OsString> =
        variables.filter(|(name, _)| name.to_str().is_some_and(decides)).collect();
    let mut hasher = DefaultHasher::new();
    (&toolchain.version, &like.features, flags).hash(&mut hasher);
    format!("{}-{:016x}", commit.get(..12).unwrap_or(commit), hasher.finish())
}

/// Runs a program quietly. What it prints, trimmed.
fn output(command: &mut Command) -> Result<String, BaseError> {
    let output = command.output().map_err(|source| start(command, source))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BaseError::Failed { command: text(command), stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn run(command: &mut Command) -> Result<(), BaseError> {
    output(command).map(drop)
}

/// Runs a program that shows on standard error what it does.
fn show(command: &mut Command) -> Result<(), BaseError> {
    let status = command.status().map_err(|source| start(command, source))?;
    if status.success() {
        Ok(())
    } else {
        Err(BaseError::Failed { command: text(command), stderr: String::new() })
    }
}

fn start(command: &Command, source: io::Error) -> BaseError {
    BaseError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> (tempfile::TempDir, Repository) {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository { root: directory.path().into() };
        repository.git(["init", "--quiet", "--initial-branch=main"]).unwrap();
        for (name, value) in [("user.name", "a"), ("user.email", "a@b"), ("commit.gpgsign", "false")] {
            repository.git(["config", name, value]).unwrap();
        }
        (directory, repository)
    }

    fn commit(repository: &Repository, message: &str) -> String {
        fs::write(repository.root.join("file"), message).unwrap();
        repository.git(["add", "file"]).unwrap();
        repository.git(["commit", "--quiet", "-m", message]).unwrap();
        repository.git(["rev-parse", "HEAD"]).unwrap()
    }

    #[test]
    fn the_base_is_where_the_work_began() {
        let (directory, repository) = repository();
        let first = commit(&repository, "first");
        assert!(matches!(repository.base(None), Err(BaseError::NoBase)));
        let second = commit(&repository, "second");
        assert_eq!(repository.base(None).unwrap().commit, first);
        fs::write(directory.path().join("file"), "changed").unwrap();
        assert_eq!(repository.base(None).unwrap().commit, second);
        assert!(repository.candidate().unwrap().ends_with("changes not committed"));

        repository.git(["checkout", "--quiet", "-b", "topic"]).unwrap();
        commit(&repository, "third");
        let base = repository.base(None).unwrap();
        assert_eq!((base.commit, base.choice), (second, "merge-base with main".into()));
        assert_eq!(repository.base(Some("main~1")).unwrap().commit, first);
        let unknown = repository.base(Some("nowhere")).unwrap_err().to_string();
        assert!(unknown.contains("nowhere^{commit}"), "{unknown}");
    }

    #[test]
    fn trailers_accept() {
        let (_directory, repository) = repository();
        let base = commit(&repository, "first\n\nPerf-Accepted: gelu f32 shape=8 before the base");
        commit(&repository, "second\n\nPerf-Accepted: softmax f32 shape=4x8 needed\n  for accuracy");
        commit(&repository, "third\n\nPerf-Accepted: in the middle\n\nis no trailer");
        commit(&repository, "fourth\n\nSupport-Removed: gelu f32 shape=8 nobody used it");
        assert_eq!(repository.accepted(&base).unwrap(), ["softmax f32 shape=4x8 needed for accuracy"]);
        assert_eq!(repository.removed(&base).unwrap(), ["gelu f32 shape=8 nobody used it"]);
    }

    #[test]
    fn a_worktree_moves_from_base_to_base() {
        let (directory, repository) = repository();
        let (first, second) = (commit(&repository, "first"), commit(&repository, "second"));
        let gate = directory.path().join("target");
        for (commit, content) in [(&first, "first"), (&second, "second"), (&first, "first")] {
            let tree = repository.worktree(&gate, commit).unwrap();
            assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), content);
        }
        // One that somebody has deleted is made again, and so is one that is broken.
        for broken in [gate.join("tree"), gate.join("tree").join(".git")] {
            if broken.is_dir() { fs::remove_dir_all(broken) } else { fs::remove_file(broken) }.unwrap();
            let tree = repository.worktree(&gate, &second).unwrap();
            assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "second");
        }
    }

    #[test]
    fn all_that_decides_is_in_the_key() {
        let toolchain = Toolchain { version: "rustc 1".into(), rustc: "rustc".into(), cargo: "cargo".into() };
        let like = Build { rustc: "rustc 1".into(), features: Vec::new() };
        let key = |commit: &str, variables: &[(&str, &str)]| {
            super::key(commit, &toolchain, &like, variables.iter().map(|(n, v)| (n.into(), v.into())))
        };
        let plain = key("0123456789abcdef", &[]);
        assert!(plain.starts_with("0123456789ab-"));
        assert_eq!(key("0123456789abcdef", &[("HOME", "/"), ("CARGO_TARGET_DIR", "/tmp")]), plain);
        for flags in [("RUSTFLAGS", "-Ctarget-cpu=native"), ("CARGO_PROFILE_RELEASE_LTO", "fat")] {
            assert_ne!(key("0123456789abcdef", &[flags]), plain);
        }
    }
}
