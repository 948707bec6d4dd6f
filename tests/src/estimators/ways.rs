//! The estimators: scalars whose gradient is the estimate.

use burn::tensor::Tensor;
use soft_core::{Estimator, Policy, SoftPipeline};

use super::GROUP;
use super::problem::{Goal, Problem, keys};

/// An estimator of the gradient of the mean loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// The gradient of what is fed, as [`Estimator`] has it.
    Through(Estimator),
    /// A token is drawn and the gradient is that of the mixture: `onehot + (p - SG(p))`.
    StraightThrough,
    /// `grad L + (L - b) grad log pi`.
    Score {
        /// What is drawn.
        policy: Policy,
        /// Sigma over the root mean square of the embedding, where it is a Gaussian policy.
        relative: f64,
        /// Whether b is the mean loss of the others in the group; 0 otherwise.
        baseline: bool,
    },
}

/// Samples of a Rao-Blackwellised draw.
const RAO_BLACKWELL: u32 = 10;

/// All that are measured.
pub fn all(problem: &Problem) -> Vec<Way> {
    let score = |policy| Way::Score { policy, relative: 0.0, baseline: true };
    let mut ways = vec![Way::Through(Estimator::Exact)];
    ways.extend([0.1, 0.5, 1.0, 2.0].map(|t| Way::Through(Estimator::Gumbel { temperature: t })));
    ways.push(Way::StraightThrough);
    ways.extend(
        [0.1, 0.5, 1.0, 2.0].map(|t| Way::Through(Estimator::StraightThrough { temperature: t })),
    );
    ways.extend([0.5, 1.0].map(|temperature| {
        Way::Through(Estimator::RaoBlackwell { temperature, samples: RAO_BLACKWELL })
    }));
    ways.push(Way::Score { policy: Policy::Token, relative: 0.0, baseline: false });
    ways.push(score(Policy::Token));
    ways.extend([2, 3].map(|count| score(Policy::Samples { count })));
    ways.extend([0.1, 0.5, 1.0].map(|temperature| score(Policy::Gumbel { temperature })));
    ways.extend([0.1, 0.33, 1.0].map(|relative| Way::Score {
        policy: Policy::Gaussian { sigma: relative * problem.scale },
        relative,
        baseline: true,
    }));
    ways
}

/// What is to be differentiated, as means over the rows.
#[derive(Debug)]
pub struct Terms {
    /// The loss, with the gradient that passes what is fed.
    pub path: Tensor<1>,
    /// `SG(L - b) log pi` of the policies.
    pub score: Option<Tensor<1>>,
}

impl Way {
    /// The goal whose loss is that of what it feeds.
    ///
    /// # Panics
    /// If it draws Dirichlet shares: no gradient is known here of a loss under them but their own.
    pub fn goal(self) -> Goal {
        match self {
            Self::Through(Estimator::Exact) | Self::Score { policy: Policy::Hybrid, .. } => {
                Goal::Mixture
            }
            Self::Score { policy: Policy::Dirichlet { .. }, .. } => {
                panic!("there is no goal of Dirichlet shares")
            }
            Self::Through(Estimator::Gumbel { temperature })
            | Self::Score { policy: Policy::Gumbel { temperature }, .. } => {
                Goal::Gumbel { temperature }
            }
            Self::Score { policy: Policy::Gaussian { sigma }, .. } => Goal::Gaussian { sigma },
            Self::Score { policy: Policy::Samples { count }, .. } => Goal::Samples { count },
            Self::Score { policy: Policy::Token, .. }
            | Self::StraightThrough
            | Self::Through(Estimator::StraightThrough { .. } | Estimator::RaoBlackwell { .. }) => {
                Goal::Samples { count: 1 }
            }
        }
    }

    /// Whether it is known to be unbiased for its own goal.
    pub fn is_unbiased(self) -> bool {
        match self {
            Self::Through(estimator) => {
                matches!(estimator, Estimator::Exact | Estimator::Gumbel { .. })
            }
            Self::StraightThrough => false,
            Self::Score { policy, .. } => policy != Policy::Hybrid,
        }
    }

    /// Whether anything is drawn.
    pub fn draws(self) -> bool {
        self != Self::Through(Estimator::Exact)
    }

    /// The terms of `rows` trajectories, drawn anew in each block.
    ///
    /// # Panics
    /// If there is a baseline and the rows are no whole number of groups.
    pub fn terms(self, problem: &Problem, rows: usize, seed: u64, block: u64) -> Terms {
        let embedding = problem.model.embedding();
        let pipeline = SoftPipeline::default();
        let mut log_prob: Option<Tensor<1>> = None;
        let losses = problem.losses(rows, |thought, logits| {
            let keys = keys(seed, block, thought, rows);
            let probs = pipeline.probs(logits.clone());
            match self {
                Self::Through(estimator) => estimator.feed(probs, &keys).mix(embedding.clone()),
                Self::StraightThrough => {
                    let drawn = Policy::Token.sample(&probs, &embedding, &keys);
                    let mixture = probs.mix(embedding.clone().detach());
                    drawn.embed(&embedding) + (mixture.clone() - mixture.detach())
                }
                Self::Score { policy, .. } => {
                    let drawn = policy.sample(&probs, &embedding, &keys);
                    let own = drawn.log_prob(logits, &embedding);
                    log_prob = Some(match log_prob.take() {
                        None => own,
                        Some(before) => before + own,
                    });
                    drawn.embed(&embedding)
                }
            }
        });
        let score = log_prob.map(|log_prob| {
            let loss = losses.clone().detach();
            let Self::Score { baseline: true, .. } = self else { return (loss * log_prob).mean() };
            (above_the_others(loss) * log_prob).mean()
        });
        Terms { path: losses.mean(), score }
    }
}

/// `L_i` minus the mean of the others in its group.
fn above_the_others(losses: Tensor<1>) -> Tensor<1> {
    let [rows] = losses.dims();
    assert_eq!(rows % GROUP, 0, "{rows} rows are no whole number of groups of {GROUP}");
    let groups = losses.reshape([rows / GROUP, GROUP]);
    let mean = groups.clone().mean_dim(1);
    // L_i - (S - L_i) / (n - 1) = n / (n - 1) (L_i - S / n).
    let factor = GROUP as f64 / (GROUP as f64 - 1.0);
    ((groups - mean) * factor).reshape([rows])
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Through(Estimator::Exact) => write!(f, "exact through the mixture"),
            Self::Through(Estimator::Gumbel { temperature }) => {
                write!(f, "Gumbel-softmax {temperature}")
            }
            Self::StraightThrough => write!(f, "straight-through"),
            Self::Through(Estimator::StraightThrough { temperature }) => {
                write!(f, "straight-through Gumbel {temperature}")
            }
            Self::Through(Estimator::RaoBlackwell { temperature, .. }) => {
                write!(f, "Rao-Blackwell {temperature}")
            }
            Self::Score { policy, relative, baseline } => {
                match policy {
                    Policy::Token => write!(f, "score, token")?,
                    Policy::Samples { count } => write!(f, "score, {count} tokens")?,
                    Policy::Gumbel { temperature } => write!(f, "score, Gumbel {temperature}")?,
                    Policy::Gaussian { .. } => write!(f, "score, Gaussian {relative}")?,
                    Policy::Hybrid => write!(f, "score, token beside the mixture")?,
                    Policy::Dirichlet { concentration } => {
                        write!(f, "score, Dirichlet {concentration}")?;
                    }
                }
                if *baseline { Ok(()) } else { write!(f, ", no baseline") }
            }
        }
    }
}
