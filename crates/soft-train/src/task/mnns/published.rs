//! Published accuracies to print beside ours.

use super::super::{Figure, Published};
use crate::config::Arm;

/// Where the published figures come from.
const SOURCE: &str = "CoT2 (Gozeten et al., 2025), 2 layers, 2 heads, 4 digits of 1 to 9";

const fn figure(arm: Arm, d_model: usize, accuracy: f64) -> Figure {
    Figure { arm, hidden: false, shape: (2, 2, d_model), accuracy }
}

/// Soft thoughts over all sums (B = 16).
const ALL_SUMS: [Figure; 3] =
    [figure(Arm::Soft, 16, 0.5527), figure(Arm::Soft, 24, 0.9656), figure(Arm::Soft, 32, 0.9894)];

/// Soft thoughts over the sums of four sign choices.
const FOUR_SUMS: [Figure; 3] =
    [figure(Arm::Soft, 16, 0.6420), figure(Arm::Soft, 24, 0.8831), figure(Arm::Soft, 32, 0.9904)];

/// Discrete chain of thought, which the paper also calls B = 1, no chain of thought, and hidden
/// states with a curriculum (Coconut).
const OTHERS: [Figure; 5] = [
    figure(Arm::Hard, 16, 0.5548),
    figure(Arm::Hard, 24, 0.7043),
    figure(Arm::Hard, 32, 0.8492),
    figure(Arm::NoThought, 32, 0.6835),
    Figure { arm: Arm::Soft, hidden: true, shape: (2, 2, 32), accuracy: 0.9258 },
];

/// What is published where soft thoughts hold the sums of `budget` sign choices, 0 for all.
pub(super) fn published(budget: usize) -> Published {
    let soft: &[Figure] = match budget {
        0 | 16 => &ALL_SUMS,
        4 => &FOUR_SUMS,
        _ => &[],
    };
    // 1,000 epochs of 329 batches.
    Published { source: SOURCE, budget: (329_000, 16), figures: [soft, &OTHERS].concat() }
}
