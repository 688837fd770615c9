//! What a gate found, for a terminal, a pull request and a machine.

use serde::Serialize;
use touchstone_reports::grid::{Cell, Grid, Heading, Row, Tone};
use touchstone_reports::words::{duration, list, plural, wrap};
use touchstone_reports::{markdown, table};

use super::contest::Standing;
use super::decision::{Decision, Finding, Rules, Ruling};
use super::pinning::Pinning;
use super::signed_rank::Estimate;

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// How a gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No case is slower.
    Steady,
    /// At least one case is slower, and nobody has accepted it.
    Slower,
    /// The machine was too restless to tell, in all cases or in some. Never red.
    Inconclusive,
    /// The candidate, or while timing either side, gave wrong results.
    Wrong,
    /// A worker died or fell silent.
    Died,
    /// The two sides cannot be compared.
    NotComparable,
}

/// A change of time in percent, with its 98 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The Hodges-Lehmann estimate.
    pub percent: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<Estimate> for Change {
    fn from(Estimate { center, low, high }: Estimate) -> Self {
        let percent = |log: f64| 100.0 * log.exp_m1();
        Change { percent: percent(center), low: percent(low), high: percent(high) }
    }
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not slower by more than the margin.
    Steady,
    /// Faster by more than the margin.
    Faster,
    /// Slower by more than the margin.
    Slower,
    /// Slower, and a commit says that this is meant.
    Accepted,
    /// Nobody can tell.
    Inconclusive,
    /// One side cannot compute it, or the base is wrong on it.
    NotCompared,
    /// The candidate is wrong.
    Wrong,
    /// The gate ended before.
    NotMeasured,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Verdict::Steady => "steady",
            Verdict::Faster => "faster",
            Verdict::Slower => "SLOWER",
            Verdict::Accepted => "slower, accepted",
            Verdict::Inconclusive => "inconclusive",
            Verdict::NotCompared => "not compared",
            Verdict::Wrong => "WRONG",
            Verdict::NotMeasured => "not measured",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Verdict::Slower | Verdict::Wrong => Tone::Bad,
            Verdict::Faster => Tone::Good,
            Verdict::Accepted | Verdict::Inconclusive | Verdict::NotCompared => Tone::Note,
            Verdict::Steady => Tone::Plain,
            Verdict::NotMeasured => Tone::Muted,
        }
    }

    /// Whether somebody should look.
    fn stands_out(self) -> bool {
        !matches!(self, Verdict::Steady | Verdict::NotMeasured)
    }
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseReport {
    /// Its problem.
    pub problem: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where the verdict alone does not say.
    pub why: String,
    /// Nanoseconds of an iteration of the base.
    pub base_ns: Option<u64>,
    /// How the candidate differs.
    pub change: Option<Change>,
    /// The p-value that decided.
    pub p: Option<f64>,
    /// Rounds that decided.
    pub rounds: usize,
    /// Whether it had rounds of its own after the screen.
    pub screened: bool,
}

/// Everything that a gate found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The same in a sentence or two.
    pub summary: String,
    /// What the candidate is held against.
    pub base: String,
    /// What is judged.
    pub candidate: String,
    /// The backend.
    pub backend: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// What was chosen.
    pub rules: Rules,
    /// Which processor was whose.
    pub pinning: Pinning,
    /// Rounds of the screen and of the confirmation.
    pub rounds: (usize, usize),
    /// Seconds that it took.
    pub seconds: f64,
    /// How the loop moved that is the same on both sides.
    pub canary: Option<Change>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// Each case, in the order of the suite.
    pub cases: Vec<CaseReport>,
}

/// How cases stand before the first round. `removed` are the texts of trailers that declare a problem as
/// no longer supported: without one, a case that the candidate has lost is wrong.
pub fn cases_before(problems: &[String], standings: &[Standing], removed: &[String]) -> Vec<CaseReport> {
    let blank = |(at, problem): (usize, &String)| {
        let declared = removed.iter().find_map(|text| reason_of(text, problem));
        let (verdict, why, base_ns) = match standings.get(at) {
            Some(Standing::Lost { why }) => match declared {
                Some(reason) => (Verdict::NotCompared, reason, None),
                None => (Verdict::Wrong, why.as_str(), None),
            },
            Some(Standing::Ready { base_ns }) => (Verdict::NotMeasured, "", Some(*base_ns)),
            Some(Standing::Apart { why }) => (Verdict::NotCompared, why.as_str(), None),
            Some(Standing::Wrong { why }) => (Verdict::Wrong, why.as_str(), None),
            None => (Verdict::NotMeasured, "", None),
        };
        CaseReport {
            problem: problem.clone(),
            verdict,
            why: why.into(),
            base_ns,
            change: None,
            p: None,
            rounds: 0,
            screened: false,
        }
    };
    problems.iter().enumerate().map(blank).collect()
}

impl Report {
    /// Enters a decision over the cases that were ready. `accepted` are the texts of trailers: a
    /// problem and a reason.
    pub fn decide(&mut self, decision: &Decision, accepted: &[String]) {
        let ready = self.cases.iter_mut().filter(|case| case.verdict == Verdict::NotMeasured);
        for (case, ruling) in ready.zip(&decision.cases) {
            case.enter(ruling);
            let reason = accepted.iter().find_map(|text| reason_of(text, &case.problem));
            if let (Verdict::Slower, Some(reason)) = (case.verdict, reason) {
                (case.verdict, case.why) = (Verdict::Accepted, reason.into());
            }
        }
        self.canary = decision.canary.map(Change::from);
        self.rounds = decision.rounds;
        for text in accepted {
            if !self.cases.iter().any(|case| reason_of(text, &case.problem).is_some()) {
                self.notes.push(format!("'Perf-Accepted: {text}' names no case here, or gives no reason"));
            }
        }
        (self.outcome, self.summary) = self.conclusion(decision.unsettled.as_deref());
    }

    fn conclusion(&self, unsettled: Option<&str>) -> (Outcome, String) {
        let of = |verdict: Verdict| -> Vec<&CaseReport> {
            self.cases.iter().filter(|case| case.verdict == verdict).collect()
        };
        let apart = of(Verdict::NotCompared).len();
        let all = plural(self.cases.len() - apart, "case");
        let margin = format!("{} %", 100.0 * self.rules.margin);
        if let Some(why) = unsettled {
            let advice = "Nothing is decided. Run it again on a quieter machine.";
            return (Outcome::Inconclusive, format!("INCONCLUSIVE: {why}. {advice}"));
        }
        let (slower, open) = (of(Verdict::Slower), of(Verdict::Inconclusive));
        let mut sentence = match slower.len() {
            0 => format!("No slowdown by more than {margin} in {all}"),
            n => {
                let names: Vec<String> = slower.iter().map(|case| format!("'{}'", case.problem)).collect();
                format!("SLOWER by more than {margin} in {n} of {all}: {}", list(&names))
            }
        };
        let accepted = of(Verdict::Accepted).len();
        if accepted > 0 {
            sentence.push_str(&format!(", {accepted} accepted by a commit aside"));
        }
        sentence.push('.');
        if apart > 0 {
            sentence.push_str(&format!(" Not compared: {}.", plural(apart, "case")));
        }
        if !open.is_empty() {
            sentence = format!("INCONCLUSIVE in {} of {all}. {sentence}", open.len());
        }
        let outcome = match (slower.is_empty(), open.is_empty()) {
            (false, _) => Outcome::Slower,
            (true, false) => Outcome::Inconclusive,
            (true, true) => Outcome::Steady,
        };
        (outcome, sentence)
    }

    /// For a terminal.
    pub fn text(&self, style: table::Style) -> String {
        // Where the gate ended early there are cases that nothing is known of.
        let known = |case: &CaseReport| case.verdict != Verdict::NotMeasured;
        let grid = self.grid(known).unless_empty();
        let mut out = grid.map_or_else(String::new, |grid| table::render(&grid, style) + "\n");
        out.push_str(&wrap(&self.summary, style.width));
        for line in self.circumstances() {
            out.push_str(&wrap(&line, style.width));
        }
        out
    }

    /// For a pull request: what stands out first, the rest behind a fold.
    pub fn markdown(&self) -> String {
        let mark = match self.outcome {
            Outcome::Steady => "Passed",
            Outcome::Inconclusive => "Inconclusive",
            Outcome::Slower | Outcome::Wrong | Outcome::Died | Outcome::NotComparable => "Failed",
        };
        let mut out = format!("## Regression gate: {mark}\n\n{}\n\n", self.summary);
        let quiet = |case: &CaseReport| case.verdict == Verdict::Steady;
        let grids = [self.grid(|case| case.verdict.stands_out()), self.grid(quiet)].map(Grid::unless_empty);
        let [loud, quiet] = grids;
        out.extend(loud.map(|grid| markdown::table(&grid) + "\n"));
        out.extend(quiet.map(|grid| {
            let title = plural(grid.rows.len(), "more case");
            markdown::folded(&Grid { title, ..grid })
        }));
        out.push_str(&self.circumstances().iter().map(|line| format!("- {line}\n")).collect::<String>());
        out
    }

    fn grid(&self, shown: impl Fn(&CaseReport) -> bool) -> Grid {
        let headings = vec![
            Heading::words("case"),
            Heading::figures("base"),
            Heading::figures("change"),
            Heading::figures("98 % interval"),
            Heading::words("verdict"),
        ];
        let mut grid = Grid::new("Time against the base", "", headings);
        for case in self.cases.iter().filter(|case| shown(case)) {
            let mut verdict = Cell::new(case.verdict.words()).tone(case.verdict.tone());
            if !case.why.is_empty() {
                verdict.below.push(case.why.clone());
            }
            grid.rows.push(Row::new(vec![
                Cell::new(&case.problem),
                case.base_ns.map_or_else(Cell::absent, |ns| Cell::new(duration(ns))),
                case.change.map_or_else(Cell::absent, |c| Cell::new(format!("{:+.1} %", c.percent))),
                case.change.map_or_else(Cell::absent, |c| Cell::new(format!("{:+.1}…{:+.1}", c.low, c.high))),
                verdict,
            ]));
        }
        grid
    }

    /// Under what circumstances, one line each.
    fn circumstances(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{} against {}, {}, one thread", self.candidate, self.base, self.backend),
            format!(
                "{} and {} in {:.0} s, seed {}",
                plural(self.rounds.0, "round"),
                plural(self.rounds.1, "confirming round"),
                self.seconds,
                self.seed
            ),
        ];
        if let Some(canary) = self.canary {
            lines.push(format!("canary {:+.1} % [{:+.1}…{:+.1}]", canary.percent, canary.low, canary.high));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}

impl CaseReport {
    fn enter(&mut self, ruling: &Ruling) {
        let (verdict, why) = match &ruling.finding {
            Finding::Steady => (Verdict::Steady, ""),
            Finding::Faster => (Verdict::Faster, ""),
            Finding::Slower => (Verdict::Slower, ""),
            Finding::Inconclusive { why } => (Verdict::Inconclusive, why.as_str()),
        };
        (self.verdict, self.why) = (verdict, why.into());
        self.change = ruling.change.map(Change::from);
        self.p = Some(ruling.p);
        self.rounds = ruling.rounds;
        self.screened = ruling.screened;
    }
}

/// The reason of a trailer that begins with this problem. No reason is no acceptance.
fn reason_of<'a>(trailer: &'a str, problem: &str) -> Option<&'a str> {
    let rest = trailer.strip_prefix(problem)?;
    Some(rest.strip_prefix(' ')?.trim()).filter(|reason| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEMS: [&str; 3] = ["softmax f32 shape=4x8", "gelu f32 shape=4", "gelu f32 shape=44"];

    fn report(findings: [Finding; 3], accepted: &[&str], unsettled: Option<&str>) -> Report {
        let problems = PROBLEMS.map(String::from);
        let cases = cases_before(&problems, &[const { Standing::Ready { base_ns: 52_100 } }; 3], &[]);
        let mut report = Report {
            schema: SCHEMA,
            outcome: Outcome::NotComparable,
            summary: String::new(),
            base: "0123456789ab (main)".into(),
            candidate: "ba9876543210".into(),
            backend: "simd".into(),
            seed: 7,
            rules: Rules::default(),
            pinning: Pinning::Pinned { workers: 1, driver: 0 },
            rounds: (0, 0),
            seconds: 31.4,
            canary: None,
            notes: Vec::new(),
            cases,
        };
        let change = Some(Estimate { center: 0.0953, low: 0.09, high: 0.1 });
        let ruling = |finding| Ruling { finding, change, p: 1e-6, rounds: 60, screened: true };
        let decision = Decision {
            cases: findings.map(ruling).to_vec(),
            canary: change,
            unsettled: unsettled.map(String::from),
            rounds: (20, 60),
        };
        report.decide(&decision, &accepted.iter().map(|text| text.to_string()).collect::<Vec<_>>());
        report
    }

    const STYLE: table::Style = table::Style { width: 80, colour: false, cases: true };

    #[test]
    fn slower_is_named_in_every_form() {
        let report = report([Finding::Steady, Finding::Slower, Finding::Faster], &[], None);
        assert_eq!(report.outcome, Outcome::Slower);
        assert_eq!(report.summary, "SLOWER by more than 2 % in 1 of 3 cases: 'gelu f32 shape=4'.");
        let text = report.text(STYLE);
        assert!(text.contains("SLOWER") && text.contains("52.1 µs") && text.contains("+10.0 %"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let markdown = report.markdown();
        assert!(markdown.starts_with("## Regression gate: Failed"), "{markdown}");
        assert!(markdown.contains("1 more case"), "{markdown}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["outcome"], &json["cases"][1]["verdict"]), (&"slower".into(), &"slower".into()));
    }

    #[test]
    fn an_accepted_slowdown_is_shown_and_not_red() {
        let slower = [Finding::Slower, Finding::Slower, Finding::Steady];
        let trailers =
            ["gelu f32 shape=4 exact in the tail", "softmax f32 shape=4x8 pays for NaN", "nothing"];
        let report = report(slower.clone(), &trailers, None);
        assert_eq!(report.outcome, Outcome::Steady);
        assert_eq!(report.cases[1].why, "exact in the tail");
        assert_eq!(report.notes, ["'Perf-Accepted: nothing' names no case here, or gives no reason"]);
        // One of two is not enough, and neither is a problem without a reason.
        let report =
            self::report(slower, &["gelu f32 shape=4 exact in the tail", "softmax f32 shape=4x8"], None);
        assert_eq!(report.outcome, Outcome::Slower);
    }

    #[test]
    fn nobody_is_blamed_where_nobody_can_tell() {
        let unsettled =
            report([Finding::Slower, Finding::Steady, Finding::Steady], &[], Some("the canary moved"));
        assert_eq!(unsettled.outcome, Outcome::Inconclusive);
        assert!(unsettled.summary.starts_with("INCONCLUSIVE: the canary moved. Nothing is decided."));
        let open = Finding::Inconclusive { why: "rounds spread by 30 %".into() };
        let partly = report([Finding::Steady, open.clone(), Finding::Steady], &[], None);
        assert_eq!(partly.outcome, Outcome::Inconclusive);
        let both = report([Finding::Slower, open, Finding::Steady], &[], None);
        assert_eq!(both.outcome, Outcome::Slower);
        assert!(both.summary.starts_with("INCONCLUSIVE in 1 of 3 cases. SLOWER"), "{}", both.summary);
    }
}
