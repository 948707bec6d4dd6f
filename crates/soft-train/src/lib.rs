//! Training of soft decoding: data and tasks, run directories, checkpoints and results.

#![deny(missing_docs)]

pub mod batch;
pub mod belief;
pub mod checkpoint_dir;
pub mod comparison;
pub mod config;
mod control;
mod dashboard;
pub mod data;
pub mod decoding;
pub mod disk;
mod error;
pub mod evaluate;
pub mod example;
mod faults;
mod feed;
mod layout;
mod learned;
mod learner;
mod learning_rate;
pub mod memory;
mod metric;
mod not_finite;
pub mod objective;
mod pace;
mod renderer;
pub mod report;
pub mod reproduce;
pub mod results;
mod rewards;
pub mod rl;
pub mod rollout;
pub mod run;
pub mod run_dir;
mod stopwatch;
mod strategy;
pub mod task;
mod terminal;
pub mod trace;

pub use control::Control;
pub use error::Error;
pub use faults::Faults;
