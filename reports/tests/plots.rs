//! Pictures are complete SVG and quote what they are given.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use touchstone_reports::Record;
use touchstone_reports::plot::{
    self, Audit, Palette, Plot, bounds, error_over_bound, family_bars, roofline, speedup_bars, throughput,
};
use touchstone_reports::speed::Speeds;
use touchstone_reports::summary::Summary;

mod synthetic;

fn pictures() -> Vec<Plot> {
    let (records, _, environment) = synthetic::run("a", 1, 1.0);
    let summary = Summary::of(&records);
    let palette = Palette::new(&summary.backends);
    let softmax: Vec<Record> = records
        .iter()
        .filter(|r| r.op == "softmax" && r.dtype == "f32" && r.threads == 1 && r.cache == "hot")
        .cloned()
        .collect();
    let hot: Vec<&Speeds> =
        summary.speeds.iter().filter(|s| s.group.threads == 1 && s.group.cache == "hot").collect();
    let bars = family_bars(&hot, &summary.backends);
    [
        throughput("softmax <f32> & co", &softmax, &palette),
        speedup_bars("Speed-up", "libtorch/cpu", &bars, &palette),
        roofline("Roofline", &records, &environment.roofline[0], &palette),
        error_over_bound("Error over bound", &records, &palette),
    ]
    .map(|plot| plot.expect("drawn").expect("enough data"))
    .to_vec()
}

#[test]
fn pictures_show_every_backend_and_no_raw_text() {
    for picture in pictures() {
        let (file, inline) = (picture.file(), picture.inline());
        for backend in ["naive", "simd/avx2", "simd/avx512", "candle/cpu"] {
            assert!(file.contains(backend), "{}: {backend}", picture.title);
        }
        assert!(!file.contains("<f32>"));
        assert!(file.trim_end().ends_with("</svg>"));
        assert!(!inline.contains("http"), "{}", picture.title);
        for class in ["wide", "narrow"] {
            assert!(inline.contains(&format!("<svg class=\"{class}\" viewBox=")), "{}", picture.title);
        }
        if let Ok(dir) = std::env::var("TOUCHSTONE_KEEP_PLOTS") {
            let name = picture.title.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            std::fs::write(format!("{dir}/{name}.svg"), file).unwrap();
        }
    }
}

#[test]
fn audited_bounds_name_results_and_types() {
    let audit = |result: &str, dtype: &str, quantiles| Audit {
        result: result.to_owned(),
        dtype: dtype.to_owned(),
        quantiles,
    };
    let audits = [
        audit("softmax", "f32", [0.01, 0.1, 0.2, 0.9]),
        audit("softmax", "bf16", [0.3, 0.98, 0.99, 1.0]),
        audit("attention lse", "f32", [0.0, 0.02, 0.05, 0.3]),
    ];
    let plot = bounds("Bounds", &audits, 1e-3).unwrap().unwrap();
    for text in ["softmax", "attention lse", "f32", "f16", "bf16", "too loose", "bound"] {
        assert!(plot.file().contains(text), "{text}");
    }
    assert_eq!(plot.file().matches("<circle").count(), 3 + audits.len());
}

#[test]
fn no_data_is_no_picture() {
    assert_eq!(bounds("t", &[], 1e-3), Ok(None));
    let palette = Palette::new(&[]);
    assert_eq!(throughput("t", &[], &palette), Ok(None));
    assert_eq!(error_over_bound("t", &[], &palette), Ok(None));
    assert_eq!(speedup_bars("t", "r", &[], &palette), Ok(None));
    let limits = touchstone_reports::RooflineEntry::default();
    assert_eq!(plot::roofline("t", &[], &limits, &palette), Ok(None));
}

#[test]
fn no_two_backends_share_a_colour() {
    let names: Vec<String> = (0..40)
        .map(|i| format!("own{i}"))
        .chain(["simd", "simd/avx512", "candle/cpu", "candle/cuda:0"].map(str::to_owned))
        .collect();
    let palette = Palette::new(&names);
    let colours: std::collections::BTreeSet<_> = names.iter().map(|name| palette.look(name).hex()).collect();
    assert_eq!(colours.len(), names.len());
}

/// The points of a drawing: where its words stand, and the absolute ones among those of its paths.
fn points(svg: &str) -> Vec<(i32, i32)> {
    let number = |text: &str| text.split('"').next()?.parse().ok();
    let words = svg
        .split("<text x=\"")
        .skip(1)
        .filter_map(|word| Some((number(word)?, number(word.split(" y=\"").nth(1)?)?)));
    let paths = svg.split(" d=\"").skip(1).filter_map(|path| path.split('"').next());
    let pairs = paths.flat_map(|path| path.split(['M', ' ']).filter(|pair| !pair.is_empty())).map(|pair| {
        let pair = pair.split(['h', 'z']).next().unwrap();
        let (x, y) = pair.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    });
    words.chain(pairs).collect()
}

#[test]
fn nothing_is_drawn_outside_of_a_picture() {
    for picture in pictures() {
        let inline = picture.inline();
        for svg in inline.split("<svg ").skip(1) {
            let frame = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split('"').next().unwrap();
            let (width, height) = frame.split_once(' ').unwrap();
            let (width, height): (i32, i32) = (width.parse().unwrap(), height.parse().unwrap());
            let points = points(svg);
            assert!(points.len() > 20, "{}: {} points", picture.title, points.len());
            for (x, y) in points {
                let inside = (0..=width).contains(&x) && (0..=height).contains(&y);
                assert!(inside, "{}: {x},{y} of {width},{height}", picture.title);
            }
        }
    }
}

#[test]
fn the_error_plot_names_its_ends_and_draws_what_failed_hollow() {
    let (records, ..) = synthetic::run("a", 1, 1.0);
    let palette = Palette::new(&Summary::of(&records).backends);
    let file = error_over_bound("t", &records, &palette).unwrap().unwrap().file();
    for text in ["≤ 1e-4", "≥ 20", "Hollow: did not pass", "Comparable only", "bound"] {
        assert!(file.contains(text), "{text}");
    }
    let hollow = format!("fill=\"none\" stroke=\"{}\"", palette.look("candle/cpu").hex());
    assert!(file.contains(&hollow));
    assert!(!file.contains(&format!("fill=\"none\" stroke=\"{}\"", palette.look("simd/avx512").hex())));
}

#[test]
fn the_overview_shows_every_condition_and_says_what_its_axis_is() {
    let (records, _, environment) = synthetic::run("a", 1, 1.0);
    let summary = Summary::of(&records);
    let palette = Palette::new(&summary.backends);
    let pictures = plot::overview(&records, &summary, Some(&environment), &palette).unwrap();
    let names: Vec<_> = pictures.iter().map(|picture| picture.name.as_str()).collect();
    let expected = ["speedup", "speedup-2-hot", "speedup-1-cold", "errors", "roofline-1", "roofline-2"];
    assert_eq!(names, expected);
    let speedup = pictures[0].plot.file();
    assert!(speedup.contains("Log scale") && speedup.contains("libtorch/cpu = 1×"));
    for slope in ["cache read 62 GB/s", "non-temporal copy 33 GB/s", "copy 28 GB/s", "read 19 GB/s"] {
        assert!(pictures[4].plot.file().contains(slope), "{slope}");
    }
}

#[test]
fn a_line_joins_only_what_differs_in_length() {
    let (records, ..) = synthetic::run("a", 1, 1.0);
    let palette = Palette::new(&Summary::of(&records).backends);
    let attention: Vec<Record> = records
        .into_iter()
        .filter(|r| r.backend == "naive" && r.op == "attention" && r.dtype == "f32")
        .filter(|r| r.threads == 1 && r.cache == "hot")
        .collect();
    let file = throughput("t", &attention, &palette).unwrap().unwrap().file();
    let naive = format!("stroke=\"{}\"", palette.look("naive").hex());
    let lines = file.lines().filter(|line| line.contains("<polyline") && line.contains(&naive));
    // Two lengths with 64 dimensions, causal or not; the third length has 128 of them and none.
    let long = lines.filter(|line| line.contains("stroke-width=\"4\"") && !is_cross(line)).count();
    assert_eq!(long, 2, "{file}");
    assert!(file.contains("1: ") && file.contains("lq=128 … 1024"));
}

/// Strokes of the marker of the naive backend are short.
fn is_cross(polyline: &str) -> bool {
    let points = polyline.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    let xs: Vec<i32> =
        points.split_whitespace().map(|p| p.split(',').next().unwrap().parse().unwrap()).collect();
    xs.iter().max().unwrap() - xs.iter().min().unwrap() < 30
}
