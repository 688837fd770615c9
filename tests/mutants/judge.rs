//! Judges the copy of `naive` beside it by the cases of suites, and stops at the first that it fails.
//!
//! ```text
//! mutant attention smoke,standard
//! killed <suite> <cases before> <case> <why>      with tabs between
//! survived <cases> <suspect>
//! ```
// What a mutation no longer uses.
#![allow(unused, clippy::all)]

mod naive;
mod table;

use std::process::ExitCode;

use rayon::prelude::*;
use touchstone_harness::case::Case;
use touchstone_harness::check::check;
use touchstone_harness::known::KnownIssues;
use touchstone_harness::oracle;
use touchstone_harness::outcome::Outcome;
use touchstone_harness::suite::Suite;

/// Cases that are judged at a time, in parallel.
const TOGETHER: usize = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [family, suites] = &arguments[..] else {
        eprintln!("mutant FAMILY SUITE,…");
        return ExitCode::FAILURE;
    };
    // A mutant's panic is a verdict.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut cases, mut suspect) = (0, 0);
    for suite in suites.split(',') {
        let mut own: Vec<Case> = match Suite::load(suite) {
            Ok(suite) => suite.cases.into_iter().map(|case| case.case).collect(),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        own.retain(|case| family == "all" || case.problem.family().to_string() == *family);
        own.sort_by_key(|case| case.problem.work().flops + case.problem.work().bytes);
        for some in own.chunks(TOGETHER) {
            let outcomes: Vec<Outcome> = some.par_iter().map(outcome).collect();
            for (case, outcome) in some.iter().zip(outcomes) {
                match outcome {
                    Outcome::Passed(_) => {}
                    Outcome::Suspect { .. } => suspect += 1,
                    Outcome::Failed { why, .. } => {
                        println!("killed\t{suite}\t{cases}\t{case}\t{why}");
                        return ExitCode::SUCCESS;
                    }
                    other => {
                        let why = format!("{other:?}");
                        println!("killed\t{suite}\t{cases}\t{case}\t{}", why.lines().next().unwrap_or(""));
                        return ExitCode::SUCCESS;
                    }
                }
                cases += 1;
            }
        }
    }
    println!("survived\t{cases}\t{suspect}");
    ExitCode::SUCCESS
}

fn outcome(case: &Case) -> Outcome {
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    check(&naive::Naive, case, &inputs, &expected, &KnownIssues::default())
}
