//! One token is fed, and the gradient is that of a relaxation of the draw.

use burn::tensor::activation::softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Distribution, NoiseKey, Place, float_tensor, gumbel_at, host_values};

/// How the gradient passes what is fed in training.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Through the mixture itself, exactly: nothing is drawn.
    #[default]
    Exact,
    /// The relaxed draw `w = softmax((log p + g) / temperature)` is fed, g standard Gumbel noise
    /// (Gumbel-softmax, Jang et al. 2017, arXiv:1611.01144). The gradient is exact for the noise.
    Gumbel {
        /// Temperature of the relaxation, over 0.
        temperature: f64,
    },
    /// The heaviest token of the relaxed draw w is fed, which is a draw from p; the gradient is
    /// that of w, which makes it biased (straight-through Gumbel-softmax, same source).
    StraightThrough {
        /// Temperature of the relaxation, over 0.
        temperature: f64,
    },
    /// A draw D from p is fed; the gradient is the mean over `samples` relaxed draws whose noise
    /// is drawn given that D is the heaviest: the expectation of the straight-through gradient
    /// with less variance (Paulus et al. 2020, arXiv:2010.04838).
    RaoBlackwell {
        /// Temperature of the relaxation, over 0.
        temperature: f64,
        /// Draws that are averaged, at least 1.
        samples: u32,
    },
}

impl Estimator {
    /// What is fed of filtered probabilities.
    ///
    /// # Shapes
    /// - probs: one distribution a row; keys: one a row, read only where something is drawn
    ///
    /// # Gradient
    /// Flows to the probabilities as the variant says; never through the noise.
    ///
    /// # Panics
    /// If something is drawn and `keys` are not one a row.
    pub fn feed(self, probs: Distribution, keys: &[NoiseKey]) -> Distribution {
        if self == Self::Exact {
            return probs;
        }
        assert_eq!(probs.batch(), keys.len(), "one noise key a row");
        let (weights, ids) = match probs {
            Distribution::Dense(weights) => (weights, None),
            Distribution::Sparse { ids, weights } => (weights, Some(ids)),
        };
        let row = Rows::new(weights, ids.clone(), keys);
        let fed = match self {
            Self::Exact => row.weights,
            Self::Gumbel { temperature } => row.relaxed(row.noise(), temperature),
            Self::StraightThrough { temperature } => {
                let w = row.relaxed(row.noise(), temperature);
                let heaviest = w.clone().detach().argmax(1);
                surrogate(heaviest, w)
            }
            Self::RaoBlackwell { temperature, samples } => {
                let drawn = row.drawn();
                let relaxed = (0..samples.max(1))
                    .map(|sample| row.relaxed(row.noise_given(&drawn, sample), temperature));
                let sum = relaxed.reduce(|a, b| a + b).unwrap_or_else(|| row.weights.clone());
                let mean = sum * (1.0 / f64::from(samples.max(1)));
                let places: Vec<u32> = drawn.iter().map(|&place| place as u32).collect();
                let shape = [places.len(), 1];
                surrogate(crate::int_tensor(&places, shape, &mean.device()), mean)
            }
        };
        match ids {
            None => Distribution::Dense(fed),
            Some(ids) => Distribution::Sparse { ids, weights: fed },
        }
    }
}

/// Feeds the heaviest token alone in some rows, with the gradient of the whole row: what decoding makes
/// of a position that is read as a token. Where weights are equal it is the first.
///
/// # Shapes
/// - rows: one flag a row of the distribution
///
/// # Gradient
/// That of the weights, as if they were fed (straight-through, Bengio et al. 2013, arXiv:1308.3432):
/// biased.
///
/// # Panics
/// If there is not one flag a row.
pub fn feed_heaviest(fed: Distribution, rows: &[bool]) -> Distribution {
    assert_eq!(fed.batch(), rows.len(), "one flag a row");
    if !rows.contains(&true) {
        return fed;
    }
    let hard = |weights: Tensor<2>| {
        let flags: Vec<u32> = rows.iter().map(|&hard| u32::from(hard)).collect();
        let flags = crate::int_tensor(&flags, [rows.len(), 1], &weights.device()).equal_elem(1);
        let heaviest = weights.clone().detach().argmax(1);
        let shape = weights.dims();
        weights.clone().mask_where(flags.expand(shape), surrogate(heaviest, weights))
    };
    match fed {
        Distribution::Dense(weights) => Distribution::Dense(hard(weights)),
        Distribution::Sparse { ids, weights } => {
            Distribution::Sparse { ids, weights: hard(weights) }
        }
    }
}

/// One-hot to the bit, with the gradient of w: `onehot + (w - SG(w))`.
///
/// # Shapes
/// - place: `[batch, 1]`; w: `[batch, k]`
fn surrogate(place: Tensor<2, Int>, w: Tensor<2>) -> Tensor<2> {
    let [batch, _] = w.dims();
    let one = Tensor::ones([batch, 1], (&w.device(), w.dtype()));
    let zeros: Tensor<2> = w.clone().detach().zeros_like();
    let one_hot = zeros.scatter(1, place, one, IndexingUpdateOp::Add);
    one_hot + (w.clone() - w.detach())
}

/// Probabilities on the device, and what is needed of them on the host.
struct Rows<'a> {
    weights: Tensor<2>,
    /// The same on the host, row by row.
    values: Vec<f64>,
    /// Token of each entry.
    ids: Vec<u32>,
    keys: &'a [NoiseKey],
}

impl<'a> Rows<'a> {
    fn new(weights: Tensor<2>, ids: Option<Tensor<2, Int>>, keys: &'a [NoiseKey]) -> Self {
        let [batch, k] = weights.dims();
        let values = host_values(weights.clone().detach());
        let ids = match ids {
            None => (0..batch).flat_map(|_| 0..k as u32).collect(),
            Some(ids) => ids.into_data().iter::<i64>().map(|id| id as u32).collect(),
        };
        Self { weights, values, ids, keys }
    }

    fn width(&self) -> usize {
        self.weights.dims()[1]
    }

    /// Host rows: the key, the probabilities and the tokens of each.
    fn rows(&self) -> impl Iterator<Item = (NoiseKey, &[f64], &[u32])> {
        let k = self.width();
        let rows = self.values.chunks_exact(k).zip(self.ids.chunks_exact(k));
        self.keys.iter().zip(rows).map(|(&key, (values, ids))| (key, values, ids))
    }

    /// `softmax((log p + noise) / temperature)`, 0 where p is.
    fn relaxed(&self, noise: Vec<f64>, temperature: f64) -> Tensor<2> {
        let weights = &self.weights;
        let absent = weights.clone().detach().equal_elem(0.0);
        let logs = weights.clone().mask_fill(absent.clone(), 1.0).log();
        let noise = float_tensor(noise, weights.dims(), &weights.device(), weights.dtype());
        let scores = (logs + noise) * (1.0 / temperature);
        softmax(scores.mask_fill(absent, f64::NEG_INFINITY), 1)
    }

    /// Standard Gumbel noise of [`Place::Feed`].
    fn noise(&self) -> Vec<f64> {
        self.rows().flat_map(|(key, _, ids)| gumbel_at(key, Place::Feed, ids)).collect()
    }

    /// A draw from each row, as a place in it, by the Gumbel-max rule with [`Place::Draw`].
    fn drawn(&self) -> Vec<usize> {
        let draw = |(key, values, ids): (NoiseKey, &[f64], &[u32])| {
            let noise = gumbel_at(key, Place::Draw, ids);
            let perturbed = values.iter().zip(noise).map(|(p, g)| p.ln() + g);
            let best = perturbed.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
            best.map_or(0, |(place, _)| place)
        };
        self.rows().map(draw).collect()
    }

    /// Gumbel noise given that the entry at `drawn` of each row is the heaviest: with e standard
    /// exponential, `log p + g` is `-log e_D` there and `-log(e_j / p_j + e_D)` elsewhere.
    fn noise_given(&self, drawn: &[usize], sample: u32) -> Vec<f64> {
        let mut noise = Vec::with_capacity(self.values.len());
        for ((key, values, ids), &drawn) in self.rows().zip(drawn) {
            // By token and not by place, so that a filter that keeps more changes no number.
            let exponential: Vec<f64> = gumbel_at(key, Place::Conditional(sample), ids)
                .into_iter()
                .map(|g| (-g).exp())
                .collect();
            let top = exponential[drawn];
            noise.extend(values.iter().zip(exponential).enumerate().map(
                |(place, (&p, e))| match (place == drawn, p > 0.0) {
                    (true, _) => -top.ln() - p.ln(),
                    (false, true) => -(e / p + top).ln() - p.ln(),
                    (false, false) => 0.0,
                },
            ));
        }
        noise
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;

    const P: [f64; 4] = [0.5, 0.2, 0.3, 0.0];

    fn probs(values: &[f64], rows: usize, autodiff: bool) -> Tensor<2> {
        let device = if autodiff { Device::flex().autodiff() } else { Device::flex() };
        float_tensor(values.repeat(rows), [rows, values.len()], &device, DType::F64)
    }

    fn keys(rows: usize) -> Vec<NoiseKey> {
        (0..rows as u32).map(|row| NoiseKey { seed: 5, step: 0, row, position: 3 }).collect()
    }

    fn weights(fed: Distribution) -> Tensor<2> {
        match fed {
            Distribution::Dense(weights) | Distribution::Sparse { weights, .. } => weights,
        }
    }

    const STRAIGHT: Estimator = Estimator::StraightThrough { temperature: 0.7 };
    const RAO: Estimator = Estimator::RaoBlackwell { temperature: 0.7, samples: 3 };

    /// Rows that are flagged are one-hot, the first of equal weights, with the gradient of the weights;
    /// the others are as they were.
    #[test]
    fn the_heaviest_token_is_fed_where_it_is_asked_for() {
        let values = [0.2, 0.5, 0.3, 0.4, 0.4, 0.2, 0.1, 0.2, 0.7];
        let device = Device::flex().autodiff();
        let ids = crate::int_tensor(&[5, 6, 7, 5, 6, 7, 5, 6, 7], [3, 3], &device);
        let slope = float_tensor((1..=9).map(f64::from).collect(), [3, 3], &device, DType::F64);
        for sparse in [false, true] {
            let p = float_tensor(values.to_vec(), [3, 3], &device, DType::F64).require_grad();
            let fed = match sparse {
                false => Distribution::Dense(p.clone()),
                true => Distribution::Sparse { ids: ids.clone(), weights: p.clone() },
            };
            let found = weights(feed_heaviest(fed, &[true, true, false]));
            let expected = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.1, 0.2, 0.7];
            assert_eq!(host_values(found.clone().detach()), expected, "{sparse}");
            let mut gradients = (found * slope.clone()).sum().backward();
            let gradient = p.grad_remove(&mut gradients).expect("it is asked for");
            assert_eq!(host_values(gradient), (1..=9).map(f64::from).collect::<Vec<_>>());
        }
        let untouched = Distribution::Dense(probs(&P, 2, false));
        assert_eq!(host_values(weights(feed_heaviest(untouched, &[false; 2]))), P.repeat(2));
    }

    #[test]
    #[should_panic = "one flag a row"]
    fn flags_that_are_not_one_a_row_are_refused() {
        feed_heaviest(Distribution::Dense(probs(&P, 2, false)), &[true]);
    }

    #[test]
    fn one_token_is_fed_to_the_bit_and_it_is_a_draw_from_p() {
        let rows = 4000;
        for estimator in [STRAIGHT, RAO] {
            let fed = estimator.feed(Distribution::Dense(probs(&P, rows, false)), &keys(rows));
            let fed = host_values(weights(fed));
            let mut counts = [0.0; 4];
            for row in fed.chunks(4) {
                assert!(row.iter().all(|&w| w == 0.0 || w == 1.0), "{row:?}");
                counts[row.iter().position(|&w| w == 1.0).expect("one token")] += 1.0;
            }
            assert_eq!(counts[3], 0.0, "what a filter dropped is never drawn");
            // Chi-squared with 2 degrees of freedom: 13.8 is exceeded once in a thousand.
            let n = rows as f64;
            let chi: f64 = (0..3).map(|i| (counts[i] - n * P[i]).powi(2) / (n * P[i])).sum();
            assert!(chi < 13.8, "{estimator:?}: {counts:?}");
        }
    }

    #[test]
    fn noise_given_the_draw_makes_it_the_heaviest_and_is_gumbel_noise_on_the_whole() {
        let rows = 4000;
        let keys = keys(rows);
        let all = Rows::new(probs(&P[..3], rows, false), None, &keys);
        let drawn = all.drawn();
        let noise = all.noise_given(&drawn, 0);
        let perturbed = |row: usize, i: usize| P[i].ln() + noise[3 * row + i];
        for (row, &drawn) in drawn.iter().enumerate() {
            assert!((0..3).all(|i| perturbed(row, i) <= perturbed(row, drawn)), "row {row}");
        }
        // A standard Gumbel variable has the mean 0.5772 and the variance pi^2 / 6.
        for i in 0..3 {
            let own: Vec<f64> = (0..rows).map(|row| noise[3 * row + i]).collect();
            let mean = own.iter().sum::<f64>() / rows as f64;
            let variance = own.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / rows as f64;
            assert!((mean - 0.5772).abs() < 0.1, "token {i}: mean {mean}");
            assert!((variance - 1.645).abs() < 0.25, "token {i}: variance {variance}");
        }
    }

    /// Gradient of `sum_j c_j w_j` in p for the first rows.
    fn gradient(estimator: Estimator, values: &[f64], rows: usize) -> Vec<f64> {
        let p = probs(values, rows, true).require_grad();
        let fed = weights(estimator.feed(Distribution::Dense(p.clone()), &keys(rows)));
        let c = float_tensor([1.0, -2.0, 0.5].repeat(rows), [rows, 3], &p.device(), DType::F64);
        let grads = (fed * c).sum().backward();
        host_values(p.grad(&grads).expect("it flows to p"))
    }

    #[test]
    fn the_relaxed_draw_has_the_gradient_of_finite_differences_and_straight_through_the_same() {
        let gumbel = Estimator::Gumbel { temperature: 0.7 };
        let found = gradient(gumbel, &P[..3], 1);
        let loss = |values: &[f64]| {
            let fed = gumbel.feed(Distribution::Dense(probs(values, 1, false)), &keys(1));
            let w = host_values(weights(fed));
            w[0] - 2.0 * w[1] + 0.5 * w[2]
        };
        for i in 0..3 {
            let moved = |by: f64| {
                let mut values = P[..3].to_vec();
                values[i] += by;
                loss(&values)
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((found[i] - expected).abs() < 1e-5, "{i}: {} {expected}", found[i]);
        }
        assert_eq!(gradient(STRAIGHT, &P[..3], 1), found);
    }

    #[test]
    fn rao_blackwell_has_the_mean_of_straight_through_and_a_smaller_variance() {
        let rows = 3000;
        let of = |estimator| -> (f64, f64) {
            let all = gradient(estimator, &P[..3], rows);
            let first: Vec<f64> = all.chunks(3).map(|row| row[0]).collect();
            let mean = first.iter().sum::<f64>() / rows as f64;
            (mean, first.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / rows as f64)
        };
        let (straight, spread) = of(STRAIGHT);
        let many = Estimator::RaoBlackwell { temperature: 0.7, samples: 20 };
        let (rao, less) = of(many);
        let deviation = (spread / rows as f64).sqrt();
        assert!((straight - rao).abs() < 5.0 * deviation, "{straight} {rao} of {deviation}");
        assert!(less < 0.8 * spread, "{less} of {spread}");
    }

    #[test]
    fn sparse_rows_draw_what_dense_ones_do() {
        let dense = Distribution::Dense(probs(&P, 2, false));
        let sparse = Distribution::Sparse {
            ids: crate::int_tensor(&[2, 0, 1, 2, 0, 1], [2, 3], &Device::flex()),
            weights: probs(&[P[2], P[0], P[1]], 2, false),
        };
        for estimator in [STRAIGHT, RAO, Estimator::Gumbel { temperature: 0.7 }] {
            let a = estimator.feed(dense.clone(), &keys(2)).to_rows(4);
            let b = estimator.feed(sparse.clone(), &keys(2)).to_rows(4);
            for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
                assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-12, "{a:?} {b:?}");
            }
        }
    }
}
