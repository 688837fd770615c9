//! Pictures are complete SVG and quote what they are given.
#![forbid(unsafe_code)]

use touchstone_reports::Record;
use touchstone_reports::plot::{
    self, Palette, Plot, error_over_bound, family_bars, roofline, speedup_bars, throughput,
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
        if let Ok(dir) = std::env::var("TOUCHSTONE_KEEP_PLOTS") {
            let name = picture.title.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            std::fs::write(format!("{dir}/{name}.svg"), file).unwrap();
        }
    }
}

#[test]
fn no_data_is_no_picture() {
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
