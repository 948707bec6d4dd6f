//! The training of one arm, inside Burn's `SupervisedTraining`, and its evaluation.

use std::path::PathBuf;
use std::sync::{Arc as Shared, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::module::Module;
use burn::optim::AdamWConfig;
use burn::tensor::Device;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use soft_core::LearnableFilters;
use soft_model::ModelConfig;

use super::checkpoint::{self, CheckpointWriter, Fingerprint, Restored};
use super::evaluation::{ACCURACY_KEY, limited};
use super::frozen::frozen_crc32;
use super::samples::Samples;
use super::trained::rates;
use super::{Problem, TrainOptions, best, learned, model, rewarded};
use crate::checkpoint_dir::discard_after;
use crate::config::{Arm, Config, FeedKind, HeldOutMetric, RolloutKind, RolloutPlan, TaskName};
use crate::dashboard::{self, Activity, Begun, News};
use crate::error::Error;
use crate::evaluate::{Asking, count_correct};
use crate::example::{Example, checksum};
use crate::feed::StepFeed;
use crate::learner::{Setup, SoftLearner, metric_name};
use crate::learning_rate::LearningRate;
use crate::memory::{ADVICE, is_out_of_memory};
use crate::metric::ScalarMetric;
use crate::renderer::{NoLog, Relay, say};
use crate::results::{ArmResult, Ending};
use crate::rewards;
use crate::rl::{Alarms, TextSource};
use crate::rollout::{Parallel, Rollout, Sequential, Stages};
use crate::run_dir::{BEFORE, EventFile, NONFINITE, RunDir};
use crate::strategy::{Done, HeldOut, Job, Sample, SoftStrategy, Watch, early_end};

/// One arm of a run.
pub(super) struct Training<'a> {
    pub(super) config: &'a Config,
    pub(super) problem: &'a Problem,
    pub(super) device: &'a Device,
    pub(super) dir: &'a RunDir,
    pub(super) arm: Arm,
    /// Its number among those that are trained, from 1, and their count.
    pub(super) arms: (usize, usize),
    pub(super) options: &'a TrainOptions,
    /// When the session is to end.
    pub(super) deadline: Option<Instant>,
}

impl Training<'_> {
    /// Trains, or goes on from a checkpoint, and evaluates.
    pub(super) fn run(&self) -> Result<(Vec<ArmResult>, Ending), Error> {
        let config = self.config;
        let device = self.device.clone().autodiff();
        let stages = self.problem.stages(config, self.arm)?;
        let data_crc32 = checksum(stages.iter().flatten());
        let restored =
            checkpoint::restore(self.dir.path(), config, self.options, data_crc32, &device)?;
        // Where nothing is restored, what a killed process recorded is forgotten too.
        let step = restored.as_ref().map_or(0, |restored| restored.done.steps as u64);
        self.dir.truncate_after(step)?;
        discard_after(self.dir.path(), step)?;
        let course = restored.as_ref().filter(|_| config.save.keep_best > 0);
        let course = course.map(|restored| restored.done.course.clone());
        best::mark(self.dir.path(), &course.unwrap_or_default())?;
        let (model, filters, optimizer, before, checkpoint, frozen_crc32) = match restored {
            Some(restored) => {
                self.say_resumed(&restored);
                let filters = learned::restore(config, self.arm, &restored.path, &device)?;
                let (path, crc) = (Some(restored.path), restored.frozen_crc32);
                (restored.model, filters, Some(restored.optimizer), restored.done, path, crc)
            }
            None => {
                let model = model::begin(config, self.problem, self.arm, &device)?;
                let filters = learned::begin(config, self.arm, &device)?;
                let crc = frozen_crc32(&model);
                (model, filters, None, Done::default(), None, crc)
            }
        };
        dashboard::tell(|| {
            News::Begun(Begun {
                arm: self.arm.as_str().to_owned(),
                arms: self.arms,
                steps: config.train.steps,
                done: before.steps,
                clip: config.train.clip,
            })
        });
        let value = rewarded::value_head(config, &model, checkpoint.as_deref(), &device)?;
        let learner = SoftLearner::new(model, filters, self.setup()?).with_value(value);
        let begun = || model::begin(config, self.problem, self.arm, &device);
        let learner = rewarded::with_reference(learner, config, &begun, checkpoint.is_none())?;
        let has_ended = before.steps >= config.train.steps
            || early_end(&config.early_stop, &before.course).is_some();
        let (learner, checkpoint, done, held_out) = if has_ended {
            (learner.valid(), checkpoint, before, Vec::new())
        } else {
            let mut writer = self.writer(Some(Fingerprint { data_crc32, frozen_crc32 }))?;
            writer.require_space(&learner)?;
            let shape = learner.model.config().clone();
            let adamw = learner.fresh_optimizer();
            let optimizer = match optimizer {
                Some(record) => adamw.load_record(record),
                None => adamw,
            };
            let rates = rates(&learner.model, config, before.steps)?;
            let rates = learned::with_rate(rates, &learner, config, before.steps);
            let learner = Learner::new(learner, optimizer, rates);
            let job = self.job(stages, writer, before, &shape)?;
            self.fit(learner, job)?
        };
        if let Some(note) = learned::note(&learner) {
            say(format_args!("{note}"));
        }
        let ending = best::ending(config, self.dir.path(), self.arm, &done);
        for line in best::lines(&ending, config.train.steps) {
            say(format_args!("{line}"));
        }
        Ok((self.results(&learner, checkpoint.unwrap_or_default(), &done, held_out)?, ending))
    }

    /// What writes checkpoints; without a fingerprint it is only asked what is in them.
    fn writer(&self, fingerprint: Option<Fingerprint>) -> Result<CheckpointWriter, Error> {
        let fingerprint = fingerprint.unwrap_or(Fingerprint { data_crc32: 0, frozen_crc32: None });
        let (dir, faults) = (self.dir.path(), &self.options.faults);
        CheckpointWriter::new(dir, self.config, self.problem, self.arm, fingerprint, faults)
    }

    /// What a run goes on from, and as how fast a learner.
    fn say_resumed(&self, restored: &Restored) {
        let (done, train) = (restored.done.steps, &self.config.train);
        let rate = match done < train.steps {
            true => {
                format!(", learning rate {:.3e}", LearningRate::new(train, done).at(done))
            }
            false => String::new(),
        };
        say(format_args!(
            "{}: going on from {}, step {done} of {}{rate}",
            self.arm,
            restored.path.display(),
            train.steps
        ));
    }

    fn setup(&self) -> Result<Setup, Error> {
        let plan = self.plan()?;
        let stages = plan.stages().iter().map(|&(end, kind)| (end, self.rollout(kind)));
        Ok(Setup {
            rollout: Box::new(Stages::new(stages.collect())),
            normalize: self.config.objective.normalize,
            entropy_beta: self.config.objective.entropy_over(self.config.train.steps),
            clip: self.config.train.clip,
            precision: self.config.train.precision,
            optimizer: AdamWConfig::new().with_weight_decay(self.config.train.weight_decay as f32),
            exchange: Mutex::default(),
        })
    }

    fn rollout(&self, kind: RolloutKind) -> Box<dyn Rollout> {
        let rollout = &self.config.rollout;
        match kind {
            RolloutKind::Teacher => Box::new(Parallel::TEACHER),
            RolloutKind::Parallel => {
                Box::new(Parallel { passes: rollout.passes, grad_passes: rollout.grad_passes })
            }
            RolloutKind::Sequential => {
                Box::new(Sequential { segment: rollout.segment, truncate: rollout.truncate })
            }
        }
    }

    /// The arms without mixtures have nothing to roll out.
    fn plan(&self) -> Result<RolloutPlan, Error> {
        match self.arm {
            Arm::Soft => self.config.rollout.plan().map_err(|report| Error::Config { report }),
            _ => Ok(RolloutPlan::only(RolloutKind::Teacher)),
        }
    }

    /// Runs the loop inside Burn's trainer.
    fn fit(
        &self,
        learner: Learner<SoftLearner>,
        job: Job,
    ) -> Result<(SoftLearner, Option<PathBuf>, Done, Vec<HeldOut>), Error> {
        let strategy = Shared::new(SoftStrategy::new(job));
        let outcome = strategy.outcome.clone();
        let mut training = SupervisedTraining::new(
            self.dir.path(),
            Shared::new(Empty) as Shared<dyn DataLoader<_>>,
            Shared::new(Empty) as Shared<dyn DataLoader<_>>,
        )
        .with_application_logger(None)
        .with_metric_logger(NoLog)
        .label(self.arm.as_str());
        for name in [
            metric_name::LOSS,
            metric_name::CROSS_ENTROPY,
            metric_name::ENTROPY,
            metric_name::ENTROPY_BETA,
            metric_name::CLAMPED,
            metric_name::MIXTURE_NORM,
            metric_name::MIXTURE_DISTANCE,
            metric_name::GUIDANCE,
            metric_name::GRAD_NORM,
            metric_name::LEARNING_RATE,
        ] {
            training = training.metric_train_numeric(ScalarMetric::new(name));
        }
        let learnable = self.config.learnable.config();
        let shown = [
            (learnable.temperature, metric_name::TEMPERATURE),
            (learnable.top_k, metric_name::TOP_K),
            (learnable.min_p, metric_name::MIN_P),
            (learnable.top_k || learnable.min_p, metric_name::FILTER_GAP),
        ];
        for (_, name) in shown.into_iter().filter(|(learned, _)| *learned) {
            training = training.metric_train_numeric(ScalarMetric::new(name));
        }
        let names = rewards::names(&self.config.rl).filter(|_| self.config.rl.is_on());
        for (name, _) in names {
            training = training.metric_train_numeric(ScalarMetric::new(name));
        }
        let held_out = match self.problem {
            Problem::Task(_) => metric_name::ACCURACY,
            Problem::Examples { .. } => metric_name::CROSS_ENTROPY,
        };
        training = training.metric_valid_numeric(ScalarMetric::new(held_out));
        if matches!(self.problem, Problem::Task(_)) && self.arm == Arm::Soft {
            training = training
                .metric_valid_numeric(ScalarMetric::new(metric_name::BELIEF_KL))
                .metric_valid_numeric(ScalarMetric::new(metric_name::BELIEF_MASS));
        }
        if self.config.task.name == TaskName::Text {
            let answers = metric_name::ANSWER_CROSS_ENTROPY;
            training = training
                .metric_train_numeric(ScalarMetric::new(answers))
                .metric_valid_numeric(ScalarMetric::new(answers))
                .metric_valid_numeric(ScalarMetric::new(metric_name::ACCURACY));
        }
        training = training.renderer(Box::new(Relay::default()));
        if !self.config.eval.text.as_slice().is_empty() {
            training =
                training.metric_valid_numeric(ScalarMetric::new(metric_name::TEXT_PERPLEXITY));
        }
        let result =
            training.with_training_strategy(TrainingStrategy::Custom(strategy)).launch(learner);
        if let Some(error) = &result.error
            && is_out_of_memory(&error.to_string())
        {
            let report = format!("out of memory while training: {error}; {ADVICE}");
            return Err(Error::OutOfMemory { report });
        }
        if let Some(error) = result.error {
            return Err(Error::Runtime { what: format!("training stopped: {error}") });
        }
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome.error.take() {
            Some(error) => Err(error),
            None => Ok((
                result.model,
                outcome.checkpoint.take(),
                outcome.done.clone(),
                std::mem::take(&mut outcome.held_out),
            )),
        }
    }

    fn job(
        &self,
        stages: Vec<Vec<Example>>,
        mut writer: CheckpointWriter,
        before: Done,
        shape: &ModelConfig,
    ) -> Result<Job, Error> {
        let config = self.config;
        let run_dir = self.dir.path();
        let sample = self.samples(&writer)?.map(|mut samples| -> Sample {
            Box::new(move |step, learner| samples.write(step, learner))
        });
        let after = before.steps as u64;
        let decoded = (writer.soft_configs[0].as_str(), writer.tokenizer()?);
        let answers = self.held_out_answers(&writer, shape)?;
        let drawing =
            rewarded::drawing(config, self.problem, self.arm, decoded, shape, self.device)?;
        Ok(Job {
            sample,
            has_answers: stages.iter().flatten().any(|example| example.answer_from.is_some()),
            feed: StepFeed::new(config, stages, self.plan()?)?,
            completions: drawing.as_ref().map(|_| self.dir.completions()).transpose()?,
            alarms: Alarms::default(),
            drawing,
            entropy_beta: config.objective.entropy_over(config.train.steps),
            before,
            steps: config.train.steps,
            save_every: config.save.every,
            eval_every: config.eval.every,
            log_every: config.log.every,
            watch: self.watch()?,
            control: self.options.control.clone(),
            samples_by_itself: config.eval.samples > 0,
            label: format!("{:<10}", self.arm.as_str()),
            metrics: self.dir.metrics()?,
            times: self.dir.times()?,
            events: config
                .log
                .tensorboard
                .then(|| EventFile::create(run_dir, after))
                .transpose()?,
            save: Box::new(move |done, learner, optimizer| writer.write(done, learner, optimizer)),
            evaluate: self.evaluation(answers)?,
            before_file: matches!(self.problem, Problem::Examples { .. })
                .then(|| run_dir.join(BEFORE)),
        })
    }

    /// Held-out prompts of text, where they are to be answered at evaluations.
    fn held_out_answers(
        &self,
        writer: &CheckpointWriter,
        shape: &ModelConfig,
    ) -> Result<Vec<TextSource>, Error> {
        let (own, tokenizer) = (&writer.soft_configs, writer.tokenizer()?);
        rewarded::held_out_answers(self.config, self.problem, own, tokenizer, &shape.eos_ids)
    }

    /// What ends the training before its last step.
    fn watch(&self) -> Result<Watch, Error> {
        let config = self.config;
        let answers = match self.problem {
            Problem::Task(_) => true,
            Problem::Examples { valid, .. } => {
                let valid = limited(valid, config.eval.limit);
                valid.iter().any(|example| example.answer_from.is_some())
            }
        };
        let metric = config.eval.metric;
        if metric == HeldOutMetric::AnswerCrossEntropy && !answers {
            let report = "`eval.metric` is \"answer_cross_entropy\" and no held-out example has an \
                          answer after a thought; expected \"cross_entropy\"";
            return Err(Error::Data { report: report.into() });
        }
        Ok(Watch {
            guard: config.guard.clone(),
            early_stop: config.early_stop.clone(),
            metric,
            keep_best: config.save.keep_best,
            deadline: self.deadline,
            nonfinite: self.dir.path().join(NONFINITE),
            faults: self.options.faults.clone(),
        })
    }

    /// Prompts to continue while training, of the first held-out examples.
    fn samples(&self, writer: &CheckpointWriter) -> Result<Option<Samples>, Error> {
        let count = match self.config.eval.samples {
            // A key may ask for some.
            0 if self.options.dashboard => ASKED_SAMPLES,
            count => count,
        };
        if count == 0 {
            return Ok(None);
        }
        let examples: Vec<Example> = match self.problem {
            Problem::Task(task) => {
                let problems = limited(&task.validation, count).iter();
                problems.map(|problem| task.example(self.arm, problem)).collect()
            }
            Problem::Examples { valid, .. } => limited(valid, count).to_vec(),
        };
        if examples.is_empty() {
            return Ok(None);
        }
        let tokenizer = writer.tokenizer()?;
        Samples::new(self.config, &writer.soft_configs, &examples, tokenizer, self.dir).map(Some)
    }

    /// How problems are put to the model after so many steps.
    pub(super) fn asking(
        &self,
        arm: Arm,
        steps: usize,
        filters: Option<&LearnableFilters>,
    ) -> Result<Asking, Error> {
        let mut thoughts = self.config.soft.manner()?;
        thoughts.pipeline = learned::decoded(&thoughts.pipeline, filters);
        let cut = self.problem.cut_after(self.config, steps);
        Ok(Asking { arm, thoughts, cut, seed: self.config.run.seed })
    }

    fn results(
        &self,
        learner: &SoftLearner,
        checkpoint: PathBuf,
        done: &Done,
        held_out: Vec<HeldOut>,
    ) -> Result<Vec<ArmResult>, Error> {
        let model = &learner.model;
        dashboard::tell(|| News::Doing(Activity::Evaluating));
        let Problem::Task(task) = self.problem else {
            let held_out = match held_out.is_empty() {
                true => {
                    let answers = self.held_out_answers(&self.writer(None)?, model.config())?;
                    (self.evaluation(answers)?)(learner, done.steps)?
                }
                false => held_out,
            };
            for HeldOut { key, value, .. } in held_out {
                say(format_args!("{key} {value:.4}"));
            }
            say(format_args!("checkpoint: {}", checkpoint.display()));
            return Ok(Vec::new());
        };
        let config = self.config;
        let problems = limited(&task.validation, config.eval.limit);
        let mut arms = vec![self.arm];
        if self.arm == Arm::Soft && config.eval.arms.contains(&Arm::SoftFedHard) {
            arms.push(Arm::SoftFedHard);
        }
        let shape = model.config();
        let result = |arm| -> Result<ArmResult, Error> {
            // The arm that was trained may have been asked after its last step already.
            let known = held_out.iter().filter(|own| arm == self.arm && own.key == ACCURACY_KEY);
            let correct = match known.map(|own| own.value * problems.len() as f64).next() {
                Some(correct) => correct.round() as u64,
                None => {
                    let asking = self.asking(arm, done.steps, learner.filters.as_ref())?;
                    count_correct(model, task, problems, &asking)?
                }
            };
            let mut result = ArmResult::new(arm, correct, problems.len() as u64);
            result.steps = done.steps as u64;
            result.batch = (config.train.micro_batch * config.train.grad_accum) as u64;
            result.seconds = done.seconds;
            let shape = (shape.n_layers, shape.n_heads, shape.d_model);
            // Nothing is published of hidden states without a curriculum, or of mixtures with one.
            let hidden = config.soft.feed == FeedKind::Hidden;
            result.published = match (arm, hidden, config.curriculum.is_on()) {
                (Arm::Soft, true, true) => task.published(arm, true, shape),
                (Arm::Soft, true, false) | (Arm::Soft, false, true) => None,
                _ => task.published(arm, false, shape),
            };
            result.checkpoint = checkpoint.display().to_string();
            result.parameters = checkpoint::parameters(model);
            result.learning_rate = config.train.lr;
            result.seed = config.run.seed;
            Ok(result)
        };
        arms.into_iter().map(result).collect()
    }
}

/// Prompts that are continued on request where `eval.samples` is 0.
const ASKED_SAMPLES: usize = 2;

/// Burn asks for loaders; the strategy draws its batches by step instead, so these are empty.
struct Empty;

impl<O: Send + 'static> DataLoader<O> for Empty {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<O> + 'a> {
        Box::new(Nothing(std::marker::PhantomData))
    }

    fn num_items(&self) -> usize {
        0
    }

    fn to_device(&self, _: &Device) -> Shared<dyn DataLoader<O>> {
        Shared::new(Empty)
    }

    fn slice(&self, _: usize, _: usize) -> Shared<dyn DataLoader<O>> {
        Shared::new(Empty)
    }
}

struct Nothing<O>(std::marker::PhantomData<O>);

impl<O> Iterator for Nothing<O> {
    type Item = Result<O, burn::data::dataset::DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

impl<O> DataLoaderIterator<O> for Nothing<O> {
    fn progress(&self) -> Progress {
        Progress::new(0, 0, None)
    }
}
