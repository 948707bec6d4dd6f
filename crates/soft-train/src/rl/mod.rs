//! Reinforcement learning on thoughts: what is drawn, what it is worth, and the step that follows.
//!
//! A step draws a group of continuations for each prompt ([`Drawing`]), rewards them, and compares
//! them within the group ([`advantages`]). Everything drawn is a constant ([`soft_model::Drawn`]), so
//! one parallel pass gives its log-probabilities with gradients ([`differentiate`]).

mod advantage;
mod drawing;
mod loss;

pub use advantage::{advantages, has_signal};
pub use drawing::{Drawing, Experience};
pub use loss::{Clip, PolicyLoss, Update, differentiate};

#[cfg(all(test, feature = "flex"))]
mod tests;
