//! Policies whose draws are thoughts: what is drawn, what is fed of it, and its log-probability.
//!
//! A draw is stored as a constant. Given the draw, what is fed depends on the model only through
//! the rows of E, and everything else that the model had a say in is in the log-probability. So
//! `E[L grad log pi + grad L]` is the gradient of `E[L]`, one parallel pass over stored draws gives
//! both terms, and the ratio of two policies is that of their densities. [`Policy::Hybrid`] alone
//! is no such policy, and says so.

mod density;
mod divergence;
mod draw;
mod gamma;
mod relative;
mod stored;

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

pub use self::draw::{Action, Draw, Kept};
use crate::noise::{log_gamma_variate, normal};
use crate::{
    Distribution, Error, NoiseKey, Place, SoftPipeline, float_tensor, gumbel_at, host_values,
    int_tensor,
};

/// Least probability of a token that has a share in a Dirichlet draw. Under a smaller parameter a
/// share is 0 but for rare draws, while its logarithm would still rule the density.
const LEAST_SHARE: f64 = 1e-3;

/// How a thought is drawn from filtered probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// One token y, whose embedding is fed: `log pi = log p(y)`.
    Token,
    /// `count` independent tokens, the mean of whose embeddings is fed (CoT2's MTS,
    /// arXiv:2505.23648; Multiplex Thinking, arXiv:2601.08808): `log pi = sum_k log p(y_k)`.
    Samples {
        /// Tokens drawn, at least 1.
        count: usize,
    },
    /// Perturbed log-probabilities `s = log p + g`, g standard Gumbel noise, of which
    /// `softmax(s / temperature) @ E` is fed (SofT-GRPO, arXiv:2511.06411):
    /// `log pi = sum_i [-(s_i - log p_i) - exp(-(s_i - log p_i))]` over the tokens kept.
    ///
    /// This is the density of s. The published code clamps the noise and takes a mean over some of
    /// the tokens, which is none; here nothing is clamped and the sum is over all tokens kept.
    Gumbel {
        /// Temperature of what is fed, over 0.
        temperature: f64,
    },
    /// The vector `x = p @ E + sigma n`, n standard normal (Soft Tokens, arXiv:2509.19170):
    /// `log pi = -||x - p @ E||^2 / (2 sigma^2) - d log(sigma sqrt(2 pi))`.
    Gaussian {
        /// Standard deviation of every coordinate, over 0.
        sigma: f64,
    },
    /// One token y is drawn, but fed is the mixture `p @ E` that it was drawn from, its weights
    /// kept as constants (HRPO, arXiv:2505.18454; Mixture of Inputs, arXiv:2505.14827):
    /// `log pi = log p(y)`.
    ///
    /// A surrogate, and a biased one: what is fed is a function of the parameters, and no term of
    /// the gradient knows it. Where the loss depends on a thought through what is fed alone, the
    /// mean of `L grad log p(y)` is 0.
    Hybrid,
    /// Shares `a ~ Dirichlet(c p)`, c the concentration, of which `a @ E` is fed (CoT2,
    /// arXiv:2505.23648): `log pi = log Gamma(c) + sum_i [(c p_i - 1) log a_i - log Gamma(c p_i)]`.
    ///
    /// The sum is over the tokens with p of 1e-3 or more at the draw, or where there is none the
    /// likeliest alone, and p sums to 1 over them, then as now. One token alone has the density 1.
    Dirichlet {
        /// Sum of the parameters: the larger it is, the nearer are the shares to p.
        concentration: f64,
    },
}

impl Policy {
    /// Checks the setting.
    ///
    /// # Errors
    /// A count of 0, a temperature or sigma that is not a finite number over 0, or a concentration
    /// that is not a finite number of 1e-6 or more.
    pub fn check(self) -> Result<(), Error> {
        let over_zero = "a finite number of 1e-30 or more";
        let (name, found, ok, expected) = match self {
            Self::Token | Self::Hybrid => return Ok(()),
            Self::Samples { count } => {
                ("count", count.to_string(), count > 0, "a whole number of 1 or more")
            }
            Self::Gumbel { temperature: x } => {
                ("temperature", x.to_string(), x >= 1e-30 && x.is_finite(), over_zero)
            }
            Self::Gaussian { sigma: x } => {
                ("sigma", x.to_string(), x >= 1e-30 && x.is_finite(), over_zero)
            }
            Self::Dirichlet { concentration: x } => {
                let expected = "a finite number of 1e-6 or more";
                ("concentration", x.to_string(), x >= 1e-6 && x.is_finite(), expected)
            }
        };
        if ok { Ok(()) } else { Err(Error::OutOfRange { name, found, expected }) }
    }

    /// Draws a thought a row. Tokens are those of [`Feed::Samples`](crate::Feed::Samples), and the
    /// noise of Gumbel and Dirichlet draws is that of [`Noise::Gumbel`](crate::Noise::Gumbel) and
    /// [`Noise::Dirichlet`](crate::Noise::Dirichlet), so that a pipeline with these settings feeds
    /// the same under the same keys (Dirichlet: where every token kept has a probability of 1e-3).
    ///
    /// # Shapes
    /// - probs: one distribution a row, in which no token is named twice; a weight of 0 is dropped
    /// - embedding: `[vocab, d_model]`, read by the Gaussian policy alone
    ///
    /// # Gradient
    /// None: a draw is a constant.
    ///
    /// # Panics
    /// If there is not one key a row.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use soft_core::{NoiseKey, Policy, SoftPipeline, host_values};
    ///
    /// let device = Device::default();
    /// let embedding = Tensor::<2>::from_data([[1f32, 0.0], [0.0, 1.0]], &device);
    /// let logits = Tensor::<2>::from_data([[0.0, 3f32.ln()]], &device);
    /// let key = NoiseKey { seed: 1, step: 0, row: 0, position: 0 };
    /// let probs = SoftPipeline::default().probs(logits.clone());
    /// let draw = Policy::Token.sample(&probs, &embedding, &[key]);
    /// let p = host_values(draw.log_prob(logits, &embedding))[0].exp();
    /// assert!((p - 0.25).abs() < 1e-6 || (p - 0.75).abs() < 1e-6);
    /// ```
    pub fn sample(self, probs: &Distribution, embedding: &Tensor<2>, keys: &[NoiseKey]) -> Draw {
        assert_eq!(probs.batch(), keys.len(), "one noise key a row");
        let probs = probs.clone().detach();
        let action = match self {
            Self::Token => Action::Tokens(tokens(&probs, keys, 1)),
            Self::Samples { count } => Action::Tokens(tokens(&probs, keys, count)),
            Self::Gumbel { temperature } => {
                let [log_probs, noise] = perturbed(&probs, keys);
                Action::Scores { log_probs, noise, temperature }
            }
            Self::Gaussian { sigma } => {
                let mean = probs.mix(embedding.clone().detach());
                let [rows, width] = mean.dims();
                let noise = keys.iter().flat_map(|&key| normal(key, Place::Feed, width)).collect();
                let noise = float_tensor(noise, [rows, width], &mean.device(), mean.dtype());
                Action::Vectors { mean, noise, sigma }
            }
            Self::Hybrid => {
                let (Distribution::Dense(weights) | Distribution::Sparse { weights, .. }) = &probs;
                Action::Hybrid { tokens: tokens(&probs, keys, 1), weights: weights.clone() }
            }
            Self::Dirichlet { concentration } => return shares(&probs, keys, concentration),
        };
        Draw { action, kept: Kept::of(probs) }
    }
}

/// Tokens drawn independently: `[batch, count]`.
fn tokens(probs: &Distribution, keys: &[NoiseKey], count: usize) -> Tensor<2, Int> {
    match SoftPipeline::default().sampled(probs, keys, count) {
        Distribution::Sparse { ids, .. } => ids,
        Distribution::Dense(_) => unreachable!("a draw names its tokens"),
    }
}

/// `log p`, minus infinity where p is 0, and the noise of [`Place::Feed`], 0 there: as wide as
/// probs.
fn perturbed(probs: &Distribution, keys: &[NoiseKey]) -> [Tensor<2>; 2] {
    let (weights, ids) = match probs {
        Distribution::Dense(weights) => (weights, None),
        Distribution::Sparse { ids, weights } => (weights, Some(ids)),
    };
    let [batch, k] = weights.dims();
    let ids: Vec<u32> = match ids {
        None => (0..batch).flat_map(|_| 0..k as u32).collect(),
        Some(ids) => ids.to_data().iter::<i64>().map(|id| id as u32).collect(),
    };
    let values = host_values(weights.clone());
    let log_probs = values.chunks_exact(k).flat_map(log_shares_of).collect();
    let noise = ids.chunks_exact(k).zip(keys);
    let noise = noise.flat_map(|(ids, &key)| gumbel_at(key, Place::Feed, ids));
    let noise = noise.zip(&values).map(|(g, &p)| if p > 0.0 { g } else { 0.0 }).collect();
    [log_probs, noise].map(|x| float_tensor(x, [batch, k], &weights.device(), weights.dtype()))
}

/// Logarithms of weights over their sum: weights in f32 sum to 1 only nearly.
fn log_shares_of(weights: &[f64]) -> Vec<f64> {
    let total = weights.iter().sum::<f64>().ln();
    weights.iter().map(|p| p.ln() - total).collect()
}

/// A draw of Dirichlet shares. They are kept as logarithms: one of a small parameter underflows.
fn shares(probs: &Distribution, keys: &[NoiseKey], concentration: f64) -> Draw {
    // More tokens than this cannot have the least share each.
    let mut rows = probs.to_rows((1.0 / LEAST_SHARE) as usize);
    for row in &mut rows {
        let own = row.partition_point(|entry| entry.1 >= LEAST_SHARE);
        row.truncate(own.max(1));
    }
    let width = rows.iter().map(Vec::len).max().unwrap_or(1);
    let shape = [rows.len(), width];
    let mut ids = vec![0; rows.len() * width];
    let [mut log_probs, mut log_shares] = [0; 2].map(|_| vec![f64::NEG_INFINITY; ids.len()]);
    for (number, (row, &key)) in rows.iter().zip(keys).enumerate() {
        let own = number * width..number * width + row.len();
        let weights: Vec<f64> = row.iter().map(|entry| entry.1).collect();
        let log_p = log_shares_of(&weights);
        let variate = |(entry, log_p): (&(u32, f64), &f64)| {
            log_gamma_variate(key, Place::Share(entry.0), concentration * log_p.exp())
        };
        let variates: Vec<f64> = row.iter().zip(&log_p).map(variate).collect();
        let largest = variates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = variates.iter().map(|x| (x - largest).exp()).sum::<f64>().ln() + largest;
        for (place, (entry, (log_p, x))) in own.zip(row.iter().zip(log_p.iter().zip(variates))) {
            (ids[place], log_probs[place], log_shares[place]) = (entry.0, *log_p, x - total);
        }
    }
    let (device, dtype) = (probs.device(), probs.dtype());
    let mask = log_probs.iter().map(|x| if x.is_finite() { 0.0 } else { *x }).collect();
    let [log_probs, log_shares, mask] =
        [log_probs, log_shares, mask].map(|x| float_tensor(x, shape, &device, dtype));
    Draw {
        action: Action::Shares { log_probs, log_shares, concentration },
        kept: Some(Kept { ids: int_tensor(&ids, shape, &device), mask }),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
