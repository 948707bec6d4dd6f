//! Published accuracies to print beside ours.

use super::Mnns;
use crate::config::Arm;

/// Where the published figures come from.
pub const PUBLISHED_SOURCE: &str =
    "CoT2 (Gozeten et al., 2025), 2 layers, 2 heads, 4 digits of 1 to 9";

/// An accuracy as published, for a model of 2 layers and 2 heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The arm it belongs to.
    pub arm: Arm,
    /// Width of the model.
    pub d_model: usize,
    /// Share of validation problems answered right, 0 to 1.
    pub accuracy: f64,
}

const fn figure(arm: Arm, d_model: usize, accuracy: f64) -> Published {
    Published { arm, d_model, accuracy }
}

/// The published figures: soft thoughts over all sums (B = 16), discrete chain of thought, and
/// no chain of thought.
pub const PUBLISHED: [Published; 7] = [
    figure(Arm::Soft, 16, 0.5527),
    figure(Arm::Soft, 24, 0.9656),
    figure(Arm::Soft, 32, 0.9894),
    figure(Arm::Hard, 16, 0.5548),
    figure(Arm::Hard, 24, 0.7043),
    figure(Arm::Hard, 32, 0.8492),
    figure(Arm::NoThought, 32, 0.6835),
];

/// Optimizer steps of the published runs of the soft arm (1,000 epochs of 329 batches).
pub const PUBLISHED_STEPS: u64 = 329_000;
/// Examples in each of those steps.
pub const PUBLISHED_BATCH: u64 = 16;

/// The published figure of hidden states with a curriculum (Coconut) in the same paper, for the
/// widest of these models.
const PUBLISHED_HIDDEN: f64 = 0.9258;

impl Mnns {
    /// The published accuracy (0 to 1) of soft thoughts that feed hidden states, for a model of
    /// this shape, where there is one.
    pub fn published_hidden(&self, n_layers: usize, n_heads: usize, d_model: usize) -> Option<f64> {
        let shape = (self.digits(), self.digit_max(), n_layers, n_heads, d_model);
        (shape == (4, 9, 2, 2, 32)).then_some(PUBLISHED_HIDDEN)
    }

    /// The published accuracy (0 to 1) of `arm` for a model of this shape, where there is one.
    pub fn published(
        &self,
        arm: Arm,
        n_layers: usize,
        n_heads: usize,
        d_model: usize,
    ) -> Option<f64> {
        if (self.digits(), self.digit_max(), n_layers, n_heads) != (4, 9, 2, 2) {
            return None;
        }
        let found = PUBLISHED.iter().find(|row| row.arm == arm && row.d_model == d_model);
        found.map(|row| row.accuracy)
    }
}
