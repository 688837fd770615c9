//! What a run was made with: backends present and absent, and the machine's limits.

use super::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::environment::Environment;
use crate::words::number;

/// Every backend asked for; the absent ones with their reason.
#[must_use]
pub fn backends(environment: &Environment) -> Option<Grid> {
    let headings = ["backend", "version", "device", "instruction set", "outputs", "present"];
    let mut grid = Grid::new("Backends", "", headings.map(Heading::words).to_vec());
    for backend in &environment.backends {
        let present = if backend.present {
            Cell::new("yes")
        } else {
            Cell::new(format!("no: {}", backend.reason)).tone(Tone::Muted)
        };
        let words = [&backend.id, &backend.version, &backend.device, &backend.isa, &backend.allocation];
        grid.rows.push(Row {
            cells: words.map(Cell::new).into_iter().chain([present]).collect(),
            subject: Subject { backend: backend.id.clone(), ..Subject::default() },
        });
    }
    grid.unless_empty()
}

/// The measured limits, one row per thread count.
#[must_use]
pub fn limits(environment: &Environment) -> Option<Grid> {
    let figures =
        ["GFLOP/s", "read GB/s", "copy GB/s", "non-temporal copy GB/s", "cache read GB/s", "cache copy GB/s"];
    let mut headings = vec![Heading::words("threads or device")];
    headings.extend(figures.map(Heading::figures));
    let note =
        "Arithmetic by fused multiply-adds of f32; on a device by matrix products, of the fastest type.";
    let mut grid = Grid::new("Measured limits", note, headings);
    for limits in &environment.roofline {
        let name = match limits.device.as_str() {
            "" | "cpu" => limits.threads.to_string(),
            device => device.to_owned(),
        };
        let values = [
            limits.peak_gflops(),
            limits.read_gb_s,
            limits.copy_gb_s,
            limits.nt_copy_gb_s,
            limits.cache_read_gb_s,
            limits.cache_copy_gb_s,
        ];
        let values = values.map(|v| v.map_or_else(Cell::absent, |v| Cell::new(number(v))));
        let cells = std::iter::once(Cell::new(name)).chain(values);
        grid.rows.push(Row::new(cells.collect()));
    }
    grid.unless_empty()
}
