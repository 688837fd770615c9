#![forbid(unsafe_code)]
//! The harness of Touchstone: is a kernel right, and how fast is it, honestly?

pub mod agreement;
pub mod case;
pub mod fill;
pub mod oracle;

pub use case::Case;
pub use fill::Fill;
