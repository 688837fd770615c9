//! Devices: what is absent says why, and the launcher of the CUDA build starts nothing that does
//! not fit. Without a GPU this is what there is to test; with one, `conformance` runs its backends.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::Path;

use touchstone::{directory, prints, program, run};

#[test]
fn an_absent_device_says_why() {
    let here = directory();
    let list: serde_json::Value = serde_json::from_str(&prints(here.path(), &["list", "--json"])).unwrap();
    let backends = list["backends"].as_array().unwrap();
    let reasons = ["not compiled", "no NVIDIA driver", "no device", "no CUDA", "without CUDA", "no Metal"];
    let mut devices = 0;
    for backend in backends {
        let id = backend["id"].as_str().unwrap();
        if !id.contains("cuda") && !id.contains("metal") {
            continue;
        }
        devices += 1;
        if !backend["present"].as_bool().unwrap() {
            let reason = backend["reason"].as_str().unwrap();
            assert!(reasons.iter().any(|known| reason.contains(known)), "{id}: {reason}");
            let output = run(here.path(), &["check", "--backend", id]);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(1) && stderr.contains(reason), "{id}: {stderr}");
        }
    }
    assert!(devices >= 2, "candle's devices are listed whatever was compiled: {list}");
}

/// ONNX Runtime is loaded when the program runs, so its library can be absent from any build.
#[test]
fn an_absent_library_says_what_to_do() {
    let here = directory();
    let nowhere = here.path().join("libonnxruntime.so");
    let without_library = |arguments: &[&str]| {
        touchstone::touchstone(here.path()).args(arguments).env("ORT_DYLIB_PATH", &nowhere).output().unwrap()
    };
    let list: serde_json::Value =
        serde_json::from_slice(&without_library(&["list", "--json"]).stdout).unwrap();
    let mut backends = list["backends"].as_array().unwrap().iter();
    let backend = backends.find(|backend| backend["id"] == "onnxruntime/cpu").unwrap();
    assert_eq!(backend["present"], false, "{backend}");
    let reason = backend["reason"].as_str().unwrap();
    let remedy = match cfg!(feature = "onnxruntime") {
        true => "; run scripts/setup-onnxruntime, or set ORT_DYLIB_PATH",
        false => "not compiled: run scripts/setup-onnxruntime and build with --features onnxruntime",
    };
    assert!(reason.ends_with(remedy), "{reason}");

    let output = without_library(&["check", "--backend", "onnxruntime"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains(reason), "{stderr}");
}

#[test]
fn backends_are_chosen_by_device() {
    let here = directory();
    let case = ["check", "--case", "^softmax f32 shape=3x7 ", "--format", "csv"];
    let csv = prints(here.path(), &[&case[..], &["--device", "cpu"]].concat());
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let device = rows.headers().unwrap().iter().position(|column| column == "device").unwrap();
    let devices: Vec<String> = rows.records().map(|row| row.unwrap()[device].to_string()).collect();
    assert!(!devices.is_empty() && devices.iter().all(|device| device == "cpu"), "{devices:?}");

    let output = run(here.path(), &[&case[..], &["--device", "cuda:99"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no backend chosen is on cuda:99"));
}

/// `harness/examples/own_device.rs`, built as a program of its own: all that a GPU's rows go through.
#[test]
fn rows_of_a_device_carry_its_clock_and_limits() {
    let here = directory();
    let own_device = |arguments: &[&str]| {
        let output = program(env!("CARGO_BIN_EXE_own-device-under-test"), here.path())
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::write(
        here.path().join("own.toml"),
        "description = \"a small and a large one\"\n\n[[case]]\nop = \"relu\"\ndtype = \"f32\"\n\
         each = [\"shape=4\", \"shape=8388608\"]\ntime = [\"hot\", \"cold\"]\n",
    )
    .unwrap();
    let csv = own_device(&[
        "bench",
        "--suite",
        "own.toml",
        "--backend",
        "thread,naive",
        "--device",
        "thread:0,cpu",
        "--slices",
        "5",
        "--reference",
        "naive",
        "--threads",
        "1",
        "--format",
        "csv",
    ]);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let columns = rows.headers().unwrap().clone();
    let mut seen = Vec::new();
    for row in rows.records().map(|row| row.unwrap()) {
        let cell = |name: &str| row[columns.iter().position(|column| column == name).unwrap()].to_string();
        let waiting: Option<f64> = cell("waiting_percent").parse().ok();
        let large = cell("problem").contains("8388608");
        if !large && cell("cache") == "cold" {
            assert_eq!(cell("status"), "unsupported", "{row:?}");
            assert!(cell("reason").starts_with("too small to be timed cold"), "{row:?}");
            continue;
        }
        assert_eq!(cell("status"), "passed", "{row:?}");
        if cell("backend") == "naive" {
            assert_eq!((cell("method"), cell("device"), waiting), ("wall".into(), "cpu".into(), None));
            continue;
        }
        assert_eq!((cell("method"), cell("device")), ("device".into(), "thread:0".into()));
        let limit = cell("roofline_limit");
        // 64 MiB may lie in a cache, and eight copies of them cannot.
        let beyond_caches = large && cell("cache") == "cold";
        assert_eq!(limit, if beyond_caches { "thread:0 copy" } else { "" }, "{row:?}");
        // On a busy machine the host may be late; it is never what 64 MiB wait for.
        assert!(!large || waiting.is_some_and(|percent| percent > 10.0), "{row:?}");
        assert_eq!(cell("reason").starts_with("launch-bound"), waiting.is_some_and(|percent| percent < 10.0));
        seen.push((large, cell("cache")));
    }
    assert_eq!(seen.len(), 3, "{csv}");

    let limits: serde_json::Value = serde_json::from_str(&own_device(&["roofline", "--json"])).unwrap();
    assert_eq!(limits["devices"][0]["device"], "thread:0");
    assert!(limits["devices"][0]["copy_gb_s"].as_f64().unwrap() > 0.0);
}

#[cfg(target_os = "linux")]
mod launcher {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cuda-launcher");

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the launcher of a bundle with a libtorch: whether it started, and what was said.
    fn launch(bundle: &Path, libtorch: &Path) -> (bool, String) {
        let mut command = Command::new(bundle.join("touchstone"));
        command.arg("list").env("LIBTORCH", libtorch).env_remove("CUDA_HOME");
        let output = command.output().unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    #[test]
    fn starts_nothing_that_does_not_fit() {
        let here = directory();
        let (bundle, torch) = (here.path().join("bundle"), here.path().join("site-packages/torch"));
        fs::create_dir_all(&bundle).unwrap();
        fs::copy(LAUNCHER, bundle.join("touchstone")).unwrap();
        let refuses = |words: &[&str]| {
            let (started, said) = launch(&bundle, &torch);
            assert!(!started && said.starts_with("touchstone: "), "{said}");
            assert!(words.iter().all(|word| said.contains(word)), "{words:?} in: {said}");
        };
        refuses(&["touchstone.bin is missing"]);

        let program = bundle.join("touchstone.bin");
        file(&program, "#!/bin/sh\necho \"$LD_LIBRARY_PATH\" \"$@\"\n");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        refuses(&["has no lib/libtorch_cpu.so"]);

        file(&torch.join("lib/libtorch_cpu.so"), "");
        file(&torch.join("version.py"), "__version__ = '2.12.0+cu130'\n");
        refuses(&["2.12.0+cu130", "expected 2.11.0"]);
        file(&torch.join("version.py"), "__version__ = '2.11.0+cu126'\n");
        refuses(&["2.11.0+cu126", "CUDA 13"]);

        file(&torch.join("version.py"), "__version__ = '2.11.0+cu130'\n");
        file(&torch.join("../nvidia/cu13/lib/libcublas.so.13"), "");
        let (started, said) = launch(&bundle, &torch);
        assert!(started && said.trim_end().ends_with(" list"), "{said}");
        assert!(said.contains("site-packages/torch/lib:") && said.contains("nvidia/cu13/lib"), "{said}");
    }
}
