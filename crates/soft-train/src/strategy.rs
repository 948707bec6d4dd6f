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

/// Set by a signal handler: the run stops after the step in progress, with a checkpoint.
pub static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Writes a checkpoint: (steps done, model, optimizer state).
pub(crate) type SaveCheckpoint = Box<
    dyn FnMut(usize, &Transformer, OptimizerRecord) -> Result<std::path::PathBuf, Error> + Send,
>;

/// A figure on held-out data and its name in `metrics.jsonl`; `None` where there is no such data.
pub(crate) type Evaluate =
    Box<dyn FnMut(&Transformer) -> Result<Option<(&'static str, f64)>, Error> + Send>;

/// What a run of the loop needs besides the model.
pub(crate) struct Job {
    pub(crate) feed: StepFeed,
    /// First step, counted from 0: over 0 when a run is resumed.
    pub(crate) first_step: usize,
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
    /// The learning rate of a step, for the record.
    pub(crate) learning_rate: Box<dyn Fn(usize) -> f64 + Send>,
}

/// What came of the loop.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) error: Option<Error>,
    pub(crate) checkpoint: Option<std::path::PathBuf>,
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
            Ok(checkpoint) => Outcome { error: None, checkpoint },
            Err(error) => Outcome { error: Some(error), checkpoint: None },
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
    num_tokens: usize,
    grad_norm: f64,
}

impl StepFigures {
    fn value(&self, name: &str) -> f64 {
        self.item.values.iter().find(|value| value.0 == name).map_or(0.0, |value| value.1)
    }
}

impl Steps<'_> {
    /// Runs to the last step, and returns the last checkpoint.
    fn run(
        &mut self,
        learner: &mut Learner<SoftLearner>,
    ) -> Result<Option<std::path::PathBuf>, Error> {
        let started = Instant::now();
        let mut tokens_seen = 0;
        let mut checkpoint = None;
        for step in self.job.first_step..self.job.steps {
            let done = step + 1;
            let last = done == self.job.steps;
            let every = self.job.save_every;
            let stopping = self.should_stop();
            let saves = last || stopping || (every > 0 && done.is_multiple_of(every));
            let figures = self.step(learner, step, saves)?;
            tokens_seen += figures.num_tokens;
            let rate = tokens_seen as f64 / started.elapsed().as_secs_f64().max(1e-9);
            self.report(step, &figures, rate)?;
            if saves {
                let state = learner.model().setup.exchange().optimizer.take();
                let state = state.ok_or_else(|| Error::Runtime {
                    what: "the optimizer gave no state to save".to_owned(),
                })?;
                checkpoint = Some((self.job.save)(done, &learner.model().model, state)?);
            }
            let every = self.job.eval_every;
            if every > 0 && done.is_multiple_of(every) && !last {
                self.evaluate(&learner.model().model, done)?;
            }
            if let (true, Some(checkpoint)) = (stopping && !last, &checkpoint) {
                let checkpoint = checkpoint.clone();
                return Err(Error::Interrupted { step: done as u64, checkpoint });
            }
        }
        Ok(checkpoint)
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
            num_tokens += micro_batch.batch.examples.iter().map(|e| e.len()).sum::<usize>();
            let output = learner.train_step(micro_batch);
            reduced.accumulate(&model, output.grads);
            add(&mut sums, output.item);
        }
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
        Ok(StepFigures { item: sums, num_tokens, grad_norm })
    }

    /// `metrics.jsonl`, the dashboard, and a line.
    fn report(&mut self, step: usize, figures: &StepFigures, rate: f64) -> Result<(), Error> {
        let job = &mut *self.job;
        let guidance = job.feed.guidance(step);
        let learning_rate = (job.learning_rate)(step);
        let value = |name| figures.value(name);
        job.metrics.append(&json!({
            "step": step + 1,
            "loss": value(metric_name::LOSS),
            "cross_entropy": value(metric_name::CROSS_ENTROPY),
            "entropy": value(metric_name::ENTROPY),
            "guidance": guidance,
            "grad_norm": figures.grad_norm,
            "learning_rate": learning_rate,
            "num_tokens": figures.num_tokens,
        }))?;
        let done = step + 1;
        if job.print_lines && (done.is_multiple_of(job.log_every) || done == job.steps) {
            say(format_args!(
                "{} step {done:>5}/{} | loss {:.4} | cross-entropy {:.4} | entropy {:.3} | \
                 guidance {guidance:.2} | grad norm {:.2} | lr {learning_rate:.2e} | {rate:.0} tok/s",
                job.label,
                job.steps,
                value(metric_name::LOSS),
                value(metric_name::CROSS_ENTROPY),
                value(metric_name::ENTROPY),
                figures.grad_norm
            ));
        }
        let mut item = figures.item.clone();
        item.values.extend([
            (metric_name::GUIDANCE, guidance),
            (metric_name::GRAD_NORM, figures.grad_norm),
            (metric_name::LEARNING_RATE, learning_rate),
        ]);
        let progress = Progress::new(done, job.steps, Some("steps".to_owned()));
        let item = TrainingItem::new(item, progress, Some(done), None);
        let sent = self.events.process_train(LearnerEvent::ProcessedItem(item));
        self.interrupter.fail_on_error(sent);
        Ok(())
    }

    fn evaluate(&mut self, model: &Transformer, done: usize) -> Result<(), Error> {
        let Some((name, value)) = (self.job.evaluate)(&model.valid())? else { return Ok(()) };
        self.job.metrics.append(&json!({ "step": done, name: value }))?;
        if self.job.print_lines {
            say(format_args!(
                "{} step {done:>5}/{} | {name} {value:.4}",
                self.job.label, self.job.steps
            ));
        }
        let item = StepItem { values: vec![(metric_name::ACCURACY, value)] };
        let progress = Progress::new(done, self.job.steps, Some("steps".to_owned()));
        let item = TrainingItem::new(item, progress, Some(done), None);
        let sent = self.events.process_valid(LearnerEvent::ProcessedItem(item));
        self.interrupter.fail_on_error(sent);
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
