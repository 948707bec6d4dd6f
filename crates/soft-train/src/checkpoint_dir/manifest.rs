//! `manifest.json`: what a checkpoint holds, so that damage is found before it is loaded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The version this program writes, and the newest it reads.
pub const MANIFEST_VERSION: u32 = 1;

/// Contents of a checkpoint directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout of the directory.
    pub version: u32,
    /// The optimizer step after which it was written.
    pub step: u64,
    /// [`hash_text`] of the resolved configuration.
    pub config_hash: String,
    /// Every file but the manifest, by name.
    pub files: BTreeMap<String, FileEntry>,
}

/// Size and checksum of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Length in bytes.
    pub size: u64,
    /// CRC-32 (IEEE) of the contents.
    pub crc32: u32,
}

impl FileEntry {
    /// Measures the file at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0_u8; 1 << 20];
        let mut size = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { size, crc32: hasher.finalize() }),
                read => {
                    hasher.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
    }
}

/// The hash by which a checkpoint remembers a configuration: CRC-32 in 8 hexadecimal digits.
pub fn hash_text(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

/// Reads the manifest of the checkpoint at `path` and checks every file against it.
///
/// # Errors
///
/// [`Error::Checkpoint`] naming the file that is missing, of another size or with another
/// checksum, or saying that the manifest is missing, damaged or of a newer version.
pub fn verify(path: &Path) -> Result<Manifest, Error> {
    let manifest = read(path)?;
    for (name, expected) in &manifest.files {
        check_file(path, name, *expected).map_err(|problem| Error::checkpoint(path, problem))?;
    }
    Ok(manifest)
}

fn read(path: &Path) -> Result<Manifest, Error> {
    let refuse = |problem: String| Error::checkpoint(path, problem);
    let text = fs::read(path.join(MANIFEST)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.is_dir() => {
            refuse(format!("has no {MANIFEST}, so it was never finished"))
        }
        io::ErrorKind::NotFound => refuse("there is no such directory".into()),
        _ => refuse(format!("{MANIFEST} cannot be read: {error}")),
    })?;
    // The version is read alone first: the other keys of a newer one may differ.
    let damaged = |error: serde_json::Error| refuse(format!("{MANIFEST} is damaged: {error}"));
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
    match value["version"].as_u64() {
        Some(version) if version > u64::from(MANIFEST_VERSION) => Err(refuse(format!(
            "was written by a newer program: {MANIFEST} has version {version}, this one reads up to \
             {MANIFEST_VERSION}; update the program"
        ))),
        _ => serde_json::from_value(value).map_err(damaged),
    }
}

fn check_file(dir: &Path, name: &str, expected: FileEntry) -> Result<(), String> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain {
        return Err(format!("{MANIFEST} names {name:?}, expected a file inside the checkpoint"));
    }
    let found = FileEntry::of(&dir.join(name)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{name} is missing"),
        _ => format!("{name} cannot be read: {error}"),
    })?;
    if found.size != expected.size {
        return Err(format!("{name} has {} bytes, expected {}", found.size, expected.size));
    }
    if found.crc32 != expected.crc32 {
        return Err(format!(
            "{name} is damaged: its checksum is {:08x}, expected {:08x}",
            found.crc32, expected.crc32
        ));
    }
    Ok(())
}
