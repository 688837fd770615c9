//! The promises of what is made from records: averages over the intersection only, tables that
//! fit, text that cannot break out of its place, a page that needs nothing from outside.
#![forbid(unsafe_code)]

use touchstone_reports::diff::{self, Side, diff};
use touchstone_reports::lead::lead;
use touchstone_reports::markdown::{SpliceError, splice};
use touchstone_reports::speed::Ratio;
use touchstone_reports::summary::Summary;
use touchstone_reports::table::Style;
use touchstone_reports::{
    Evidence, Record, SampleRow, Status, columns, export, grid, html, markdown, store, table,
};

mod synthetic;

fn plain(width: usize) -> Style {
    Style { width, colour: false, cases: true }
}

#[test]
fn means_are_over_the_intersection_only() {
    let (mut records, ..) = synthetic::run("a", 1, 1.0);
    records.retain(|r| r.op == "gelu" && r.dtype == "f32" && r.threads == 1 && r.cache == "hot");
    for (i, record) in records.iter_mut().filter(|r| r.backend == "simd/avx2").enumerate() {
        record.speedup = Some([2.0, 8.0, 1000.0][i]);
        (record.speedup_low, record.speedup_high) = (None, None);
    }
    let last = records.iter().rposition(|r| r.backend == "naive").unwrap();
    records.remove(last);
    let summary = Summary::of(&records);
    let speeds = &summary.speeds[0];
    assert_eq!(speeds.cases, 2);
    let ours = speeds.contenders.iter().find(|c| c.backend == "simd/avx2").unwrap();
    let mean = ours.mean.unwrap();
    assert!((mean.value - 4.0).abs() < 1e-12 && mean.interval.is_none());
    assert_eq!(ours.timed, 3);
    assert_eq!(Ratio::geometric_mean(&[]), None);
}

#[test]
fn verdicts_count_a_case_once_and_its_worst_row() {
    let (mut records, ..) = synthetic::run("a", 1, 1.0);
    records.retain(|r| r.op == "gelu" && r.dtype == "f32" && r.backend == "naive");
    let one = records[0].problem.clone();
    let bad = records.iter_mut().rfind(|r| r.problem == one).unwrap();
    bad.status = Status::Failed;
    let counts = Summary::of(&records).counts("naive", None);
    assert_eq!((counts.total(), counts.of(Status::Failed)), (3, 1));
}

/// Records that were only checked: the times taken away.
fn checked(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        record.median_ns = None;
    }
    records
}

#[test]
fn known_issues_are_one_row_per_issue_and_backend() {
    let (mut records, ..) = synthetic::run("a", 1, 1.0);
    let mut known: Vec<_> = records.iter_mut().filter(|r| r.status == Status::Known).collect();
    for (i, record) in known.iter_mut().enumerate() {
        record.reason = format!("half-sum: {i} of 99 elements outside their bound");
        record.error_over_bound = Some(2.0);
        record.worst_expected = Some(1.0 / 3.0);
        record.worst_got = Some(0.375);
    }
    known[3].error_over_bound = Some(7.25);
    known[1].error_over_bound = Some(0.5);
    let (problem, repro) = (known[3].problem.clone(), known[3].repro.clone());
    let issues = grid::known_issues(&records).unwrap();
    assert_eq!(issues.rows.len(), 1);
    let cells = &issues.rows[0].cells;
    let texts: Vec<_> = cells.iter().map(|cell| cell.text.as_str()).collect();
    let expected = ["half-sum", "candle/cpu", "4 cases", "softmax (bf16)", "7.25 × bound", &repro];
    assert_eq!(texts, expected);
    assert!(cells[4].below[0].starts_with(&problem), "{:?}", cells[4]);
    assert!(cells[4].below[1].contains("expected 3.333333e-1, got 3.750000e-1"), "{:?}", cells[4]);
}

#[test]
fn accuracy_is_not_ranked_across_contracts() {
    let (mut records, ..) = synthetic::run("a", 1, 1.0);
    let same = grid::accuracy(&Summary::of(&records)).unwrap();
    assert!(same.rows.iter().flat_map(|row| &row.cells).all(|cell| cell.below.is_empty()));
    for record in records.iter_mut().filter(|r| r.backend == "candle/cpu") {
        record.contract = "normwise".into();
    }
    let mixed = grid::accuracy(&Summary::of(&records)).unwrap();
    assert_eq!(mixed.rows.len(), 15, "a row per family and dtype");
    for row in &mixed.rows {
        assert!(row.cells.iter().all(|cell| cell.tone != grid::Tone::Best));
        let figures: Vec<_> = row.cells.iter().skip(2).filter(|cell| cell.text != "–").collect();
        let candle = figures.iter().filter(|cell| cell.below == ["normwise"]).count();
        // Where candle has no passed case, one contract is left and need not be said.
        assert!(candle == 1 || figures.iter().all(|cell| cell.below.is_empty()), "{row:?}");
        assert_eq!(candle == 1, figures.iter().any(|cell| cell.below == ["componentwise"]));
    }
}

#[test]
fn the_summary_is_grammatical_and_short() {
    let (records, ..) = synthetic::run("a", 1, 1.0);
    let parts = lead(&records, &Summary::of(&records));
    let [verdicts, fastest, how] = parts.as_slice() else { panic!("{parts:?}") };
    assert!(verdicts.text.starts_with("5 backends on 99 cases gave 495 verdicts: "), "{verdicts:?}");
    assert!(verdicts.text.contains("4 are known issues and "), "{verdicts:?}");
    assert!(verdicts.text.ends_with("1 timed out."), "{verdicts:?}");
    assert_eq!(verdicts.points[0], "simd/avx2 and simd/avx512 agree with the oracle wherever they ran");
    assert_eq!(verdicts.points[1], "naive does not pass 1 of 99 cases: 1 activation; 1 timed out");
    assert!(verdicts.points[2].ends_with("4 softmax; all are known issues"), "{verdicts:?}");
    assert_eq!(fastest.points.len(), 5, "a point per family");
    assert!(fastest.points.iter().all(|point| !point.contains("libtorch/cpu at 1.00×")));
    assert!(how.points.is_empty());

    let naive: Vec<_> = records.iter().filter(|r| r.backend == "naive" && r.op == "rope").cloned().collect();
    let parts = lead(&checked(naive.clone()), &Summary::of(&checked(naive)));
    assert_eq!(parts[0].points, ["naive agrees with the oracle wherever it ran"]);
    assert_eq!(parts[1].text, "Nothing was timed.");
    let text = markdown::report(&records, None);
    assert!(text.contains("\n- attention: "), "a list in Markdown");
}

#[test]
fn a_family_without_times_says_so() {
    let (records, ..) = synthetic::run("a", 1, 1.0);
    let (rope, rest): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| r.family == "rope");
    let page = html::page(&[rest, checked(rope)].concat(), None, &Evidence::default(), None).unwrap();
    assert_eq!(page.matches("Nothing of this family was timed in this run.").count(), 1);
    assert!(page.contains("<a href=\"#norm\">") && !page.contains("<a href=\"#rope\">"));
}

/// One busy moment is marked where it shows; many are said first.
#[test]
fn disturbed_times_are_marked_in_every_table() {
    let (mut records, ..) = synthetic::run("a", 1, 1.0);
    let timed = records.iter_mut().filter(|record| record.is_timed() && record.op == "gelu");
    timed.take(1).for_each(|record| record.disturbed = true);
    let page = |records: &[Record]| html::page(records, None, &Evidence::default(), None).unwrap();
    let terminal = |records: &[Record]| table::report(records, None, Style { cases: true, ..plain(120) });
    for text in [page(&records), terminal(&records), markdown::report(&records, None)] {
        assert!(text.contains("disturbed"), "{text}");
        assert!(text.contains("1 time disturbed") && !text.contains("DISTURBED"), "{text}");
    }
    records.iter_mut().for_each(|record| record.disturbed = true);
    for text in [page(&records), terminal(&records), markdown::report(&records, None)] {
        assert!(text.contains("DISTURBED: in "), "{text}");
    }
}

#[test]
fn terminal_tables_fit_and_use_colour_only_if_asked() {
    let (records, ..) = synthetic::run("a", 1, 1.0);
    for width in [80, 120] {
        let text = table::report(&records, None, plain(width));
        // A repro line is to be copied and therefore never broken.
        for line in text.lines().filter(|l| !l.trim_start().starts_with("touchstone repro")) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        assert!(!text.contains('\u{1b}'));
    }
    let coloured = Style { colour: true, ..plain(80) };
    assert!(table::report(&records, None, coloured).contains('\u{1b}'));
}

#[test]
fn splice_replaces_between_markers_and_nothing_else() {
    let readme = "a\n<!-- touchstone:speed -->\nold\n<!-- /touchstone:speed -->\nb\n";
    let once = splice(readme, "speed", "new\n").unwrap();
    assert_eq!(once, "a\n<!-- touchstone:speed -->\nnew\n<!-- /touchstone:speed -->\nb\n");
    assert_eq!(splice(&once, "speed", "new\n").unwrap(), once);
    assert!(matches!(splice(readme, "other", ""), Err(SpliceError::Missing { .. })));
    let twice = format!("{readme}{readme}");
    assert!(matches!(splice(&twice, "speed", ""), Err(SpliceError::Repeated { .. })));
    let inverted = "<!-- /touchstone:x --> <!-- touchstone:x -->";
    assert!(matches!(splice(inverted, "x", ""), Err(SpliceError::Inverted { .. })));
}

/// Text from outside that would break out if anything forgot to escape it.
fn hostile() -> Vec<Record> {
    let (mut records, ..) = synthetic::run("a", 1, 1.0);
    records.retain(|r| r.op == "rms_norm");
    let evil = "</script><img src=x onerror=alert(1)> | `x` \"q\" & <b>";
    for record in &mut records {
        record.numerics = evil.into();
        if record.status != Status::Passed {
            record.reason = evil.into();
        }
    }
    records
}

#[test]
fn the_page_is_well_formed_and_self_contained() {
    let (_, _, environment) = synthetic::run("a", 1, 1.0);
    let page = html::page(&hostile(), Some(&environment), &Evidence::default(), None).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert!(!page.contains("<img") && !page.contains("@import") && !page.contains("src=\""));
    assert_eq!(page.matches("</script>").count(), 1);
    let void = ["meta", "link", "br", "wbr"];
    let shapes = ["circle", "line", "rect", "polygon", "polyline", "path"];
    let mut open: Vec<&str> = Vec::new();
    let body = page.split("<script").next().unwrap();
    let body = [body.split("<style>").next().unwrap(), body.split("</style>").last().unwrap()];
    let text = body.concat();
    for tag in text.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('!') || void.contains(&name) || shapes.contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            open.push(name);
        }
    }
    assert_eq!(open, ["html", "body"]);
}

#[test]
fn markdown_rows_stay_rows() {
    let text = markdown::report(&hostile(), None);
    assert!(!text.contains("<img") && !text.contains("<b>"));
    for line in text.lines().filter(|line| line.starts_with('|')) {
        assert!(line.ends_with(" |"), "{line}");
    }
}

#[test]
fn exports_hold_every_column_and_nan() {
    let mut records = hostile();
    records[0].cosine = Some(f64::NAN);
    let csv = export::csv(&records);
    let back = store::read_table_from(std::path::Path::new("x.csv"), &csv).unwrap();
    assert_eq!(format!("{back:?}"), format!("{records:?}"));
    let mut lines = Vec::new();
    export::write_json_lines(&records, &mut lines).unwrap();
    let first = String::from_utf8(lines).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first.as_object().unwrap().len(), columns::COLUMNS.len());
    assert_eq!(first["cosine"], "NaN");
    assert_eq!(first["seed"], 7);
    assert_eq!(columns::json_schema()["required"].as_array().unwrap().len(), columns::COLUMNS.len());
}

fn side<'a>(records: &'a [Record], samples: &'a [SampleRow]) -> Side<'a> {
    Side { records, samples, environment: None }
}

#[test]
fn a_diff_of_nothing_in_common_is_an_error_and_other_conditions_a_warning() {
    let (old, _, environment) = synthetic::run("old", 1, 1.0);
    let mut other = environment.clone();
    other.machine.cpu = "Another processor".into();
    let mut new: Vec<_> = old.iter().filter(|r| r.threads == 1).cloned().collect();
    for record in new.iter_mut().filter(|r| r.backend == "libtorch/cpu") {
        record.isa = "avx512".into();
    }
    let with = |records, environment| Side { environment: Some(environment), ..side(records, &[]) };
    let found = diff(with(&old, &environment), with(&new, &other)).unwrap();
    let expected = [
        "the processor was An invented processor, now it is Another processor",
        "the instruction set of libtorch/cpu was avx2, now it is avx512",
        "the thread counts were 1 and 2, now they are 1",
    ];
    assert_eq!(found.warnings, expected);
    let grids = diff::grids(&found, false);
    assert!(grids.iter().any(|grid| expected.iter().all(|warning| grid.note.contains(warning))));

    for record in &mut new {
        record.threads = 64;
    }
    let message = diff(side(&old, &[]), side(&new, &[])).unwrap_err().to_string();
    assert!(message.starts_with("nothing in common: ") && message.contains("now they are 64"), "{message}");
}

#[test]
fn a_diff_of_two_machines_is_refused() {
    let (mut old, _, _) = synthetic::run("old", 1, 1.0);
    let mut new = old.clone();
    old.iter_mut().for_each(|record| record.machine = "one".into());
    new.iter_mut().for_each(|record| record.machine = "two".into());
    let message = diff(side(&old, &[]), side(&new, &[])).unwrap_err().to_string();
    assert!(message.contains("one; two") && message.contains("touchstone gate"), "{message}");
}

/// A quarter of the slices is undisturbed: they are what the row's figures are of, and the interval too.
#[test]
fn a_diff_takes_the_slices_that_the_figures_are_of() {
    let (old, old_samples, _) = synthetic::run("old", 1, 1.0);
    let (new, mut new_samples, _) = synthetic::run("new", 1, 1.0);
    let disturbed: Vec<_> = new_samples
        .iter()
        .flat_map(|sample| {
            let slow = SampleRow { clean: false, ns: sample.ns * 3, ..sample.clone() };
            [slow.clone(), slow]
        })
        .collect();
    new_samples.extend(disturbed);
    let found = diff(side(&old, &old_samples), side(&new, &new_samples)).unwrap();
    for case in &found.cases {
        let (low, high) = case.ratio.interval.expect("there are samples");
        assert!(low <= case.ratio.value && case.ratio.value <= high, "{case:?}");
    }
}

#[test]
fn a_diff_finds_what_changed_and_only_that() {
    let (old, old_samples, _) = synthetic::run("old", 1, 1.0);
    let (mut new, new_samples, _) = synthetic::run("new", 1, 1.25);
    new.last_mut().unwrap().status = Status::Failed;
    let found = diff(side(&old, &old_samples), side(&new, &new_samples)).unwrap();
    assert!(found.warnings.is_empty());
    assert_eq!(found.changes.len(), 1);
    for family in &found.families {
        let (low, high) = family.mean.interval.expect("there are samples");
        let expected = if family.backend == "simd/avx2" { 0.8 } else { 1.0 };
        assert!(low <= expected + 0.01 && expected - 0.01 <= high, "{family:?}");
    }
    let bare = diff(side(&old, &[]), side(&new, &[])).unwrap();
    assert!(bare.cases.iter().all(|case| case.ratio.interval.is_none()));
    for grid in diff::grids(&found, true) {
        assert!(table::render(&grid, plain(80)).lines().count() > 3);
        assert!(markdown::render(&grid).contains("| --- |"));
    }
}
