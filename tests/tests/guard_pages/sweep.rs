//! Every operation of ours, in every dtype, at every width around those of vectors and tiles.

use std::sync::Arc;

use touchstone_harness::Case;
use touchstone_kernels::op::Unary;
use touchstone_kernels::{Backend, DType, Inputs, Outputs, Registry, tensor};

/// For `{n}` every width, for `{2n}` its double, for `{n+3}` three more.
const SHAPES: &[(&[&str], &[&str])] = &[
    (&Unary::NAMES, &["shape={n}"]),
    (&["swish"], &["shape={n} beta=1.5"]),
    (
        &["glu", "reglu", "geglu", "geglu_tanh", "swiglu"],
        &["shape=3x{n}", "shape=3x{n} layout=gate_first", "shape=3x{n} layout=gate_last"],
    ),
    (
        &["softmax", "log_softmax"],
        &["shape=3x{n}", "shape=3x{n} scale=0.5", "shape={n}x3 axis=-2", "shape=3x5x{n} axis=-2"],
    ),
    (&["layer_norm"], &["shape=3x{n}", "shape=3x{n} bias=false", "shape=3x5x{n} axes=2 weight=false"]),
    (
        &["rms_norm"],
        &["shape=3x{n}", "shape=3x{n} weight=false", "shape=3x{n} round_before_weight=true weight_offset=1"],
    ),
    (
        &["add_rms_norm", "add_layer_norm"],
        &["shape=3x{n}", "shape=3x{n} sum=false weight=false", "shape=3x{n} round_sum=false"],
    ),
    (
        &["batch_norm"],
        &["shape=3x{n}", "shape=3x5x{n}", "shape=3x{n} mode=infer", "shape=3x5x{n} mode=infer weight=false"],
    ),
    (&["group_norm"], &["shape=3x6x{n} groups=3", "shape=1x{n}x1 groups={n} weight=false bias=false"]),
    (&["instance_norm"], &["shape=1x3x{n}", "shape=3x5x{n} bias=false"]),
    (
        &["rope"],
        &[
            "h=1 l=3 d={2n}",
            "h=3 l={n} d=6 batched_positions=true",
            "h=1 l=3 d={2n} style=interleaved",
            "h=3 l=1 d={n+3} rotary_dim=2 freq_factors=true tables=timed",
            "h=3 l=1 d={n+3} rotary_dim=2 style=interleaved",
        ],
    ),
];

/// The same for attention, once with ordinary numbers and once with a NaN among them, for which
/// kernels take another way.
const ATTENTION: &[&str] = &[
    "h=2 lq={n} lk=5 d=8",
    "h=3 hkv=1 lq=3 lk={n} d=5",
    "h=2 lq=3 lk=7 d={n}",
    "h=2 lq=3 lk=7 d=5 dv={n}",
    "h=1 lq={n} lk={n} d=3 causal=top_left",
    "h=4 hkv=2 lq=3 lk={n} d=8 causal=bottom_right lse=true sinks=true",
    "h=2 lq=1 lk={n} d=16 cache={n+3}",
    "h=2 lq=5 lk={n} d=3 window=7,1 softcap=9",
    "b=2 h=1 lq=3 lk={n} d=8 mask=bool:b1qk",
    "h=2 lq=3 lk={n} d=3 mask=float:1h1k alibi=true",
    "b=3 h=1 lq=2 lk={n} d=8 mask=padding lse=true",
];

/// Wide enough to be shared out among threads.
const SHARED: &[&str] = &[
    "gelu {t} shape=200003",
    "swiglu {t} shape=513x515 layout=gate_first",
    "softmax {t} shape=401x509",
    "softmax {t} shape=1x300007",
    "softmax {t} shape=3x301x401 axis=-2",
    "layer_norm {t} shape=401x509",
    "rms_norm {t} shape=1x300007",
    "batch_norm {t} shape=7x13x29x83",
    "group_norm {t} shape=3x12x57x107 groups=4",
    "rope {t} h=7 l=401 d=130",
    "attention {t} h=3 lq=131 d=40 causal=bottom_right",
    "attention {t} h=1 lq=1 lk=4099 d=128",
];

/// The widths that every case is run at: all that a vector, a few vectors or a tile could have as a
/// tail, and the neighbours of larger tiles.
fn widths() -> impl Iterator<Item = usize> {
    (1..=70).chain([95, 96, 97, 127, 128, 129, 257])
}

/// The texts of all cases.
pub(crate) fn cases() -> Vec<String> {
    let mut texts = Vec::new();
    let mut add = |op: &str, fields: &str, fill: &str| {
        for (n, dtype) in widths().flat_map(|n| DType::ALL.map(|dtype| (n, dtype))) {
            let fields = fields
                .replace("{n}", &n.to_string())
                .replace("{2n}", &(2 * n).to_string())
                .replace("{n+3}", &(n + 3).to_string());
            texts.push(format!("{op} {dtype} {fields} fill={fill}"));
        }
    };
    for (ops, shapes) in SHAPES {
        for op in *ops {
            shapes.iter().for_each(|fields| add(op, fields, "normal"));
        }
    }
    for fields in ATTENTION {
        ["normal", "special"].iter().for_each(|fill| add("attention", fields, fill));
    }
    texts
}

/// The texts of the cases for several threads.
pub(crate) fn shared() -> Vec<String> {
    let each = |text: &&str| DType::ALL.map(|dtype| text.replace("{t}", &dtype.to_string()));
    SHARED.iter().flat_map(each as fn(&&str) -> _).collect()
}

/// Our own backends.
pub(crate) fn backends(threads: usize) -> Vec<Arc<dyn Backend>> {
    let ours = |b: &&Arc<dyn Backend>| ["naive", "simd"].contains(&b.id().implementation());
    Registry::standard(threads).present().iter().filter(ours).cloned().collect()
}

/// The results of a backend, after a second run over its own scratch memory.
pub(crate) fn run(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Outputs {
    let mut prepared = backend.ready(&case.problem, inputs).unwrap();
    prepared.run().unwrap();
    prepared.run().unwrap();
    prepared.outputs().unwrap()
}

/// The same with results on bare tensors; for those of the operands, the caller has to see to it.
pub(crate) fn run_bare(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Outputs {
    tensor::bare(|| run(backend, case, inputs))
}
