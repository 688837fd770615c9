//! Where a CSV file stops being whole.

/// The length of the prefix that consists of complete rows: up to and including the last line
/// end outside quotes. A quote inside a quoted cell is doubled, so parity alone tells inside from
/// outside, and what a crash tore off is exactly the rest.
pub(super) fn complete_prefix(bytes: &[u8]) -> usize {
    let mut quoted = false;
    let mut end = 0;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => end = i + 1,
            _ => {}
        }
    }
    end
}

/// The number, from 1, of the line that starts at this offset.
pub(super) fn line_at(bytes: &[u8], offset: usize) -> u64 {
    1 + bytes[..offset].iter().map(|&b| u64::from(b == b'\n')).sum::<u64>()
}
