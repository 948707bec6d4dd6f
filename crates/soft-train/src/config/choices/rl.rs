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
