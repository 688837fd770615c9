//! stub
use crate::Registry;
pub(crate) fn register(_registry: &mut Registry) {}
