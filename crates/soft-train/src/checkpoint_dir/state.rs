//! `state.json`: where training stood, besides the weights and the optimizer.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The state's file name.
pub const STATE: &str = "state.json";
/// The version this program writes, and the only one it reads.
pub const STATE_VERSION: u32 = 2;

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
        if value["version"] != STATE_VERSION {
            let found = &value["version"];
            return Err(refuse(format!("has version {found}, expected {STATE_VERSION}")));
        }
        serde_json::from_value(value).map_err(damaged)
    }
}
