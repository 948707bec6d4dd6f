//! Whole files that are small where nobody means harm.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::Error;

/// The bytes of a file of at most `most` bytes; `format` is named in errors.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a longer file, of which no more is read.
pub(crate) fn read_capped(path: &Path, format: &'static str, most: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    if bytes.len() as u64 > most {
        return Err(Error::format(path, format, format!("it is over the limit of {most} bytes")));
    }
    Ok(bytes)
}

/// As [`read_capped`], for a file of UTF-8 text.
///
/// # Errors
/// Those of [`read_capped`], and [`Error::Format`] for other bytes.
pub(crate) fn read_capped_text(
    path: &Path,
    format: &'static str,
    most: u64,
) -> Result<String, Error> {
    String::from_utf8(read_capped(path, format, most)?)
        .map_err(|error| Error::format(path, format, format!("not UTF-8 text: {error}")))
}
