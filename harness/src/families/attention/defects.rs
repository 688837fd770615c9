//! Conditions and limits of known issues of attention.

use touchstone_kernels::op::Attention;

use super::scores;
use crate::known::{Limit, Predicate};

pub(super) const PREDICATES: &[Predicate] = &[
    Predicate {
        name: "scores_overflow",
        about: "a score is beyond the largest number of the storage type",
        holds: |problem, inputs| {
            problem.get::<Attention>().is_some_and(|spec| scores::overflow(spec, problem.dtype, inputs))
        },
        may_hold: |_| true,
    },
    Predicate {
        name: "penalties_only",
        about: "a query sees only keys whose additive mask is the lowest finite number",
        holds: |problem, inputs| {
            let spec = problem.get::<Attention>();
            spec.is_some_and(|spec| scores::sees_penalties_only(spec, problem.dtype, inputs))
        },
        may_hold: |_| true,
    },
    Predicate {
        name: "hidden_keys",
        about: "causal masking or a window hides a key from a query",
        holds: |problem, _| problem.get().is_some_and(scores::hides_keys),
        may_hold: |problem| problem.get().is_some_and(scores::hides_keys),
    },
];

pub(super) const LIMITS: &[Limit] = &[Limit {
    name: "rounded_scores",
    about: "attention that rounds its scores to the storage type",
    of: |problem, inputs| {
        let spec = problem.get::<Attention>();
        spec.map_or(0.0, |spec| scores::rounding_error(spec, problem.dtype, inputs))
    },
}];
