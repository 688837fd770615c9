//! What a row must satisfy before it may be written: above all, no time without agreement.

use crate::record::{Record, SCHEMA_VERSION};
use crate::status::Status;

/// A row that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The row was made for another schema.
    #[error("schema is {found}, this program writes {SCHEMA_VERSION}")]
    Schema {
        /// The version in the row.
        found: u32,
    },
    /// A column that every row, or every row of this status, must fill is empty.
    #[error("column `{column}` is empty in a row with status {status}")]
    Missing {
        /// The empty column.
        column: &'static str,
        /// The status of the row.
        status: Status,
    },
    /// The time is not RFC 3339 in UTC.
    #[error("time is `{found}`, expected RFC 3339 in UTC such as 2026-01-31T12:00:00Z")]
    Time {
        /// The text in the row.
        found: String,
    },
    /// A column with a closed set of words holds another one.
    #[error("column `{column}` is `{found}`, expected {expected}")]
    Word {
        /// The column.
        column: &'static str,
        /// The words it may hold.
        expected: &'static str,
        /// The word it holds.
        found: String,
    },
    /// A fast but wrong kernel gets no time.
    #[error("`{column}` is {value} in a row with status {status}: only passed rows carry times")]
    TimeWithoutAgreement {
        /// The column that should be empty.
        column: &'static str,
        /// What it holds.
        value: String,
        /// The status of the row.
        status: Status,
    },
    /// A figure that cannot be what it says.
    #[error("`{column}` is {value} in a row with status {status}, expected {expected}")]
    Figure {
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
        /// The status of the row.
        status: Status,
        /// What it may hold.
        expected: &'static str,
    },
    /// Two columns stand in the wrong order, such as a minimum above the median.
    #[error("`{low}` is {low_value} but `{high}` is {high_value}")]
    Order {
        /// The column that should be smaller.
        low: &'static str,
        /// Its value.
        low_value: String,
        /// The column that should be larger.
        high: &'static str,
        /// Its value.
        high_value: String,
    },
}

/// The suite of rows that `cargo bench` made.
const CARGO_BENCH: &str = "cargo bench";

/// No time of a right kernel is five times as good as the machine's own limits, however these were measured.
const MOST_PERCENT: f64 = 500.0;

impl Record {
    /// Checks that the row does not contradict itself.
    ///
    /// - identity: schema, run, time, problem, family, op, dtype, backend, at least one thread;
    /// - every row that did not pass says why and how to reproduce it;
    /// - a timed row has its error over its bound, and a share of the roofline that can be;
    /// - timing columns are empty unless the status is passed, and complete if there is a median;
    /// - percentiles and interval ends are in order;
    /// - a row that says `passed` has errors within its bounds, and its worst element is no farther off than
    ///   its largest error; times, rates and speed-ups are numbers greater than zero. The word alone is no
    ///   evidence.
    ///
    /// # Errors
    /// The first rule broken, with the operands that break it.
    pub fn validate(&self) -> Result<(), RecordError> {
        self.validate_identity()?;
        if self.status != Status::Passed {
            for (column, value) in self.timing_columns() {
                if let Some(value) = value {
                    return Err(RecordError::TimeWithoutAgreement { column, value, status: self.status });
                }
            }
            self.require("reason", !self.reason.is_empty())?;
            self.require("repro", !self.repro.is_empty())?;
        }
        self.validate_figures()?;
        self.validate_timing()
    }

    fn figure(
        &self,
        column: &'static str,
        value: Option<f64>,
        expected: &'static str,
        is_right: impl Fn(f64) -> bool,
    ) -> Result<(), RecordError> {
        match value.filter(|&value| !is_right(value)) {
            None => Ok(()),
            Some(value) => {
                Err(RecordError::Figure { column, value: value.to_string(), status: self.status, expected })
            }
        }
    }

    fn validate_figures(&self) -> Result<(), RecordError> {
        if self.status == Status::Passed {
            // A benchmark of criterion's was judged beforehand, and its figures stand in another run.
            if self.is_timed() && self.suite != CARGO_BENCH {
                self.require("error_over_bound", self.error_over_bound.is_some())?;
            }
            let passed = "a ratio from 0 to 1";
            self.figure("error_over_bound", self.error_over_bound, passed, |x| (0.0..=1.0).contains(&x))?;
            for (column, value) in [
                ("max_abs", self.max_abs),
                ("max_rel", self.max_rel),
                ("rmse", self.rmse),
                ("ulp_p99", self.ulp_p99),
                ("ulp_max", self.ulp_max),
            ] {
                self.figure(column, value, "a number, not negative", |x| x >= 0.0)?;
            }
            if let (Some(expected), Some(got), Some(most)) =
                (self.worst_expected, self.worst_got, self.max_abs)
                && expected.is_finite()
                && got.is_finite()
            {
                // The two numbers are rounded, and so is their difference.
                let rounding = f64::EPSILON * expected.abs().max(got.abs()) + f64::MIN_POSITIVE;
                let off = |_| (got - expected).abs() <= most * (1.0 + 1e-9) + rounding;
                self.figure("max_abs", Some(most), "no less than the worst element's error", off)?;
            }
        }
        let positive = "a number greater than 0";
        for (column, value) in [
            ("speedup", self.speedup),
            ("speedup_low", self.speedup_low),
            ("speedup_high", self.speedup_high),
            ("gflops", self.gflops.filter(|_| self.flops > 0)),
            ("gb_per_s", self.gb_per_s.filter(|_| self.bytes > 0)),
        ] {
            self.figure(column, value, positive, |x| x.is_finite() && x > 0.0)?;
        }
        let share = "a share of what the machine can do";
        let is_share = |x: f64| x.is_finite() && (0.0..=MOST_PERCENT).contains(&x);
        self.figure("roofline_percent", self.roofline_percent, share, is_share)
    }

    fn require(&self, column: &'static str, filled: bool) -> Result<(), RecordError> {
        if filled {
            return Ok(());
        }
        Err(RecordError::Missing { column, status: self.status })
    }

    fn validate_identity(&self) -> Result<(), RecordError> {
        if self.schema != SCHEMA_VERSION {
            return Err(RecordError::Schema { found: self.schema });
        }
        for (column, value) in [
            ("run_id", &self.run_id),
            ("problem", &self.problem),
            ("family", &self.family),
            ("op", &self.op),
            ("dtype", &self.dtype),
            ("backend", &self.backend),
        ] {
            self.require(column, !value.is_empty())?;
        }
        self.require("threads", self.threads > 0)?;
        if !is_utc(&self.time) {
            return Err(RecordError::Time { found: self.time.clone() });
        }
        word(
            "contract",
            &self.contract,
            &["", "componentwise", "normwise"],
            "componentwise, normwise or nothing",
        )?;
        word("cache", &self.cache, &["", "hot", "cold"], "hot, cold or nothing")?;
        word("method", &self.method, &["", "wall", "device"], "wall, device or nothing")
    }

    fn validate_timing(&self) -> Result<(), RecordError> {
        if self.is_timed() {
            self.require("cache", !self.cache.is_empty())?;
            self.require("method", !self.method.is_empty())?;
            self.require("iterations", self.iterations.is_some_and(|n| n > 0))?;
            self.require("samples", self.samples.is_some_and(|n| n > 0))?;
        }
        let ladder = [
            ("min_ns", self.min_ns),
            ("p10_ns", self.p10_ns),
            ("median_ns", self.median_ns),
            ("p90_ns", self.p90_ns),
        ];
        let mut steps = ladder.into_iter().filter_map(|(name, ns)| Some((name, ns?)));
        if let Some(mut below) = steps.next() {
            for above in steps {
                if below.1 > above.1 {
                    return Err(order(below.0, &below.1, above.0, &above.1));
                }
                below = above;
            }
        }
        match (self.speedup_low, self.speedup_high) {
            (Some(low), Some(high)) if low > high => Err(order("speedup_low", &low, "speedup_high", &high)),
            _ => Ok(()),
        }
    }

    /// The columns that exist only after a measurement, with their text if they are filled.
    fn timing_columns(&self) -> [(&'static str, Option<String>); 20] {
        fn text<T: ToString>(value: Option<T>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        [
            ("method", Some(self.method.clone()).filter(|m| !m.is_empty())),
            ("iterations", text(self.iterations)),
            ("samples", text(self.samples)),
            ("min_ns", text(self.min_ns)),
            ("p10_ns", text(self.p10_ns)),
            ("median_ns", text(self.median_ns)),
            ("p90_ns", text(self.p90_ns)),
            ("mean_ns", text(self.mean_ns)),
            ("mad_ns", text(self.mad_ns)),
            ("speedup", text(self.speedup)),
            ("speedup_low", text(self.speedup_low)),
            ("speedup_high", text(self.speedup_high)),
            ("gflops", text(self.gflops)),
            ("gb_per_s", text(self.gb_per_s)),
            ("roofline_percent", text(self.roofline_percent)),
            ("prepare_ns", text(self.prepare_ns)),
            ("load_ns", text(self.load_ns)),
            ("outputs_ns", text(self.outputs_ns)),
            ("audit_ns", text(self.audit_ns)),
            ("first_ns", text(self.first_ns)),
        ]
    }
}

fn word(
    column: &'static str,
    found: &str,
    allowed: &[&str],
    expected: &'static str,
) -> Result<(), RecordError> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(RecordError::Word { column, expected, found: found.to_owned() })
}

fn order(
    low: &'static str,
    low_value: &impl ToString,
    high: &'static str,
    high_value: &impl ToString,
) -> RecordError {
    RecordError::Order { low, low_value: low_value.to_string(), high, high_value: high_value.to_string() }
}

/// Whether the text has the shape `2026-01-31T12:00:00Z`, fractions of a second allowed.
/// UTC everywhere is what makes times of merged runs comparable as text.
fn is_utc(time: &str) -> bool {
    let Some(rest) = time.strip_suffix('Z') else {
        return false;
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
    let shape = "dddd-dd-ddTdd:dd:dd";
    whole.len() == shape.len()
        && whole.chars().zip(shape.chars()).all(|(c, s)| match s {
            'd' => c.is_ascii_digit(),
            fixed => c == fixed,
        })
        && !fraction.is_empty()
        && fraction.chars().all(|c| c.is_ascii_digit())
}
