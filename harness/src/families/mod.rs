//! What the harness knows of each operation: one folder for each family.
//!
//! An operation says itself what it is ([`touchstone_kernels::Operation`]): its fields, operands, cost. To be
//! checked it needs more, and [`Checkable`] says what: the formula with its error bounds above all. Everything
//! else in the harness asks this trait, and [`FamilyChecks`], and names no operation.
//!
//! | file of a family | holds |
//! |---|---|
//! | `mod.rs` | its [`FamilyChecks`], and [`Checkable`] for each operation |
//! | `oracle.rs` | formulas and error bounds, in f64 |
//! | `draw.rs` | what exploration may draw |
//! | `invariants.rs` | facts that need no oracle |
//! | `faults`, `variants.rs` | wrong kernels that must fail, right ones that must not; `model.rs` is what both are made of |
//! | `defects.rs` | conditions and limits of known issues |
//! | `onnx.rs` | from ONNX's node tests to problems |
//!
//! A program that brings operations of its own hands their [`FamilyChecks`] to [`register`].

use std::sync::{PoisonError, RwLock};

use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::op::{self, Family};
use touchstone_kernels::{Inputs, Op, Operand, Operation, Problem, Tensor};

use crate::coverage::Level;
use crate::explore::Numbers;
use crate::fill::{DataRole, Fill};
use crate::invariants::Invariant;
use crate::known::{Limit, Predicate};
use crate::onnx::Operator;
use crate::oracle::ExpectedResult;
use crate::selftest::Specimen;

/// An operation that the harness can check.
pub trait Checkable: Operation {
    /// The exact results in f64, each with the error that a careful f32 kernel may have.
    ///
    /// `inputs` are those of `problem`, which is of this operation.
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult>;

    /// The factors of this operation with their levels here: the value of a field, the class of a size. Suites
    /// cover every pair of levels that exploration can draw ([`coverage`](crate::coverage)).
    fn levels(&self) -> Vec<Level>;

    /// Factors of which every triple of levels is to be covered.
    fn triples(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the fills have to know of a data operand.
    fn role(&self, operand: &Operand) -> DataRole {
        let _ = operand;
        DataRole::Plain
    }

    /// Changes operands that were drawn, where their numbers depend on each other.
    fn relate(&self, fill: Fill, tensors: &mut [(&'static str, Tensor)]) {
        let _ = (fill, tensors);
    }

    /// The same operation on the last of several entries of a batch, which lie along the first axis of every
    /// operand that has one for each; nothing where there is no batch, or one entry.
    fn alone(&self) -> Option<Op> {
        None
    }

    /// How many numbers are summed for an element of a result.
    fn summed(&self) -> usize {
        1
    }

    /// The elements of `x` that are normalized together, if any are.
    fn normalized(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// The problem that a library computes as a part of this one, with its operands, where what is known of the
    /// library's defects is known of that: a norm, of a norm after a sum.
    fn inner(&self, problem: &Problem, inputs: &Inputs) -> Option<(Problem, Inputs)> {
        let _ = (problem, inputs);
        None
    }

    /// Another operation that invariants of this one compute beside it.
    fn related(&self) -> Option<Op> {
        None
    }

    /// Whether an intermediate value is rounded to the storage type, as a part of the formula.
    fn rounds_within(&self) -> bool {
        false
    }

    /// What a kernel of this operation gives that looks at part of its operands only, as the numbers of the
    /// result of that index: an answer that a case has to tell from the right one.
    fn indifferent(&self, result: usize, inputs: &Inputs) -> Option<Vec<f64>> {
        let _ = (result, inputs);
        None
    }
}

/// An operation as one that can be checked, if it is of the type that the entry is for.
pub type Entry = fn(&Op) -> Option<&dyn Checkable>;

/// The entry of an operation's type.
pub fn of<O: Checkable>(op: &Op) -> Option<&dyn Checkable> {
    op.get::<O>().map(|operation| operation as &dyn Checkable)
}

/// What exploration draws of one operation.
#[derive(Clone, Copy)]
pub struct Draw {
    /// The operation's name.
    pub name: &'static str,
    /// How often it is drawn, relative to the others: by how much there is to choose.
    pub weight: u32,
    /// Its values. What is drawn passes [`Operation::check`].
    pub strategy: fn(Numbers) -> SBoxedStrategy<Op>,
}

/// What the harness knows of a family.
pub struct FamilyChecks {
    family: &'static Family,
    entries: &'static [Entry],
    draws: &'static [Draw],
    invariants: fn() -> Vec<Invariant>,
    faults: fn() -> Vec<Specimen>,
    variants: fn() -> Vec<Specimen>,
    predicates: &'static [Predicate],
    limits: &'static [Limit],
    onnx: &'static [Operator],
}

impl FamilyChecks {
    /// The checks of a family: an entry for each type of its operations, and a draw for each of their names.
    pub const fn new(family: &'static Family, entries: &'static [Entry], draws: &'static [Draw]) -> Self {
        FamilyChecks {
            family,
            entries,
            draws,
            invariants: Vec::new,
            faults: Vec::new,
            variants: Vec::new,
            predicates: &[],
            limits: &[],
            onnx: &[],
        }
    }

    /// The same with invariants.
    #[must_use]
    pub const fn with_invariants(self, invariants: fn() -> Vec<Invariant>) -> Self {
        FamilyChecks { invariants, ..self }
    }

    /// The same with planted faults, and with other right ways.
    #[must_use]
    pub const fn with_test_kernels(
        self,
        faults: fn() -> Vec<Specimen>,
        variants: fn() -> Vec<Specimen>,
    ) -> Self {
        FamilyChecks { faults, variants, ..self }
    }

    /// The same with conditions and limits that known issues may name.
    #[must_use]
    pub const fn with_defects(self, predicates: &'static [Predicate], limits: &'static [Limit]) -> Self {
        FamilyChecks { predicates, limits, ..self }
    }

    /// The same with operators of ONNX that have its semantics.
    #[must_use]
    pub(crate) const fn with_onnx(self, onnx: &'static [Operator]) -> Self {
        FamilyChecks { onnx, ..self }
    }
}

/// Declares the folders of the families, each of which has a static `CHECKS`.
macro_rules! families {
    ($($family:ident),+ $(,)?) => {
        $(pub(crate) mod $family;)+

        /// The families of this crate.
        const BUILT_IN: &[&FamilyChecks] = &[$(&$family::CHECKS),+];
    };
}

families! {
    attention,
    softmax,
    norm,
    activation,
    rope,
    residual,
}

/// Those that a program has added.
static ADDED: RwLock<Vec<&'static FamilyChecks>> = RwLock::new(Vec::new());

/// Adds a family, with its operations ([`op::register`]), for the whole process. Adding it again changes
/// nothing.
///
/// # Errors
/// The name of a family or operation that exists already.
pub fn register(checks: &'static FamilyChecks) -> Result<(), &'static str> {
    op::register(checks.family)?;
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    if !added.iter().any(|known| std::ptr::eq(*known, checks)) {
        added.push(checks);
    }
    Ok(())
}

/// Every family: those of this crate, then those that were added.
fn all() -> impl Iterator<Item = &'static FamilyChecks> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner).clone();
    BUILT_IN.iter().copied().chain(added)
}

/// What is known of an operation.
///
/// # Panics
/// When its family was registered with the kernels only ([`register`] does both).
pub fn checks(op: &Op) -> &dyn Checkable {
    let found = all().flat_map(|family| family.entries).find_map(|entry| entry(op));
    #[expect(clippy::expect_used, reason = "a program that cannot check an operation has to say so early")]
    found.expect("the operation is registered with its formula, by families::register")
}

/// What exploration draws, in the order of [`op::names`].
pub(crate) fn draws() -> Vec<(&'static Family, Draw)> {
    let draws: Vec<_> = all().flat_map(|own| own.draws.iter().map(|draw| (own.family, *draw))).collect();
    op::names().filter_map(|name| draws.iter().find(|(_, draw)| draw.name == name).copied()).collect()
}

/// The invariants of every family.
pub(crate) fn invariants() -> impl Iterator<Item = Invariant> {
    all().flat_map(|family| (family.invariants)())
}

/// The planted faults of every family.
pub(crate) fn faults() -> impl Iterator<Item = Specimen> {
    all().flat_map(|family| (family.faults)())
}

/// The correct variants of every family.
pub(crate) fn variants() -> impl Iterator<Item = Specimen> {
    all().flat_map(|family| (family.variants)())
}

/// The conditions that known issues may name.
pub(crate) fn predicates() -> impl Iterator<Item = &'static Predicate> {
    all().flat_map(|family| family.predicates)
}

/// The limits that known issues may name.
pub(crate) fn limits() -> impl Iterator<Item = &'static Limit> {
    all().flat_map(|family| family.limits)
}

/// The operators of ONNX with a mapping.
pub(crate) fn onnx() -> impl Iterator<Item = &'static Operator> {
    all().flat_map(|family| family.onnx)
}

/// The shape with one entry along its first axis, if there are several.
pub fn one_of(shape: &[usize]) -> Option<Vec<usize>> {
    let (&entries, rest) = shape.split_first()?;
    (entries > 1).then(|| std::iter::once(1).chain(rest.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_can_be_checked_and_drawn() {
        let drawn: Vec<&str> = draws().iter().map(|(_, draw)| draw.name).collect();
        assert_eq!(drawn, op::names().collect::<Vec<_>>());
        for (family, draw) in draws() {
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            use proptest::strategy::{Strategy, ValueTree};
            let op = (draw.strategy)(Numbers::Moderate).new_tree(&mut runner).unwrap().current();
            assert_eq!((op.name(), op.family()), (draw.name, family));
            assert!(!checks(&op).levels().is_empty());
        }
    }
}
