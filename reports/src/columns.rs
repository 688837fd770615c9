//! The columns of `records.csv`, described for readers of the file.

use serde_json::{Map, Value, json};

use crate::record::SCHEMA_VERSION;
use crate::status::Status;

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text; may be empty.
    Text,
    /// A non-negative integer of up to 64 bits.
    Integer,
    /// A floating-point number, `NaN`, `inf` or `-inf`.
    Number,
    /// `true` or `false`.
    Flag,
    /// A word of [`Status`].
    Status,
}

impl Kind {
    /// The kind in words, for error messages.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "a non-negative integer",
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::Status => "passed, failed, suspect, unsupported, known, error or timeout",
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the header.
    pub name: &'static str,
    /// What its cells hold.
    pub kind: Kind,
    /// Whether a cell may be empty. Text always may.
    pub optional: bool,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

const fn column(name: &'static str, kind: Kind, optional: bool, meaning: &'static str) -> Column {
    Column { name, kind, optional, meaning }
}

/// All columns, in order. A new version of the schema adds columns at the end.
pub const COLUMNS: [Column; 76] = [
    column("schema", Kind::Integer, false, "Version of this schema."),
    column(
        "run_id",
        Kind::Text,
        false,
        "Names the run: the same in every row of one invocation, resumed or sharded.",
    ),
    column("time", Kind::Text, false, "When the row was finished: RFC 3339 in UTC, 2026-01-31T12:00:00Z."),
    column("git_revision", Kind::Text, false, "Git revision of the harness that wrote the row."),
    column("git_dirty", Kind::Flag, false, "Whether that revision had uncommitted changes."),
    column("rustc", Kind::Text, false, "Version of the compiler."),
    column("target_features", Kind::Text, false, "CPU features the binary was compiled for."),
    column("suite", Kind::Text, false, "Suite the case came from."),
    column(
        "problem",
        Kind::Text,
        false,
        "Canonical problem text, such as softmax f32 shape=4096x1024 axis=-1.",
    ),
    column("family", Kind::Text, false, "attention, softmax, norm, activation or rope."),
    column(
        "op",
        Kind::Text,
        false,
        "The operation within the family, such as log_softmax, rms_norm or gelu.",
    ),
    column("dtype", Kind::Text, false, "Storage type of inputs and outputs: f32, f16 or bf16."),
    column("fill", Kind::Text, false, "How the inputs were drawn."),
    column("seed", Kind::Integer, false, "Seed of the inputs."),
    column("backend", Kind::Text, false, "Backend id, such as simd/avx2 or libtorch/cuda:0."),
    column("version", Kind::Text, false, "Version of the backend's library."),
    column("device", Kind::Text, false, "The device it ran on: cpu, or one such as cuda:0."),
    column("isa", Kind::Text, false, "Instruction set it used."),
    column("threads", Kind::Integer, false, "Threads it was allowed."),
    column("allocation", Kind::Text, false, "How the backend allocates its outputs."),
    column(
        "contract",
        Kind::Text,
        false,
        "What the backend promises: componentwise or normwise; empty if it made no statement.",
    ),
    column("numerics", Kind::Text, false, "What else it declares about its arithmetic, in short words."),
    column("path", Kind::Text, false, "The implementation path that ran, such as fused or composed."),
    column("status", Kind::Status, false, "The verdict."),
    column(
        "reason",
        Kind::Text,
        false,
        "Why the status is what it is, or what a passed row's times are to be read with.",
    ),
    column("max_abs", Kind::Number, true, "Largest absolute error."),
    column("max_rel", Kind::Number, true, "Largest relative error."),
    column("rmse", Kind::Number, true, "Root mean square error."),
    column("ulp_p99", Kind::Number, true, "99th percentile of the error in units in the last place."),
    column("ulp_max", Kind::Number, true, "Largest error in units in the last place."),
    column(
        "error_over_bound",
        Kind::Number,
        true,
        "Largest ratio of error to its a-priori bound; above 1 fails.",
    ),
    column(
        "error_vs_naive",
        Kind::Number,
        true,
        "Root mean square error relative to that of the naive backend on the same case, where that ran before.",
    ),
    column("cosine", Kind::Number, true, "Cosine of the angle between output and expectation."),
    column("worst_index", Kind::Text, false, "The worst element, such as out[3,17]."),
    column("worst_expected", Kind::Number, true, "What the oracle expected there."),
    column("worst_got", Kind::Number, true, "What the kernel returned there."),
    column("cache", Kind::Text, false, "hot, cold, or empty when nothing was timed."),
    column(
        "method",
        Kind::Text,
        false,
        "Clock: wall, device (CUDA events, for instance), or empty when nothing was timed.",
    ),
    column("iterations", Kind::Integer, true, "Iterations in one timed slice."),
    column("samples", Kind::Integer, true, "Slices kept."),
    column("min_ns", Kind::Integer, true, "Fastest time of one iteration, in nanoseconds."),
    column("p10_ns", Kind::Integer, true, "10th percentile of the time of one iteration, in nanoseconds."),
    column("median_ns", Kind::Integer, true, "Median time of one iteration, in nanoseconds."),
    column("p90_ns", Kind::Integer, true, "90th percentile of the time of one iteration, in nanoseconds."),
    column("mean_ns", Kind::Integer, true, "Mean time of one iteration, in nanoseconds."),
    column(
        "mad_ns",
        Kind::Integer,
        true,
        "Median absolute deviation of the time of one iteration, in nanoseconds.",
    ),
    column("reference", Kind::Text, false, "Backend id the ratios are against."),
    column("speedup", Kind::Number, true, "Time of the reference divided by this time."),
    column("speedup_low", Kind::Number, true, "Lower end of the 95 % bootstrap interval of the speed-up."),
    column("speedup_high", Kind::Number, true, "Upper end of the 95 % bootstrap interval of the speed-up."),
    column("flops", Kind::Integer, false, "Floating-point operations the problem needs."),
    column("bytes", Kind::Integer, false, "Fewest bytes the problem must move."),
    column("gflops", Kind::Number, true, "10⁹ floating-point operations per second at the median."),
    column("gb_per_s", Kind::Number, true, "10⁹ bytes per second at the median."),
    column("roofline_percent", Kind::Number, true, "Share of the measured limit reached, in percent."),
    column(
        "roofline_limit",
        Kind::Text,
        false,
        "Which limit that is, such as FMA, DRAM copy or cuda:0 matmul; or empty.",
    ),
    column(
        "peak_memory",
        Kind::Integer,
        true,
        "Largest resident memory of the timed process since it prepared the case, in bytes: libraries, \
         inputs and all copies of a rotation included.",
    ),
    column("load", Kind::Number, true, "Load average while measuring."),
    column(
        "clock_mhz",
        Kind::Number,
        true,
        "Clock of the processor while measuring, or the lowest of the device, in MHz.",
    ),
    column("steal_percent", Kind::Number, true, "Time stolen by the hypervisor, in percent."),
    column(
        "contaminated",
        Kind::Integer,
        true,
        "Slices that the machine is known to have disturbed: left out, unless disturbed is true.",
    ),
    column("repro", Kind::Text, false, "A command line that reproduces this row."),
    column(
        "temperature_c",
        Kind::Number,
        true,
        "Highest temperature of the device while measuring, in degrees Celsius.",
    ),
    column("throttle", Kind::Text, false, "What held the device's clock down while measuring."),
    column("device_memory", Kind::Integer, true, "Most memory in use on the device, by whomever, in bytes."),
    column(
        "waiting_percent",
        Kind::Number,
        true,
        "Share of the time that the host waited for the device: next to none is launch-bound.",
    ),
    column(
        "extra_memory",
        Kind::Integer,
        true,
        "Resident memory at the peak of one call beyond its operands and results, in bytes. Scratch and \
         tables made before the call count, and so do results that a library allocates anew while it \
         still holds those of the call before.",
    ),
    column(
        "canary_ns",
        Kind::Integer,
        true,
        "Time of one pass of the canary, a loop that never changes, before and after the measurement, in \
         nanoseconds: when it differs from that of another run, so does the machine.",
    ),
    column(
        "machine",
        Kind::Text,
        false,
        "The machine: processor, cores and caches. Times of different machines are not compared.",
    ),
    column(
        "device_name",
        Kind::Text,
        false,
        "Name of the device where it is not the processor, such as NVIDIA H200.",
    ),
    column(
        "disturbed",
        Kind::Flag,
        false,
        "Whether too few slices were undisturbed, so that all of them count.",
    ),
    column(
        "prepare_ns",
        Kind::Integer,
        true,
        "Time of preparing the problem (weights, plans, memory), in nanoseconds: no part of the kernel's time.",
    ),
    column("load_ns", Kind::Integer, true, "Time of loading the data operands, in nanoseconds."),
    column("outputs_ns", Kind::Integer, true, "Time of handing out the results, in nanoseconds."),
    column("audit_ns", Kind::Integer, true, "Time of a single run on inputs that are new, in nanoseconds."),
    column(
        "first_ns",
        Kind::Integer,
        true,
        "Time of the first call of the prepared problem, in nanoseconds: beside the kernel's own time what a \
         library builds on first use, and caches and threads that are cold.",
    ),
];

/// The columns of `samples.csv`, in order. A row is one timed slice.
pub const SAMPLES: [Column; 11] = [
    column("run_id", Kind::Text, false, "As in records.csv."),
    column("problem", Kind::Text, false, "As in records.csv."),
    column("fill", Kind::Text, false, "As in records.csv."),
    column("seed", Kind::Integer, false, "As in records.csv."),
    column("backend", Kind::Text, false, "As in records.csv."),
    column("threads", Kind::Integer, false, "As in records.csv."),
    column("cache", Kind::Text, false, "As in records.csv."),
    column(
        "slice",
        Kind::Integer,
        false,
        "Number of the slice, from 0, in the order measured. Slices with the same number on different \
         backends were neighbours in time.",
    ),
    column("iterations", Kind::Integer, false, "Iterations in the slice."),
    column("ns", Kind::Integer, false, "Time of the whole slice, in nanoseconds."),
    column("clean", Kind::Flag, false, "Whether nothing is known to have disturbed it."),
];

/// The columns of each version of the schema: the first so many.
const VERSIONS: [(u32, usize); 6] =
    [(1, 62), (2, 66), (3, 67), (4, 68), (5, 75), (SCHEMA_VERSION, COLUMNS.len())];

/// The version whose header has so many columns, and these: the present one where none has.
pub(crate) fn version_with(columns: usize) -> (u32, &'static [Column]) {
    let found = VERSIONS.into_iter().find(|(_, count)| *count == columns);
    let (version, count) = found.unwrap_or((SCHEMA_VERSION, COLUMNS.len()));
    (version, &COLUMNS[..count])
}

/// The position of a column.
#[must_use]
pub fn position(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// The columns of both files as a Markdown document: `reports/schema/columns.md`.
#[must_use]
pub fn document() -> String {
    let mut out = String::from(
        "# The files of a run\n\n\
         Made from `reports/src/columns.rs` by `cargo run -p touchstone-reports --example schema`; do not \
         edit.\n\nA run is a directory with `records.csv`, a row for each case, backend, thread count and \
         cache state, `samples.csv`, a row for each timed slice, and `environment.toml`, the machine and \
         the software. Both tables are CSV as RFC 4180 has it, in UTF-8, with a header. An empty cell is a \
         value that does not exist, never zero; NaN and infinities are `NaN`, `inf` and `-inf`. \
         `--format json` prints the columns of `records.csv` as one object per line, as \
         [record.schema.json](record.schema.json) says.\n\n",
    );
    let versions: Vec<_> = VERSIONS.iter().map(|(version, count)| format!("{version} has {count}")).collect();
    out.push_str(&format!(
        "A new version of the schema adds columns at the end, and all earlier ones are read: version {} \
         columns. Up to version 2 `samples.csv` had no `clean`.\n",
        versions.join(", ")
    ));
    for (file, columns) in [("records.csv", &COLUMNS[..]), ("samples.csv", &SAMPLES[..])] {
        out.push_str(&format!("\n## {file}\n\n| column | holds | meaning |\n|---|---|---|\n"));
        for Column { name, kind, optional, meaning } in columns {
            let empty = if *optional { ", or nothing" } else { "" };
            let words = kind.expected();
            let meaning = meaning.replace('|', "\\|");
            out.push_str(&format!("| `{name}` | {words}{empty} | {meaning} |\n"));
        }
    }
    out
}

/// A JSON Schema (2020-12) of one line written by [`crate::export::write_json_lines`].
#[must_use]
pub fn json_schema() -> Value {
    let mut properties = Map::new();
    for column in COLUMNS {
        let mut property = match column.kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Integer if column.optional => {
                json!({ "type": ["integer", "null"], "minimum": 0 })
            }
            Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
            // JSON has no NaN: non-finite numbers are the strings CSV uses.
            Kind::Number => json!({ "anyOf": [
                { "type": ["number", "null"] },
                { "enum": ["NaN", "inf", "-inf"] }
            ] }),
            Kind::Status => json!({ "enum": Status::ALL.map(Status::as_str) }),
        };
        if column.name == "schema" {
            property = json!({ "const": SCHEMA_VERSION });
        }
        property["description"] = json!(column.meaning);
        properties.insert(column.name.to_owned(), property);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Touchstone record",
        "type": "object",
        "properties": properties,
        "required": COLUMNS.map(|column| column.name).as_slice(),
        "additionalProperties": false
    })
}
