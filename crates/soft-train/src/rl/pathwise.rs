//! The gradient of a reward model itself, through the answers and thoughts that a model feeds itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{Estimator, at_least_f32, entropy_nats, host_values, int_tensor};
use soft_model::{Feedback, SequenceClassifier, Transformer};

use crate::batch::{Batch, Place};
use crate::example::Example;
use crate::objective::{BatchLoss, LossParts, Objective, PlaceLoss, StepTotals};
use crate::rollout::{Feed, Rollout, Sequential, StepContext};

/// A reward that is differentiated: that of a sequence classifier which reads mixtures.
///
/// The model runs free from each prompt: it thinks as long as its example does, and answers as long.
/// With `q_t` the distribution over the vocabulary that position t is fed and `E` the embedding of the
/// classifier, what is maximised is the mean over the rows of
///
/// ```text
/// R(E x_1, .., E x_n, q_(n+1) E, .., q_m E)
/// ```
///
/// with R the logit of the classifier and x the prompt. Its gradient reaches the parameters through
/// every q, and through what each q fed to the positions after it.
///
/// # Cost
/// A run of the recurrence without gradients, the classifier forward and backward, and the recurrence
/// once more with gradients, in the segments of [`Sequential`]: `dR/dq` is a constant there, so that
/// the loss is a sum over positions and memory that of supervised training.
///
/// # Source
/// The pathwise estimator (Mohamed et al. 2020, arXiv:1906.10652, section 5).
#[derive(Debug)]
pub struct Pathwise {
    /// What rewards, on an autodiff device, over the model's vocabulary.
    pub classifier: Arc<SequenceClassifier>,
    /// How the recurrence is differentiated.
    pub rollout: Sequential,
    /// Whether what is no thought is fed and read as its heaviest token, as in decoding, with the
    /// gradient of the mixture; else it is a mixture as thoughts are.
    pub answers_in_tokens: bool,
    /// Whether thoughts are read too.
    pub reads_thoughts: bool,
}

/// What there is of some rows.
#[derive(Debug)]
pub struct Rewarded {
    /// Gradient of minus the mean reward of the step, as far as these rows have part in it.
    pub gradients: GradientsParams,
    /// Sum of the rewards.
    pub reward: f64,
    /// Sum of the entropies of what is written, in nats.
    pub entropy: f64,
    /// Positions that are written.
    pub written: usize,
}

impl Pathwise {
    /// Rewards the rows of a batch, of `rows` in its step, and differentiates. Of the examples only
    /// their prompts and the places of thoughts and answers are used, of the context the pipeline,
    /// the chunks and the keys of noise.
    ///
    /// # Panics
    /// If the model is not on an autodiff device, or a row has more positions than the classifier.
    pub fn differentiate(
        &self,
        model: &Transformer,
        batch: &Batch,
        context: &StepContext,
        rows: f64,
    ) -> Rewarded {
        let read: Vec<Vec<usize>> =
            batch.examples.iter().map(|own| read_of(own, self.reads_thoughts)).collect();
        let free = batch.examples.iter().map(|example| run_free(example));
        let batch = &Batch::with_rows(free, batch.rows.clone());
        let context = &StepContext {
            feedback: Feedback::Mixture,
            estimator: Estimator::Exact,
            guidance: 0.0,
            sweep: None,
            answers_in_tokens: self.answers_in_tokens,
            locate: false,
            dropout: 0.0,
            ..context.clone()
        };
        // A reward is of the whole model, as where it draws.
        let model = &model.clone().without_branch_dropout();
        let reading = Reading {
            feed: Feed::new(batch, context),
            embedding: self.classifier.embedding().inner(),
            found: RefCell::default(),
        };
        let loss = loss_of(batch, context, &reading);
        let entropy = Sequential::forward(&model.valid(), &loss, context).entropy;
        let (places, mixtures): (Vec<_>, Vec<_>) = reading.found.take().into_iter().unzip();
        let places = places.concat();
        let (reward, slope) = self.slope(batch, &read, &places, Tensor::cat(mixtures, 0), rows);
        let rising = Rising {
            feed: Feed::new(batch, context),
            embedding: self.classifier.embedding(),
            rows: places.iter().zip(0..).map(|(place, row)| (key(*place), row)).collect(),
            slope,
        };
        let loss = loss_of(batch, context, &rising);
        let gradients = self.rollout.differentiate(model, &loss, context).gradients;
        Rewarded { gradients, reward, entropy: host_values(entropy)[0], written: places.len() }
    }

    /// The sum of the rewards of a batch, and the gradient of minus their mean over `rows` in what was
    /// read in the place of tokens.
    ///
    /// # Shapes
    /// - mixtures: `[places, d]`, and the gradient alike, d the width of the classifier
    fn slope(
        &self,
        batch: &Batch,
        read: &[Vec<usize>],
        places: &[Place],
        mixtures: Tensor<2>,
        rows: f64,
    ) -> (f64, Tensor<2>) {
        let mixtures: Tensor<2> = Tensor::from_inner(mixtures).require_grad();
        let written: HashMap<_, _> =
            places.iter().zip(0_u32..).map(|(place, row)| (key(*place), row)).collect();
        let width = read.iter().map(Vec::len).max().unwrap_or(0);
        let (mut tokens, mut sources, mut real) = (Vec::new(), Vec::new(), Vec::new());
        for (row, read) in read.iter().enumerate() {
            let ids = &batch.examples[row].input_ids;
            let mut own = Vec::with_capacity(width);
            for &position in read {
                own.push(written.get(&key(Place { row, position })).copied().unwrap_or_else(
                    || {
                        tokens.push(ids[position]);
                        (places.len() + tokens.len() - 1) as u32
                    },
                ));
            }
            real.push((0..width).map(|column| column < own.len()).collect());
            own.resize(width, 0);
            sources.extend(own);
        }
        let embedding = self.classifier.embedding();
        let device = embedding.device();
        let [_, d_model] = embedding.dims();
        let mut all = vec![mixtures.clone()];
        if !tokens.is_empty() {
            all.push(embedding.select(0, int_tensor(&tokens, [tokens.len()], &device)));
        }
        let sources = int_tensor(&sources, [sources.len()], &device);
        let embeds = Tensor::cat(all, 0).select(0, sources).reshape([read.len(), width, d_model]);
        let reward = at_least_f32(self.classifier.logits_of_embeds(embeds, &real)).sum();
        let mut gradients = (reward.clone() * (-1.0 / rows)).backward();
        let slope = mixtures.grad_remove(&mut gradients);
        (host_values(reward.detach())[0], slope.unwrap_or_else(|| mixtures.inner().zeros_like()))
    }
}

/// The positions of an example that a reward reads, in order: all of them, or all but the thought before
/// the answer, with what closes it.
pub(crate) fn read_of(example: &Example, reads_thoughts: bool) -> Vec<usize> {
    let all = 0..example.len();
    match answer_of(example).filter(|_| !reads_thoughts) {
        Some(from) => {
            let turn = turn_of(example);
            all.filter(|&t| t < turn || t >= from).collect()
        }
        None => all.collect(),
    }
}

/// Where the answer begins that comes after a thought, where one does.
fn answer_of(example: &Example) -> Option<usize> {
    let thought = example.soft.iter().rposition(|&soft| soft);
    example.answer_from.or(thought.map(|last| last + 1))
}

/// Where the last turn begins that the model writes.
fn turn_of(example: &Example) -> usize {
    let mut end = answer_of(example).unwrap_or(example.len());
    let given = |t: &usize| !example.soft[*t] && example.weight[*t] == 0.0;
    // What closes a thought may be given, and belongs to it.
    if let Some(last) = (0..end).rev().find(|t| !given(t)).filter(|&last| example.soft[last]) {
        end = last + 1;
    }
    (0..end).rev().find(given).map_or(0, |last| last + 1).max(example.first_written())
}

/// The same example without a truth: the thought and the answer of its last turn, which the model writes
/// itself, are soft, and nothing else is asked of it. What closes a thought stays as it is, and so do
/// earlier turns.
pub(crate) fn run_free(example: &Example) -> Example {
    let turn = turn_of(example);
    let thinks = example.soft[turn.min(example.len())..].contains(&true);
    let answer = answer_of(example).filter(|_| thinks).unwrap_or(turn);
    let written =
        |t: usize| (t >= turn && example.soft[t]) || (t >= answer && example.weight[t] > 0.0);
    let soft: Vec<bool> = (0..example.len()).map(written).collect();
    Example {
        weight: soft.iter().map(|&soft| f32::from(u8::from(soft))).collect(),
        soft,
        answer_from: Some(answer),
        ..example.clone()
    }
}

fn key(place: Place) -> (usize, usize) {
    (place.row, place.position)
}

fn loss_of<'a>(batch: &'a Batch, context: &StepContext, by: &'a dyn PlaceLoss) -> BatchLoss<'a> {
    BatchLoss {
        batch,
        objective: Objective::default(),
        totals: StepTotals::of([batch]),
        temperature: context.pipeline.config().temperature,
        other: Some(by),
    }
}

/// Nothing but the entropies of some distributions.
fn nothing_but(entropy: Tensor<1>, device: &Device, dtype: DType) -> LossParts {
    LossParts { entropy, ..BatchLoss::nothing(device, dtype) }
}

/// Collects what is read of each place; no loss.
struct Reading<'a> {
    feed: Feed<'a>,
    /// Of the classifier, `[vocab, d]`.
    embedding: Tensor<2>,
    found: RefCell<Vec<(Vec<Place>, Tensor<2>)>>,
}

impl PlaceLoss for Reading<'_> {
    fn parts(&self, logits: Tensor<2>, places: &[Place]) -> LossParts {
        let (device, dtype) = (logits.device(), logits.dtype());
        let temperature = self.feed.context.pipeline.config().temperature;
        let entropy = entropy_nats(logits.clone(), temperature).sum();
        let fed = self.feed.distribution(logits, places);
        let read = fed.cast(self.embedding.dtype()).mix(self.embedding.clone());
        self.found.borrow_mut().push((places.to_vec(), read));
        nothing_but(entropy, &device, dtype)
    }
}

/// What is read of each place times how the loss changes with it, a constant.
struct Rising<'a> {
    feed: Feed<'a>,
    /// Of the classifier, `[vocab, d]`.
    embedding: Tensor<2>,
    /// Row of the slope of each place.
    rows: HashMap<(usize, usize), u32>,
    /// `[places, d]`, without autodiff.
    slope: Tensor<2>,
}

impl PlaceLoss for Rising<'_> {
    fn parts(&self, logits: Tensor<2>, places: &[Place]) -> LossParts {
        let (device, dtype) = (logits.device(), logits.dtype());
        let fed = self.feed.distribution(logits, places);
        let read = fed.cast(self.embedding.dtype()).mix(self.embedding.clone());
        let rows: Vec<u32> = places.iter().map(|place| self.rows[&key(*place)]).collect();
        let slope = self.slope.clone();
        let slope = slope.clone().select(0, int_tensor(&rows, [rows.len()], &slope.device()));
        let loss = at_least_f32((read * Tensor::from_inner(slope)).sum());
        LossParts { loss, ..BatchLoss::nothing(&device, dtype) }
    }
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Rising<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rising").finish_non_exhaustive()
    }
}
