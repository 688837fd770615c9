//! Which problems stand on one line: those that differ in a length only.

use std::collections::BTreeMap;

/// Fields of a problem that are lengths.
const LENGTHS: [&str; 3] = ["lq", "lk", "l"];

/// Problems of one operation and dtype that differ in their lengths only, or in the first extent
/// of their shapes. A query of length 1 is decoding, a computation of another kind, and stays one.
pub(super) fn family(problem: &str) -> String {
    let fields = problem.split_whitespace().map(|field| match field.split_once('=') {
        Some((name, length)) if LENGTHS.contains(&name) && length != "1" => format!("{name}=*"),
        Some(("shape", shape)) => {
            let rest = shape.split_once('x').map_or("", |(_, rest)| rest);
            format!("shape=*x{rest}")
        }
        _ => field.to_owned(),
    });
    fields.collect::<Vec<_>>().join(" ")
}

/// The problems of one family in a few words, without operation and dtype, such as
/// `h=12 lq=128 … 1024 d=64`. They come in the order of their size.
pub(super) fn label(problems: &[&str]) -> String {
    let fields = |problem: &&str| problem.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>();
    let (Some(first), Some(last)) = (problems.first().map(fields), problems.last().map(fields)) else {
        return String::new();
    };
    let range = |(first, last): (&String, &String)| match last.split_once('=') {
        Some((_, last_value)) if first != last => format!("{first} … {last_value}"),
        _ => first.clone(),
    };
    first.iter().zip(&last).map(range).collect::<Vec<_>>().join(" ")
}

/// Points of one size, several of which have a geometric mean, by size.
#[expect(clippy::cast_precision_loss, reason = "numbers of points are small")]
pub(super) fn means(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut logs: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (size, value) in points {
        logs.entry(*size).or_default().push(value.ln());
    }
    let mean = |logs: Vec<f64>| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    logs.into_iter().map(|(size, logs)| (size, mean(logs))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lengths_are_joined() {
        let alike = [
            ("attention f32 h=12 lq=128 d=64", "attention f32 h=12 lq=1024 d=64"),
            ("attention f32 h=8 lq=1 lk=64 d=64", "attention f32 h=8 lq=1 lk=2048 d=64"),
            ("rope bf16 h=32 l=512 d=128", "rope bf16 h=32 l=2048 d=128"),
            ("softmax f32 shape=256x1024", "softmax f32 shape=4096x1024"),
            ("gelu f16 shape=16384", "gelu f16 shape=1048576"),
        ];
        for (a, b) in alike {
            assert_eq!(family(a), family(b));
        }
        let unlike = [
            ("attention f32 h=12 lq=128 d=64", "attention f32 h=12 lq=128 d=64 causal=bottom_right"),
            ("attention f32 h=12 lq=128 d=64", "attention f32 h=8 lq=128 d=64"),
            ("attention f32 h=8 lq=1 lk=64 d=64", "attention f32 h=8 lq=2 lk=64 d=64"),
            ("attention f32 h=8 lq=64 d=64", "attention f32 h=8 lq=64 lk=128 d=64"),
            ("softmax f32 shape=64x1024", "softmax f32 shape=64x32000"),
            ("softmax f32 shape=64x1024", "softmax f32 shape=64x1024x16"),
            ("softmax f32 shape=64x1024", "softmax f32 shape=64x1024 axis=0"),
        ];
        for (a, b) in unlike {
            assert_ne!(family(a), family(b));
        }
    }

    #[test]
    fn a_label_says_what_varies() {
        let problems = ["attention f32 h=12 lq=128 d=64", "attention f32 h=12 lq=1024 d=64"];
        assert_eq!(label(&problems), "h=12 lq=128 … 1024 d=64");
        assert_eq!(label(&problems[..1]), "h=12 lq=128 d=64");
        assert_eq!(
            label(&["softmax f32 shape=256x1024", "softmax f32 shape=4096x1024"]),
            "shape=256x1024 … 4096x1024"
        );
        assert_eq!(label(&[]), "");
    }
}
