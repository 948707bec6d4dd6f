//! The training loop, as a strategy of Burn's `SupervisedTraining`.

mod drawn;
mod report;
mod rewarded;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, OptimizerRecord};
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, ValidLoader,
};
use serde_json::json;
use soft_core::{LearnableFilters, Schedule};
use soft_model::embedding_norms;

pub(crate) use watch::{Watch, early_end, higher_is_better};

use crate::checkpoint_dir::Course;
use crate::control::Control;
use crate::dashboard::{self, Activity, News};
use crate::error::Error;
use crate::feed::StepFeed;
use crate::learned;
use crate::learner::{SoftLearner, StepItem, metric_name};
use crate::not_finite::{self, NotFinite};
use crate::pace::Pace;
use crate::renderer::say;
use crate::rl::{Alarms, Drawing};
use crate::run_dir::{EventFile, JsonlWriter};
use crate::stopwatch::Stopwatch;
use report::{StepFigures, in_words};
use watch::BrokenStep;

/// Writes a checkpoint: (what is done, model, optimizer state).
pub(crate) type SaveCheckpoint = Box<
    dyn FnMut(&Done, &SoftLearner, OptimizerRecord) -> Result<std::path::PathBuf, Error> + Send,
>;

/// How far a training has come, over all its sessions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Done {
    /// Optimizer steps.
    pub(crate) steps: usize,
    /// Positions of examples that went through the model.
    pub(crate) tokens: u64,
    /// Time of the steps, in seconds; evaluation and checkpoints are not in it.
    pub(crate) seconds: f64,
    /// What is remembered of the steps and evaluations.
    pub(crate) course: Course,
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
    /// What is drawn and rewarded, where rewards stand in the place of the truth.
    pub(crate) drawing: Option<Arc<Drawing>>,
    /// What was done before: not zero when a run is resumed.
    pub(crate) before: Done,
    pub(crate) steps: usize,
    pub(crate) save_every: usize,
    pub(crate) eval_every: usize,
    pub(crate) log_every: usize,
    /// What ends the training before its last step.
    pub(crate) watch: Watch,
    /// What keys and signals ask for.
    pub(crate) control: Control,
    /// Weight of the entropy by step.
    pub(crate) entropy_beta: Schedule,
    pub(crate) label: String,
    pub(crate) metrics: JsonlWriter,
    /// What each step took: apart from the metrics, which come out the same each time.
    pub(crate) times: JsonlWriter,
    /// What rows of a group wrote, where they are rewarded.
    pub(crate) completions: Option<JsonlWriter>,
    /// Signs of a training on rewards that goes wrong.
    pub(crate) alarms: Alarms,
    /// The metrics for TensorBoard, where they are asked for.
    pub(crate) events: Option<EventFile>,
    pub(crate) save: SaveCheckpoint,
    pub(crate) evaluate: Evaluate,
    /// None where nothing can be continued.
    pub(crate) sample: Option<Sample>,
    /// Whether prompts are continued at every evaluation; else where it is asked for.
    pub(crate) samples_by_itself: bool,
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
    pub(crate) checkpoint: Option<PathBuf>,
    pub(crate) done: Done,
    /// What was measured after the last step; empty where nothing was.
    pub(crate) held_out: Vec<HeldOut>,
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
        let mut steps = Steps {
            job: &mut job,
            events: &mut events,
            interrupter: &interrupter,
            pace: Pace::start(),
            warned: false,
            held_out: Vec::new(),
        };
        let outcome = match steps.run(&mut learner) {
            Ok((checkpoint, done)) => {
                Outcome { error: None, checkpoint, done, held_out: steps.held_out }
            }
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
    pace: Pace,
    /// Whether it was said that the mixtures have left the neighbourhood of the tokens.
    warned: bool,
    /// What was measured after the last step.
    held_out: Vec<HeldOut>,
}

impl Steps<'_> {
    /// Runs to the last step; returns the last checkpoint and what was done by then.
    fn run(
        &mut self,
        learner: &mut Learner<SoftLearner>,
    ) -> Result<(Option<PathBuf>, Done), Error> {
        let before = self.job.before.clone();
        if let (0, Some(path)) = (before.steps, self.job.before_file.clone()) {
            self.report_start(&path, &learner.model().valid())?;
        }
        if before.steps == 0 && self.job.samples_by_itself {
            self.sample(0, learner)?;
        }
        let mut done = before.clone();
        let mut saved: Option<(usize, PathBuf)> = None;
        let is_due = |every: usize, steps: usize| every > 0 && steps.is_multiple_of(every);
        for step in before.steps..self.job.steps {
            dashboard::tell(|| News::Doing(Activity::Training));
            let last = step + 1 == self.job.steps;
            let evaluates = is_due(self.job.eval_every, step + 1);
            let stopwatch = Stopwatch::start();
            let figures = match (self.should_stop(), self.job.drawing.clone()) {
                (true, _) => None,
                (false, Some(drawing)) => self.rewarded(&drawing, learner, &done, step)?,
                (false, None) => self.step(learner, step)?,
            };
            let Some(figures) = figures else {
                return Err(self.interrupted(learner, &done, saved)?);
            };
            let took = stopwatch.stop();
            match &figures.not_finite {
                Some(found) => {
                    let broken = self.broken(step, &figures, found);
                    if !self.job.watch.skips(&mut done.course, &broken)? {
                        let path = self.save(learner, &done)?;
                        return Err(self.job.watch.stopped(&done.course, &broken, &path));
                    }
                }
                None => done.course.skipped_in_row = 0,
            }
            done.steps = step + 1;
            done.tokens += figures.num_tokens;
            done.seconds += took.seconds;
            // A checkpoint knows the evaluation of its step, and what is recorded of a step must be
            // there before the checkpoint that holds it; what fails of that must not cost the step.
            let (held_out, mut failed) = match evaluates {
                true => match self.evaluate(learner, done.steps) {
                    Ok(held_out) => (held_out, None),
                    Err(error) => (Vec::new(), Some(error)),
                },
                false => (Vec::new(), None),
            };
            let judged = self.job.watch.judge(&mut done.course, done.steps, &held_out);
            let lost = self.job.watch.lost(&mut done.course, figures.finite_loss());
            let left = self.left(&figures);
            self.report(&done, &figures, &held_out, took)?;
            let mut times = took.at_step(done.steps);
            if let Some(rewarded) = &figures.rewarded {
                rewarded.add_times(&mut times);
            }
            self.job.times.append(&times)?;
            if let Some(what) = left {
                // It is finite and done: what it came to can be looked at.
                let path = self.save(learner, &done)?;
                let what = format!("{what}; the state after this step is in {}", path.display());
                return Err(Error::Diverged { step: done.steps as u64, what });
            }
            if let Some(what) = lost {
                let place = |(_, path): &(usize, PathBuf)| {
                    format!("; the last checkpoint is {}", path.display())
                };
                let what = what + &saved.as_ref().map_or_else(String::new, place);
                return Err(Error::Diverged { step: done.steps as u64, what });
            }
            let asked = self.job.control.take_sample();
            if (evaluates || last) && self.job.samples_by_itself {
                failed = failed.or(self.sample(done.steps, learner).err());
            } else if asked && let Err(error) = self.sample(done.steps, learner) {
                // Nothing that the run needs.
                say(format_args!("no samples: {error}"));
            }
            let late = self.job.watch.is_late();
            let asked = self.job.control.take_save();
            let ends = last || judged.ended || late || self.should_stop();
            if ends || asked || judged.keeps || is_due(self.job.save_every, done.steps) {
                let path = self.save(learner, &done)?;
                if asked {
                    say(format_args!("{} saved {}", self.at(done.steps), path.display()));
                }
                saved = Some((done.steps, path));
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if judged.ended || last {
                self.held_out = held_out;
                break;
            }
            if let (true, Some((_, checkpoint))) = (late, &saved) {
                let limit = self.job.watch.guard.max_time.clone();
                let (step, checkpoint) = (done.steps as u64, checkpoint.clone());
                return Err(Error::TimeOver { limit, step, checkpoint });
            }
        }
        Ok((saved.map(|(_, path)| path), done))
    }

    /// Writes a checkpoint of what is done, between two steps.
    fn save(&mut self, learner: &mut Learner<SoftLearner>, done: &Done) -> Result<PathBuf, Error> {
        dashboard::tell(|| News::Doing(Activity::Saving));
        // Not before the record of the step: a run that goes on from here does not make it again.
        self.job.metrics.sync()?;
        self.job.completions.as_mut().map_or(Ok(()), |record| record.sync())?;
        self.job.times.sync()?;
        // Burn's Learner shows its optimizer to `optimize` alone, which is asked for nothing else.
        learner.model().setup.exchange().save_optimizer = true;
        learner.optimizer_step(GradientsParams::new());
        let state = learner.model().setup.exchange().optimizer.take();
        let state = state.ok_or_else(|| Error::Runtime {
            what: "the optimizer gave no state to save".to_owned(),
        })?;
        (self.job.save)(done, &learner.model(), state)
    }

    /// The end of a run that was asked to stop: its last finished step is on the disk.
    fn interrupted(
        &mut self,
        learner: &mut Learner<SoftLearner>,
        done: &Done,
        saved: Option<(usize, PathBuf)>,
    ) -> Result<Error, Error> {
        let checkpoint = match saved {
            Some((step, path)) if step == done.steps => path,
            _ => self.save(learner, done)?,
        };
        Ok(Error::Interrupted { step: done.steps as u64, checkpoint })
    }

    /// `soft       step    10/1000 (1.0 %)`
    fn at(&self, step: usize) -> String {
        let Job { label, steps, .. } = &*self.job;
        let share = 100.0 * step as f64 / *steps as f64;
        format!("{label} step {step:>5}/{steps} ({share:.1} %)")
    }

    /// What is measured on held-out data before the first step, into a file of its own: the record
    /// has one object a step.
    fn report_start(&mut self, path: &Path, model: &SoftLearner) -> Result<(), Error> {
        dashboard::tell(|| News::Doing(Activity::Evaluating));
        let figures = (self.job.evaluate)(model, 0)?;
        if figures.is_empty() {
            return Ok(());
        }
        let mut line = json!({ "step": 0 });
        for HeldOut { key, value, .. } in &figures {
            line[*key] = (*value).into();
        }
        std::fs::write(path, format!("{line}\n")).map_err(Error::disk(path))?;
        if !dashboard::is_up() {
            say(format_args!("{} before training | {}", self.job.label, in_words(&figures)));
        }
        Ok(())
    }

    fn sample(&mut self, steps: usize, learner: &Learner<SoftLearner>) -> Result<(), Error> {
        let Some(sample) = &mut self.job.sample else {
            say(format_args!("there is no held-out example to continue"));
            return Ok(());
        };
        dashboard::tell(|| News::Doing(Activity::Sampling));
        sample(steps, &learner.model().valid())
    }

    fn evaluate(
        &mut self,
        learner: &Learner<SoftLearner>,
        steps: usize,
    ) -> Result<Vec<HeldOut>, Error> {
        dashboard::tell(|| News::Doing(Activity::Evaluating));
        (self.job.evaluate)(&learner.model().valid(), steps)
    }

    fn should_stop(&self) -> bool {
        self.job.control.stop_requested() || self.interrupter.should_stop()
    }

    /// What there is to tell of a step, counted from 0, that was not finite.
    fn broken<'a>(
        &mut self,
        step: usize,
        figures: &StepFigures,
        found: &'a NotFinite,
    ) -> BrokenStep<'a> {
        BrokenStep {
            step: step + 1,
            loss: figures.value(metric_name::LOSS),
            grad_norm: figures.grad_norm,
            found,
            rows: self.job.feed.rows(step),
            stage: self.job.feed.stage(step),
        }
    }

    /// One optimizer step: the gradients of its micro-batches are reduced here, and nowhere else.
    /// None where the run was asked to stop before the last of them: what was added up is dropped,
    /// so that a resumed run takes the whole step, as an unbroken one does.
    fn step(
        &mut self,
        learner: &mut Learner<SoftLearner>,
        step: usize,
    ) -> Result<Option<StepFigures>, Error> {
        let mut sums = StepItem::default();
        let (mut num_tokens, mut num_scored) = (0, 0);
        let mut reduced = GradientsAccumulator::new();
        let model = learner.model();
        for (number, micro_batch) in self.job.feed.step(step).into_iter().enumerate() {
            if number > 0 && self.should_stop() {
                return Ok(None);
            }
            num_tokens += micro_batch.batch.examples.iter().map(|e| e.len() as u64).sum::<u64>();
            num_scored +=
                micro_batch.batch.examples.iter().map(|example| example.num_scored()).sum::<u64>();
            let output = learner.train_step(micro_batch);
            reduced.accumulate(&model, output.grads);
            add(&mut sums, output.item);
        }
        drop(model);
        let counts = [num_tokens, num_scored];
        Ok(Some(self.update(learner, step, reduced.grads(), sums, counts, true)))
    }

    /// One update of the optimizer, and what there is to tell of it. The learning rate moves once
    /// a step.
    fn update(
        &mut self,
        learner: &mut Learner<SoftLearner>,
        step: usize,
        mut gradients: GradientsParams,
        mut sums: StepItem,
        [num_tokens, num_scored]: [u64; 2],
        moves_rate: bool,
    ) -> StepFigures {
        let model = learner.model();
        let located = sums.values.iter().any(|(name, n)| *name == metric_name::LOCATED && *n > 0.0);
        let token_norms = located.then(|| embedding_norms(&model.model));
        let faults = &self.job.watch.faults;
        if faults.nan_losses.contains(&(step + 1)) {
            let loss = sums.values.iter_mut().find(|value| value.0 == metric_name::LOSS);
            loss.into_iter().for_each(|loss| loss.1 = f64::NAN);
        }
        if faults.infinite_gradients.contains(&(step + 1)) {
            not_finite::spoil(&model, &mut gradients);
        }
        let loss = sums.values.iter().find(|value| value.0 == metric_name::LOSS);
        let is_finite = loss.is_none_or(|loss| loss.1.is_finite());
        model.setup.exchange().reset_optimizer = self.job.feed.resets_at(step);
        model.setup.exchange().hold = !is_finite;
        let setup = model.setup.clone();
        // The learner must hold the only handle of each parameter, or the update copies it.
        drop(model);
        if moves_rate {
            learner.lr_step();
        }
        learner.optimizer_step(gradients);
        let (grad_norm, not_finite) = {
            let mut exchange = setup.exchange();
            (exchange.grad_norm, exchange.not_finite.take())
        };
        if let Some(gap) = learned::gap(&sums) {
            setup.exchange().filter_gap = Some(gap);
        }
        let learning_rate = learner.lr_current().base();
        let learned = learner.model().filters.as_ref().map(LearnableFilters::values);
        StepFigures {
            item: sums,
            num_tokens,
            num_scored,
            grad_norm,
            learning_rate,
            token_norms,
            learned: learned.unwrap_or_default(),
            not_finite,
            rewarded: None,
        }
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
