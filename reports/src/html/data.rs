//! The record file inside the page: whole, exact and small.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::export;
use crate::record::Record;

/// The records as a `data:` address of a compressed CSV file.
///
/// A link to it hands out the file without a script; the script reads the same address for
/// its table. A page that held the cells as text would be three times as large.
pub(super) fn address(records: &[Record]) -> std::io::Result<String> {
    let mut file = GzEncoder::new(Vec::new(), Compression::best());
    file.write_all(&export::csv(records))?;
    Ok(format!("data:application/gzip;base64,{}", STANDARD.encode(file.finish()?)))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_address_holds_the_file() {
        let address = address(&[]).unwrap();
        let bytes = STANDARD.decode(address.split_once(',').unwrap().1).unwrap();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, export::csv(&[]));
    }
}
