//! Training of soft decoding: data and tasks, run directories, checkpoints and results.

#![deny(missing_docs)]

pub mod checkpoint_dir;
pub mod config;
pub mod data;
mod error;
pub mod example;
pub mod results;
pub mod run_dir;
pub mod task;

pub use error::Error;
pub mod batch;
pub mod objective;
pub mod rollout;
