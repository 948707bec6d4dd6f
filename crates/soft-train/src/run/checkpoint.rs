//! What a checkpoint of a run holds: a model that `--model` takes, and the way to go on.

use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::tensor::{DType, Device};
use soft_model::{ModelFiles, Tokenizer, Transformer, save_safetensors};

use super::base_model::Base;
use super::frozen::{checkpoint_bytes, frozen_crc32};
use super::soft_config::soft_config;
use super::trained::restrict;
use super::{Problem, Resume, TrainOptions};
use super::{best, learned, rewarded};
use crate::checkpoint_dir::{
    AccumulationWindow, CHECKPOINTS, Checkpoint, STATE, STATE_VERSION, TrainState, Writer,
    newest_valid, prune, require_space, verify,
};
use crate::config::{Arm, Config};
use crate::disk::space;
use crate::error::Error;
use crate::faults::Faults;
use crate::learner::{SoftLearner, trainable_parameters};
use crate::renderer::warn;
use crate::strategy::Done;

/// File of the optimizer's state, in Burn's own format.
const OPTIMIZER: &str = "optimizer.bpk";

/// Everything that a checkpoint is written from.
pub(super) struct CheckpointWriter {
    run_dir: PathBuf,
    config: Config,
    tokenizer: Vocabulary,
    /// Settings that generation starts from, for each stage of the curriculum.
    pub(super) soft_configs: Vec<String>,
    fingerprint: Fingerprint,
    /// Free space as a test sets it, in turn; the system is asked where it is empty.
    set_free_bytes: Vec<u64>,
    /// How often that was asked for.
    asked: usize,
}

/// What a run must find again when it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprint {
    /// CRC-32 of the training examples.
    pub(super) data_crc32: u32,
    /// That of the parameters that are not trained; none where all are.
    pub(super) frozen_crc32: Option<u32>,
}

/// What turns ids into text.
enum Vocabulary {
    /// `tokenizer.json` of a task.
    Task(serde_json::Value),
    /// That of the model that training began with, read once: the file may be gone at a later save.
    Model(Option<Box<Tokenizer>>),
}

impl CheckpointWriter {
    pub(super) fn new(
        run_dir: &Path,
        config: &Config,
        problem: &Problem,
        arm: Arm,
        fingerprint: Fingerprint,
        faults: &Faults,
    ) -> Result<Self, Error> {
        let tokenizer = match (problem, &config.model.path) {
            (Problem::Task(task), _) => Vocabulary::Task(task.tokens.tokenizer_json()),
            (Problem::Examples { .. }, Some(_)) => {
                let tokenizer = Base::open(config)?.and_then(|base| base.files.tokenizer);
                Vocabulary::Model(tokenizer.map(Box::new))
            }
            (Problem::Examples { .. }, None) => Vocabulary::Model(None),
        };
        let known = match &tokenizer {
            Vocabulary::Model(Some(tokenizer)) => Some(&**tokenizer),
            _ => None,
        };
        let stages = 0..problem.num_stages(config);
        let soft_configs = stages
            .map(|stage| soft_config(config, arm, config.curriculum.cut(stage), problem, known))
            .collect();
        Ok(Self {
            run_dir: run_dir.to_owned(),
            config: config.clone(),
            tokenizer,
            soft_configs,
            fingerprint,
            set_free_bytes: faults.free_bytes.clone(),
            asked: 0,
        })
    }

    /// Checks that the disk has room for a checkpoint.
    ///
    /// # Errors
    /// [`Error::NoSpace`] where it has not.
    pub(super) fn require_space(&mut self, learner: &SoftLearner) -> Result<(), Error> {
        let set = self.set_free_bytes.get(self.asked).or(self.set_free_bytes.last());
        let free = set.copied().or_else(|| space(&self.run_dir).map(|space| space.free));
        self.asked += 1;
        require_space(&self.run_dir, checkpoint_bytes(learner), free)
    }

    /// What turns the model's ids into text, where there is something.
    pub(super) fn tokenizer(&self) -> Result<Option<Tokenizer>, Error> {
        match &self.tokenizer {
            Vocabulary::Task(json) => {
                let tokenizer = Tokenizer::from_json(json.to_string().as_bytes(), &self.run_dir)?;
                Ok(Some(tokenizer))
            }
            Vocabulary::Model(tokenizer) => Ok(tokenizer.as_deref().cloned()),
        }
    }

    /// Writes the checkpoint of a finished step, marks the best and deletes those over the limits.
    pub(super) fn write(
        &mut self,
        done: &Done,
        learner: &SoftLearner,
        optimizer: OptimizerRecord,
    ) -> Result<PathBuf, Error> {
        self.require_space(learner)?;
        let model = &learner.model;
        let writer = Writer::begin(&self.run_dir, done.steps as u64)?;
        let folder = writer.path();
        writer.write_json("config.json", &model.config().to_hf())?;
        let weights = folder.join("model.safetensors");
        save_safetensors(&weights, &model.named_tensors()).map_err(not_written)?;
        model.save_adapter(folder).map_err(not_written)?;
        match &self.tokenizer {
            Vocabulary::Task(json) => writer.write_json("tokenizer.json", json)?,
            Vocabulary::Model(Some(tokenizer)) => tokenizer.save(folder).map_err(not_written)?,
            Vocabulary::Model(None) => {}
        }
        let (steps, stages) = (done.steps.saturating_sub(1), self.soft_configs.len());
        let soft_config = &self.soft_configs[self.config.curriculum.stage_at(steps, stages)];
        let soft_config = learned::soft_config(soft_config, &self.config, learner);
        writer.write("soft_config.toml", soft_config.as_bytes())?;
        if let Some(filters) = &learner.filters {
            writer.write_json(learned::LEARNED, &learned::to_json(filters))?;
        }
        if let Some(value) = &learner.value {
            writer.write_json(rewarded::VALUE_HEAD, &rewarded::to_json(value))?;
        }
        let path = folder.join(OPTIMIZER);
        optimizer.save(&path).map_err(|error| Error::disk(&path)(io::Error::other(error)))?;
        writer.write_json(STATE, &self.state(done, model))?;
        let path = writer.commit(&format!("{:08x}", self.config.config_hash()))?;
        let save = &self.config.save;
        let kept = if save.keep_best > 0 { &done.course.best[..] } else { &[] };
        if !kept.is_empty() {
            best::mark(&self.run_dir, &done.course)?;
        }
        let kept: Vec<u64> = kept.iter().map(|best| best.step).collect();
        prune(&self.run_dir, save.keep, &kept)?;
        Ok(path)
    }

    fn state(&self, done: &Done, model: &Transformer) -> TrainState {
        let train = &self.config.train;
        let rows = train.micro_batch * train.grad_accum;
        TrainState {
            version: STATE_VERSION,
            step: done.steps as u64,
            examples_seen: (done.steps * rows) as u64,
            data_crc32: self.fingerprint.data_crc32,
            num_tokens: done.tokens,
            seconds: done.seconds,
            seed: self.config.run.seed,
            guidance_position: done.steps as f64,
            accumulation_window: AccumulationWindow {
                micro_batch: train.micro_batch as u64,
                grad_accum: train.grad_accum as u64,
                micro_steps_done: 0,
            },
            trainable_parameters: trainable_parameters(model) as u64,
            frozen_crc32: self.fingerprint.frozen_crc32,
            course: done.course.clone(),
        }
    }
}

/// A file of a model that could not be written is the disk's fault, not the model's.
fn not_written(error: soft_model::Error) -> Error {
    match error {
        soft_model::Error::Io { path, source } => Error::Disk { path, source },
        other => other.into(),
    }
}

/// A checkpoint to go on from: the model, the optimizer's state, and what is done.
pub(super) struct Restored {
    pub(super) path: PathBuf,
    pub(super) model: Transformer,
    pub(super) optimizer: OptimizerRecord,
    pub(super) done: Done,
    pub(super) frozen_crc32: Option<u32>,
}

/// The checkpoint that the run is asked to go on from, where there is one.
pub(super) fn restore(
    run_dir: &Path,
    config: &Config,
    options: &TrainOptions,
    data_crc32: u32,
    device: &Device,
) -> Result<Option<Restored>, Error> {
    let path = match &options.resume {
        Resume::Never => return Ok(None),
        Resume::From(path) if lies_in(path, run_dir) => {
            verify(path)?;
            path.clone()
        }
        Resume::Auto | Resume::From(_) => {
            let newest = newest_valid(run_dir)?;
            for warning in &newest.warnings {
                warn(warning);
            }
            match newest.checkpoint {
                Some(Checkpoint { path, .. }) => path,
                None if newest.warnings.is_empty() => return Ok(None),
                None => {
                    let problem = "none in it is whole, so there is nothing to go on from; they are \
                                   left as they are: delete them to start over, or start a run of \
                                   another name";
                    return Err(Error::checkpoint(&run_dir.join(CHECKPOINTS), problem));
                }
            }
        }
    };
    let state = TrainState::read(&path)?;
    if state.data_crc32 != data_crc32 {
        let report =
            format!("the training data is not that which {} was trained on", path.display());
        if !options.resume_anyway {
            let report = format!(
                "{report}: set it back, go on all the same with `--resume-anyway`, or start a new run \
                 from the checkpoint with `model.path`"
            );
            return Err(Error::Data { report });
        }
        eprintln!("warning: {report}; going on all the same");
    }
    let files = ModelFiles::open(&path)?;
    check_tokenizer(&path, &files, config)?;
    let mut shape = files;
    shape.config.dropout = config.model.dropout;
    let tokens = config.model.new_tokens.iter();
    let new_ids: Vec<u32> = match &shape.tokenizer {
        Some(tokenizer) => tokens.filter_map(|token| tokenizer.token_id(token)).collect(),
        None => Vec::new(),
    };
    let model = restrict(Transformer::open(&shape, device, DType::F32)?, config, &new_ids)?;
    let frozen_crc32 = frozen_crc32(&model);
    check_same_parameters(&path, &state, trainable_parameters(&model) as u64, frozen_crc32)?;
    let optimizer = OptimizerRecord::load(path.join(OPTIMIZER))
        .map_err(|error| Error::checkpoint(&path.join(OPTIMIZER), error.to_string()))?;
    let TrainState { step, num_tokens: tokens, seconds, course, .. } = state;
    Ok(Some(Restored {
        path,
        model,
        optimizer,
        done: Done { steps: step as usize, tokens, seconds, course },
        frozen_crc32,
    }))
}

/// Checks that the same parameters are trained over the same frozen ones as before.
fn check_same_parameters(
    path: &Path,
    state: &TrainState,
    trained: u64,
    frozen: Option<u32>,
) -> Result<(), Error> {
    let crc = |crc: Option<u32>| crc.map_or_else(|| "none".to_owned(), |crc| format!("{crc:08x}"));
    let mut differences = Vec::new();
    if state.trainable_parameters != trained {
        let were = state.trainable_parameters;
        differences.push(format!("  trained parameters: were {were}, are {trained}"));
    }
    // Before version 3 it was not recorded.
    if state.version >= STATE_VERSION && state.frozen_crc32 != frozen {
        let (were, are) = (crc(state.frozen_crc32), crc(frozen));
        differences.push(format!("  checksum of the frozen parameters: was {were}, is {are}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "something was frozen, thawed or replaced, so it cannot go on as it began; start a new run \
         from it with `model.path`:\n{}",
        differences.join("\n")
    );
    Err(Error::checkpoint(path, problem))
}

/// Checks that ids still mean what they meant: later checkpoints get the tokenizer of `model.path`.
fn check_tokenizer(path: &Path, files: &ModelFiles, config: &Config) -> Result<(), Error> {
    if config.task.name.is_generated() {
        return Ok(());
    }
    let base = Base::open(config)?.and_then(|base| base.files.tokenizer);
    let (Some(own), Some(base)) = (&files.tokenizer, &base) else { return Ok(()) };
    match own.differs_from(base) {
        None => Ok(()),
        Some(token) => Err(Error::checkpoint(
            path,
            format!(
                "its tokenizer is not that of `model.path`, which has another id or none for \
                 {token:?}: set the model back, or start a new run from the checkpoint with \
                 `model.path`"
            ),
        )),
    }
}

/// Checks that a checkpoint to go on from is one of this run or of an arm of it.
pub(super) fn check_lies_in_run(checkpoint: &Path, run_dir: &Path) -> Result<(), Error> {
    verify(checkpoint)?;
    let mut run = checkpoint.canonicalize().ok();
    // checkpoints/step-N, under the run itself or under arms/NAME of it.
    let run_dir = run_dir.canonicalize().ok();
    let levels = [2, 2].map(|levels| {
        for _ in 0..levels {
            run = run.take().and_then(|path| path.parent().map(Path::to_owned));
        }
        run.is_some() && run == run_dir
    });
    if levels.contains(&true) {
        return Ok(());
    }
    let problem = "it is not of this run: set `run.dir` and `run.name` to those of its run, or \
                   start a new run from it with `model.path`";
    Err(Error::checkpoint(checkpoint, problem))
}

fn lies_in(checkpoint: &Path, run_dir: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let parent = canonical(checkpoint).parent().and_then(Path::parent).map(Path::to_owned);
    parent == Some(canonical(run_dir))
}

/// Parameters of a model, trained or not.
pub(super) fn parameters(model: &Transformer) -> u64 {
    model.num_params() as u64
}
