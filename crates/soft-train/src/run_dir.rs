//! The directory of one run: what it was asked to do, where it ran, and everything it recorded.
//!
//! ```text
//! runs/NAME/
//!   config.toml        the resolved configuration
//!   environment.json   device, versions, revision, seed
//!   metrics.jsonl      one object a step, the same whenever the run is repeated
//!   times.jsonl        what each step took
//!   samples.jsonl      what the model wrote at each evaluation, where it was asked to
//!   traces.jsonl       its beliefs at the last of them
//!   nonfinite.jsonl    steps whose loss or gradient was not finite, where there were some
//!   best.json          the best evaluations so far and their checkpoints, where some are kept
//!   results.json       the table at the end
//!   tensorboard/       the metrics once more, where they are asked for
//!   checkpoints/       see `checkpoint_dir`
//! ```
//! One process at a time holds a run, by a lock that the system gives back when the process ends,
//! however it ends.

mod environment;
mod event_file;
mod jsonl;
mod same_run;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use environment::{Environment, Versions};
pub use event_file::EventFile;
pub use jsonl::{JsonlWriter, read_jsonl};
pub use same_run::{check_same_evaluation, check_same_run};

use crate::checkpoint_dir;
use crate::error::Error;

/// Name of the resolved configuration.
pub const CONFIG: &str = "config.toml";
/// Name of the record of where each setting came from.
pub const ORIGINS: &str = "origins.json";
/// Name of the description of the data.
pub const DATA: &str = "data.json";
/// Name of the description of machine and program.
pub const ENVIRONMENT: &str = "environment.json";
/// Name of the record of steps.
pub const METRICS: &str = "metrics.jsonl";
/// Name of the record of what each step took.
pub const TIMES: &str = "times.jsonl";
/// Name of the record of what the model wrote.
pub const SAMPLES: &str = "samples.jsonl";
/// What rows of a group wrote and were rewarded with, at the steps that are told of.
pub const COMPLETIONS: &str = "completions.jsonl";
/// Name of the record of beliefs, step by step.
pub const TRACES: &str = "traces.jsonl";
/// Name of the final table.
pub const RESULTS: &str = "results.json";
/// What was measured on held-out data before the first step.
pub const BEFORE: &str = "before.json";
/// Name of the record of steps that were not finite.
pub const NONFINITE: &str = "nonfinite.jsonl";
/// Name of the list of the best evaluations so far.
pub const BEST: &str = "best.json";
const LOCK: &str = ".lock";

/// A run directory that this process holds.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lock: File,
}

impl RunDir {
    /// Makes the directory `root/name` and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::RunExists`] if it is there already, [`Error::Config`] if `name` cannot name a
    /// directory, [`Error::Disk`] if it cannot be made.
    pub fn create(root: &Path, name: &str) -> Result<Self, Error> {
        check_name(name)?;
        fs::create_dir_all(root).map_err(Error::disk(root))?;
        let path = root.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::RunExists { path });
            }
            made => made.map_err(Error::disk(&path))?,
        }
        let lock = lock(&path)?;
        Ok(Self { path, lock })
    }

    /// Locks the run at `path` to continue it, and removes what a killed process left unfinished.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if there is no run, [`Error::RunLocked`] if another process holds it,
    /// [`Error::Disk`] if it cannot be written.
    pub fn reopen(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            let report = format!("there is no run directory {} to continue", path.display());
            return Err(Error::Config { report });
        }
        let lock = lock(path)?;
        checkpoint_dir::clean_unfinished(path)?;
        Ok(Self { path: path.to_path_buf(), lock })
    }

    /// [`RunDir::reopen`] where the run `root/name` exists, else [`RunDir::create`]: what
    /// `--resume auto` asks for.
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub fn reopen_or_create(root: &Path, name: &str) -> Result<Self, Error> {
        check_name(name)?;
        let path = root.join(name);
        if path.is_dir() { Self::reopen(&path) } else { Self::create(root, name) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the resolved configuration, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write_config(&self, toml: &str) -> Result<(), Error> {
        replace_file(&self.path.join(CONFIG), toml.as_bytes())
    }

    /// The configuration the run was started with; `None` if it was killed before writing it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is there but cannot be read.
    pub fn read_config(&self) -> Result<Option<String>, Error> {
        let path = self.path.join(CONFIG);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Error::Config { report: format!("cannot read {}: {error}", path.display()) })
            }
        }
    }

    /// Writes where and with what the run runs.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write_environment(&self, environment: &Environment) -> Result<(), Error> {
        self.write_json(ENVIRONMENT, environment)
    }

    /// Writes `value` as indented JSON to the file `name`, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.path.join(name);
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|error| Error::disk(&path)(io::Error::other(error)))?;
        text.push(b'\n');
        replace_file(&path, &text)
    }

    /// Writes a text to the file `name`, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), Error> {
        replace_file(&self.path.join(name), text.as_bytes())
    }

    /// Opens the record of steps for appending. Every object carries `step`.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn metrics(&self) -> Result<JsonlWriter, Error> {
        JsonlWriter::append_to(&self.path.join(METRICS))
    }

    /// Opens the record of what each step took for appending.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn times(&self) -> Result<JsonlWriter, Error> {
        JsonlWriter::append_to(&self.path.join(TIMES))
    }

    /// Opens [`COMPLETIONS`] for appending.
    ///
    /// # Errors
    /// [`Error::Disk`] where it cannot be written.
    pub fn completions(&self) -> Result<JsonlWriter, Error> {
        JsonlWriter::append_to(&self.path.join(COMPLETIONS))
    }

    /// Opens the record of what the model wrote for appending.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`] if it cannot be written.
    pub fn samples(&self) -> Result<JsonlWriter, Error> {
        JsonlWriter::append_to(&self.path.join(SAMPLES))
    }

    /// Drops every record after `step` from the metrics, the times, the samples and the steps that
    /// were not finite, and a last line cut short by a kill: the run goes on from a checkpoint of
    /// that step and will write them again. At step 0 it begins anew, with the samples before the
    /// first step too, and all records are dropped. Objects without a `step` stay.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if a line before the last is damaged, [`Error::Disk`] if the file cannot be
    /// written.
    pub fn truncate_after(&self, step: u64) -> Result<(), Error> {
        [METRICS, TIMES, SAMPLES, COMPLETIONS, NONFINITE]
            .iter()
            .try_for_each(|name| jsonl::truncate_after(&self.path.join(name), step))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started may share it.
        let _ = self.lock.unlock();
    }
}

/// Writes beside `path` and renames, so that readers see the old contents or the new.
pub(crate) fn replace_file(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut temp = path.to_path_buf().into_os_string();
    temp.push(".tmp");
    let temp = PathBuf::from(temp);
    let write = || {
        let mut file = File::create(&temp)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    };
    write().map_err(Error::disk(path))
}

fn lock(path: &Path) -> Result<File, Error> {
    let lock_path = path.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&lock_path);
    let file = file.map_err(Error::disk(&lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::RunLocked { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(Error::disk(&lock_path)(error)),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if plain {
        return Ok(());
    }
    let report = format!(
        "`run.name` is {name:?}, expected the name of one directory, without `/` and not starting \
         with `.`; `run.dir` says where it is made"
    );
    Err(Error::Config { report })
}

#[cfg(test)]
mod tests;
