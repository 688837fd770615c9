//! Vector instructions must be inlined into the entry that enables them. What is left outside,
//! most often by a closure, calls every instruction as a function and is ten times slower while
//! it stays right, so that no other test sees it.
//!
//! This program holds the `simd` backend and no other: the linker drops what is not reached.

use std::str::FromStr;

use object::{Object, ObjectSymbol};
use touchstone_kernels::simd::Simd;
use touchstone_kernels::simd::isa::Isa;
use touchstone_kernels::{Backend, Inputs, Problem, Tensor};

/// One problem is enough: the backend is reached through its trait, and so is all of it.
fn reach_the_backend() {
    let problem = Problem::from_str("softmax f32 shape=2x3").expect("a problem");
    let x = Tensor::from_f64(problem.dtype, &[2, 3], &[0.0; 6]).expect("an operand");
    let inputs = Inputs::new(&problem, [("x", x)]).expect("operands");
    for isa in Isa::present() {
        let backend: Box<dyn Backend> = Box::new(Simd::new(isa, 1));
        backend.ready(&problem, &inputs).expect("a kernel").run().expect("a result");
    }
}

#[test]
fn no_vector_instruction_is_a_function_of_its_own() {
    reach_the_backend();
    let path = std::env::current_exe().expect("this program has a path");
    let program = std::fs::read(&path).expect("this program can be read");
    let file = object::File::parse(&*program).expect("a program of this platform");
    let names: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(names.iter().any(|name| name.contains("touchstone_kernels")), "the program was stripped");

    let vector =
        |name: &&&str| name.contains("core_arch") && ["_mm256_", "_mm512_"].iter().any(|v| name.contains(v));
    let outside: Vec<_> = names.iter().filter(vector).collect();
    assert!(outside.is_empty(), "called as functions: {outside:#?}");
}
