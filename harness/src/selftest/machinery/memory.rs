//! Kernels with a state: counters, accumulators, caches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use touchstone_kernels::tensor::ALIGNMENT;
use touchstone_kernels::{BackendError, Outputs, Problem, Tensor};

use super::len;
use super::stray::{past_the_end, stray};
use crate::selftest::planted::{Computed, Specimen, hosted, mistaken, naive, tensor};

/// Changes the first result where it lies.
fn change_first(outputs: &mut Outputs, change: impl FnOnce(&mut Vec<f64>)) -> Result<(), BackendError> {
    if let Some((_, old)) = outputs.iter_mut().next() {
        let mut values = old.to_f64();
        change(&mut values);
        *old = tensor(old.element(), old.shape(), &values)?;
    }
    Ok(())
}

/// A kernel that knows how often it has run: it gets the right results and the buffer.
fn stateful(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    run: fn(&Problem, u64, Computed, &mut Outputs) -> Result<(), BackendError>,
) -> Specimen {
    Specimen::prepared(None, name, about, differs, move || {
        Box::new(move |problem, inputs, memory| {
            let (own, mut runs) = (problem.clone(), 0);
            Ok(hosted(memory, problem, inputs, move |inputs, outputs| {
                let result = run(&own, runs, naive(&own, inputs), outputs);
                runs += 1;
                result
            }))
        })
    })
}

/// Results kept from one preparation to the next, under a key.
type Store = Arc<Mutex<HashMap<String, Outputs>>>;

/// A kernel with a memory that outlives a problem.
fn remembering(
    name: &'static str,
    about: &'static str,
    key: fn(&Problem) -> String,
    answer: fn(Option<Outputs>, Outputs) -> Outputs,
    keeps_first: bool,
) -> Specimen {
    Specimen::prepared(
        None,
        name,
        about,
        |_| true,
        move || {
            let store = Store::default();
            Box::new(move |problem, inputs, memory| {
                let right = naive(problem, inputs)?;
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                let earlier = store.get(&key(problem)).cloned();
                if earlier.is_none() || !keeps_first {
                    store.insert(key(problem), right.clone());
                }
                let answer = answer(earlier, right);
                Ok(hosted(memory, problem, inputs, move |_, outputs| {
                    *outputs = answer.clone();
                    Ok(())
                }))
            })
        },
    )
}

pub(super) fn faults() -> Vec<Specimen> {
    vec![
        stateful(
            "race-lost-update",
            "Of two threads that add to one place, one is lost every other time.",
            |_| true,
            |_, run, right, outputs| {
                *outputs = right?;
                if run % 2 == 1 {
                    change_first(outputs, |y| y.iter_mut().take(1).for_each(|y| *y = *y * 0.5 + 1.0))?;
                }
                Ok(())
            },
        ),
        // Right again in every later call, so that no measurement sees it.
        stateful(
            "second-call-wrong",
            "Scratch memory is grown by the second call, after it was read.",
            |_| true,
            |_, run, right, outputs| {
                *outputs = right?;
                if run == 1 {
                    change_first(outputs, |y| y.iter_mut().for_each(|y| *y = *y * 0.5 + 1.0))?;
                }
                Ok(())
            },
        ),
        stateful(
            "accumulates",
            "Results are added to what the buffer held.",
            |_| true,
            |problem, run, right, outputs| {
                let right = right?;
                let before: Vec<Vec<f64>> = outputs.iter().map(|(_, tensor)| tensor.to_f64()).collect();
                let mut before = before.into_iter();
                *outputs = mistaken(problem, &right, |_, values| {
                    if let (Some(old), true) = (before.next(), run > 0) {
                        values.iter_mut().zip(old).for_each(|(y, old)| *y += old);
                    }
                })?;
                Ok(())
            },
        ),
        stateful(
            "slow-then-wrong",
            "A counter runs over after ten calls.",
            |_| true,
            |_, run, right, outputs| {
                *outputs = right?;
                if run >= 10 {
                    change_first(outputs, |y| y.iter_mut().for_each(|y| *y = *y * 0.5 + 1.0))?;
                }
                Ok(())
            },
        ),
        stateful(
            "slow-then-strays",
            "An index grows with every call, and leaves the buffer after ten.",
            |p| len(p) > 0,
            |_, run, right, outputs| {
                *outputs = right?;
                if run >= 10 {
                    stray(outputs, past_the_end);
                }
                Ok(())
            },
        ),
        stateful(
            "second-run-strays",
            "The first call sets a pointer that the second one starts from.",
            |p| len(p) > 0,
            |_, run, right, outputs| {
                *outputs = right?;
                if run > 0 {
                    stray(outputs, past_the_end);
                }
                Ok(())
            },
        ),
        stateful(
            "head-not-stored",
            "Elements before the first cache line of the buffer are not stored: buffers are taken to be aligned.",
            |p| len(p) > 0,
            |problem, _, right, outputs| {
                let head = |tensor: &Tensor| {
                    tensor.bytes().as_ptr().align_offset(ALIGNMENT) / tensor.element().size()
                };
                let held: Vec<_> =
                    outputs.iter().map(|(_, tensor)| (tensor.to_f64(), head(tensor))).collect();
                let mut held = held.into_iter();
                let stored = mistaken(problem, &right?, |_, values| {
                    if let Some((held, head)) = held.next() {
                        let head = head.min(values.len());
                        values[..head].copy_from_slice(&held[..head]);
                    }
                })?;
                for ((_, to), (_, from)) in outputs.iter_mut().zip(stored.iter()) {
                    to.bytes_mut().copy_from_slice(from.bytes());
                }
                Ok(())
            },
        ),
        stateful(
            "zeros-not-stored",
            "Results that are 0 are not stored: whoever made the buffer has surely cleared it.",
            |p| len(p) > 0,
            |problem, _, right, outputs| {
                let before: Vec<Vec<f64>> = outputs.iter().map(|(_, tensor)| tensor.to_f64()).collect();
                let mut before = before.into_iter();
                *outputs = mistaken(problem, &right?, |_, values| {
                    let held = before.next().unwrap_or_default();
                    values.iter_mut().zip(held).filter(|(y, _)| **y == 0.0).for_each(|(y, held)| *y = held);
                })?;
                Ok(())
            },
        ),
        remembering(
            "cached-answer",
            "Results are remembered by problem, and the operands are not looked at.",
            Problem::to_string,
            |earlier, right| earlier.unwrap_or(right),
            true,
        ),
        remembering(
            "stale-output",
            "A pooled buffer of the same size is handed out before it is written.",
            |problem| format!("{:?}", problem.results()),
            |earlier, right| earlier.unwrap_or(right),
            false,
        ),
    ]
}
