//! An operation of your own: what it is, what it computes, a kernel for it, a mistake that the suite catches.
//!
//! Cosine similarity of rows, `out_i = Σ a·b / (√Σa²·√Σb²)`, becomes an operation like any other:
//!
//! ```text
//! alias mine='cargo run --release --example own_operation --'
//! mine check --suite harness/examples/own_operation.toml --backend mine
//! mine check --explore 2000 --op cosine --backend mine
//! mine compare --suite harness/examples/own_operation.toml --backend mine
//! mine selftest --suite smoke --suite harness/examples/own_operation.toml
//! ```

use std::process::ExitCode;

use proptest::strategy::Strategy;
use touchstone_harness::coverage::{Level, class};
use touchstone_harness::explore::tensor;
use touchstone_harness::families::{self, Checkable, Draw, FamilyChecks};
use touchstone_harness::oracle::{ExpectedResult, Formula, Operands, Real, by_formula};
use touchstone_harness::selftest::Specimen;
use touchstone_kernels::fields::{Dims, FieldWriter};
use touchstone_kernels::host::FunctionBackend;
use touchstone_kernels::op::{Family, Field, Schema, Unit};
use touchstone_kernels::*;

/// The operation: its fields are all that its text says.
#[derive(Clone, Debug)]
struct Cosine {
    shape: Vec<usize>,
}

static FAMILY: Family = Family {
    name: "similarity",
    title: "Similarity",
    unit: Unit::Byte,
    operations: &[Schema {
        name: "cosine",
        formula: "Σ a·b / (√Σa²·√Σb²) of each row",
        fields: &[Field::size("shape", "rows and width, such as 8x1024")],
        parse: |fields| fields.required("shape").map(|Dims(shape)| Cosine { shape }.into()),
    }],
};

impl Operation for Cosine {
    fn name(&self) -> &'static str {
        "cosine"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        let message = format!("shape {:?} is not rows and width", self.shape);
        if self.shape.len() == 2 { Ok(()) } else { Err(self.error(message)) }
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        ["a", "b"].map(|name| Operand::float(name, dtype, self.shape.clone())).to_vec()
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, &self.shape[..1])]
    }

    fn flops(&self) -> u64 {
        6 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone()));
    }
}

/// Written once: exact values over `f64`, values and error bounds over `Bounded`.
impl Formula for Cosine {
    fn evaluate<R: Real>(&self, operands: &Operands, _dtype: DType) -> Vec<Vec<R>> {
        let (a, b) = (operands.get::<R>("a"), operands.get::<R>("b"));
        let dot = |a: &[R], b: &[R]| R::dot(a.iter().copied(), b.iter().copied());
        let of = |a: &[R], b: &[R]| dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt());
        let width = self.shape[1];
        let row = |i: usize| of(&a[i * width..(i + 1) * width], &b[i * width..(i + 1) * width]);
        vec![(0..self.shape[0]).map(row).collect()]
    }
}

impl Checkable for Cosine {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        by_formula(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        vec![("rows", class(self.shape[0])), ("width", class(self.shape[1]))]
    }

    fn alone(&self) -> Option<Op> {
        families::one_of(&self.shape).map(|shape| Cosine { shape }.into())
    }
}

static CHECKS: FamilyChecks = FamilyChecks::new(&FAMILY, &[families::of::<Cosine>], DRAWS)
    .with_test_kernels(|| vec![root_forgotten()], Vec::new);

const DRAWS: &[Draw] = &[Draw {
    name: "cosine",
    weight: 10,
    strategy: |_| tensor(2..=2).prop_map(|shape| Op::from(Cosine { shape })).sboxed(),
}];

/// A planted fault: `selftest` shows that the suite catches it.
fn root_forgotten() -> Specimen {
    let (name, about) = ("cosine-root-forgotten", "The norm of b is left squared.");
    let kernel = |problem: &Problem, inputs: &Inputs| cosine(problem, inputs, |square| square);
    Specimen::new(Some(&FAMILY), name, about, |_| true, kernel)
}

/// The kernel, in f64; `norm` is √Σb² from Σb².
fn cosine(problem: &Problem, inputs: &Inputs, norm: fn(f64) -> f64) -> Result<Outputs, BackendError> {
    let of = |name: &str| inputs.get(name).map(Tensor::to_f64).unwrap_or_default();
    let (a, b, shape) = (of("a"), of("b"), &problem.operands()[0].shape);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let row = |i: usize| i * shape[1]..(i + 1) * shape[1];
    let of = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a).sqrt() * norm(dot(b, b)));
    let out: Vec<f64> = (0..shape[0]).map(|i| of(&a[row(i)], &b[row(i)])).collect();
    Ok(Outputs::new(problem, vec![Tensor::from_f64(problem.dtype, &shape[..1], &out)?])?)
}

fn main() -> ExitCode {
    families::register(&CHECKS).expect("no other operation has these names");
    touchstone_harness::cli::run(|threads| {
        let mut registry = Registry::standard(threads);
        let right = |problem: &Problem, inputs: &Inputs| cosine(problem, inputs, f64::sqrt);
        registry.add(FunctionBackend::new("mine", |problem| problem.op.is::<Cosine>(), right));
        registry
    })
}
