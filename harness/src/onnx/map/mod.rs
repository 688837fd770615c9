//! From ONNX's operators to problems of ours: what the mappings of the families have in common.
//!
//! Layouts are changed here, once: heads are split off, keys of the past stand before the new
//! ones, expected outputs are put into our order. No backend knows of it.

use super::node::{Node, Unmapped};
use super::{Mapped, Part};
use crate::families;

/// An operator of ONNX that we know how to pose.
pub(crate) struct Operator {
    pub(crate) domain: &'static str,
    pub(crate) name: &'static str,
    /// The first version of the operator set whose semantics these are.
    pub(crate) since: i64,
    /// The attributes that the mapping understands.
    pub(crate) attributes: &'static [&'static str],
    /// The mapping.
    pub(crate) map: fn(&Node) -> Result<Mapped, Unmapped>,
}

pub(crate) const fn operator(
    name: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    map: fn(&Node) -> Result<Mapped, Unmapped>,
) -> Operator {
    Operator { domain: "", name, since, attributes, map }
}

/// The operator of that name.
pub(crate) fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    // The default domain has two names.
    let domain = if domain == "ai.onnx" { "" } else { domain };
    families::onnx().find(|operator| operator.name == name && operator.domain == domain)
}

/// A test that is one problem, all of whose outputs are judged.
pub(crate) fn whole(part: Part) -> Mapped {
    Mapped { parts: vec![part], unjudged: Vec::new() }
}
