//! Calls whose name leaves a choice to the library: what is it then?
//!
//! A [`Problem`] states every choice, and a [`Backend`](crate::Backend) answers exactly that, if
//! need be by going around its library's own function. What that function would have done is worth
//! knowing to those who call it: this is the door to it, for no other use.

use crate::operands::Outputs;

#[cfg(doc)]
use crate::problem::Problem;

/// A call as libraries offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstated {
    /// Fused attention asked to be causal, whatever alignment that is.
    Causal,
    /// The function named `gelu`.
    Gelu,
    /// The function named `rope`.
    Rotation,
}

crate::named_enum!(Unstated, "call", {
    Unstated::Causal => "causal",
    Unstated::Gelu => "gelu",
    Unstated::Rotation => "rope",
});

/// What an implementation makes of such a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Habit {
    /// It has none: its callers have to say what they want.
    Asks,
    /// It has no such function.
    Absent,
    /// These results.
    Results(Outputs),
}
