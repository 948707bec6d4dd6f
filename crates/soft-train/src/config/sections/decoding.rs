//! How a model is decoded: mixtures, thoughts and answer, gates, search.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::choices::{
    EntropyOf, FeedKind, GateKind, Mode, NoiseKind, NormMatch, Preset, SearchKind, SpanKind, Stage,
};

/// How a distribution becomes the next input: filters, noise, mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Soft {
    /// A published method whose values every other source changes. Of `soft` alone; it sets `think` and `answer` too.
    pub preset: Preset,
    /// What is fed back: the mixture of token embeddings, or the embedding of one token.
    pub mode: Mode,
    /// Divisor of the logits before the softmax. 0 puts all weight on the largest logit.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Tokens of largest probability that are kept; 0 is off.
    pub top_k: usize,
    /// The fewest tokens whose probabilities add up to this are kept; 1 is off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// Tokens below this share of the largest probability are dropped; 0 is off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: f64,
    /// Most tokens in a mixture, after all filters; 0 is off.
    pub max_top_k: usize,
    /// Noise on the weights of the mixture.
    pub noise: NoiseKind,
    /// Temperature of the softmax that turns log-weights with Gumbel noise back into weights.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub noise_temperature: f64,
    /// Sum of the parameters of "dirichlet": near 0 a draw is one token, and as it grows the weights themselves.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub noise_concentration: f64,
    /// What is fed of the weights: all of them, or what was drawn.
    pub feed: FeedKind,
    /// Weight of the drawn token in "inputs": 0 feeds the weights where they are even, a large one the token.
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// Tokens that "samples" draws.
    #[schemars(range(min = 1, max = 65536))]
    pub samples: usize,
    /// How the norm of the mixture is brought back to that of a token's embedding.
    pub norm_match: NormMatch,
    /// Order in which temperature, filters and noise are applied. A stage left out must be off.
    pub order: Vec<Stage>,
    /// Tokens that the prompt or the row holds already become less likely: their logits are divided by this where above 0, else multiplied. 1 is off. In generation only.
    #[schemars(range(min = 1.0))]
    pub repetition_penalty: f64,
    /// Stop after `cold_stop_length` steps in a row whose entropy is under `cold_stop_entropy`: a thought gives way to the answer, a row without one ends.
    pub cold_stop: bool,
    /// Entropy under which a step counts as certain, in nats.
    #[schemars(range(min = 0.0))]
    pub cold_stop_entropy: f64,
    /// Certain steps in a row that stop.
    #[schemars(range(min = 1))]
    pub cold_stop_length: usize,
}

impl Default for Soft {
    fn default() -> Self {
        Self {
            preset: Preset::None,
            mode: Mode::Soft,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            max_top_k: 0,
            noise: NoiseKind::None,
            noise_temperature: 0.5,
            noise_concentration: 1.0,
            feed: FeedKind::Mixture,
            beta: 1.0,
            samples: 3,
            norm_match: NormMatch::None,
            order: vec![Stage::Temperature, Stage::TopK, Stage::TopP, Stage::MinP, Stage::Noise],
            repetition_penalty: 1.0,
            cold_stop: false,
            cold_stop_entropy: 0.01,
            cold_stop_length: 256,
        }
    }
}

/// Where thoughts lie in what is generated; the rest follows `answer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Think {
    /// What is a thought.
    pub span: SpanKind,
    /// Tag that begins a thought, one token of the tokenizer; empty where a row begins with a thought.
    pub open: String,
    /// Tag that ends a thought, one token of the tokenizer.
    pub close: String,
    /// Put `think.open` after each prompt of text, so that what is generated begins with its thought, as in training on {"question", "reasoning", "answer"}.
    pub begin: bool,
    /// Accept tags that the tokenizer splits into several tokens; they are matched on the tokens chosen.
    pub split_tags: bool,
    /// Positions of the span "first".
    pub first: usize,
}

impl Default for Think {
    fn default() -> Self {
        Self {
            span: SpanKind::Everywhere,
            open: "<think>".into(),
            close: "</think>".into(),
            begin: false,
            split_tags: false,
            first: 16,
        }
    }
}

/// Which positions of a thought are soft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// The rule; where it is shut, a position is decoded as `answer` says, and hard.
    pub kind: GateKind,
    /// Whose entropy "entropy" looks at.
    pub entropy: EntropyOf,
    /// Least entropy of a soft position, in nats, or as a share where `gate.entropy` is "kept".
    #[schemars(range(min = 0.0))]
    pub threshold: f64,
    /// Least positions of a hard block of "switch".
    #[schemars(range(min = 1))]
    pub window: usize,
    /// Turns to hard after which "switch" closes the thought with `think.close`; 0 is never.
    pub max_switches: usize,
    /// Share of the mixture in the first input of a soft block, the rest being `think.open`; it grows to 1 at `generate.max_new`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub enter: f64,
    /// The same for the first input of a hard block, with `think.close`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub leave: f64,
    /// Texts of tokens that are hard wherever the answer's settings would draw them, a blank before them or not.
    pub hard: Vec<String>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            kind: GateKind::Open,
            entropy: EntropyOf::Tempered,
            threshold: 0.5,
            window: 512,
            max_switches: 0,
            enter: 1.0,
            leave: 0.7,
            hard: Vec::new(),
        }
    }
}

/// Several continuations of a prompt at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// How many continuations of a prompt are followed.
    pub kind: SearchKind,
    /// How many: beams, or votes.
    #[schemars(range(min = 1, max = 1024))]
    pub beams: usize,
    /// A beam's score is its log-probability divided by its length to this power; 0 leaves it as it is.
    #[schemars(range(min = 0.0))]
    pub length_penalty: f64,
    /// Share of the parent's distribution in what a child of "soft_beam" feeds: 0 is its token alone.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixing: f64,
}

impl Default for Search {
    fn default() -> Self {
        Self { kind: SearchKind::None, beams: 4, length_penalty: 1.0, mixing: 0.5 }
    }
}

/// Limits and prompt handling of generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// Most positions that are generated for one prompt.
    #[schemars(range(min = 1))]
    pub max_new: usize,
    /// Go on after an end-of-sequence token, up to `generate.max_new`.
    pub ignore_eos: bool,
    /// Put a text prompt through the chat template of the model, where there is one.
    pub chat: bool,
}

impl Default for Generate {
    fn default() -> Self {
        Self { max_new: 128, ignore_eos: false, chat: true }
    }
}
