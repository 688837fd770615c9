//! A problem: an operation with its semantics, and the storage type.

use std::fmt;
use std::str::FromStr;

use crate::dtype::DType;
use crate::error::{ParseError, ShapeError};
use crate::fields::{FieldWriter, Fields};
use crate::op::{Family, Op, Operand, Operation, Work, is_addressable};
use crate::operands::Inputs;

/// What is computed.
///
/// Its text is the repro line, `<operation> <dtype> key=value …`, with fields at their defaults
/// left out:
///
/// ```
/// use touchstone_kernels::Problem;
///
/// let problem: Problem = "attention f16 h=32 hkv=8 lq=1 lk=2048 d=128 causal=bottom_right".parse()?;
/// assert_eq!(problem.work().flops, 2 * 32 * 256 * 2048);
/// assert_eq!(problem.to_string().parse::<Problem>()?, problem);
/// # Ok::<(), touchstone_kernels::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The operation.
    pub op: Op,
    /// Storage type of operands and results.
    pub dtype: DType,
}

impl Problem {
    /// A problem whose dimensions and parameters have been checked.
    ///
    /// # Errors
    /// [`ShapeError`] with the values that do not fit.
    pub fn new(op: impl Into<Op>, dtype: DType) -> Result<Self, ShapeError> {
        let op = op.into();
        op.check()?;
        for operand in op.operands(dtype).iter().chain(&op.results(dtype)) {
            if !is_addressable(&operand.shape) {
                let message = format!("{} of shape {:?} is too large", operand.name, operand.shape);
                return Err(op.error(message));
            }
        }
        Ok(Problem { op, dtype })
    }

    /// Reads a problem from its fields.
    ///
    /// # Errors
    /// [`ParseError`] naming the field.
    pub fn from_fields(mut fields: Fields, dtype: DType) -> Result<Self, ParseError> {
        let op = (fields.schema().parse)(&mut fields)?;
        fields.finish()?;
        Ok(Problem::new(op, dtype)?)
    }

    /// The operation's name.
    pub fn name(&self) -> &'static str {
        self.op.name()
    }

    /// The operation's family.
    pub fn family(&self) -> &'static Family {
        self.op.family()
    }

    /// The fields of the operation, if it is of this type.
    pub fn get<O: Operation>(&self) -> Option<&O> {
        self.op.get()
    }

    /// The operands, in order.
    pub fn operands(&self) -> Vec<Operand> {
        self.op.operands(self.dtype)
    }

    /// The results, in order; the first is `out`.
    pub fn results(&self) -> Vec<Operand> {
        self.op.results(self.dtype)
    }

    /// The work that these inputs ask for: of attention only what its masks and lengths leave visible.
    pub fn work_on(&self, inputs: &Inputs) -> Work {
        self.op.work_on(self.dtype, inputs)
    }

    /// Floating-point operations and minimal memory traffic.
    pub fn work(&self) -> Work {
        self.op.work(self.dtype)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = FieldWriter::default();
        self.op.write(&mut fields);
        write!(f, "{} {}{}", self.name(), self.dtype, fields.finish())
    }
}

impl FromStr for Problem {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = text.split_whitespace();
        let (Some(op), Some(dtype)) = (words.next(), words.next()) else {
            return Err(ParseError::NotAProblem { text: text.into() });
        };
        Problem::from_fields(Fields::from_words(op, words)?, dtype.parse()?)
    }
}
