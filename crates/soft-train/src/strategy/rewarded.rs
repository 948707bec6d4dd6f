//! A step on rewards: draws, what they are worth, and the updates on them.

use std::sync::Arc;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::train::Learner;
use serde_json::Value;

use super::drawn::{self, Drawn};
use super::{Done, StepFigures, Steps, add};
use crate::config::Rl;
use crate::error::Error;
use crate::learner::{By, MicroBatch, SoftLearner, StepItem, metric_name, scale};
use crate::renderer::say;
use crate::rl::{Drawing, run_free};
use crate::stopwatch::Stopwatch;

/// What is told of a step on rewards alone.
#[derive(Debug, Default)]
pub(super) struct Rewarded {
    /// Seconds of drawing, of rewarding and of the updates.
    pub(super) seconds: [f64; 3],
    /// Figures of each reward apart.
    pub(super) parts: Vec<(String, f64)>,
    /// Rows of a group, for `completions.jsonl`; empty at a step that is not told of.
    pub(super) lines: Vec<Value>,
}

impl Rewarded {
    /// Puts the parts of a step's time into its line of `times.jsonl`.
    pub(super) fn add_times(&self, line: &mut Value) {
        let names = ["rollout_seconds", "reward_seconds", "update_seconds"];
        for (name, seconds) in names.into_iter().zip(self.seconds) {
            line[name] = seconds.into();
        }
    }
}

/// What is told of what is trained on beside draws.
#[derive(Debug, Default)]
struct Beside {
    values: Vec<(&'static str, f64)>,
    /// Positions of the examples, and those that the model writes; of a reward that is differentiated.
    counts: [u64; 2],
}

impl Steps<'_> {
    /// [`Self::reward_step`]; where a reward cannot say, what is done is saved first.
    pub(super) fn rewarded(
        &mut self,
        drawing: &Arc<Drawing>,
        learner: &mut Learner<SoftLearner>,
        done: &Done,
        step: usize,
    ) -> Result<Option<StepFigures>, Error> {
        let found = self.reward_step(drawing, learner, step);
        let what = match found {
            Err(Error::Reward { what }) => what,
            Err(Error::Model(error)) => error.to_string(),
            other => return other,
        };
        let checkpoint = self.save(learner, done)?;
        let (step, checkpoint) = (step + 1, checkpoint.display());
        Err(Error::Reward {
            what: format!(
                "step {step}: {what}; the steps before it are in {checkpoint}, and `--resume auto` \
                 goes on from there"
            ),
        })
    }

    /// Why a training ends whose policy has gone too far from where it came from, if it has.
    pub(super) fn left(&self, figures: &StepFigures) -> Option<String> {
        let limit = self.job.drawing.as_ref()?.rl.kl_stop;
        let far = |name| Some(figures.value(name)).filter(|kl| limit > 0.0 && kl.abs() > limit);
        let (found, from) = match (far(metric_name::KL), far(metric_name::KL_OLD)) {
            (Some(kl), _) => (kl, "the model that training began with"),
            (None, Some(kl)) => (kl, "the model that drew"),
            (None, None) => return None,
        };
        Some(format!(
            "the policy is {found:.3} nats a draw from {from}, over rl.kl_stop {limit}: begin anew with a larger rl.beta, a smaller train.lr or fewer rl.updates"
        ))
    }

    /// Draws, rewards, and the updates on what was drawn. None where the run was asked to stop
    /// before all was drawn.
    pub(super) fn reward_step(
        &mut self,
        drawing: &Arc<Drawing>,
        learner: &mut Learner<SoftLearner>,
        step: usize,
    ) -> Result<Option<StepFigures>, Error> {
        let drawn = match drawing.rl.draws() {
            true => self.draw(drawing, learner, step)?,
            false => (!self.should_stop()).then(Drawn::default),
        };
        let Some(mut drawn) = drawn else { return Ok(None) };
        let watch = Stopwatch::start();
        let loss = drawn.loss(&drawing.rl);
        let updates = drawing.rl.updates;
        let mut last = None;
        for update in 0..updates {
            let mut reduced = GradientsAccumulator::new();
            let mut sums = StepItem::default();
            let model = learner.model();
            for experience in &drawn.experiences {
                let output = learner.train_step(MicroBatch::drawn(experience.clone(), loss));
                reduced.accumulate(&model, output.grads);
                drawn::add(&mut sums, output.item);
            }
            drop(model);
            let Some(beside) = self.beside(drawing, learner, step, &mut reduced) else {
                return Ok(None);
            };
            let (first, mut counts) = (update == 0, drawn.counts());
            if !drawing.rl.draws() {
                counts = beside.counts;
            }
            sums.values.extend(beside.values);
            sums.values.extend(drawn.figures());
            let figures = self.update(learner, step, reduced.grads(), sums, counts, first);
            if let (Some(_), false) = (&figures.not_finite, first) {
                // The updates before it stay: the step is done, with fewer of them.
                let at = self.at(step + 1);
                say(format_args!("{at} | update {} of {updates} is not finite", update + 1));
                break;
            }
            let broken = figures.not_finite.is_some();
            last = Some(figures);
            if broken {
                break;
            }
        }
        drawn.seconds[2] = watch.stop().seconds;
        let told = (step + 1).is_multiple_of(self.job.log_every);
        let lines = if told { drawn.lines(step + 1, drawing) } else { Vec::new() };
        let rewarded = Rewarded { seconds: drawn.seconds, parts: drawn.parts(), lines };
        Ok(last.map(|figures| StepFigures { rewarded: Some(rewarded), ..figures }))
    }

    /// What a step draws, rewarded and weighed.
    fn draw(
        &mut self,
        drawing: &Drawing,
        learner: &Learner<SoftLearner>,
        step: usize,
    ) -> Result<Option<Drawn>, Error> {
        let watch = Stopwatch::start();
        let learner = learner.model();
        let mut drawn = Vec::new();
        let mut rows = 0;
        for problems in self.job.feed.rows(step) {
            if self.should_stop() {
                return Ok(None);
            }
            let own =
                drawing.draw(&learner.model, learner.value.as_ref(), &problems, step, rows)?;
            rows += own.iter().map(|own| own.rows()).sum::<usize>();
            drawn.extend(own);
        }
        let drew = watch.stop().seconds;
        let watch = Stopwatch::start();
        drawing.reward(&mut drawn)?;
        drawing.weigh(&mut drawn);
        Ok(Some(Drawn::new(drawn, drew, watch.stop().seconds)))
    }

    /// What is trained on beside draws, where it has a weight: a reward that is differentiated, and the
    /// truth of the same examples. Their gradients are added. None where the run was asked to stop in
    /// between and nothing was drawn or updated that would have to be undone.
    fn beside(
        &mut self,
        drawing: &Arc<Drawing>,
        learner: &Learner<SoftLearner>,
        step: usize,
        reduced: &mut GradientsAccumulator<SoftLearner>,
    ) -> Option<Beside> {
        let rl = &drawing.rl;
        let mut found = Beside::default();
        if rl.pathwise > 0.0 {
            let micro_batches = self.job.feed.step(step);
            let examples = || micro_batches.iter().flat_map(|own| &own.batch.examples);
            let rows = examples().count() as f64;
            found.counts = [
                examples().map(|example| example.len() as u64).sum(),
                examples().map(|example| run_free(example).soft_len() as u64).sum(),
            ];
            let by = By::Reward(drawing.clone(), rows);
            let read = |own: MicroBatch| MicroBatch { by: by.clone(), ..own };
            let micro_batches = micro_batches.into_iter().map(read).collect();
            let value = self.add_loss(learner, micro_batches, rl, rl.pathwise, reduced)?;
            found.values.push((metric_name::PATHWISE, value(metric_name::PATHWISE)));
            if !rl.draws() {
                found.values.extend([
                    (metric_name::REWARD, value(metric_name::PATHWISE)),
                    (metric_name::LOSS, rl.pathwise * value(metric_name::LOSS)),
                    (metric_name::ENTROPY, value(metric_name::ENTROPY)),
                ]);
            }
        }
        if rl.supervised > 0.0 {
            let micro_batches = self.job.feed.step(step);
            let value = self.add_loss(learner, micro_batches, rl, rl.supervised, reduced)?;
            found.values.push((metric_name::SUPERVISED, value(metric_name::LOSS)));
        }
        Some(found)
    }

    /// Adds the gradients of micro-batches, times a weight; their figures by name. None as
    /// [`Self::beside`].
    fn add_loss(
        &self,
        learner: &Learner<SoftLearner>,
        micro_batches: Vec<MicroBatch>,
        rl: &Rl,
        weight: f64,
        reduced: &mut GradientsAccumulator<SoftLearner>,
    ) -> Option<impl Fn(&str) -> f64 + use<>> {
        let model = learner.model();
        let mut sums = StepItem::default();
        for micro_batch in micro_batches {
            if !rl.draws() && self.should_stop() {
                return None;
            }
            let output = learner.train_step(micro_batch);
            let mut grads: GradientsParams = output.grads;
            scale(&model, &mut grads, weight);
            reduced.accumulate(&model, grads);
            add(&mut sums, output.item);
        }
        let named = move |wanted: &str| sums.values.iter().find(|own| own.0 == wanted).copied();
        Some(move |wanted: &str| named(wanted).map_or(0.0, |own| own.1))
    }
}
