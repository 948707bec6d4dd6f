//! Writes one checkpoint so that no moment of it leaves a half one in sight.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::manifest::{FileEntry, MANIFEST, MANIFEST_VERSION, Manifest};
use super::{CHECKPOINTS, REPLACED, TEMP_PREFIX, entries, step_name};
use crate::error::Error;

/// What [`Writer::commit`] does to the disk, in this order; tests watch it and make it fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DiskOp {
    /// Flush a file's contents.
    SyncFile(String),
    /// Flush the names in the temporary directory.
    SyncDirectory,
    /// Move an older checkpoint of the same step out of the way.
    SetAside,
    /// Make the checkpoint visible.
    Rename,
    /// Flush the names in the directory of checkpoints.
    SyncParent,
}

/// A checkpoint being written. Dropped without [`Writer::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    temp: PathBuf,
    target: PathBuf,
    step: u64,
}

impl Writer {
    /// Starts the checkpoint of `step` in the run at `run_dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if the temporary directory cannot be made.
    pub fn begin(run_dir: &Path, step: u64) -> Result<Self, Error> {
        let parent = run_dir.join(CHECKPOINTS);
        let name = step_name(step);
        let temp = parent.join(format!("{TEMP_PREFIX}{}-{name}", std::process::id()));
        if temp.exists() {
            fs::remove_dir_all(&temp).map_err(Error::disk(&temp))?;
        }
        fs::create_dir_all(&temp).map_err(Error::disk(&temp))?;
        Ok(Self { target: parent.join(name), temp, step })
    }

    /// Where to write the files of the checkpoint; not below, a checkpoint has no folders.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// Writes one file.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        let path = self.temp.join(name);
        fs::write(&path, contents).map_err(Error::disk(&path))
    }

    /// Writes one file as indented JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.temp.join(name);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| Error::disk(&path)(io::Error::other(error)))?;
        self.write(name, &text)
    }

    /// Adds the manifest, flushes everything to the disk and makes the checkpoint visible.
    /// Returns its path. A checkpoint of the same step that is already there is replaced; at every
    /// moment at least one of the two is whole.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if anything cannot be written; earlier checkpoints are untouched.
    pub fn commit(self, config_hash: &str) -> Result<PathBuf, Error> {
        self.commit_watched(config_hash, &mut |_| Ok(()))
    }

    /// [`Writer::commit`], telling `watch` of every step before it is taken.
    pub(super) fn commit_watched(
        self,
        config_hash: &str,
        watch: &mut dyn FnMut(DiskOp) -> io::Result<()>,
    ) -> Result<PathBuf, Error> {
        let mut files = BTreeMap::new();
        for name in entries(&self.temp)? {
            let entry = self.seal(&name, watch).map_err(Error::disk(&self.temp.join(&name)))?;
            files.insert(name, entry);
        }
        let config_hash = config_hash.to_string();
        let manifest = Manifest { version: MANIFEST_VERSION, step: self.step, config_hash, files };
        self.write_json(MANIFEST, &manifest)?;
        self.seal(MANIFEST, watch).map_err(Error::disk(&self.temp.join(MANIFEST)))?;
        self.publish(watch).map_err(Error::disk(&self.target))?;
        Ok(self.target.clone())
    }

    /// Flushes one file and measures it.
    fn seal(
        &self,
        name: &str,
        watch: &mut dyn FnMut(DiskOp) -> io::Result<()>,
    ) -> io::Result<FileEntry> {
        let path = self.temp.join(name);
        watch(DiskOp::SyncFile(name.to_string()))?;
        File::open(&path)?.sync_all()?;
        FileEntry::of(&path)
    }

    fn publish(&self, watch: &mut dyn FnMut(DiskOp) -> io::Result<()>) -> io::Result<()> {
        watch(DiskOp::SyncDirectory)?;
        sync_directory(&self.temp)?;
        let mut aside = self.target.clone().into_os_string();
        aside.push(REPLACED);
        let aside = PathBuf::from(aside);
        if self.target.exists() {
            watch(DiskOp::SetAside)?;
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::rename(&self.target, &aside)?;
        }
        watch(DiskOp::Rename)?;
        fs::rename(&self.temp, &self.target)?;
        watch(DiskOp::SyncParent)?;
        self.target.parent().map_or(Ok(()), sync_directory)?;
        if aside.exists() { fs::remove_dir_all(&aside) } else { Ok(()) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a commit the temporary name is gone. Failing to tidy up must not hide the error
        // that led here, and the next start of the run tidies up again.
        if self.temp.exists() {
            let _ = fs::remove_dir_all(&self.temp);
        }
    }
}

/// Flushes the names in a directory; file systems of other systems do so by themselves.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
