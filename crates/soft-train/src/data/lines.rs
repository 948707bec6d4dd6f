//! Lines of a text file that may be damaged: each comes out as text, or as what is wrong with it.

use std::io::{self, BufRead, Read};

/// A longer line is refused: it is far more likely a broken file than an example.
pub(crate) const MAX_LINE_BYTES: usize = 50 << 20;

/// One line: its text without the line ending, or the column (from 1) and what is wrong there.
pub(crate) type Line = Result<String, (usize, String)>;

/// Reads lines, at most `max_bytes` of each into memory.
///
/// A byte-order mark before the first line and `\r\n` endings are accepted and removed: both come
/// from ordinary editors and change nothing.
pub(crate) struct Lines<R> {
    reader: R,
    max_bytes: usize,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader, max_bytes, number: 0 }
    }

    /// The next line with its number (from 1); `None` at the end of the file.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<(u64, Line)>> {
        let mut bytes = Vec::new();
        let limit = self.max_bytes as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if bytes.len() > self.max_bytes {
            if bytes.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
            }
            let what =
                format!("the line is longer than {} bytes, the most allowed", self.max_bytes);
            return Ok(Some((self.number, Err((1, what)))));
        }
        Ok(Some((self.number, decode(&bytes, self.number == 1))))
    }
}

fn decode(bytes: &[u8], first: bool) -> Line {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let bytes = if first { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        let what = "found a NUL byte, expected text; is the file damaged, or UTF-16?";
        return Err((at + 1, what.into()));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_string()),
        Err(error) => {
            let at = error.valid_up_to();
            Err((at + 1, format!("byte 0x{:02x} is not UTF-8, expected UTF-8 text", bytes[at])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], max_bytes: usize) -> Vec<(u64, Line)> {
        let mut lines = Lines::new(bytes, max_bytes);
        std::iter::from_fn(|| lines.next_line().expect("memory can be read")).collect()
    }

    #[test]
    fn marks_of_editors_are_removed_and_a_last_line_needs_no_newline() {
        let lines = all(b"\xef\xbb\xbfa\r\n\nb", 100);
        let texts: Vec<_> = lines.iter().map(|(_, line)| line.as_deref().expect("text")).collect();
        assert_eq!(texts, ["a", "", "b"]);
    }

    #[test]
    fn damage_is_placed_and_the_lines_after_it_are_still_read() {
        let lines = all(b"ok\nab\xffcd\na\0\nend", 100);
        let (column, what) = lines[1].1.as_ref().expect_err("not UTF-8");
        assert_eq!((*column, what.contains("0xff")), (3, true));
        assert_eq!(lines[2].1.as_ref().expect_err("NUL").0, 2);
        assert_eq!(lines[3], (4, Ok("end".into())));
    }

    #[test]
    fn a_line_over_the_cap_is_refused_without_losing_the_next() {
        let lines = all(b"1234\n12345678901\nok\n", 10);
        assert_eq!(lines.len(), 3);
        assert!(lines[1].1.is_err());
        assert_eq!(lines[2], (3, Ok("ok".into())));
    }
}
