//! What ends a training before its last step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::choices::OnNan;

/// What ends a training before its last step, or steps over a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// What is done with a step whose loss, or whose norm of all gradients, is no finite number. It never changes the weights, and `nonfinite.jsonl` in the run directory names its rows and the first tensor that is not finite.
    pub on_nan: OnNan,
    /// Loss over which a step counts as lost; 0 is off.
    #[schemars(range(min = 0.0))]
    pub loss_max: f64,
    /// Lost steps in a row that end the training as diverged.
    #[schemars(range(min = 1))]
    pub loss_patience: usize,
    /// Longest time that this session may run, such as "2h", "90m", "30s" or "1h30m", counted from the start of the command over all arms, evaluations and checkpoints included: the training ends after the step in progress with a checkpoint, as at an interrupt. `--resume auto` goes on, with the whole time again. Empty is off.
    pub max_time: String,
}

impl Default for Guard {
    fn default() -> Self {
        Self { on_nan: OnNan::Stop, loss_max: 0.0, loss_patience: 3, max_time: String::new() }
    }
}

/// When a training ends because it no longer gets better.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStop {
    /// Evaluations in a row without improvement of `eval.metric` that end the training of an arm; 0 is off. It ends as a training that has done all its steps does.
    pub patience: usize,
    /// Least change of `eval.metric` that counts as an improvement, against the last value that did.
    #[schemars(range(min = 0.0))]
    pub min_delta: f64,
}
