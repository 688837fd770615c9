//! The subject against its fastest rival: all together, by class, and case by case.

use super::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::classes::Width;
use crate::record::Record;
use crate::rivals::{ClassStanding, Conditions, Duel, Ending, Goal, Rivals, Standing, Verdict};
use crate::speed::Ratio;
use crate::words::{DISTURBED, duration, interval, times};

/// One row for each number of threads, cache state and width of storage types.
#[must_use]
pub fn rival_totals(rivals: &Rivals<'_>) -> Option<Grid> {
    let headings = vec![
        Heading::words("conditions"),
        Heading::words("types"),
        Heading::figures("cases"),
        Heading::figures("ratio"),
        Heading::figures("faster"),
        Heading::figures("even"),
        Heading::figures("slower"),
        Heading::words("slowest case").detail(),
    ];
    let note = "Time of the fastest rival over that of the subject: above 1× the subject is faster. Geometric \
                means in which each case counts once, with 95 % intervals. Even: the interval holds 1.";
    let title = format!("{} against its fastest rival, all cases", rivals.subject);
    let mut grid = Grid::new(title, note, headings);
    for conditions in rivals.conditions() {
        let widths = Width::ALL.map(|width| rivals.total(&conditions, Some(width)));
        let all = rivals.total(&conditions, None);
        let both = widths.iter().all(|standing| !standing.duels.is_empty());
        let named =
            Width::ALL.map(Width::as_str).into_iter().zip(widths).filter(|(_, s)| !s.duels.is_empty());
        for (types, standing) in named.chain(both.then_some(("all", all))) {
            grid.rows.push(total_row(&conditions, types, &standing));
        }
    }
    grid.unless_empty()
}

fn total_row(conditions: &Conditions, types: &str, standing: &Standing<'_>) -> Row {
    let count = |ending| Cell::new(standing.count(ending).to_string());
    Row::new(vec![
        Cell::new(conditions.words()),
        Cell::new(types),
        Cell::new(standing.duels.len().to_string()),
        standing.mean.map_or_else(Cell::absent, |mean| ratio_cell(&mean)),
        count(Ending::Faster),
        count(Ending::Even),
        count(Ending::Slower),
        worst_cell(standing),
    ])
}

/// One grid for each number of threads and cache state: classes down.
#[must_use]
pub fn rival_classes(rivals: &Rivals<'_>) -> Vec<Grid> {
    let grids = rivals.conditions().into_iter().map(|conditions| class_grid(rivals, &conditions));
    grids.filter_map(Grid::unless_empty).collect()
}

fn class_grid(rivals: &Rivals<'_>, conditions: &Conditions) -> Grid {
    let headings = vec![
        Heading::words("class"),
        Heading::words("types"),
        Heading::figures("cases"),
        Heading::figures("ratio"),
        Heading::words("goal"),
        Heading::words("slowest case").detail(),
        Heading::figures("of limit"),
        Heading::words("goal"),
    ];
    let standings = rivals.standings(conditions);
    let (measured, missing): (Vec<_>, Vec<_>) =
        standings.into_iter().partition(|standing| !standing.standing.duels.is_empty());
    let mut note = "Of limit: the median case's share of the limit measured on this machine. Goals are what \
                    this project wants of its own kernels, whoever is the subject here; within noise: the \
                    interval holds the goal."
        .to_owned();
    if rivals.unclassified() > 0 {
        note.push_str(&format!(" Cases in no class: {}.", rivals.unclassified()));
    }
    let missing = missing.iter().filter(|class| class.goal.is_some());
    let missing: Vec<_> =
        missing.map(|class| format!("{} ({})", class.class.name, class.width.as_str())).collect();
    if !missing.is_empty() {
        note.push_str(&format!(" Goals without a case here: {}.", missing.join("; ")));
    }
    let title = format!("{} against its fastest rival, {}", rivals.subject, conditions.words());
    let mut grid = Grid::new(title, note, headings);
    grid.threads = Some(conditions.threads);
    grid.rows = measured.iter().map(class_row).collect();
    grid
}

fn class_row(class: &ClassStanding<'_>) -> Row {
    let ClassStanding { standing, .. } = class;
    let limit = class.reached.map_or_else(Cell::absent, |(percent, limit)| Cell {
        below: vec![limit.to_owned()],
        ..Cell::new(format!("{percent:.0} %"))
    });
    let ops: Vec<_> = standing.duels.iter().map(|duel| duel.subject.1.op.as_str()).collect();
    let same_op = ops.windows(2).all(|pair| pair[0] == pair[1]);
    let op = ops.first().filter(|_| same_op).copied().unwrap_or_default();
    Row {
        cells: vec![
            Cell::new(&class.class.name),
            Cell::new(class.width.as_str()),
            Cell::new(standing.duels.len().to_string()),
            standing.mean.map_or_else(Cell::absent, |mean| ratio_cell(&mean)),
            goal_cell(class.goal, times),
            worst_cell(standing),
            limit,
            goal_cell(class.roofline.filter(|_| class.reached.is_some()), |wanted| format!("{wanted:.0} %")),
        ],
        subject: Subject {
            op: op.to_owned(),
            dtype: if class.width == Width::Full { "f32".to_owned() } else { String::new() },
            ..Subject::default()
        },
    }
}

fn goal_cell(goal: Option<Goal>, words: impl Fn(f64) -> String) -> Cell {
    let Some(goal) = goal else { return Cell::absent() };
    let (text, tone) = match goal.verdict {
        Verdict::Met => ("met", Tone::Good),
        Verdict::Short => ("short", Tone::Bad),
        Verdict::NotMeasured => ("not measured", Tone::Muted),
    };
    let noise = if goal.within_noise { ", within noise" } else { "" };
    Cell { below: vec![format!("≥ {}{noise}", words(goal.wanted))], ..Cell::new(text).tone(tone) }
}

/// Good or bad only where the interval leaves 1 out.
fn ratio_cell(ratio: &Ratio) -> Cell {
    let tone = match ratio.interval {
        Some((low, _)) if low > 1.0 => Tone::Good,
        Some((_, high)) if high < 1.0 => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell { below: interval(ratio).into_iter().collect(), ..Cell::new(times(ratio.value)).tone(tone) }
}

fn worst_cell(standing: &Standing<'_>) -> Cell {
    let Some(worst) = standing.duels.first() else { return Cell::absent() };
    Cell {
        text: format!("{} against {}", times(worst.ratio.value), worst.rival.1.backend),
        below: vec![worst.subject.1.problem.clone()],
        tone: Tone::Plain,
        record: Some(worst.subject.0),
    }
}

/// One grid for each number of threads and cache state: cases down, the worst first.
#[must_use]
pub fn rival_cases(rivals: &Rivals<'_>) -> Vec<Grid> {
    let grids = rivals.conditions().into_iter().map(|conditions| case_grid(rivals, &conditions));
    grids.filter_map(Grid::unless_empty).collect()
}

fn case_grid(rivals: &Rivals<'_>, conditions: &Conditions) -> Grid {
    let headings = vec![
        Heading::words("problem"),
        Heading::figures("ratio"),
        Heading::words("fastest rival"),
        Heading::figures("its time"),
        Heading::figures(&rivals.subject),
        Heading::figures("of limit"),
    ];
    let title = format!("{} against its fastest rival case by case, {}", rivals.subject, conditions.words());
    let mut grid = Grid::new(title, "The slowest first.", headings);
    grid.threads = Some(conditions.threads);
    grid.rows = rivals.total(conditions, None).duels.iter().map(case_row).collect();
    grid
}

fn case_row(duel: &Duel<'_>) -> Row {
    let ((mine, row), (theirs, rival)) = (duel.subject, duel.rival);
    let time = |place, row: &Record| Cell {
        record: Some(place),
        below: row.disturbed.then(|| DISTURBED.to_owned()).into_iter().collect(),
        ..row.median_ns.map_or_else(Cell::absent, |ns| Cell::new(duration(ns)))
    };
    let limit = row.roofline_percent.map_or_else(Cell::absent, |percent| Cell {
        below: vec![row.roofline_limit.clone()],
        ..Cell::new(format!("{percent:.0} %"))
    });
    Row {
        cells: vec![
            Cell::problem(&row.problem, &row.fill),
            ratio_cell(&duel.ratio),
            Cell { below: vec![rival.path.clone()], ..Cell::new(&rival.backend) },
            time(theirs, rival),
            time(mine, row),
            limit,
        ],
        subject: Subject { op: row.op.clone(), dtype: row.dtype.clone(), ..Subject::default() },
    }
}
