//! The metrics of a run as TensorBoard reads them.
//!
//! A file of records: length (u64), masked CRC-32C of the length, the record, masked CRC-32C of the
//! record, all little-endian (TensorFlow, `tensorflow/core/lib/io/record_writer.cc`). A record is an
//! `Event` in protocol buffers (`tensorboard/compat/proto/event.proto`, `summary.proto`): 1
//! wall_time (double), 2 step (int64), 3 file_version (string), 5 summary, whose entries (1) have 1
//! tag (string) and 2 simple_value (float).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::error::Error;

/// Folder in the run directory that TensorBoard is pointed at.
const FOLDER: &str = "tensorboard";
/// Key that is the place of a record, and no measure.
const STEP: &str = "step";

/// Appends the numbers of metrics, each under its key.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new file in `run_dir/tensorboard`; `after` is the step that the run goes on from.
    /// TensorBoard drops what an older file says of later steps.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn create(run_dir: &Path, after: u64) -> Result<Self, Error> {
        let folder = run_dir.join(FOLDER);
        fs::create_dir_all(&folder).map_err(Error::disk(&folder))?;
        let seconds = now() as u64;
        let path = folder.join(format!("events.out.tfevents.{seconds}.soft.{after}"));
        let file = File::create(&path).map_err(Error::disk(&path))?;
        let mut events = Self { file, path };
        let mut version = Vec::new();
        double(&mut version, 1, now());
        bytes(&mut version, 3, b"brain.Event:2");
        events.append(&version)?;
        Ok(events)
    }

    /// Appends the numbers of an object of `metrics.jsonl`.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write(&mut self, step: u64, metrics: &Value) -> Result<(), Error> {
        let mut summary = Vec::new();
        for (key, value) in metrics.as_object().into_iter().flatten() {
            let Some(number) = value.as_f64().filter(|_| key != STEP) else { continue };
            let mut entry = Vec::new();
            bytes(&mut entry, 1, key.as_bytes());
            tag(&mut entry, 2, 5);
            entry.extend((number as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        double(&mut event, 1, now());
        tag(&mut event, 2, 0);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        self.append(&event)
    }

    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        let length = (record.len() as u64).to_le_bytes();
        let mut out = Vec::with_capacity(record.len() + 16);
        out.extend(length);
        out.extend(masked_crc(&length).to_le_bytes());
        out.extend(record);
        out.extend(masked_crc(record).to_le_bytes());
        self.file.write_all(&out).map_err(Error::disk(&self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The checksum of TensorFlow's records.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The key of a field: its number and the kind of what follows (0 varint, 1 eight bytes, 2 bytes
/// after their length, 5 four bytes).
fn tag(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    tag(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Cuts a file into its records and checks both sums of each.
    fn records(path: &Path) -> Vec<Vec<u8>> {
        let file = fs::read(path).expect("readable");
        let (mut rest, mut found) = (&file[..], Vec::new());
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let size = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
            let crc = |at: &[u8]| u32::from_le_bytes(at[..4].try_into().expect("four bytes"));
            assert_eq!(crc(after), masked_crc(length));
            let record = &after[4..4 + size];
            assert_eq!(crc(&after[4 + size..]), masked_crc(record));
            found.push(record.to_vec());
            rest = &after[8 + size..];
        }
        found
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, appendix B.4: 32 bytes of zeros; and the usual check value.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // ((crc >> 15) | (crc << 17)) + 0xa282ead8, worked out apart.
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn each_number_is_an_entry_under_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut events = EventFile::create(folder.path(), 7).expect("made");
        let line = json!({"step": 300, "loss": 0.5, "name": "text", "nan": null});
        events.write(300, &line).expect("written");
        let [version, event] = &records(&events.path)[..] else { panic!("two records") };
        assert!(version.ends_with(b"\x1a\x0dbrain.Event:2"));
        // step 300 as a varint, then a summary of one entry: tag "loss", 0.5 in f32.
        let mut expected = vec![0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4];
        expected.extend(b"loss");
        expected.extend([0x15, 0, 0, 0, 0x3f]);
        assert_eq!(event[9..], expected);
    }
}
