//! Classes of timed cases, as data: which cases belong together, and what is wanted of them.
//!
//! The built-in ones are in `classes.toml` beside this crate's manifest, whose first lines say how
//! such a file is written.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::fields::ProblemFields;
use crate::record::Record;

/// The classes that come with the program.
const BUILT_IN: &str = include_str!("../classes.toml");

/// Storage types that are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Width {
    /// f32, and whatever else is not a half type.
    Full,
    /// f16 and bf16.
    Half,
}

impl Width {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Full, Self::Half];

    /// The width of a storage type.
    #[must_use]
    pub fn of(dtype: &str) -> Self {
        if matches!(dtype, "f16" | "bf16") { Self::Half } else { Self::Full }
    }

    /// In words: `f32` or `f16, bf16`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "f32",
            Self::Half => "f16, bf16",
        }
    }
}

/// What is wanted of a class. Ratios are the time of the fastest rival over that of the subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goals {
    /// Ratio in cache.
    pub hot: Option<f64>,
    /// Ratio out of cache.
    pub cold: Option<f64>,
    /// Ratio in cache against a rival that is composed of several operations.
    pub composed: Option<f64>,
    /// Percentage of the measured limit.
    pub roofline: Option<f64>,
}

impl Goals {
    /// The ratio wanted of a row in this cache state, against a rival that ran on this path.
    #[must_use]
    pub fn ratio(&self, cache: &str, rival_path: &str) -> Option<f64> {
        match cache {
            "hot" => self.composed.filter(|_| rival_path.starts_with("composed")).or(self.hot),
            "cold" => self.cold,
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Cases that belong together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What it is called.
    pub name: String,
    op: Vec<String>,
    #[serde(default, rename = "where")]
    conditions: BTreeMap<String, Condition>,
    #[serde(default)]
    goals: Goals,
}

/// A file of classes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classes {
    half: Goals,
    default: BTreeMap<String, BTreeMap<String, String>>,
    special: BTreeMap<String, Vec<String>>,
    class: Vec<Class>,
}

impl Classes {
    /// Those that come with the program.
    ///
    /// # Errors
    /// None unless the program was built with a damaged file.
    pub fn built_in() -> Result<Self, toml::de::Error> {
        Self::parse(BUILT_IN)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What does not fit, with its line.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The classes, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Class] {
        &self.class
    }

    /// What is wanted of a class in storage types of this width.
    #[must_use]
    pub fn goals(&self, class: &Class, width: Width) -> Goals {
        match width {
            Width::Half if !class.goals.is_empty() => self.half,
            Width::Half => Goals::default(),
            Width::Full => class.goals,
        }
    }

    /// The place of the class that a row belongs to, if it belongs to any: the first, should there
    /// be several.
    #[must_use]
    pub fn of(&self, record: &Record) -> Option<usize> {
        self.matching(record).next()
    }

    /// The places of all classes that a row fits. There should be one.
    pub fn matching(&self, record: &Record) -> impl Iterator<Item = usize> {
        let fields = ProblemFields::of(&record.problem);
        let fits = move |class: &Class| {
            class.op.contains(&record.op)
                && class.conditions.iter().all(|(name, condition)| {
                    self.value(&record.op, &fields, name).is_some_and(|value| condition.holds(&value))
                })
        };
        self.class.iter().enumerate().filter(move |(_, class)| fits(class)).map(|(place, _)| place)
    }

    /// The value of a field, of a quotient of two, or of the form.
    fn value(&self, op: &str, fields: &ProblemFields<'_>, name: &str) -> Option<String> {
        if name == "form" {
            let special = self.special.get(op).is_some_and(|s| s.iter().any(|f| fields.get(f).is_some()));
            return Some(if special { "special" } else { "plain" }.to_owned());
        }
        if let Some((above, below)) = name.split_once('/') {
            let number = |name| self.value(op, fields, name)?.parse::<u64>().ok();
            return number(above)?.checked_div(number(below)?).map(|quotient| quotient.to_string());
        }
        if let Some(written) = fields.get(name) {
            return Some(written.to_owned());
        }
        let default = self.default.get(op)?.get(name)?;
        // At most one step: no default leads to another.
        Some(fields.get(default).unwrap_or(default).to_owned())
    }
}

/// What the value of a field has to be: one of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Condition(Vec<Choice>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Word(String),
    /// Both ends are included.
    Range(u64, u64),
}

impl Condition {
    fn holds(&self, value: &str) -> bool {
        let number = value.parse::<u64>().ok();
        self.0.iter().any(|choice| match choice {
            Choice::Word(word) => word == value,
            Choice::Range(low, high) => number.is_some_and(|n| (*low..=*high).contains(&n)),
        })
    }
}

/// A range that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': expected a word, or a range such as 9..=128, ..=8 or 1024..")]
struct BadCondition {
    text: String,
}

impl TryFrom<String> for Condition {
    type Error = BadCondition;

    fn try_from(text: String) -> Result<Self, BadCondition> {
        let choice = |word: &str| {
            let Some((low, high)) = word.split_once("..") else {
                return (!word.is_empty()).then(|| Choice::Word(word.to_owned()));
            };
            let low = if low.is_empty() { 0 } else { low.parse().ok()? };
            let high = match high {
                "" => u64::MAX,
                high => high.strip_prefix('=')?.parse().ok()?,
            };
            (low <= high).then_some(Choice::Range(low, high))
        };
        let choices: Option<Vec<_>> = text.split('|').map(choice).collect();
        choices.map(Self).ok_or(BadCondition { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(problem: &str) -> String {
        let classes = Classes::built_in().unwrap();
        let mut words = problem.split(' ');
        let (op, dtype) = (words.next().unwrap(), words.next().unwrap());
        let record =
            Record { op: op.into(), dtype: dtype.into(), problem: problem.into(), ..Record::default() };
        let names: Vec<_> =
            classes.matching(&record).map(|place| classes.all()[place].name.clone()).collect();
        names.join(" and ")
    }

    #[test]
    fn every_problem_has_the_class_that_its_text_says() {
        for (problem, class) in [
            ("attention f32 h=12 lq=1024 d=64", "prefill, L ≥ 1k, D 64"),
            ("attention f32 h=8 lq=2048 d=128", "prefill, L ≥ 1k, D 128"),
            ("attention f32 h=8 lq=1024 d=96", "prefill, L ≥ 1k, other D"),
            ("attention f32 h=12 lq=1023 d=64", "prefill, L 129 to 1023"),
            ("attention bf16 h=12 lq=4095 d=64 causal=top_left", "causal prefill, L from 1k"),
            ("attention f32 h=12 lq=4096 d=64 causal=bottom_right", "causal prefill, L from 4k"),
            ("attention f32 h=12 lq=512 d=64 causal=bottom_right", "causal prefill, L 129 to 1023"),
            ("attention f32 h=12 lq=128 d=64", "short prefill, L ≤ 128"),
            ("attention f32 h=12 lq=9 d=64 causal=top_left", "short causal prefill, L ≤ 128"),
            (
                "attention f32 b=4 h=12 lq=128 d=64 mask=padding",
                "prefill with window, mask, bias or soft cap",
            ),
            ("attention f32 h=32 lq=1 lk=2048 d=128 causal=bottom_right", "decode, MHA"),
            ("attention f32 h=32 hkv=8 lq=1 lk=1024 d=128 window=511,0", "decode, groups below 8"),
            ("attention f32 h=32 hkv=4 lq=8 lk=2048 d=128", "decode, GQA-8"),
            ("softmax f32 shape=64x1024x16 axis=-2", "softmax, log_softmax"),
            ("gelu f16 shape=256x4096", "gelu (erf)"),
            ("frobnicate f32 shape=1", ""),
        ] {
            assert_eq!(class_of(problem), class, "{problem}");
        }
    }

    #[test]
    fn goals_depend_on_width_cache_and_the_path_of_the_rival() {
        let classes = Classes::built_in().unwrap();
        let class = |name: &str| classes.all().iter().find(|class| class.name == name).unwrap();
        let rope = classes.goals(class("rope"), Width::Full);
        assert_eq!(rope.ratio("hot", "rope_i"), Some(1.1));
        assert_eq!(rope.ratio("hot", "composed: Cast, RotaryEmbedding, Cast"), Some(4.0));
        assert_eq!((rope.ratio("cold", "rope"), rope.roofline), (None, Some(85.0)));
        let half = classes.goals(class("softmax, log_softmax"), Width::of("bf16"));
        assert_eq!((half.ratio("hot", ""), half.ratio("cold", ""), half.roofline), (Some(1.5), None, None));
        let none = classes.goals(class("exp, erf, elu, softplus, mish"), Width::of("f16"));
        assert_eq!(none, Goals::default(), "where there is no goal, half types have none either");
    }

    #[test]
    fn conditions_are_words_and_ranges() {
        let holds = |condition: &str, value| Condition::try_from(condition.to_owned()).unwrap().holds(value);
        assert!(holds("none", "none") && !holds("none", "top_left"));
        assert!(holds("a|b", "b") && !holds("a|b", "c"));
        assert!(holds("9..=128", "9") && holds("9..=128", "128") && !holds("9..=128", "129"));
        assert!(holds("1024..", "5000") && !holds("1024..", "1023") && !holds("1024..", "many"));
        assert!(holds("..=8|64", "64"));
        for bad in ["", "9..8", "9..128", "a..", "a||b", "9..=3"] {
            assert!(Condition::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let error = Classes::parse(
            "[half]\n[default]\n[special]\n[[class]]\nname = 'x'\nop = ['y']\nwhere = { lq = '9..8' }\n",
        );
        assert!(error.unwrap_err().to_string().contains("expected a word, or a range"));
    }
}
