//! Reinforcement learning on thoughts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::choices::{
    RewardKind, RlAlgorithm, RlAnswers, RlDiscretize, RlKl, RlLoss, RlPolicy, RlScale,
};

/// Reinforcement learning: a step draws thoughts and answers from the model, rewards them, and makes what was rewarded likelier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rl {
    /// How rewards become advantages; "off" trains on the truth.
    pub algorithm: RlAlgorithm,
    /// What draws soft thoughts. Answers, and the thoughts of the arm "hard", are drawn as tokens.
    pub policy: RlPolicy,
    /// Tokens of a thought of the policy "samples".
    #[schemars(range(min = 1))]
    pub samples: usize,
    /// Temperature of what a thought of the policy "gumbel" feeds: near 0 it is one token.
    #[schemars(range(min = 1e-3))]
    pub gumbel_temperature: f64,
    /// Noise of a thought of the policy "gaussian", for each feature, as a share of the root mean square of the embedding's entries at that step.
    #[schemars(range(min = 1e-6))]
    pub sigma: f64,
    /// Sum of the parameters of the Dirichlet distribution that a thought of the policy "dirichlet" is drawn from: the larger, the nearer it is to the mixture.
    #[schemars(range(min = 1e-3))]
    pub concentration: f64,
    /// Draws for each prompt, compared with one another; `train.micro_batch` prompts have so many rows each. The algorithm "ppo" does with 1.
    #[schemars(range(min = 1))]
    pub group: usize,
    /// Updates on what a step drew; the first has the ratio 1 everywhere.
    #[schemars(range(min = 1))]
    pub updates: usize,
    /// A ratio under 1 less this gets no gradient that makes it smaller.
    #[schemars(range(min = 0.0))]
    pub clip_low: f64,
    /// A ratio over 1 and this gets no gradient that makes it larger.
    #[schemars(range(min = 0.0))]
    pub clip_high: f64,
    /// What the losses of the draws are divided by.
    pub loss: RlLoss,
    /// Weight of the mean entropy of what is drawn from, in nats: over 0 it is kept up.
    pub entropy: f64,
    /// What the advantages of "grpo" are divided by.
    pub scale: RlScale,
    /// Whether rows that were cut off before their end teach nothing.
    pub mask_truncated: bool,
    /// Weight of the divergence from the model that training began with; 0 keeps no such model. Of a model of which only low-rank branches are trained it is the model without them, and takes no memory; else it takes that of all that is trained.
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// Model of that divergence, in place of the one that training began with: a folder in Hugging Face layout or a GGUF file, of the same vocabulary.
    pub reference: String,
    /// How that divergence is measured.
    pub kl: RlKl,
    /// Mean divergence of a draw, in nats, from the model that training began with, or at an update from the model that drew, at which training stops; 0 never stops.
    #[schemars(range(min = 0.0))]
    pub kl_stop: f64,
    /// What is rewarded, as "KIND WEIGHT": the reward of a row is the weighted sum. "answer": 1 for the right answer. "format": 1 for a thought that was closed and a row that came to its end. "length": 0 up to `rl.free_tokens` tokens, and from there down to -1 at the limit. "command": what `rl.command` says. "model": what `rl.reward_model` says.
    pub rewards: Vec<String>,
    /// Tokens of a row that the reward "length" does not punish.
    pub free_tokens: usize,
    /// What a reward that reads text is given in the place of a thought.
    pub discretize: RlDiscretize,
    /// Program of the reward "command" and its arguments: it reads one JSON object a line, with `prompt`, `thoughts` (a list), `answer`, `expected`, `right`, `tokens` and `ended`, and writes one line for each, `{"reward": 0.5}` or a number.
    pub command: Vec<String>,
    /// Longest wait for the next line of that program, in seconds.
    #[schemars(range(min = 1e-3))]
    pub command_seconds: f64,
    /// Folder of the reward "model", and of `rl.pathwise`: a sequence classifier in the files of Hugging Face, with one label.
    pub reward_model: String,
    /// Discount of later rewards, of the algorithm "ppo".
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: f64,
    /// Weight of longer sums in the generalized advantage estimation of "ppo": 0 trusts the values, 1 the rewards.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f64,
    /// Weight of the loss of the values of "ppo".
    #[schemars(range(min = 0.0))]
    pub value_weight: f64,
    /// How far a value of "ppo" may move from that of the draw before it gets no gradient.
    #[schemars(range(min = 0.0))]
    pub value_clip: f64,
    /// Weight of the training loss on the same examples, whose gradient goes through the thoughts themselves as `rollout` says; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub supervised: f64,
    /// Weight of the gradient of `rl.reward_model` itself, of the same vocabulary: the model runs free from each prompt, as long as its example is, and the reward is differentiated through the answers and thoughts that it feeds itself, both as `soft` says; 0 leaves it out.
    #[schemars(range(min = 0.0))]
    pub pathwise: f64,
    /// What that reward reads, and the model is fed, in the place of an answer.
    pub pathwise_answers: RlAnswers,
}

impl Default for Rl {
    fn default() -> Self {
        Self {
            algorithm: RlAlgorithm::Off,
            policy: RlPolicy::Gumbel,
            samples: 3,
            gumbel_temperature: 1.0,
            sigma: 0.33,
            concentration: 10.0,
            group: 8,
            updates: 1,
            clip_low: 0.2,
            clip_high: 0.2,
            loss: RlLoss::Token,
            entropy: 0.0,
            scale: RlScale::Group,
            mask_truncated: false,
            beta: 0.0,
            reference: String::new(),
            kl: RlKl::Exact,
            kl_stop: 0.0,
            rewards: vec!["answer 1".to_owned()],
            free_tokens: 0,
            discretize: RlDiscretize::Top,
            command: Vec::new(),
            command_seconds: 30.0,
            reward_model: String::new(),
            gamma: 1.0,
            lambda: 0.95,
            value_weight: 0.1,
            value_clip: 0.2,
            supervised: 0.0,
            pathwise: 0.0,
            pathwise_answers: RlAnswers::Mixture,
        }
    }
}

impl Rl {
    /// Whether there is any.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.algorithm != RlAlgorithm::Off
    }

    /// Whether a step draws.
    #[must_use]
    pub fn draws(&self) -> bool {
        self.is_on() && self.algorithm != RlAlgorithm::Pathwise
    }

    /// The entries of `rl.rewards`: what is rewarded, and its weight.
    ///
    /// # Errors
    /// The first entry that is none, and what was expected.
    pub fn weighted_rewards(&self) -> Result<Vec<(RewardKind, f64)>, String> {
        let parse = |text: &String| {
            let refuse = || {
                let kinds: Vec<&str> =
                    RewardKind::VALUES.iter().map(|kind| kind.as_str()).collect();
                format!(
                    "`rl.rewards` holds {text:?}; expected one of {} and a weight, as in \"answer 1\"",
                    kinds.join(", ")
                )
            };
            let (kind, weight) = text.trim().split_once(' ').ok_or_else(refuse)?;
            let kind = RewardKind::VALUES.iter().copied().find(|own| own.as_str() == kind);
            let weight = weight.trim().parse::<f64>().ok().filter(|weight| weight.is_finite());
            kind.zip(weight).ok_or_else(refuse)
        };
        self.rewards.iter().map(parse).collect()
    }

    /// Whether a reward is among them.
    #[must_use]
    pub fn rewards(&self, kind: RewardKind) -> bool {
        self.weighted_rewards().is_ok_and(|all| all.iter().any(|(own, _)| *own == kind))
    }
}
