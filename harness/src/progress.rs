//! Progress bars, on standard error, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over cases with the time to come.
pub(crate) fn over_cases(cases: usize) -> ProgressBar {
    bar(cases as u64, "{bar:24} {pos}/{len} cases, {eta} to go  {wide_msg}")
}

/// A bar for work that is no number of cases.
pub(crate) fn in_percent(work: u64) -> ProgressBar {
    bar(work, "{bar:24} {percent} %, {eta} to go  {wide_msg}")
}

/// Shows a bar over cases and a message while `work` runs, which reports how many are done of how many.
pub(crate) fn during<R>(
    cases: usize,
    message: &'static str,
    work: impl FnOnce(&(dyn Fn(usize, usize) + Sync)) -> R,
) -> R {
    let bar = over_cases(cases);
    bar.set_message(message);
    let result = work(&|done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    result
}

fn bar(work: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(work);
    let style = ProgressStyle::with_template(template);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
