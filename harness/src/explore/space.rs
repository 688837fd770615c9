//! What there is to draw from, and the draw.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{SBoxedStrategy, Union, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use touchstone_kernels::op::Family;
use touchstone_kernels::{DType, Op, Problem};

use super::sizes::Numbers;
use crate::case::Case;
use crate::families;
use crate::fill::{Controls, Fill};

/// The problems that can be drawn: operations with every semantic choice, storage types, fills.
#[derive(Clone, Debug)]
pub struct Space {
    operations: Vec<Operation>,
}

/// An operation with all its cases.
#[derive(Clone, Debug)]
struct Operation {
    name: &'static str,
    weight: u32,
    cases: SBoxedStrategy<Case>,
}

/// A case that has been drawn and can be made smaller.
pub(super) type Drawn = Box<dyn ValueTree<Value = Case>>;

impl Space {
    /// Everything, with parameters as computing wants them.
    pub fn whole() -> Self {
        Space::of(&|_, _| true, &DType::ALL, Numbers::Moderate)
    }

    /// The operations that are `wanted`, in the given storage types. None at all is an empty space.
    pub fn of(wanted: &dyn Fn(&str, &Family) -> bool, dtypes: &[DType], numbers: Numbers) -> Self {
        let dtypes: Vec<DType> = DType::ALL.into_iter().filter(|dtype| dtypes.contains(dtype)).collect();
        let operations = families::draws()
            .into_iter()
            .filter(|(family, draw)| !dtypes.is_empty() && wanted(draw.name, family))
            .map(|(_, draw)| Operation {
                name: draw.name,
                weight: draw.weight,
                cases: cases((draw.strategy)(numbers), &dtypes),
            })
            .collect();
        Space { operations }
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// All cases, for tests of properties.
    ///
    /// # Panics
    /// When the space is empty.
    pub fn cases(&self) -> impl Strategy<Value = Case> + use<> {
        Union::new_weighted(
            self.operations.iter().map(|op| (op.weight, op.cases.clone())).collect::<Vec<_>>(),
        )
    }

    /// Case `index` of a seed.
    ///
    /// # Panics
    /// When the space is empty.
    pub fn case(&self, seed: u64, index: u64) -> Case {
        self.draw(seed, index).current()
    }

    /// Case `index` of a seed, to be shrunk. The operation is drawn first and stays: a failure of
    /// one is not explained by a failure of another.
    pub(super) fn draw(&self, seed: u64, index: u64) -> Drawn {
        let mut runner = runner(seed, index);
        let total: u32 = self.operations.iter().map(|op| op.weight).sum();
        let mut left = (runner.rng().next_u64() % u64::from(total)) as u32;
        let mut chosen = &self.operations[0];
        for operation in &self.operations {
            chosen = operation;
            if left < operation.weight {
                break;
            }
            left -= operation.weight;
        }
        #[expect(clippy::expect_used, reason = "no strategy of the space rejects what it draws")]
        let tree = chosen.cases.new_tree(&mut runner).expect("a draw");
        tree
    }

    /// The names of the operations in it.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.operations.iter().map(|op| op.name)
    }
}

/// proptest's source of randomness, from seed and index alone.
fn runner(seed: u64, index: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng)
}

/// The cases of an operation.
fn cases(ops: SBoxedStrategy<Op>, dtypes: &[DType]) -> SBoxedStrategy<Case> {
    // Mostly the usual ones, so that other choices are not seen with strange masks only.
    let controls = prop_oneof![2 => Just(Controls::Usual), 1 => select(Controls::ALL)];
    (ops, select(dtypes.to_vec()), select(Fill::ALL), controls, any::<u64>())
        .prop_map(|(op, dtype, fill, controls, seed)| {
            #[expect(clippy::expect_used, reason = "strategies draw what fits together")]
            let problem = Problem::new(op, dtype).expect("a valid problem");
            Case { problem, fill, controls, seed }
        })
        .sboxed()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_case_is_the_same_whenever_it_is_drawn() {
        let (space, again) = (Space::whole(), Space::whole());
        for index in [0, 1, 77, u64::MAX] {
            assert_eq!(space.case(5, index), again.case(5, index));
            assert_ne!(space.case(5, index), space.case(6, index), "{index}");
        }
    }

    #[test]
    fn everything_is_drawn() {
        let space = Space::whole();
        let texts: Vec<String> = (0..20_000).map(|index| space.case(1, index).to_string()).collect();
        let words: HashSet<&str> = texts.iter().flat_map(|text| text.split(' ')).collect();
        for word in touchstone_kernels::op::names() {
            assert!(words.contains(word), "{word}");
        }
        for fill in Fill::ALL {
            assert!(words.contains(format!("fill={fill}").as_str()), "{fill}");
        }
        for controls in Controls::ALL.iter().filter(|controls| **controls != Controls::Usual) {
            assert!(words.contains(format!("controls={controls}").as_str()), "{controls}");
        }
        #[rustfmt::skip]
        let choices = [
            "f16", "bf16", "causal=top_left", "causal=bottom_right", "mask=padding", "mask=bool:11qk", "mask=bool:bhqk",
            "mask=float:b11k", "mask=float:1hqk", "alibi=true", "sinks=true", "lse=true", "softcap=30", "scale=0",
            "axis=-2", "axis=-4", "axes=3", "weight=false", "bias=false", "weight_offset=1", "round_before_weight=true",
            "mode=infer", "momentum=0", "groups=32", "slope=0.2", "beta=1.702", "alpha=0.5", "layout=gate_last",
            "layout=gate_first", "style=interleaved", "scaling=linear:4", "scaling=ntk:8", "batched_positions=true",
            "freq_factors=true", "tables=timed", "shape=scalar",
        ];
        for choice in choices {
            assert!(words.contains(choice), "{choice}");
        }
        for prefix in ["scaling=yarn", "scaling=llama3", "window=", "cache=", "hkv=", "dv=", "rotary_dim="] {
            assert!(words.iter().any(|word| word.starts_with(prefix)), "{prefix}");
        }
        // Sizes 0 and 1 as well.
        assert!(texts.iter().any(|text| text.contains(" lk=0 ")));
        assert!(texts.iter().any(|text| text.contains("x0 ") && text.contains("softmax")));
    }

    #[test]
    fn problems_are_cheap() {
        let space = Space::whole();
        let works = (0..20_000).map(|index| space.case(2, index).problem.work());
        for index in 0..20_000 {
            let case = space.case(2, index);
            let work = case.problem.work();
            // Beside a size of 0, such as no keys, the others are as large as they like.
            assert!(work.flops.max(work.bytes) < 64 << 20, "{work:?} of '{case}'");
        }
        let mean = works.map(|work| work.flops + work.bytes).sum::<u64>() / 20_000;
        assert!(mean < 500_000, "{mean}");
    }
}
