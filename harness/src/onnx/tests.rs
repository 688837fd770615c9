//! Node tests written here, so that nothing has to be fetched: what they become, what is declined,
//! and what is said about damaged ones. ONNX's own are an acceptance test.

use std::path::Path;

use prost::Message;
use tempfile::TempDir;
use touchstone_kernels::{BackendId, Registry};
use touchstone_reports::Status;

use super::proto;
use super::*;
use crate::known::KnownIssues;

/// A tensor of a test, in f32 unless it is named otherwise.
#[derive(Clone)]
struct Data {
    name: &'static str,
    data_type: i32,
    dims: Vec<i64>,
    raw: Vec<u8>,
}

fn floats(name: &'static str, dims: &[i64], values: impl IntoIterator<Item = f32>) -> Data {
    let raw = values.into_iter().flat_map(f32::to_le_bytes).collect();
    Data { name, data_type: 1, dims: dims.to_vec(), raw }
}

fn integers(name: &'static str, dims: &[i64], values: &[i64]) -> Data {
    let raw = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Data { name, data_type: 7, dims: dims.to_vec(), raw }
}

/// As many different numbers as the dimensions need.
fn some(name: &'static str, dims: &[i64]) -> Data {
    let count = dims.iter().product::<i64>();
    floats(name, dims, (0..count).map(|i| ((i * 7 + 3) % 11) as f32 / 8.0 - 0.5))
}

fn number(name: &str, f: f32) -> proto::Attribute {
    proto::Attribute { name: name.into(), f, r#type: proto::Attribute::FLOAT, ..Default::default() }
}

fn integer(name: &str, i: i64) -> proto::Attribute {
    proto::Attribute { name: name.into(), i, r#type: proto::Attribute::INT, ..Default::default() }
}

fn text(name: &str, s: &str) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        s: s.into(),
        r#type: proto::Attribute::STRING,
        ..Default::default()
    }
}

/// A node test in a directory of its own.
struct Written {
    directory: TempDir,
    model: proto::Model,
}

impl Written {
    /// Inputs without a name are left out.
    fn new(op: &str, attributes: &[proto::Attribute], inputs: &[Data], outputs: &[Data]) -> Self {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("test_data_set_0");
        std::fs::create_dir(&data).unwrap();
        let mut infos = [Vec::new(), Vec::new()];
        for (tensors, (kind, infos)) in
            [inputs, outputs].into_iter().zip(["input", "output"].iter().zip(&mut infos))
        {
            for tensor in tensors.iter().filter(|tensor| !tensor.name.is_empty()) {
                let message = proto::Tensor {
                    dims: tensor.dims.clone(),
                    data_type: tensor.data_type,
                    name: tensor.name.into(),
                    raw_data: tensor.raw.clone(),
                };
                let file = data.join(format!("{kind}_{}.pb", infos.len()));
                std::fs::write(file, message.encode_to_vec()).unwrap();
                let dim = tensor.dims.iter().map(|&n| proto::Dimension { dim_value: Some(n) }).collect();
                let tensor_type =
                    proto::TensorType { elem_type: tensor.data_type, shape: Some(proto::Shape { dim }) };
                let r#type = Some(proto::Type { tensor_type: Some(tensor_type) });
                infos.push(proto::ValueInfo { name: tensor.name.into(), r#type });
            }
        }
        let [input, output] = infos;
        let names = |tensors: &[Data]| tensors.iter().map(|tensor| tensor.name.to_string()).collect();
        let node = proto::Node {
            input: names(inputs),
            output: names(outputs),
            op_type: op.into(),
            attribute: attributes.to_vec(),
            domain: String::new(),
        };
        let graph = proto::Graph { node: vec![node], initializer: Vec::new(), input, output };
        let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 24 }];
        let written = Written { directory, model: proto::Model { graph: Some(graph), opset_import } };
        written.save();
        written
    }

    fn save(&self) {
        std::fs::write(self.path().join("model.onnx"), self.model.encode_to_vec()).unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.path().join("test_data_set_0").join(name)
    }

    fn node(&mut self) -> &mut proto::Node {
        &mut self.model.graph.as_mut().unwrap().node[0]
    }

    fn read(&self) -> Mapped {
        NodeTest::read(self.path()).unwrap().mapped.unwrap()
    }

    fn outside(&self) -> String {
        NodeTest::read(self.path()).unwrap().mapped.unwrap_err().to_string()
    }

    /// The complaint: one line with each of `words`.
    fn complains(&self, words: &[&str]) {
        let complaint = NodeTest::read(self.path()).unwrap_err().to_string();
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        for word in words {
            assert!(complaint.contains(word), "no '{word}' in: {complaint}");
        }
    }
}

fn problem(op: &str, attributes: &[proto::Attribute], inputs: &[Data], outputs: &[Data]) -> String {
    let mapped = Written::new(op, attributes, inputs, outputs).read();
    assert_eq!(mapped.parts.len(), 1);
    mapped.parts[0].problem.to_string()
}

#[test]
fn point_wise_operators_become_activations() {
    let [x, y] = ["x", "y"].map(|name| some(name, &[2, 3]));
    for (op, attributes, expected) in [
        ("Gelu", vec![], "gelu f32 shape=2x3"),
        ("Gelu", vec![text("approximate", "none")], "gelu f32 shape=2x3"),
        ("Gelu", vec![text("approximate", "tanh")], "gelu_tanh f32 shape=2x3"),
        ("Swish", vec![], "swish f32 shape=2x3"),
        ("Swish", vec![number("alpha", 1.5)], "swish f32 shape=2x3 beta=1.5"),
        ("Sigmoid", vec![], "sigmoid f32 shape=2x3"),
        ("Tanh", vec![], "tanh f32 shape=2x3"),
        ("Relu", vec![], "relu f32 shape=2x3"),
        ("LeakyRelu", vec![], "leaky_relu f32 shape=2x3"),
        ("LeakyRelu", vec![number("alpha", 0.5)], "leaky_relu f32 shape=2x3 slope=0.5"),
        ("Elu", vec![number("alpha", 2.0)], "elu f32 shape=2x3 alpha=2"),
        ("Softplus", vec![], "softplus f32 shape=2x3"),
        ("Mish", vec![], "mish f32 shape=2x3"),
        ("HardSwish", vec![], "hard_swish f32 shape=2x3"),
        ("Erf", vec![], "erf f32 shape=2x3"),
        ("Exp", vec![], "exp f32 shape=2x3"),
    ] {
        let inputs = std::slice::from_ref(&x);
        assert_eq!(problem(op, &attributes, inputs, std::slice::from_ref(&y)), expected);
    }
}

#[test]
fn axes_are_counted_from_either_end() {
    let [x, y] = ["x", "y"].map(|name| some(name, &[2, 3, 4]));
    let [w, b] = ["w", "b"].map(|name| some(name, &[3, 4]));
    let xs = std::slice::from_ref(&x);
    let ys = std::slice::from_ref(&y);
    assert_eq!(problem("Softmax", &[], xs, ys), "softmax f32 shape=2x3x4");
    assert_eq!(problem("LogSoftmax", &[integer("axis", 1)], xs, ys), "log_softmax f32 shape=2x3x4 axis=-2");
    for axis in [1, -2] {
        let axis = [integer("axis", axis), number("epsilon", 0.5)];
        let layer = problem("LayerNormalization", &axis, &[x.clone(), w.clone(), b.clone()], ys);
        assert_eq!(layer, "layer_norm f32 shape=2x3x4 axes=2 eps=0.5");
        // The axes normalized together become one.
        let rms = problem("RMSNormalization", &axis, &[x.clone(), w.clone()], ys);
        assert_eq!(rms, "rms_norm f32 shape=2x12 eps=0.5");
    }
    let layer = [x.clone(), some("w", &[4])];
    assert_eq!(problem("LayerNormalization", &[], &layer, ys), "layer_norm f32 shape=2x3x4 bias=false");
    Written::new("Softmax", &[integer("axis", 3)], xs, ys).complains(&[
        "model.onnx",
        "axis 3",
        "3 dimensions",
    ]);
}

#[test]
fn parameters_are_repeated_to_the_axes_they_scale() {
    let [x, y] = ["x", "y"].map(|name| some(name, &[2, 2]));
    let inputs = [x, floats("w", &[1], [3.0])];
    let mapped = Written::new("LayerNormalization", &[], &inputs, &[y]).read();
    assert_eq!(mapped.parts[0].inputs.slice::<f32>("weight").unwrap(), [3.0, 3.0]);
}

#[test]
fn the_running_variance_is_made_unbiased() {
    let x = floats("x", &[2, 1], [1.0, 5.0]);
    let one = |name, value| floats(name, &[1], [value]);
    // The batch has mean 3 and population variance 4: 0.75·1 + 0.25·4 = 1.75. Unbiased it is 8.
    let inputs = [x.clone(), one("s", 1.0), one("b", 0.0), one("m", 0.0), one("v", 1.0)];
    let outputs = [Data { name: "y", ..x }, one("mean", 0.75), one("var", 1.75)];
    let attributes = [integer("training_mode", 1), number("momentum", 0.75)];
    let mapped = Written::new("BatchNormalization", &attributes, &inputs, &outputs).read();
    let part = &mapped.parts[0];
    assert_eq!(part.problem.to_string(), "batch_norm f32 shape=2x1 momentum=0.25");
    let claims: Vec<_> = part.wanted.iter().map(|wanted| (wanted.result, wanted.output.as_str())).collect();
    assert_eq!(claims, [("out", "y"), ("running_mean", "mean"), ("running_var", "var")]);
    assert_eq!(part.wanted[2].values, [0.75 + 0.25 * 8.0]);
    let inference = Written::new("BatchNormalization", &[], &inputs, &outputs[..1]).read();
    assert!(inference.parts[0].problem.to_string().contains("mode=infer"));
}

#[test]
fn heads_are_split_off_and_the_past_goes_first() {
    let heads = [integer("q_num_heads", 4), integer("kv_num_heads", 2), integer("is_causal", 1)];
    let number_off = |name, dims: &[i64], from: usize| {
        floats(name, dims, (from..).take(dims.iter().product::<i64>() as usize).map(|i| i as f32))
    };
    let q = number_off("q", &[1, 2, 4], 0); // four heads of one feature
    let k = number_off("k", &[1, 2, 2], 100);
    let absent = Data { name: "", ..q.clone() };
    let past = number_off("pk", &[1, 2, 1, 1], 200);
    let inputs = [q, k.clone(), Data { name: "v", ..k }, absent, past.clone(), Data { name: "pv", ..past }];
    let present = floats("present", &[1, 2, 3, 1], [200.0, 100.0, 102.0, 201.0, 101.0, 103.0]);
    let y = number_off("y", &[1, 2, 4], 0);
    let mapped = Written::new("Attention", &heads, &inputs, &[y.clone(), present.clone()]).read();
    let part = &mapped.parts[0];
    assert_eq!(part.problem.to_string(), "attention f32 h=4 hkv=2 lq=2 lk=3 d=1 causal=bottom_right");
    assert_eq!(part.inputs.slice::<f32>("q").unwrap(), [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    assert_eq!(part.inputs.slice::<f32>("k").unwrap(), [200.0, 100.0, 102.0, 201.0, 101.0, 103.0]);
    assert_eq!(part.wanted[0].values, [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    // What it hands back has to be that.
    let mut other = present;
    other.raw[0] ^= 1;
    let wrong = Written::new("Attention", &heads, &inputs, &[y, other]);
    wrong.complains(&["output_1.pb", "'present'", "past"]);
}

#[test]
fn attention_says_what_its_attributes_say() {
    let [q, y] = ["q", "y"].map(|name| some(name, &[1, 2, 3, 4]));
    let [k, v] = ["k", "v"].map(|name| some(name, &[1, 2, 5, 4]));
    let mask = some("mask", &[3, 5]);
    let scores = some("scores", &[1, 2, 3, 5]);
    let attributes = [integer("is_causal", 1), number("scale", 0.25), number("softcap", 2.0)];
    let plain = [q.clone(), k.clone(), v.clone()];
    assert_eq!(
        problem("Attention", &attributes, &plain, std::slice::from_ref(&y)),
        "attention f32 h=2 lq=3 lk=5 d=4 scale=0.25 causal=top_left softcap=2"
    );
    let masked = [q.clone(), k.clone(), v.clone(), mask.clone()];
    let absent = |name| Data { name: "", ..some(name, &[0]) };
    let outputs = [y.clone(), absent(""), absent(""), scores];
    let mapped = Written::new("Attention", &[integer("qk_matmul_output_mode", 3)], &masked, &outputs).read();
    assert_eq!(mapped.parts[0].problem.to_string(), "attention f32 h=2 lq=3 lk=5 d=4 mask=float:11qk");
    assert_eq!(mapped.unjudged, ["scores"]);
    let precise = Written::new("Attention", &[integer("softmax_precision", 11)], &plain, &[y]);
    assert!(precise.outside().contains("softmax_precision"));
}

/// Beside a mask, or where neither of our alignments is meant, hiding goes through the mask.
#[test]
fn what_hides_keys_beside_a_mask_goes_into_it() {
    let [q, y] = ["q", "y"].map(|name| some(name, &[2, 1, 2, 4]));
    let [k, v] = ["k", "v"].map(|name| some(name, &[2, 1, 3, 4]));
    let past = some("past", &[2, 1, 1, 4]);
    let absent = || Data { name: "", ..some("", &[0]) };
    // One key of the past and three new ones for two queries: query 0 sees keys 0 and 1.
    let inputs = [q.clone(), k.clone(), v.clone(), absent(), past.clone(), Data { name: "pv", ..past }];
    let causal =
        Written::new("Attention", &[integer("is_causal", 1)], &inputs, std::slice::from_ref(&y)).read();
    let part = &causal.parts[0];
    assert!(part.problem.to_string().ends_with("lk=4 d=4 mask=bool:11qk"), "{}", part.problem);
    assert_eq!(part.inputs.get("mask").unwrap().bytes(), [1, 1, 0, 0, 1, 1, 1, 0]);

    // Lengths 1 and 2, and a mask that does not reach the last key.
    let mask = floats("mask", &[2, 2], [0.0, 1.0, 2.0, 3.0]);
    let lengths = integers("lengths", &[2], &[1, 2]);
    let inputs = [q.clone(), k.clone(), v.clone(), mask, absent(), absent(), lengths.clone()];
    let padded = Written::new("Attention", &[], &inputs, std::slice::from_ref(&y)).read();
    let part = &padded.parts[0];
    assert!(part.problem.to_string().ends_with("lk=3 d=4 mask=float:b1qk"), "{}", part.problem);
    let no = f32::NEG_INFINITY;
    let expected = [0.0, no, no, 2.0, no, no, 0.0, 1.0, no, 2.0, 3.0, no];
    assert_eq!(part.inputs.slice::<f32>("mask").unwrap(), expected);

    for (lengths, words) in [
        (integers("lengths", &[1], &[1]), ["input_4.pb", "'lengths'", "[1]", "[2]"]),
        (integers("lengths", &[2], &[1, 4]), ["input_4.pb", "'lengths'", "4 of 3", "keys"]),
    ] {
        let mut inputs = inputs.clone();
        inputs[6] = lengths;
        Written::new("Attention", &[], &inputs, std::slice::from_ref(&y)).complains(&words);
    }

    let inputs = [q, k, v, absent(), absent(), absent(), lengths];
    assert!(problem("Attention", &[], &inputs, &[y]).ends_with("mask=padding"));
}

/// Caches that are cosines and sines, and such that are not: one definition.
#[test]
fn rotary_embedding_is_posed_by_position() {
    let x: Vec<f32> = (0..2 * 3 * 4).map(|i| (i as f32 * 0.7).sin()).collect();
    for (interleaved, stretch) in [(false, 1.0), (true, 1.0), (false, 0.3), (true, 1.4)] {
        // Two heads, three positions, two pairs.
        let angle = |position: usize, pair: usize| position as f32 * [1.0, 0.01][pair];
        let caches: Vec<(f32, f32)> = (0..3)
            .flat_map(|position| (0..2).map(move |pair| (position, pair)))
            .map(|(position, pair)| {
                (stretch * angle(position, pair).cos(), stretch * angle(position, pair).sin())
            })
            .collect();
        let ids = [2, 0, 1];
        let mut y = x.clone();
        for (head, position, pair) in (0..12).map(|n| (n / 6, n / 2 % 3, n % 2)) {
            let (c, s) = caches[ids[position] * 2 + pair];
            let row = (head * 3 + position) * 4;
            let (first, second) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + 2) };
            y[row + first] = c * x[row + first] - s * x[row + second];
            y[row + second] = s * x[row + first] + c * x[row + second];
        }
        let ids: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
        let inputs = [
            floats("x", &[1, 2, 3, 4], x.clone()),
            floats("cos", &[3, 2], caches.iter().map(|cache| cache.0)),
            floats("sin", &[3, 2], caches.iter().map(|cache| cache.1)),
            integers("ids", &[1, 3], &ids),
        ];
        let attributes = [integer("interleaved", i64::from(interleaved))];
        let outputs = [floats("y", &[1, 2, 3, 4], y)];
        let mapped = Written::new("RotaryEmbedding", &attributes, &inputs, &outputs).read();
        assert_eq!(mapped.parts.len(), 3);
        assert_eq!(Posed::new(mapped).oracle, None, "interleaved {interleaved}, stretched by {stretch}");
        let mut short = inputs.clone();
        short[3] = integers("ids", &[1, 3], &[0, 3, 1]);
        let short = Written::new("RotaryEmbedding", &attributes, &short, &outputs);
        short.complains(&["input_3.pb", "'ids'", "3 positions"]);
    }
}

#[test]
fn what_is_not_ours_is_declined_with_the_reason() {
    let [x, y] = ["x", "y"].map(|name| some(name, &[2, 3]));
    let relu = || Written::new("Relu", &[], std::slice::from_ref(&x), std::slice::from_ref(&y));
    assert_eq!(Written::new("Abs", &[], std::slice::from_ref(&x), &[]).outside(), "the operator is not ours");
    let mut two = relu();
    let node = two.node().clone();
    two.model.graph.as_mut().unwrap().node.push(node);
    two.save();
    assert_eq!(two.outside(), "a graph of 2 nodes");
    let mut unknown = relu();
    unknown.node().attribute.push(number("slope", 1.0));
    unknown.save();
    assert!(unknown.outside().contains("'slope' of Relu"));
    let mut old = Written::new("Softmax", &[], std::slice::from_ref(&x), std::slice::from_ref(&y));
    old.model.opset_import[0].version = 12;
    old.save();
    assert!(old.outside().contains("Softmax before version 13"));
    let mut elsewhere = relu();
    elsewhere.node().domain = "com.example".into();
    elsewhere.save();
    assert_eq!(elsewhere.outside(), "the operator is not ours");
    let [double, result] =
        ["x", "y"].map(|name| Data { name, data_type: 11, dims: vec![1], raw: vec![0; 8] });
    assert_eq!(Written::new("Relu", &[], &[double], &[result]).outside(), "tensors of DOUBLE");
    let eps = [number("epsilon", -1.0)];
    let norm =
        Written::new("LayerNormalization", &eps, &[x.clone(), some("w", &[3])], std::slice::from_ref(&y));
    assert!(norm.outside().contains("eps=-1"));
}

#[test]
fn damaged_tests_are_named_with_file_and_tensor() {
    let [x, y] = ["x", "y"].map(|name| some(name, &[2, 3]));
    let relu = || Written::new("Relu", &[], std::slice::from_ref(&x), std::slice::from_ref(&y));
    let empty = TempDir::new().unwrap();
    let none = directories(empty.path()).unwrap_err().to_string();
    assert!(none.contains("no ONNX node test") && none.contains(&empty.path().display().to_string()));

    let truncated = relu();
    let whole = std::fs::read(truncated.path().join("model.onnx")).unwrap();
    for len in 0..whole.len() {
        std::fs::write(truncated.path().join("model.onnx"), &whole[..len]).unwrap();
        truncated.complains(&["model.onnx"]);
    }
    let truncated = relu();
    let whole = std::fs::read(truncated.file("input_0.pb")).unwrap();
    for len in 0..whole.len() {
        std::fs::write(truncated.file("input_0.pb"), &whole[..len]).unwrap();
        truncated.complains(&["input_0.pb"]);
    }
    let missing = relu();
    std::fs::remove_file(missing.file("output_0.pb")).unwrap();
    missing.complains(&["output_0.pb", "No such file"]);

    let mut other = relu();
    other.model.graph.as_mut().unwrap().input[0]
        .r#type
        .as_mut()
        .unwrap()
        .tensor_type
        .as_mut()
        .unwrap()
        .elem_type = 10;
    other.save();
    other.complains(&["input_0.pb", "'x'", "FLOAT", "FLOAT16"]);
    let mut other = relu();
    let declared = other.model.graph.as_mut().unwrap().output[0].r#type.as_mut().unwrap();
    let shape = declared.tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    shape.dim[1].dim_value = Some(4);
    other.save();
    other.complains(&["output_0.pb", "'y'", "[2, 3]", "[2, 4]"]);

    let short = Data { raw: vec![0; 20], ..x.clone() };
    let short = Written::new("Relu", &[], &[short], std::slice::from_ref(&y));
    short.complains(&["input_0.pb", "'x'", "[2, 3]", "20 bytes"]);
    let huge = Data { dims: vec![i64::MAX, i64::MAX], ..x.clone() };
    Written::new("Relu", &[], &[huge], std::slice::from_ref(&y)).complains(&["input_0.pb", "'x'"]);
    let wide = Written::new("Relu", &[], std::slice::from_ref(&x), &[some("y", &[2, 4])]);
    wide.complains(&["output_0.pb", "'y'", "[2, 4]", "[2, 3]"]);
    let half = Data { name: "y", data_type: 10, dims: vec![2, 3], raw: vec![0; 12] };
    let half = Written::new("Relu", &[], std::slice::from_ref(&x), &[half]);
    half.complains(&["output_0.pb", "'y'", "f16", "f32"]);
    let weight =
        Written::new("LayerNormalization", &[], &[x.clone(), some("w", &[4])], std::slice::from_ref(&y));
    weight.complains(&["input_1.pb", "'w'", "[4]", "[3]"]);
    let keys = [some("q", &[1, 1, 2, 4]), some("k", &[1, 1, 2, 3]), some("v", &[1, 1, 2, 4])];
    let keys = Written::new("Attention", &[], &keys, &[some("y", &[1, 1, 2, 4])]);
    keys.complains(&["input_1.pb", "'k'", "[1, 1, 2, 3]", "[1, 1, 2, 4]"]);
    let mut typed = relu();
    typed.node().op_type = "Elu".into();
    typed.node().attribute.push(integer("alpha", 1));
    typed.save();
    typed.complains(&["model.onnx", "'alpha'"]);
    let mut nameless = relu();
    nameless.node().input[0] = "z".into();
    nameless.save();
    nameless.complains(&["model.onnx", "'z'"]);
}

/// Both judges are heard: a result within its bound that is not ONNX's fails, and so does the oracle.
#[test]
fn an_answer_that_is_not_onnxs_fails() {
    let registry = Registry::standard(1);
    let naive = registry.find(BackendId::new("naive").as_str()).unwrap();
    let known = KnownIssues::built_in().unwrap();
    let x = floats("x", &[4], [-1.0, 0.5, 2.0, 3.0]);
    let verdict = |y: [f32; 4]| {
        let test = Written::new("Relu", &[], std::slice::from_ref(&x), &[floats("y", &[4], y)]);
        let posed = Posed::new(test.read());
        let (status, why) = posed.judge(naive.as_ref(), &known).verdict();
        assert_eq!(status == Status::Failed, posed.oracle.is_some());
        (status, why)
    };
    assert_eq!(verdict([0.0, 0.5, 2.0, 3.0]).0, Status::Passed);
    assert_eq!(verdict([0.9e-7, 0.500_499, 2.0, 3.0]).0, Status::Passed);
    for wrong in [
        [1.1e-7, 0.5, 2.0, 3.0],
        [0.0, 0.500_51, 2.0, 3.0],
        [0.0, 0.5, f32::NAN, 3.0],
        [0.0, 0.5, 2.0, f32::INFINITY],
        [0.0, 0.5, 2.0, f32::NEG_INFINITY],
    ] {
        let (status, why) = verdict(wrong);
        assert_eq!(status, Status::Failed, "{wrong:?}");
        assert!(why.contains("1 of 4 elements of y"), "{why}");
    }
    let infinite = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let test = Written::new(
        "Exp",
        &[],
        &[floats("x", &[3], infinite)],
        &[floats("y", &[3], [f32::NAN, f32::INFINITY, 0.0])],
    );
    let posed = Posed::new(test.read());
    assert!(posed.mapped.parts[0].problem.op.is::<touchstone_kernels::op::Activation>());
    assert_eq!(posed.judge(naive.as_ref(), &known).verdict().0, Status::Passed);
}
