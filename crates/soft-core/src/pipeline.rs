//! From logits to the distribution that is fed back: temperature, filters, noise.

use crate::learnable::LEAST_TEMPERATURE;
use crate::{
    Distribution, Error, LearnableFilters, NoiseKey, NormMatch, Place, entropy_nats, float_tensor,
    gumbel, gumbel_at, log_normalizer, tempered, top_k_ids,
};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

mod draws;
mod filters;
mod relaxed;

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Divides the scores by the temperature.
    Temperature,
    /// Keeps the `top_k` most likely tokens.
    TopK,
    /// Keeps the fewest most likely tokens whose probabilities reach `top_p`.
    TopP,
    /// Keeps tokens at least `min_p` times as likely as the most likely one.
    MinP,
    /// Adds noise to what the filters kept.
    Noise,
}

impl Transform {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transform::Temperature => "temperature",
            Transform::TopK => "top_k",
            Transform::TopP => "top_p",
            Transform::MinP => "min_p",
            Transform::Noise => "noise",
        }
    }
}

/// Noise on the fed distribution.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// The filtered distribution is fed as it is.
    #[default]
    None,
    /// `softmax((log p + g) / temperature)` with standard Gumbel noise g (Gumbel-softmax,
    /// Jang et al. 2017, equation 2): near 0 it is a draw of one token.
    Gumbel {
        /// Temperature of the relaxation, over 0.
        temperature: f64,
    },
    /// A draw from `Dirichlet(concentration * p)`, whose mean is p: near 0 one token, and p itself
    /// as it grows. The draw is a constant: no gradient flows through it.
    Dirichlet {
        /// Sum of the parameters, over 0.
        concentration: f64,
    },
}

/// What is fed of the distribution that the filters left.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feed {
    /// The distribution, with noise where there is some.
    #[default]
    Mixture,
    /// Mixture of Inputs (arXiv:2505.14827): the mean of a Dirichlet posterior whose one
    /// observation is the drawn token y, `w = (h p + (beta + 1 - h) 1[y]) / (beta + 1)` with
    /// `h = H(p) / log n` over the n tokens kept. Its mean over y is p.
    Inputs {
        /// Weight of the observation: 0 or more.
        beta: f64,
    },
    /// The mean of the embeddings of `count` tokens drawn from p, with repetition (Multiplex
    /// Thinking, arXiv:2601.08808; CoT2's MTS, arXiv:2505.23648). No gradient flows through it.
    Samples {
        /// Tokens drawn, at least 1; the first is that of [`SoftPipeline::draw`].
        count: usize,
    },
    /// SeLaR's contrast: with the share h of [`SoftPipeline::entropy_share`] and e the mixture, what is
    /// fed is `e + h (e - E[top1])`, away from the likeliest token. The weights
    /// `(1 + h) p - h 1[top1]` sum to 1 and that of the likeliest token may be below 0.
    Contrast,
}

/// Settings of a [`SoftPipeline`]; the default feeds `softmax(z)` over the whole vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineConfig {
    /// Divisor of the logits; 0 feeds the most likely token alone.
    pub temperature: f64,
    /// Most tokens kept; 0 is off.
    pub top_k: usize,
    /// Probability mass kept; 1 is off.
    pub top_p: f64,
    /// Least probability kept, relative to the most likely token's; 0 is off.
    pub min_p: f64,
    /// Most tokens fed, cut after every filter and before the noise; 0 is off.
    pub max_top_k: usize,
    /// Noise on what is left.
    pub noise: Noise,
    /// What is fed of it.
    pub feed: Feed,
    /// How the norm of the mixture is brought back to that of a token.
    pub norm_match: NormMatch,
    /// The stages in the order they are applied.
    pub order: Vec<Transform>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        use Transform::{MinP, Noise as NoiseStage, Temperature, TopK, TopP};
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            max_top_k: 0,
            noise: Noise::None,
            feed: Feed::Mixture,
            norm_match: NormMatch::None,
            order: vec![Temperature, TopK, TopP, MinP, NoiseStage],
        }
    }
}

/// The distribution for a position, before and after noise.
#[derive(Debug, Clone)]
pub struct SoftToken {
    /// `p_t`: after temperature and filters.
    pub probs: Distribution,
    /// What is fed: `p_t`, with noise, or what was drawn of it.
    pub fed: Distribution,
}

/// Turns logits into the distribution that is fed back; used by generation and training alike.
///
/// # Source
/// Stages and their order: Soft Thinking (Zhang et al. 2025, arXiv:2505.15778). Every filter keeps
/// at least one token and keeps a prefix of the tokens ordered by score, so a filter is a length.
#[derive(Debug, Clone)]
pub struct SoftPipeline {
    config: PipelineConfig,
    /// Settings that are learned, in the place of those of the same names.
    learnable: Option<Box<LearnableFilters>>,
}

impl SoftPipeline {
    /// Checks the settings.
    ///
    /// # Errors
    /// A number outside its range, a stage named twice, a stage in use that `order` leaves out, or
    /// one that stands after noise that is in use.
    pub fn new(config: PipelineConfig) -> Result<Self, Error> {
        let range = |ok: bool, name, found: f64, expected| {
            if ok {
                Ok(())
            } else {
                Err(Error::OutOfRange { name, found: found.to_string(), expected })
            }
        };
        let (t, p, m) = (config.temperature, config.top_p, config.min_p);
        let ok = t == 0.0 || (t >= LEAST_TEMPERATURE && t.is_finite());
        range(ok, "temperature", t, "0, or a finite number of 1e-30 or more")?;
        range((0.0..=1.0).contains(&p), "top_p", p, "a number from 0 to 1")?;
        range((0.0..=1.0).contains(&m), "min_p", m, "a number from 0 to 1")?;
        let least = |x: f64, least: f64| x >= least && x.is_finite();
        match config.noise {
            Noise::None => {}
            Noise::Gumbel { temperature: t } => {
                let expected = "a finite number of 1e-30 or more";
                range(least(t, LEAST_TEMPERATURE), "noise_temperature", t, expected)?;
            }
            Noise::Dirichlet { concentration: a } => {
                let expected = "a finite number of 1e-6 or more";
                range(least(a, 1e-6), "noise_concentration", a, expected)?;
            }
        }
        match config.feed {
            Feed::Mixture | Feed::Contrast => {}
            Feed::Inputs { beta } => {
                range(least(beta, 0.0), "beta", beta, "a finite number of 0 or more")?;
            }
            Feed::Samples { count } => {
                range(count > 0, "samples", count as f64, "a whole number of 1 or more")?;
            }
        }
        if config.feed != Feed::Mixture && config.noise != Noise::None {
            return Err(Error::NoiseBesideDraws);
        }
        for (i, transform) in config.order.iter().enumerate() {
            if config.order[..i].contains(transform) {
                return Err(Error::RepeatedTransform { name: transform.name() });
            }
        }
        let in_use = [
            (Transform::Temperature, t != 1.0),
            (Transform::TopK, config.top_k > 0),
            (Transform::TopP, p < 1.0),
            (Transform::MinP, m > 0.0),
            (Transform::Noise, config.noise != Noise::None),
        ];
        for (transform, used) in in_use {
            if used && !config.order.contains(&transform) {
                return Err(Error::MissingTransform { name: transform.name() });
            }
        }
        if config.noise != Noise::None && config.order.last() != Some(&Transform::Noise) {
            let last = config.order.last().map_or("nothing", |transform| transform.name());
            return Err(Error::NoiseNotLast { name: last });
        }
        Ok(Self { config, learnable: None })
    }

    /// The settings.
    pub fn config(&self) -> &PipelineConfig {
        &self.config
    }

    /// Whether any filter can drop a token.
    pub fn filters(&self) -> bool {
        let c = &self.config;
        c.temperature == 0.0 || c.top_k > 0 || c.top_p < 1.0 || c.min_p > 0.0 || c.max_top_k > 0
    }

    /// Temperature, filters and noise.
    ///
    /// # Shapes
    /// - logits: `[batch, vocab]`
    /// - keys: one a row, read only when something is drawn: with noise, or fed inputs or samples
    ///
    /// # Gradient
    /// Flows to the logits through the weights, not through the choice of the tokens kept.
    ///
    /// # Panics
    /// If something is drawn and `keys` are not one a row.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use soft_core::{PipelineConfig, SoftPipeline};
    ///
    /// # fn main() -> Result<(), soft_core::Error> {
    /// let pipeline = SoftPipeline::new(PipelineConfig { top_k: 2, ..Default::default() })?;
    /// let logits = Tensor::<2>::from_data([[0.0, 3f32.ln(), -5.0]], &Device::default());
    /// let fed = pipeline.apply(logits, &[]).fed;
    /// let row = &fed.to_rows(2)[0]; // the two most likely tokens, 3 to 1
    /// assert_eq!([row[0].0, row[1].0], [1, 0]);
    /// assert!((row[0].1 - 0.75).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply(&self, logits: Tensor<2>, keys: &[NoiseKey]) -> SoftToken {
        let scores = self.filtered(logits);
        let probs = weights_of(scores.clone());
        if self.config.temperature == 0.0 {
            return SoftToken { fed: probs.clone(), probs };
        }
        let fed = match (self.config.feed, self.config.noise) {
            (Feed::Inputs { beta }, _) => draws::observed(&probs, &self.draw(&probs, keys), beta),
            (Feed::Samples { count }, _) => self.sampled(&probs, keys, count),
            (Feed::Contrast, _) => draws::contrasted(&probs, self.config.max_top_k),
            (Feed::Mixture, Noise::None) => probs.clone(),
            (Feed::Mixture, Noise::Gumbel { temperature }) => {
                weights_of(relaxed(&scores, temperature, keys))
            }
            (Feed::Mixture, Noise::Dirichlet { concentration }) => {
                weights_of(draws::dirichlet(&probs, concentration, keys))
            }
        };
        SoftToken { probs, fed }
    }

    /// `p_t` alone: temperature and filters, no noise and no draw.
    ///
    /// # Shapes
    /// - logits: `[batch, vocab]`
    pub fn probs(&self, logits: Tensor<2>) -> Distribution {
        weights_of(self.filtered(logits))
    }

    /// `q @ E` with the norm that the settings ask for, and the weights that are really fed.
    ///
    /// # Shapes
    /// - embedding: `[vocab, d_model]`; output: `[batch, d_model]`
    pub fn mix(&self, fed: Distribution, embedding: &Tensor<2>) -> (Tensor<2>, Distribution) {
        let fed = fed.matched(self.config.norm_match, embedding);
        (fed.mix(embedding.clone()), fed)
    }

    /// Whether what is fed differs from the distribution that the filters left.
    pub fn alters(&self) -> bool {
        let c = &self.config;
        c.noise != Noise::None || c.feed != Feed::Mixture || c.norm_match != NormMatch::None
    }

    /// Entropy of the tempered distribution before filters, in nats; at temperature 0 that of 1.
    ///
    /// # Shapes
    /// - logits: `[batch, vocab]`; output: `[batch]`
    pub fn entropy_nats(&self, logits: Tensor<2>) -> Tensor<1> {
        entropy_nats(logits, self.config.temperature)
    }

    /// Entropy of `p_t` as a share of the largest that n tokens allow, `H(p) / log n`, from 0 to 1:
    /// n is `max_top_k` where that is on, else the number of tokens kept. 0 where n is 1.
    ///
    /// # Shapes
    /// - output: `[batch]`
    pub fn entropy_share(&self, probs: &Distribution) -> Tensor<1> {
        let weights = match probs {
            Distribution::Dense(weights) | Distribution::Sparse { weights, .. } => weights,
        };
        draws::entropy_share(weights.clone().detach(), self.config.max_top_k).squeeze_dim(1)
    }

    /// Share of the unfiltered probability that the filters kept, a number a row.
    ///
    /// # Shapes
    /// - logits: `[batch, vocab]`; output: `[batch]`
    pub fn kept_mass(&self, logits: Tensor<2>, probs: &Distribution) -> Tensor<1> {
        let [batch, _] = logits.dims();
        match probs {
            Distribution::Dense(probs) => Tensor::ones([batch], (&probs.device(), probs.dtype())),
            Distribution::Sparse { ids, weights } => {
                let scores = tempered(logits.detach(), self.config.temperature);
                let total = log_normalizer(scores.clone());
                let dropped = weights.clone().detach().equal_elem(0.0);
                let kept = (scores.gather(1, ids.clone()) - total).exp().mask_fill(dropped, 0.0);
                kept.sum_dim(1).squeeze_dim(1)
            }
        }
    }

    /// Scores after temperature, with what the filters drop at minus infinity.
    fn filtered(&self, logits: Tensor<2>) -> Scores {
        if let Some(filters) = &self.learnable {
            return self.relaxed_scores(filters, logits);
        }
        let scores = tempered(logits, self.config.temperature);
        if !self.filters() {
            return Scores::Dense(scores);
        }
        if self.config.temperature == 0.0 {
            let ids = top_k_ids(scores.clone().detach(), 1);
            let scores = scores.gather(1, ids.clone());
            return Scores::Sparse { scores: scores.detach(), ids, dropped: None };
        }
        let (ids, dropped) = self.kept_ids(scores.clone().detach());
        Scores::Sparse { scores: scores.gather(1, ids.clone()), ids, dropped }
    }
}

impl Default for SoftPipeline {
    /// The whole vocabulary at temperature 1.
    fn default() -> Self {
        Self { config: PipelineConfig::default(), learnable: None }
    }
}

/// Scores before the softmax: the whole vocabulary, or candidates of which some are dropped.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle; boxing one would only add a step"
)]
enum Scores {
    Dense(Tensor<2>),
    Sparse { scores: Tensor<2>, ids: Tensor<2, Int>, dropped: Option<Tensor<2, Bool>> },
}

impl Scores {
    fn masked(self) -> (Tensor<2>, Option<Tensor<2, Int>>) {
        match self {
            Scores::Dense(scores) => (scores, None),
            Scores::Sparse { scores, ids, dropped: None } => (scores, Some(ids)),
            Scores::Sparse { scores, ids, dropped: Some(dropped) } => {
                (scores.mask_fill(dropped, f64::NEG_INFINITY), Some(ids))
            }
        }
    }
}

fn weights_of(scores: Scores) -> Distribution {
    match scores.masked() {
        (scores, None) => Distribution::Dense(softmax(scores, 1)),
        (scores, Some(ids)) if scores.dims()[1] == 1 => {
            Distribution::Sparse { ids, weights: scores.ones_like() }
        }
        (scores, Some(ids)) => Distribution::Sparse { ids, weights: softmax(scores, 1) },
    }
}

/// `(log p + g) / temperature` with the noise of [`Place::Feed`].
fn relaxed(probs: &Scores, temperature: f64, keys: &[NoiseKey]) -> Scores {
    let (scores, ids) = probs.clone().masked();
    let [batch, k] = scores.dims();
    assert_eq!(batch, keys.len(), "one noise key a row");
    let noise: Vec<f64> = match &ids {
        None => keys.iter().flat_map(|&key| gumbel(key, Place::Feed, k)).collect(),
        Some(ids) => {
            let ids: Vec<u32> = ids.to_data().iter::<i64>().map(|id| id as u32).collect();
            let rows = ids.chunks_exact(k).zip(keys);
            rows.flat_map(|(ids, &key)| gumbel_at(key, Place::Feed, ids)).collect()
        }
    };
    let noise = float_tensor(noise, [batch, k], &scores.device(), scores.dtype());
    let noisy = (log_softmax(scores, 1) + noise) * (1.0 / temperature);
    match ids {
        None => Scores::Dense(noisy),
        Some(ids) => Scores::Sparse { scores: noisy, ids, dropped: None },
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
