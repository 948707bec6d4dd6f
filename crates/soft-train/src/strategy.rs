//! The training loop, as a strategy of Burn's `SupervisedTraining`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, OptimizerRecord};
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use serde_json::json;
use soft_model::Transformer;

use crate::error::Error;
use crate::feed::StepFeed;
use crate::learner::{SoftLearner, StepItem, metric_name};
use crate::renderer::say;
use crate::run_dir::JsonlWriter;
use crate::terminal;

/// Set by a signal handler: the run stops after the step in progress, with a checkpoint.
pub static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Writes a checkpoint: (what is done, model, optimizer state).
pub(crate) type SaveCheckpoint = Box<
    dyn FnMut(&Done, &Transformer, OptimizerRecord) -> Result<std::path::PathBuf, Error> + Send,
>;

/// How far a training has come, over all its sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Done {
    /// Optimizer steps.
    pub(crate) steps: usize,
    /// Positions of examples that went through the model.
    pub(crate) tokens: u64,
    /// Time in the loop, in seconds.
    pub(crate) seconds: f64,
}

/// A figure on held-out data; `None` where there is no such data.
pub(crate) type Evaluate = Box<dyn FnMut(&Transformer) -> Result<Option<HeldOut>, Error> + Send>;

/// A figure on held-out data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HeldOut {
    /// Its name on the dashboard.
    pub(crate) title: &'static str,
    /// Its name in `metrics.jsonl`.
    pub(crate) key: &'static str,
    pub(crate) value: f64,
}

/// What a run of the loop needs besides the model.
pub(crate) struct Job {
    pub(crate) feed: StepFeed,
    /// What was done before: not zero when a run is resumed.
    pub(crate) before: Done,
    pub(crate) steps: usize,
    pub(crate) save_every: usize,
    pub(crate) eval_every: usize,
    pub(crate) log_every: usize,
    /// Whether a line is printed; the dashboard shows the figures otherwise.
    pub(crate) print_lines: bool,
    pub(crate) label: String,
    pub(crate) metrics: JsonlWriter,
    pub(crate) save: SaveCheckpoint,
    pub(crate) evaluate: Evaluate,
}

/// What came of the loop.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) error: Option<Error>,
    pub(crate) checkpoint: Option<std::path::PathBuf>,
    pub(crate) done: Done,
}

/// The loop over optimizer steps: guidance, micro-batches, one reduction of their gradients,
/// update, metrics, checkpoints.
pub(crate) struct SoftStrategy {
    job: Mutex<Job>,
    pub(crate) outcome: Arc<Mutex<Outcome>>,
}

impl SoftStrategy {
    pub(crate) fn new(job: Job) -> Self {
        Self { job: Mutex::new(job), outcome: Arc::default() }
    }
}

impl SupervisedLearningStrategy<SoftLearner> for SoftStrategy {
    fn fit(
        &self,
        components: TrainingComponents<SoftLearner>,
        mut learner: Learner<SoftLearner>,
        _: TrainLoader<SoftLearner>,
        _: ValidLoader<SoftLearner>,
        _: usize,
    ) -> (SoftLearner, SupervisedTrainingEventProcessor<SoftLearner>) {
        let mut events = components.event_processor;
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupter = components.interrupter;
        let total_items = job.steps;
        let started = LearnerEvent::StartSplit { epoch_number: 1, total_items };
        interrupter.fail_on_error(events.process_train(started));
        let mut steps = Steps { job: &mut job, events: &mut events, interrupter: &interrupter };
        let outcome = match steps.run(&mut learner) {
            Ok((checkpoint, done)) => Outcome { error: None, checkpoint, done },
            Err(error) => Outcome { error: Some(error), ..Outcome::default() },
        };
        interrupter.fail_on_error(events.process_train(LearnerEvent::EndSplit(1)));
        interrupter.fail_on_error(events.process_train(LearnerEvent::EndEpoch(1)));
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
        (learner.model(), events)
    }
}

struct Steps<'a> {
    job: &'a mut Job,
    events: &'a mut SupervisedTrainingEventProcessor<SoftLearner>,
    interrupter: &'a Interrupter,
}

/// Figures of one optimizer step.
struct StepFigures {
    item: StepItem,
    num_tokens: u64,
    grad_norm: f64,
    /// What the optimizer was given.
    learning_rate: f64,
    /// Whether the optimizer's state was taken out for a checkpoint.
    saves: bool,
    /// Whether the run was asked to end with this step.
    stopping: bool,
}

impl StepFigures {
    fn value(&self, name: &str) -> f64 {
        self.item.values.iter().find(|value| value.0 == name).map_or(0.0, |value| value.1)
    }
}

impl Steps<'_> {
    /// Runs to the last step; returns the last checkpoint and what was done by then.
    fn run(
        &mut self,
        learner: &mut Learner<SoftLearner>,
    ) -> Result<(Option<std::path::PathBuf>, Done), Error> {
        let started = Instant::now();
        let before = self.job.before;
        let mut done = before;
        let mut checkpoint = None;
        let is_due = |every: usize, steps: usize| every > 0 && steps.is_multiple_of(every);
        for step in before.steps..self.job.steps {
            done.steps = step + 1;
            let last = done.steps == self.job.steps;
            let saves = last || is_due(self.job.save_every, done.steps);
            let figures = self.step(learner, step, saves)?;
            let (saves, stopping) = (figures.saves, figures.stopping);
            done.tokens += figures.num_tokens;
            done.seconds = before.seconds + started.elapsed().as_secs_f64();
            // Saved before anything else that may fail or take long.
            if saves {
                let state = learner.model().setup.exchange().optimizer.take();
                let state = state.ok_or_else(|| Error::Runtime {
                    what: "the optimizer gave no state to save".to_owned(),
                })?;
                checkpoint = Some((self.job.save)(&done, &learner.model().model, state)?);
            }
            let held_out = match is_due(self.job.eval_every, done.steps) {
                true => (self.job.evaluate)(&learner.model().model.valid())?,
                false => None,
            };
            let seconds = (done.seconds - before.seconds).max(1e-9);
            let rate = (done.tokens - before.tokens) as f64 / seconds;
            self.report(&done, &figures, held_out, rate)?;
            if let (true, Some(checkpoint)) = (stopping && !last, &checkpoint) {
                let checkpoint = checkpoint.clone();
                return Err(Error::Interrupted { step: done.steps as u64, checkpoint });
            }
        }
        Ok((checkpoint, done))
    }

    fn should_stop(&self) -> bool {
        STOP_REQUESTED.load(Ordering::Relaxed) || self.interrupter.should_stop()
    }

    /// One optimizer step: the gradients of its micro-batches are reduced here, and nowhere else.
    fn step(
        &mut self,
        learner: &mut Learner<SoftLearner>,
        step: usize,
        saves: bool,
    ) -> Result<StepFigures, Error> {
        let mut sums = StepItem::default();
        let mut num_tokens = 0;
        let mut reduced = GradientsAccumulator::new();
        let model = learner.model();
        for micro_batch in self.job.feed.step(step) {
            num_tokens += micro_batch.batch.examples.iter().map(|e| e.len() as u64).sum::<u64>();
            let output = learner.train_step(micro_batch);
            reduced.accumulate(&model, output.grads);
            add(&mut sums, output.item);
        }
        // Asked as late as can be: this step is the last one.
        let stopping = self.should_stop();
        let saves = saves || stopping;
        model.setup.exchange().save_optimizer = saves;
        let setup = model.setup.clone();
        // The learner must hold the only handle of each parameter, or the update copies it.
        drop(model);
        learner.lr_step();
        learner.optimizer_step(reduced.grads());
        let grad_norm = setup.exchange().grad_norm;
        let loss = sums.values.iter().find(|value| value.0 == metric_name::LOSS);
        let loss = loss.map_or(0.0, |value| value.1);
        for (name, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                let what =
                    format!("the {name} is {value}; lower train.lr or train.clip, or warm up");
                return Err(Error::Diverged { step: step as u64 + 1, what });
            }
        }
        let learning_rate = learner.lr_current().base();
        Ok(StepFigures { item: sums, num_tokens, grad_norm, learning_rate, saves, stopping })
    }

    /// `metrics.jsonl`, the dashboard, and a line.
    fn report(
        &mut self,
        done: &Done,
        figures: &StepFigures,
        held_out: Option<HeldOut>,
        rate: f64,
    ) -> Result<(), Error> {
        let job = &mut *self.job;
        if !job.print_lines {
            terminal::keep_interrupt_key();
        }
        let guidance = job.feed.guidance(done.steps - 1);
        let learning_rate = figures.learning_rate;
        let value = |name| figures.value(name);
        let mut line = json!({
            "step": done.steps,
            "loss": value(metric_name::LOSS),
            "cross_entropy": value(metric_name::CROSS_ENTROPY),
            "entropy": value(metric_name::ENTROPY),
            "guidance": guidance,
            "grad_norm": figures.grad_norm,
            "learning_rate": learning_rate,
            "num_tokens": done.tokens,
        });
        if let Some(HeldOut { key, value, .. }) = held_out {
            line[key] = value.into();
        }
        job.metrics.append(&line)?;
        let (steps, label) = (job.steps, &job.label);
        let at = format!("{label} step {:>5}/{steps}", done.steps);
        if job.print_lines && (done.steps.is_multiple_of(job.log_every) || done.steps == steps) {
            say(format_args!(
                "{at} | loss {:.4} | cross-entropy {:.4} | entropy {:.3} | guidance \
                 {guidance:.2} | grad norm {:.2} | lr {learning_rate:.2e} | {rate:.0} tok/s",
                value(metric_name::LOSS),
                value(metric_name::CROSS_ENTROPY),
                value(metric_name::ENTROPY),
                figures.grad_norm
            ));
        }
        if let (true, Some(HeldOut { key, value, .. })) = (job.print_lines, held_out) {
            say(format_args!("{at} | {key} {value:.4}"));
        }
        let mut item = figures.item.clone();
        item.values.extend([
            (metric_name::GUIDANCE, guidance),
            (metric_name::GRAD_NORM, figures.grad_norm),
            (metric_name::LEARNING_RATE, learning_rate),
        ]);
        let shown = |item| {
            let progress = Progress::new(done.steps, steps, Some("steps".to_owned()));
            LearnerEvent::ProcessedItem(TrainingItem::new(item, progress, Some(done.steps), None))
        };
        self.interrupter.fail_on_error(self.events.process_train(shown(item)));
        if let Some(HeldOut { title, value, .. }) = held_out {
            let item = StepItem { values: vec![(title, value)] };
            self.interrupter.fail_on_error(self.events.process_valid(shown(item)));
        }
        Ok(())
    }
}

/// Adds the figures of a micro-batch, which are shares of the step's.
fn add(sums: &mut StepItem, item: StepItem) {
    if sums.values.is_empty() {
        *sums = item;
        return;
    }
    for (sum, value) in sums.values.iter_mut().zip(item.values) {
        sum.1 += value.1;
    }
}
