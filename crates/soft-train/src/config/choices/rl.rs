//! The words of reinforcement learning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

choice! {
    /// How rewards become advantages.
    RlAlgorithm {
        /// No reinforcement learning.
        #[default]
        Off = "off",
        /// REINFORCE: a reward less the mean of the others of its group.
        Rloo = "rloo",
        /// A reward less the mean of its group, over their standard deviation.
        Grpo = "grpo",
        /// Rewards and the values of later steps, less the value of this one (GAE); a value head is trained beside the model.
        Ppo = "ppo",
        /// Nothing is drawn: the gradient of the reward model itself, as `rl.pathwise` says.
        Pathwise = "pathwise",
    }
}

choice! {
    /// What draws soft thoughts.
    RlPolicy {
        /// One token.
        Token = "token",
        /// The mean of `rl.samples` tokens (CoT2, Multiplex Thinking).
        Samples = "samples",
        /// The mixture of log-probabilities with Gumbel noise on them (SofT-GRPO).
        #[default]
        Gumbel = "gumbel",
        /// The mixture with Gaussian noise on it (Soft Tokens).
        Gaussian = "gaussian",
        /// One token is drawn, and the mixture that it was drawn from is fed (HRPO): a surrogate, which leaves out how the mixture depends on the model.
        Hybrid = "hybrid",
        /// Weights from a Dirichlet distribution around the mixture (CoT2).
        Dirichlet = "dirichlet",
    }
}

choice! {
    /// What the losses of draws are divided by.
    RlLoss {
        /// The draws of all rows: a long row counts for more.
        #[default]
        Token = "token",
        /// The draws of its own row, then the rows: all rows count alike.
        Sequence = "sequence",
    }
}

choice! {
    /// What is rewarded.
    RewardKind {
        /// The right answer.
        #[default]
        Answer = "answer",
        /// A thought that was closed, and a row that came to its end.
        Format = "format",
        /// Short rows.
        Length = "length",
        /// What a program says.
        Command = "command",
        /// What a sequence classifier says.
        Model = "model",
    }
}

choice! {
    /// What a reward that reads text is given in the place of a thought.
    RlDiscretize {
        /// The heaviest token of every step, or the token that was drawn.
        #[default]
        Top = "top",
        /// As many texts as the policy "samples" draws tokens: text k has the k-th of every step, and the reward is the mean.
        Samples = "samples",
        /// Nothing: prompt and answer alone are read.
        Drop = "drop",
    }
}

choice! {
    /// What a reward model that is differentiated is given in the place of an answer.
    RlAnswers {
        /// The mixture: the gradient is exact.
        #[default]
        Mixture = "mixture",
        /// The heaviest token of each step, as in decoding, with the gradient of the mixture: biased, and on MNNS worse than none.
        Token = "token",
    }
}

choice! {
    /// What advantages are divided by.
    RlScale {
        /// The standard deviation of the rewards of the group.
        #[default]
        Group = "group",
        /// That of all rewards of the step.
        Batch = "batch",
        /// Nothing (Dr. GRPO).
        None = "none",
    }
}

choice! {
    /// How the divergence from the model that training began with is measured.
    RlKl {
        /// In closed form, of the distributions that a draw comes from.
        #[default]
        Exact = "exact",
        /// By the draw alone: `exp(d) - d - 1`, d being the difference of the log-probabilities (k3, as TRL has it).
        K3 = "k3",
    }
}
