//! The recorded series of gates (`scripts/gate-series`) says what its rounds say, and what the gate
//! claims.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use touchstone_harness::gate::decision::{Decision, Finding, Round, Rounds, Rules, Ruling, Stage, decide};

/// The rounds of one recorded run, to be had in their order.
struct Recorded {
    cases: Vec<String>,
    rounds: VecDeque<(String, BTreeMap<String, f64>)>,
}

impl Rounds for Recorded {
    type Error = String;

    fn round(&mut self, stage: Stage, cases: &[usize]) -> Result<Round, String> {
        let (recorded, mut ratios) = self.rounds.pop_front().ok_or("a round more than was recorded")?;
        if recorded != stage.to_string() {
            return Err(format!("a round to {stage}, where one to {recorded} was recorded"));
        }
        let canary = ratios.remove("canary").filter(|ratio| !ratio.is_nan());
        let asked: BTreeSet<_> = cases.iter().map(|&case| &self.cases[case]).collect();
        if asked != ratios.keys().collect() {
            return Err(format!("{asked:?} are asked for, {:?} were measured", ratios.keys()));
        }
        let ratio = |&case: &usize| Some(ratios[&self.cases[case]]).filter(|ratio| !ratio.is_nan());
        Ok(Round { canary, cases: cases.iter().map(ratio).collect() })
    }
}

impl Recorded {
    /// The runs of a series, by number.
    fn all(series: &Path) -> BTreeMap<u64, Recorded> {
        let mut runs: BTreeMap<u64, Recorded> = BTreeMap::new();
        let mut last = None;
        for row in csv::Reader::from_path(series.join("rounds.csv")).unwrap().deserialize() {
            let (run, stage, round, case, _pairs, _base, _candidate, ratio): (
                u64,
                String,
                u64,
                String,
                u32,
                f64,
                f64,
                f64,
            ) = row.unwrap();
            let recorded =
                runs.entry(run).or_insert_with(|| Recorded { cases: Vec::new(), rounds: VecDeque::new() });
            if last != Some((run, round)) {
                recorded.rounds.push_back((stage, BTreeMap::new()));
                last = Some((run, round));
            }
            if case != "canary" && !recorded.cases.contains(&case) {
                recorded.cases.push(case.clone());
            }
            recorded.rounds.back_mut().unwrap().1.insert(case, ratio);
        }
        runs
    }

    /// What the gate decides from them; every round has to be asked for.
    fn decide(mut self) -> (Decision, Vec<String>) {
        let cases = self.cases.len();
        let decision = decide(&mut self, cases, &Rules::default()).unwrap();
        assert!(self.rounds.is_empty(), "{} rounds more than the gate asks for", self.rounds.len());
        let slower = decision.slower().map(|case| self.cases[case].clone()).collect();
        (decision, slower)
    }
}

fn series() -> Vec<PathBuf> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/recorded");
    let entries = std::fs::read_dir(recorded).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("rounds.csv").is_file()).collect()
}

#[test]
fn every_recorded_gate_is_decided_again_from_its_rounds() {
    let all = series();
    assert!(!all.is_empty(), "no series is recorded");
    for series in all {
        let name = series.display();
        let mut rounds = Recorded::all(&series);
        let (mut same, mut injected, mut caught, mut open) = (0, 0, 0, 0);
        for row in csv::Reader::from_path(series.join("runs.csv")).unwrap().deserialize() {
            let (run, _seed, fault, outcome, said, _seconds): (u64, u64, String, String, String, f64) =
                row.unwrap();
            let (decision, slower) = rounds.remove(&run).unwrap().decide();
            assert_eq!(said, slower.join("; "), "{name}, run {run}");
            assert_eq!(outcome == "slower", !slower.is_empty(), "{name}, run {run}: {outcome}");
            let is_undecided = |case: &Ruling| matches!(case.finding, Finding::Inconclusive { .. });
            let is_open = slower.is_empty()
                && (decision.unsettled.is_some() || decision.cases.iter().any(is_undecided));
            assert_eq!(outcome == "inconclusive", is_open, "{name}, run {run}: {decision:?}");
            open += u32::from(is_open);
            if fault.is_empty() {
                same += 1;
                assert!(slower.is_empty(), "{name}, run {run}: red on the same executable: {slower:?}");
            } else {
                injected += 1;
                caught += u32::from(slower == [fault]);
            }
        }
        assert!(rounds.is_empty(), "{name}: rounds of {:?}, which are no runs", rounds.keys());
        assert!(20 * open <= same, "{name}: {open} inconclusive runs");
        assert!(same >= 100 && injected >= 20, "{name}: {same} and {injected} runs");
        assert!(20 * caught >= 19 * injected, "{name}: {caught} of {injected} slowdowns named alone");
    }
}
