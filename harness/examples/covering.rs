//! Makes `harness/suites/covering.toml` anew: the cases with which smoke and standard have every pair of
//! choices that exploration can draw, and every triple of attention's masking.
//!
//! ```sh
//! cargo run --release --example covering -- harness/suites/covering.toml
//! ```
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use touchstone_harness::case::Case;
use touchstone_harness::check::check;
use touchstone_harness::coverage::Coverage;
use touchstone_harness::known::KnownIssues;
use touchstone_harness::oracle;
use touchstone_harness::outcome::Outcome;
use touchstone_harness::suite::Suite;
use touchstone_kernels::naive::Naive;
use touchstone_kernels::op;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("expected the path of the file to be written")?;
    // What the hand-written cases cover is not asked for again.
    let mut cases = Vec::new();
    for name in ["smoke", "standard"] {
        let suite = Suite::load(&format!("harness/suites/{name}.toml"))?;
        cases.extend(suite.cases.into_iter().map(|case| case.case));
    }
    let mut text = String::from(
        "# Made by `cargo run --release --example covering -- harness/suites/covering.toml` from what exploration\n\
         # can draw; do not edit. harness/src/coverage.rs says what it covers.\n\n\
         description = \"every pair of choices\"\n",
    );
    let mut count = 0;
    for op in op::names() {
        let closing = Coverage::closing(op, &cases, &is_sharp);
        eprintln!("{op}: {} cases", closing.len());
        if closing.is_empty() {
            continue;
        }
        count += closing.len();
        write!(text, "\n[[case]]\nwhy = \"pairs of {op}\"\ntext = [\n")?;
        for case in closing {
            writeln!(text, "    \"{case}\",")?;
        }
        text.push_str("]\n");
    }
    std::fs::write(&path, text)?;
    eprintln!("{count} cases in {path}");
    Ok(())
}

/// Whether a case can tell right from wrong: our own plain code passes, and nothing that owes it nothing.
fn is_sharp(case: &Case) -> bool {
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    let known = KnownIssues::default();
    let outcome = check(&Naive, case, &inputs, &expected, &known);
    matches!(outcome, Outcome::Passed(_))
}
