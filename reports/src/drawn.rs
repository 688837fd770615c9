//! Tables beside the records that the page draws: error curves of point-wise functions, and the audit
//! of the bounds.

use std::path::Path;

use csv::ReaderBuilder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::plot::Audit;
use crate::store::StoreError;

/// The largest error of a backend's function in each binade.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The function.
    pub op: String,
    /// The storage type.
    pub dtype: String,
    /// Backend id.
    pub backend: String,
    /// The argument nearest zero of each binade, and the largest error there in ULP.
    pub points: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Point {
    op: String,
    dtype: String,
    backend: String,
    from: f64,
    max_ulp: f64,
}

#[derive(Deserialize)]
struct Audited {
    op: String,
    result: String,
    dtype: String,
    subject: String,
    p50: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

/// The curves in `ulp_curves.csv`, which `touchstone sweep --out RUN` writes; none if it is not there.
///
/// # Errors
/// The file is there and is not such a table: the message names file and line.
pub fn curves(directory: &Path) -> Result<Vec<Curve>, StoreError> {
    let mut curves: Vec<Curve> = Vec::new();
    for Point { op, dtype, backend, from, max_ulp } in rows(&directory.join("ulp_curves.csv"))? {
        let same = |c: &Curve| (&c.op, &c.dtype, &c.backend) == (&op, &dtype, &backend);
        match curves.last_mut() {
            Some(curve) if same(curve) => curve.points.push((from, max_ulp)),
            _ => curves.push(Curve { op, dtype, backend, points: vec![(from, max_ulp)] }),
        }
    }
    Ok(curves)
}

/// Error over bound of all correct kernels together, from `bounds.csv`; none if it is not there.
///
/// # Errors
/// The file is there and is not such a table: the message names file and line.
pub fn audits(directory: &Path) -> Result<Vec<Audit>, StoreError> {
    let rows: Vec<Audited> = rows(&directory.join("bounds.csv"))?;
    let together = rows.into_iter().filter(|row| row.subject == "all");
    let audit = |row: Audited| Audit {
        result: if row.result == "out" { row.op } else { format!("{} {}", row.op, row.result) },
        dtype: row.dtype,
        quantiles: [row.p50, row.p99, row.p99_9, row.max],
    };
    Ok(together.map(audit).collect())
}

fn rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
    };
    let mut reader = ReaderBuilder::new().from_reader(bytes.as_slice());
    reader.deserialize().collect::<Result<_, _>>().map_err(|error| StoreError::Csv {
        path: path.to_owned(),
        line: error.position().map_or(0, csv::Position::line),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(curves(dir.path()).unwrap(), []);
        let file = dir.path().join("ulp_curves.csv");
        let head = "op,dtype,backend,from,max_ulp\n";
        std::fs::write(
            &file,
            format!("{head}exp,f32,naive,0e0,0.5\nexp,f32,naive,-1e0,0.7\nexp,f16,naive,inf,0\n"),
        )
        .unwrap();
        let found = curves(dir.path()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].points, [(0.0, 0.5), (-1.0, 0.7)]);
        std::fs::write(&file, format!("{head}exp,f32,naive,x,0.5\n")).unwrap();
        let error = curves(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ulp_curves.csv:2: "), "{error}");
        std::fs::write(
            dir.path().join("bounds.csv"),
            "op,result,dtype,subject,p50,p99,p99_9,max\ngelu,out,f32,all,1e-3,0.1,0.2,0.3\ngelu,out,f32,naive,1,1,1,1\n",
        )
        .unwrap();
        let audits = audits(dir.path()).unwrap();
        assert_eq!((audits.len(), audits[0].result.as_str()), (1, "gelu"));
    }
}
