//! What can go wrong in training, and the exit code each failure ends the program with.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;

/// Bytes of the longest description of a damaged file, which may repeat what is in it.
const MAX_PROBLEM: usize = 3000;

/// A failure of this crate.
///
/// One variant a cause that a caller treats differently; [`Error::exit_code`] is the contract of
/// the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used; `report` names every key that is wrong.
    #[error("{report}")]
    Config {
        /// All problems found, one a line.
        report: String,
    },
    /// A setting of the soft-token pipeline is out of range.
    #[error(transparent)]
    Settings(#[from] soft_core::Error),
    /// A run of this name is already there and was not asked to continue.
    #[error(
        "run directory {} already exists: choose another `run.name`, or continue it with `--resume auto`",
        path.display()
    )]
    RunExists {
        /// The directory in the way.
        path: PathBuf,
    },
    /// A data file cannot be read or used.
    #[error("{report}")]
    Data {
        /// Where, what was found and what was expected, one bad place a line.
        report: String,
    },
    /// A model, tokenizer or adapter cannot be loaded, run or saved.
    #[error(transparent)]
    Model(#[from] soft_model::Error),
    /// A token id has no row in the model's embedding.
    #[error("{place}: token id {id} is outside the vocabulary of {vocab_size} tokens (0 to {})", vocab_size.saturating_sub(1))]
    TokenOutsideVocabulary {
        /// File and line, or the name of the example.
        place: String,
        /// The id found.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A checkpoint directory is missing, damaged or of another version.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The checkpoint directory, or the file in it that is wrong.
        path: PathBuf,
        /// What was found, what was expected, what to do.
        problem: String,
    },
    /// Loss or gradient is no longer finite, or the loss watchdog fired.
    #[error("training diverged at step {step}: {what}")]
    Diverged {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The quantity, its value, and what to try.
        what: String,
    },
    /// A reward could not be computed.
    #[error("{what}")]
    Reward {
        /// Where, what was found, what was expected, what to do.
        what: String,
    },
    /// A training would need more memory than there is, or a device has run out of it.
    #[error("{report}")]
    OutOfMemory {
        /// What is needed, what there is, and what to change.
        report: String,
    },
    /// A file of the run could not be written.
    #[error("cannot write {}: {source}{}", path.display(), disk_advice(source))]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The disk of the run has no room for a checkpoint.
    #[error(
        "cannot write checkpoints to {}: {free} bytes are free on its disk, {needed} are needed, 2.2 times \
         the {size} of a checkpoint; free some space or set `run.dir` to another disk, then go on \
         with `--resume auto`; earlier checkpoints are intact",
        path.display()
    )]
    NoSpace {
        /// The run directory.
        path: PathBuf,
        /// Bytes that should be free.
        needed: u64,
        /// Bytes that are.
        free: u64,
        /// About as many as a checkpoint has.
        size: u64,
    },
    /// Another process holds the run directory.
    #[error("run directory {} is in use by another process: wait for it to end, or choose another `run.name`", path.display())]
    RunLocked {
        /// The directory.
        path: PathBuf,
    },
    /// The user stopped the run; a checkpoint was written first.
    #[error("interrupted at step {step}; continue from {} with `--resume auto`", checkpoint.display())]
    Interrupted {
        /// The last finished optimizer step.
        step: u64,
        /// The checkpoint written before stopping.
        checkpoint: PathBuf,
    },
    /// The time of `guard.max_time` is over; a checkpoint was written first.
    #[error(
        "the {limit} of `guard.max_time` are over at step {step}; continue from {} with `--resume auto`, \
         which may run as long again",
        checkpoint.display()
    )]
    TimeOver {
        /// The limit, as it was set.
        limit: String,
        /// The last finished optimizer step.
        step: u64,
        /// The checkpoint written before stopping.
        checkpoint: PathBuf,
    },
    /// Anything else that failed while running.
    #[error("{what}")]
    Runtime {
        /// What was being done, and why it failed.
        what: String,
    },
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config { report: error.to_string() }
    }
}

impl Error {
    /// The process exit code: 1 run-time error, 2 config, 3 data, 4 model, checkpoint or token
    /// id, 5 diverged, 6 out of memory, 7 disk, 130 interrupted (or out of time) after a checkpoint.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Config { .. } | Self::Settings(_) | Self::RunExists { .. } => 2,
            Self::Data { .. } | Self::Reward { .. } => 3,
            Self::Model(soft_model::Error::Io { source, .. }) if is_disk_full(source) => 7,
            Self::Model(error) => error.exit_code(),
            Self::TokenOutsideVocabulary { .. } | Self::Checkpoint { .. } => 4,
            Self::Diverged { .. } => 5,
            Self::OutOfMemory { .. } => 6,
            Self::Disk { .. } | Self::NoSpace { .. } => 7,
            Self::Interrupted { .. } | Self::TimeOver { .. } => 130,
            Self::RunLocked { .. } | Self::Runtime { .. } => 1,
        }
    }

    /// An [`Error::Disk`] for a failed write at `path`; made for `map_err(Error::disk(path))`.
    pub fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Disk { path: path.to_path_buf(), source }
    }

    /// An [`Error::Checkpoint`] at `path`.
    pub fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        let problem = soft_model::shortened(problem, MAX_PROBLEM);
        Self::Checkpoint { path: path.to_path_buf(), problem }
    }
}

fn is_disk_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn disk_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        _ if is_disk_full(source) => {
            "; free some space or set `run.dir` to another disk; earlier checkpoints are intact"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; set `run.dir` to a directory you may write to"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_ends_with_the_exit_code_of_the_contract() {
        let path = PathBuf::from("runs/a");
        let disk = Error::disk(&path)(io::Error::from(io::ErrorKind::StorageFull));
        assert!(
            disk.to_string().contains("runs/a") && disk.to_string().contains("free some space")
        );
        assert_eq!(disk.exit_code(), 7);
        let save =
            |kind| soft_model::Error::Io { path: path.clone(), source: io::Error::from(kind) };
        assert_eq!(Error::from(save(io::ErrorKind::StorageFull)).exit_code(), 7);
        assert_eq!(Error::from(save(io::ErrorKind::NotFound)).exit_code(), 4);
        assert_eq!(Error::Config { report: String::new() }.exit_code(), 2);
        assert_eq!(Error::RunExists { path: path.clone() }.exit_code(), 2);
        assert_eq!(Error::Data { report: String::new() }.exit_code(), 3);
        assert_eq!(Error::checkpoint(&path, "x").exit_code(), 4);
        let outside = Error::TokenOutsideVocabulary { place: "a:1".into(), id: 9, vocab_size: 9 };
        assert_eq!(
            outside.to_string(),
            "a:1: token id 9 is outside the vocabulary of 9 tokens (0 to 8)"
        );
        assert_eq!(outside.exit_code(), 4);
        assert_eq!(Error::Diverged { step: 1, what: String::new() }.exit_code(), 5);
        assert_eq!(Error::OutOfMemory { report: String::new() }.exit_code(), 6);
        assert_eq!(Error::Interrupted { step: 1, checkpoint: path.clone() }.exit_code(), 130);
        let over = Error::TimeOver { limit: "2h".into(), step: 1, checkpoint: path.clone() };
        assert_eq!(over.exit_code(), 130);
        assert_eq!(Error::RunLocked { path }.exit_code(), 1);
        assert_eq!(Error::Runtime { what: String::new() }.exit_code(), 1);
    }
}
