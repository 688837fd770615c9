//! Whether a backend gives the same bits where nothing that counts is different.
//!
//! A right result may differ in its last bits, since sums may be taken in any order. A difference here is
//! therefore counted, and is no failure. Some users need equal bits: to repeat a training run, to compare two
//! machines, or because an answer must not depend on what else is in its batch (batch invariance).

use rayon::ThreadPool;
use touchstone_kernels::{Backend, Outputs, Support, tensor};

use crate::agreement::unravel;
use crate::case::Case;
use crate::check::outputs;
use crate::invariants::batching::last_alone;

/// What is different in the second computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Repeated,
    /// Operands and results start between cache lines.
    Moved,
    /// All threads compute instead of one.
    Threads,
    /// The last entry of the batch is alone.
    Alone,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 4] = [Change::Repeated, Change::Moved, Change::Threads, Change::Alone];

    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Change::Repeated => "once more",
            Change::Moved => "off the cache line",
            Change::Threads => "all threads for one",
            Change::Alone => "last entry alone",
        }
    }
}

/// What became of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// Every bit is the same.
    Same,
    /// Not every bit is, and where first.
    Differs(String),
    /// There is nothing to compare: the backend does not support the case, or cannot be changed so.
    NotApplicable,
}

/// A backend with all threads, and the pool for what shares rayon's.
#[derive(Clone, Copy)]
pub struct Many<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// Its threads.
    pub pool: &'a ThreadPool,
}

/// Compares the answer of a backend of one thread to that under each [`Change`], in the order of
/// [`Change::ALL`].
///
/// # Errors
/// What the backend says where it fails.
pub fn sameness(
    backend: &dyn Backend,
    many: Option<Many>,
    case: &Case,
) -> Result<[Sameness; Change::ALL.len()], String> {
    if let Support::No(_) = backend.supports(&case.problem) {
        return Ok([const { Sameness::NotApplicable }; Change::ALL.len()]);
    }
    let inputs = case.inputs();
    let first = outputs(backend, case, &inputs)?;
    let whole = |again: Result<Outputs, String>| again.map(|again| compared(&first, &again));
    let moved = tensor::unaligned(case.seed, || outputs(backend, case, &inputs.placed_anew()));
    let threads = match many {
        Some(Many { backend, pool }) => whole(pool.install(|| outputs(backend, case, &inputs)))?,
        None => Sameness::NotApplicable,
    };
    let alone = match last_alone(&case.problem, &inputs) {
        Some((problem, inputs)) if matches!(backend.supports(&problem), Support::Yes) => {
            whole(outputs(backend, &Case { problem, ..case.clone() }, &inputs))?
        }
        _ => Sameness::NotApplicable,
    };
    Ok([whole(outputs(backend, case, &inputs))?, whole(moved)?, threads, alone])
}

/// Compares results with the last parts of others: of a batch, or with all of them.
fn compared(whole: &Outputs, part: &Outputs) -> Sameness {
    for ((name, whole), (_, part)) in whole.iter().zip(part.iter()) {
        let size = part.element().size();
        let start = whole.bytes().len() - part.bytes().len();
        let elements = whole.bytes()[start..].chunks_exact(size).zip(part.bytes().chunks_exact(size));
        if let Some(at) = elements.into_iter().position(|(first, second)| first != second) {
            let place: Vec<_> = unravel(at, part.shape()).iter().map(usize::to_string).collect();
            let first = whole.to_f64()[start / size + at];
            let second = part.to_f64()[at];
            return Sameness::Differs(format!("{name}[{}] is {first:e}, then {second:e}", place.join(",")));
        }
    }
    Sameness::Same
}

#[cfg(test)]
mod tests {
    use touchstone_kernels::{DType, Problem, Tensor};

    use super::*;

    fn outputs(values: &[f64]) -> Outputs {
        let problem: Problem = format!("relu f32 shape={}", values.len()).parse().unwrap();
        let tensor = Tensor::from_f64(DType::F32, &[values.len()], values).unwrap();
        Outputs::new(&problem, vec![tensor]).unwrap()
    }

    #[test]
    fn bits_are_compared_from_the_end() {
        let whole = outputs(&[1.0, 2.0, -0.0]);
        assert_eq!(compared(&whole, &outputs(&[1.0, 2.0, -0.0])), Sameness::Same);
        assert_eq!(compared(&whole, &outputs(&[2.0, -0.0])), Sameness::Same);
        let differing = compared(&whole, &outputs(&[2.0, 0.0]));
        assert_eq!(differing, Sameness::Differs("out[1] is -0e0, then 0e0".into()), "zeros have signs");
    }
}
