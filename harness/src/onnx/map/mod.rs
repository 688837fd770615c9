//! From ONNX's operators to problems of ours: one file per family.
//!
//! Layouts are changed here, once: heads are split off, keys of the past stand before the new
//! ones, expected outputs are put into our order. No backend knows of it.

mod activation;
mod attention;
mod norm;
mod rope;
mod softmax;

use super::node::{Node, Unmapped};
use super::{Mapped, Part};

/// An operator of ONNX that we know how to pose.
pub(super) struct Operator {
    domain: &'static str,
    name: &'static str,
    /// The first version of the operator set whose semantics these are.
    pub(super) since: i64,
    /// The attributes that the mapping understands.
    pub(super) attributes: &'static [&'static str],
    /// The mapping.
    pub(super) map: fn(&Node) -> Result<Mapped, Unmapped>,
}

const fn operator(
    name: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    map: fn(&Node) -> Result<Mapped, Unmapped>,
) -> Operator {
    Operator { domain: "", name, since, attributes, map }
}

static OPERATORS: [Operator; 22] = [
    operator(
        "Attention",
        23,
        &[
            "is_causal",
            "kv_num_heads",
            "q_num_heads",
            "qk_matmul_output_mode",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        attention::attention,
    ),
    Operator {
        domain: "ai.onnx.preview",
        ..operator("FlexAttention", 1, &["scale", "softmax_precision"], attention::attention)
    },
    operator("Softmax", 13, &["axis"], softmax::softmax),
    operator("LogSoftmax", 13, &["axis"], softmax::log_softmax),
    operator("LayerNormalization", 17, &["axis", "epsilon", "stash_type"], norm::layer_norm),
    operator("RMSNormalization", 23, &["axis", "epsilon", "stash_type"], norm::rms_norm),
    operator("GroupNormalization", 21, &["epsilon", "num_groups", "stash_type"], norm::group_norm),
    operator("InstanceNormalization", 6, &["epsilon"], norm::instance_norm),
    operator("BatchNormalization", 14, &["epsilon", "momentum", "training_mode"], norm::batch_norm),
    operator(
        "RotaryEmbedding",
        23,
        &["interleaved", "num_heads", "rotary_embedding_dim"],
        rope::rotary_embedding,
    ),
    operator("Gelu", 20, &["approximate"], activation::activation),
    operator("Swish", 24, &["alpha"], activation::activation),
    operator("Sigmoid", 6, &[], activation::activation),
    operator("Tanh", 6, &[], activation::activation),
    operator("Relu", 6, &[], activation::activation),
    operator("LeakyRelu", 6, &["alpha"], activation::activation),
    operator("Elu", 6, &["alpha"], activation::activation),
    operator("Softplus", 1, &[], activation::activation),
    operator("Mish", 18, &[], activation::activation),
    operator("HardSwish", 14, &[], activation::activation),
    operator("Erf", 9, &[], activation::activation),
    operator("Exp", 6, &[], activation::activation),
];

/// The operator of that name.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    // The default domain has two names.
    let domain = if domain == "ai.onnx" { "" } else { domain };
    OPERATORS.iter().find(|operator| operator.name == name && operator.domain == domain)
}

/// A test that is one problem, all of whose outputs are judged.
fn whole(part: Part) -> Mapped {
    Mapped { parts: vec![part], unjudged: Vec::new() }
}
