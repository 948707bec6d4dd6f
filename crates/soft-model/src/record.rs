//! What a generation did: the inputs it fed, exactly, and what it believed at each step.

use burn::tensor::Tensor;
use serde::Serialize;
use soft_core::Distribution;

/// How a step's output is fed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A mixture of embeddings.
    Soft,
    /// One token's embedding.
    Hard,
}

/// One input of a sequence, as a value that can be fed again.
#[derive(Debug, Clone, PartialEq)]
pub enum SoftInput {
    /// Tokens and their weights; a hard token is one id with weight 1.
    Tokens(Vec<(u32, f64)>),
    /// A weight for every token of the vocabulary.
    Dense(Vec<f64>),
}

impl SoftInput {
    /// A hard token.
    pub fn token(id: u32) -> Self {
        Self::Tokens(vec![(id, 1.0)])
    }

    /// Each row of a distribution as a value; waits for the device.
    pub(crate) fn rows(distribution: &Distribution) -> Vec<Self> {
        match distribution {
            Distribution::Dense(probs) => {
                let vocab = probs.dims()[1];
                let values = soft_core::host_values(probs.clone().detach());
                values.chunks_exact(vocab).map(|row| Self::Dense(row.to_vec())).collect()
            }
            sparse => sparse.to_rows(usize::MAX).into_iter().map(Self::Tokens).collect(),
        }
    }

    /// The mixture as a row `[1, d_model]`.
    pub(crate) fn mix(&self, embedding: &Tensor<2>) -> Tensor<2> {
        let (device, dtype) = (embedding.device(), embedding.dtype());
        let distribution = match self {
            Self::Tokens(entries) => {
                let ids: Vec<u32> = entries.iter().map(|entry| entry.0).collect();
                let weights = entries.iter().map(|entry| entry.1).collect();
                let shape = [1, entries.len()];
                Distribution::Sparse {
                    ids: soft_core::int_tensor(&ids, shape, &device),
                    weights: soft_core::float_tensor(weights, shape, &device, dtype),
                }
            }
            Self::Dense(weights) => Distribution::Dense(soft_core::float_tensor(
                weights.clone(),
                [1, weights.len()],
                &device,
                dtype,
            )),
        };
        distribution.mix(embedding.clone())
    }
}

/// What one step chose and believed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// Generated position, counted from 0.
    pub decode_step: usize,
    /// Index in the sequence.
    pub position: usize,
    /// How this step's output is fed.
    pub mode: Mode,
    /// The token fed when hard, the heaviest of what is fed when soft.
    pub token_id: u32,
    /// A draw from `p_t`, for logs.
    pub sampled_id: u32,
    /// Entropy before filters, in nats.
    pub entropy_nats: f64,
    /// `p_t` after filters, heaviest first; at temperature 0 that of temperature 1.
    pub top: Vec<(u32, f64)>,
    /// Share of probability that the filters kept.
    pub kept_mass: f64,
    /// The weights really fed where they are not `top` (noise, draws, norms, temperature 0), heaviest first: all
    /// of them where filters leave a few, the heaviest where the whole vocabulary is fed.
    pub fed: Option<Vec<(u32, f64)>>,
}

/// Why a row stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// An end-of-sequence token was chosen.
    Eos,
    /// The model was certain for long.
    ColdStop,
    /// As many tokens as asked for.
    MaxNew,
    /// The model has no further position.
    MaxPositions,
}

/// One finished row.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// `token_id` of every step, an end token included.
    pub token_ids: Vec<u32>,
    /// Why it stopped.
    pub stop: Stop,
    /// A record a step; empty where recording is off.
    pub steps: Vec<StepRecord>,
    /// What was fed after the prompt: entry i follows step i; the last step's output is not fed.
    /// Empty where recording is off.
    pub inputs: Vec<SoftInput>,
}
