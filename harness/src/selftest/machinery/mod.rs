//! Planted faults of what surrounds every kernel: buffers, shares of the work, caches, conversions.

mod conversion;
mod form;
mod memory;
pub(crate) mod stray;

use touchstone_kernels::Problem;

use super::planted::{Specimen, mistaken, naive, unsupported};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = impostors();
    all.extend(unfinished());
    all.extend(shares());
    all.extend(memory::faults());
    all.extend(conversion::faults());
    all.extend(form::faults());
    all.extend(stray::faults());
    all
}

/// Elements of the first result.
fn len(problem: &Problem) -> usize {
    problem.results().first().map_or(0, |result| result.len())
}

/// Elements of the last axis of the first result, and how many rows of them there are.
fn rows(problem: &Problem) -> (usize, usize) {
    let width = problem.results().first().and_then(|result| result.shape.last().copied()).unwrap_or(1);
    (len(problem) / width.max(1), width)
}

/// The right results, stored wrongly.
fn storing(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    change: fn(&Problem, &mut Vec<f64>),
) -> Specimen {
    Specimen::new(None, name, about, differs, move |problem, inputs| {
        let mut first = true;
        mistaken(problem, &naive(problem, inputs)?, |_, values| {
            if std::mem::take(&mut first) {
                change(problem, values);
            }
        })
    })
}

fn impostors() -> Vec<Specimen> {
    vec![
        storing("zeros", "Nothing is computed; the buffer is zeroed.", |_| true, |_, y| y.fill(0.0)),
        storing(
            "one-value-everywhere",
            "The first element is broadcast.",
            |p| len(p) > 1,
            |_, y| {
                let first = y[0];
                y.fill(first);
            },
        ),
        Specimen::new(
            None,
            "copy-of-input",
            "The kernel hands its input through.",
            same_size,
            |problem, inputs| {
                let (_, x) = inputs.iter().next().ok_or_else(unsupported)?;
                let x = x.to_f64();
                let mut first = true;
                mistaken(problem, &naive(problem, inputs)?, |_, y| {
                    if std::mem::take(&mut first) {
                        y.clone_from(&x);
                    }
                })
            },
        ),
        storing(
            "rows-exchanged",
            "Two rows change places.",
            |p| rows(p).0 > 1,
            |p, y| {
                let (_, width) = rows(p);
                let (a, b) = y.split_at_mut(width);
                a.swap_with_slice(&mut b[..width]);
            },
        ),
        storing(
            "shifted-by-one",
            "Results lie one element too far.",
            |p| len(p) > 1,
            |_, y| y.rotate_right(1),
        ),
        storing(
            "sign-flipped",
            "Every result is negated.",
            |_| true,
            |_, y| {
                y.iter_mut().for_each(|y| *y = -*y);
            },
        ),
    ]
}

fn same_size(problem: &Problem) -> bool {
    problem.operands().first().is_some_and(|x| x.len() == len(problem))
}

fn unfinished() -> Vec<Specimen> {
    let unwritten = |values: &mut [f64]| values.fill(f64::NAN);
    vec![
        storing("nothing-written", "The kernel returns before it writes.", |_| true, |_, y| y.fill(f64::NAN)),
        storing(
            "rows-counted-in-16-bits",
            "Rows after the 65,536th are those of the beginning.",
            |p| rows(p).0 > 1 << 16,
            |p, y| {
                let (_, width) = rows(p);
                let first = width << 16;
                (first..y.len()).for_each(|i| y[i] = y[i - first]);
            },
        ),
        storing(
            "tail-unwritten",
            "What is left over after vectors of 8 is not written.",
            |p| !len(p).is_multiple_of(8),
            |_, y| {
                let whole = y.len() / 8 * 8;
                y[whole..].fill(f64::NAN);
            },
        ),
        storing(
            "tail-zeroed",
            "What is left over after vectors of 8 stays zero.",
            |p| !len(p).is_multiple_of(8),
            |_, y| {
                let whole = y.len() / 8 * 8;
                y[whole..].fill(0.0);
            },
        ),
        storing(
            "last-row-dropped",
            "The loop over rows ends one too early; the buffer was zeroed.",
            |p| len(p) > 0,
            |p, y| {
                let (n, width) = rows(p);
                y[(n - 1) * width..].fill(0.0);
            },
        ),
        Specimen::new(
            None,
            "second-result-forgotten",
            "Only the first result is written.",
            |p| p.results().len() > 1,
            move |problem, inputs| {
                mistaken(problem, &naive(problem, inputs)?, |name, values| {
                    if name != "out" {
                        unwritten(values);
                    }
                })
            },
        ),
    ]
}

fn shares() -> Vec<Specimen> {
    vec![
        storing(
            "remainder-of-threads",
            "Rows are shared out to 4 threads as ⌊n/4⌋ each.",
            |p| !rows(p).0.is_multiple_of(4),
            |p, y| {
                let (n, width) = rows(p);
                y[n / 4 * 4 * width..].fill(f64::NAN);
            },
        ),
        storing(
            "seam-of-threads",
            "The row where two threads meet is computed by neither.",
            |p| rows(p).0 > 1,
            |p, y| {
                let (n, width) = rows(p);
                y[n / 2 * width..][..width].fill(0.0);
            },
        ),
        storing(
            "library-row-repeated",
            "A library that promises its rows puts the last one in the place of the first.",
            |p| rows(p).0 > 1,
            |p, y| {
                let (n, width) = rows(p);
                let last = y[(n - 1) * width..].to_vec();
                y[..width].copy_from_slice(&last);
            },
        )
        .normwise(),
    ]
}
