//! A question, two thoughts and an answer, for a model with eight tokens.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{
    Action, Distribution, Draw, Estimator, NoiseKey, Policy, entropy_nats, float_tensor,
    host_values, int_tensor,
};
use soft_model::{Family, ModelConfig, Transformer};

use crate::bench::flat_gradients;

/// Tokens of the vocabulary.
pub const VOCABULARY: usize = 8;
/// Thoughts between the question and the answer.
pub const THOUGHTS: usize = 2;
/// A factor of fresh weights under which few tokens share most of a thought, and the answer depends
/// on which is fed.
pub const SHARP: f64 = 25.0;
/// One under which thoughts are nearer to uniform and the model nearer to linear.
pub const MILD: f64 = 12.0;
const QUESTION: [u32; 2] = [3, 6];
const ANSWER: i64 = 5;
/// Trajectories of an enumeration that are in one graph.
const ROWS: usize = 2048;

/// What is minimised: the mean loss of the answer over the thoughts that are fed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Each thought is the mean of the embeddings of `count` tokens drawn: 1 is hard decoding.
    Samples {
        /// Tokens of a thought.
        count: usize,
    },
    /// Each thought is the mixture itself; nothing is drawn.
    Mixture,
    /// Each thought is a mixture under Gumbel noise.
    Gumbel {
        /// Temperature of the relaxation.
        temperature: f64,
    },
    /// Each thought is the mixture plus normal noise.
    Gaussian {
        /// Standard deviation of a coordinate.
        sigma: f64,
    },
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Samples { count: 1 } => write!(f, "hard token"),
            Self::Samples { count } => write!(f, "mean of {count} tokens"),
            Self::Mixture => write!(f, "mixture"),
            Self::Gumbel { temperature } => write!(f, "mixture, Gumbel noise {temperature}"),
            Self::Gaussian { .. } => write!(f, "mixture, normal noise"),
        }
    }
}

/// What is known of a problem by enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Mean loss under hard thoughts.
    pub hard_loss: f64,
    /// Loss under mixtures.
    pub mixture_loss: f64,
    /// Standard deviation of the loss over hard thoughts.
    pub deviation: f64,
    /// Entropy of the first thought in nats.
    pub entropy: f64,
    /// Numbers in the gradient.
    pub parameters: usize,
}

/// The model, in double precision and on an autodiff device, with a fixed question and answer.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The model, all of whose parameters are differentiated.
    pub model: Transformer,
    /// Root mean square of the embedding's entries, as it was at first.
    pub scale: f64,
}

impl Problem {
    /// A fresh model, whose weights are multiplied by `factor`: see [`SHARP`] and [`MILD`].
    pub fn new(seed: u64, factor: f64) -> Self {
        let config = ModelConfig {
            vocab_size: VOCABULARY,
            d_model: 8,
            d_ff: 16,
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 2,
            head_dim: 4,
            max_positions: 8,
            ..crate::tiny_config(Family::Llama)
        };
        let model = Transformer::from_seed(&config, seed, &Device::flex(), DType::F64);
        let model = crate::scale_weights(model, factor);
        let squares = host_values(model.embedding().powi_scalar(2).mean());
        Self { model: model.train(), scale: squares[0].sqrt() }
    }

    /// The same problem with every parameter moved along a direction, a number for each in the
    /// order of [`Self::gradient`].
    ///
    /// # Panics
    /// If the direction does not have as many numbers as the model.
    pub fn moved(&self, direction: &[f64], by: f64) -> Self {
        struct Move<'a>(&'a [f64], f64);
        impl ModuleMapper for Move<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let dims = param.val().dims();
                let (own, rest) = self.0.split_at(dims.iter().product());
                self.0 = rest;
                let by = self.1;
                param.map(|x| {
                    let own = own.iter().map(|x| by * x);
                    let values = host_values(x.clone()).into_iter().zip(own).map(|(x, d)| x + d);
                    float_tensor(values.collect(), dims, &x.device(), x.dtype()).require_grad()
                })
            }
        }
        let mut mapper = Move(direction, by);
        let model = self.model.clone().map(&mut mapper);
        assert!(mapper.0.is_empty(), "{} numbers too many in the direction", mapper.0.len());
        Self { model, scale: self.scale }
    }

    /// Feeds what `feed` makes of the logits of each thought, and gives the losses of the answer.
    ///
    /// # Shapes
    /// - feed: the number of the thought and `[rows, vocab]` to `[rows, d_model]`
    /// - output: `[rows]`
    pub fn losses(
        &self,
        rows: usize,
        mut feed: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<1> {
        let head = self.model.output_head();
        let mut cache = self.model.new_cache(rows);
        let mut next = |embeds: Tensor<3>| {
            let [_, columns, d_model] = embeds.dims();
            let real = vec![vec![true; columns]; rows];
            let hidden = self.model.forward(embeds, &real, &mut cache, None);
            let last = hidden.reshape([rows, columns, d_model]).narrow(1, columns - 1, 1);
            head.logits(last.reshape([rows, d_model]))
        };
        let mut logits = next(self.model.embed(&QUESTION.repeat(rows), rows));
        for thought in 0..THOUGHTS {
            logits = next(feed(thought, logits).unsqueeze_dim(1));
        }
        let answer = log_softmax(logits, 1).narrow(1, ANSWER as usize, 1);
        -answer.squeeze_dim(1)
    }

    /// The gradient of a scalar in all parameters, as one list.
    pub fn gradient(&self, scalar: Tensor<1>) -> Vec<f64> {
        let gradients = GradientsParams::from_grads(scalar.backward(), &self.model);
        flat_gradients(&self.model, &gradients)
    }

    /// `sum P(y) L(y)` over a part of all trajectories of the goal of samples; the parts sum to the
    /// mean loss.
    fn enumerated_parts(&self, count: usize) -> impl Iterator<Item = Tensor<1>> + '_ {
        let sets = multisets(count);
        let all: Vec<[usize; THOUGHTS]> =
            (0..sets.len()).flat_map(|a| (0..sets.len()).map(move |b| [a, b])).collect();
        let parts: Vec<Vec<_>> = all.chunks(ROWS).map(<[_]>::to_vec).collect();
        parts.into_iter().map(move |part| {
            let (log_probs, losses) = self.trajectories(&sets, &part);
            (log_probs.exp() * losses).sum()
        })
    }

    /// Log-probabilities and losses of some trajectories, named by their sets of tokens.
    fn trajectories(
        &self,
        sets: &[Vec<u32>],
        part: &[[usize; THOUGHTS]],
    ) -> (Tensor<1>, Tensor<1>) {
        let (rows, count) = (part.len(), sets[0].len());
        let embedding = self.model.embedding();
        let (device, dtype) = (self.model.device(), self.model.dtype());
        let mut log_probs = Tensor::zeros([rows], (&device, dtype));
        let losses = self.losses(rows, |thought, logits| {
            let tokens: Vec<u32> = part.iter().flat_map(|row| sets[row[thought]].clone()).collect();
            let tokens = int_tensor(&tokens, [rows, count], &device);
            let draw = Draw { action: Action::Tokens(tokens), kept: None };
            let orders = float_tensor(draw.log_orders(), [rows], &device, dtype);
            log_probs = log_probs.clone() + draw.log_prob(logits, &embedding) + orders;
            draw.embed(&embedding)
        });
        (log_probs, losses)
    }

    /// The mean loss over all trajectories whose thoughts are means of `count` tokens.
    pub fn enumerated_loss(&self, count: usize) -> f64 {
        self.enumerated_parts(count).map(|part| host_values(part)[0]).sum()
    }

    /// Its gradient: the truth.
    pub fn enumerated_gradient(&self, count: usize) -> Vec<f64> {
        let parts = self.enumerated_parts(count).map(|part| self.gradient(part));
        parts.reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect()).unwrap_or_default()
    }

    /// The mean loss over `rows` rows of noise, as a function of the parameters alone: under the
    /// same seed and block the noise is the same wherever they are.
    ///
    /// # Panics
    /// If the goal is one of tokens, whose draws jump where the parameters move.
    pub fn noise_loss(&self, goal: Goal, rows: usize, seed: u64, block: u64) -> Tensor<1> {
        let embedding = self.model.embedding();
        let losses = self.losses(rows, |thought, logits| {
            let keys = keys(seed, block, thought, rows);
            let probs = Distribution::Dense(burn::tensor::activation::softmax(logits, 1));
            match goal {
                Goal::Samples { .. } => panic!("{goal} is enumerated"),
                Goal::Mixture => probs.mix(embedding.clone()),
                Goal::Gumbel { temperature } => {
                    Estimator::Gumbel { temperature }.feed(probs, &keys).mix(embedding.clone())
                }
                Goal::Gaussian { sigma } => {
                    let mean = probs.mix(embedding.clone());
                    let drawn = Policy::Gaussian { sigma }.sample(&probs, &embedding, &keys);
                    let noise = drawn.embed(&embedding) - mean.clone().detach();
                    mean + noise.detach()
                }
            }
        });
        losses.mean()
    }

    /// What enumeration tells of it.
    pub fn facts(&self) -> Facts {
        let sets = multisets(1);
        let all: Vec<[usize; THOUGHTS]> =
            (0..sets.len()).flat_map(|a| (0..sets.len()).map(move |b| [a, b])).collect();
        let (log_probs, losses) = self.trajectories(&sets, &all);
        let (log_probs, losses) = (host_values(log_probs), host_values(losses));
        let moment = |power: i32| -> f64 {
            log_probs.iter().zip(&losses).map(|(p, loss)| p.exp() * loss.powi(power)).sum()
        };
        let mixture = self.noise_loss(Goal::Mixture, 1, 0, 0);
        let mut entropy = 0.0;
        let _ = self.losses(1, |thought, logits| {
            if thought == 0 {
                entropy = host_values(entropy_nats(logits.clone(), 1.0))[0];
            }
            Distribution::Dense(logits).mix(self.model.embedding())
        });
        Facts {
            hard_loss: moment(1),
            mixture_loss: host_values(mixture)[0],
            deviation: (moment(2) - moment(1).powi(2)).sqrt(),
            entropy,
            parameters: self.enumerated_gradient(1).len(),
        }
    }
}

/// One noise key a row.
pub(super) fn keys(seed: u64, block: u64, thought: usize, rows: usize) -> Vec<NoiseKey> {
    let key = |row| NoiseKey { seed, step: block, row, position: thought as u32 };
    (0..rows as u32).map(key).collect()
}

/// All sets of `count` tokens in which a token may stand several times, each in ascending order.
fn multisets(count: usize) -> Vec<Vec<u32>> {
    let mut sets = vec![Vec::new()];
    for _ in 0..count {
        let longer = |set: &Vec<u32>| {
            let least = set.last().copied().unwrap_or(0);
            let set = set.clone();
            (least..VOCABULARY as u32).map(move |token| [&set[..], &[token]].concat())
        };
        sets = sets.iter().flat_map(longer).collect();
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_multisets_as_the_binomial_coefficient_says() {
        assert_eq!([1, 2, 3].map(|count| multisets(count).len()), [8, 36, 120]);
        assert_eq!(multisets(2)[..3], [vec![0, 0], vec![0, 1], vec![0, 2]]);
    }
}
