//! Planted faults of rotary position embedding.

use touchstone_kernels::op::rope::FAMILY;
use touchstone_kernels::op::rope::RopeTables;
use touchstone_kernels::op::{Op, Rope, RopeScaling, RopeStyle};
use touchstone_kernels::{DType, Inputs, Problem};

use crate::selftest::arithmetic::stored;
use crate::selftest::planted::{
    Computed, SHORT, Specimen, misread, mistaken, naive, naive_on, operand, optional, results, unsupported,
};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = rotations();
    all.extend(frequencies());
    all.extend(positions());
    all.extend(precisions());
    all
}

pub(super) fn spec_of(problem: &Problem) -> Option<&Rope> {
    problem.get()
}

/// A pair on its way.
pub(super) type Turn = fn(f32, f32, f32, f32) -> (f32, f32);

/// x₀·cos − x₁·sin and x₁·cos + x₀·sin.
pub(super) fn turn(x0: f32, x1: f32, cos: f32, sin: f32) -> (f32, f32) {
    (x0 * cos - x1 * sin, x1 * cos + x0 * sin)
}

/// Rotates every pair: `table` gives cosine and sine of a position and a frequency.
pub(super) fn rotate(
    problem: &Problem,
    inputs: &Inputs,
    table: impl Fn(i64, f64) -> (f64, f64),
    turn: Turn,
) -> Computed {
    let spec = spec_of(problem).ok_or_else(unsupported)?;
    let theta = spec.frequencies(optional(inputs, "freq_factors").as_deref());
    let positions = inputs.slice::<i64>("positions")?;
    let mut out = operand(inputs, "x")?;
    for (row, x) in out.chunks_mut(spec.head_dim).enumerate() {
        let (b, l) = (row / (spec.heads * spec.len), row % spec.len);
        let position = positions[if spec.batched_positions { b * spec.len + l } else { l }];
        for (i, &theta) in theta.iter().enumerate() {
            let (cos, sin) = table(position, theta);
            let (cos, sin) = ((cos * spec.magnitude()) as f32, (sin * spec.magnitude()) as f32);
            let (i0, i1) = spec.pair(i);
            (x[i0], x[i1]) = turn(x[i0], x[i1], cos, sin);
        }
    }
    results(problem, &[out])
}

/// Cosine and sine from an angle in f64.
pub(super) fn exact(position: i64, theta: f64) -> (f64, f64) {
    let angle = position as f64 * theta;
    (angle.cos(), angle.sin())
}

fn turned(name: &'static str, about: &'static str, wrong: Turn) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| rotate(problem, inputs, exact, wrong);
    Specimen::new(Some(&FAMILY), name, about, |p| spec_of(p).is_some(), compute)
}

fn angled(
    name: &'static str,
    about: &'static str,
    differs: fn(&Rope) -> bool,
    table: fn(DType, i64, f64) -> (f64, f64),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        rotate(problem, inputs, |position, theta| table(problem.dtype, position, theta), turn)
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

fn other(
    name: &'static str,
    about: &'static str,
    differs: fn(&Rope) -> bool,
    change: fn(&mut Rope),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let mut spec = spec_of(problem).ok_or_else(unsupported)?.clone();
        change(&mut spec);
        naive_on(spec, problem.dtype, inputs)
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

fn misreading(
    name: &'static str,
    about: &'static str,
    differs: fn(&Rope) -> bool,
    operand: &'static str,
    change: fn(&Rope, &mut Vec<f64>),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let spec = spec_of(problem).ok_or_else(unsupported)?;
        naive(problem, &misread(problem, inputs, operand, |values| change(spec, values))?)
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

fn rotations() -> Vec<Specimen> {
    let pairs = |s: &Rope| s.rotary_dim > 2 && s.len > 1;
    vec![
        other(
            "rope-interleaved-for-half",
            "Pairs (2i, 2i + 1) in place of (i, i + D/2).",
            |s| s.style == RopeStyle::Half && s.rotary_dim > 2,
            |s| s.style = RopeStyle::Interleaved,
        ),
        other(
            "rope-half-for-interleaved",
            "Pairs (i, i + D/2) in place of (2i, 2i + 1).",
            |s| s.style == RopeStyle::Interleaved && s.rotary_dim > 2,
            |s| s.style = RopeStyle::Half,
        ),
        turned("rope-sign-flipped", "Rotated the other way.", |x0, x1, c, s| turn(x0, x1, c, -s)),
        turned("rope-sine-for-cosine", "The two tables are exchanged.", |x0, x1, c, s| turn(x0, x1, s, c)),
        turned("rope-in-place", "The second of a pair is computed from the first as already written.", {
            |x0, x1, c, s| {
                let first = x0 * c - x1 * s;
                (first, x1 * c + first * s)
            }
        }),
        other(
            "rope-rotates-everything",
            "rotary_dim is not looked at: all channels are rotated.",
            |s| s.rotary_dim < s.head_dim && s.head_dim.is_multiple_of(2),
            |s| s.rotary_dim = s.head_dim,
        ),
        Specimen::new(
            Some(&FAMILY),
            "rope-rest-not-copied",
            "Channels that are not rotated are left zero.",
            |p| spec_of(p).is_some_and(|s| s.rotary_dim < s.head_dim),
            |problem, inputs| {
                let spec = spec_of(problem).ok_or_else(unsupported)?;
                mistaken(problem, &naive(problem, inputs)?, |_, values| {
                    values.chunks_mut(spec.head_dim).for_each(|row| row[spec.rotary_dim..].fill(0.0));
                })
            },
        ),
        other(
            "rope-base-ignored",
            "The base is 10000 whatever the problem says.",
            |s| s.base != 10_000.0 && s.rotary_dim > 2,
            |s| s.base = 10_000.0,
        ),
        angled("rope-angle-halved", "θ = base^(−i/D): a factor 2 is lost in the exponent.", pairs, {
            |_, position, theta| exact(position, theta.sqrt())
        }),
    ]
}

fn frequencies() -> Vec<Specimen> {
    vec![
        Specimen::new(
            Some(&FAMILY),
            "rope-frequencies-of-head-dim",
            "Partial rotation with θ of the whole head: base^(−2i/D).",
            |p| spec_of(p).is_some_and(|s| s.rotary_dim < s.head_dim && s.rotary_dim > 2),
            |problem, inputs| {
                let spec = spec_of(problem).ok_or_else(unsupported)?;
                // base'^(−2i/r) = base^(−2i/D).
                let base = spec.base.powf(spec.rotary_dim as f32 / spec.head_dim as f32);
                naive_on(Rope { base, ..spec.clone() }, problem.dtype, inputs)
            },
        ),
        other(
            "rope-scaling-ignored",
            "Frequencies are not stretched.",
            |s| s.scaling != RopeScaling::None,
            |s| s.scaling = RopeScaling::None,
        ),
        other(
            "rope-linear-inverted",
            "Multiplied by the factor, not divided.",
            |s| matches!(s.scaling, RopeScaling::Linear { factor } if factor != 1.0),
            |s| {
                if let RopeScaling::Linear { factor } = s.scaling {
                    s.scaling = RopeScaling::Linear { factor: 1.0 / factor };
                }
            },
        ),
        other(
            "rope-linear-for-ntk",
            "All frequencies are divided, not the base stretched.",
            |s| matches!(s.scaling, RopeScaling::Ntk { .. }),
            |s| {
                if let RopeScaling::Ntk { factor } = s.scaling {
                    s.scaling = RopeScaling::Linear { factor };
                }
            },
        ),
        Specimen::new(
            Some(&FAMILY),
            "rope-yarn-temperature-missing",
            "YaRN without the factor of sine and cosine.",
            |p| spec_of(p).is_some_and(|s| s.magnitude() != 1.0),
            |problem, inputs| {
                let magnitude = spec_of(problem).ok_or_else(unsupported)?.magnitude();
                let table = |position, theta| {
                    let (cos, sin) = exact(position, theta);
                    (cos / magnitude, sin / magnitude)
                };
                rotate(problem, inputs, table, turn)
            },
        ),
        other(
            "rope-llama3-step",
            "A step between the two wavelengths in place of a ramp.",
            |s| matches!(s.scaling, RopeScaling::Llama3 { .. }),
            |s| {
                if let RopeScaling::Llama3 { factor, low, original, .. } = s.scaling {
                    s.scaling = RopeScaling::Llama3 { factor, low, high: low * 1.001, original };
                }
            },
        ),
        misreading(
            "rope-factors-ignored",
            "Frequency factors are not applied.",
            |s| s.freq_factors,
            "freq_factors",
            |_, factors| factors.fill(1.0),
        ),
        misreading(
            "rope-factors-inverted",
            "Frequencies are multiplied by their factors.",
            |s| s.freq_factors,
            "freq_factors",
            |_, factors| factors.iter_mut().for_each(|f| *f = 1.0 / *f),
        ),
    ]
}

fn positions() -> Vec<Specimen> {
    vec![
        misreading(
            "rope-position-off-by-one",
            "Positions are counted from 1.",
            |_| true,
            "positions",
            |_, p| {
                p.iter_mut().for_each(|p| *p += 1.0);
            },
        ),
        misreading(
            "rope-positions-restart",
            "Positions are taken to be 0, 1, 2 …: a cache's new keys begin again.",
            |_| true,
            "positions",
            |s, p| p.iter_mut().enumerate().for_each(|(i, p)| *p = (i % s.len) as f64),
        ),
        misreading(
            "rope-positions-consecutive",
            "Only the first position is read; the others are taken to follow it.",
            |s| s.len > 1,
            "positions",
            |s, p| p.chunks_mut(s.len).for_each(|p| (1..p.len()).for_each(|i| p[i] = p[i - 1] + 1.0)),
        ),
        misreading(
            "rope-positions-in-16-bits",
            "Positions are kept in 16 bits.",
            |_| true,
            "positions",
            |_, p| p.iter_mut().for_each(|p| *p = f64::from(*p as i64 as i16)),
        ),
        misreading(
            "rope-positions-of-another",
            "Every batch entry is rotated with the positions of the first: keys with those of queries.",
            |s| s.batched_positions && s.batch > 1,
            "positions",
            |s, p| (1..s.batch).for_each(|b| p.copy_within(..s.len, b * s.len)),
        ),
        Specimen::new(
            Some(&FAMILY),
            "rope-head-for-position",
            "x [B,H,L,D] is read as [B,L,H,D]: a head's number is its position.",
            |p| spec_of(p).is_some_and(|s| s.heads > 1 && s.len > 1 && !s.batched_positions),
            |problem, inputs| {
                let spec = spec_of(problem).ok_or_else(unsupported)?;
                let positions = inputs.slice::<i64>("positions")?;
                let misled: Vec<i64> =
                    (0..spec.heads * spec.len).map(|row| positions[row / spec.heads]).collect();
                let flat = Rope {
                    batch: spec.batch,
                    heads: 1,
                    len: spec.heads * spec.len,
                    tables: RopeTables::Timed,
                    ..spec.clone()
                };
                let wide = Problem { op: Op::from(flat), dtype: problem.dtype };
                let tensors = wide.operands().into_iter().map(|operand| {
                    let values = match operand.name {
                        "positions" => misled.iter().map(|&p| p as f64).collect(),
                        name => inputs.get(name).ok_or_else(unsupported)?.to_f64(),
                    };
                    Ok((
                        operand.name,
                        crate::selftest::planted::tensor(operand.element, &operand.shape, &values)?,
                    ))
                });
                let tensors = tensors.collect::<Result<Vec<_>, touchstone_kernels::BackendError>>()?;
                let wrong = naive(&wide, &Inputs::new(&wide, tensors)?)?;
                let out = wrong.get("out").ok_or_else(unsupported)?.to_f64();
                results(problem, &[out.into_iter().map(|x| x as f32).collect()])
            },
        ),
    ]
}

fn precisions() -> Vec<Specimen> {
    vec![
        angled(
            "rope-angle-in-f32",
            "position·θ in f32 is wrong by hundredths of a radian at 10⁶.",
            |_| true,
            |_, position, theta| {
                let (sin, cos) = (position as f32 * theta as f32).sin_cos();
                (cos as f64, sin as f64)
            },
        ),
        angled(
            "rope-frequency-in-f32",
            "θ rounded to f32 is multiplied by a large position.",
            |_| true,
            |_, position, theta| exact(position, theta as f32 as f64),
        ),
        angled(
            "rope-position-in-storage",
            "Positions pass through the storage type: bf16 counts to 256.",
            |_| true,
            |dtype, position, theta| {
                let angle = stored(dtype, position as f32) as f64 * theta;
                (angle.cos(), angle.sin())
            },
        )
        .only(SHORT),
        angled(
            "rope-tables-in-storage",
            "Sines and cosines are stored in the type of x, undeclared.",
            |s| s.len > 1,
            |dtype, position, theta| {
                let (cos, sin) = exact(position, theta);
                (dtype.round(cos), dtype.round(sin))
            },
        )
        .only(SHORT),
    ]
}
