//! Records that grow by one line at a time and survive a kill: at worst the last line is cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// Appends JSON objects to a file, one a line.
///
/// Numbers keep their full precision (the shortest text that reads back to the same bits); a
/// number that is not finite is written as `null`, JSON has no other word for it.
#[derive(Debug)]
pub struct JsonlWriter {
    file: File,
    path: PathBuf,
}

impl JsonlWriter {
    /// Opens `path`, making it if it is not there; a last line cut short is removed first, or
    /// the next one would run on from it.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if the file cannot be written.
    pub fn append_to(path: &Path) -> Result<Self, Error> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let contents = fs::read(path)?;
            let whole = contents.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            if whole < contents.len() {
                file.set_len(whole as u64)?;
            }
            Ok(file)
        };
        let file = open().map_err(Error::disk(path))?;
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Appends one object. The line goes to the system in one piece, so readers of a live run
    /// see it at once.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), Error> {
        let mut line =
            serde_json::to_vec(record).map_err(|e| Error::disk(&self.path)(io::Error::other(e)))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::disk(&self.path))
    }

    /// Flushes what was appended to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::disk(&self.path))
    }
}

/// Reads every object of a record; a last line cut short is passed over, and a file that is not
/// there holds none.
///
/// # Errors
///
/// [`Error::Data`] if the file cannot be read or a line before the last is not JSON.
pub fn read_jsonl(path: &Path) -> Result<Vec<Value>, Error> {
    Ok(read_lines(path)?.into_iter().map(|(_, record)| record).collect())
}

/// Rewrites a record without the objects after `step`, and at step 0 without any that has one; the
/// lines that stay keep their bytes.
pub(super) fn truncate_after(path: &Path, step: u64) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let mut text = Vec::new();
    for (line, record) in read_lines(path)? {
        if record["step"].as_f64().is_none_or(|at| step > 0 && at <= step as f64) {
            text.extend(line);
            text.push(b'\n');
        }
    }
    super::replace_file(path, &text)
}

/// Each whole line, without its ending, and the object on it.
fn read_lines(path: &Path) -> Result<Vec<(Vec<u8>, Value)>, Error> {
    let contents = match fs::read(path) {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Error::Data { report: format!("cannot read {}: {error}", path.display()) });
        }
    };
    let mut lines = Vec::new();
    for (number, line) in contents.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(record) => lines.push((line.trim_ascii_end().to_vec(), record)),
            Err(_) if line.last() != Some(&b'\n') => {}
            Err(error) => {
                let place = format!("{}:{}:{}", path.display(), number + 1, error.column());
                return Err(Error::Data { report: format!("{place}: not valid JSON: {error}") });
            }
        }
    }
    Ok(lines)
}
