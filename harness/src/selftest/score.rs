//! What came of a self-test.

use std::collections::HashSet;
use std::fmt;

use touchstone_kernels::DType;

/// A fault that was caught in a storage type.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    /// The fault.
    pub fault: &'static str,
    /// The storage type.
    pub dtype: DType,
    /// The case that failed it.
    pub case: String,
    /// What the verdict said.
    pub why: String,
    /// The cases that it had been right on before.
    pub passed: usize,
}

/// A fault that no case failed in a storage type in which it can be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Survivor {
    /// The fault.
    pub fault: &'static str,
    /// The mistake.
    pub about: &'static str,
    /// The storage type.
    pub dtype: DType,
    /// The cases that it passed; with none, the suites do not pose the question.
    pub passed: usize,
}

/// A correct variant that a case failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FalseAlarm {
    /// The variant.
    pub variant: &'static str,
    /// The case.
    pub case: String,
    /// What the verdict said.
    pub why: String,
}

/// The result of a self-test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// How many faults were planted.
    pub planted: usize,
    /// How many variants were judged.
    pub variants: usize,
    /// Verdicts on variants.
    pub judgements: usize,
    /// The kill matrix.
    pub kills: Vec<Kill>,
    /// What was not caught.
    pub survivors: Vec<Survivor>,
    /// What was failed and should not have been.
    pub false_alarms: Vec<FalseAlarm>,
    /// Cases that were posed.
    pub cases: usize,
    /// Cases left out as too large.
    pub left_out: usize,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Score {
    /// Faults that were caught in every storage type in which they can be made.
    pub fn caught(&self) -> usize {
        let at_large: HashSet<&str> = self.survivors.iter().map(|survivor| survivor.fault).collect();
        self.planted - at_large.len()
    }

    /// Whether everything was caught and nothing falsely failed, and something was judged at all.
    pub fn is_perfect(&self) -> bool {
        !self.stopped
            && self.survivors.is_empty()
            && self.false_alarms.is_empty()
            && (self.kills.len(), self.judgements) != (0, 0)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.planted > 0 {
            write!(
                f,
                "{} of {} planted faults caught, each in every storage type in which it can be made \
                 ({} kills); ",
                self.caught(),
                self.planted,
                self.kills.len(),
            )?;
        }
        write!(
            f,
            "{} false alarms in {} verdicts on {} correct variants. {} cases were posed",
            self.false_alarms.len(),
            self.judgements,
            self.variants,
            self.cases,
        )?;
        if self.left_out > 0 {
            write!(f, ", {} left out as too large for a self-test", self.left_out)?;
        }
        f.write_str(if self.stopped { "; stopped before the end." } else { "." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(dtype: DType) -> Survivor {
        Survivor { fault: "zeros", about: "Nothing is computed.", dtype, passed: 3 }
    }

    #[test]
    fn a_fault_at_large_in_two_types_is_one_fault() {
        let score = Score {
            planted: 3,
            survivors: vec![survivor(DType::F16), survivor(DType::BF16)],
            ..Score::default()
        };
        assert_eq!(score.caught(), 2);
        assert!(!score.is_perfect());
    }

    #[test]
    fn a_run_that_judged_nothing_is_not_perfect() {
        assert!(!Score::default().is_perfect());
        let score = Score { judgements: 1, ..Score::default() };
        assert!(score.is_perfect());
        assert!(!Score { stopped: true, ..score }.is_perfect());
    }
}
