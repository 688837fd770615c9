//! Other right ways: summation orders, blockings, exponentials, merges. None of them may be failed.

use touchstone_kernels::naive::Naive;
use touchstone_kernels::op::{Op, Unary};
use touchstone_kernels::{Backend, DType, Family, Inputs, Problem};

use super::activation::glu::{gate, halves};
use super::activation::{function_of, pointwise};
use super::arithmetic::{Order, Product, exp_above, exp_below, exp_reduced, exp_rounded, largest, max};
use super::flow::Flow;
use super::normalise::{Groups, Way, corrected, double, merged, normalise, rms, squares, welford};
use super::planted::{Computed, Specimen, results, unsupported};
use super::rope::{self, exact, rotate, turn};
use super::softmax::{rows, scaled};

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let mut all = vec![Specimen::new(
        None,
        "naive",
        "Sums in f64, elementary functions in f32.",
        |_| true,
        |problem, inputs| {
            let mut prepared = Naive.ready(problem, inputs)?;
            prepared.run()?;
            prepared.outputs()
        },
    )];
    all.extend(attention());
    all.extend(softmax());
    all.extend(norms());
    all.extend(activations());
    all.extend(rope());
    all
}

fn attention() -> Vec<Specimen> {
    let flow = |name, about, flow: Flow| {
        Specimen::new(
            Some(Family::Attention),
            name,
            about,
            |_| true,
            move |problem, inputs| flow.attend(problem, inputs),
        )
    };
    let right = Flow::RIGHT;
    vec![
        flow(
            "attention-key-by-key",
            "Online softmax, a new maximum with any key.",
            Flow { tile: 1, ..right },
        ),
        flow("attention-tiles-of-16", "Online softmax over tiles of 16 keys.", right),
        flow("attention-tiles-of-64", "Online softmax over tiles of 64 keys.", Flow { tile: 64, ..right }),
        flow("attention-two-pass", "The maximum first, then the sums.", Flow { tile: usize::MAX, ..right }),
        flow("attention-backwards", "From the last key to the first.", Flow { backwards: true, ..right }),
        flow("attention-split-in-2", "Two parts, merged by their maxima.", Flow { parts: 2, ..right }),
        flow(
            "attention-split-in-7",
            "Seven parts, merged by their maxima.",
            Flow { parts: 7, tile: 8, ..right },
        ),
        flow("attention-reciprocal", "Multiplied by 1/Σ.", Flow { reciprocal: true, ..right }),
        flow("attention-fused", "q·k with fused multiply-add.", Flow { product: Product::Fused, ..right }),
        flow(
            "attention-pairwise",
            "q·k in halves of halves.",
            Flow { product: Product::Rounded(Order::Pairs), ..right },
        ),
        flow(
            "attention-products-in-f64",
            "q·k in f64.",
            Flow { product: Product::Rounded(Order::Double), ..right },
        ),
        flow("attention-exp-above", "exp one ULP too large.", Flow { exp: exp_above, ..right }),
        flow("attention-exp-below", "exp one ULP too small.", Flow { exp: exp_below, tile: 32, ..right }),
        flow("attention-exp-reduced", "exp by reduction and polynomial.", Flow { exp: exp_reduced, ..right }),
    ]
}

/// A row of softmax: exponentials by one function, summed in one order.
fn softmax_row(log: bool, t: &[f32], exp: fn(f32) -> f32, sum: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let m = largest(t);
    let powers: Vec<f32> = t.iter().map(|t| exp(t - m)).collect();
    let sum = sum(&powers);
    match log {
        true => t.iter().map(|t| (t - m) - sum.ln()).collect(),
        false => powers.into_iter().map(|p| p / sum).collect(),
    }
}

fn softmax() -> Vec<Specimen> {
    let by = |name, about, exp: fn(f32) -> f32, order: Order| {
        Specimen::new(
            Some(Family::Softmax),
            name,
            about,
            |_| true,
            move |problem, inputs| {
                rows(problem, inputs, |s, x| softmax_row(s.log, &scaled(s, x), exp, |p| order.sum(p)))
            },
        )
    };
    vec![
        by("softmax-runs-of-32", "Sums of 32, then in pairs.", f32::exp, Order::Runs(32)),
        by("softmax-backwards", "From the end of the row.", f32::exp, Order::Backwards(64)),
        by("softmax-8-lanes", "Eight accumulators.", f32::exp, Order::Lanes(8)),
        by("softmax-16-lanes", "Sixteen accumulators.", exp_rounded, Order::Lanes(16)),
        by("softmax-pairwise", "Halves of halves.", f32::exp, Order::Pairs),
        by("softmax-compensated", "Neumaier's sum.", f32::exp, Order::Compensated),
        by("softmax-exp-above", "exp one ULP too large.", exp_above, Order::Lanes(4)),
        by("softmax-exp-below", "exp one ULP too small.", exp_below, Order::Pairs),
        by("softmax-exp-reduced", "exp by reduction and polynomial.", exp_reduced, Order::Lanes(8)),
        Specimen::new(
            Some(Family::Softmax),
            "softmax-online",
            "Maximum and sum in one pass over blocks of 64.",
            |_| true,
            |problem, inputs| rows(problem, inputs, |spec, x| online(spec.log, &scaled(spec, x))),
        ),
        Specimen::new(
            Some(Family::Softmax),
            "softmax-by-logarithm",
            "exp(x − (m + log Σ)), as a backward pass wants it.",
            |p| matches!(&p.op, Op::Softmax(spec) if spec.log),
            |problem, inputs| {
                rows(problem, inputs, |spec, x| {
                    let t = scaled(spec, x);
                    let m = largest(&t);
                    let log = (t.iter().map(|t| ((t - m) as f64).exp()).sum::<f64>()).ln();
                    t.iter().map(|t| ((t - m) as f64 - log) as f32).collect()
                })
            },
        ),
    ]
}

/// Blocks with a running maximum; each block's sum is merged like a part of a split.
fn online(log: bool, t: &[f32]) -> Vec<f32> {
    let part = |block: &[f32]| {
        let m = largest(block);
        // A block of −∞ alone has nothing to add.
        let sum = if m == f32::NEG_INFINITY { 0.0 } else { block.iter().map(|t| (t - m).exp()).sum::<f32>() };
        (m, sum)
    };
    let parts: Vec<(f32, f32)> = t.chunks(64).map(part).collect();
    let m = parts.iter().map(|part| part.0).fold(f32::NEG_INFINITY, max);
    let weighted: Vec<f32> = parts.iter().map(|(own, sum)| (own - m).exp() * sum).collect();
    let sum = Order::Pairs.sum(&weighted);
    let results = t.iter().map(|t| if log { (t - m) - sum.ln() } else { (t - m).exp() / sum });
    results.collect()
}

fn norms() -> Vec<Specimen> {
    let way = |name, about, way: Way| {
        let applies = |p: &Problem| Groups::of(&p.op).is_some();
        Specimen::new(Some(Family::Norm), name, about, applies, move |problem, inputs| {
            normalise(problem, inputs, &way)
        })
    };
    let by = |name, about, moments: fn(DType, &[f32]) -> (f32, f32)| {
        way(name, about, Way { moments, ..Way::RIGHT })
    };
    let rms_by = |name, about, order: Order| {
        let applies = |p: &Problem| matches!(&p.op, Op::RmsNorm(spec) if !spec.round_before_weight);
        Specimen::new(Some(Family::Norm), name, about, applies, move |problem, inputs| {
            let mean_square = |x: &[f32]| order.sum(&squares(x)) / x.len() as f32;
            rms(
                problem,
                inputs,
                true,
                mean_square,
                |m, eps| 1.0 / (m + eps).sqrt(),
                |x, rstd, w| x * rstd * w,
            )
        })
    };
    vec![
        by("norm-two-pass-8-lanes", "Two passes, eight accumulators.", |_, x| corrected(Order::Lanes(8), x)),
        by("norm-two-pass-pairwise", "Two passes, halves of halves.", |_, x| corrected(Order::Pairs, x)),
        by("norm-two-pass-backwards", "Two passes from the end.", |_, x| corrected(Order::Backwards(32), x)),
        by("norm-two-pass-f64", "Two passes in f64.", |_, x| double(x)),
        by("norm-welford", "Welford's running mean and squares, declared.", |_, x| welford(x)).running(),
        by("norm-merged-blocks", "Blocks of 128 merged in pairs.", |_, x| merged(128, x)),
        way(
            "norm-fused",
            "The affine step with fused multiply-add.",
            Way {
                apply: |_, x, (mean, rstd), (weight, bias)| ((x - mean) * rstd).mul_add(weight, bias),
                ..Way::RIGHT
            },
        ),
        rms_by("rms-8-lanes", "Eight accumulators.", Order::Lanes(8)),
        rms_by("rms-pairwise", "Halves of halves.", Order::Pairs),
        rms_by("rms-compensated", "Neumaier's sum.", Order::Compensated),
        rms_by("rms-f64", "The sum of squares in f64.", Order::Double),
    ]
}

fn activations() -> Vec<Specimen> {
    let on = |name, about, applies: fn(Unary) -> bool, f: fn(Unary, f32) -> f32| {
        let applies = move |p: &Problem| function_of(p).is_some_and(applies);
        let compute = move |problem: &Problem, inputs: &Inputs| pointwise(problem, inputs, f);
        Specimen::new(Some(Family::Activation), name, about, applies, compute)
    };
    vec![
        on("exp-above", "One ULP too large.", |f| f == Unary::Exp, |_, x| exp_above(x)),
        on("exp-below", "One ULP too small.", |f| f == Unary::Exp, |_, x| exp_below(x)),
        on("exp-reduced", "Reduction and polynomial.", |f| f == Unary::Exp, |_, x| exp_reduced(x)),
        on(
            "sigmoid-by-tanh",
            "(1 + tanh(x/2))/2 above, and e^x/(1 + e^x) below 0.",
            |f| f == Unary::Sigmoid,
            |_, x| if x > 0.0 { 0.5 + 0.5 * (0.5 * x).tanh() } else { x.exp() / (1.0 + x.exp()) },
        ),
        on(
            "tanh-by-expm1",
            "expm1(2|x|)/(expm1(2|x|) + 2), with the sign of x.",
            |f| f == Unary::Tanh,
            |_, x| {
                if x.is_nan() {
                    return x;
                }
                let e = (2.0 * x.abs().min(20.0)).exp_m1();
                (e / (e + 2.0)).copysign(x)
            },
        ),
        on(
            "functions-in-f64",
            "The formula in f64, rounded at the end.",
            |f| matches!(f, Unary::Silu | Unary::Gelu | Unary::GeluTanh),
            |f, x| if x == f32::NEG_INFINITY { -0.0 } else { gate(f, x) },
        ),
        Specimen::new(
            Some(Family::Activation),
            "glu-in-f64",
            "The gate in f64, one product in f32.",
            |p| matches!(p.op, Op::Glu(_)),
            gated,
        ),
    ]
}

fn gated(problem: &Problem, inputs: &Inputs) -> Computed {
    let Op::Glu(spec) = &problem.op else { return Err(unsupported()) };
    let (gates, ups) = halves(spec, inputs)?;
    results(problem, &[gates.iter().zip(&ups).map(|(g, u)| gate(spec.gate, *g) * u).collect()])
}

fn rope() -> Vec<Specimen> {
    let by = |name, about, turn: rope::Turn| {
        Specimen::new(
            Some(Family::Rope),
            name,
            about,
            |_| true,
            move |problem, inputs| rotate(problem, inputs, exact, turn),
        )
    };
    vec![
        by("rope-rounded", "Products rounded, then added.", turn),
        by("rope-fused", "With fused multiply-add.", |x0, x1, c, s| {
            (x0.mul_add(c, -(x1 * s)), x1.mul_add(c, x0 * s))
        }),
        by("rope-in-f64", "The rotation in f64.", |x0, x1, c, s| {
            let [x0, x1, c, s] = [x0, x1, c, s].map(f64::from);
            ((x0 * c - x1 * s) as f32, (x1 * c + x0 * s) as f32)
        }),
        Specimen::new(
            Some(Family::Rope),
            "rope-reduced-angle",
            "The angle reduced to one turn in f64, its sine and cosine in f32.",
            |_| true,
            |problem, inputs| {
                let table = |position: i64, theta: f64| {
                    let turn = std::f64::consts::TAU;
                    let angle = (position as f64 * theta).rem_euclid(turn);
                    // Sine and cosine of the nearest f32 angle, turned on by what it lacks.
                    let near = angle as f32;
                    let (sin, cos) = (near as f64).sin_cos();
                    let rest = angle - near as f64;
                    (cos - rest * sin, sin + rest * cos)
                };
                rotate(problem, inputs, table, turn)
            },
        ),
    ]
}
