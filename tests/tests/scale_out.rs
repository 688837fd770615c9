//! A run in shards is the same run, and the worked examples in `examples/scale-out/` do what they say:
//! their commands are run here as they stand there.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

mod touchstone;

use std::path::{Path, PathBuf};
use std::process::Command;

use touchstone::{directory, prints, program};
use yaml_rust2::{Yaml, YamlLoader};

const SUITE: &str = r#"
[[case]]
op = ["softmax", "gelu", "rms_norm", "silu", "layer_norm"]
dtype = ["f32", "f16", "bf16"]
shape = ["3x7", "2x130"]
"#;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scale-out").join(name).canonicalize().unwrap()
}

fn yaml(name: &str) -> Yaml {
    let text = std::fs::read_to_string(example(name)).unwrap();
    let mut documents = YamlLoader::load_from_str(&text).unwrap();
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// The lines of the report of some runs, as a set: the order of rows within a table is that of the runs.
fn report(here: &Path, runs: &[String]) -> Vec<String> {
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let text = prints(here, &[&["report"], &runs[..], &["--format", "markdown"]].concat());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What every row says, but for its run and its times of day.
fn rows(here: &Path, runs: &[String]) -> Vec<String> {
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let text = prints(here, &[&["report"], &runs[..], &["--format", "json"]].concat());
    let mut rows: Vec<String> = text
        .lines()
        .map(|line| {
            let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
            let row = row.as_object_mut().unwrap();
            row.remove("run_id");
            row.remove("time");
            serde_json::to_string(row).unwrap()
        })
        .collect();
    rows.sort();
    rows
}

/// A directory with a suite, and a whole run of it.
fn with_whole_run() -> tempfile::TempDir {
    let here = directory();
    std::fs::write(here.path().join("own.toml"), SUITE).unwrap();
    prints(
        here.path(),
        &["check", "--suite", "own.toml", "--backend", "naive,simd", "--threads", "1", "--out", "whole"],
    );
    here
}

fn is_the_whole(here: &Path, shards: &[String]) {
    let whole = ["whole".to_owned()];
    let count = rows(here, &whole).len();
    assert_eq!(count, 60);
    assert_eq!(rows(here, shards), rows(here, &whole));
    assert_eq!(report(here, shards), report(here, &whole));
}

#[test]
fn eight_shards_make_the_report_of_one_run() {
    let here = with_whole_run();
    let shards: Vec<String> = (1..=8).map(|k| format!("shards/{k}")).collect();
    for (k, out) in shards.iter().enumerate() {
        let shard = format!("{}/8", k + 1);
        #[rustfmt::skip]
        prints(here.path(), &["check", "--suite", "own.toml", "--backend", "naive,simd", "--threads", "1", "--shard", &shard, "--out", out]);
    }
    is_the_whole(here.path(), &shards);
    // In any order.
    let backwards: Vec<String> = shards.into_iter().rev().collect();
    is_the_whole(here.path(), &backwards);
}

/// Makes `touchstone` the command under test, in a directory of its own.
fn bin(here: &Path) -> PathBuf {
    let bin = here.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_touchstone-under-test"), bin.join("touchstone")).unwrap();
    bin
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn path_with(bin: &Path) -> String {
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn the_slurm_array_does_each_case_once() {
    let here = with_whole_run();
    let bin = bin(here.path());
    let script = example("slurm-array.sh");
    succeeds(Command::new("bash").arg("-n").arg(&script));
    // An array that does not begin at 1, each task twice, as if it had been put back.
    for task in [5, 6, 7, 8, 7] {
        let mut command = program("bash", here.path());
        command.arg(&script).args([
            "check",
            "--suite",
            "own.toml",
            "--backend",
            "naive,simd",
            "--threads",
            "1",
        ]);
        let numbers = [("ID", task), ("MIN", 5), ("COUNT", 4)];
        command.envs(numbers.map(|(name, n)| (format!("SLURM_ARRAY_TASK_{name}"), n.to_string())));
        succeeds(command.env("RUN", here.path().join("shards")).env("PATH", path_with(&bin)));
    }
    let shards: Vec<String> = (1..=4).map(|k| format!("shards/{k}")).collect();
    is_the_whole(here.path(), &shards);
    // Outside of an array it says so and does nothing.
    let output = program("bash", here.path()).arg(&script).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("sbatch"));
}

#[test]
fn the_kubernetes_job_does_each_case_once() {
    let here = with_whole_run();
    let bin = bin(here.path());
    let job = yaml("kubernetes-job.yaml");
    assert_eq!((job["apiVersion"].as_str(), job["kind"].as_str()), (Some("batch/v1"), Some("Job")));
    assert!(job["metadata"]["name"].as_str().is_some());
    let spec = &job["spec"];
    assert_eq!(spec["completionMode"].as_str(), Some("Indexed"));
    let pods = spec["completions"].as_i64().unwrap();
    assert!(spec["parallelism"].as_i64().is_some_and(|n| n <= pods));
    let pod = &spec["template"]["spec"];
    // A Job takes no other policy but Never.
    assert_eq!(pod["restartPolicy"].as_str(), Some("OnFailure"));
    let container = &pod["containers"][0];
    assert!(container["image"].as_str().is_some());
    let claimed = pod["volumes"][0]["name"].as_str();
    assert!(claimed.is_some() && container["volumeMounts"][0]["name"].as_str() == claimed);
    let words = |yaml: &Yaml| -> Vec<String> {
        yaml.as_vec().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let variables = container["env"].as_vec().unwrap().iter();
    let variables: Vec<(&str, &str)> =
        variables.map(|v| (v["name"].as_str().unwrap(), v["value"].as_str().unwrap())).collect();
    assert!(variables.contains(&("SHARDS", pods.to_string().as_str())), "{variables:?}");
    let command = words(&container["command"]);
    let arguments = words(&container["args"]);
    assert!(arguments[0].contains("touchstone bench --suite standard"), "{arguments:?}");
    let arguments = arguments[0]
        .replace("bench --suite standard", "check --suite own.toml --backend naive,simd --threads 1");
    for index in 0..pods {
        let mut pod = program(&command[0], here.path());
        pod.args(&command[1..]).arg(&arguments).envs(variables.iter().copied());
        pod.env("JOB_COMPLETION_INDEX", index.to_string());
        succeeds(pod.env("RUN", here.path().join("shards")).env("PATH", path_with(&bin)));
    }
    let shards: Vec<String> = (0..pods).map(|k| format!("shards/{k}")).collect();
    is_the_whole(here.path(), &shards);
}

#[test]
fn the_matrix_does_each_case_once_and_merges() {
    let here = with_whole_run();
    let workflow = yaml("github-matrix.yml");
    let jobs = &workflow["jobs"];
    let step = |job: &str| -> String {
        let steps = jobs[job]["steps"].as_vec().unwrap();
        let run = steps.iter().find_map(|step| step["run"].as_str()).unwrap();
        run.replace("--suite smoke,standard", "--suite own.toml --backend naive,simd --threads 1")
            .replace("chmod +x", "test -x")
    };
    std::fs::copy(env!("CARGO_BIN_EXE_touchstone-under-test"), here.path().join("touchstone")).unwrap();
    let bash = |script: &str, shard: &str| {
        let mut command = program("bash", here.path());
        command.args(["-euo", "pipefail", "-c", script]).env("SHARD", shard);
        succeeds(command.env("GITHUB_STEP_SUMMARY", here.path().join("summary.md")));
    };
    let shards = jobs["check"]["strategy"]["matrix"]["shard"].as_vec().unwrap();
    let shards: Vec<String> = shards.iter().map(|shard| shard.as_i64().unwrap().to_string()).collect();
    assert_eq!(shards, (1..=8).map(|k| k.to_string()).collect::<Vec<_>>());
    for shard in &shards {
        bash(&step("check"), shard);
    }
    bash(&step("report"), "");
    let summary = std::fs::read_to_string(here.path().join("summary.md")).unwrap();
    assert!(summary.contains("60 verdicts"), "{summary}");
    assert!(here.path().join("report.html").is_file());
    is_the_whole(here.path(), &shards.iter().map(|k| format!("shards/{k}")).collect::<Vec<_>>());
}
