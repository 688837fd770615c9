//! The operations: what each computes, over which operands, at what cost.
//!
//! An operation is a value that describes itself: a struct whose fields are every semantic choice it has,
//! and which implements [`Operation`]. Nothing is left to a backend's habit. The parameters are f32, and
//! their f32 value *is* the semantics: an `eps` of 1e-5 means the f32 nearest to it, for the oracle too.
//!
//! One file holds one [`Family`] of operations with the [`Schema`] of each: name, fields, how its text is
//! read. Everything that concerns all operations asks these; a program may [`register`] families of its own.
//!
//! All tensors are dense and row-major. NaN in an input propagates to every output that depends
//! on it.
//!
//! # Range
//!
//! Results are those of the formula over the real numbers, rounded once to the storage type. That an
//! intermediate value leaves the range of f32 is no excuse: the squares of a norm of numbers near 10³⁰,
//! a score of 10⁴⁰, s·x in a softmax. A kernel has to compute such a result where the result itself is
//! in range, and gives ±∞ only where the result is beyond the largest number of its type.

pub mod operand;
pub mod schema;

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

pub use activation::{Activation, Glu, GluLayout, Unary};
pub use attention::{Attention, Causal, Mask};
pub use norm::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use operand::{Binding, Kind, Operand};
pub use rope::{Rope, RopeScaling, RopeStyle};
pub use schema::{Family, Field, Schema, Unit};
pub use softmax::Softmax;

use crate::dtype::DType;
use crate::error::ShapeError;
use crate::fields::FieldWriter;
use crate::operands::Inputs;

/// Declares the files of the families, each of which has a static `FAMILY`.
macro_rules! families {
    ($($family:ident),+ $(,)?) => {
        $(pub mod $family;)+

        /// The families of this crate.
        const BUILT_IN: &[&Family] = &[$(&$family::FAMILY),+];
    };
}

families! {
    attention,
    softmax,
    norm,
    rope,
    activation,
    residual,
}

/// The families that a program has added.
static ADDED: RwLock<Vec<&'static Family>> = RwLock::new(Vec::new());

/// Adds a family of operations to those that texts may name, for the whole process. Adding it again changes
/// nothing.
///
/// # Errors
/// The name of a family or operation that exists already.
pub fn register(family: &'static Family) -> Result<(), &'static str> {
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    if added.iter().any(|known| std::ptr::eq(*known, family)) {
        return Ok(());
    }
    for known in BUILT_IN.iter().chain(added.iter()) {
        if known.name == family.name {
            return Err(family.name);
        }
        let is_taken = |own: &&Schema| known.operations.iter().any(|schema| schema.name == own.name);
        if let Some(own) = family.operations.iter().find(is_taken) {
            return Err(own.name);
        }
    }
    added.push(family);
    Ok(())
}

/// Every family: those of this crate, then those that were added.
pub fn families() -> impl Iterator<Item = &'static Family> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner).clone();
    BUILT_IN.iter().copied().chain(added)
}

/// Every operation name that a problem text can begin with.
pub fn names() -> impl Iterator<Item = &'static str> {
    families().flat_map(|family| family.operations).map(|schema| schema.name)
}

/// The schema of the operation of that name.
pub fn schema(name: &str) -> Option<&'static Schema> {
    families().flat_map(|family| family.operations).find(|schema| schema.name == name)
}

/// The most elements that a tensor may have: more than any machine holds, and few enough that no
/// count of elements or bytes leaves 64 bits.
const MOST_ELEMENTS: usize = 1 << 40;

/// Whether a tensor of these dimensions has at most [`MOST_ELEMENTS`]; a dimension of 0 excuses
/// no other.
pub(crate) fn is_addressable(shape: &[usize]) -> bool {
    let count = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim.max(1)));
    count.is_some_and(|n| n <= MOST_ELEMENTS)
}

/// The cost of a problem, declared once and the same for every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Floating-point operations.
    pub flops: u64,
    /// Minimal memory traffic: each operand read once, each result written once.
    pub bytes: u64,
}

/// An operation with every semantic choice: what a problem text says, as a value.
///
/// What it computes is told to people by the docs of the type, and to the harness by a formula that it
/// has for this type; backends look up a kernel by the type ([`Op::get`]).
pub trait Operation: Any + fmt::Debug + Send + Sync {
    /// The operation's name: the first word of the problem text, and the name of a [`Schema`] of its family.
    fn name(&self) -> &'static str;

    /// The family it belongs to.
    fn family(&self) -> &'static Family;

    /// Checks that dimensions and parameters fit together.
    ///
    /// # Errors
    /// [`ShapeError`] with the values that do not.
    fn check(&self) -> Result<(), ShapeError>;

    /// The operands, in order.
    fn operands(&self, dtype: DType) -> Vec<Operand>;

    /// The results, in order. The first is `out`.
    fn results(&self, dtype: DType) -> Vec<Operand>;

    /// Floating-point operations.
    fn flops(&self) -> u64;

    /// Minimal memory traffic in bytes: each operand and result once.
    fn bytes(&self, dtype: DType) -> u64 {
        self.operands(dtype).iter().chain(&self.results(dtype)).map(Operand::bytes).sum()
    }

    /// The work that the shapes ask for.
    fn work(&self, dtype: DType) -> Work {
        Work { flops: self.flops(), bytes: self.bytes(dtype) }
    }

    /// The work that these inputs ask for, where the data decide how much there is to do.
    fn work_on(&self, dtype: DType, inputs: &Inputs) -> Work {
        let _ = inputs;
        self.work(dtype)
    }

    /// Writes the fields of the problem text, those at their defaults left out.
    fn write(&self, fields: &mut FieldWriter);

    /// A [`ShapeError`] of this operation.
    fn error(&self, message: String) -> ShapeError {
        ShapeError { op: self.name(), message }
    }

    /// Checks that an eps is finite and not negative.
    ///
    /// # Errors
    /// [`ShapeError`] naming it.
    fn check_eps(&self, eps: f32) -> Result<(), ShapeError> {
        if eps.is_finite() && eps >= 0.0 {
            Ok(())
        } else {
            Err(self.error(format!("eps={eps} must be finite and not negative")))
        }
    }

    /// Checks that a parameter is finite and greater than zero.
    ///
    /// # Errors
    /// [`ShapeError`] naming it.
    fn check_positive(&self, key: &str, value: f32) -> Result<(), ShapeError> {
        if value.is_finite() && value > 0.0 {
            Ok(())
        } else {
            Err(self.error(format!("{key}={value} must be finite and greater than 0")))
        }
    }
}

/// Any operation: an [`Operation`] that is shared and compared by its text.
#[derive(Clone)]
pub struct Op(Arc<dyn Operation>);

impl Op {
    /// The operation's own type with its fields, if it is of type `O`.
    pub fn get<O: Operation>(&self) -> Option<&O> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }

    /// Whether it is of type `O`.
    pub fn is<O: Operation>(&self) -> bool {
        self.get::<O>().is_some()
    }
}

impl<O: Operation> From<O> for Op {
    fn from(operation: O) -> Self {
        Op(Arc::new(operation))
    }
}

impl Deref for Op {
    type Target = dyn Operation;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Op {
    fn eq(&self, other: &Self) -> bool {
        let text = |op: &Op| {
            let mut fields = FieldWriter::default();
            op.write(&mut fields);
            fields.finish()
        };
        self.name() == other.name() && text(self) == text(other)
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fields::Fields;
    use crate::problem::Problem;

    /// A text of each operation with nothing but what it needs.
    fn smallest(schema: &Schema) -> String {
        let value = |field: &Field| match field.key {
            "shape" => "2x4x6",
            "groups" => "2",
            _ => "4",
        };
        let needed = schema.fields.iter().filter(|field| field.default.is_none());
        let words: Vec<String> = needed.map(|field| format!("{}={}", field.key, value(field))).collect();
        format!("{} f32 {}", schema.name, words.join(" "))
    }

    #[test]
    fn names_are_unique_and_an_operation_names_its_schema_and_family() {
        let mut seen = HashSet::new();
        for family in families() {
            assert!(seen.insert(family.name) || family.operations.iter().any(|s| s.name == family.name));
            for own in family.operations {
                assert!(own.name == family.name || seen.insert(own.name), "{} twice", own.name);
                let problem: Problem = smallest(own).parse().unwrap();
                assert_eq!((problem.name(), problem.family().name), (own.name, family.name));
            }
        }
    }

    /// A schema is what an operation reads: every field of it, and no other. That a field which is read has
    /// an entry is seen where the text asks for nothing: `expects` panics in tests otherwise.
    #[test]
    fn a_schema_has_the_fields_that_are_read() {
        for own in families().flat_map(|family| family.operations) {
            for field in own.fields {
                let words = [format!("{}=?", field.key)];
                let required = smallest(own);
                let others =
                    required.split(' ').skip(2).filter(|word| !word.starts_with(&format!("{}=", field.key)));
                let words = others.chain(words.iter().map(String::as_str));
                let error = (own.parse)(&mut Fields::from_words(own.name, words).unwrap());
                let error = error.err().map(|error| error.to_string());
                assert!(
                    error
                        .as_ref()
                        .is_some_and(|text| text.contains(field.expects) || text.contains(field.key)),
                    "{} {}: {error:?}",
                    own.name,
                    field.key
                );
            }
            let unknown = format!("{} never=1", smallest(own)).parse::<Problem>().unwrap_err();
            assert!(own.fields.iter().all(|field| unknown.to_string().contains(field.key)), "{unknown}");
        }
    }

    #[test]
    fn operations_are_equal_by_their_text() {
        let of = |text: &str| text.parse::<Problem>().unwrap().op;
        assert_eq!(of("softmax f32 shape=2x3"), of("softmax f16 shape=2x3 axis=1"));
        assert_ne!(of("softmax f32 shape=2x3"), of("log_softmax f32 shape=2x3"));
        assert_ne!(of("softmax f32 shape=2x3"), of("softmax f32 shape=2x4"));
    }
}
