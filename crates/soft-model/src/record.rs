//! What a generation did: the inputs it fed, exactly, and what it believed at each step.

use burn::tensor::Tensor;
use serde::Serialize;
use soft_core::Distribution;

use crate::geometry::Geometry;

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
    /// A hard token.
    Token(u32),
    /// Tokens and their weights: a mixture, of one token too.
    Tokens(Vec<(u32, f64)>),
    /// A weight for every token of the vocabulary.
    Dense(Vec<f64>),
    /// A vector of the model's width that is no mixture, such as a hidden state.
    Vector(Vec<f64>),
}

impl SoftInput {
    /// A hard token.
    pub fn token(id: u32) -> Self {
        Self::Token(id)
    }

    /// Whether it stands for a position that was fed softly: anything but a hard token.
    pub fn is_soft(&self) -> bool {
        !matches!(self, Self::Token(_))
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

    /// The token of the largest weight but `skip` heavier ones; none in a vector, or where there
    /// are not so many.
    pub fn heaviest(&self, skip: usize) -> Option<u32> {
        match self {
            Self::Token(id) => (skip == 0).then_some(*id),
            Self::Tokens(entries) => {
                let mut entries = entries.clone();
                entries.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                entries.get(skip).map(|entry| entry.0)
            }
            Self::Dense(weights) => {
                let mut ids: Vec<u32> = (0..weights.len() as u32).collect();
                let weight = |id: u32| weights[id as usize];
                ids.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)).then(a.cmp(&b)));
                ids.get(skip).copied()
            }
            Self::Vector(_) => None,
        }
    }

    /// The mixture as a row `[1, d_model]`.
    pub fn mix(&self, embedding: &Tensor<2>) -> Tensor<2> {
        let (device, dtype) = (embedding.device(), embedding.dtype());
        let distribution = match self {
            Self::Vector(values) => {
                return soft_core::float_tensor(values.clone(), [1, values.len()], &device, dtype);
            }
            Self::Token(id) => Distribution::one_hot(&[*id], embedding),
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

/// Something that a rule of thinking did at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The model began a thought.
    OpenTag,
    /// The model ended its thought.
    CloseTag,
    /// A further token of a tag, fed whatever the model said.
    ForcedTag,
    /// The last position of a thought of fixed length.
    LastThought,
    /// The model was certain for long: the thought, or the row, ends here.
    ColdStop,
    /// A soft block begins.
    SwitchToSoft,
    /// A hard block begins.
    SwitchToHard,
    /// The thought had turned hard often enough and is closed.
    SwitchLimit,
}

/// What one step chose and believed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// Generated position, counted from 0.
    pub decode_step: usize,
    /// Index in the sequence.
    pub position: usize,
    /// Whether it belongs to a thought.
    pub thinks: bool,
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
    /// Where what was fed lies among the tokens.
    pub geometry: Geometry,
    /// What a rule of thinking did.
    pub event: Option<Event>,
}

/// How often the rules of thinking acted on a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Tally {
    /// The first position that belongs to a thought, counted from the prompt's end.
    pub first_thought: usize,
    /// Positions that belong to thoughts, the closing tag's first token included: one thought a
    /// row, without gaps.
    pub thoughts: usize,
    /// Positions that fed a mixture.
    pub soft: usize,
    /// Soft positions whose heaviest token had a weight over 0.99: hard in all but name.
    pub nearly_hard: usize,
    /// Thoughts or rows that a cold stop ended.
    pub cold_stops: usize,
    /// Turns of a switch from soft to hard.
    pub switches: usize,
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
    /// How often the rules of thinking acted.
    pub tally: Tally,
    /// How each position was fed.
    pub modes: Vec<Mode>,
    /// A record a step; empty where recording is off.
    pub steps: Vec<StepRecord>,
    /// What was fed after the prompt: entry i follows step i; the last step's output is not fed.
    /// Empty where inputs are not kept.
    pub inputs: Vec<SoftInput>,
}
