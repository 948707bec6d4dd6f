//! The arithmetic of soft decoding: from logits to the embedding that is fed back.
//!
//! A language model usually feeds back the embedding of one sampled token. Soft decoding feeds
//! back `e_t = q_t @ E`, the mixture of token embeddings weighted by a distribution.
//!
//! | symbol | name in code | shape | meaning |
//! |---|---|---|---|
//! | `z_t` | `logits` | `[batch, vocab]` | scores *for* position t: the model's output at t-1 |
//! | `p_t` | `probs` | `[batch, vocab]` or `[batch, k]` with ids | softmax(z_t / temperature), then filters |
//! | `y_t` | `truth` | `[batch, k]` with ids | the right distribution for position t |
//! | `q_t` | `fed` | as `probs` | the distribution fed back: `p_t`, or guided by `y_t`, or with noise |
//! | `E` | `embedding` | `[vocab, d_model]` | input embedding matrix |
//! | `e_t` | `mixture` | `[batch, d_model]` | `q_t @ E` |
//! | `H` | `entropy_nats` | `[batch]` | entropy of softmax(z_t / temperature), before filters |
//! | `a` | `guidance` | scalar | share of truth in `q_t`: 1 is teacher forcing, 0 runs free |
//!
//! Tensors in, tensors out: no files, no clock, no model, no global random state.
#![deny(missing_docs)]

mod device;
mod distribution;
mod entropy;
mod error;
mod estimator;
#[cfg(all(test, feature = "flex"))]
mod finite_difference;
mod guidance;
mod hull;
mod kernels;
mod learnable;
mod noise;
mod pipeline;
mod policy;
mod repetition;
mod schedule;
mod selection;
mod tensor;

pub use device::{compiled_devices, device_from_name, is_host_device};
pub use distribution::{Distribution, NormMatch};
pub use entropy::{entropy_nats, log_normalizer, tempered};
pub use error::Error;
pub use estimator::{Estimator, feed_heaviest};
pub use guidance::{GuidanceForm, clamp_acts, guide};
pub use hull::distance_to_hull;
pub use kernels::{
    affine, attention_over_few, entropy_rows, gated_silu, gelu_tanh, layer_norm, log_softmax_rows,
    product, rms_norm, rotated, scaled_sum, softmax_last,
};
pub use learnable::{LearnableConfig, LearnableFilters, LearnedValues};
pub use noise::{NoiseKey, Place, dropout_scales, gumbel, gumbel_at, uniform_stream};
pub use pipeline::{Feed, Noise, PipelineConfig, SoftPipeline, SoftToken, Transform};
pub use policy::{Action, Draw, Kept, Policy};
pub use repetition::penalized;
pub use schedule::{Schedule, ScheduleKind};
pub use selection::top_k_ids;
pub use tensor::{at_least_f32, float_tensor, host_values, int_tensor};
