//! `state.json`: where training stood, besides the weights and the optimizer.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The state's file name.
pub const STATE: &str = "state.json";
/// The version this program writes.
pub const STATE_VERSION: u32 = 3;
/// The oldest it reads: what came later has defaults.
const OLDEST_VERSION: u32 = 2;

/// Everything a run needs to go on as if it had never stopped. There is no state of a random
/// generator: all randomness is a function of the seed and of where training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Version of this file.
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Examples fed so far: the position in the data, across epochs.
    pub examples_seen: u64,
    /// CRC-32 of the training examples, which must stay the same.
    pub data_crc32: u32,
    /// Positions of examples that went through the model so far.
    pub num_tokens: u64,
    /// Time of the training steps so far, over all sessions, in seconds; evaluation and
    /// checkpoints are not in it.
    pub seconds: f64,
    /// The run's seed.
    pub seed: u64,
    /// Where the guidance schedule stands, in its own unit (steps).
    pub guidance_position: f64,
    /// How examples make up an optimizer step.
    pub accumulation_window: AccumulationWindow,
    /// Number of parameters that receive gradients; another number after loading means that
    /// something was frozen or thawed.
    pub trainable_parameters: u64,
    /// CRC-32 of the parameters that receive none, which must stay the same; none where all do.
    #[serde(default)]
    pub frozen_crc32: Option<u32>,
    /// What the loop remembers of the steps and evaluations so far.
    #[serde(default)]
    pub course: Course,
}

/// What the training loop remembers besides the weights: what was skipped, and the best so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Course {
    /// Steps that were skipped because they were not finite.
    pub skipped: u64,
    /// Those of them since the last step that was not.
    pub skipped_in_row: u64,
    /// Steps in a row, up to the last, whose loss was over `guard.loss_max`.
    pub high_in_row: u64,
    /// Key in `metrics.jsonl` of the figure that the rest is about; none before the first
    /// evaluation.
    pub metric: Option<String>,
    /// Evaluations that were the best up to then, the best last; as many as are kept, at least one.
    pub best: Vec<Best>,
    /// The value that the next improvement is measured from.
    pub reference: Option<f64>,
    /// Evaluations since the last improvement.
    pub without_improvement: u64,
}

/// An evaluation that was the best up to then.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Optimizer steps done.
    pub step: u64,
    /// The figure.
    pub value: f64,
}

/// The micro-batches whose gradients are added up to one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccumulationWindow {
    /// Rows in a micro-batch.
    pub micro_batch: u64,
    /// Micro-batches in a step.
    pub grad_accum: u64,
    /// Micro-batches of the current step already done; 0 in every checkpoint written between
    /// steps.
    pub micro_steps_done: u64,
}

impl TrainState {
    /// Reads the state of the checkpoint at `checkpoint`.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if it is missing, damaged or of another version.
    pub fn read(checkpoint: &Path) -> Result<Self, Error> {
        let path = checkpoint.join(STATE);
        let refuse = |problem: String| Error::checkpoint(&path, problem);
        let text = fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let damaged = |error: serde_json::Error| refuse(format!("is damaged: {error}"));
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        let known = u64::from(OLDEST_VERSION)..=u64::from(STATE_VERSION);
        if !value["version"].as_u64().is_some_and(|version| known.contains(&version)) {
            let found = &value["version"];
            let expected = format!("expected {OLDEST_VERSION} to {STATE_VERSION}");
            return Err(refuse(format!("has version {found}, {expected}")));
        }
        serde_json::from_value(value).map_err(damaged)
    }
}
