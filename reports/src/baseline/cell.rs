//! What is expected of one case on one backend, and how a cell says it.

use std::fmt;
use std::str::FromStr;

use crate::record::Record;
use crate::status::Status;

/// A status, the contract it was judged by, and the largest error over its bound.
///
/// As text: `0.42` passed element by element, `0.42 normwise` row by row, `known inf normwise` fails
/// as a known issue says, `unsupported` was not tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// The verdict.
    pub status: Status,
    /// See [`Record::error_over_bound`]. Three digits are kept.
    pub figure: Option<f64>,
    /// Whether rows were judged instead of elements.
    pub normwise: bool,
}

impl Expectation {
    /// What a row found.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let figure = record.error_over_bound;
        // As the file has it, so that what is written is what is read.
        let figure = figure.map(|figure| digits(figure).parse().unwrap_or(figure));
        // A backend that was not run made no promise.
        let normwise = record.contract == "normwise" && record.status.was_executed();
        Self { status: record.status, figure, normwise }
    }
}

/// Three significant digits: 25 % are to be told apart, and a table is to be read.
fn digits(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if !size.is_finite() => format!("{figure}"),
        size if !(1e-3..1e3).contains(&size) => format!("{figure:.2e}"),
        size if size < 1.0 => format!("{figure:.3}"),
        size if size < 10.0 => format!("{figure:.2}"),
        _ => format!("{figure:.1}"),
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        // A figure alone has passed.
        if self.status != Status::Passed || self.figure.is_none() {
            words.push(self.status.to_string());
        }
        words.extend(self.figure.map(digits));
        if self.normwise {
            words.push("normwise".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

/// Text that is no expectation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a status, a figure or both, and perhaps `normwise`: `0.42`, `known 3.1 normwise`")]
pub struct NoExpectation;

impl FromStr for Expectation {
    type Err = NoExpectation;

    fn from_str(text: &str) -> Result<Self, NoExpectation> {
        let mut words = text.split_whitespace().peekable();
        let status = words.next_if(|word| word.parse::<Status>().is_ok());
        let figure = words.next_if(|word| word.parse::<f64>().is_ok());
        let normwise = words.next_if_eq(&"normwise").is_some();
        if words.next().is_some() || (status.is_none() && figure.is_none()) {
            return Err(NoExpectation);
        }
        Ok(Self {
            status: status.map_or(Ok(Status::Passed), str::parse).map_err(|_| NoExpectation)?,
            figure: figure.and_then(|word| word.parse().ok()),
            normwise,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expectation_is_read_as_it_was_written() {
        for status in Status::ALL {
            for figure in
                [None, Some(0.0), Some(1.23e-7), Some(0.421), Some(0.999), Some(31.4), Some(f64::INFINITY)]
            {
                for normwise in [false, true] {
                    let cell = Expectation { status, figure, normwise };
                    assert_eq!(cell.to_string().parse(), Ok(cell.clone()), "{cell}");
                }
            }
        }
        for text in ["", "normwise", "0.1 0.2", "passed well", "normwise 0.3", "0,3"] {
            assert_eq!(text.parse::<Expectation>(), Err(NoExpectation), "{text}");
        }
    }

    #[test]
    fn a_figure_is_what_its_text_says() {
        for figure in [0.999_96, 9.999, 999.97, 0.000_999_9, 0.123_456] {
            let record =
                Record { status: Status::Passed, error_over_bound: Some(figure), ..Record::default() };
            let cell = Expectation::of(&record);
            assert_eq!(cell.to_string().parse(), Ok(cell.clone()));
            assert!((cell.figure.unwrap_or(0.0) / figure - 1.0).abs() < 0.006, "{cell}");
        }
    }
}
