//! The one text form of problems: `<operation> <dtype> key=value …`.
//!
//! Repro lines, suite entries and the timing protocol all pass through [`Fields`], so that a
//! problem means the same wherever it is written.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::error::ParseError;
use crate::op::{self, Schema};

/// The fields of a problem text while they are being read.
#[derive(Clone, Debug)]
pub struct Fields {
    schema: &'static Schema,
    unread: Vec<(String, String)>,
}

impl Fields {
    /// Fields of an operation from pairs.
    ///
    /// # Errors
    /// [`ParseError::Choice`] for an operation that does not exist, [`ParseError::Twice`].
    pub fn new(op: &str, pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ParseError> {
        let schema = op::schema(op).ok_or_else(|| {
            ParseError::choice("operation", op, &op::names().collect::<Vec<_>>().join(", "))
        })?;
        let mut fields = Fields { schema, unread: Vec::new() };
        for (key, value) in pairs {
            if fields.unread.iter().any(|(k, _)| *k == key) {
                return Err(ParseError::Twice { key });
            }
            fields.unread.push((key, value));
        }
        Ok(fields)
    }

    /// Fields from words of the form `key=value`.
    ///
    /// # Errors
    /// [`ParseError::NotAField`], and as [`Fields::new`].
    pub fn from_words<'a>(op: &str, words: impl IntoIterator<Item = &'a str>) -> Result<Self, ParseError> {
        let pairs: Vec<_> = words
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some((key, value)) => Ok((key.to_string(), value.to_string())),
                None => Err(ParseError::NotAField { word: word.into() }),
            })
            .collect::<Result<_, _>>()?;
        Fields::new(op, pairs)
    }

    /// The operation's name.
    pub fn op(&self) -> &'static str {
        self.schema.name
    }

    /// The operation's schema.
    pub fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// Takes a field that may be absent.
    ///
    /// # Errors
    /// [`ParseError::Value`] saying what was expected.
    pub fn optional<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, ParseError> {
        let Some(index) = self.unread.iter().position(|(k, _)| k == key) else { return Ok(None) };
        let (_, text) = self.unread.remove(index);
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                let expected = self.schema.expects(key).into();
                Err(ParseError::Value { key: key.into(), found: text, expected })
            }
        }
    }

    /// Takes a field that the operation needs.
    ///
    /// # Errors
    /// [`ParseError::Value`] or [`ParseError::Missing`].
    pub fn required<T: FromStr>(&mut self, key: &'static str) -> Result<T, ParseError> {
        let Fields { schema, .. } = *self;
        self.optional(key)?.ok_or_else(|| ParseError::Missing {
            op: schema.name.into(),
            key,
            expected: schema.expects(key),
        })
    }

    /// Takes a field that may be absent, with its default.
    ///
    /// # Errors
    /// [`ParseError::Value`].
    pub fn default<T: FromStr>(&mut self, key: &'static str, default: T) -> Result<T, ParseError> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// Checks that every field was read.
    ///
    /// # Errors
    /// [`ParseError::Unknown`] naming the first that was not, and the fields that exist.
    pub fn finish(self) -> Result<(), ParseError> {
        match self.unread.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => {
                let known: Vec<&str> = self.schema.fields.iter().map(|field| field.key).collect();
                Err(ParseError::Unknown { op: self.schema.name.into(), key, known: known.join(", ") })
            }
        }
    }
}

/// Writes fields in the text form.
#[derive(Debug, Default)]
pub struct FieldWriter(String);

impl FieldWriter {
    /// Appends ` key=value`.
    pub fn field(&mut self, key: &str, value: impl fmt::Display) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {key}={value}");
        self
    }

    /// Appends a field unless it has its default value.
    pub fn unless<T: fmt::Display + PartialEq>(&mut self, key: &str, value: T, default: T) -> &mut Self {
        if value != default { self.field(key, value) } else { self }
    }

    /// Appends a field when there is one.
    pub fn some(&mut self, key: &str, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Dimensions written `4x1024`, none at all `scalar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims(pub Vec<usize>);

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("scalar");
        }
        let parts: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&parts.join("x"))
    }
}

impl FromStr for Dims {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "scalar" {
            return Ok(Dims(Vec::new()));
        }
        text.split('x').map(str::parse).collect::<Result<_, _>>().map(Dims)
    }
}

/// Implements `Display` and `FromStr` of a field-less enum by a list of names.
#[macro_export]
macro_rules! named_enum {
    ($type:ty, $what:literal, { $($variant:path => $name:literal),+ $(,)? }) => {
        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(match self { $($variant => $name),+ })
            }
        }
        impl ::std::str::FromStr for $type {
            type Err = $crate::ParseError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($name => Ok($variant),)+
                    _ => Err($crate::ParseError::Choice {
                        what: $what,
                        found: text.into(),
                        expected: [$($name),+].join(", "),
                    }),
                }
            }
        }
        impl $type {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$($variant),+];
        }
    };
}
