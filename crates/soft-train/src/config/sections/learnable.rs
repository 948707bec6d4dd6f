//! Which settings of the pipeline are learned, and between which bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use soft_core::LearnableConfig;

use super::super::choices::LearnableSetting;

/// Settings of `soft` that are learned with the model.
///
/// In training the filters have soft edges; the checkpoint is decoded with hard ones of the same
/// numbers, and says how much weight that moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Learnable {
    /// What is learned, from the value that `soft` has for it: any of "temperature", "top_k" and "min_p". A checkpoint is decoded with what was learned.
    pub settings: Vec<LearnableSetting>,
    /// Floor of a learned temperature: near 0 thoughts are greedy, and the gradient grows as 1 / T^2.
    #[schemars(range(min = 0.0))]
    pub least_temperature: f64,
    /// Floor of a learned top-k, in tokens.
    #[schemars(range(min = 1.0))]
    pub least_top_k: f64,
    /// Ceiling of a learned min-p: at 1 the likeliest token may be left alone.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub most_min_p: f64,
    /// Width of the edge of a learned top-k, in ranks. A small one is near the filter of generation, and has a gradient only where k lies near the middle of two ranks.
    #[schemars(range(min = 1e-6))]
    pub top_k_softness: f64,
    /// Width of the edge of a learned min-p, in nats. A small one is near the filter of generation, and has a gradient only from tokens near the edge.
    #[schemars(range(min = 1e-6))]
    pub min_p_softness: f64,
    /// Largest learning rate of what is learned here; it follows the schedule of `train.lr`. There is no weight decay on it.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
}

impl Default for Learnable {
    fn default() -> Self {
        let core = LearnableConfig::default();
        Self {
            settings: Vec::new(),
            least_temperature: core.least_temperature,
            least_top_k: core.least_top_k,
            most_min_p: core.most_min_p,
            top_k_softness: core.top_k_softness,
            min_p_softness: core.min_p_softness,
            lr: 1e-2,
        }
    }
}

impl Learnable {
    /// What is learned, as soft-core takes it.
    #[must_use]
    pub fn config(&self) -> LearnableConfig {
        let learns = |setting| self.settings.contains(&setting);
        LearnableConfig {
            temperature: learns(LearnableSetting::Temperature),
            top_k: learns(LearnableSetting::TopK),
            min_p: learns(LearnableSetting::MinP),
            least_temperature: self.least_temperature,
            least_top_k: self.least_top_k,
            most_min_p: self.most_min_p,
            top_k_softness: self.top_k_softness,
            min_p_softness: self.min_p_softness,
        }
    }
}
