//! ONNX node tests, as `eval` judges and prints them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use comfy_table::ContentArrangement;
use touchstone_kernels::Backend;
use touchstone_reports::Status;
use touchstone_reports::words::{plural, wrap};

use super::eval::dump_outputs;
use super::output::{plain, style};
use super::verdicts::{Judged, print_verdicts};
use crate::known::KnownIssues;
use crate::onnx::{NodeTest, Outside, Posed, directories};

/// Node tests, and what has become of them.
pub(super) struct NodeTests {
    judged: Vec<JudgedTest>,
    outside: Vec<OutsideTest>,
}

/// A test that is posed, with a verdict for each backend so far.
struct JudgedTest {
    name: String,
    operator: String,
    posed: Posed,
    verdicts: Vec<Judged>,
}

/// A test that is not.
struct OutsideTest {
    name: String,
    operator: String,
    why: Outside,
}

impl NodeTests {
    /// Reads the tests at some paths, and asks the oracle about those that are ours.
    pub(super) fn read(paths: &[&PathBuf]) -> anyhow::Result<Self> {
        let mut tests = NodeTests { judged: Vec::new(), outside: Vec::new() };
        for path in paths {
            for directory in directories(path)? {
                let NodeTest { name, operator, mapped } = NodeTest::read(&directory)?;
                match mapped {
                    Ok(mapped) => {
                        let posed = Posed::new(mapped);
                        tests.judged.push(JudgedTest { name, operator, posed, verdicts: Vec::new() });
                    }
                    Err(why) => tests.outside.push(OutsideTest { name, operator, why }),
                }
            }
        }
        Ok(tests)
    }

    /// The names of those that are judged: what is dumped is called by them.
    pub(super) fn names_mut(&mut self) -> impl Iterator<Item = &mut String> {
        self.judged.iter_mut().map(|test| &mut test.name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.judged.is_empty() && self.outside.is_empty()
    }

    /// Whether there are tests, but none that can be judged.
    pub(super) fn all_outside(&self) -> bool {
        self.judged.is_empty() && !self.outside.is_empty()
    }

    /// Judges a backend on all of them.
    pub(super) fn judge(
        &mut self,
        backend: &dyn Backend,
        known: &KnownIssues,
        dump: Option<&Path>,
    ) -> anyhow::Result<()> {
        for test in &mut self.judged {
            let judgement = test.posed.judge(backend, known);
            test.verdicts.push(Judged::with(backend.id(), &judgement.outcome, judgement.verdict()));
            let Some(dir) = dump else { continue };
            let parts = &test.posed.mapped.parts;
            for (i, part) in parts.iter().enumerate() {
                let name = match parts.len() {
                    1 => test.name.clone(),
                    _ => format!("{}-{i}", test.name),
                };
                dump_outputs(dir, &name, backend, &part.case(), &part.inputs)?;
            }
        }
        Ok(())
    }

    /// Whether ONNX and the oracle disagree anywhere.
    pub(super) fn contradict_the_oracle(&self) -> bool {
        self.judged.iter().any(|test| test.posed.oracle.is_some())
    }

    /// Every verdict.
    pub(super) fn into_judged(self) -> impl Iterator<Item = Judged> {
        self.judged.into_iter().flat_map(|test| test.verdicts)
    }

    /// As JSON: every test by itself.
    pub(super) fn json(&self) -> serde_json::Value {
        let judged = self.judged.iter().map(|test| {
            let parts = &test.posed.mapped.parts;
            serde_json::json!({
                "name": test.name,
                "operator": test.operator,
                "problems": parts.iter().map(|part| part.problem.to_string()).collect::<Vec<_>>(),
                "unjudged_outputs": test.posed.mapped.unjudged,
                "oracle": test.posed.oracle.as_ref().map_or("passed".into(), ToString::to_string),
                "verdicts": test.verdicts.iter().map(Judged::json).collect::<Vec<_>>(),
            })
        });
        let outside = self.outside.iter().map(|test| {
            serde_json::json!({
                "name": test.name, "operator": test.operator, "reason": test.why.to_string(),
            })
        });
        serde_json::json!({
            "judged": judged.collect::<Vec<_>>(),
            "out_of_scope": outside.collect::<Vec<_>>(),
        })
    }

    /// For people: one test in full, or many in tables.
    pub(super) fn print(&self, out: &mut impl Write, backends: &[String]) -> anyhow::Result<()> {
        if let ([test], []) = (&self.judged[..], &self.outside[..]) {
            return test.print(out);
        }
        if !self.judged.is_empty() {
            self.print_operators(out, backends)?;
            self.print_not_passed(out)?;
            self.print_unjudged(out)?;
        }
        self.print_outside(out)
    }

    /// A row for each operator of ours.
    fn print_operators(&self, out: &mut impl Write, backends: &[String]) -> anyhow::Result<()> {
        let (mapped, tests) = (self.judged.len(), self.judged.len() + self.outside.len());
        writeln!(out, "{mapped} of {} are problems of ours\n", plural(tests, "ONNX node test"))?;
        let columns = ["operator", "tests", "mapped", "oracle"].map(String::from).into_iter();
        let mut table = plain(columns.chain(backends.iter().cloned()).collect::<Vec<String>>());
        // Names broken into pieces are no use to anybody.
        table.set_content_arrangement(ContentArrangement::Disabled);
        let mut operators: Vec<&str> = self.ours().map(|(operator, _)| operator).collect();
        operators.sort_unstable();
        operators.dedup();
        for operator in operators.iter().map(Some).chain([None]) {
            let of = |name: &str| operator.is_none_or(|operator| *operator == name);
            let judged: Vec<&JudgedTest> = self.judged.iter().filter(|test| of(&test.operator)).collect();
            let wrong = judged.iter().filter(|test| test.posed.oracle.is_some()).count();
            let mut row = vec![
                operator.map_or("all", |operator| operator).to_string(),
                self.ours().filter(|(name, _)| of(name)).count().to_string(),
                judged.len().to_string(),
                counted(judged.len() - wrong, judged.len(), &[(wrong, 'F')]),
            ];
            row.extend((0..backends.len()).map(|n| {
                let statuses = judged.iter().filter_map(|test| test.verdicts.get(n)).map(|v| v.status);
                summary(&statuses.collect::<Vec<_>>())
            }));
            table.add_row(row);
        }
        writeln!(out, "{table}\n")?;
        writeln!(
            out,
            "Tests passed of tests executed: within the oracle's bounds, and what ONNX expects. F failed,\n\
             S suspect, E error, T timeout, K known issue, U not supported."
        )?;
        Ok(())
    }

    /// Operators of ours, with a name for each of their tests.
    fn ours(&self) -> impl Iterator<Item = (&str, &str)> {
        let judged = self.judged.iter().map(|test| (test.operator.as_str(), test.name.as_str()));
        let outside = self.outside.iter().filter(|test| matches!(test.why, Outside::Semantics(_)));
        judged.chain(outside.map(|test| (test.operator.as_str(), test.name.as_str())))
    }

    fn print_not_passed(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut table = plain(["test", "judged", "verdict", "why"]);
        for test in &self.judged {
            if let Some(difference) = &test.posed.oracle {
                table.add_row([test.name.as_str(), "oracle", "FAILED", &difference.to_string()]);
            }
            for verdict in test.verdicts.iter().filter(|verdict| verdict.status != Status::Passed) {
                let word = if verdict.is_red() { "FAILED" } else { verdict.status.as_str() };
                table.add_row([&test.name, &verdict.backend, word, &verdict.why]);
            }
        }
        if !table.is_empty() {
            writeln!(out, "\n{table}")?;
        }
        Ok(())
    }

    fn print_unjudged(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut outputs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for test in &self.judged {
            for output in &test.posed.mapped.unjudged {
                *outputs.entry((&test.operator, output)).or_default() += 1;
            }
        }
        if !outputs.is_empty() {
            writeln!(out, "\nOutputs of these that are no results of ours, and not judged:")?;
        }
        for ((operator, output), count) in outputs {
            writeln!(out, "  {output} of {operator} ({})", plural(count, "test"))?;
        }
        Ok(())
    }

    fn print_outside(&self, out: &mut impl Write) -> anyhow::Result<()> {
        if self.outside.is_empty() {
            return Ok(());
        }
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut foreign: BTreeMap<&str, usize> = BTreeMap::new();
        let mut bodies = 0;
        for test in &self.outside {
            match &test.why {
                Outside::Operator => *foreign.entry(&test.operator).or_default() += 1,
                Outside::Body { .. } => bodies += 1,
                Outside::Semantics(_) => reasons.entry(test.why.to_string()).or_default().push(&test.name),
            }
        }
        writeln!(out, "\nOut of scope, {}:", plural(self.outside.len(), "test"))?;
        let mut item = |count: usize, reason: &str, which: &str| {
            let text = format!("- {}, {reason}: {which}", plural(count, "test"));
            out.write_all(wrap(&text, style(false).width).as_bytes())
        };
        for (reason, names) in &reasons {
            item(names.len(), reason, &names.join(", "))?;
        }
        if bodies > 0 {
            let which = "tests of functions once more, as their bodies of several nodes (--json names them)";
            item(bodies, "not of one node", which)?;
        }
        if !foreign.is_empty() {
            let operators = foreign.iter().map(|(name, count)| match count {
                1 => name.to_string(),
                _ => format!("{name} ({count})"),
            });
            let which = operators.collect::<Vec<_>>().join(", ");
            item(foreign.values().sum(), "an operator that is not ours", &which)?;
        }
        Ok(())
    }
}

impl JudgedTest {
    fn print(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "{}\n  ONNX {}", self.name, self.operator)?;
        for same in self.posed.mapped.parts.chunk_by(|a, b| a.problem == b.problem) {
            match same {
                [part] => writeln!(out, "  {}", part.problem)?,
                parts => writeln!(out, "  {} ({} times)", parts[0].problem, parts.len())?,
            }
        }
        match &self.posed.oracle {
            None => writeln!(out, "  the oracle agrees with ONNX's output")?,
            Some(difference) => writeln!(out, "  THE ORACLE DISAGREES: {difference}")?,
        }
        for output in &self.posed.mapped.unjudged {
            writeln!(out, "  {output} is no result of ours, and not judged")?;
        }
        print_verdicts(out, &self.verdicts)
    }
}

/// `64/64`, or `62/64 1F 1K`, and what is not supported beside it.
fn summary(statuses: &[Status]) -> String {
    let count = |wanted: Status| statuses.iter().filter(|status| **status == wanted).count();
    let executed = statuses.iter().filter(|status| status.was_executed()).count();
    let letters = [
        (count(Status::Failed), 'F'),
        (count(Status::Suspect), 'S'),
        (count(Status::Error), 'E'),
        (count(Status::Timeout), 'T'),
        (count(Status::Known), 'K'),
        (count(Status::Unsupported), 'U'),
    ];
    counted(count(Status::Passed), executed, &letters)
}

fn counted(passed: usize, executed: usize, others: &[(usize, char)]) -> String {
    let mut text = if executed == 0 { "–".to_string() } else { format!("{passed}/{executed}") };
    for (count, letter) in others.iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(" {count}{letter}"));
    }
    text
}
