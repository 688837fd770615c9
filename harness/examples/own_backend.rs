//! A backend of your own, in a page.
//!
//! It computes one operation, softmax over the last axis in f32, and is checked, timed and
//! reported beside the others:
//!
//! ```text
//! cargo run --release --example own_backend -- check --backend mine --op softmax
//! cargo run --release --example own_backend -- compare --backend mine,simd,candle --op softmax
//! ```

use std::process::ExitCode;

use touchstone_kernels::host::HostPrepared;
use touchstone_kernels::op::Softmax;
use touchstone_kernels::{
    Backend, BackendError, BackendId, BackendInfo, DType, Declaration, Inputs, Outputs, Prepared, Problem,
    Registry, Support,
};

/// Three passes over a row in one thread: the maximum, the exponentials with their sum, the
/// quotients.
struct Mine {
    id: BackendId,
}

impl Backend for Mine {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        BackendInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            device: "cpu".into(),
            isa: std::env::consts::ARCH.into(),
            threads: 1,
        }
    }

    /// Whatever is not exactly this kernel's semantics is declined, with the reason that reports
    /// show. Nothing is approximated.
    fn supports(&self, problem: &Problem) -> Support {
        match problem.get::<Softmax>() {
            None => Support::No("only softmax".into()),
            Some(Softmax { log: true, .. }) => Support::No("no log_softmax".into()),
            Some(spec) if spec.axis + 1 < spec.shape.len() => Support::No("only the last axis".into()),
            Some(_) if problem.dtype != DType::F32 => Support::No("only f32".into()),
            Some(_) => Support::Yes,
        }
    }

    /// Every element within its own error bound. A kernel that promises less says so here, and
    /// its reports do, too.
    fn declares(&self, _problem: &Problem) -> Declaration {
        Declaration::strict("three passes")
    }

    /// What is done here is not timed. `bound` has what stays the same between calls, such as weights; the
    /// data come by [`Prepared::load`] and may be new in any call. [`HostPrepared`] does that, allocates the
    /// results, between guard zones and filled with NaN, and runs the closure; for a device, implement
    /// [`Prepared`].
    fn prepare(&self, problem: &Problem, bound: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let Some(Softmax { shape, scale, .. }) = problem.get() else {
            return Err(BackendError::Unsupported { reason: "only softmax".into() });
        };
        let (width, scale) = (shape.last().map_or(1, |&width| width.max(1)), *scale);
        let kernel = move |inputs: &Inputs, outputs: &mut Outputs| {
            let x = inputs.slice::<f32>("x")?;
            let out = outputs.slice_mut::<f32>("out")?;
            for (x, out) in x.chunks(width).zip(out.chunks_mut(width)) {
                softmax(x, scale, out);
            }
            Ok(())
        };
        Ok(Box::new(HostPrepared::new(problem, bound, kernel)))
    }
}

/// exp(s·x − m)/Σ exp(s·x − m) of a row.
fn softmax(x: &[f32], scale: f32, out: &mut [f32]) {
    // f32::max would drop a NaN; the subtraction below brings it back.
    let max = x.iter().map(|x| scale * x).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (x, out) in x.iter().zip(&mut *out) {
        *out = (scale * x - max).exp();
        // In f64, so that it does not drift in a row of a million.
        sum += f64::from(*out);
    }
    for out in out {
        *out = (f64::from(*out) / sum) as f32;
    }
}

fn main() -> ExitCode {
    touchstone_harness::cli::run(|threads| {
        let mut registry = Registry::standard(threads);
        registry.add(Mine { id: BackendId::new("mine") });
        registry
    })
}
