//! The shape of a decoder: what a `config.json` or a GGUF header says, in one type.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::gguf::Gguf;

mod gguf_config;
mod hf_config;
mod hf_rope;
mod hf_write;
mod json_fields;
#[cfg(test)]
pub(crate) mod tests;
mod validate;

/// Architecture families that [`crate::Transformer`] runs; each names its checkpoint tensors as Hugging Face does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 1, 2, 3 and SmolLM2.
    Llama,
    /// Llama with a sliding attention window.
    Mistral,
    /// Llama with biases on the query, key and value projections.
    Qwen2,
    /// Llama with an RMS norm on each query and key head.
    Qwen3,
    /// LayerNorm, learned positions, one-matrix GELU feed-forward.
    Gpt2,
}

/// Change of the rotary frequencies for contexts longer than the pre-training one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// All frequencies divided by `factor`.
    Linear {
        /// Ratio of the new context to the original one.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a linear blend between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths over `original_max_positions / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths under `original_max_positions / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of pre-training.
        original_max_positions: usize,
    },
}

/// How positions enter attention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Positions {
    /// A learned vector a position, added to the input embedding (GPT-2).
    Learned,
    /// Rotary embedding of queries and keys, half-split as in Hugging Face checkpoints.
    Rotary {
        /// Base of the frequencies.
        theta: f64,
        /// Frequency change, where the checkpoint has one.
        scaling: Option<RopeScaling>,
    },
}

/// Non-linearity of the feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x * sigmoid(x)`, in a gated feed-forward.
    Silu,
    /// Tanh approximation of GELU (`gelu_new`).
    GeluTanh,
    /// Exact GELU.
    Gelu,
}

/// Everything that fixes the shapes and formulas of a [`crate::Transformer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Architecture family.
    pub family: Family,
    /// Rows of the embedding matrix.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of the feed-forward.
    pub d_ff: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence.
    pub max_positions: usize,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// How positions enter.
    pub positions: Positions,
    /// Non-linearity of the feed-forward.
    pub activation: Activation,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the attention output projection.
    pub output_bias: bool,
    /// Biases on the feed-forward projections.
    pub mlp_bias: bool,
    /// RMS norm on each query and key head.
    pub qk_norm: bool,
    /// A query sees this many latest positions, itself included; `None` sees all.
    pub sliding_window: Option<usize>,
    /// The output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Drop-out rate of training, at the places GPT-2 has it.
    pub dropout: f64,
    /// First token of a sequence, where the model has one.
    pub bos_id: Option<u32>,
    /// Tokens that end a generation.
    pub eos_ids: Vec<u32>,
    /// Padding token, where the model has one.
    pub pad_id: Option<u32>,
}

impl ModelConfig {
    /// Reads a Hugging Face `config.json`, as transformers 4 or 5 writes it; `path` is named in errors.
    ///
    /// Ids of special tokens outside the vocabulary are dropped: they can never occur.
    ///
    /// # Errors
    /// [`Error::Config`] with the key for a model, rotary scaling, activation or attention type
    /// that is not supported, and for every size that is not believable.
    pub fn from_hf(value: &serde_json::Value, path: &Path) -> Result<Self, Error> {
        hf_config::read(value, path)
    }

    /// The `config.json` of this model, readable by [`ModelConfig::from_hf`] and by transformers 4 and 5.
    ///
    /// Llama-like classes have no drop-out at GPT-2's places: a rate above 0 is written as `dropout`,
    /// which only this project reads.
    pub fn to_hf(&self) -> serde_json::Value {
        hf_write::write(self)
    }

    /// Reads the header of a GGUF file of architecture llama, qwen2, qwen3 or gpt2.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, as [`ModelConfig::from_hf`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        gguf_config::read(gguf)
    }

    /// Checks the sizes and rates of a configuration that was built by hand.
    ///
    /// # Errors
    /// [`Error::Settings`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        validate::validate(self).map_err(|refusal| {
            Error::Settings(format!("model.{}: {}", refusal.field, refusal.problem))
        })
    }
}
