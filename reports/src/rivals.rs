//! One backend, the subject, against the fastest of its rivals in each case.
//!
//! Whoever is the subject: the rivals are the backends by other makers on the same device, without
//! `naive`, which nobody uses for its speed. In each case the fastest of them counts, by its median.
//! It is chosen by the times that it is then compared by, so that luck has made it a little faster
//! than it is: that bias is against the subject.

use std::collections::{BTreeMap, HashMap};

use crate::classes::{Class, Classes, Width};
use crate::record::{Record, RowKey};
use crate::sample::SampleRow;
use crate::speed::{CaseKey, Group, Ratio, case, median_ratio};
use crate::statistics::{MedianRatio, SEED, kept};
use crate::summary::ordered_backends;

/// No comparison can be made.
#[derive(Debug, thiserror::Error)]
pub enum RivalsError {
    /// The subject is not in the records.
    #[error("no backend '{subject}' in these records: there are {}", present.join(", "))]
    Unknown {
        /// The name asked for.
        subject: String,
        /// The names that are there.
        present: Vec<String>,
    },
    /// The classes cannot be read.
    #[error("the classes of cases are damaged: {0}")]
    Classes(#[from] toml::de::Error),
}

/// The subject and its fastest rival in one case, on one number of threads, in one cache state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duel<'a> {
    /// The subject's row, and its place among the records.
    pub subject: (usize, &'a Record),
    /// The rival's.
    pub rival: (usize, &'a Record),
    /// The place of the class that the case belongs to.
    pub class: Option<usize>,
    /// The rival's time over the subject's: above 1 the subject is faster.
    pub ratio: Ratio,
}

/// How a duel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The subject is faster.
    Faster,
    /// The interval holds 1.
    Even,
    /// The subject is slower.
    Slower,
}

impl Duel<'_> {
    /// How it ended; without an interval the medians decide.
    #[must_use]
    pub fn ending(&self) -> Ending {
        let (low, high) = self.ratio.interval.unwrap_or((self.ratio.value, self.ratio.value));
        match (low > 1.0, high < 1.0) {
            (true, _) => Ending::Faster,
            (_, true) => Ending::Slower,
            _ => Ending::Even,
        }
    }

    fn width(&self) -> Width {
        Width::of(&self.subject.1.dtype)
    }
}

/// What became of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reached.
    Met,
    /// Not reached.
    Short,
    /// No case tells.
    NotMeasured,
}

/// A value that is wanted, and whether it was reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// At least this much.
    pub wanted: f64,
    /// Whether it was reached.
    pub verdict: Verdict,
    /// Whether the interval of what was reached holds what is wanted.
    pub within_noise: bool,
}

impl Goal {
    fn new(wanted: f64, reached: Option<Ratio>) -> Self {
        let verdict = match reached {
            None => Verdict::NotMeasured,
            Some(reached) if reached.value >= wanted => Verdict::Met,
            Some(_) => Verdict::Short,
        };
        let within_noise = reached
            .and_then(|reached| reached.interval)
            .is_some_and(|(low, high)| low <= wanted && wanted <= high);
        Self { wanted, verdict, within_noise }
    }
}

/// Several duels together.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing<'a> {
    /// The duels, the worst for the subject first.
    pub duels: Vec<Duel<'a>>,
    /// The geometric mean of their ratios.
    pub mean: Option<Ratio>,
}

impl<'a> Standing<'a> {
    fn of(mut duels: Vec<Duel<'a>>) -> Self {
        duels.sort_by(|a, b| a.ratio.value.total_cmp(&b.ratio.value));
        let ratios: Vec<_> = duels.iter().map(|duel| duel.ratio).collect();
        Self { duels, mean: Ratio::geometric_mean(&ratios) }
    }

    /// Duels that ended so.
    #[must_use]
    pub fn count(&self, ending: Ending) -> usize {
        self.duels.iter().filter(|duel| duel.ending() == ending).count()
    }
}

/// A class in storage types of one width, under one set of conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassStanding<'a> {
    /// The class.
    pub class: &'a Class,
    /// The storage types.
    pub width: Width,
    /// Its duels.
    pub standing: Standing<'a>,
    /// The ratio wanted: the geometric mean of what is wanted of each case.
    pub goal: Option<Goal>,
    /// The median share of the measured limit, in percent, with the name of that case's limit.
    pub reached: Option<(f64, &'a str)>,
    /// The share wanted, in percent.
    pub roofline: Option<Goal>,
}

/// Threads and cache state, which are never averaged over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// See [`Record::threads`].
    pub threads: u32,
    /// See [`Record::cache`].
    pub cache: String,
}

impl Conditions {
    /// `1 thread, hot cache`.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { threads, cache } = self.clone();
        Group { threads, cache, family: String::new(), op: String::new(), dtype: String::new() }.conditions()
    }
}

/// The subject against its rivals, in all cases that were timed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rivals<'a> {
    /// The subject.
    pub subject: String,
    /// Its rivals, those that were timed with it at least once.
    pub rivals: Vec<String>,
    /// One for each timed row of the subject that has a rival, in their order.
    pub duels: Vec<Duel<'a>>,
    /// Timed rows of the subject that no rival was timed beside.
    pub alone: usize,
    /// The classes.
    pub classes: Classes,
}

/// The maker of a backend: what stands before the slash.
fn maker(backend: &str) -> &str {
    backend.split('/').next().unwrap_or(backend)
}

/// The backend of that name or, where it is a maker's, the last of theirs in the order of backends,
/// which has the widest instruction set.
fn find<'b>(backends: &'b [String], name: &str) -> Option<&'b String> {
    let exact = backends.iter().find(|backend| *backend == name);
    exact.or_else(|| backends.iter().rev().find(|backend| maker(backend) == name))
}

impl<'a> Rivals<'a> {
    /// Compares a subject, named by its id or its maker; by default the widest of ours. `None` where
    /// the records have none of ours.
    ///
    /// # Errors
    /// The records do not have the subject.
    pub fn of(
        records: &'a [Record],
        samples: &[SampleRow],
        subject: Option<&str>,
    ) -> Result<Option<Self>, RivalsError> {
        let backends = ordered_backends(records);
        let subject = match (subject, find(&backends, subject.unwrap_or("simd"))) {
            (_, Some(found)) => found.clone(),
            (None, None) => return Ok(None),
            (Some(subject), None) => {
                return Err(RivalsError::Unknown { subject: subject.to_owned(), present: backends });
            }
        };
        let classes = Classes::built_in()?;
        let rounds = Rounds::of(records, samples);
        let mut fastest: BTreeMap<Place<'_>, (usize, &Record)> = BTreeMap::new();
        for (i, row) in records.iter().enumerate() {
            let is_rival = maker(&row.backend) != maker(&subject) && row.backend != "naive";
            if !is_rival || !row.is_timed() {
                continue;
            }
            let best = fastest.entry(place(row)).or_insert((i, row));
            if row.median_ns < best.1.median_ns {
                *best = (i, row);
            }
        }
        let (mut duels, mut alone) = (Vec::new(), 0);
        for (i, row) in records.iter().enumerate().filter(|(_, r)| r.is_timed() && r.backend == subject) {
            let rival = fastest.get(&place(row)).copied();
            let duel = rival.and_then(|rival| {
                let ratio = rounds.ratio(rival.1, row)?;
                Some(Duel { subject: (i, row), rival, class: classes.of(row), ratio })
            });
            alone += usize::from(duel.is_none());
            duels.extend(duel);
        }
        let met = |rival: &String| {
            let mut places = duels.iter().map(|duel| place(duel.subject.1));
            places.any(|here| records.iter().any(|r| r.is_timed() && r.backend == *rival && place(r) == here))
        };
        let others = backends.iter().filter(|b| maker(b) != maker(&subject) && *b != "naive");
        let rivals = others.filter(|rival| met(rival)).cloned().collect();
        Ok(Some(Self { subject, rivals, duels, alone, classes }))
    }

    /// The conditions under which there were duels: in cache first, fewest threads first.
    #[must_use]
    pub fn conditions(&self) -> Vec<Conditions> {
        let mut conditions: Vec<Conditions> = Vec::new();
        for Duel { subject: (_, row), .. } in &self.duels {
            let here = Conditions { threads: row.threads, cache: row.cache.clone() };
            if !conditions.contains(&here) {
                conditions.push(here);
            }
        }
        conditions.sort_by_key(|here| (here.cache != "hot", here.threads));
        conditions
    }

    /// All duels under some conditions in storage types of one width, or of both.
    #[must_use]
    pub fn total(&self, conditions: &Conditions, width: Option<Width>) -> Standing<'a> {
        let duels = self.under(conditions).filter(|duel| width.is_none_or(|width| duel.width() == width));
        Standing::of(duels.copied().collect())
    }

    fn under(&self, conditions: &Conditions) -> impl Iterator<Item = &Duel<'a>> {
        self.duels.iter().filter(move |Duel { subject: (_, row), .. }| {
            row.threads == conditions.threads && row.cache == conditions.cache
        })
    }

    /// The classes that have duels under these conditions, or a goal; f32 first.
    #[must_use]
    pub fn standings<'s>(&'s self, conditions: &Conditions) -> Vec<ClassStanding<'s>>
    where
        'a: 's,
    {
        let classes = || self.classes.all().iter().enumerate();
        let all = Width::ALL.into_iter().flat_map(|width| {
            classes().filter_map(move |(i, class)| self.standing(conditions, i, class, width))
        });
        all.collect()
    }

    fn standing<'s>(
        &'s self,
        conditions: &Conditions,
        place: usize,
        class: &'s Class,
        width: Width,
    ) -> Option<ClassStanding<'s>>
    where
        'a: 's,
    {
        let goals = self.classes.goals(class, width);
        let duels = self.under(conditions).filter(|duel| duel.class == Some(place) && duel.width() == width);
        let standing = Standing::of(duels.copied().collect());
        let wanted: Option<Vec<Ratio>> = standing
            .duels
            .iter()
            .map(|duel| goals.ratio(&conditions.cache, &duel.rival.1.path))
            .map(|wanted| wanted.map(|value| Ratio { value, interval: None }))
            .collect();
        let wanted = match wanted.as_deref() {
            Some([]) => goals.ratio(&conditions.cache, ""),
            Some(wanted) => Ratio::geometric_mean(wanted).map(|mean| mean.value),
            None => None,
        };
        if standing.duels.is_empty() && wanted.is_none() {
            return None;
        }
        let mut reached: Vec<(f64, &str)> = standing
            .duels
            .iter()
            .map(|duel| duel.subject.1)
            .filter_map(|row| Some((row.roofline_percent?, row.roofline_limit.as_str())))
            .collect();
        reached.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Of an even number the lower one: it is a case with a limit, the mean of two is not.
        let reached = reached.get(reached.len().saturating_sub(1) / 2).copied();
        Some(ClassStanding {
            class,
            width,
            goal: wanted.map(|wanted| Goal::new(wanted, standing.mean)),
            roofline: goals
                .roofline
                .map(|wanted| Goal::new(wanted, reached.map(|(value, _)| Ratio { value, interval: None }))),
            standing,
            reached,
        })
    }

    /// Timed rows whose class nobody has written down.
    #[must_use]
    pub fn unclassified(&self) -> usize {
        self.duels.iter().filter(|duel| duel.class.is_none()).count()
    }
}

/// Where two rows have to agree to be compared: the clock is part of it, since a device's own leaves out
/// what launching a kernel costs.
type Place<'r> = (CaseKey<'r>, u32, &'r str, &'r str, &'r str);

fn place(record: &Record) -> Place<'_> {
    (case(record), record.threads, &record.cache, &record.device, &record.method)
}

/// The times of each row by round.
struct Rounds(HashMap<RowKey, BTreeMap<u32, (f64, bool)>>);

impl Rounds {
    /// Samples of a run whose record was superseded when runs were merged are left out.
    fn of(records: &[Record], samples: &[SampleRow]) -> Self {
        let runs: HashMap<RowKey, &str> = records.iter().map(|r| (r.key(), r.run_id.as_str())).collect();
        let mut rounds: HashMap<RowKey, BTreeMap<u32, (f64, bool)>> = HashMap::new();
        for sample in samples {
            let key = sample.key();
            if runs.get(&key) == Some(&sample.run_id.as_str()) {
                let time = (sample.ns_per_iteration(), sample.clean);
                rounds.entry(key).or_default().insert(sample.slice, time);
            }
        }
        Self(rounds)
    }

    /// The time of the first over that of the second: as recorded where one is the reference of the
    /// other, from the rounds they share, or from their medians without an interval.
    fn ratio(&self, slow: &Record, fast: &Record) -> Option<Ratio> {
        let ends = |record: &Record| record.speedup_low.zip(record.speedup_high);
        if let (true, Some(value)) = (fast.reference == slow.backend, fast.speedup) {
            return Some(Ratio { value, interval: ends(fast) });
        }
        if let (true, Some(value)) = (slow.reference == fast.backend, slow.speedup) {
            let interval = ends(slow).map(|(low, high)| (1.0 / high, 1.0 / low));
            return Some(Ratio { value: 1.0 / value, interval });
        }
        let shared = self.0.get(&slow.key()).zip(self.0.get(&fast.key()));
        let shared: Vec<_> = shared.map_or_else(Vec::new, |(slow, fast)| {
            slow.iter().filter_map(|(round, slow)| Some((slow, fast.get(round)?))).collect()
        });
        let shared = shared.into_iter().map(|(slow, fast)| ((slow.0, fast.0), slow.1 && fast.1)).collect();
        match MedianRatio::of_rounds(&kept(shared), SEED) {
            Some(ratio) => Some(ratio.into()),
            None => median_ratio(slow, fast).map(|value| Ratio { value, interval: None }),
        }
    }
}
