//! The oracle against facts that owe nothing to it: closed forms, identities, invariants.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use acceptance::Posed;
use touchstone_harness::oracle;
use touchstone_kernels::{DType, ElementType, Inputs, Problem, Tensor};

/// The first result of a problem on tensors given by name; each is rounded to its operand's type.
fn evaluate(problem: &str, tensors: &[(&str, &[f64])]) -> Vec<f64> {
    results(problem, tensors).remove(0)
}

fn results(problem: &str, tensors: &[(&str, &[f64])]) -> Vec<Vec<f64>> {
    let problem: Problem = problem.parse().unwrap();
    let tensors = problem.operands().into_iter().map(|operand| {
        let (_, data) = tensors.iter().find(|(name, _)| *name == operand.name).unwrap();
        let tensor = match operand.element {
            ElementType::Float(dtype) => Tensor::from_f64(dtype, &operand.shape, data),
            _ => Tensor::from_slice(&operand.shape, &data.iter().map(|&x| x as i64).collect::<Vec<_>>()),
        };
        (operand.name, tensor.unwrap())
    });
    let inputs = Inputs::new(&problem, tensors).unwrap();
    oracle::expect(&problem, &inputs).results.into_iter().map(|result| result.value).collect()
}

fn posed(case: &str) -> Posed {
    Posed::new(case.parse().unwrap())
}

/// Values and the operand of that name, of a drawn case.
fn drawn(case: &str, operand: &str) -> (Vec<f64>, Vec<f64>) {
    let posed = posed(case);
    (posed.expected.results[0].value.clone(), posed.inputs.get(operand).unwrap().to_f64())
}

fn assert_close(got: &[f64], expected: &[f64], relative: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(!got.is_empty(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (got - expected).abs();
        assert!(off <= relative * expected.abs().max(1e-300), "{what}[{i}]: {got:e}, not {expected:e}");
    }
}

/// From mpmath 1.3 with 40 digits, by the formulas in the docs of `Unary`.
#[test]
fn activations_take_their_known_values() {
    #[rustfmt::skip]
    let known: [(&str, &[(f64, f64)]); 12] = [
        ("gelu", &[(1.0, 0.841_344_746_068_542_949), (-0.5, -0.154_268_769_362_993_448), (-5.0, -1.433_257_859_395_969_56e-6), (-10.0, -7.619_853_024_160_526_07e-23)]),
        ("gelu_tanh", &[(1.0, 0.841_191_990_608_276_705), (-0.5, -0.154_285_990_174_856_078), (-5.0, -2.291_796_196_629_506_05e-7)]),
        ("silu", &[(1.0, 0.731_058_578_630_004_879), (-5.0, -0.033_464_254_621_424_277_8), (-10.0, -0.000_453_978_687_024_343_945)]),
        ("swish", &[(1.0, 0.731_058_578_630_004_879), (3.0, 2.857_722_380_467_299_66)]),
        ("swish beta=1.5", &[(0.5, 0.339_589_349_587_696_487), (-10.0, -3.059_022_269_256_247_25e-6)]),
        ("sigmoid", &[(0.5, 0.622_459_331_201_854_565), (-10.0, 0.000_045_397_868_702_434_394_5)]),
        ("softplus", &[(1.0, 1.313_261_687_518_222_83), (-10.0, 0.000_045_398_899_216_864_646_8)]),
        ("mish", &[(1.0, 0.865_098_388_267_310_346), (-5.0, -0.033_576_237_730_161_705_4)]),
        ("erf", &[(0.5, 0.520_499_877_813_046_538), (3.0, 0.999_977_909_503_001_415)]),
        ("tanh", &[(0.5, 0.462_117_157_260_009_759), (-5.0, -0.999_909_204_262_595_131)]),
        ("elu", &[(-0.5, -0.393_469_340_287_366_576), (-10.0, -0.999_954_600_070_237_515), (3.0, 3.0)]),
        ("hard_swish", &[(1.0, 2.0 / 3.0), (0.5, 0.291_666_666_666_666_667), (3.0, 3.0)]),
    ];
    for (function, points) in known {
        let (name, parameters) = function.split_once(' ').unwrap_or((function, ""));
        let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let got = evaluate(&format!("{name} f32 shape={} {parameters}", x.len()), &[("x", &x)]);
        assert_close(&got, &y, 1e-14, function);
    }
}

/// OPS: limits, not artefacts.
#[test]
fn activations_take_their_limits() {
    let ends = [f64::NEG_INFINITY, f64::INFINITY, f64::NAN];
    let at = |op: &str| evaluate(&format!("{op} f32 shape=3"), &[("x", &ends)]);
    for op in ["gelu", "gelu_tanh", "silu", "swish", "mish", "hard_swish"] {
        let got = at(op);
        assert!(got[0] == 0.0 && got[1] == f64::INFINITY && got[2].is_nan(), "{op}: {got:?}");
    }
    for (op, low, high) in [("sigmoid", 0.0, 1.0), ("tanh", -1.0, 1.0), ("erf", -1.0, 1.0)] {
        let got = at(op);
        assert!(got[0] == low && got[1] == high && got[2].is_nan(), "{op}: {got:?}");
    }
    assert!(at("gelu")[0].is_sign_negative() && at("silu")[0].is_sign_negative());
}

#[test]
fn softmax_rows_sum_to_one_and_do_not_move() {
    let (y, x) = drawn("softmax f32 shape=7x1025 fill=wide", "x");
    for row in y.chunks(1025) {
        assert_close(&[row.iter().sum()], &[1.0], 1e-12, "sum");
    }
    // A shift of 64 is exact: the numbers are below 2⁸ and multiples of more than 2⁻¹⁷.
    let coarse: Vec<f64> = x.iter().map(|x| (x * 1024.0).round() / 1024.0).collect();
    let shifted: Vec<f64> = coarse.iter().map(|x| x + 64.0).collect();
    let [a, b] = [&coarse, &shifted].map(|x| evaluate("softmax f32 shape=7x1025", &[("x", x)]));
    assert_close(&a, &b, 1e-13, "shift");
    let known = [0.090_030_573_170_380_458, 0.244_728_471_054_797_652, 0.665_240_955_774_821_89];
    assert_close(&evaluate("softmax f32 shape=3", &[("x", &[0.0, 1.0, 2.0])]), &known, 1e-15, "known");
    let logarithm = known.map(f64::ln);
    assert_close(&evaluate("log_softmax f32 shape=3", &[("x", &[0.0, 1.0, 2.0])]), &logarithm, 1e-14, "log");
    // Other axes are the last axis of the transposed tensor.
    let by_column = evaluate("softmax f32 shape=3x2 axis=0", &[("x", &[0.0, 2.0, 1.0, 1.0, 2.0, 0.0])]);
    let [p, q, r] = known;
    assert_close(&by_column, &[p, r, q, q, r, p], 1e-15, "axis");
}

#[test]
fn attention_with_equal_heads_is_multi_head() {
    let grouped = posed("attention f32 h=6 hkv=2 lq=9 lk=21 d=16 causal=bottom_right");
    let operand = |name: &str| grouped.inputs.get(name).unwrap().to_f64();
    let (k, v) = (operand("k"), operand("v"));
    // Query head h reads key head ⌊h/3⌋: each head of 21·16 numbers three times in a row.
    let repeat = |x: &[f64]| x.chunks(21 * 16).flat_map(|head| head.repeat(3)).collect::<Vec<f64>>();
    let plain = evaluate(
        "attention f32 h=6 lq=9 lk=21 d=16 causal=bottom_right",
        &[("q", &operand("q")), ("k", &repeat(&k)), ("v", &repeat(&v))],
    );
    assert_close(&grouped.expected.results[0].value, &plain, 1e-13, "GQA");
}

#[test]
fn attention_takes_its_known_values() {
    // Equal keys share the weight: the mean of the visible values.
    let v = [1.0, 2.0, 6.0];
    let tensors: &[(&str, &[f64])] = &[("q", &[1.0, 1.0, 1.0]), ("k", &[2.0, 2.0, 2.0]), ("v", &v)];
    let at = |fields: &str| evaluate(&format!("attention f32 h=1 lq=3 d=1 {fields}"), tensors);
    assert_close(&at(""), &[3.0; 3], 1e-15, "mean");
    assert_close(&at("causal=top_left"), &[1.0, 1.5, 3.0], 1e-15, "causal");
    assert_close(&at("causal=bottom_right window=1,0"), &[1.0, 1.5, 4.0], 1e-15, "window");
    // Scores 0 and ln 3, as near as f32 comes: weights 1/4 and 3/4, and log-sum-exp ln 4.
    let k = [0.0, 3.0f64.ln()];
    let got =
        results("attention f32 h=1 lq=1 lk=2 d=1 lse=true", &[("q", &[1.0]), ("k", &k), ("v", &[0.0, 1.0])]);
    assert_close(&got[0], &[0.75], 1e-7, "weights");
    assert_close(&got[1], &[4.0f64.ln()], 1e-7, "lse");
    // The two alignments differ where Lq ≠ Lk: query 0 of 2 sees one of three keys, or two.
    let tensors: &[(&str, &[f64])] = &[("q", &[0.0, 0.0]), ("k", &[0.0; 3]), ("v", &v)];
    let at = |fields: &str| evaluate(&format!("attention f32 h=1 lq=2 lk=3 d=1 {fields}"), tensors);
    assert_close(&at("causal=top_left"), &[1.0, 1.5], 1e-15, "top left");
    assert_close(&at("causal=bottom_right"), &[1.5, 3.0], 1e-15, "bottom right");
    // A query that sees no key gives exactly 0, whatever the masked keys hold.
    let tensors: &[(&str, &[f64])] = &[("q", &[1.0, 1.0]), ("k", &[1.0]), ("v", &[f64::NAN])];
    let masked = evaluate("attention f32 h=1 lq=2 lk=1 d=1 causal=bottom_right", tensors);
    assert!(masked[0] == 0.0 && masked[1].is_nan(), "{masked:?}");
}

#[test]
fn rope_keeps_norms_and_relative_positions() {
    for style in ["half", "interleaved"] {
        let (y, x) = drawn(&format!("rope f32 h=3 l=17 d=64 style={style} fill=far"), "x");
        for (y, x) in y.chunks(64).zip(x.chunks(64)) {
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            assert_close(&[norm(y)], &[norm(x)], 1e-13, "norm");
        }
        // ⟨R(m)q, R(n)k⟩ depends on m − n only.
        let (q, k) = (&x[..64], &x[64..128]);
        let turned = |x: &[f64], position: f64| {
            evaluate(&format!("rope f32 h=1 l=1 d=64 style={style}"), &[("x", x), ("positions", &[position])])
        };
        let product =
            |m: f64, n: f64| -> f64 { turned(q, m).iter().zip(turned(k, n)).map(|(a, b)| a * b).sum() };
        assert_close(&[product(12.0, 5.0)], &[product(1_007.0, 1_000.0)], 1e-10, "relative");
        assert_eq!(turned(q, 0.0), q, "position 0 turns nothing");
    }
    // One pair at base⁰ = 1 radian per position: (1, 0) becomes (cos 2, sin 2).
    let got = evaluate("rope f32 h=1 l=1 d=2", &[("x", &[1.0, 0.0]), ("positions", &[2.0])]);
    assert_close(&got, &[-0.416_146_836_547_142_387, 0.909_297_426_825_681_695], 1e-15, "known");
}

fn mean_and_variance(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

#[test]
fn norms_leave_the_moments_they_must() {
    let eps = 1e-5f32 as f64;
    let (y, x) = drawn("layer_norm f32 shape=5x257 weight=false bias=false", "x");
    for (y, x) in y.chunks(257).zip(x.chunks(257)) {
        let ((mean, variance), (_, before)) = (mean_and_variance(y), mean_and_variance(x));
        assert!(mean.abs() < 1e-14, "{mean:e}");
        assert_close(&[variance], &[before / (before + eps)], 1e-13, "variance");
    }
    let (y, x) = drawn("rms_norm f32 shape=5x257 weight=false", "x");
    for (y, x) in y.chunks(257).zip(x.chunks(257)) {
        let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>() / 257.0;
        assert_close(&[square(y)], &[square(x) / (square(x) + eps)], 1e-13, "mean square");
    }
    // A row of one value is exactly its bias, whatever the value.
    let row = evaluate(
        "layer_norm f32 shape=1x3",
        &[("x", &[1e4; 3]), ("weight", &[2.0; 3]), ("bias", &[0.5, -1.0, 3.0])],
    );
    assert_eq!(row, [0.5, -1.0, 3.0]);
}

#[test]
fn group_norm_lies_between_layer_and_instance_norm() {
    let plain = "weight=false bias=false";
    let x = posed("softmax f32 shape=2x6x35").inputs.get("x").unwrap().to_f64();
    let of = |problem: &str| evaluate(&format!("{problem} {plain}"), &[("x", &x)]);
    let layer = of("layer_norm f32 shape=2x6x35 axes=2");
    assert_close(&of("group_norm f32 shape=2x6x35 groups=1"), &layer, 1e-12, "one group");
    let instance = of("instance_norm f32 shape=2x6x35");
    assert_close(&of("group_norm f32 shape=2x6x35 groups=6"), &instance, 1e-12, "C groups");
    assert_ne!(of("group_norm f32 shape=2x6x35 groups=3"), instance);
}

#[test]
fn batch_norm_keeps_an_unbiased_running_variance() {
    let problem = "batch_norm f32 shape=2x1x2 momentum=0.25 weight=false bias=false";
    // Mean 3, biased variance 5, unbiased 20/3.
    let tensors: &[(&str, &[f64])] =
        &[("x", &[0.0, 2.0, 4.0, 6.0]), ("running_mean", &[1.0]), ("running_var", &[2.0])];
    let got = results(problem, tensors);
    let rstd = 1.0 / (5.0 + 1e-5f32 as f64).sqrt();
    assert_close(&got[0], &[-3.0 * rstd, -rstd, rstd, 3.0 * rstd], 1e-14, "out");
    assert_close(&got[1], &[0.75 + 0.25 * 3.0], 1e-15, "running mean");
    assert_close(&got[2], &[0.75 * 2.0 + 0.25 * 20.0 / 3.0], 1e-15, "running variance");
    let rstd = 1.0 / (2.0 + 1e-5f32 as f64).sqrt();
    let infer = evaluate(&problem.replace("momentum=0.25", "mode=infer"), tensors);
    assert_close(&infer, &[-rstd, rstd, 3.0 * rstd, 5.0 * rstd], 1e-14, "infer");
}

/// Parameters and inputs mean their rounded values: 0.1 in bf16 is 0.10009765625.
#[test]
fn the_oracle_sees_rounded_inputs() {
    assert_eq!(evaluate("relu bf16 shape=1", &[("x", &[0.1])]), [0.100_097_656_25]);
    assert_eq!(evaluate("relu f16 shape=1", &[("x", &[0.1])]), [0.099_975_585_937_5]);
    assert_eq!(evaluate("relu f32 shape=1", &[("x", &[0.1])]), [DType::F32.round(0.1)]);
}
