//! A decoder small enough for a GPU that a CPU plays: one layer, grouped heads, 11 tokens.

use burn::tensor::{DType, Device};
use soft_model::{Activation, Family, ModelConfig, Positions, Transformer};

pub(crate) const VOCAB: usize = 11;

/// Prompts of different lengths, so that the batch has padding.
pub(crate) const PROMPTS: [&[u32]; 2] = [&[3, 1, 4], &[5, 9]];

/// The same weights on every device: they are drawn on the host.
pub(crate) fn model(device: &Device) -> Transformer {
    Transformer::from_seed(&config(), 7, device, DType::F32)
}

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: VOCAB,
        d_model: 8,
        d_ff: 16,
        n_layers: 1,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 4,
        max_positions: 32,
        norm_eps: 1e-5,
        positions: Positions::Rotary { theta: 10_000.0, scaling: None },
        activation: Activation::Silu,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: None,
        tied_embeddings: true,
        dropout: 0.0,
        bos_id: None,
        eos_ids: Vec::new(),
        pad_id: None,
    }
}
