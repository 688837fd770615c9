//! Suites: cases as data.
//!
//! A suite is a TOML file of `[[case]]` tables. A table holds the fields of a problem text, each
//! a value or a list of values; the cases are all combinations. `op = "activation"` means every
//! point-wise function. A table may instead hold whole case texts: `text = ["softmax f32 shape=2x3", …]`.
//!
//! ```toml
//! [[case]]
//! why = "rows around a vector's width"
//! op = ["softmax", "log_softmax"]
//! dtype = ["f32", "f16", "bf16"]
//! shape = ["3x7", "2x16", "2x65"]
//! fill = ["normal", "wide"]
//!
//! [[case]]
//! op = "attention"
//! dtype = "f32"
//! each = ["h=8 hkv=2 lq=64 d=64", "h=12 lq=512 d=64"]   # fields that vary together
//! causal = "top_left"
//! time = ["hot", "cold"]                                  # also measured, in these cache states
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};
use touchstone_kernels::{DType, ParseError, Problem, fields::Fields, op::Unary};

use crate::case::Case;
use crate::fill::{Controls, Fill};
use crate::timing::CacheState;

/// The suites that come with the program.
pub const BUILT_IN: [(&str, &[&str]); 6] = [
    ("smoke", &[include_str!("../suites/smoke.toml")]),
    ("standard", &[include_str!("../suites/standard.toml"), include_str!("../suites/covering.toml")]),
    ("models", &[include_str!("../suites/models.toml")]),
    ("growth", &[include_str!("../suites/growth.toml")]),
    ("gpu", &[include_str!("../suites/gpu.toml")]),
    ("gate", &[include_str!("../suites/gate.toml")]),
];

/// A named list of cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// Its name: that of the file without its ending.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its cases, without repetitions.
    pub cases: Vec<SuiteCase>,
}

/// A case with what is to be done with it.
#[derive(Clone, Debug, PartialEq)]
pub struct SuiteCase {
    /// The case.
    pub case: Case,
    /// The cache states in which it is timed; none when only its agreement is checked.
    pub timed: Vec<CacheState>,
}

/// A suite that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// Neither built in nor a file.
    #[error("there is no suite '{name}': expected {}, or the path of a .toml file", built_in_names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// The file cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or not of a suite's form.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A table that does not make cases.
    #[error("{}:{line}", path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// The line of the table.
        line: usize,
        /// What is wrong.
        source: ParseError,
    },
    /// No cases.
    #[error("{}: the suite has no cases", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

fn built_in_names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    description: String,
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<toml::Table>>,
}

impl Suite {
    /// The built-in suite of that name, or the suite in that file.
    ///
    /// # Errors
    /// [`SuiteError`] with file and line.
    pub fn load(name: &str) -> Result<Self, SuiteError> {
        if let Some((name, texts)) = BUILT_IN.into_iter().find(|(built_in, _)| *built_in == name) {
            let path = format!("{name}.toml");
            let mut suite = Suite::parse(Path::new(&path), texts[0])?;
            for more in &texts[1..] {
                suite.extend(Suite::parse(Path::new(&path), more)?.cases);
            }
            return Ok(suite);
        }
        let path = Path::new(name);
        if path.extension().is_none() && !path.exists() {
            return Err(SuiteError::Unknown { name: name.into() });
        }
        let text =
            std::fs::read_to_string(path).map_err(|source| SuiteError::Read { path: path.into(), source })?;
        Suite::parse(path, &text)
    }

    /// Reads a suite from its text; `path` names it.
    ///
    /// # Errors
    /// [`SuiteError`] with file and line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SuiteError> {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let file: File = toml::from_str(text).map_err(|error| SuiteError::Syntax {
            path: path.into(),
            line: line_of(error.span().map_or(0, |span| span.start)),
            message: error.message().to_string(),
        })?;
        let mut cases: Vec<SuiteCase> = Vec::new();
        for table in file.cases {
            let line = line_of(table.span().start);
            let expanded = expand(table.into_inner()).map_err(|source| SuiteError::Case {
                path: path.into(),
                line,
                source,
            })?;
            cases.extend(expanded);
        }
        if cases.is_empty() {
            return Err(SuiteError::Empty { path: path.into() });
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut suite = Suite { name, description: file.description, cases: Vec::new() };
        suite.extend(cases);
        Ok(suite)
    }

    /// Adds cases; one that is there already only gains cache states.
    fn extend(&mut self, cases: impl IntoIterator<Item = SuiteCase>) {
        let mut places: HashMap<String, usize> =
            self.cases.iter().enumerate().map(|(i, old)| (old.case.to_string(), i)).collect();
        for new in cases {
            match places.entry(new.case.to_string()) {
                Entry::Occupied(place) => self.cases[*place.get()].timed.extend(new.timed),
                Entry::Vacant(place) => {
                    place.insert(self.cases.len());
                    self.cases.push(new);
                }
            }
        }
        for case in &mut self.cases {
            case.timed.sort_unstable();
            case.timed.dedup();
        }
    }
}

/// All combinations of a table's values.
fn expand(mut table: toml::Table) -> Result<Vec<SuiteCase>, ParseError> {
    table.remove("why");
    let texts = take(&mut table, "text")?;
    if !texts.is_empty() {
        if let Some(key) = table.keys().next() {
            return Err(ParseError::Value {
                key: key.clone(),
                found: "beside text".into(),
                expected: "a table of whole texts to hold nothing else".into(),
            });
        }
        let case = |text: &String| Ok(SuiteCase { case: text.parse()?, timed: Vec::new() });
        return texts.iter().map(case).collect();
    }
    let timed = take(&mut table, "time")?
        .iter()
        .map(|state| state.parse())
        .collect::<Result<Vec<CacheState>, _>>()?;
    let ops = required(&mut table, "op", "an operation")?;
    // A new point-wise function is in every suite that names them all.
    let ops: Vec<String> = ops
        .into_iter()
        .flat_map(|op| match op.as_str() {
            "activation" => Unary::NAMES.map(String::from).to_vec(),
            _ => vec![op],
        })
        .collect();
    let dtypes: Vec<DType> = required(&mut table, "dtype", "f32, f16 or bf16")?
        .iter()
        .map(|d| d.parse())
        .collect::<Result<_, _>>()?;
    let fills: Vec<Fill> =
        or(take(&mut table, "fill")?, "normal").iter().map(|f| f.parse()).collect::<Result<_, _>>()?;
    let controls: Vec<Controls> = or(take(&mut table, "controls")?, "usual")
        .iter()
        .map(|controls| controls.parse())
        .collect::<Result<_, _>>()?;
    let seeds = or(take(&mut table, "seed")?, &Case::DEFAULT_SEED.to_string());

    // Each combination is a list of `key=value` words.
    let mut combinations = vec![String::new()];
    let extend = |combinations: Vec<String>, words: &[String]| -> Vec<String> {
        combinations.iter().flat_map(|c| words.iter().map(move |w| format!("{c} {w}"))).collect()
    };
    for key in table.keys().cloned().collect::<Vec<_>>() {
        let values = take(&mut table, &key)?;
        let words: Vec<String> = match key.as_str() {
            "each" => values,
            _ => values.into_iter().map(|value| format!("{key}={value}")).collect(),
        };
        combinations = extend(combinations, &words);
    }

    let mut cases = Vec::new();
    for op in &ops {
        for words in &combinations {
            for &dtype in &dtypes {
                let fields = Fields::from_words(op, words.split_whitespace())?;
                let problem = Problem::from_fields(fields, dtype)?;
                for (&fill, &controls) in fills.iter().flat_map(|f| controls.iter().map(move |c| (f, c))) {
                    for seed in &seeds {
                        let text = format!("{problem} fill={fill} controls={controls} seed={seed}");
                        cases.push(SuiteCase { case: text.parse()?, timed: timed.clone() });
                    }
                }
            }
        }
    }
    Ok(cases)
}

/// The values of a key as texts; none when it is absent.
fn take(table: &mut toml::Table, key: &str) -> Result<Vec<String>, ParseError> {
    let Some(value) = table.remove(key) else { return Ok(Vec::new()) };
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    values
        .into_iter()
        .map(|value| match value {
            Value::String(text) => Ok(text),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
            value => Err(ParseError::Value {
                key: key.into(),
                found: value.to_string(),
                expected: "a text, number or truth value, or a list of them".into(),
            }),
        })
        .collect()
}

fn required(
    table: &mut toml::Table,
    key: &'static str,
    expected: &'static str,
) -> Result<Vec<String>, ParseError> {
    let values = take(table, key)?;
    if values.is_empty() {
        return Err(ParseError::Missing { op: "[[case]]".into(), key, expected });
    }
    Ok(values)
}

fn or(values: Vec<String>, default: &str) -> Vec<String> {
    if values.is_empty() { vec![default.into()] } else { values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_suites_parse() {
        for (name, _) in BUILT_IN {
            let suite = Suite::load(name).unwrap();
            assert!(!suite.description.is_empty(), "{name}");
        }
    }

    /// Goals are for classes, and no timed case is to be without one or in two.
    #[test]
    fn every_timed_case_belongs_to_one_class() {
        let classes = touchstone_reports::classes::Classes::built_in().unwrap();
        let mut timed = 0;
        for (name, _) in BUILT_IN {
            for case in Suite::load(name).unwrap().cases.iter().filter(|case| !case.timed.is_empty()) {
                let problem = &case.case.problem;
                let record = touchstone_reports::Record {
                    op: problem.name().into(),
                    problem: problem.to_string(),
                    ..Default::default()
                };
                assert_eq!(classes.matching(&record).count(), 1, "{name}: {problem}");
                timed += 1;
            }
        }
        assert!(timed > 100, "{timed}");
    }

    #[test]
    fn lists_multiply_and_repetitions_merge() {
        let text = r#"
            [[case]]
            op = ["softmax", "log_softmax"]
            dtype = ["f32", "bf16"]
            each = ["shape=2x3", "shape=2x3x4 axis=1"]
            fill = ["normal", "wide", "special"]
            [[case]]
            op = "softmax"
            dtype = "f32"
            shape = "2x3"
            time = ["cold", "hot"]
        "#;
        let suite = Suite::parse(Path::new("own.toml"), text).unwrap();
        assert_eq!(suite.cases.len(), 24);
        assert_eq!(suite.cases.iter().filter(|c| c.timed.len() == 2).count(), 1);
    }

    #[test]
    fn errors_name_the_line() {
        // With its cause, as the command prints it.
        let error = |text: &str| {
            format!("{:#}", anyhow::Error::from(Suite::parse(Path::new("own.toml"), text).unwrap_err()))
        };
        assert_eq!(error("description = 3\n"), "own.toml:1: invalid type: integer `3`, expected a string");
        assert!(error("\n\n[[case]\n").starts_with("own.toml:3: "));
        let text = "\n[[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '2x3'\nscael = 2\n";
        assert_eq!(
            error(text),
            "own.toml:2: softmax has no field 'scael'; its fields are: shape, axis, scale"
        );
        assert_eq!(error(""), "own.toml: the suite has no cases");
    }
}
