//! What the page of a whole run promises, short of a browser: `scripts/check-page` opens it in one.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use touchstone_reports::table::{self, Style};
use touchstone_reports::{Environment, Evidence, Record, Rivals, html, read_records, read_samples};

const MOST_BYTES: usize = 5_000_000;

fn run() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/2026-11-22-2-core-xeon-amx")
}

/// Backends, functions and exponents of curves like those of a sweep over all f32.
fn curves() -> String {
    let mut text = "op,dtype,backend,from,max_ulp\n".to_owned();
    for op in ["gelu", "exp"] {
        for backend in ["naive", "simd/amx", "libtorch/cpu"] {
            for sign in ["", "-"] {
                text.push_str(&format!("{op},f32,{backend},{sign}0e0,0.5\n"));
                for exponent in -126..128 {
                    let ulp = 0.5 + f64::from((exponent * 7_i32).rem_euclid(50)) / 10.0;
                    text.push_str(&format!("{op},f32,{backend},{sign}{:e},{ulp:.4}\n", 2f64.powi(exponent)));
                }
            }
        }
    }
    text
}

fn records() -> &'static [Record] {
    static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| read_records(&[run()]).unwrap());
    &RECORDS
}

/// The page of the recorded run, with curves that it was recorded without.
fn page() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let samples = read_samples(&[run()]).unwrap();
        let rivals = Rivals::of(records(), &samples, None).unwrap();
        let environment = Environment::beside(&run()).unwrap();
        let mut evidence = Evidence::beside(&run()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ulp_curves.csv"), curves()).unwrap();
        evidence.curves = Evidence::beside(dir.path()).unwrap().curves;
        html::page(records(), environment.as_ref(), &evidence, rivals.as_ref()).unwrap()
    });
    &PAGE
}

/// The texts between an opening and a closing mark.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0))
}

#[test]
fn the_page_of_the_recorded_run_is_small() {
    assert!(page().len() < MOST_BYTES, "{} bytes", page().len());
}

#[test]
fn the_page_loads_nothing() {
    // Words may name a site, as the known issues do; elements and styles may not.
    for address in ["src=", "@import", "url(", "<iframe", "<object", "<embed", "<base"] {
        assert!(!page().contains(address), "{address}");
    }
    for target in between(page(), "href=\"", "\"") {
        assert!(target.starts_with('#') || target.starts_with("data:"), "{target}");
    }
    assert!(page().contains("default-src 'none'"));
    let ids: BTreeSet<_> = between(page(), " id=\"", "\"").collect();
    for target in between(page(), "href=\"#", "\"") {
        assert!(ids.contains(target), "a link to #{target}, which is not there");
    }
}

#[test]
fn every_table_has_a_caption_and_headings() {
    let body = page().split("<script>").next().unwrap();
    let tables: Vec<_> = between(body, "<table", "</table>").collect();
    assert!(tables.len() > 30, "{}", tables.len());
    for table in tables {
        assert!(between(table, "<caption>", "</caption>").any(|caption| caption.len() > 10), "{table:.200}");
        // The table of all measurements is the script's.
        if table.starts_with(" id=\"rows\"") {
            continue;
        }
        let headings = table.matches("<th scope=\"col\"").count();
        assert!(headings > 1, "{table:.200}");
        for row in between(table, "<tr", "</tr>").skip(1) {
            assert_eq!(row.matches("<th scope=\"row\"").count(), 1, "{row}");
            assert_eq!(row.matches("<td").count(), headings - 1, "{row}");
        }
    }
}

#[test]
fn filters_offer_what_is_there_and_find_what_is_about_it() {
    let field = |name: &str| -> BTreeSet<String> {
        let text = |r: &Record| match name {
            "op" => r.op.clone(),
            "dtype" => r.dtype.clone(),
            "backend" => r.backend.clone(),
            _ => r.threads.to_string(),
        };
        records().iter().map(text).collect()
    };
    for name in ["op", "dtype", "backend", "threads"] {
        let (open, mark) = (format!("<select name=\"{name}\">"), format!(" data-{name}=\""));
        let select = between(page(), &open, "</select>").next().unwrap();
        let choices: BTreeSet<_> = between(select, "<option", "</option>")
            .filter_map(|option| Some(option.split_once('>')?.1.to_owned()))
            .filter(|choice| choice != "all")
            .collect();
        assert_eq!(choices, field(name));
        let about: BTreeSet<String> =
            between(page(), &mark, "\"").flat_map(|value| value.split(' ')).map(str::to_owned).collect();
        // The environment also lists backends that were not there.
        let left_out: Vec<_> = choices.difference(&about).collect();
        assert!(left_out.is_empty(), "nothing is about {name} {left_out:?}");
    }
}

#[test]
fn every_figure_is_named_and_every_operation_of_the_issue_is_drawn() {
    for figure in between(page(), "<figure", "</figure>") {
        assert!(figure.starts_with(" role=\"img\" aria-label=\""), "{figure:.100}");
        assert_eq!(figure.matches("<svg class=").count(), 2, "{figure:.100}");
    }
    for family in ["attention", "softmax", "norm", "activation", "rope"] {
        let section = page().split(&format!("<section id=\"{family}\"")).nth(1).unwrap();
        let section = section.split("</section>").next().unwrap();
        for part in ["hot cache. G", ": roofline, 1 thread", ": error over bound", "by operation and type"] {
            assert!(section.contains(part), "{family}: {part}");
        }
    }
    for text in ["gelu f32: error in ULP", "the case that caught it first", "Conventions that", "Verdicts"] {
        assert!(page().contains(text), "{text}");
    }
}

#[test]
fn cells_open_a_measurement_that_is_there() {
    let places: Vec<usize> =
        between(page(), "<button data-row=\"", "\"").map(|place| place.parse().unwrap()).collect();
    assert!(places.len() > 1000, "{}", places.len());
    for place in places {
        assert!(records()[place].repro.starts_with("touchstone repro '"), "{place}");
    }
}

#[test]
fn the_report_of_the_recorded_run_fits_a_terminal() {
    let samples = read_samples(&[run()]).unwrap();
    let rivals = Rivals::of(records(), &samples, None).unwrap();
    let style = Style { width: 80, colour: false, cases: true };
    let text = table::report(records(), rivals.as_ref(), style);
    // A command is to be copied and therefore never broken.
    for line in text.lines().filter(|line| !line.trim_start().starts_with("touchstone repro")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(text.contains("onnxruntime") && !text.contains('\u{1b}'));
}
