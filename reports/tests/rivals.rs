//! The promises of the comparison with the fastest rival: the truth is found and covered, whoever
//! is the subject, nobody is left out, and shortfalls are said.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use touchstone_reports::classes::{Classes, Width};
use touchstone_reports::grid::{self, Tone};
use touchstone_reports::growth::{Cost, fit, sweeps};
use touchstone_reports::lead::against;
use touchstone_reports::rivals::{Conditions, Ending, Verdict};
use touchstone_reports::{
    Evidence, Record, Rivals, SCHEMA_VERSION, SampleRow, Status, html, markdown, read_records, read_samples,
    table,
};

mod synthetic;

/// A run recorded before `extra_memory` and `clean` were columns.
fn recorded() -> (Vec<Record>, Vec<SampleRow>) {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/2026-11-22-2-core-xeon-amx");
    (read_records(&[&run]).unwrap(), read_samples(&[&run]).unwrap())
}

fn row(problem: &str, backend: &str, ns: u64) -> Record {
    let mut words = problem.split(' ').map(str::to_owned);
    let (op, dtype) = (words.next().unwrap(), words.next().unwrap());
    Record {
        schema: SCHEMA_VERSION,
        run_id: "run".into(),
        problem: problem.into(),
        op,
        dtype,
        backend: backend.into(),
        device: "cpu".into(),
        threads: 1,
        status: Status::Passed,
        cache: "hot".into(),
        median_ns: Some(ns),
        ..Record::default()
    }
}

fn hot() -> Conditions {
    Conditions { threads: 1, cache: "hot".into() }
}

const GELU: &str = "gelu f32 shape=256x4096";

#[test]
fn every_timed_row_of_the_recorded_run_has_exactly_one_class() {
    let (records, samples) = recorded();
    let classes = Classes::built_in().unwrap();
    let timed: Vec<_> = records.iter().filter(|record| record.is_timed()).collect();
    let ours = timed.iter().filter(|record| record.backend == "simd/amx").count();
    assert!(ours > 100, "{ours} timed rows");
    for record in timed {
        assert_eq!(classes.matching(record).count(), 1, "{}", record.problem);
    }
    // All of ours are in the comparison, with an interval each.
    let rivals = Rivals::of(&records, &samples, None).unwrap().unwrap();
    assert_eq!(rivals.subject, "simd/amx");
    assert_eq!(rivals.rivals, ["candle/cpu", "libtorch/cpu", "onnxruntime/cpu"]);
    assert_eq!((rivals.duels.len(), rivals.alone, rivals.unclassified()), (ours, 0, 0));
    assert!(rivals.duels.iter().all(|duel| duel.ratio.interval.is_some()));
    // And each duel is in one class of one of the tables.
    let of_classes: usize = rivals
        .conditions()
        .iter()
        .flat_map(|conditions| rivals.standings(conditions))
        .map(|standing| standing.standing.duels.len())
        .sum();
    assert_eq!(of_classes, ours);
}

#[test]
fn the_rival_is_the_fastest_by_another_maker_and_never_naive() {
    let mut records = vec![
        row(GELU, "naive", 1),
        row(GELU, "simd/avx2", 150),
        row(GELU, "simd/avx512", 200),
        row(GELU, "libtorch/cpu", 400),
        row(GELU, "libtorch/cpu/math", 300),
        row(GELU, "candle/cpu", 350),
        row(GELU, "onnxruntime/cpu", 100),
        row(GELU, "libtorch/cuda:0", 2),
    ];
    records[7].device = "A GPU".into();
    // What is wrong has no time, and is no rival.
    records[6] = Record { status: Status::Failed, median_ns: None, ..records[6].clone() };
    let rivals = Rivals::of(&records, &[], None).unwrap().unwrap();
    assert_eq!(rivals.subject, "simd/avx512", "the widest of ours");
    let [duel] = rivals.duels[..] else { panic!("{:?}", rivals.duels) };
    assert_eq!((duel.rival.1.backend.as_str(), duel.ratio.value), ("libtorch/cpu/math", 1.5));
    assert_eq!(rivals.rivals, ["candle/cpu", "libtorch/cpu", "libtorch/cpu/math"]);

    let other = Rivals::of(&records, &[], Some("libtorch/cpu")).unwrap().unwrap();
    let [duel] = other.duels[..] else { panic!("{:?}", other.duels) };
    assert_eq!((duel.rival.1.backend.as_str(), duel.ratio.value), ("simd/avx2", 0.375));
    assert_eq!(duel.ending(), Ending::Slower);

    let error = Rivals::of(&records, &[], Some("mkl")).unwrap_err().to_string();
    assert!(error.starts_with("no backend 'mkl' in these records: there are naive, simd/avx2"), "{error}");
    assert_eq!(Rivals::of(&records[3..4], &[], None).unwrap(), None, "none of ours, none asked for");
}

/// Slices of a row around its median, in rounds that drift together.
fn slices(record: &Record, noise: impl Fn(u32) -> f64) -> Vec<SampleRow> {
    let median = record.median_ns.unwrap() as f64;
    let slice = |round: u32| {
        let drift = 1.0 + 0.3 * f64::from(round % 7);
        (10, (10.0 * median * drift * noise(round)) as u64)
    };
    SampleRow::of(record, &(0..21).map(slice).collect::<Vec<_>>())
}

#[test]
fn rounds_that_were_shared_give_the_ratio_and_its_interval() {
    let records = [row(GELU, "simd/avx2", 1000), row(GELU, "candle/cpu", 1500)];
    let mine = slices(&records[0], |round| 1.0 + 0.01 * f64::from(round % 3));
    let theirs = slices(&records[1], |round| 1.0 + 0.01 * f64::from(round % 2));
    let ratio = |samples: &[SampleRow]| Rivals::of(&records, samples, None).unwrap().unwrap().duels[0].ratio;
    let found = ratio(&[mine.clone(), theirs.clone()].concat());
    let (low, high) = found.interval.unwrap();
    assert!((found.value - 1.5).abs() < 0.03 && low <= 1.5 && 1.5 <= high, "{found:?}");
    // Disturbed rounds of one side leave those of the other out with them.
    let mut disturbed = theirs.clone();
    for sample in disturbed.iter_mut().filter(|sample| sample.slice % 2 == 0) {
        (sample.ns, sample.clean) = (sample.ns * 20, false);
    }
    let found = ratio(&[mine.clone(), disturbed.clone()].concat());
    assert!((found.value - 1.5).abs() < 0.05, "{found:?}");
    // Where nearly all are, that is how the machine was.
    disturbed.iter_mut().for_each(|sample| sample.clean = sample.slice < 3);
    assert!(ratio(&[mine.clone(), disturbed].concat()).value > 2.0);
    // Another run's samples are not this row's; without any, the medians are what is left.
    let foreign: Vec<_> =
        theirs.into_iter().map(|sample| SampleRow { run_id: "another".into(), ..sample }).collect();
    let found = ratio(&[mine, foreign].concat());
    assert_eq!((found.value, found.interval), (1.5, None));
}

#[test]
fn what_was_recorded_against_the_rival_is_taken_as_it_is() {
    let mut records = [row(GELU, "simd/avx2", 1000), row(GELU, "libtorch/cpu", 1500)];
    records[0] = Record {
        reference: "libtorch/cpu".into(),
        speedup: Some(1.6),
        speedup_low: Some(1.25),
        speedup_high: Some(2.0),
        ..records[0].clone()
    };
    let ours = Rivals::of(&records, &[], None).unwrap().unwrap().duels[0].ratio;
    assert_eq!((ours.value, ours.interval), (1.6, Some((1.25, 2.0))));
    let theirs = Rivals::of(&records, &[], Some("libtorch")).unwrap().unwrap().duels[0].ratio;
    assert_eq!((theirs.value, theirs.interval), (0.625, Some((0.5, 0.8))));
}

#[test]
fn goals_are_met_missed_or_not_measured_and_all_are_said() {
    let mut records = vec![
        row("relu f32 shape=9", "simd/avx2", 100),
        row("relu f32 shape=9", "candle/cpu", 120),
        row("softmax f32 shape=9x9", "simd/avx2", 100),
        row("softmax f32 shape=9x9", "candle/cpu", 110),
        row("rope f32 h=1 l=9 d=8", "simd/avx2", 100),
        row("rope f32 h=1 l=9 d=8", "candle/cpu", 300),
    ];
    records[0].roofline_percent = Some(70.0);
    records[0].roofline_limit = "DRAM copy".into();
    records[5].path = "composed: mul, add".into();
    let rivals = Rivals::of(&records, &[], None).unwrap().unwrap();
    let standings = rivals.standings(&hot());
    let of = |name: &str, width| {
        standings.iter().find(|s| s.class.name == name && s.width == width).unwrap().clone()
    };
    let relu = of("relu family", Width::Full);
    assert_eq!(relu.goal.unwrap().verdict, Verdict::Met);
    assert_eq!((relu.roofline.unwrap().verdict, relu.reached), (Verdict::Short, Some((70.0, "DRAM copy"))));
    assert_eq!(of("softmax, log_softmax", Width::Full).goal.unwrap().verdict, Verdict::Short);
    let rope = of("rope", Width::Full).goal.unwrap();
    assert_eq!(
        (rope.wanted, rope.verdict),
        (4.0, Verdict::Short),
        "a composed rival is to be beaten by more"
    );
    assert_eq!(of("gated units", Width::Half).goal.unwrap().verdict, Verdict::NotMeasured);

    let [grid] = &grid::rival_classes(&rivals)[..] else { panic!("one set of conditions") };
    let goals = |text: &str| grid.rows.iter().filter(|row| row.cells[4].text == text).count();
    assert_eq!((goals("met"), goals("short"), grid.rows.len()), (1, 2, 3));
    let (_, missing) = grid.note.split_once("Goals without a case here: ").unwrap();
    assert!(missing.contains("gated units (f16, bf16)"), "{missing}");
    let point = &against(&rivals).unwrap().points[0];
    let missing = missing.split("; ").count();
    assert!(point.ends_with(&format!("1 met, 2 short, {missing} not measured")), "{point}");
    let short = grid.rows.iter().find(|row| row.cells[4].text == "short").unwrap();
    assert_eq!(short.cells[4].tone, Tone::Bad);
    assert!(short.cells[5].text.starts_with("1.10× against candle/cpu"), "{short:?}");
}

#[test]
fn all_three_forms_of_the_report_say_the_same() {
    let (records, samples, environment) = synthetic::run("a", 1, 1.0);
    let rivals = Rivals::of(&records, &samples, None).unwrap();
    assert_eq!(rivals.as_ref().unwrap().subject, "simd/avx512");
    let page = html::page(&records, Some(&environment), &Evidence::default(), rivals.as_ref()).unwrap();
    assert!(page.contains("<section id=\"rivals\">") && page.contains("href=\"#rivals\""));
    let text = markdown::report(&records, rivals.as_ref());
    assert!(text.contains("\n## Against the fastest rival\n"));
    let point = &against(rivals.as_ref().unwrap()).unwrap().points[0];
    assert!(page.contains(point) && text.contains(&point.replace('[', "\\[").replace(']', "\\]")));
    for width in [80, 120] {
        let style = table::Style { width, colour: false, cases: true };
        let text = table::report(&records, rivals.as_ref(), style);
        assert!(text.contains("simd/avx512 against its fastest rival, 2 threads, hot cache"));
        for line in text.lines().filter(|l| !l.trim_start().starts_with("touchstone repro")) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
    // Without rivals nothing is said of them.
    assert!(!html::page(&records, None, &Evidence::default(), None).unwrap().contains("id=\"rivals\""));
}

#[test]
fn growth_is_found_where_one_size_varies() {
    let mut records = Vec::new();
    for i in 6..12u32 {
        let n = u64::from(2u32.pow(i));
        let mut plain = row(&format!("attention f32 h=1 lq={n} d=64"), "candle/cpu", n * n);
        plain.extra_memory = Some(4 * n * n + (1 << 20));
        let mut tiled = row(&plain.problem, "simd/avx2", n * n / 8);
        tiled.extra_memory = Some(4096);
        records.extend([plain, tiled]);
    }
    records.push(row("attention f32 h=1 lq=64 d=64 causal=top_left", "simd/avx2", 7));
    let found = sweeps(&records, Cost::Time);
    let [time] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (time.problem.as_str(), time.size, time.range()),
        ("attention f32 h=1 lq=* d=64", "L", (64, 2048))
    );
    assert_eq!(time.series.len(), 2);
    assert!((fit(&time.series[1].1).unwrap().exponent - 2.0).abs() < 1e-9);
    let grid = grid::growth(&found, Cost::Time).unwrap();
    assert_eq!(grid.rows[0].cells[1].text, "2.00");

    let memory = sweeps(&records, Cost::Memory);
    let [memory] = &memory[..] else { panic!("{memory:?}") };
    // What the system cannot resolve has no exponent.
    assert_eq!(memory.series.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["candle/cpu"]);
    assert!(memory.series[0].1.len() == 6 && fit(&memory.series[0].1).unwrap().end > 1.5);
    let [table] = &grid::extra_memory(&records)[..] else { panic!("one number of threads") };
    assert_eq!(table.rows.len(), 6);
    let page = html::page(&records, None, &Evidence::default(), None).unwrap();
    assert!(page.contains("id=\"growth\"") && page.contains("id=\"memory\""));
    assert!(!page.contains("NaN"));
}
