//! Scaled dot-product attention.

use std::sync::Arc;

use super::Engine;
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::Attention;
use crate::operands::Inputs;
use crate::problem::Problem;

/// Why it is not supported yet.
pub(super) const MISSING: &str = "attention is not written yet";

pub(super) fn prepare<T: Element>(
    _engine: &Arc<Engine>,
    _problem: &Problem,
    _spec: &Attention,
    _inputs: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    Err(BackendError::Unsupported { reason: MISSING.into() })
}
