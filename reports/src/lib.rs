//! Touchstone's record schema, and everything made from records.
//!
//! A run is a directory: `records.csv` (one [`Record`] per measurement), `samples.csv` (one
//! [`SampleRow`] per timed slice) and `environment.toml` ([`Environment`]). [`store`] writes and
//! reads them. This crate knows neither kernels nor the harness: it turns files into text and
//! pictures.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod classes;
pub mod columns;
pub mod diff;
pub mod drawn;
pub mod environment;
pub mod evidence;
pub mod export;
mod fields;
pub mod grid;
pub mod growth;
pub mod history;
pub mod html;
pub mod lead;
pub mod markdown;
pub mod plot;
pub mod record;
pub mod rivals;
pub mod sample;
pub mod speed;
pub mod statistics;
pub mod status;
pub mod store;
pub mod summary;
pub mod table;
mod validate;
pub mod words;

pub use environment::{BackendEntry, Environment, Machine, RooflineEntry, Software};
pub use evidence::Evidence;
pub use record::{Record, RowKey, SCHEMA_VERSION, Setting};
pub use rivals::{Rivals, RivalsError};
pub use sample::SampleRow;
pub use status::{Status, UnknownStatus};
pub use store::{RunWriter, StoreError, read_records, read_samples};
pub use validate::RecordError;
