//! What can be said of an operation without having one: its name, its fields, its family.

use std::fmt;

use super::Op;
use crate::error::ParseError;
use crate::fields::Fields;

/// Operations that belong together: one file of this crate, one of each backend, one chapter of a report.
#[derive(Debug)]
pub struct Family {
    /// Its name: `norm`.
    pub name: &'static str,
    /// Its name in reports: `Normalization`.
    pub title: &'static str,
    /// The unit in which its speed is told.
    pub unit: Unit,
    /// Its operations, in the order of lists.
    pub operations: &'static [Schema],
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Floating-point operations: the work grows faster than the data.
    Flop,
    /// Bytes moved: a pass over the data.
    Byte,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Family {}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// An operation as a text names it.
#[derive(Debug)]
pub struct Schema {
    /// Its name: the first word of a problem text.
    pub name: &'static str,
    /// Its formula in a line.
    pub formula: &'static str,
    /// The fields of its text, in order.
    pub fields: &'static [Field],
    /// Reads the operation from its fields.
    pub parse: fn(&mut Fields) -> Result<Op, ParseError>,
}

impl Schema {
    /// What the field of that key expects.
    pub(crate) fn expects(&self, key: &str) -> &'static str {
        let field = self.fields.iter().find(|field| field.key == key);
        debug_assert!(field.is_some(), "{} has no field '{key}' in its schema", self.name);
        field.map_or("another value", |field| field.expects)
    }
}

/// A field of a problem text.
#[derive(Debug)]
pub struct Field {
    /// Its key.
    pub key: &'static str,
    /// What its value is, as an error message says it: `a number of query heads`.
    pub expects: &'static str,
    /// What it is where the text does not say; nothing where the text has to.
    pub default: Option<&'static str>,
    /// Whether it is a dimension, or several: what a curve of times may grow over.
    pub is_size: bool,
}

impl Field {
    /// A dimension, or several.
    pub const fn size(key: &'static str, expects: &'static str) -> Self {
        Field { key, expects, default: None, is_size: true }
    }

    /// A parameter or a choice.
    pub const fn choice(key: &'static str, expects: &'static str) -> Self {
        Field { key, expects, default: None, is_size: false }
    }

    /// The same with a default.
    #[must_use]
    pub const fn or(self, default: &'static str) -> Self {
        Field { default: Some(default), ..self }
    }
}

/// A field that is true or false.
pub(super) const fn flag(key: &'static str) -> Field {
    Field::choice(key, "true or false")
}

/// A field that is a number.
pub(super) const fn number(key: &'static str) -> Field {
    Field::choice(key, "a number")
}
