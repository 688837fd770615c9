//! Where a CSV file stops being whole.

/// The length of the prefix that consists of complete rows: up to and including the last line end outside
/// quotes. As in RFC 4180, a quote opens a quoted cell only where the cell begins; anywhere else in an
/// unquoted cell it is a character like others. A quote inside a quoted cell is doubled.
pub(super) fn complete_prefix(bytes: &[u8]) -> usize {
    let mut quoted = false;
    let mut starts_cell = true;
    let mut end = 0;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if quoted => {
                // Doubled quotes close and open again.
                quoted = false;
                starts_cell = true;
                continue;
            }
            b'"' if starts_cell => quoted = true,
            b'\n' if !quoted => end = i + 1,
            _ => {}
        }
        starts_cell = !quoted && matches!(byte, b',' | b'\n' | b'\r');
    }
    end
}

/// What follows the complete rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Nothing,
    /// The beginning of one row, as a crash leaves it.
    Torn {
        /// Its bytes.
        bytes: usize,
    },
    /// More than one row: a quote opens a cell that does not end where it should.
    Damaged {
        /// The line of the file, from 1, in which the cell opens.
        line: u64,
        /// Rows that stand behind it.
        rows: usize,
    },
}

/// What follows the complete rows. Rows of `columns` cells each.
pub(super) fn tail(bytes: &[u8], columns: usize) -> Tail {
    let end = complete_prefix(bytes);
    let rest = &bytes[end..];
    if rest.is_empty() {
        return Tail::Nothing;
    }
    // A torn row is the last thing that was written: no line behind its first is a row of its own.
    let whole = |line: &&[u8]| {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(std::io::Cursor::new(line));
        let mut row = csv::StringRecord::new();
        reader.read_record(&mut row).is_ok_and(|read| read && row.len() == columns)
    };
    let rows = rest.split(|&byte| byte == b'\n').skip(1).filter(whole).count();
    match rows {
        0 => Tail::Torn { bytes: rest.len() },
        rows => Tail::Damaged { line: Lines::default().at(bytes, end), rows },
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_row_is_one_and_a_stray_quote_is_damage() {
        let whole = b"a,b\n1,2\n3,\"4\n5\"\n6,\"7\"\"8\"\n";
        assert_eq!((complete_prefix(whole), tail(whole, 2)), (whole.len(), Tail::Nothing));
        assert_eq!(tail(b"a,b\n1,2\n3,\"4\n5", 2), Tail::Torn { bytes: 6 });
        assert_eq!(tail(b"a,b\n1,2\n3", 2), Tail::Torn { bytes: 1 });
        // A quote in the middle of a cell opens nothing.
        assert_eq!(tail(b"a,b\n1,2\"x\n3,4\n", 2), Tail::Nothing);
        // One at its beginning swallows all that follows.
        assert_eq!(tail(b"a,b\n1,2\n3,\"4\n5,6\n7,8\n", 2), Tail::Damaged { line: 3, rows: 2 });
    }
}
