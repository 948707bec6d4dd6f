//! Decoder-only transformers that read soft tokens.
//!
//! One decoder runs Llama, SmolLM2, Mistral, Qwen2, Qwen3 and GPT-2 checkpoints. Token ids enter
//! only through [`Transformer::embed`]; everything after works on embeddings, so a mixture of
//! tokens is fed exactly as a token is.
//!
//! One generated token: [`Transformer::forward`] (logits) -> `soft_core::SoftPipeline`
//! (temperature, filters, noise) -> `soft_core::Distribution::mix` -> [`generate`] (next
//! embedding, stop) -> [`StepRecord`].
#![deny(missing_docs)]

mod active;
mod adapter;
mod attention;
mod beam;
mod block;
mod capped_file;
mod chat_template;
mod classifier;
mod config;
mod construct;
mod decoder;
mod deferred;
mod drawn;
mod dropout;
mod error;
mod export;
mod gate;
mod generate;
mod geometry;
mod gguf;
mod hub_cache;
#[cfg(feature = "hub")]
mod hub_download;
mod kv_cache;
mod linear;
mod mapped_file;
mod model_files;
mod names;
mod norm;
mod packing;
mod parameter_names;
mod precision;
mod prefill;
mod proposal;
mod quants;
mod record;
mod replay;
mod rope;
mod safetensors_file;
mod score;
mod thinking;
mod token_rows;
mod tokenizer;
mod transformer;
mod weights;

pub use active::{Active, Cells};
pub use adapter::{Difference, LowRankSpec, PeftAdapter, TARGETS, Targets, probe_ids};
pub use beam::{BeamKind, BeamOptions, Beams, beam_search};
pub use chat_template::{ChatTemplate, Message};
pub use classifier::{ClassifierFiles, SequenceClassifier};
pub use config::{Activation, Family, ModelConfig, Positions, RopeScaling};
pub use deferred::zero_leaf;
pub use drawn::{Drawn, DrawnStep, Scores, Use};
pub use dropout::Dropout;
pub use error::{Error, shortened};
pub use gate::{EntropyOf, Gate, Switch};
pub use generate::{GenerateOptions, ModeAt, Observe, draw, generate, generate_after};
pub use geometry::{Geometry, embedding_norms, nearest_tokens};
pub use gguf::{Gguf, GgufValue};
pub use kv_cache::KvCache;
pub use model_files::{GenerationDefaults, ModelFiles, write_folder};
pub use packing::Packing;
pub use record::{Event, Generation, Mode, SoftInput, StepRecord, Stop, Tally};
pub use replay::{attention_weights, replay};
pub use score::{Score, score};
pub use thinking::{ColdStop, Feedback, Manner, Span, Thinking};
pub use tokenizer::Tokenizer;
pub use transformer::{OutputHead, Transformer};
pub use weights::{
    DEFAULT_SHARD_BYTES, NamedTensor, NonFinite, Weights, expected_tensors, save_safetensors,
    save_sharded,
};
