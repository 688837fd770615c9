//! Transformer kernels behind one trait.
//!
//! A [`Problem`] says *what* is computed: an operation with every semantic choice spelled out
//! ([`op`]) and the storage [`DType`]. [`Inputs`] are its validated operands. A [`Backend`]
//! says *who* computes it: it answers whether it [`supports`](Backend::supports) the problem
//! with exactly those semantics, declares its numerics, and turns problem and inputs into a
//! [`Prepared`] run. The [`Registry`] holds every backend of this build, and for each one that
//! is absent the reason.
//!
//! | module | holds |
//! |---|---|
//! | [`problem`], [`op`] | semantics: specs, operands, shape checks, FLOPs and bytes, the repro text |
//! | [`dtype`], [`tensor`] | storage types, aligned and guarded host tensors |
//! | [`backend`], [`registry`] | the trait, declarations, the list of backends |
//! | [`device`] | a device's own clock and rates |
//! | [`unstated`] | what a library does where its caller does not say |
//! | [`naive`] | the shortest readable code |
//! | [`simd`] | blocked kernels, one source for every instruction set |
//! | `candle`, `libtorch`, `onnxruntime` | the libraries, behind features of the same name |

#[cfg(all(test, any(feature = "libtorch", feature = "onnxruntime")))]
mod against_naive;
pub mod backend;
#[cfg(feature = "candle")]
pub mod candle;
pub mod device;
pub mod dtype;
pub mod error;
pub mod fields;
pub mod host;
#[cfg(feature = "libtorch")]
pub mod libtorch;
pub mod naive;
#[cfg(test)]
mod noise;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;
pub mod op;
pub mod operands;
pub mod problem;
pub mod registry;
pub mod simd;
mod table;
pub mod tensor;
pub mod unstated;

pub use backend::{
    Allocation, Backend, BackendId, BackendInfo, Contract, Declaration, Moments, Prepared, Rounded, Support,
};
pub use device::{Clock, DevicePeaks, Stopwatch};
pub use dtype::{DType, Element, ElementType, Scalar};
pub use error::{BackendError, InputError, ParseError, ShapeError};
pub use op::{Binding, Family, Kind, Op, Operand, Operation, Work};
pub use operands::{Inputs, Outputs};
pub use problem::Problem;
pub use registry::{Absent, Registry};
pub use tensor::Tensor;
pub use unstated::{Habit, Unstated};
