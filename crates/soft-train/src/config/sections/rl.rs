//! Reinforcement learning on thoughts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::choices::{RlAlgorithm, RlLoss, RlPolicy};

/// Reinforcement learning: a step draws thoughts and answers from the model, rewards right answers, and makes what was rewarded likelier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rl {
    /// How rewards become advantages; "off" trains on the truth.
    pub algorithm: RlAlgorithm,
    /// What draws soft thoughts. Answers, and the thoughts of the arm "hard", are drawn as tokens.
    pub policy: RlPolicy,
    /// Tokens of a thought of the policy "samples".
    #[schemars(range(min = 1))]
    pub samples: usize,
    /// Temperature of what a thought of the policy "gumbel" feeds: near 0 it is one token.
    #[schemars(range(min = 1e-3))]
    pub gumbel_temperature: f64,
    /// Noise of a thought of the policy "gaussian", for each feature, as a share of the root mean square of the embedding's entries at that step.
    #[schemars(range(min = 1e-6))]
    pub sigma: f64,
    /// Draws for each prompt, compared with one another; `train.micro_batch` prompts have so many rows each.
    #[schemars(range(min = 2))]
    pub group: usize,
    /// Updates on what a step drew; the first has the ratio 1 everywhere.
    #[schemars(range(min = 1))]
    pub updates: usize,
    /// A ratio under 1 less this gets no gradient that makes it smaller.
    #[schemars(range(min = 0.0))]
    pub clip_low: f64,
    /// A ratio over 1 and this gets no gradient that makes it larger.
    #[schemars(range(min = 0.0))]
    pub clip_high: f64,
    /// What the losses of the draws are divided by.
    pub loss: RlLoss,
    /// Weight of the mean entropy of what is drawn from, in nats: over 0 it is kept up.
    pub entropy: f64,
}

impl Default for Rl {
    fn default() -> Self {
        Self {
            algorithm: RlAlgorithm::Off,
            policy: RlPolicy::Gumbel,
            samples: 3,
            gumbel_temperature: 1.0,
            sigma: 0.33,
            group: 8,
            updates: 1,
            clip_low: 0.2,
            clip_high: 0.2,
            loss: RlLoss::Token,
            entropy: 0.0,
        }
    }
}

impl Rl {
    /// Whether there is any.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.algorithm != RlAlgorithm::Off
    }
}
