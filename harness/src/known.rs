//! Known issues: true defects of released libraries, with their evidence.
//!
//! A failure that an entry describes is reported as `known` and does not fail the run. An entry
//! cannot outlive its defect: each names at least one *witness*, and a witness that passes is a
//! failure.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use touchstone_kernels::BackendId;

use crate::case::Case;

/// The entries that come with the program.
const BUILT_IN: &str = include_str!("../known-issues.toml");

/// A defect of a library.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownIssue {
    /// Its name here.
    pub id: String,
    /// The backend, or the implementation with all its backends.
    pub backend: String,
    /// The first version seen to have it.
    pub since: String,
    /// What is wrong, and why it is the library that is wrong.
    pub cause: String,
    /// What was expected and what came.
    pub evidence: String,
    /// Where it is reported or can be read in the source.
    pub upstream: String,
    /// A regular expression over case texts: where it may show.
    cases: String,
    /// Cases that must fail as long as the defect exists.
    witness: Vec<String>,
    #[serde(skip)]
    pattern: Option<Regex>,
}

/// All entries.
#[derive(Debug, Default)]
pub struct KnownIssues(Vec<KnownIssue>);

/// A file of known issues that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KnownIssuesError {
    /// The file cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its form is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// An entry is wrong.
    #[error("{}: issue '{id}': {message}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        id: String,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issue: Vec<KnownIssue>,
}

impl KnownIssues {
    /// The entries that come with the program.
    ///
    /// # Errors
    /// [`KnownIssuesError`].
    pub fn built_in() -> Result<Self, KnownIssuesError> {
        KnownIssues::parse(Path::new("known-issues.toml"), BUILT_IN)
    }

    /// The entries of a file.
    ///
    /// # Errors
    /// [`KnownIssuesError`] with file and line or entry.
    pub fn load(path: &Path) -> Result<Self, KnownIssuesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KnownIssuesError::Read { path: path.into(), source })?;
        KnownIssues::parse(path, &text)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KnownIssuesError> {
        let mut file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            KnownIssuesError::Syntax {
                path: path.into(),
                line: text[..start].matches('\n').count() + 1,
                message: error.message().to_string(),
            }
        })?;
        for issue in &mut file.issue {
            let wrong = |message: String| KnownIssuesError::Entry {
                path: path.into(),
                id: issue.id.clone(),
                message,
            };
            let pattern = Regex::new(&issue.cases).map_err(|error| wrong(format!("cases: {error}")))?;
            if issue.witness.is_empty() {
                return Err(wrong("it names no witness".into()));
            }
            for witness in &mut issue.witness {
                let case: Case = witness.parse().map_err(|error| wrong(format!("witness: {error}")))?;
                *witness = case.to_string();
                if !pattern.is_match(witness) {
                    return Err(wrong(format!("cases does not match its witness '{witness}'")));
                }
            }
            issue.pattern = Some(pattern);
        }
        Ok(KnownIssues(file.issue))
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &KnownIssue> {
        self.0.iter()
    }

    /// The entry that explains a failure of this backend on this case.
    pub fn explaining(&self, backend: &BackendId, case: &Case) -> Option<&KnownIssue> {
        let text = case.to_string();
        self.concerning(backend).find(|issue| issue.pattern.as_ref().is_some_and(|p| p.is_match(&text)))
    }

    /// The entry whose witness this case is.
    pub fn witnessed(&self, backend: &BackendId, case: &Case) -> Option<&KnownIssue> {
        // A single kernel of a library need not have the defects of another.
        if backend.is_choice() {
            return None;
        }
        let text = case.to_string();
        self.concerning(backend).find(|issue| issue.witness.contains(&text))
    }

    fn concerning(&self, backend: &BackendId) -> impl Iterator<Item = &KnownIssue> {
        let (implementation, place) = (backend.implementation(), backend.place());
        let is_there = move |name: &str| name.split_once('/') == Some((implementation, place));
        self.0.iter().filter(move |issue| issue.backend == implementation || is_there(&issue.backend))
    }
}

impl KnownIssue {
    /// The cases that must fail as long as the defect exists.
    pub fn witnesses(&self) -> impl Iterator<Item = &str> {
        self.witness.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_entries_parse() {
        for issue in KnownIssues::built_in().unwrap().iter() {
            assert!(issue.evidence.len() > 20 && issue.cause.len() > 20, "{}", issue.id);
        }
    }
}
