//! Devices: what is absent says why, and the launcher of the CUDA build starts nothing that does
//! not fit. Without a GPU this is what there is to test; with one, `conformance` runs its backends.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::path::Path;

use touchstone::{directory, prints, run};

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
