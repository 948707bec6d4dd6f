//! What is drawn: one token a row, several of them, or a whole distribution.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{Scores, SoftPipeline};
use crate::noise::log_gamma_variate;
use crate::{
    Distribution, NoiseKey, Place, float_tensor, gumbel, gumbel_at, host_values, int_tensor,
};

impl SoftPipeline {
    /// Draws one token a row from filtered probabilities, by the Gumbel-max rule with the noise of
    /// [`Place::Draw`]; at temperature 0 the most likely one.
    ///
    /// # Panics
    /// If `keys` are not one a row.
    pub fn draw(&self, probs: &Distribution, keys: &[NoiseKey]) -> Vec<u32> {
        self.draw_at(probs, keys, Place::Draw)
    }

    fn draw_at(&self, probs: &Distribution, keys: &[NoiseKey], place: Place) -> Vec<u32> {
        assert_eq!(probs.batch(), keys.len(), "one noise key a row");
        if self.config.temperature == 0.0 {
            return probs.to_rows(1).iter().map(|row| row[0].0).collect();
        }
        match probs {
            // Ranking a whole vocabulary would cost more than the draw itself.
            Distribution::Dense(probs) => {
                let vocab = probs.dims()[1];
                let values = host_values(probs.clone().detach());
                let rows = values.chunks_exact(vocab).zip(keys);
                let entries = |row: &[f64]| (0u32..).zip(row.to_vec()).collect::<Vec<_>>();
                rows.map(|(row, &key)| drawn(&entries(row), gumbel(key, place, vocab))).collect()
            }
            sparse => {
                let rows = sparse.to_rows(usize::MAX);
                let noise = |row, &key| noise_of(row, key, place);
                rows.iter().zip(keys).map(|(row, key)| drawn(row, noise(row, key))).collect()
            }
        }
    }

    /// `count` tokens of each row with equal weights.
    pub(crate) fn sampled(
        &self,
        probs: &Distribution,
        keys: &[NoiseKey],
        count: usize,
    ) -> Distribution {
        let draws: Vec<Vec<u32>> = (0..count as u32)
            .map(|number| match number {
                0 => self.draw(probs, keys),
                number => self.draw_at(probs, keys, Place::FurtherDraw(number)),
            })
            .collect();
        let ids: Vec<u32> =
            (0..keys.len()).flat_map(|row| draws.iter().map(move |draw| draw[row])).collect();
        let (shape, device) = ([keys.len(), count], probs.device());
        let weights = Tensor::ones(shape, (&device, probs.dtype())) * (1.0 / count as f64);
        Distribution::Sparse { ids: int_tensor(&ids, shape, &device), weights }
    }
}

/// A draw from `Dirichlet(concentration * p)` as scores: shares are Gamma variates, normalised.
pub(super) fn dirichlet(probs: &Distribution, concentration: f64, keys: &[NoiseKey]) -> Scores {
    assert_eq!(probs.batch(), keys.len(), "one noise key a row");
    let (weights, ids) = match probs {
        Distribution::Dense(probs) => (probs, None),
        Distribution::Sparse { ids, weights } => (weights, Some(ids.clone())),
    };
    let [batch, k] = weights.dims();
    let values = host_values(weights.clone().detach());
    let names: Vec<u32> = match &ids {
        None => (0..batch).flat_map(|_| 0..k as u32).collect(),
        Some(ids) => ids.to_data().iter::<i64>().map(|id| id as u32).collect(),
    };
    let scores: Vec<f64> = names
        .iter()
        .zip(&values)
        .enumerate()
        .map(|(place, (&id, &p))| match p > 0.0 {
            true => log_gamma_variate(keys[place / k], Place::Share(id), concentration * p),
            false => f64::NEG_INFINITY,
        })
        .collect();
    let scores = float_tensor(scores, [batch, k], &weights.device(), weights.dtype());
    match ids {
        None => Scores::Dense(scores),
        Some(ids) => Scores::Sparse { scores, ids, dropped: None },
    }
}

/// The posterior mean of [`Feed::Inputs`] after the observation of a token a row.
pub(super) fn observed(probs: &Distribution, drawn: &[u32], beta: f64) -> Distribution {
    let (weights, ids) = match probs {
        Distribution::Dense(probs) => {
            let [batch, vocab] = probs.dims();
            let ids = Tensor::<1, Int>::arange(0..vocab as i64, &probs.device());
            (probs.clone(), ids.reshape([1, vocab]).expand([batch, vocab]))
        }
        Distribution::Sparse { ids, weights } => (weights.clone(), ids.clone()),
    };
    let [batch, k] = weights.dims();
    let (device, dtype) = (weights.device(), weights.dtype());
    let share = entropy_share(weights.clone(), 0) * (1.0 / (beta + 1.0));
    let drawn = int_tensor(drawn, [batch, 1], &device).expand([batch, k]);
    let observation = ids.equal(drawn).float().cast(dtype);
    // As a mean of the two, so that one token alone has a weight of exactly 1.
    let weights = weights * share.clone() + observation * (-share + 1.0);
    match probs {
        Distribution::Dense(_) => Distribution::Dense(weights),
        Distribution::Sparse { ids, .. } => Distribution::Sparse { ids: ids.clone(), weights },
    }
}

/// The weights of [`Feed::Contrast`](super::Feed::Contrast).
pub(super) fn contrasted(probs: &Distribution, most: usize) -> Distribution {
    let away = |weights: &Tensor<2>| {
        let share = entropy_share(weights.clone(), most);
        let heaviest = weights.clone().detach().argmax(1);
        let likeliest = weights.zeros_like().scatter(
            1,
            heaviest,
            Tensor::ones([weights.dims()[0], 1], (&weights.device(), weights.dtype())),
            IndexingUpdateOp::Add,
        );
        weights.clone() + (weights.clone() - likeliest) * share
    };
    match probs {
        Distribution::Dense(weights) => Distribution::Dense(away(weights)),
        Distribution::Sparse { ids, weights } => {
            Distribution::Sparse { ids: ids.clone(), weights: away(weights) }
        }
    }
}

/// `H(w) / log n`, n being `most`, or where that is 0 the number of weights of a row that are not
/// 0: `[batch, k]` to `[batch, 1]`.
pub(super) fn entropy_share(weights: Tensor<2>, most: usize) -> Tensor<2> {
    let absent = weights.clone().detach().equal_elem(0.0);
    let logs = weights.clone().mask_fill(absent.clone(), 1.0).log();
    let kept = match most {
        0 => (-absent.float().cast(weights.dtype()) + 1.0).sum_dim(1),
        most => {
            Tensor::full([weights.dims()[0], 1], most as f64, (&weights.device(), weights.dtype()))
        }
    };
    let entropy = -(weights * logs).sum_dim(1);
    // Of one token alone the entropy is 0, whatever it is divided by.
    let alone = kept.clone().lower_elem(1.5);
    entropy / kept.log().mask_fill(alone, 1.0)
}

/// The token of the largest `log p + g`; a row is (id, weight), with its noise in the same order.
fn drawn(row: &[(u32, f64)], noise: Vec<f64>) -> u32 {
    let perturbed = row.iter().zip(noise).map(|(entry, g)| (entry.1.ln() + g, entry.0));
    perturbed.fold((f64::NEG_INFINITY, row[0].0), |a, b| if b.0 > a.0 { b } else { a }).1
}

/// Draw noise of a row's tokens: one pass over the stream where there are many.
fn noise_of(row: &[(u32, f64)], key: NoiseKey, place: Place) -> Vec<f64> {
    let ids: Vec<u32> = row.iter().map(|entry| entry.0).collect();
    let Some(last) = ids.iter().max() else { return Vec::new() };
    if ids.len() < 1024 {
        return gumbel_at(key, place, &ids);
    }
    let all = gumbel(key, place, *last as usize + 1);
    ids.iter().map(|&id| all[id as usize]).collect()
}
