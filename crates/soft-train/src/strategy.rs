//! The training loop, as a strategy of Burn's `SupervisedTraining`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::Progress;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, OptimizerRecord};
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use serde_json::json;
use soft_core::{LearnableFilters, LearnedValues, Schedule};
use soft_model::embedding_norms;

use crate::error::Error;
use crate::feed::StepFeed;
use crate::learned;
use crate::learner::{SoftLearner, StepItem, metric_name};
use crate::renderer::say;
use crate::run_dir::{EventFile, JsonlWriter};
use crate::stopwatch::Stopwatch;
use crate::terminal;

/// Set by a signal handler: the run stops after the step in progress, with a checkpoint.
pub static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Writes a checkpoint: (what is done, model, optimizer state).
pub(crate) type SaveCheckpoint = Box<
    dyn FnMut(&Done, &SoftLearner, OptimizerRecord) -> Result<std::path::PathBuf, Error> + Send,
>;

/// How far a training has come, over all its sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Done {
    /// Optimizer steps.
    pub(crate) steps: usize,
    /// Positions of examples that went through the model.
    pub(crate) tokens: u64,
    /// Time of the steps, in seconds; evaluation and checkpoints are not in it.
    pub(crate) seconds: f64,
}

/// Figures on held-out data of a model after so many steps; none where there is no such data.
pub(crate) type Evaluate =
    Box<dyn FnMut(&SoftLearner, usize) -> Result<Vec<HeldOut>, Error> + Send>;

/// Continues held-out prompts after so many steps, and records what comes.
pub(crate) type Sample = Box<dyn FnMut(usize, &SoftLearner) -> Result<(), Error> + Send>;

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
    /// Weight of the entropy by step.
    pub(crate) entropy_beta: Schedule,
    pub(crate) label: String,
    pub(crate) metrics: JsonlWriter,
    /// What each step took: apart from the metrics, which come out the same each time.
    pub(crate) times: JsonlWriter,
    /// The metrics for TensorBoard, where they are asked for.
    pub(crate) events: Option<EventFile>,
    pub(crate) save: SaveCheckpoint,
    pub(crate) evaluate: Evaluate,
    /// None where nothing is to be continued.
    pub(crate) sample: Option<Sample>,
    /// Where what is measured on held-out data before the first step is written; none where
    /// nothing is.
    pub(crate) before_file: Option<PathBuf>,
    /// Whether some examples have an answer after a thought.
    pub(crate) has_answers: bool,
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
        let mut steps =
            Steps { job: &mut job, events: &mut events, interrupter: &interrupter, warned: false };
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
    /// Whether it was said that the mixtures have left the neighbourhood of the tokens.
    warned: bool,
}

/// Figures of one optimizer step.
struct StepFigures {
    item: StepItem,
    num_tokens: u64,
    grad_norm: f64,
    /// What the optimizer was given.
    learning_rate: f64,
    /// The 5th, 50th and 95th percentile of the norms of the tokens' embeddings, at a step that
    /// looked where the mixtures lie.
    token_norms: Option<[f64; 3]>,
    /// What is learned of the filters, as it stands after the step.
    learned: LearnedValues,
    /// Whether the optimizer's state was taken out for a checkpoint.
    saves: bool,
    /// Whether the run was asked to end with this step.
    stopping: bool,
}

impl StepFigures {
    fn value(&self, name: &str) -> f64 {
        self.item.values.iter().find(|value| value.0 == name).map_or(0.0, |value| value.1)
    }

    /// Mean norm of the mixtures and mean distance to the nearest token, over the median norm of a
    /// token; `None` at a step that did not look, or had no mixture.
    fn located(&self) -> Option<[f64; 2]> {
        let count = self.value(metric_name::LOCATED) * self.token_norms?[1];
        let mean = |name| self.value(name) / count;
        Some([metric_name::MIXTURE_NORM, metric_name::MIXTURE_DISTANCE].map(mean))
    }
}

impl Steps<'_> {
    /// Runs to the last step; returns the last checkpoint and what was done by then.
    fn run(
        &mut self,
        learner: &mut Learner<SoftLearner>,
    ) -> Result<(Option<std::path::PathBuf>, Done), Error> {
        let before = self.job.before;
        if let (0, Some(path)) = (before.steps, self.job.before_file.clone()) {
            self.report_start(&path, &learner.model().valid())?;
        }
        if before.steps == 0 {
            self.sample(0, learner)?;
        }
        let mut done = before;
        let mut checkpoint = None;
        let is_due = |every: usize, steps: usize| every > 0 && steps.is_multiple_of(every);
        for step in before.steps..self.job.steps {
            done.steps = step + 1;
            let last = done.steps == self.job.steps;
            let saves = last || is_due(self.job.save_every, done.steps);
            let stopwatch = Stopwatch::start();
            let figures = self.step(learner, step, saves)?;
            let took = stopwatch.stop();
            let (saves, stopping) = (figures.saves, figures.stopping);
            done.tokens += figures.num_tokens;
            done.seconds += took.seconds;
            let evaluates = is_due(self.job.eval_every, done.steps);
            if evaluates || last {
                self.sample(done.steps, learner)?;
            }
            let held_out = match evaluates {
                true => (self.job.evaluate)(&learner.model().valid(), done.steps)?,
                false => Vec::new(),
            };
            let seconds = (done.seconds - before.seconds).max(1e-9);
            let rate = (done.tokens - before.tokens) as f64 / seconds;
            self.report(&done, &figures, &held_out, rate)?;
            self.job.times.append(&took.at_step(done.steps))?;
            // Not before the record of the step: a run that goes on from here does not make it again.
            if saves {
                self.job.metrics.sync()?;
                self.job.times.sync()?;
                let state = learner.model().setup.exchange().optimizer.take();
                let state = state.ok_or_else(|| Error::Runtime {
                    what: "the optimizer gave no state to save".to_owned(),
                })?;
                checkpoint = Some((self.job.save)(&done, &learner.model(), state)?);
            }
            if let (true, Some(checkpoint)) = (stopping && !last, &checkpoint) {
                let checkpoint = checkpoint.clone();
                return Err(Error::Interrupted { step: done.steps as u64, checkpoint });
            }
        }
        Ok((checkpoint, done))
    }

    /// What is measured on held-out data before the first step, into a file of its own: the record
    /// has one object a step.
    fn report_start(&mut self, path: &Path, model: &SoftLearner) -> Result<(), Error> {
        let figures = (self.job.evaluate)(model, 0)?;
        if figures.is_empty() {
            return Ok(());
        }
        let mut line = json!({ "step": 0 });
        for HeldOut { key, value, .. } in &figures {
            line[*key] = (*value).into();
        }
        std::fs::write(path, format!("{line}\n")).map_err(Error::disk(path))?;
        if self.job.print_lines {
            say(format_args!("{} before training | {}", self.job.label, in_words(&figures)));
        }
        Ok(())
    }

    fn sample(&mut self, steps: usize, learner: &Learner<SoftLearner>) -> Result<(), Error> {
        match &mut self.job.sample {
            Some(sample) => sample(steps, &learner.model().valid()),
            None => Ok(()),
        }
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
        let located = sums.values.iter().any(|(name, n)| *name == metric_name::LOCATED && *n > 0.0);
        let token_norms = located.then(|| embedding_norms(&model.model));
        // Asked as late as can be: this step is the last one.
        let stopping = self.should_stop();
        let saves = saves || stopping;
        model.setup.exchange().save_optimizer = saves;
        model.setup.exchange().reset_optimizer = self.job.feed.resets_at(step);
        let setup = model.setup.clone();
        // The learner must hold the only handle of each parameter, or the update copies it.
        drop(model);
        learner.lr_step();
        learner.optimizer_step(reduced.grads());
        let grad_norm = setup.exchange().grad_norm;
        if let Some(gap) = learned::gap(&sums) {
            setup.exchange().filter_gap = Some(gap);
        }
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
        let learned = learner.model().filters.as_ref().map(LearnableFilters::values);
        Ok(StepFigures {
            item: sums,
            num_tokens,
            grad_norm,
            learning_rate,
            token_norms,
            learned: learned.unwrap_or_default(),
            saves,
            stopping,
        })
    }

    /// `metrics.jsonl`, the dashboard, and a line.
    fn report(
        &mut self,
        done: &Done,
        figures: &StepFigures,
        held_out: &[HeldOut],
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
            "entropy_beta": job.entropy_beta.at(done.steps - 1),
            "guidance": guidance,
            "grad_norm": figures.grad_norm,
            "learning_rate": learning_rate,
            "num_tokens": done.tokens,
        });
        if job.feed.clamps(done.steps - 1) {
            line["guidance/clamped"] = value(metric_name::CLAMPED).into();
        }
        let located = figures.located();
        if let Some([norm, distance]) = located {
            line["mixture/norm"] = norm.into();
            line["mixture/distance"] = distance.into();
        }
        if let Some(stage) = job.feed.stage(done.steps - 1) {
            line["curriculum/stage"] = stage.into();
        }
        learned::record(&mut line, &figures.learned, learned::gap(&figures.item));
        if job.has_answers {
            line["answer_cross_entropy"] = value(metric_name::ANSWER_CROSS_ENTROPY).into();
        }
        for HeldOut { key, value, .. } in held_out {
            line[*key] = (*value).into();
        }
        job.metrics.append(&line)?;
        if let Some(events) = &mut job.events {
            events.write(done.steps as u64, &line)?;
        }
        // Hidden states are no mixtures, and need not lie near the tokens.
        let mixed = located.filter(|_| job.feed.feeds_mixtures());
        let strayed = mixed.zip(figures.token_norms).and_then(|(at, norms)| strayed(at, norms));
        if let (false, Some(warning)) = (self.warned, strayed) {
            self.warned = true;
            say(format_args!("{} step {}: {warning}", job.label.trim_end(), done.steps));
        }
        let (steps, label) = (job.steps, &job.label);
        let at = format!("{label} step {:>5}/{steps}", done.steps);
        if job.print_lines && (done.steps.is_multiple_of(job.log_every) || done.steps == steps) {
            say(format_args!(
                "{at} | loss {:.4} | cross-entropy {:.4} | entropy {:.3} | guidance \
                 {guidance:.2} | grad norm {:.2} | lr {learning_rate:.2e}{} | {rate:.0} tok/s",
                value(metric_name::LOSS),
                value(metric_name::CROSS_ENTROPY),
                value(metric_name::ENTROPY),
                figures.grad_norm,
                learned::in_words(&figures.learned)
            ));
        }
        if job.print_lines && !held_out.is_empty() {
            say(format_args!("{at} | {}", in_words(held_out)));
        }
        let mut item = figures.item.clone();
        learned::display(&mut item, &figures.learned);
        let sums = [metric_name::LOCATED, metric_name::MIXTURE_NORM, metric_name::MIXTURE_DISTANCE];
        item.values.retain(|(name, _)| !sums.contains(name));
        if let Some([norm, distance]) = located {
            item.values.push((metric_name::MIXTURE_NORM, norm));
            item.values.push((metric_name::MIXTURE_DISTANCE, distance));
        }
        item.values.extend([
            (metric_name::ENTROPY_BETA, job.entropy_beta.at(done.steps - 1)),
            (metric_name::GUIDANCE, guidance),
            (metric_name::GRAD_NORM, figures.grad_norm),
            (metric_name::LEARNING_RATE, learning_rate),
        ]);
        let shown = |item| {
            let progress = Progress::new(done.steps, steps, Some("steps".to_owned()));
            LearnerEvent::ProcessedItem(TrainingItem::new(item, progress, Some(done.steps), None))
        };
        self.interrupter.fail_on_error(self.events.process_train(shown(item)));
        if !held_out.is_empty() {
            let values = held_out.iter().map(|held| (held.title, held.value)).collect();
            let item = StepItem { values };
            self.interrupter.fail_on_error(self.events.process_valid(shown(item)));
        }
        Ok(())
    }
}

fn in_words(figures: &[HeldOut]) -> String {
    let words = figures.iter().map(|held| format!("{} {:.4}", held.key, held.value));
    words.collect::<Vec<_>>().join(" | ")
}

/// Why mixtures are far from what the model was trained on, if they are: their mean norm lies
/// outside the norms of most tokens, or the nearest token is farther away than a token is long.
fn strayed([norm, distance]: [f64; 2], [low, median, high]: [f64; 3]) -> Option<String> {
    let (low, high) = (low / median, high / median);
    let what = if norm < low {
        format!("the mixtures are shorter than 95 % of the tokens ({norm:.2} of their median)")
    } else if norm > high {
        format!("the mixtures are longer than 95 % of the tokens ({norm:.2} of their median)")
    } else if distance > 1.0 {
        format!("the nearest token is {distance:.2} token lengths away from the mixtures")
    } else {
        return None;
    };
    Some(format!(
        "warning: {what}; a smaller soft.temperature or soft.max_top_k, soft.norm_match, or a \
         positive objective.entropy_beta keeps them nearer"
    ))
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
