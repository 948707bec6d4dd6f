//! The values of the keys that take one of a few words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$attr])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value.
            pub const VALUES: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands for this value in a configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

mod rl;

pub use rl::{RewardKind, RlAlgorithm, RlAnswers, RlDiscretize, RlKl, RlLoss, RlPolicy, RlScale};

choice! {
    /// Architecture of a model that is built from a configuration.
    ModelFamily {
        /// LayerNorm, learned positions, tied embeddings.
        #[default]
        Gpt2 = "gpt2",
        /// RMS norm, rotary positions, gated feed-forward.
        Llama = "llama",
    }
}

choice! {
    /// Precision of the passes of a training.
    Precision {
        /// 32 bits throughout.
        #[default]
        F32 = "f32",
        /// 16 bits with the range of "f32" for the weights' copy, activations and gradients, where the device computes in them; norms, attention weights, mixtures' distributions, entropy and loss stay "f32". Half the memory of activations, and faster on GPUs that have it.
        Bf16 = "bf16",
    }
}

choice! {
    /// What is done with a training that would need more memory than there is.
    MemoryCheck {
        /// A dry run is refused; a training is refused where the estimate is more than 1.25 times what is available, and warns where it is less over it.
        #[default]
        Refuse = "refuse",
        /// A warning.
        Warn = "warn",
        /// Nothing.
        Off = "off",
    }
}

choice! {
    /// What a line of a data file holds.
    DataFormat {
        /// Found by the keys of the first good line; for the task "ids" it is "ids".
        #[default]
        Auto = "auto",
        /// One `{"ids": [..], "soft": [0, 1, ..], "weight": [..]}` a line.
        Ids = "ids",
        /// One `{"text": ".."}` a line, which ends with the end-of-sequence token.
        Text = "text",
        /// One `{"prompt": "..", "completion": ".."}` a line.
        Prompt = "prompt",
        /// One `{"messages": [{"role": "user", "content": ".."}, ..]}` a line.
        Messages = "messages",
        /// One `{"question": "..", "reasoning": "..", "answer": ".."}` a line; the reasoning stands between the tags of `think`, and may be a list of steps, which become its lines.
        Reasoning = "reasoning",
    }
}

choice! {
    /// What is done with an example that is too long.
    TooLong {
        /// Its line is a bad line.
        #[default]
        Error = "error",
        /// Its end is cut off; where nothing that is scored is left, it is dropped.
        Truncate = "truncate",
        /// It is left out, and counted.
        Drop = "drop",
    }
}

choice! {
    /// What is done where a line cannot be used.
    BadLines {
        /// Nothing is trained.
        #[default]
        Error = "error",
        /// Bad lines are left out; they are counted and the first five are listed.
        Skip = "skip",
    }
}

choice! {
    /// Which tokens of a text are scored.
    TrainOn {
        /// What the model is to write: the assistant's text, the completion, or reasoning and answer, each with the token that ends it; all of a plain text.
        #[default]
        Completion = "completion",
        /// Everything but the first token.
        All = "all",
    }
}

choice! {
    /// Which inputs are mixtures in examples made from text.
    SoftInputs {
        /// What lies strictly between the tags of `think`, or the field `reasoning`.
        #[default]
        Reasoning = "reasoning",
        /// The first `data.soft_first` tokens of what the model is to write.
        First = "first",
        /// All that the model is to write, but the token that ends it.
        All = "all",
        /// None: every input is a token.
        None = "none",
    }
}

choice! {
    /// What a generated position feeds to the next one.
    Mode {
        /// The mixture of token embeddings, weighted by probability.
        #[default]
        Soft = "soft",
        /// The embedding of one token: the likeliest at temperature 0, drawn above it.
        Hard = "hard",
    }
}

choice! {
    /// Noise on the weights of a mixture.
    NoiseKind {
        /// No noise.
        #[default]
        None = "none",
        /// Gumbel noise on the log-weights, then a softmax at `soft.noise_temperature`.
        Gumbel = "gumbel",
        /// A draw from the Dirichlet distribution around the weights, with `soft.noise_concentration`.
        Dirichlet = "dirichlet",
    }
}

choice! {
    /// A setting of the pipeline that can be learned.
    LearnableSetting {
        /// `soft.temperature`.
        #[default]
        Temperature = "temperature",
        /// `soft.top_k`, as a real number with a soft edge.
        TopK = "top_k",
        /// `soft.min_p`, with a soft edge.
        MinP = "min_p",
    }
}

choice! {
    /// A published method, whose values are the defaults of `soft`, `think` and `answer`.
    Preset {
        /// None.
        #[default]
        None = "none",
        /// Soft Thinking: filters, ten tokens, cold stop.
        SoftThinking = "soft-thinking",
        /// Stochastic Soft Thinking: Gumbel noise on five tokens.
        StochasticSoftThinking = "stochastic-soft-thinking",
        /// Mixture of Inputs: the drawn token beside the weights, everywhere.
        MixtureOfInputs = "mixture-of-inputs",
        /// Multiplex Thinking: the mean of three drawn tokens.
        Multiplex = "multiplex",
        /// SwiReasoning: soft and hard blocks in turn, by the trend of the entropy.
        SwiReasoning = "swi-reasoning",
        /// SeLaR: soft where the three likeliest tokens are even, away from the first of them.
        Selar = "selar",
        /// Coconut: six hidden states, for models trained so.
        Coconut = "coconut",
    }
}

impl Preset {
    /// All of them but none.
    pub const ALL: [Self; 7] = [
        Self::SoftThinking,
        Self::StochasticSoftThinking,
        Self::MixtureOfInputs,
        Self::Multiplex,
        Self::SwiReasoning,
        Self::Selar,
        Self::Coconut,
    ];

    /// Its values, as TOML.
    #[must_use]
    pub const fn toml(self) -> &'static str {
        match self {
            Self::None => "",
            Self::SoftThinking => include_str!("../../presets/soft-thinking.toml"),
            Self::StochasticSoftThinking => {
                include_str!("../../presets/stochastic-soft-thinking.toml")
            }
            Self::MixtureOfInputs => include_str!("../../presets/mixture-of-inputs.toml"),
            Self::Multiplex => include_str!("../../presets/multiplex.toml"),
            Self::SwiReasoning => include_str!("../../presets/swi-reasoning.toml"),
            Self::Selar => include_str!("../../presets/selar.toml"),
            Self::Coconut => include_str!("../../presets/coconut.toml"),
        }
    }
}

choice! {
    /// What is fed of the weights that the filters left.
    FeedKind {
        /// The mixture of all of them, with `soft.noise` where there is some.
        #[default]
        Mixture = "mixture",
        /// Mixture of Inputs: the weights after the observation of one drawn token, with `soft.beta`.
        Inputs = "inputs",
        /// The mean of `soft.samples` drawn tokens (Multiplex).
        Samples = "samples",
        /// The mixture, moved away from its likeliest token the more even its weights are (SeLaR).
        Contrast = "contrast",
        /// The last hidden state in place of a mixture, for models trained so (Coconut). In training it needs the rollout "sequential" and no guidance.
        Hidden = "hidden",
    }
}

choice! {
    /// Which positions of a thought are soft; the others are decoded as `answer` says.
    GateKind {
        /// All of them.
        #[default]
        Open = "open",
        /// Those whose entropy is at least `gate.threshold`.
        Entropy = "entropy",
        /// Soft and hard blocks in turn: hard once the entropy is under that of the block's first position, soft once it is over it (SwiReasoning).
        Switch = "switch",
    }
}

choice! {
    /// Whose entropy a gate compares with its threshold.
    EntropyOf {
        /// The distribution at `soft.temperature` over the whole vocabulary, in nats.
        #[default]
        Tempered = "tempered",
        /// The distribution at temperature 1 over the whole vocabulary, in nats.
        Raw = "raw",
        /// The weights that the filters left, as a share of the largest entropy that `soft.max_top_k` tokens (or as many as were kept) can have: 0 to 1.
        Kept = "kept",
    }
}

choice! {
    /// How many continuations of a prompt are followed.
    SearchKind {
        /// One.
        #[default]
        None = "none",
        /// The `search.beams` likeliest sequences of tokens.
        Beam = "beam",
        /// Beams whose thoughts feed each child's token mixed with its parent's distribution, by `search.mixing`.
        SoftBeam = "soft_beam",
        /// Beams whose thoughts feed mixtures: each splits its distribution in two by direction, and the heaviest `search.beams` parts go on.
        MixtureBeam = "mixture_beam",
        /// `search.beams` sequences drawn apart, of which the most frequent answer wins (self-consistency).
        Vote = "vote",
    }
}

choice! {
    /// How an answer is found in a text.
    ExtractKind {
        /// The last number: `\\boxed{..}` and `#### ..` before all others.
        #[default]
        LastNumber = "last_number",
        /// The whole text, blanks aside.
        Exact = "exact",
        /// The last letter that stands alone, A to J.
        Choice = "choice",
        /// The last match of `eval.pattern`: its first group where it has one.
        Regex = "regex",
    }
}

choice! {
    /// What is done to the thoughts of an arm before it answers.
    Control {
        /// They are left out.
        #[default]
        Delete = "delete",
        /// Each soft input becomes its heaviest token.
        Top = "top",
        /// Each soft input becomes that of another question.
        Shuffle = "shuffle",
        /// Each soft input becomes a random vector of the same norm.
        Noise = "noise",
        /// Each input becomes one fixed token.
        Pause = "pause",
        /// Each soft input becomes its second heaviest token.
        Second = "second",
    }
}

choice! {
    /// What is a thought in what is generated.
    SpanKind {
        /// Every position.
        #[default]
        Everywhere = "everywhere",
        /// The first `think.first` positions.
        First = "first",
        /// What lies between `think.open` and `think.close`, which are fed hard.
        Tags = "tags",
    }
}

choice! {
    /// Where what is added to a frozen base acts.
    Active {
        /// At every position.
        #[default]
        Always = "always",
        /// Where the input is soft, as the signal of soft mode: branches correct those positions alone, and a prefix or prompt is seen by them alone. Everywhere else the model is its bare base. Such additions cannot be merged, nor exported to PEFT.
        Soft = "soft",
    }
}

choice! {
    /// How the norm of a mixture is brought back to that of a token.
    NormMatch {
        /// Not at all.
        #[default]
        None = "none",
        /// Divided by the 2-norm of the weights.
        L2 = "l2",
        /// As long as the embedding of the heaviest token.
        Rms = "rms",
    }
}

choice! {
    /// One stage from logits to weights.
    Stage {
        /// Softmax at `soft.temperature`.
        #[default]
        Temperature = "temperature",
        /// Filter `soft.top_k`.
        TopK = "top_k",
        /// Filter `soft.top_p`.
        TopP = "top_p",
        /// Filter `soft.min_p`.
        MinP = "min_p",
        /// Noise `soft.noise`.
        Noise = "noise",
    }
}

choice! {
    /// How soft inputs are computed in training.
    RolloutKind {
        /// The truth is fed: one parallel pass.
        #[default]
        Teacher = "teacher",
        /// The model's own mixtures, position after position: exact, memory bounded by `rollout.segment`.
        Sequential = "sequential",
        /// The model's own mixtures of the pass before, all positions at once, `rollout.passes` times.
        Parallel = "parallel",
    }
}

choice! {
    /// How truth y and prediction p are combined at the share a.
    GuidanceForm {
        /// `(1 - a) p + a y`.
        #[default]
        Mix = "mix",
        /// The smallest move towards y after which no weight is below `a y`.
        Clamp = "clamp",
        /// y with probability a, else p, drawn for each position.
        Coin = "coin",
    }
}

choice! {
    /// How a number changes with the step, from a start to an end.
    ScheduleForm {
        /// It does not: the start of the guidance throughout, the weight of the entropy throughout.
        #[default]
        Constant = "constant",
        /// A straight line.
        Linear = "linear",
        /// Half a cosine wave: flat at both ends.
        Cosine = "cosine",
        /// k / (k + exp(i / k)), rescaled to reach both ends.
        InverseSigmoid = "inverse_sigmoid",
    }
}

choice! {
    /// How the gradient passes what is fed in training.
    EstimatorKind {
        /// Through the mixture itself, exactly: nothing is drawn.
        #[default]
        Exact = "exact",
        /// Gumbel-softmax: a relaxed draw is fed.
        Gumbel = "gumbel",
        /// The heaviest token of the relaxed draw is fed, with the gradient of the draw.
        StraightThrough = "straight_through",
        /// The same with the gradient averaged over draws that agree on that token.
        RaoBlackwell = "rao_blackwell",
    }
}

choice! {
    /// What the share of the truth is one for.
    GuidanceOver {
        /// Every position of a step has the same share.
        #[default]
        Step = "step",
        /// The change sweeps over the soft positions of a row, the first ones first: at the middle of the schedule the first is at the end of it, and the last still at its start.
        Position = "position",
    }
}

choice! {
    /// What the sum of the losses of a step is divided by.
    Normalize {
        /// The sum of all weights.
        #[default]
        Token = "token",
        /// The rows, and for each row its number of positions.
        Sequence = "sequence",
    }
}

choice! {
    /// The learning rate after the warm-up.
    LrSchedule {
        /// `train.lr` throughout.
        #[default]
        Constant = "constant",
        /// Half a cosine wave down to `train.min_lr`.
        Cosine = "cosine",
        /// A straight line down to `train.min_lr`.
        Linear = "linear",
        /// Warm-up, stable, decay: `train.lr`, and a straight line down to `train.min_lr` over the last `train.decay` steps.
        WarmupStableDecay = "wsd",
    }
}

choice! {
    /// What is done with a step that is not finite.
    OnNan {
        /// The training ends as diverged, with a checkpoint of the state before the step.
        #[default]
        Stop = "stop",
        /// The step is counted, leaves weights and optimizer as they are, and is recorded with the number of steps `skipped` so far. Five in a row end the training as "stop" does.
        Skip = "skip",
    }
}

choice! {
    /// A figure of the evaluations during training.
    HeldOutMetric {
        /// "accuracy" of a task that is generated and of text that is rewarded, else "answer_cross_entropy" where held-out examples have answers, else "cross_entropy", or "text_perplexity" where nothing else is measured.
        #[default]
        Auto = "auto",
        /// Share of held-out problems answered right; more is better. Of text every one is answered at each evaluation, which takes its time.
        Accuracy = "accuracy",
        /// Of what is scored in held-out examples, the model feeding itself; less is better.
        CrossEntropy = "cross_entropy",
        /// The same of the answers alone; less is better.
        AnswerCrossEntropy = "answer_cross_entropy",
        /// Of the plain text in `eval.text`; less is better.
        TextPerplexity = "text_perplexity",
    }
}

choice! {
    /// A way of thinking that is trained or evaluated.
    Arm {
        /// Soft thoughts: mixtures are fed, in training and in evaluation.
        #[default]
        Soft = "soft",
        /// Hard chain of thought: tokens are fed.
        Hard = "hard",
        /// The answer at once, with no thought.
        NoThought = "no_thought",
        /// The model of the soft arm, fed its own tokens; not trained apart.
        SoftFedHard = "soft_fed_hard",
    }
}

/// One path or a list of paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One file.
    One(String),
    /// Any number of files, read in this order.
    Many(Vec<String>),
}

impl Paths {
    /// The paths, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    /// True where no file is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}
