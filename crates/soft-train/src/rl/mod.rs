//! Reinforcement learning on thoughts: what is drawn, what it is worth, and the step that follows.
//!
//! A step draws a group of continuations for each prompt of a [`Source`] ([`Drawing`]), rewards them
//! ([`Reward`]), and compares them within the group ([`advantages`]) or with the values of a head
//! ([`gae`]). Everything drawn is a constant ([`soft_model::Drawn`]), so one parallel pass gives its
//! log-probabilities with gradients ([`differentiate`]). A reward model that reads mixtures needs no
//! draws: its own gradient goes through thoughts and answers ([`Pathwise`]).

mod advantage;
mod alarm;
mod drawing;
mod loss;
mod pathwise;
mod reward;
mod source;
mod value;

pub use advantage::{advantages, gae, has_signal, whitened};
pub use alarm::Alarms;
pub use drawing::{Drawing, Experience};
pub use loss::{Actors, Clip, PolicyLoss, Update, differentiate};
pub use pathwise::{Pathwise, Rewarded};
pub use reward::{Reward, RewardModel, Weighted, require_vocabulary, rewards};
pub use source::{Completion, Lot, Source, TaskSource, TextSource, Texts};
pub use value::ValueHead;

pub(crate) use advantage::deviation;
pub(crate) use pathwise::{read_of, run_free};

#[cfg(all(test, feature = "flex"))]
mod tests;
