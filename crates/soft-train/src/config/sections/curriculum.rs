//! Reasoning that becomes soft step by step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps of reasoning that soft positions take the place of, one more in each stage (Coconut).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Curriculum {
    /// Stages after the first: in stage s the first s steps of the reasoning are left out, and `curriculum.positions` soft positions for each of the s stand in their place, without truth and unscored; the other steps stay tokens. Where reasoning is longer than this, one more stage leaves the rest of it out. 0 is off. Steps are the lines of a `reasoning`, or the entries of a list; those of the task "mnns" are its partial sums. What a checkpoint generates with are the soft positions of its own stage.
    #[schemars(range(max = 1024))]
    pub stages: usize,
    /// Soft positions in the place of each step.
    #[schemars(range(min = 1, max = 1024))]
    pub positions: usize,
    /// Optimizer steps of stage 0, which trains on the whole reasoning as tokens; 0 begins with stage 1.
    pub first: usize,
    /// Optimizer steps of each stage after it; the last one goes on to the end.
    #[schemars(range(min = 1))]
    pub steps: usize,
    /// Begin each stage with an optimizer that has seen nothing, as published. The learning rate goes on.
    pub reset: bool,
}

impl Default for Curriculum {
    fn default() -> Self {
        Self { stages: 0, positions: 1, first: 1000, steps: 1000, reset: true }
    }
}
