//! How much of what a problem can say the suites ask for.
//!
//! Every case has a *level* for each *factor* of its operation: the value of a field, the class of a size,
//! the fill, the controls. A suite covers a pair of levels of two factors when one of its cases has both.
//! Most mistakes show where two choices meet (Kuhn, Wallace and Gallo 2004), and where masks do, three: for
//! attention's masking the triples are counted too.
//!
//! What can be asked for is what exploration can draw: the pairs of [`CANDIDATES`] random cases for each
//! operation, drawn from one seed, are the ones that smoke and standard have to cover. `suites/covering.toml`
//! holds the cases that close the gaps; `cargo run --release --example covering` makes it anew, and a test
//! holds the promise.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use touchstone_kernels::DType;

use crate::case::Case;
use crate::explore::{Numbers, Space};
use crate::families;

/// Random cases for each operation.
pub const CANDIDATES: u64 = 6000;

/// Their seed.
const SEED: u64 = 20_261_129;

/// A level of a factor.
pub type Level = (&'static str, String);

/// Levels that occur together: a pair, or a triple of attention's masking.
pub type Combination = Vec<Level>;

/// The factors of a case with their levels.
pub fn levels(case: &Case) -> Vec<Level> {
    let problem = &case.problem;
    let mut levels = vec![("dtype", problem.dtype.to_string()), ("fill", case.fill.to_string())];
    // Where nothing but data is drawn, controls change nothing.
    if problem.operands().iter().any(|operand| operand.kind != touchstone_kernels::Kind::Data) {
        levels.push(("controls", case.controls.to_string()));
    }
    levels.extend(families::checks(&problem.op).levels());
    // A case without elements or without keys says nothing about its other choices.
    let is_nothing = |level: &Level| level.1 == "0" && !NUMBERS.contains(&level.0);
    if levels.iter().any(is_nothing) {
        levels.retain(|level| level.0 == "dtype" || is_nothing(level));
    }
    levels
}

/// Factors that are sizes: their levels are classes such as `of 16` and `over 1024`.
pub const SIZES: [&str; 12] = [
    "batch", "queries", "keys", "length", "rows", "width", "samples", "channels", "spatial", "elements",
    "heads", "pairs",
];

/// Factors whose level 0 is a number and not a size.
const NUMBERS: [&str; 4] = ["scale", "offset", "eps", "momentum"];

/// The class of a size: nothing, one, two, less than a vector, whole vectors, with a rest, several blocks,
/// and beyond a counter of 16 bits.
pub fn class(n: usize) -> String {
    match n {
        0..=2 => n.to_string(),
        3..=7 => "3 to 7".into(),
        65_537.. => "over 65536".into(),
        1025.. => "over 1024".into(),
        n if n.is_multiple_of(16) => "of 16".into(),
        _ => "with a rest".into(),
    }
}

pub(crate) fn width_class(n: usize) -> String {
    match n {
        1 => "1".into(),
        n if n > 128 => "over 128".into(),
        n if n.is_multiple_of(16) => "of 16".into(),
        n if n.is_multiple_of(2) => "even".into(),
        _ => "odd".into(),
    }
}

pub(crate) fn sign(x: f32) -> &'static str {
    if x == 0.0 {
        "0"
    } else if x < 0.0 {
        "negative"
    } else {
        "positive"
    }
}

pub(crate) fn sign_and_size(x: f32) -> &'static str {
    match (sign(x), x.abs() > 16.0) {
        ("positive", true) => "large",
        ("negative", true) => "large negative",
        (sign, _) => sign,
    }
}

pub(crate) fn eps_class(eps: f32) -> String {
    match eps {
        0.0 => "0".into(),
        eps if eps < 1e-7 => "tiny".into(),
        eps if eps < 1e-2 => "usual".into(),
        _ => "large".into(),
    }
}

/// The pairs of a case's levels, and the triples of those of which an operation asks for them.
pub fn combinations(case: &Case) -> Vec<Combination> {
    let levels = levels(case);
    let mut combinations = Vec::new();
    for (i, a) in levels.iter().enumerate() {
        for b in &levels[i + 1..] {
            combinations.push(vec![a.clone(), b.clone()]);
        }
    }
    let factors = families::checks(&case.problem.op).triples();
    let chosen: Vec<&Level> = levels.iter().filter(|(factor, _)| factors.contains(factor)).collect();
    for (i, a) in chosen.iter().enumerate() {
        for (j, b) in chosen[i + 1..].iter().enumerate() {
            for c in &chosen[i + j + 2..] {
                combinations.push(vec![(*a).clone(), (*b).clone(), (*c).clone()]);
            }
        }
    }
    combinations
}

/// The random cases of an operation whose combinations have to be covered.
pub fn candidates(op: &str) -> impl Iterator<Item = Case> + use<> {
    let space = Space::of(&|name, _| name == op, &DType::ALL, Numbers::Moderate);
    (0..CANDIDATES).map(move |index| {
        let case = space.case(SEED, index);
        // A short text: what a seed draws does not matter here.
        Case { seed: 1 + index % 7, ..case }
    })
}

/// What cases cover of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Combinations that can be drawn.
    pub possible: usize,
    /// Those that no case has, with a candidate that does.
    pub missing: BTreeMap<Combination, String>,
}

impl Coverage {
    /// What `cases` cover of an operation.
    pub fn of<'a>(op: &str, cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let own = cases.into_iter().filter(|case| case.problem.name() == op);
        let covered: BTreeSet<Combination> = own.flat_map(combinations).collect();
        let mut coverage = Coverage::default();
        let mut seen = BTreeSet::new();
        for case in candidates(op) {
            for combination in combinations(&case) {
                if !covered.contains(&combination) {
                    coverage.missing.entry(combination.clone()).or_insert_with(|| case.to_string());
                }
                seen.insert(combination);
            }
        }
        coverage.possible = seen.len();
        coverage
    }

    /// Cases that close the gaps, few and cheap: candidates in order of how many gaps they close, and first
    /// those whose bounds are sharp enough for a verdict.
    pub fn closing(op: &str, covered_by: &[Case], is_sharp: &dyn Fn(&Case) -> bool) -> Vec<Case> {
        let own = covered_by.iter().filter(|case| case.problem.name() == op);
        let covered: BTreeSet<Combination> = own.flat_map(combinations).collect();
        let mut ids: HashMap<Combination, usize> = HashMap::new();
        let mut all: Vec<(Case, Vec<usize>)> = candidates(op)
            .map(|case| {
                let open = combinations(&case).into_iter().filter(|c| !covered.contains(c));
                let ids = open.map(|combination| {
                    let next = ids.len();
                    *ids.entry(combination).or_insert(next)
                });
                let ids = ids.collect();
                (case, ids)
            })
            .collect();
        // Of two that close as many, the cheaper one.
        all.sort_by_key(|(case, _)| {
            let work = case.problem.work();
            work.flops + work.bytes
        });
        let mut open = vec![true; ids.len()];
        let mut chosen = Vec::new();
        let mut blunt = HashSet::new();
        for wants_sharp in [true, false] {
            let mut least = all.iter().map(|(_, ids)| ids.len()).max().unwrap_or(0);
            while least > 0 {
                for (index, (case, ids)) in all.iter().enumerate() {
                    let gain = ids.iter().filter(|&&id| open[id]).count();
                    if gain < least || (wants_sharp && blunt.contains(&index)) {
                        continue;
                    }
                    if wants_sharp && !is_sharp(case) {
                        blunt.insert(index);
                        continue;
                    }
                    ids.iter().for_each(|&id| open[id] = false);
                    chosen.push(case.clone());
                }
                least = least * 4 / 5;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_covers_the_pairs_of_its_levels() {
        let case: Case = "softmax bf16 shape=3x65 axis=0 fill=needle".parse().unwrap();
        let pairs = combinations(&case);
        let pair =
            |a: (&'static str, &str), b: (&'static str, &str)| vec![(a.0, a.1.into()), (b.0, b.1.into())];
        assert!(pairs.contains(&pair(("dtype", "bf16"), ("axis", "inner"))));
        assert!(pairs.contains(&pair(("fill", "needle"), ("length", "3 to 7"))));
        // Seven factors.
        assert_eq!(pairs.len(), 21);
    }

    #[test]
    fn a_case_of_nothing_covers_its_empty_sizes_only() {
        let case: Case = "attention bf16 h=2 lq=0 lk=3 d=8 causal=top_left fill=needle".parse().unwrap();
        assert_eq!(levels(&case), [("dtype", "bf16".to_string()), ("queries", "0".to_string())]);
    }

    #[test]
    fn smoke_and_standard_cover_all_that_exploration_can_draw() {
        let suites = ["smoke", "standard"].map(|name| crate::suite::Suite::load(name).unwrap());
        let cases: Vec<Case> =
            suites.into_iter().flat_map(|suite| suite.cases).map(|case| case.case).collect();
        for op in touchstone_kernels::op::names() {
            let coverage = Coverage::of(op, &cases);
            assert!(coverage.possible > 0);
            let some = coverage.missing.iter().next();
            let renew = "run `cargo run --release --example covering -- harness/suites/covering.toml`";
            assert!(some.is_none(), "{op}: {} gaps, one is {some:?}; {renew}", coverage.missing.len());
        }
    }

    #[test]
    fn what_closes_the_gaps_closes_them_all() {
        let closing = Coverage::closing("silu", &[], &|_| true);
        let coverage = Coverage::of("silu", &closing);
        assert!(coverage.missing.is_empty() && coverage.possible > 50, "{coverage:?}");
        assert!(closing.len() < 120, "{}", closing.len());
        let without = Coverage::of("silu", &closing[1..]);
        assert!(!without.missing.is_empty());
    }
}
