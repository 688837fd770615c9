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

/// Numbers of lines, asked for in the order of the file, which is gone through once.
#[derive(Debug, Default)]
pub(super) struct Lines {
    offset: usize,
    before: u64,
}

impl Lines {
    /// The number, from 1, of the line that starts at this offset, no earlier than the one before.
    pub(super) fn at(&mut self, bytes: &[u8], offset: usize) -> u64 {
        let passed = bytes.get(self.offset..offset).unwrap_or_default();
        self.before += passed.iter().map(|&b| u64::from(b == b'\n')).sum::<u64>();
        self.offset = offset;
        1 + self.before
    }
}
