//! Learnable filters in the place of hard ones.

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Int, Tensor};

use super::{Scores, SoftPipeline, Transform};
use crate::{Distribution, LearnableFilters, float_tensor, tempered, top_k_ids};

/// So many softnesses behind the edge of a top-k a weight is under `e^-50`, less than any rounding:
/// tokens farther behind need not be ranked.
const REACH: f64 = 50.0;

impl SoftPipeline {
    /// This pipeline with learnable settings in the place of its own of the same names, which
    /// [`SoftPipeline::config`] then shows as they stand: `top_k` is the nearest whole number.
    ///
    /// The settings must be those that [`LearnableConfig::check`](crate::LearnableConfig::check)
    /// accepts for this pipeline.
    pub fn with_learnable(&self, filters: LearnableFilters) -> Self {
        let values = filters.values();
        let mut config = self.config.clone();
        config.temperature = values.temperature.unwrap_or(config.temperature);
        config.top_k = values.top_k.map_or(config.top_k, |k| (k.round() as usize).max(1));
        config.min_p = values.min_p.unwrap_or(config.min_p);
        Self { config, learnable: Some(Box::new(filters)) }
    }

    /// The learnable settings, where there are some.
    pub fn learnable(&self) -> Option<&LearnableFilters> {
        self.learnable.as_deref()
    }

    /// The hard filters of the same numbers, which generation applies: the temperature is the same,
    /// a learned `top_k` is rounded, and edges are sharp.
    #[must_use]
    pub fn hardened(&self) -> Self {
        Self { config: self.config.clone(), learnable: None }
    }

    /// How much weight moves where hard filters take the place of learned ones: the total variation
    /// `1/2 sum_i |w_i - v_i|` between the two, a number a row; 0 where none is learned.
    ///
    /// # Shapes
    /// - logits: `[batch, vocab]`; output: `[batch]`
    pub fn gap(&self, logits: Tensor<2>) -> Tensor<1> {
        let hard = self.hardened().probs(logits.clone());
        let Distribution::Sparse { ids, weights } = hard else {
            return logits.sum_dim(1).zeros_like().squeeze_dim(1);
        };
        let shared = self.probs(logits).weights_at(ids).min_pair(weights).sum_dim(1);
        (-shared + 1.0).clamp_min(0.0).squeeze_dim(1)
    }

    /// Scores whose softmax are the weights of the learnable filters; the filters that are not
    /// learned cut as ever.
    pub(super) fn relaxed_scores(&self, filters: &LearnableFilters, logits: Tensor<2>) -> Scores {
        let scores = self.learned_scores(filters, logits);
        let fixed = self.fixed(filters);
        let (scores, ids, dropped) = match fixed.filters() {
            false => (scores, None, None),
            true => {
                let (ids, dropped) = fixed.kept_ids(scores.clone().detach());
                (scores.gather(1, ids.clone()), Some(ids), dropped)
            }
        };
        let scores = self.edges(filters, scores, ids.as_ref());
        match ids {
            None => Scores::Dense(scores),
            Some(ids) => Scores::Sparse { scores, ids, dropped },
        }
    }

    /// Logits over the temperature, learned or not.
    fn learned_scores(&self, filters: &LearnableFilters, logits: Tensor<2>) -> Tensor<2> {
        let logits = tempered(logits, 1.0);
        let Some(temperature) = filters.temperature(&logits) else {
            return tempered(logits, self.config.temperature);
        };
        // An impossible token has no share in the gradient of the temperature: 0 times its score
        // would be no number.
        let impossible = logits.clone().detach().equal_elem(f64::NEG_INFINITY);
        let finite = logits.mask_fill(impossible.clone(), 0.0);
        (finite * temperature.recip()).mask_fill(impossible, f64::NEG_INFINITY)
    }

    /// The filters that are not learned, and the ranks that a learned top-k can still weigh.
    fn fixed(&self, filters: &LearnableFilters) -> Self {
        let (learned, mut config) = (filters.config(), self.config.clone());
        if learned.top_k {
            let reach = config.top_k as f64 + 1.0 + REACH * learned.top_k_softness;
            config.top_k = reach.ceil() as usize;
        }
        if learned.min_p {
            config.min_p = 0.0;
        }
        Self { config, learnable: None }
    }

    /// Adds the logarithms of both edges to scores, which are ranked where they have ids.
    fn edges(
        &self,
        filters: &LearnableFilters,
        scores: Tensor<2>,
        ids: Option<&Tensor<2, Int>>,
    ) -> Tensor<2> {
        let [_, width] = scores.dims();
        let config = filters.config();
        let mut edged = scores.clone();
        if let Some(k) = filters.top_k(&scores) {
            let ranks = (1..=width).map(|rank| rank as f64 - 0.5).collect();
            let ranks = float_tensor(ranks, [1, width], &scores.device(), scores.dtype());
            edged = edged + log_sigmoid((k - ranks) * (1.0 / config.top_k_softness));
        }
        if let Some(log_min_p) = filters.log_min_p(&scores) {
            let best = match ids {
                Some(_) => scores.clone().narrow(1, 0, 1),
                None => scores.clone().gather(1, top_k_ids(scores.clone().detach(), 1)),
            };
            let impossible = scores.clone().detach().equal_elem(f64::NEG_INFINITY);
            let mut behind = (scores.clone() - best).mask_fill(impossible, 0.0);
            if self.is_before(Transform::MinP, Transform::Temperature) {
                behind = match filters.temperature(&scores) {
                    Some(temperature) => behind * temperature,
                    None => behind * self.config.temperature,
                };
            }
            edged = edged + log_sigmoid((behind - log_min_p) * (1.0 / config.min_p_softness));
        }
        edged
    }

    fn is_before(&self, first: Transform, second: Transform) -> bool {
        let place = |stage| self.config.order.iter().position(|&other| other == stage);
        matches!((place(first), place(second)), (Some(a), Some(b)) if a < b)
    }
}
