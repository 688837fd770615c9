//! Safeguards: the independent checks that a verdict rests on.
//!
//! A check that nobody could miss is decoration. So the list is closed, and the self-test takes
//! each safeguard away in turn and demands that something wrong gets through without it (see
//! [`selftest::needs`](crate::selftest::needs())). For that, the engine is told which safeguards
//! stand, as a value that only this crate can make: the public functions run with all of them.
//!
//! What stops a case rather than judging it is not in the list: a backend that reports an error,
//! panics, dies or is silent gives a row of its own, and a run in which nothing was executed fails.

/// One of the checks that a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// The results have the names, shapes and types that the problem asks for.
    Form,
    /// NaN and infinities stand where they belong, and nowhere else.
    Kind,
    /// No error is larger than its tolerance, under the contract that the backend declares.
    Magnitude,
    /// Who promises every element is held to each, and not to the largest of its row.
    Componentwise,
    /// Nothing is written around a result, in either run.
    ResultGuards,
    /// Nothing is written around an operand.
    OperandGuards,
    /// Operands hold the same bits afterwards.
    Operands,
    /// A second run on the same operands is right by itself.
    SecondRun,
    /// Operands and results that do not start at a cache line give right results too.
    Alignment,
    /// Results are NaN until a kernel writes them.
    Unwritten,
    /// Results, guard zones and operands are verified again after a measurement.
    AfterTiming,
    /// A case is suspect where an element has no bound.
    Refused,
    /// A case is suspect when a buffer that nobody wrote would pass.
    SuspectNan,
    /// A case is suspect when zeros would pass.
    SuspectZeros,
    /// A case is suspect when one constant would pass.
    SuspectConstant,
    /// A case is suspect when each row's neighbour would pass for it.
    SuspectNeighbour,
    /// A case is suspect when the mean of V would pass for attention.
    SuspectMean,
    /// A known issue whose witness passes turns the run red.
    Witness,
}

touchstone_kernels::named_enum!(Safeguard, "safeguard", {
    Safeguard::Form => "form",
    Safeguard::Kind => "kind",
    Safeguard::Magnitude => "magnitude",
    Safeguard::Componentwise => "componentwise",
    Safeguard::ResultGuards => "result-guards",
    Safeguard::OperandGuards => "operand-guards",
    Safeguard::Operands => "operands",
    Safeguard::SecondRun => "second-run",
    Safeguard::Alignment => "alignment",
    Safeguard::Unwritten => "unwritten",
    Safeguard::AfterTiming => "after-timing",
    Safeguard::Refused => "refused",
    Safeguard::SuspectNan => "suspect-nan",
    Safeguard::SuspectZeros => "suspect-zeros",
    Safeguard::SuspectConstant => "suspect-constant",
    Safeguard::SuspectNeighbour => "suspect-neighbour",
    Safeguard::SuspectMean => "suspect-mean",
    Safeguard::Witness => "witness",
});

/// The safeguards that stand: all, or in the self-test all but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Safeguards {
    missing: Option<Safeguard>,
}

impl Safeguards {
    /// What every verdict outside the self-test rests on.
    pub(crate) const ALL: Safeguards = Safeguards { missing: None };

    /// All but one.
    pub(crate) const fn without(safeguard: Safeguard) -> Self {
        Safeguards { missing: Some(safeguard) }
    }

    /// Whether this one stands.
    pub(crate) fn have(self, safeguard: Safeguard) -> bool {
        self.missing != Some(safeguard)
    }
}
