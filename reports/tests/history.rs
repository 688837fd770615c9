//! A history finds what changed in the kernels, and not what changed in the machine.

use touchstone_reports::history::{CANARY, History, Run, Search, changes_grid, csv, json_lines, series_grid};
use touchstone_reports::plot::{self, Palette};
use touchstone_reports::{Record, SCHEMA_VERSION, Status};

const SEARCH: Search = Search { level: 0.001, smallest: 0.02, seed: 1 };

/// A tenth of a percent of noise, that does not repeat.
fn noise(run: usize, salt: usize) -> f64 {
    1.0 + 0.001 * (((run * 7919 + salt * 104_729) % 211) as f64 / 105.0 - 1.0)
}

/// How a night is: how slow the machine, and how slow the kernel.
type Course = fn(usize) -> (f64, f64);

fn night(i: usize, course: Course, with_canary: bool) -> Run {
    let (machine, kernel) = course(i);
    let row = |backend: &str, median: f64| Record {
        schema: SCHEMA_VERSION,
        run_id: format!("run-{i:02}"),
        time: format!("2026-01-{:02}T03:00:00Z", i + 1),
        git_revision: format!("{i:040x}"),
        problem: "softmax f32 shape=64x512".into(),
        fill: "normal".into(),
        seed: 1,
        backend: backend.into(),
        device: "cpu".into(),
        threads: 1,
        cache: "hot".into(),
        status: Status::Passed,
        median_ns: Some(median.round() as u64),
        canary_ns: with_canary.then_some((90_000.0 * machine * noise(i, 3)).round() as u64),
        ..Record::default()
    };
    let steady = row("naive", 800_000.0 * machine * noise(i, 1));
    let changing = row("simd/avx2", 50_000.0 * machine * kernel * noise(i, 2));
    Run { records: vec![steady, changing], processor: "Some CPU".into() }
}

fn nights(course: Course, with_canary: bool) -> Vec<Run> {
    // Not in the order of their times.
    (0..30).rev().map(|i| night(i, course, with_canary)).collect()
}

#[test]
fn a_slower_kernel_is_named_with_its_revision_and_size() {
    let history = History::of(&nights(|i| (1.0, if i < 17 { 1.0 } else { 1.1 }), true), SEARCH);
    let [(series, change)] = history.changes()[..] else { panic!("{:?}", history.changes()) };
    assert_eq!(series.subject.key.backend, "simd/avx2");
    assert_eq!((change.at, series.points[17].run_id.as_str()), (17, "run-17"));
    assert!((change.factor - 1.1).abs() < 0.002 && change.p <= 0.001, "{change:?}");
    assert!(history.canaries[0].changes.is_empty());
    let cells: Vec<_> = changes_grid(&history).rows[0].cells.iter().map(|cell| cell.text.clone()).collect();
    assert_eq!(cells[..3], ["2026-01-18", "000000000", "simd/avx2"]);
    assert!(cells[5].starts_with("+10.") || cells[5].starts_with("+9.9"), "{cells:?}");
    assert_eq!(series_grid(&history).rows.len(), 3, "two cases and the canary");
}

#[test]
fn a_slower_machine_is_the_canarys_change_and_no_kernels() {
    let slower: Course = |i| (if i < 12 { 1.0 } else { 1.25 }, 1.0);
    let history = History::of(&nights(slower, true), SEARCH);
    assert!(history.series.iter().all(|series| series.relative));
    assert_eq!(history.changes(), []);
    let canary = &history.canaries[0];
    assert_eq!((canary.subject.key.backend.as_str(), canary.changes[0].at), (CANARY, 12));

    // Without a canary nobody can tell, and the report says so.
    let history = History::of(&nights(slower, false), SEARCH);
    assert_eq!(history.changes().len(), 2);
    assert!(history.canaries.is_empty());
    assert!(changes_grid(&history).note.contains("2 hold times as they are"));
}

#[test]
fn small_changes_and_short_series_are_not_told() {
    let one_percent: Course = |i| (1.0, if i < 15 { 1.0 } else { 1.01 });
    assert_eq!(History::of(&nights(one_percent, true), SEARCH).changes(), []);
    let any = Search { smallest: 0.0, ..SEARCH };
    assert_eq!(History::of(&nights(one_percent, true), any).changes().len(), 1);

    let few: Vec<Run> =
        nights(|i| (1.0, if i > 24 { 2.0 } else { 1.0 }), true).into_iter().take(10).collect();
    let history = History::of(&few, SEARCH);
    assert_eq!((history.changes().len(), history.too_short()), (0, 2));
    assert!(changes_grid(&history).note.contains("2 too short: 14 runs are needed"));
}

/// Each step is below what is told, and the four of them are not.
#[test]
fn small_steps_in_one_direction_add_up() {
    let steps: Course = |i| (1.0, 1.019f64.powi((i / 20) as i32));
    let runs: Vec<Run> = (0..100)
        .map(|i| {
            let mut run = night(i, steps, true);
            for record in &mut run.records {
                record.time = format!("2026-{:02}-{:02}T03:00:00Z", 1 + i / 28, 1 + i % 28);
            }
            run
        })
        .collect();
    let history = History::of(&runs, SEARCH);
    assert!(!history.changes().is_empty());
    assert!(history.changes().iter().all(|(series, _)| series.subject.key.backend == "simd/avx2"));
    let grid = series_grid(&history);
    let row = grid.rows.iter().find(|row| row.cells[0].text == "simd/avx2").unwrap();
    let drift: f64 = row.cells[4].text.trim_end_matches(" %").parse().unwrap();
    assert!((drift - 7.8).abs() < 0.3, "{}", row.cells[4].text);
}

#[test]
fn shards_of_a_run_are_one_point_and_processors_are_kept_apart() {
    let mut runs = nights(|_| (1.0, 1.0), true);
    let shards: Vec<Run> = runs
        .iter()
        .flat_map(|run| {
            run.records.iter().map(|r| Run { records: vec![r.clone()], processor: run.processor.clone() })
        })
        .collect();
    assert_eq!(History::of(&shards, SEARCH).series, History::of(&runs, SEARCH).series);
    for run in runs.iter_mut().take(10) {
        run.processor = "Another CPU".into();
    }
    let history = History::of(&runs, SEARCH);
    assert_eq!((history.series.len(), history.canaries.len(), history.runs), (4, 2, 30));
    assert_eq!(history.series.iter().map(|s| s.points.len()).sum::<usize>(), 60);
}

#[test]
fn a_history_is_exported_whole_and_drawn() {
    let history = History::of(&nights(|i| (1.0, if i < 17 { 1.0 } else { 1.1 }), true), SEARCH);
    let bytes = csv(&history);
    let mut rows = csv::Reader::from_reader(bytes.as_slice());
    let headers = rows.headers().unwrap().clone();
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    assert_eq!((headers.len(), rows.len()), (15, 90));
    let segment = headers.iter().position(|name| name == "segment").unwrap();
    assert_eq!(rows.iter().filter(|row| &row[segment] == "1").count(), 13);

    let json = json_lines(&history);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let change = lines.iter().find_map(|series| series["changes"].get(0)).unwrap();
    assert_eq!((change["at"].as_u64(), change["run_id"].as_str()), (Some(17), Some("run-17")));

    let (series, _) = history.changes()[0];
    let palette = Palette::new(&["simd/avx2".to_owned()]);
    let picture = plot::history(series, &palette).unwrap().file();
    assert_eq!(picture, plot::history(series, &palette).unwrap().file());
    assert!(picture.contains("30 runs with 1 change.") && picture.contains("2026-01-30"), "{picture}");
}
