//! Which tokens the filters keep.

use burn::tensor::{Bool, Int, Tensor};

use super::{SoftPipeline, Transform};
use crate::{log_normalizer, top_k_ids};

/// Tokens considered first when only `top_p` or `min_p` limits them; more are taken as needed.
const FIRST_CANDIDATES: usize = 256;

impl SoftPipeline {
    /// Candidate ids, best first, and which of them the filters drop.
    pub(super) fn kept_ids(&self, scores: Tensor<2>) -> (Tensor<2, Int>, Option<Tensor<2, Bool>>) {
        let [_, vocab] = scores.dims();
        let c = &self.config;
        let limits = [c.top_k, c.max_top_k, vocab];
        let most = limits.into_iter().filter(|&k| k > 0).min().unwrap_or(vocab);
        if c.top_p == 1.0 && c.min_p == 0.0 {
            return (top_k_ids(scores, most), None);
        }
        // `top_p` after `top_k` needs the probabilities of all `top_k` tokens, whatever is fed.
        let mut candidates = most.min(FIRST_CANDIDATES).max(c.top_k.min(vocab));
        loop {
            let ids = top_k_ids(scores.clone(), candidates);
            let dropped = self.dropped(&scores, ids.clone());
            let last = dropped.clone().narrow(1, candidates - 1, 1);
            // The kept tokens are a prefix: where every row dropped its last candidate, no
            // further one can be kept.
            if candidates >= most || last.all().into_scalar::<bool>() {
                let width = candidates.min(most);
                return (ids.narrow(1, 0, width), Some(dropped.narrow(1, 0, width)));
            }
            candidates = (candidates * 8).min(most);
        }
    }

    /// Which of the candidates (best first) the filters drop, applied in the configured order.
    fn dropped(&self, scores: &Tensor<2>, ids: Tensor<2, Int>) -> Tensor<2, Bool> {
        let c = &self.config;
        let mut dropped = ids.clone().lower_elem(0);
        let ranked = scores.clone().gather(1, ids);
        let best = ranked.clone().narrow(1, 0, 1);
        // Filters before the temperature see the scores without it.
        let mut factor = c.temperature;
        let (mut by_rank, mut by_floor) = (false, None);
        for transform in &c.order {
            match transform {
                Transform::Temperature => factor = 1.0,
                Transform::TopK if c.top_k > 0 => {
                    dropped = dropped.bool_or(from_rank(c.top_k, &ranked));
                    by_rank = true;
                }
                Transform::TopP if c.top_p < 1.0 => {
                    let total = match &by_floor {
                        _ if by_rank => total_of(ranked.clone(), dropped.clone(), factor),
                        Some(floor) => total_of(scores.clone(), below(scores, floor), factor),
                        None => log_normalizer(scores.clone() * factor),
                    };
                    let probs = (ranked.clone() * factor - total).exp();
                    let before = probs.clone().cumsum(1) - probs;
                    let enough = before.greater_equal_elem(c.top_p);
                    // The best token stays even where `top_p` is 0.
                    dropped = dropped.bool_or(enough.bool_and(from_rank(1, &ranked)));
                }
                Transform::MinP if c.min_p > 0.0 => {
                    let least = best.clone() + c.min_p.ln() / factor;
                    dropped = dropped.bool_or(below(&ranked, &least));
                    by_floor = Some(least);
                }
                _ => {}
            }
        }
        dropped
    }
}

/// A mask of the candidates whose rank, counted from 0, is `rank` or more.
fn from_rank(rank: usize, like: &Tensor<2>) -> Tensor<2, Bool> {
    let [batch, k] = like.dims();
    let ranks = Tensor::<1, Int>::arange(0..k as i64, &like.device());
    ranks.greater_equal_elem(rank as i64).reshape([1, k]).expand([batch, k])
}

/// A mask of the scores under their row's `least`.
fn below(scores: &Tensor<2>, least: &Tensor<2>) -> Tensor<2, Bool> {
    scores.clone().lower(least.clone().expand(scores.dims()))
}

/// Log of the sum of the exponentials of what is not dropped: `[batch, 1]`.
fn total_of(scores: Tensor<2>, dropped: Tensor<2, Bool>, factor: f64) -> Tensor<2> {
    log_normalizer(scores.mask_fill(dropped, f64::NEG_INFINITY) * factor)
}
