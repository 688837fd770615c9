//! Planted faults of what surrounds every kernel: buffers, shares of the work, caches, conversions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use touchstone_kernels::host::HostPrepared;
use touchstone_kernels::tensor::GUARD_BYTES;
use touchstone_kernels::{BackendError, DType, ElementType, Inputs, Op, Outputs, Prepared, Problem, Tensor};

use super::arithmetic::stored;
use super::planted::{Computed, F32, SHORT, Specimen, mistaken, naive, tensor, unsupported};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = impostors();
    all.extend(unfinished());
    all.extend(shares());
    all.extend(memories());
    all.extend(conversions());
    all.extend(strays());
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
            "tail-unwritten",
            "What is left over after vectors of 8 is not written.",
            |p| len(p) % 8 != 0,
            |_, y| {
                let whole = y.len() / 8 * 8;
                y[whole..].fill(f64::NAN);
            },
        ),
        storing(
            "tail-zeroed",
            "What is left over after vectors of 8 stays zero.",
            |p| len(p) % 8 != 0,
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
            |p| rows(p).0 % 4 != 0,
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
        stateful(
            "race-lost-update",
            "Of two threads that add to one place, one is lost every other time.",
            { |_| true },
            |_, run, right, outputs| {
                *outputs = right?;
                if run % 2 == 1 {
                    change_first(outputs, |y| y.iter_mut().take(1).for_each(|y| *y = *y * 0.5 + 1.0))?;
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
    ]
}

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
        Box::new(move |problem, inputs| {
            let (own, mut runs) = (problem.clone(), 0);
            Ok(Box::new(HostPrepared::new(problem, inputs, move |inputs: &Inputs, outputs: &mut Outputs| {
                let result = run(&own, runs, naive(&own, inputs), outputs);
                runs += 1;
                result
            })))
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
            Box::new(move |problem, inputs| {
                let right = naive(problem, inputs)?;
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                let earlier = store.get(&key(problem)).cloned();
                if earlier.is_none() || !keeps_first {
                    store.insert(key(problem), right.clone());
                }
                let answer = answer(earlier, right);
                let kernel = move |_: &Inputs, outputs: &mut Outputs| {
                    *outputs = answer.clone();
                    Ok(())
                };
                Ok(Box::new(HostPrepared::new(problem, inputs, kernel)) as Box<dyn Prepared>)
            })
        },
    )
}

fn memories() -> Vec<Specimen> {
    vec![
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

/// A problem and its operands in f32.
fn widened(problem: &Problem, inputs: &Inputs) -> Result<(Problem, Inputs), BackendError> {
    let wide = Problem { op: problem.op.clone(), dtype: DType::F32 };
    let tensors = wide.operands().into_iter().map(|operand| {
        let values = inputs.get(operand.name).ok_or_else(unsupported)?.to_f64();
        Ok((operand.name, tensor(operand.element, &operand.shape, &values)?))
    });
    let tensors = tensors.collect::<Result<Vec<_>, BackendError>>()?;
    let inputs = Inputs::new(&wide, tensors)?;
    Ok((wide, inputs))
}

/// Results computed in f32 and converted wrongly.
fn converting(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    convert: fn(DType, f64) -> f64,
) -> Specimen {
    Specimen::new(None, name, about, differs, move |problem, inputs| {
        let (wide, wider) = widened(problem, inputs)?;
        let right = naive(&wide, &wider)?;
        let tensors = problem.results().into_iter().zip(right.iter()).map(|(result, (_, values))| {
            let dtype = match result.element {
                ElementType::Float(dtype) => dtype,
                ElementType::I64 | ElementType::Bool => return Err(unsupported()),
            };
            let values: Vec<f64> = values.to_f64().into_iter().map(|y| convert(dtype, y)).collect();
            tensor(result.element, &result.shape, &values)
        });
        Ok(Outputs::new(problem, tensors.collect::<Result<Vec<Tensor>, _>>()?)?)
    })
}

fn no_early_rounding(problem: &Problem) -> bool {
    !matches!(&problem.op, Op::RmsNorm(spec) if spec.round_before_weight)
}

fn conversions() -> Vec<Specimen> {
    vec![
        converting(
            "truncated",
            "Bits beyond the storage type are cut off.",
            no_early_rounding,
            |dtype, y| {
                let rounded = dtype.round(y);
                if rounded.abs() <= y.abs() || !rounded.is_finite() {
                    return rounded;
                }
                // One step back towards zero.
                dtype.round(rounded - dtype.ulp(y).copysign(y))
            },
        )
        .only(SHORT),
        converting("rounded-half-away", "Rounded to nearest by way of two bits fewer.", no_early_rounding, {
            |dtype, y| {
                let coarse = 4.0 * dtype.ulp(y);
                if y.is_finite() { dtype.round((y / coarse).round() * coarse) } else { y }
            }
        })
        .only(SHORT),
        converting(
            "through-the-other-short-type",
            "f16 by way of bf16, and the other way round.",
            { no_early_rounding },
            |dtype, y| {
                let other = if dtype == DType::F16 { DType::BF16 } else { DType::F16 };
                if dtype == DType::F32 { y } else { other.round(y) }
            },
        )
        .only(SHORT),
        storing("subnormals-flushed", "Results below the smallest normal become 0, undeclared.", |_| true, {
            |problem, y| {
                let smallest = problem.dtype.smallest_normal();
                y.iter_mut().filter(|y| y.abs() < smallest).for_each(|y| *y = 0.0);
            }
        }),
        storing(
            "nan-to-number",
            "Results that are NaN are replaced by 0.",
            |_| true,
            |_, y| {
                y.iter_mut().filter(|y| y.is_nan()).for_each(|y| *y = 0.0);
            },
        ),
        storing(
            "overflow-saturates",
            "Results beyond the largest number become the largest number.",
            |_| true,
            {
                |problem, y| {
                    let largest = problem.dtype.max();
                    y.iter_mut().for_each(|y| *y = if y.is_nan() { *y } else { y.clamp(-largest, largest) });
                }
            },
        ),
        Specimen::new(
            None,
            "operands-in-bf16",
            "f32 operands go through bf16 matrix units.",
            |_| true,
            |problem, inputs| {
                let tensors = inputs.iter().map(|(name, old)| {
                    let round = |x: f64| stored(DType::BF16, x as f32) as f64;
                    let keep = !matches!(old.element(), ElementType::Float(_));
                    let values: Vec<f64> =
                        old.to_f64().into_iter().map(|x| if keep { x } else { round(x) }).collect();
                    Ok((name, tensor(old.element(), old.shape(), &values)?))
                });
                let tensors = tensors.collect::<Result<Vec<_>, BackendError>>()?;
                naive(problem, &Inputs::new(problem, tensors)?)
            },
        )
        .only(F32),
    ]
}

/// Writes into the surroundings of a right result.
fn straying(name: &'static str, about: &'static str, place: fn(usize) -> usize) -> Specimen {
    Specimen::new(
        None,
        name,
        about,
        |p| len(p) > 0,
        move |problem, inputs| {
            let mut outputs = naive(problem, inputs)?;
            if let Some((_, tensor)) = outputs.iter_mut().next() {
                let all = tensor.surroundings_mut();
                let at = place(all.len());
                all[at] = 0;
            }
            Ok(outputs)
        },
    )
}

fn strays() -> Vec<Specimen> {
    let mut all = vec![
        straying("writes-past-the-end", "A full vector is stored over the last tail.", |len| {
            len - GUARD_BYTES
        }),
        straying("writes-before-the-start", "The first tile begins one element early.", |_| GUARD_BYTES - 1),
    ];
    all.extend(foreign::faults());
    all
}

/// What only a kernel in another language can do. Rust hands a backend no way to write to operands
/// that it shares; the memory of this process as a file, a debugger's way, stands for one.
#[cfg(target_os = "linux")]
mod foreign {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn write(byte: *const u8) -> std::io::Result<()> {
        let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
        memory.write_all_at(&[0x5a], byte as u64)
    }

    fn overwriting(name: &'static str, about: &'static str, place: fn(&[u8]) -> *const u8) -> Specimen {
        Specimen::new(
            None,
            name,
            about,
            |p| p.operands().iter().any(|o| !o.is_empty()),
            move |problem, inputs| {
                let outputs = naive(problem, inputs)?;
                let operand = inputs.iter().map(|(_, tensor)| tensor.bytes()).find(|bytes| !bytes.is_empty());
                write(place(operand.ok_or_else(unsupported)?)).map_err(|error| BackendError::Library {
                    library: "planted",
                    message: error.to_string(),
                })?;
                Ok(outputs)
            },
        )
    }

    pub(super) fn faults() -> Vec<Specimen> {
        vec![
            overwriting("modifies-an-input", "An operand serves as scratch space.", |bytes| bytes.as_ptr()),
            overwriting("writes-past-an-input", "Padding is written behind an operand.", |bytes| {
                bytes.as_ptr_range().end
            }),
        ]
    }
}

#[cfg(not(target_os = "linux"))]
mod foreign {
    pub(super) fn faults() -> Vec<super::Specimen> {
        Vec::new()
    }
}
