//! The inputs of a rollout: hard embeddings and guided mixtures, put together.

use burn::tensor::Tensor;
use soft_core::{
    Distribution, Estimator, GuidanceForm, NoiseKey, feed_heaviest, guide, uniform_stream,
};
use soft_model::Transformer;

use super::StepContext;
use super::observed::Observed;
use crate::batch::{Batch, Place};

/// Makes the inputs of one batch.
pub(crate) struct Feed<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) context: &'a StepContext,
    /// What is watched on the way.
    pub(crate) observed: Observed,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(batch: &'a Batch, context: &'a StepContext) -> Self {
        Self { batch, context, observed: Observed::default() }
    }

    fn key(&self, place: Place) -> NoiseKey {
        NoiseKey {
            seed: self.context.seed,
            step: self.context.step,
            row: self.batch.rows[place.row],
            position: place.position as u32,
        }
    }

    /// Share of truth at each place: 0 where there is no truth, the outcome of the coin for
    /// scheduled sampling.
    fn shares(&self, places: &[Place]) -> Vec<f64> {
        let share = |&place: &Place| {
            if !self.batch.has_truth(place) {
                return 0.0;
            }
            let guidance = match self.context.sweep {
                None => self.context.guidance,
                Some(schedule) => {
                    schedule.swept(self.context.step as usize, self.batch.place_in_span(place))
                }
            };
            match self.context.form {
                GuidanceForm::Mix | GuidanceForm::Clamp => guidance,
                GuidanceForm::Coin => {
                    let mut uniform = uniform_stream(self.key(place), soft_core::Place::Coin);
                    f64::from(u8::from(uniform.next().is_some_and(|u| u < guidance)))
                }
            }
        };
        places.iter().map(share).collect()
    }

    /// `q` of each place: what the model would feed itself, guided by the truth.
    ///
    /// # Shapes
    /// - logits: `[places, vocab]`
    pub(crate) fn distribution(&self, logits: Tensor<2>, places: &[Place]) -> Distribution {
        let shares = self.shares(places);
        let truth = self.batch.truth(places, &logits.device(), logits.dtype());
        if shares.iter().all(|&share| share == 1.0) {
            return truth;
        }
        let keys: Vec<NoiseKey> = places.iter().map(|&place| self.key(place)).collect();
        let pipeline = &self.context.pipeline;
        if self.context.locate && pipeline.learnable().is_some() {
            self.observed.gap(places, pipeline.gap(logits.clone().inner()));
        }
        let fed = match self.context.estimator {
            Estimator::Exact => pipeline.apply(logits, &keys).fed,
            estimator => estimator.feed(pipeline.probs(logits), &keys),
        };
        let fed = match self.context.answers_in_tokens {
            true => {
                let answers = places.iter().map(|&place| self.batch.answers(place));
                feed_heaviest(fed, &answers.collect::<Vec<_>>())
            }
            false => fed,
        };
        if self.context.form == GuidanceForm::Clamp {
            self.observed.clamp(places, &fed, &truth, &shares);
        }
        guide(fed, &truth, &shares, self.context.form)
    }

    /// `q @ E` of each place, with the norm that the pipeline asks for.
    pub(crate) fn mixtures(
        &self,
        model: &Transformer,
        fed: Distribution,
        places: &[Place],
    ) -> Tensor<2> {
        let mixtures = model.mix(&self.context.pipeline, fed);
        if self.context.locate {
            self.observed.mixed(places, &mixtures);
        }
        mixtures
    }

    /// Hidden states that are fed as they are (Coconut).
    ///
    /// # Shapes
    /// - hidden: `[places, d_model]`, after the final norm
    pub(crate) fn hidden(&self, hidden: Tensor<2>, places: &[Place]) -> Tensor<2> {
        if self.context.locate {
            self.observed.mixed(places, &hidden);
        }
        hidden
    }

    /// Embeddings of `columns`, mixtures at `places` (row by row) and tokens elsewhere.
    ///
    /// # Shapes
    /// - mixtures: `[places, d_model]`, or none where no place is soft
    /// - output: `[batch, columns, d_model]`
    pub(crate) fn embeds(
        &self,
        model: &Transformer,
        columns: std::ops::Range<usize>,
        places: &[Place],
        mixtures: Option<Tensor<2>>,
    ) -> Tensor<3> {
        let (batch, width) = (self.batch.tensor_rows(), columns.len());
        let cells = batch * width;
        let mixtures = match mixtures {
            Some(mixtures) if places.len() == cells => {
                let [_, d_model] = mixtures.dims();
                return mixtures.reshape([batch, width, d_model]);
            }
            mixtures => mixtures,
        };
        let hard = model.embed(&self.batch.ids(columns.clone()), batch);
        let Some(mixtures) = mixtures else { return hard };
        let d_model = hard.dims()[2];
        // Row i of the output is token row i, or the mixture that stands in its place.
        let mut sources: Vec<u32> = (0..cells as u32).collect();
        for (i, place) in places.iter().enumerate() {
            let (row, column) = self.batch.cell(*place);
            sources[row * width + column - columns.start] = (cells + i) as u32;
        }
        let all = Tensor::cat(vec![hard.reshape([cells, d_model]), mixtures], 0);
        let sources = soft_core::int_tensor(&sources, [cells], &all.device());
        all.select(0, sources).reshape([batch, width, d_model])
    }
}

/// Rows of `hidden [rows * columns, d]` whose output is the prediction for `places`, where the
/// pass covered these columns of the batch.
pub(crate) fn predictions(
    batch: &Batch,
    hidden: Tensor<2>,
    places: &[Place],
    columns: std::ops::Range<usize>,
) -> Tensor<2> {
    let before = |place: &Place| {
        let (row, column) = batch.cell(*place);
        (row * columns.len() + column - 1 - columns.start) as u32
    };
    let rows: Vec<u32> = places.iter().map(before).collect();
    if rows.len() == hidden.dims()[0] && rows.iter().enumerate().all(|(i, &r)| i as u32 == r) {
        return hidden;
    }
    let rows = soft_core::int_tensor(&rows, [places.len()], &hidden.device());
    hidden.select(0, rows)
}
