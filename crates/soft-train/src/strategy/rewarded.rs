//! A step on rewards: draws, what they are worth, and the updates on them.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::train::Learner;
use serde_json::Value;

use super::drawn::{self, Drawn};
use super::{Done, StepFigures, Steps, add};
use crate::error::Error;
use crate::learner::{MicroBatch, SoftLearner, StepItem, metric_name, scale};
use crate::renderer::say;
use crate::rl::Drawing;
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

impl Steps<'_> {
    /// [`Self::reward_step`]; where a reward cannot say, what is done is saved first.
    pub(super) fn rewarded(
        &mut self,
        drawing: &Drawing,
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
        drawing: &Drawing,
        learner: &mut Learner<SoftLearner>,
        step: usize,
    ) -> Result<Option<StepFigures>, Error> {
        let Some(mut drawn) = self.draw(drawing, learner, step)? else { return Ok(None) };
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
            let supervised = self.supervise(drawing, learner, step, &mut reduced);
            sums.values.extend(supervised.map(|loss| (metric_name::SUPERVISED, loss)));
            sums.values.extend(drawn.figures());
            let (first, counts) = (update == 0, drawn.counts());
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

    /// The loss on the truth of the same examples, where it has a weight; its gradients are added.
    fn supervise(
        &mut self,
        drawing: &Drawing,
        learner: &Learner<SoftLearner>,
        step: usize,
        reduced: &mut GradientsAccumulator<SoftLearner>,
    ) -> Option<f64> {
        let weight = drawing.rl.supervised;
        if weight == 0.0 {
            return None;
        }
        let model = learner.model();
        let mut sums = StepItem::default();
        for micro_batch in self.job.feed.step(step) {
            let output = learner.train_step(micro_batch);
            let mut grads: GradientsParams = output.grads;
            scale(&model, &mut grads, weight);
            reduced.accumulate(&model, grads);
            add(&mut sums, output.item);
        }
        sums.values.iter().find(|(name, _)| *name == metric_name::LOSS).map(|(_, loss)| *loss)
    }
}
