//! Bad input to every command: one clear line on standard error, exit status 1, nothing on
//! standard output, and nothing overwritten.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::collections::HashMap;
use std::path::Path;

use prost::Message;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use touchstone::{directory, prints, run};

/// Softmax over one small row: quick wherever it gets through.
const CASE: &str = "softmax f32 shape=2x3";

/// The command refuses, and its complaint holds each of `words`.
fn refuses(directory: &Path, arguments: &[&str], words: &[&str]) {
    let output = run(directory, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    let complaints: Vec<&str> = stderr.lines().filter(|line| line.starts_with("touchstone: ")).collect();
    assert!(
        complaints.len() == 1 && stderr.ends_with(&format!("{}\n", complaints[0])),
        "{arguments:?}: {stderr}"
    );
    for word in words {
        assert!(complaints[0].contains(word), "{arguments:?}: no '{word}' in: {}", complaints[0]);
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

#[test]
fn unknown_backends_are_refused_by_every_command_that_takes_one() {
    let here = directory();
    capture(here.path(), "capture.safetensors", r#"{"op":"softmax"}"#, Dtype::F32, &[2, 3]);
    for command in
        [&["check"][..], &["bench"], &["compare"], &["repro", CASE], &["eval", "capture.safetensors"]]
    {
        let with = |name: &'static str| [command, &["--backend", name]].concat();
        refuses(here.path(), &with("cudnn"), &["no backend 'cudnn'", "naive"]);
        let absent = if cfg!(target_arch = "x86_64") { "simd/neon" } else { "simd/avx2" };
        refuses(here.path(), &with(absent), &["is not here", absent]);
        refuses(here.path(), &[command, &["--threads", "0"]].concat(), &["--threads", "1 to 1024"]);
        refuses(here.path(), &[command, &["--known-issues", "none.toml"]].concat(), &["none.toml"]);
    }
    refuses(here.path(), &["worker", "--backend", "cudnn", "--threads", "1"], &["cudnn"]);
    refuses(here.path(), &["worker", "--backend", "naive", "--threads", "0"], &["--threads", "1 to 1024"]);
    for command in [&["check", "--explore", "9"][..], &["repro", CASE], &["eval", "capture.safetensors"]] {
        refuses(here.path(), &[command, &["--threads", "1,2"]].concat(), &["--threads", "one number"]);
    }
    let reference = ["--backend", "naive", "--op", "softmax", "--reference", "simd"];
    for command in ["bench", "compare"] {
        refuses(here.path(), &[&[command][..], &reference].concat(), &["reference 'simd'", "naive"]);
    }
}

#[test]
fn bad_filters_are_refused_by_every_command_over_suites() {
    let here = directory();
    for command in ["check", "bench", "compare"] {
        let with = |arguments: &[&'static str], words: &[&str]| {
            refuses(here.path(), &[&[command][..], arguments].concat(), words);
        };
        with(&["--op", "convolution"], &["'convolution'", "attention", "gelu"]);
        with(&["--dtype", "f64"], &["'f64'", "bf16"]);
        with(&["--suite", "everything"], &["no suite 'everything'", "smoke"]);
        with(&["--suite", "none.toml"], &["none.toml"]);
        with(&["--case", "["], &["--case", "regex"]);
        with(&["--case", "no case has this text"], &["matches the filters"]);
        with(&["--op", "rope", "--case", "^softmax"], &["matches the filters"]);
        with(&["--shard", "3/2"], &["--shard", "k/n"]);
        with(&["--shard", "half"], &["--shard", "1/4"]);
        with(&["--slow"], &["--slow", "--help"]);
        with(&["--resume"], &["--out"]);
        with(&["--format", "xml"], &["'xml'", "csv"]);
    }
    refuses(here.path(), &["bench", "--suite", "smoke"], &["no timed case of smoke"]);
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn malformed_suites_are_refused_with_file_and_line() {
    let here = directory();
    write(here.path(), "syntax.toml", "description = \"own\"\n\n[[case]\nop = 1\n");
    write(here.path(), "field.toml", "\n[[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '2x3'\nscael = 2\n");
    write(
        here.path(),
        "shape.toml",
        "[[case]]\nop = 'attention'\ndtype = 'f32'\nh = 3\nhkv = 2\nlq = 4\nd = 8\n",
    );
    write(here.path(), "dtype.toml", "[[case]]\nop = 'softmax'\ndtype = 'int8'\nshape = '2x3'\n");
    write(here.path(), "empty.toml", "description = 'nothing'\n");
    write(here.path(), "binary.toml", "\u{0}\u{1}");
    write(here.path(), "known.toml", "[[issue]]\nid = 'x'\nbackend = 3\n");
    for command in ["check", "bench", "compare"] {
        for (file, words) in [
            ("syntax.toml", &["syntax.toml:3:"][..]),
            ("field.toml", &["field.toml:2:", "scael", "scale"]),
            ("shape.toml", &["shape.toml:1:", "hkv=2 does not divide h=3"]),
            ("dtype.toml", &["dtype.toml:1:", "int8"]),
            ("empty.toml", &["empty.toml", "no cases"]),
            ("binary.toml", &["binary.toml:1:"]),
        ] {
            refuses(here.path(), &[command, "--suite", file], words);
        }
        let known = ["--op", "softmax", "--known-issues", "known.toml"];
        refuses(here.path(), &[&[command][..], &known].concat(), &["known.toml:3:", "expected a string"]);
    }
}

#[test]
fn bad_cases_are_refused() {
    let here = directory();
    for (text, words) in [
        ("", &["not a problem"][..]),
        ("softmax", &["not a problem"]),
        ("soft_max f32 shape=2", &["soft_max", "softmax"]),
        ("softmax f64 shape=2", &["f64", "bf16"]),
        ("softmax f32", &["shape"]),
        ("softmax f32 shape=2x", &["shape=2x"]),
        ("softmax f32 shape=2 shape=3", &["shape", "twice"]),
        ("softmax f32 shape=2 axis=1", &["axis=1"]),
        ("softmax f32 shape=2 fill=random", &["random", "normal"]),
        ("softmax f32 shape=2 seed=-1", &["seed=-1"]),
        ("softmax f32 shape=2 temperature=1", &["temperature", "scale"]),
        ("softmax f32 shape=99999999x99999999", &["too large"]),
        ("batch_norm f32 shape=99999999999x9x99999999999", &["too large"]),
        ("attention f32 h=4 hkv=3 lq=2 d=8", &["hkv=3", "h=4"]),
        ("layer_norm f32 shape=2x3 eps=-1", &["eps=-1"]),
        ("rms_norm f32 shape=2x3 weight=false weight_offset=5", &["weight_offset"]),
        ("rope f32 h=1 l=2 d=8 rotary_dim=7", &["rotary_dim=7"]),
        ("softmax f32 shape=999999999999", &["GB of memory", "this machine has"]),
    ] {
        refuses(here.path(), &["repro", text], words);
    }
    write(here.path(), "file", "");
    refuses(here.path(), &["repro", CASE, "--backend", "naive", "--dump", "file/dir"], &["file/dir"]);
    refuses(here.path(), &["repro"], &["CASE"]);
}

/// Writes a capture with an operand `x` of zeros.
fn capture(directory: &Path, name: &str, problem: &str, dtype: Dtype, shape: &[usize]) {
    write_capture(directory, name, problem, &[("x", dtype, shape)]);
}

/// Writes a capture with tensors of zeros.
fn write_capture(directory: &Path, name: &str, problem: &str, tensors: &[(&str, Dtype, &[usize])]) {
    write_capture_from(directory, name, problem, "a test", tensors);
}

/// Writes a capture with tensors of zeros that says where it comes from.
fn write_capture_from(
    directory: &Path,
    name: &str,
    problem: &str,
    source: &str,
    tensors: &[(&str, Dtype, &[usize])],
) {
    let bytes = vec![0; 1024];
    let views = tensors.iter().map(|&(name, dtype, shape)| {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name, TensorView::new(dtype, shape.to_vec(), &bytes[..len]).unwrap())
    });
    let metadata = HashMap::from([("touchstone", "1"), ("problem", problem), ("source", source)])
        .into_iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    std::fs::write(directory.join(name), safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

#[test]
fn bad_captures_are_refused() {
    let here = directory();
    let softmax = r#"{"op":"softmax"}"#;
    capture(here.path(), "good.safetensors", softmax, Dtype::F32, &[2, 3]);
    assert!(prints(here.path(), &["eval", "good.safetensors", "--backend", "naive"]).contains("0 wrong"));

    let whole = std::fs::read(here.path().join("good.safetensors")).unwrap();
    std::fs::write(here.path().join("truncated.safetensors"), &whole[..whole.len() - 5]).unwrap();
    std::fs::write(here.path().join("header.safetensors"), &whole[..40]).unwrap();
    write(here.path(), "text.safetensors", "not tensors");
    capture(here.path(), "double.safetensors", softmax, Dtype::F64, &[2, 3]);
    capture(here.path(), "integer.safetensors", softmax, Dtype::I64, &[2, 3]);
    capture(
        here.path(),
        "weightless.safetensors",
        r#"{"op":"layer_norm","weight":true}"#,
        Dtype::F32,
        &[2, 3],
    );
    capture(here.path(), "queryless.safetensors", r#"{"op":"attention"}"#, Dtype::F32, &[1, 2, 3, 4]);
    capture(here.path(), "rank.safetensors", r#"{"op":"rope","theta":1e4}"#, Dtype::F32, &[2, 8]);
    capture(here.path(), "axis.safetensors", r#"{"op":"softmax","axis":2}"#, Dtype::F32, &[2, 3]);
    capture(here.path(), "op.safetensors", r#"{"op":"conv"}"#, Dtype::F32, &[2, 3]);
    capture(here.path(), "odd.safetensors", r#"{"op":"swiglu"}"#, Dtype::F32, &[2, 7]);
    capture(here.path(), "json.safetensors", "{op: softmax}", Dtype::F32, &[2, 3]);
    for (name, shape) in [("shape.safetensors", &[3][..]), ("wrong.safetensors", &[2, 3])] {
        let tensors = [("x", Dtype::F32, &[2, 3][..]), ("expected", Dtype::F64, shape)];
        write_capture(here.path(), name, softmax, &tensors);
    }
    for (name, expected) in [("nan", [f64::NAN; 6]), ("infinite", [0.5, f64::INFINITY, 0.5, 0.5, 0.5, 0.5])] {
        let bytes: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        let x = TensorView::new(Dtype::F32, vec![2, 3], &[0; 24]).unwrap();
        let expected = TensorView::new(Dtype::F64, vec![2, 3], &bytes).unwrap();
        let metadata =
            [("touchstone", "1"), ("problem", softmax)].map(|(k, v)| (k.to_string(), v.to_string()));
        let file = safetensors::serialize([("x", x), ("expected", expected)], Some(HashMap::from(metadata)))
            .unwrap();
        std::fs::write(here.path().join(format!("{name}.safetensors")), file).unwrap();
    }
    // Numbers of 64 bits are judged when they may be rounded.
    let rounded = ["eval", "double.safetensors", "--as", "f32", "--backend", "naive"];
    assert!(prints(here.path(), &rounded).contains("0 wrong"));
    for (file, words) in [
        ("none.safetensors", &["No such file"][..]),
        ("nan.safetensors", &["'expected' disagree"]),
        ("infinite.safetensors", &["'expected' disagree"]),
        ("truncated.safetensors", &["not a whole safetensors file"]),
        ("header.safetensors", &["not a whole safetensors file"]),
        ("text.safetensors", &["not a whole safetensors file"]),
        ("double.safetensors", &["'x'", "F64", "--as f32"]),
        ("integer.safetensors", &["x", "not floating-point"]),
        ("weightless.safetensors", &["weight"]),
        ("queryless.safetensors", &["q"]),
        ("rank.safetensors", &["'x'", "2 dimensions, expected 4"]),
        ("axis.safetensors", &["axis=2", "2 dimensions"]),
        ("op.safetensors", &["conv", "softmax"]),
        ("json.safetensors", &["metadata 'problem'"]),
        ("odd.safetensors", &["'x'", "last axis of 7"]),
        ("shape.safetensors", &["'expected'", "[3]", "[2, 3]"]),
        ("wrong.safetensors", &["'expected' disagree"]),
    ] {
        refuses(here.path(), &["eval", file], &[words, &[file]].concat());
        // A bad file does not stop the others from being judged.
        let output = run(here.path(), &["eval", "good.safetensors", file]);
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.code() == Some(1) && stdout.contains("passed"), "{file}: {stdout}{stderr}");
        assert!(
            stderr.lines().any(|line| line.starts_with("touchstone: ") && line.contains(file)),
            "{stderr}"
        );
        assert!(stderr.ends_with("touchstone: 1 file could not be judged (see above)\n"), "{stderr}");
    }
    refuses(here.path(), &["eval"], &["FILE"]);
    refuses(here.path(), &["eval", "good.safetensors", "--as", "int8"], &["int8", "bf16"]);
    let dump = ["eval", "good.safetensors", "--dump", "good.safetensors/dir"];
    refuses(here.path(), &dump, &["good.safetensors/dir"]);
}

#[test]
fn a_capture_of_rank_0_is_judged_and_refused_where_an_axis_is_needed() {
    let here = directory();
    capture(here.path(), "gelu.safetensors", r#"{"op":"gelu"}"#, Dtype::F32, &[]);
    let said = prints(here.path(), &["eval", "gelu.safetensors", "--backend", "naive,simd"]);
    assert!(said.contains("gelu f32 shape=scalar") && said.contains("2 judgements, 0 wrong"), "{said}");
    capture(here.path(), "softmax.safetensors", r#"{"op":"softmax"}"#, Dtype::F32, &[]);
    capture(here.path(), "norm.safetensors", r#"{"op":"rms_norm"}"#, Dtype::F32, &[]);
    capture(here.path(), "rope.safetensors", r#"{"op":"rope"}"#, Dtype::F32, &[]);
    for (file, words) in [
        ("softmax.safetensors", &["axis=-1", "a tensor with 0 dimensions"][..]),
        ("norm.safetensors", &["scalar"]),
        ("rope.safetensors", &["'x'", "0 dimensions, expected 4"]),
    ] {
        refuses(here.path(), &["eval", file], &[words, &[file]].concat());
    }
}

#[test]
fn a_folder_of_captures_is_read_and_no_dump_overwrites_another() {
    let here = directory();
    // Two of one name, and one whose name is what the second would be numbered.
    for (file, shape) in [("a/x", [1, 2]), ("a/x-2", [3, 4]), ("b/x", [5, 6])] {
        let file = here.path().join(format!("{file}.safetensors"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        capture(file.parent().unwrap(), name, r#"{"op":"softmax"}"#, Dtype::F32, &shape);
    }
    write(here.path(), "a/README", "what else lies there is no capture");
    let said = prints(here.path(), &["eval", "a", "b", "--backend", "naive", "--dump", "dump"]);
    assert!(said.contains("3 captures, 3 judgements, 0 wrong"), "{said}");
    for name in ["x", "x-2", "x-3"] {
        assert!(said.lines().any(|line| line == name), "{name}: {said}");
    }
    let mut sizes: Vec<Vec<usize>> = std::fs::read_dir(here.path().join("dump"))
        .unwrap()
        .map(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            SafeTensors::deserialize(&bytes).unwrap().tensor("out").unwrap().shape().to_vec()
        })
        .collect();
    sizes.sort();
    assert_eq!(sizes, [[1, 2], [3, 4], [5, 6]]);
}

/// `repro --dump` writes a capture: the operands in their own type, and the oracle's result beside them.
#[test]
fn what_repro_dumps_can_be_evaluated() {
    let here = directory();
    for case in [
        "softmax bf16 shape=2x3 axis=-2 fill=normal seed=7",
        "swiglu f16 shape=3x5 layout=gate_first seed=1",
        "layer_norm f32 shape=2x8 eps=0.001 seed=3",
        "rope f32 h=2 l=3 d=8 seed=4",
        "attention f32 b=2 h=4 hkv=2 lq=3 lk=5 d=8 mask=bool:b1qk causal=bottom_right seed=9",
        "attention f16 h=2 lq=3 lk=5 d=8 alibi=true sinks=true seed=2",
    ] {
        prints(here.path(), &["repro", case, "--backend", "naive", "--dump", "dump"]);
        let eval = ["eval", "dump/inputs.safetensors", "--backend", "naive", "--json"];
        let said: serde_json::Value = serde_json::from_str(&prints(here.path(), &eval)).unwrap();
        let capture = &said["captures"][0];
        let problem = case.split(" seed=").next().unwrap().split(" fill=").next().unwrap();
        let words =
            |text: &str| text.split(' ').map(str::to_string).collect::<std::collections::BTreeSet<_>>();
        let evaluated = words(capture["problem"].as_str().unwrap());
        assert!(words(problem).is_subset(&evaluated), "{case}: {said}");
        assert_eq!(capture["verdicts"][0]["status"], "passed", "{case}: {said}");
        assert_eq!(capture["oracle_distance"], 0.0, "{case}: {said}");
    }
}

#[test]
fn control_characters_of_a_stranger_s_file_do_not_reach_the_terminal() {
    let here = directory();
    let evil = "\u{1b}[31mred\u{1b}]0;title\u{7}\r\u{9b}2J";
    let x = [("x", Dtype::F32, &[2, 3][..])];
    write_capture_from(here.path(), "source.safetensors", r#"{"op":"softmax"}"#, evil, &x);
    let tensor = [x[0], (evil, Dtype::F64, &[1][..])];
    write_capture_from(here.path(), "tensor.safetensors", r#"{"op":"softmax"}"#, "a test", &tensor);
    let op = format!(r#"{{"op":{}}}"#, serde_json::Value::from(evil));
    write_capture_from(here.path(), "op.safetensors", &op, "a test", &x);
    for files in [
        &["source.safetensors"][..],
        &["tensor.safetensors"],
        &["op.safetensors"],
        &["source.safetensors", "tensor.safetensors", "op.safetensors"],
    ] {
        let output = run(here.path(), &[&["eval", "--backend", "naive"], files].concat());
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("[31mred"), "{files:?}: {said:?}");
        assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{files:?}: {said:?}");
    }
}

/// Writes an ONNX node test of an operator with one input and one output, both of f32.
fn write_node_test(directory: &Path, op: &str, x: &[f32], y: &[f32]) {
    use touchstone_harness::onnx::proto;
    let data = directory.join("test_data_set_0");
    std::fs::create_dir_all(&data).unwrap();
    let value = |name: &str, file: &str, values: &[f32]| {
        let dims = vec![values.len() as i64];
        let raw_data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = proto::Tensor { dims: dims.clone(), data_type: 1, name: name.into(), raw_data };
        std::fs::write(data.join(file), tensor.encode_to_vec()).unwrap();
        let dim = dims.into_iter().map(|n| proto::Dimension { dim_value: Some(n) }).collect();
        let tensor_type = proto::TensorType { elem_type: 1, shape: Some(proto::Shape { dim }) };
        let r#type = Some(proto::Type { tensor_type: Some(tensor_type) });
        vec![proto::ValueInfo { name: name.into(), r#type }]
    };
    let node = proto::Node {
        input: vec!["x".into()],
        output: vec!["y".into()],
        op_type: op.into(),
        ..Default::default()
    };
    let graph = proto::Graph {
        node: vec![node],
        input: value("x", "input_0.pb", x),
        output: value("y", "output_0.pb", y),
        ..Default::default()
    };
    let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 24 }];
    let model = proto::Model { graph: Some(graph), opset_import };
    std::fs::write(directory.join("model.onnx"), model.encode_to_vec()).unwrap();
}

#[test]
fn bad_node_tests_are_refused_and_others_are_judged() {
    let here = directory();
    let write_test = |name: &str, op: &str, y: f32| {
        write_node_test(&here.path().join(name), op, &[-1.0, 2.0, 3.0], &[0.0, 2.0, y]);
    };
    write_test("good/test_relu", "Relu", 3.0);
    write_test("good/test_abs", "Abs", 3.0);
    let eval = |path: &str| prints(here.path(), &["eval", path, "--backend", "naive,simd"]);
    let table = eval("good");
    for word in ["1 of 2 ONNX node tests", "Relu", "1/1", "an operator that is not ours", "Abs"] {
        assert!(table.contains(word), "no '{word}' in: {table}");
    }
    assert!(eval("good/test_relu").contains("the oracle agrees with ONNX"));
    let json = ["eval", "good", "--backend", "naive", "--json"];
    let json: serde_json::Value = serde_json::from_str(&prints(here.path(), &json)).unwrap();
    assert_eq!(json["onnx"]["judged"][0]["verdicts"][0]["status"], "passed");
    assert_eq!(json["onnx"]["out_of_scope"][0]["name"], "abs");

    // Nothing executed is no success, and what ONNX does not expect is wrong.
    let status = |path: &str| {
        let output = run(here.path(), &["eval", path, "--backend", "naive"]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = status("good/test_abs");
    assert!(code == Some(1) && said.contains("nothing was executed"), "{code:?}: {said}");
    write_test("wrong/test_relu", "Relu", 3.01);
    write_test("wrong/test_exp", "Relu", 3.0);
    let (code, said) = status("wrong");
    assert!(code == Some(2) && said.matches("1 of 3 elements of y").count() == 2, "{code:?}: {said}");

    std::fs::create_dir(here.path().join("empty")).unwrap();
    for name in ["truncated", "outputless", "short"] {
        write_test(name, "Relu", 3.0);
    }
    let model = std::fs::read(here.path().join("truncated/model.onnx")).unwrap();
    std::fs::write(here.path().join("truncated/model.onnx"), &model[..model.len() / 2]).unwrap();
    std::fs::remove_file(here.path().join("outputless/test_data_set_0/output_0.pb")).unwrap();
    let tensor = here.path().join("short/test_data_set_0/input_0.pb");
    let whole = std::fs::read(&tensor).unwrap();
    std::fs::write(&tensor, &whole[..whole.len() - 1]).unwrap();
    for (path, words) in [
        ("empty", &["empty", "no ONNX node test"][..]),
        ("truncated", &["truncated/model.onnx", "not a whole ONNX file"]),
        ("outputless", &["output_0.pb", "No such file"]),
        ("short", &["short/test_data_set_0/input_0.pb", "not a whole ONNX file"]),
    ] {
        // A bad test among good ones is found before anything is computed.
        refuses(here.path(), &["eval", "good", path], words);
    }
    refuses(here.path(), &["eval", "good", "--as", "f16"], &["--as f16", "good"]);
}

#[test]
fn records_that_cannot_be_kept_are_refused_and_none_is_overwritten() {
    let here = directory();
    write(here.path(), "own.toml", "[[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '2x3'\ntime = 'hot'\n");
    write(here.path(), "file", "");
    let own = ["--suite", "own.toml", "--backend", "naive", "--threads", "1"];
    prints(here.path(), &[&["check", "--out", "run"][..], &own].concat());
    let before = std::fs::read(here.path().join("run/records.csv")).unwrap();
    for command in ["check", "bench", "compare"] {
        refuses(here.path(), &[&[command, "--out", "file/run"][..], &own].concat(), &["file/run"]);
        refuses(here.path(), &[&[command, "--out", "run"][..], &own].concat(), &["run"]);
    }
    assert_eq!(std::fs::read(here.path().join("run/records.csv")).unwrap(), before);
    std::fs::write(here.path().join("run/records.csv"), "a,b\n1,2\n").unwrap();
    refuses(here.path(), &[&["check", "--resume", "--out", "run"][..], &own].concat(), &["records.csv"]);
}

#[test]
fn runs_that_cannot_be_read_are_refused() {
    let here = directory();
    write(here.path(), "own.toml", "[[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '2x3'\n");
    prints(here.path(), &["check", "--suite", "own.toml", "--backend", "naive", "--out", "run"]);
    write(here.path(), "garbage.csv", "these are, no records\n1,2\n");
    let whole = std::fs::read_to_string(here.path().join("run/records.csv")).unwrap();
    write(here.path(), "damaged.csv", &whole.replacen(",f32,", ",", 1));
    for (run, words) in
        [("none", &["none"][..]), ("garbage.csv", &["garbage.csv"]), ("damaged.csv", &["damaged.csv", "2"])]
    {
        refuses(here.path(), &["report", run], words);
        refuses(here.path(), &["report", "run", run], words);
        refuses(here.path(), &["diff", "run", run], words);
        refuses(here.path(), &["diff", run, "run"], words);
    }
    refuses(here.path(), &["report"], &["RUN"]);
    refuses(here.path(), &["diff", "run"], &["B"]);
    refuses(here.path(), &["report", "run", "--html", "own.toml/page.html"], &["page.html"]);
    refuses(here.path(), &["report", "run", "--markdown", "own.toml/page.md"], &["page.md"]);
    refuses(here.path(), &["list", "--yaml"], &["--yaml"]);
    refuses(here.path(), &["roofline", "--yaml"], &["--yaml"]);
    refuses(here.path(), &["measure"], &["measure"]);
}
