//! From rounds to a verdict: which cases are slower, and when nobody can say.
//!
//! A *round* gives one number for each case: the median over its pairs of slices of
//! ln(candidate ÷ base). Where both sides run the same code, fresh copies under exchangeable names
//! in random order make the sign of that number a fair coin, whatever the noise looks like; that
//! is all that the signed-rank test asks for.
//!
//! 1. **Screen**: all cases, a few rounds. Cases that might be slower by more than the margin go on.
//! 2. **Confirm**: those cases alone, in rounds of their own. Their number is fixed before the
//!    first of them, so that nobody stops when it looks good. Holm's step-down procedure (*A simple
//!    sequentially rejective multiple test procedure*, 1979) keeps the probability that any of them
//!    is called slower without being so at [`LEVEL`].
//!
//! The screen's rounds choose and the fresh ones decide, so the choosing costs nothing.

use serde::Serialize;

use super::signed_rank::{Estimate, estimate, p_above};

/// One-sided level of the screen. It costs time, not truth: a case that is not slower has to be
/// screened *and* confirmed to be called so.
pub const SCREEN_LEVEL: f64 = 0.10;

/// Level of the whole family of screened cases.
pub const LEVEL: f64 = 0.01;

/// Confidence of the intervals shown: its one-sided counterpart is [`LEVEL`].
pub const CONFIDENCE: f64 = 0.98;

/// Fewer valid rounds decide nothing.
///
/// The smallest p that n rounds can have is 2⁻ⁿ. Where all of 33 cases are screened, the clearest needs one of
/// [`LEVEL`]/33 = 3·10⁻⁴, which takes 12 rounds. The three more are a choice: they let a round or two be on
/// the other side. Half as many could decide about one screened case, and never about two. With twice as
/// many, the 20 rounds of the screen would decide nothing.
pub const FEWEST_ROUNDS: usize = 15;

/// Rounds spread wider than this, between their quartiles, decide nothing: 20 %.
///
/// A choice. The test is valid whatever the spread, but it has no power there: by
/// `Rules::rounds_for`, 150 rounds find a slowdown of 10 % up to a spread of σ = 0.12, which is 16 % between
/// quartiles. With half, cases that can be decided would be called inconclusive. With twice, a case would be
/// called steady in which a slowdown of 10 % is seldom found.
pub const WIDEST_SPREAD: f64 = 0.20;

/// The canary may move by this much: 2 %.
///
/// A choice: the usual margin ([`Rules::default`]). A machine that slows everything on one side by less than
/// that does not by itself move a steady case beyond the margin; one that does so by more can. The limit only
/// takes a red away. In the series recorded on two machines (`reports/recorded`, 280 stages) the canary moved
/// by 0.6 % at most, so half the limit would have changed none of them. With twice, a red of up to 2 %
/// beyond the margin may be the machine's.
pub const CANARY_LIMIT: f64 = 0.02;

/// The slowdown that has to be caught.
const CAUGHT: f64 = 1.10;

/// What may be chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    /// A slowdown up to this fraction is none.
    pub margin: f64,
    /// Rounds of the screen.
    pub screen_rounds: usize,
    /// Fewest and most rounds of the confirmation.
    pub confirm_rounds: (usize, usize),
}

impl Default for Rules {
    fn default() -> Self {
        Rules { margin: 0.02, screen_rounds: 20, confirm_rounds: (60, 150) }
    }
}

/// Why a round was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To choose.
    Screen,
    /// To decide.
    Confirm,
}

touchstone_kernels::named_enum!(Stage, "stage", {
    Stage::Screen => "screen",
    Stage::Confirm => "confirm",
});

/// What a round gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// ln(candidate ÷ base) of a loop that is the same on both sides, if both have it.
    pub canary: Option<f64>,
    /// ln(candidate ÷ base) of each case asked for; nothing where too few pairs were valid.
    pub cases: Vec<Option<f64>>,
}

/// Where rounds come from: two executables, or a simulation.
pub trait Rounds {
    /// Why there is none.
    type Error;

    /// A round over these cases.
    ///
    /// # Errors
    /// Its own; the gate ends.
    fn round(&mut self, stage: Stage, cases: &[usize]) -> Result<Round, Self::Error>;
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Finding {
    /// Not slower by more than the margin, as far as anyone can tell.
    Steady,
    /// Its whole interval lies beyond the margin on the good side. A remark: no error rate is
    /// kept for it.
    Faster,
    /// Slower by more than the margin.
    Slower,
    /// Nobody can tell.
    Inconclusive {
        /// Why.
        why: String,
    },
}

/// A case after all rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// What became of it.
    pub finding: Finding,
    /// ln(candidate ÷ base), from the rounds that decided.
    pub change: Option<Estimate>,
    /// The p-value that decided.
    pub p: f64,
    /// Valid rounds that decided.
    pub rounds: usize,
    /// Whether it was confirmed or cleared in rounds of its own.
    pub screened: bool,
}

/// All cases after all rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Each case.
    pub cases: Vec<Ruling>,
    /// The canary, in the stage in which it moved most.
    pub canary: Option<Estimate>,
    /// Why nothing at all was decided, if so.
    pub unsettled: Option<String>,
    /// Rounds of the screen and of the confirmation.
    pub rounds: (usize, usize),
}

impl Decision {
    /// The cases that are slower. None while the whole is unsettled.
    pub fn slower(&self) -> impl Iterator<Item = usize> {
        let settled = self.unsettled.is_none();
        let slower = move |ruling: &Ruling| settled && ruling.finding == Finding::Slower;
        self.cases.iter().enumerate().filter(move |(_, ruling)| slower(ruling)).map(|(i, _)| i)
    }
}

/// Decides over `cases` cases.
///
/// # Errors
/// That of a round.
pub fn decide<R: Rounds>(rounds: &mut R, cases: usize, rules: &Rules) -> Result<Decision, R::Error> {
    let all: Vec<usize> = (0..cases).collect();
    let margin = rules.margin.ln_1p();
    let screen = Series::of(rounds, Stage::Screen, &all, rules.screen_rounds)?;
    let mut rulings: Vec<Ruling> = screen.cases.iter().map(|data| screened(data, margin)).collect();

    let chosen: Vec<usize> = all.into_iter().filter(|&case| rulings[case].screened).collect();
    let spread = chosen.iter().filter_map(|&case| spread(&screen.cases[case])).fold(0.0, f64::max);
    let wanted = if chosen.is_empty() { 0 } else { rules.rounds_for(spread) };
    let confirm = Series::of(rounds, Stage::Confirm, &chosen, wanted)?;
    confirmed(&mut rulings, &chosen, &confirm.cases, margin);

    let canaries = [&screen, &confirm].map(|series| estimate(&series.canary, CONFIDENCE));
    let moved = |estimate: &Estimate| estimate.center.exp_m1().abs();
    let canary = canaries.into_iter().flatten().max_by(|a, b| moved(a).total_cmp(&moved(b)));
    let unsettled = canary.filter(|canary| moved(canary) > CANARY_LIMIT).map(|canary| {
        let percent = 100.0 * canary.center.exp_m1();
        format!("the canary, which is the same on both sides, moved by {percent:+.1} %")
    });
    Ok(Decision { cases: rulings, canary, unsettled, rounds: (rules.screen_rounds, wanted) })
}

impl Rules {
    /// Rounds of the confirmation for a spread σ of the screen's rounds.
    ///
    /// For a normal mean, n = ((z_α + z_β)·σ/δ)² rounds find a shift of δ with a probability of
    /// 1 − β at level α. Here δ is from the margin to 10 %; z_α = 3.4 is the level of one in thirty
    /// cases, and z_β = 2.3 leaves 1 % undetected. A signed-rank test needs π/3 as many rounds as
    /// a mean. σ is known from few rounds only, to about 25 %: it is taken 1.3 times.
    fn rounds_for(&self, spread: f64) -> usize {
        let (fewest, most) = self.confirm_rounds;
        let shift = CAUGHT.ln() - self.margin.ln_1p();
        if shift <= 0.0 {
            return most;
        }
        let one = (3.4 + 2.3) * 1.3 * spread / shift;
        let wanted = one * one * std::f64::consts::FRAC_PI_3;
        // As a float, so that an infinite one is the most.
        wanted.ceil().clamp(fewest as f64, most as f64) as usize
    }
}

/// What the screen says of a case.
fn screened(data: &[f64], margin: f64) -> Ruling {
    let p = p_above(data, margin);
    let change = estimate(data, CONFIDENCE);
    let faster = change.is_some_and(|change| change.high < -margin);
    let (finding, screened) = match disorder(data) {
        Some(why) => (Finding::Inconclusive { why }, false),
        None if faster => (Finding::Faster, false),
        None => (Finding::Steady, p < SCREEN_LEVEL),
    };
    Ruling { finding, change, p, rounds: data.len(), screened }
}

/// What fresh rounds say of the cases that were chosen.
fn confirmed(rulings: &mut [Ruling], chosen: &[usize], series: &[Vec<f64>], margin: f64) {
    for (&case, data) in chosen.iter().zip(series) {
        let finding = match disorder(data) {
            Some(why) => Finding::Inconclusive { why },
            None => Finding::Steady,
        };
        let (p, change) = (p_above(data, margin), estimate(data, CONFIDENCE));
        rulings[case] = Ruling { finding, change, p, rounds: data.len(), screened: true };
    }
    // Holm: the smallest p against LEVEL ÷ all, the next against LEVEL ÷ (all − 1), until one is too
    // large. A case in disorder counts, and is not called slower.
    let mut by_p = chosen.to_vec();
    by_p.sort_by(|&a, &b| rulings[a].p.total_cmp(&rulings[b].p));
    for (at, &case) in by_p.iter().enumerate() {
        let ruling = &mut rulings[case];
        if ruling.p > LEVEL / (by_p.len() - at) as f64 {
            break;
        }
        if ruling.finding == Finding::Steady {
            ruling.finding = Finding::Slower;
        }
    }
}

/// Why these rounds decide nothing, if so.
fn disorder(data: &[f64]) -> Option<String> {
    if data.len() < FEWEST_ROUNDS {
        return Some(format!("only {} valid rounds, of {FEWEST_ROUNDS} needed", data.len()));
    }
    let range = interquartile(data)?;
    (range > WIDEST_SPREAD).then(|| format!("rounds spread by {:.0} %", 100.0 * range))
}

/// The standard deviation of a normal distribution with these quartiles.
fn spread(data: &[f64]) -> Option<f64> {
    // The quartiles of a normal distribution are ±0.6745 σ.
    interquartile(data).map(|range| range / 1.349)
}

/// From the first to the third quartile, each an order statistic.
fn interquartile(data: &[f64]) -> Option<f64> {
    let mut sorted = data.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[last - last / 4] - sorted[last / 4])
}

/// The rounds of one stage, by case.
struct Series {
    canary: Vec<f64>,
    cases: Vec<Vec<f64>>,
}

impl Series {
    fn of<R: Rounds>(source: &mut R, stage: Stage, cases: &[usize], rounds: usize) -> Result<Self, R::Error> {
        let mut series = Series { canary: Vec::new(), cases: vec![Vec::new(); cases.len()] };
        for _ in 0..rounds {
            let round = source.round(stage, cases)?;
            series.canary.extend(round.canary);
            for (data, datum) in series.cases.iter_mut().zip(round.cases) {
                data.extend(datum.filter(|d| d.is_finite()));
            }
        }
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Rounds from a function of stage, round and case.
    struct Scripted<F>(F, usize);

    impl<F: FnMut(Stage, usize, usize) -> Option<f64>> Rounds for Scripted<F> {
        type Error = Infallible;

        fn round(&mut self, stage: Stage, cases: &[usize]) -> Result<Round, Infallible> {
            self.1 += 1;
            let cases = cases.iter().map(|&case| (self.0)(stage, self.1, case)).collect();
            Ok(Round { canary: Some(0.001), cases })
        }
    }

    /// Some noise about 0, different in each round and case.
    fn noise(round: usize, case: usize) -> f64 {
        let mixed = (round * 7919 + case * 104_729) as u64;
        let mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        0.02 * (mixed as f64 / f64::from(1 << 24) - 0.5)
    }

    fn of(script: impl FnMut(Stage, usize, usize) -> Option<f64>) -> Decision {
        let Ok(decision) = decide(&mut Scripted(script, 0), 3, &Rules::default());
        decision
    }

    #[test]
    fn only_the_slower_case_is_called_so() {
        let decision = of(|_, round, case| Some(noise(round, case) + if case == 1 { 0.095 } else { 0.0 }));
        assert_eq!(decision.slower().collect::<Vec<_>>(), [1]);
        assert_eq!(decision.rounds, (20, 60));
        let change = decision.cases[1].change.unwrap();
        assert!(change.low < 0.095 && 0.095 < change.high && change.low > 0.09, "{change:?}");
        assert_eq!(
            [0, 2].map(|case| decision.cases[case].finding.clone()),
            [Finding::Steady, Finding::Steady]
        );
        assert_eq!(decision.unsettled, None);
    }

    #[test]
    fn what_the_screen_saw_does_not_decide() {
        let decision = of(|stage, round, case| {
            Some(noise(round, case) + if stage == Stage::Screen { 0.1 } else { 0.0 })
        });
        assert!(decision.cases.iter().all(|ruling| ruling.screened && ruling.finding == Finding::Steady));
    }

    #[test]
    fn a_slowdown_within_the_margin_is_none() {
        let decision = of(|_, round, case| Some(noise(round, case) + 0.015));
        assert_eq!((decision.slower().count(), decision.rounds), (0, (20, 0)));
        let faster = of(|_, round, case| Some(noise(round, case) - 0.1));
        assert!(faster.cases.iter().all(|ruling| ruling.finding == Finding::Faster));
    }

    #[test]
    fn disorder_is_never_red() {
        let wide = of(|_, round, case| Some(0.6 + 30.0 * noise(round, case)));
        assert_eq!(wide.slower().count(), 0);
        let Finding::Inconclusive { why } = &wide.cases[0].finding else { panic!() };
        assert!(why.starts_with("rounds spread by"), "{why}");
        let few = of(|_, round, _| (round % 2 == 0).then_some(0.2));
        let Finding::Inconclusive { why } = &few.cases[0].finding else { panic!() };
        assert_eq!(why, "only 10 valid rounds, of 15 needed");
        let broken = of(|_, _, _| Some(f64::NAN));
        assert!(matches!(broken.cases[0].finding, Finding::Inconclusive { .. }));
    }

    #[test]
    fn a_moving_canary_settles_nothing() {
        struct Moving;
        impl Rounds for Moving {
            type Error = Infallible;
            fn round(&mut self, _: Stage, cases: &[usize]) -> Result<Round, Infallible> {
                Ok(Round { canary: Some(0.03), cases: vec![Some(0.1); cases.len()] })
            }
        }
        let Ok(decision) = decide(&mut Moving, 1, &Rules::default());
        assert_eq!(decision.cases[0].finding, Finding::Slower);
        assert_eq!(decision.slower().count(), 0);
        assert!(decision.unsettled.unwrap().ends_with("moved by +3.0 %"));
    }

    #[test]
    fn noisy_cases_are_confirmed_in_more_rounds() {
        let rules = Rules::default();
        assert_eq!(rules.rounds_for(0.0), 60);
        let noisy = rules.rounds_for(0.10);
        assert!((61..150).contains(&noisy), "{noisy}");
        assert_eq!(rules.rounds_for(f64::INFINITY), 150);
        assert_eq!(Rules { margin: 0.2, ..rules }.rounds_for(0.01), 150);
    }

    #[test]
    fn holm_stops_at_the_first_that_is_too_large() {
        let ruling = |p| Ruling { finding: Finding::Steady, change: None, p, rounds: 60, screened: true };
        let mut rulings: Vec<Ruling> = (0..3).map(|_| ruling(1.0)).collect();
        // 15 rounds above the margin have p = 2⁻¹⁵; mixed ones a large p.
        let (above, mixed) = (vec![1.0; 15], [vec![1.0; 8], vec![-1.0; 8]].concat());
        confirmed(&mut rulings, &[0, 1, 2], &[mixed, above.clone(), above], 0.0);
        let slower: Vec<bool> = rulings.iter().map(|ruling| ruling.finding == Finding::Slower).collect();
        assert_eq!(slower, [false, true, true]);
    }
}
