//! The text of a problem, taken apart: `attention f32 h=12 lq=1024 d=64`.
//!
//! The kernels' own `Fields` parse such a text and refuse what they do not know. Records may be older or
//! newer than the program that reads them, so this one takes every field and judges none.

/// The `key=value` words of a problem's text, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProblemFields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> ProblemFields<'a> {
    /// The fields of a problem.
    pub(crate) fn of(problem: &'a str) -> Self {
        Self(problem.split_whitespace().filter_map(|word| word.split_once('=')).collect())
    }

    /// The value that is written for a field.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}
