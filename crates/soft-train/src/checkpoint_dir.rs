//! Checkpoint directories that are there whole or not at all.
//!
//! A checkpoint is written under a temporary name, every file and the directory are flushed to the
//! disk, and one rename makes it visible: `runs/NAME/checkpoints/step-000100/`. `manifest.json`
//! lists the size and checksum of every file, so damage that comes later is found too. Continuing
//! a run takes the newest checkpoint that is whole and walks back over those that are not.

mod disk_space;
mod manifest;
mod state;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use disk_space::require_space;
pub use manifest::{FileEntry, MANIFEST, MANIFEST_VERSION, Manifest, hash_text, verify};
pub use state::{AccumulationWindow, Best, Course, STATE, STATE_VERSION, TrainState};
pub use writer::Writer;

use crate::error::Error;

/// The directory of a run that holds its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// Opens the name of everything that is not finished.
const TEMP_PREFIX: &str = ".tmp-";
/// Ends the name of a checkpoint that one of the same step is about to replace.
const REPLACED: &str = ".replaced";

/// A checkpoint that was found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its directory, which is also a model path.
    pub path: PathBuf,
    /// The optimizer step after which it was written.
    pub step: u64,
    /// What it holds.
    pub manifest: Manifest,
}

/// The outcome of looking for a checkpoint to continue from.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// The newest whole checkpoint; `None` if there is none.
    pub checkpoint: Option<Checkpoint>,
    /// One message for each newer checkpoint that was passed over.
    pub warnings: Vec<String>,
}

/// The newest whole checkpoint of the run at `run_dir`.
///
/// # Errors
///
/// [`Error::Checkpoint`] if the directory of checkpoints is there but cannot be listed.
pub fn newest_valid(run_dir: &Path) -> Result<Newest, Error> {
    let mut newest = Newest::default();
    for (step, path) in list(run_dir)?.into_iter().rev() {
        match verify(&path) {
            Ok(manifest) => {
                newest.checkpoint = Some(Checkpoint { path, step, manifest });
                return Ok(newest);
            }
            Err(error) => newest.warnings.push(format!("passed over {error}")),
        }
    }
    Ok(newest)
}

/// Deletes old checkpoints until the newest `keep` are left; 0 keeps all. Those of the steps `best`
/// stay beside them, and so does the newest whole one, even if newer, damaged ones fill the quota.
/// Returns the steps that were deleted.
///
/// # Errors
///
/// [`Error::Checkpoint`] if the checkpoints cannot be listed, [`Error::Disk`] if one cannot be
/// deleted.
pub fn prune(run_dir: &Path, keep: usize, best: &[u64]) -> Result<Vec<u64>, Error> {
    let mut found = list(run_dir)?;
    if keep == 0 || found.len() <= keep {
        return Ok(Vec::new());
    }
    found.truncate(found.len() - keep);
    found.retain(|(step, _)| !best.contains(step));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let safe = newest_valid(run_dir)?.checkpoint.map(|checkpoint| checkpoint.path);
    let mut deleted = Vec::new();
    for (step, path) in found.into_iter().filter(|(_, path)| Some(path) != safe.as_ref()) {
        remove(&path)?;
        deleted.push(step);
    }
    Ok(deleted)
}

/// Deletes every checkpoint after `step`: a run that goes on from there writes them again, and one
/// of the abandoned branch must not be taken for its newest.
///
/// # Errors
///
/// [`Error::Checkpoint`] if the checkpoints cannot be listed, [`Error::Disk`] if one cannot be
/// deleted.
pub fn discard_after(run_dir: &Path, step: u64) -> Result<(), Error> {
    let later = list(run_dir)?.into_iter().filter(|(at, _)| *at > step);
    later.map(|(_, path)| path).try_for_each(|path| remove(&path))
}

/// Removes what a killed process left half written. Call it once when the run directory has been
/// locked: nobody else can be writing then, so whatever is unfinished stays so.
///
/// # Errors
///
/// [`Error::Disk`] if something cannot be deleted.
pub fn clean_unfinished(run_dir: &Path) -> Result<(), Error> {
    let dir = run_dir.join(CHECKPOINTS);
    for name in entries(&dir)?.into_iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
        let path = dir.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::disk(&path))?;
    }
    Ok(())
}

/// The directory name of the checkpoint of `step`: `step-000100`.
pub fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// Step and path of every finished checkpoint, oldest first; nothing is opened.
fn list(run_dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let dir = run_dir.join(CHECKPOINTS);
    let names = entries(&dir)?;
    let mut found: Vec<(u64, bool, PathBuf)> = names
        .iter()
        .filter_map(|name| {
            let finished = name.strip_suffix(REPLACED).unwrap_or(name);
            let step = finished.strip_prefix("step-")?.parse().ok()?;
            Some((step, finished == name, dir.join(name)))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(step, _, path)| (step, path)).collect())
}

/// Names in a directory; none if there is no such directory.
fn entries(dir: &Path) -> Result<Vec<String>, Error> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let unreadable = |error| Error::checkpoint(dir, format!("cannot be listed: {error}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        names.extend(entry.map_err(unreadable)?.file_name().into_string());
    }
    Ok(names)
}

/// Deletes a checkpoint, hiding it first: deletion cut short must not leave a broken one in sight.
fn remove(path: &Path) -> Result<(), Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hidden = path.with_file_name(format!("{TEMP_PREFIX}{}-deleted-{name}", std::process::id()));
    fs::rename(path, &hidden).map_err(Error::disk(path))?;
    fs::remove_dir_all(&hidden).map_err(Error::disk(&hidden))
}

#[cfg(test)]
mod tests;
