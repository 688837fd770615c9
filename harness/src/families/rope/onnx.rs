//! RotaryEmbedding.
//!
//! ONNX multiplies the pair (x₀, x₁) by whatever its caches hold: (c·x₀ − s·x₁, s·x₀ + c·x₁). Its
//! tests fill them with any numbers, which are no cosine and sine of position times frequency. But
//! any c and s are r·cos φ and r·sin φ. So each position becomes a problem of its own: the pairs
//! are stretched by r, and frequency factors turn pair i by φ_i at position 1. Which channels are a
//! pair, which way it turns and which channels stay as they are is left to the kernel.

use ndarray::{Array1, Array4, Axis, Ix1};
use touchstone_kernels::op::rope::RopeTables;
use touchstone_kernels::op::{Rope, RopeScaling, RopeStyle};
use touchstone_kernels::{DType, ElementType, Tensor};

use crate::families::attention::onnx::heads;
use crate::onnx::Mapped;
use crate::onnx::error::NodeTestError;
use crate::onnx::node::{Claim, Given, Node, Unmapped, part};
use crate::onnx::value::{Value, tensor};

pub(super) fn rotary_embedding(node: &Node) -> Result<Mapped, Unmapped> {
    let input = node.input(0)?;
    let dtype = input.dtype()?;
    let count = node.count("num_heads")?;
    let x = heads(input, count)?;
    let (batch, heads_of_x, len, head_dim) = x.dim();
    let output = node.output()?;
    let expected = heads(output, count)?;
    if expected.dim() != x.dim() {
        return Err(output
            .wrong(format!("has shape {:?}, expected {:?}", output.shape(), input.shape()))
            .into());
    }
    let rotary_dim = match node.count("rotary_embedding_dim")? {
        0 => head_dim,
        dim => dim,
    };
    let interleaved = node.integer("interleaved")?.unwrap_or(0) != 0;
    let spec = Rope {
        batch: 1,
        heads: heads_of_x,
        len: 1,
        head_dim,
        rotary_dim,
        style: if interleaved { RopeStyle::Interleaved } else { RopeStyle::Half },
        base: 10_000.0,
        scaling: RopeScaling::None,
        batched_positions: false,
        freq_factors: true,
        tables: RopeTables::Prepared,
    };
    touchstone_kernels::Operation::check(&spec)?;

    let (cos, sin) = (node.input(1)?, node.input(2)?);
    let positions = node.optional(3);
    let at_one = Tensor::from_slice(&[1], &[1i64]).map_err(|error| node.wrong(error))?;
    let mut parts = Vec::new();
    for (b, l) in (0..batch).flat_map(|b| (0..len).map(move |l| (b, l))) {
        let row = |cache: &Value| cache_row(cache, positions, (b, l), (batch, len), rotary_dim / 2);
        let turn = Turn::new(&spec, &row(cos)?, &row(sin)?)?;
        let of = |array: &Array4<f64>| array.index_axis(Axis(0), b).index_axis(Axis(1), l).to_owned();
        let mut stretched = of(&x);
        for (i, r) in turn.radius.iter().enumerate() {
            let (first, second) = spec.pair(i);
            stretched.column_mut(first).map_inplace(|x| *x *= r);
            stretched.column_mut(second).map_inplace(|x| *x *= r);
        }
        let stretched = stretched.insert_axis(Axis(1)).insert_axis(Axis(0)).into_dyn();
        let factors = Array1::from_vec(turn.factors).into_dyn();
        let operands = vec![
            Given("x", input, tensor(input.tensor.element(), &stretched)),
            Given("positions", positions.unwrap_or(input), at_one.clone()),
            Given("freq_factors", cos, tensor(ElementType::Float(DType::F32), &factors)),
        ];
        let claims = vec![Claim("out", output, of(&expected).into_dyn())];
        parts.push(part(spec.clone(), dtype, operands, claims)?);
    }
    Ok(Mapped { parts, unjudged: Vec::new() })
}

/// One position's row of a cache: [positions, R/2] looked up by position, or [B, L, R/2].
fn cache_row(
    cache: &Value,
    positions: Option<&Value>,
    (b, l): (usize, usize),
    (batch, len): (usize, usize),
    pairs: usize,
) -> Result<Vec<f64>, NodeTestError> {
    let wrong = |expected: String| cache.wrong(format!("has shape {:?}, expected {expected}", cache.shape()));
    let array = cache.array();
    let row = match positions {
        Some(positions) => {
            if positions.shape() != [batch, len] {
                return Err(positions.wrong(format!(
                    "has shape {:?}, expected {:?}",
                    positions.shape(),
                    [batch, len]
                )));
            }
            let position =
                positions.tensor.as_slice::<i64>().map_err(|error| positions.wrong(error.to_string()))?
                    [b * len + l];
            let rows = cache.shape().first().copied().unwrap_or(0);
            if cache.shape() != [rows, pairs] {
                return Err(wrong(format!("[positions, {pairs}]")));
            }
            let position = usize::try_from(position).ok().filter(|&position| position < rows);
            let position = position
                .ok_or_else(|| positions.wrong(format!("leaves the {rows} positions of the caches")))?;
            array.index_axis_move(Axis(0), position)
        }
        None if cache.shape() == [batch, len, pairs] => {
            array.index_axis_move(Axis(0), b).index_axis_move(Axis(0), l)
        }
        None => return Err(wrong(format!("{:?}", [batch, len, pairs]))),
    };
    row.into_dimensionality::<Ix1>().map(|row| row.to_vec()).map_err(|error| cache.wrong(error.to_string()))
}

/// How each pair is turned and stretched.
struct Turn {
    radius: Vec<f64>,
    /// What the frequencies are divided by to be the angles.
    factors: Vec<f64>,
}

impl Turn {
    fn new(spec: &Rope, cos: &[f64], sin: &[f64]) -> Result<Self, Unmapped> {
        let radius: Vec<f64> = cos.iter().zip(sin).map(|(c, s)| c.hypot(*s)).collect();
        let angles = cos.iter().zip(sin).map(|(c, s)| s.atan2(*c));
        let factors =
            spec.frequencies(None).into_iter().zip(angles).map(|(theta, angle)| theta / angle).collect();
        if radius.iter().any(|&r| r == 0.0 || !r.is_finite()) {
            return Err(Unmapped::Outside(
                "caches that hold no direction: sine and cosine are 0 or not finite".into(),
            ));
        }
        Ok(Turn { radius, factors })
    }
}
