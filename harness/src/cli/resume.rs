//! Continuing a run with its own selection.
//!
//! A run directory knows the arguments that made it. `--out DIR --resume` without any other selection takes
//! them from there; with a selection, that one counts. When a run is interrupted it says with which command
//! it goes on.

use std::path::{Path, PathBuf};

use touchstone_reports::{Environment, StoreError};

/// What a command line says about a run that may be continued.
struct Line {
    /// The command: `check`, `bench` or `compare`.
    command: String,
    /// What else is there.
    others: Vec<String>,
    out: Option<PathBuf>,
    resume: bool,
}

impl Line {
    /// Reads the arguments after the program's name.
    fn of(arguments: &[String]) -> Option<Line> {
        let (command, rest) = arguments.split_first()?;
        let mut line = Line { command: command.clone(), others: Vec::new(), out: None, resume: false };
        let mut rest = rest.iter();
        while let Some(argument) = rest.next() {
            let glued = argument.strip_prefix("--out=");
            match (argument.as_str(), glued) {
                ("--resume", _) => line.resume = true,
                ("--out" | "-o", _) => line.out = Some(rest.next()?.into()),
                (_, Some(path)) => line.out = Some(path.into()),
                _ => line.others.push(argument.clone()),
            }
        }
        Some(line)
    }

    fn arguments(self, out: &Path) -> Vec<String> {
        let tail = ["--out".to_string(), out.display().to_string(), "--resume".to_string()];
        std::iter::once(self.command).chain(self.others).chain(tail).collect()
    }
}

/// The arguments as they are, or those of the run that is to be continued where they select nothing
/// themselves.
///
/// # Errors
/// There is no such run, or its environment cannot be read.
pub(super) fn completed(arguments: Vec<String>) -> Result<Vec<String>, StoreError> {
    let Some(line) = Line::of(&arguments) else { return Ok(arguments) };
    let (true, true, Some(out)) = (line.resume, line.others.is_empty(), line.out.clone()) else {
        return Ok(arguments);
    };
    let Some(environment) = Environment::read(&out)? else {
        return Err(StoreError::NoRecords { paths: vec![out] });
    };
    let recorded = environment.arguments;
    match Line::of(&recorded) {
        Some(recorded) if recorded.command == line.command && !recorded.others.is_empty() => {
            eprintln!("continuing with the run's own selection: {}", quoted(&recorded.others));
            Ok(recorded.arguments(&out))
        }
        _ => Ok(arguments),
    }
}

/// The command that continues the run of this process in a directory.
pub(super) fn continuation(out: &Path) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments = Line::of(&arguments).map_or(arguments, |line| line.arguments(out));
    format!("touchstone {}", quoted(&arguments))
}

/// Words for a shell.
fn quoted(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(String::from).collect()
    }

    #[test]
    fn a_run_is_continued_with_its_own_selection() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let environment = Environment {
            arguments: words("check --suite smoke --backend naive --out run"),
            ..Environment::default()
        };
        environment.write(&run).unwrap();
        let out = run.display().to_string();
        let given = words(&format!("check --out {out} --resume"));
        let expected = words(&format!("check --suite smoke --backend naive --out {out} --resume"));
        assert_eq!(completed(given).unwrap(), expected);
        // A name that is mistyped starts nothing.
        let mistyped = completed(words("check --out nowhere --resume"));
        assert!(matches!(mistyped, Err(StoreError::NoRecords { .. })), "{mistyped:?}");
        // A selection of one's own counts, and another command has another meaning.
        for own in [format!("check --op gelu --out {out} --resume"), format!("bench --out {out} --resume")] {
            assert_eq!(completed(words(&own)).unwrap(), words(&own));
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted(&words("check --case a|b it's")), "check --case 'a|b' 'it'\\''s'");
    }
}
