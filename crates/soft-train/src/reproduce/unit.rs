//! One cell with one seed: trained, measured, kept on disk.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use soft_model::{ModelFiles, Transformer};

use super::judge;
use super::measure::{Measured, VERSION, asking, measure};
use super::rewarded::rewarded;
use super::table::{Budget, Cell, Kind, Table};
use crate::checkpoint_dir::CHECKPOINTS;
use crate::config::{Config, Loader, Resolved};
use crate::error::Error;
use crate::run::{Resume, TrainOptions, train};
use crate::run_dir::{read_jsonl, replace_file};
use crate::task::Task;

/// Evaluations during a training, the last one included.
const POINTS: usize = 12;
/// Checkpoints during a training.
const SAVES: usize = 4;

/// What is trained and measured at once.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// The table.
    pub table: &'a Table,
    /// The cell.
    pub cell: &'a Cell,
    /// How long it trains.
    pub budget: Budget,
    /// The seed of the run.
    pub seed: u64,
    /// The revision of the source, for the record.
    pub revision: &'a str,
}

/// What a unit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitResult {
    /// The cell.
    pub cell: String,
    /// The seed.
    pub seed: u64,
    /// CRC-32 of its settings and of what is measured: the result of others is not this one's.
    pub settings_crc32: u32,
    /// The revision of the source that it was trained with, with `+` where files were changed.
    pub revision: String,
    /// Optimizer steps.
    pub steps: usize,
    /// Examples a step.
    pub batch: usize,
    /// Seconds of the training, by the clock and by the processor.
    pub seconds: [f64; 2],
    /// Parameters of the model.
    pub parameters: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Accuracy over training: step and share.
    pub curve: Vec<(u64, f64)>,
    /// KL of the true beliefs from those of the thoughts over training: step and nats.
    pub belief_curve: Vec<(u64, f64)>,
    /// What was measured of the model at the end.
    pub measured: Measured,
}

impl UnitResult {
    /// Share of problems answered right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        share(&self.measured.right)
    }
}

/// The share of `1` among `0` and `1`; anything else counts for neither.
pub(super) fn share(bits: &str) -> f64 {
    let count = |which: u8| bits.bytes().filter(|&bit| bit == which).count();
    count(b'1') as f64 / (count(b'0') + count(b'1')).max(1) as f64
}

impl Unit<'_> {
    /// Name of its folder.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}-s{}", self.budget.as_str(), self.cell.name, self.seed)
    }

    /// The settings of its run. The name of the run has their checksum: a run goes on under more
    /// steps and other evaluations, which would be another unit's.
    pub(super) fn resolved(&self, dir: &Path) -> Result<Resolved, Error> {
        let mut resolved = self.unnamed(dir)?;
        let crc = settings_crc32(&resolved.config, self.cell.kind);
        resolved.config.run.name = format!("{}-{crc:08x}", self.name());
        Ok(resolved)
    }

    fn unnamed(&self, dir: &Path) -> Result<Resolved, Error> {
        let steps = self.cell.steps(self.budget);
        let quarter = (steps / 4).to_string();
        let judge = self.judge().map(|judge| judge.folder(dir)).transpose()?.unwrap_or_default();
        let judge = judge.display().to_string();
        let settings = self.cell.settings.iter();
        let settings =
            settings.map(|own| own.replace("{quarter}", &quarter).replace("{judge}", &judge));
        let own = [
            format!("run.dir={:?}", dir.display().to_string()),
            format!("run.seed={}", self.seed),
            format!("train.steps={steps}"),
            format!("eval.arms=[{:?}]", self.cell.arm.as_str()),
            format!("eval.every={}", (steps / POINTS).max(1)),
            format!("save.every={}", (steps / SAVES).max(1)),
            "save.keep=1".to_owned(),
            "save.keep_best=0".to_owned(),
            "log.every=1000000".to_owned(),
        ];
        let start = self.start().map(|start| start.checkpoint(dir)).transpose()?;
        let start = start.map(|path| format!("model.path={:?}", path.display().to_string()));
        let loader = Loader::new().text(self.table.name, self.table.base);
        // The cell's settings are last: they may, for one, evaluate more rarely.
        let loader = loader.overrides(own).overrides(start).overrides(settings);
        loader.load().map_err(|error| Error::Config { report: error.to_string() })
    }

    /// The unit whose model it begins with.
    #[must_use]
    pub fn start(&self) -> Option<Self> {
        let cell = self.table.cell(self.cell.start?)?;
        Some(Self { cell, ..*self })
    }

    /// The unit whose classifier rewards it.
    fn judge(&self) -> Option<Self> {
        let cell = self.table.cell(self.cell.judge?)?;
        Some(Self { cell, ..*self })
    }

    /// The units that have to be there before it begins.
    pub(super) fn needs(&self) -> impl Iterator<Item = Self> {
        self.start().into_iter().chain(self.judge())
    }

    /// Where its run lies, or its classifier.
    fn folder(&self, dir: &Path) -> Result<PathBuf, Error> {
        Ok(dir.join(self.resolved(dir)?.config.run.name))
    }

    /// Where its last checkpoint lies.
    fn checkpoint(&self, dir: &Path) -> Result<PathBuf, Error> {
        let run = self.folder(dir)?;
        Ok(run.join(CHECKPOINTS).join(format!("step-{:06}", self.cell.steps(self.budget))))
    }

    /// The result, where it is there already and of these settings.
    #[must_use]
    pub fn finished(&self, dir: &Path) -> Option<UnitResult> {
        let text = fs::read_to_string(self.path(dir)).ok()?;
        let found: UnitResult = serde_json::from_str(&text).ok()?;
        let wanted = settings_crc32(&self.resolved(dir).ok()?.config, self.cell.kind);
        let there = self.cell.kind != Kind::Judge || self.folder(dir).is_ok_and(|own| own.is_dir());
        (found.settings_crc32 == wanted && there).then_some(found)
    }

    fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.json", self.name()))
    }

    /// Trains, going on where it was killed, measures, and writes the result.
    ///
    /// # Errors
    /// Those of the training, and of the disk.
    pub fn run(&self, dir: &Path, device: &Device) -> Result<UnitResult, Error> {
        let resolved = self.resolved(dir)?;
        let config = &resolved.config;
        let options = TrainOptions { resume: Resume::Auto, ..TrainOptions::default() };
        let revision = self.revision_of(&dir.join(format!("{}.revision", config.run.name)))?;
        let task = Task::new(&config.task)?;
        let task = task.ok_or_else(|| Error::Config {
            report: format!("`task.name` of the table is {:?}", config.task.name.as_str()),
        })?;
        if self.cell.kind == Kind::Judge {
            let found = judge::train(config, &task, &self.folder(dir)?, device)?;
            let measured = Measured {
                right: found.right,
                judges_trained: Some(found.trained),
                ..Measured::default()
            };
            let result = UnitResult {
                seconds: found.seconds,
                parameters: found.parameters,
                ..self.result(config, revision, measured)
            };
            return self.write(dir, result);
        }
        let trained = train(&resolved, device, &options)?;
        let own = trained.results.arms.first();
        let own = own.ok_or_else(|| Error::Runtime { what: "no arm was trained".into() })?;
        let files = ModelFiles::open(Path::new(&own.checkpoint))?;
        let model = Transformer::open(&files, device, DType::F32)?;
        let cut = config
            .curriculum
            .cut_after(config.train.steps, config.curriculum.count(task.max_steps()));
        let asking = asking(self.cell.arm, config.soft.manner()?, cut, self.seed);
        let mut measured = measure(&model, &task, &asking, self.cell.kind)?;
        if let (Kind::Rewards, Some(start)) = (self.cell.kind, self.start()) {
            let files = ModelFiles::open(&start.checkpoint(dir)?)?;
            let before = Transformer::open(&files, device, DType::F32)?;
            measured.rewarded = Some(rewarded(config, &task, &asking, [&before, &model])?);
        }
        let metrics = read_jsonl(&trained.run_dir.join("metrics.jsonl"))?;
        let result = UnitResult {
            seconds: seconds(&trained.run_dir)?,
            parameters: own.parameters,
            curve: series(&metrics, "valid/accuracy"),
            belief_curve: series(&metrics, "valid/belief_kl"),
            ..self.result(config, revision, measured)
        };
        self.write(dir, result)
    }

    /// What is known of every unit.
    fn result(&self, config: &Config, revision: String, measured: Measured) -> UnitResult {
        UnitResult {
            cell: self.cell.name.to_owned(),
            seed: self.seed,
            settings_crc32: settings_crc32(config, self.cell.kind),
            revision,
            steps: config.train.steps,
            batch: config.train.micro_batch * config.train.grad_accum,
            seconds: [0.0; 2],
            parameters: 0,
            learning_rate: config.train.lr,
            curve: Vec::new(),
            belief_curve: Vec::new(),
            measured,
        }
    }

    fn write(&self, dir: &Path, result: UnitResult) -> Result<UnitResult, Error> {
        let text = serde_json::to_string(&result)
            .map_err(|error| Error::Runtime { what: format!("the result of a unit: {error}") })?;
        replace_file(&self.path(dir), text.as_bytes())?;
        Ok(result)
    }

    /// The revision that began the training, which a file beside it keeps.
    fn revision_of(&self, path: &Path) -> Result<String, Error> {
        if let Ok(revision) = fs::read_to_string(path) {
            return Ok(revision);
        }
        replace_file(path, self.revision.as_bytes())?;
        Ok(self.revision.to_owned())
    }
}

/// Of everything but where the run lies, and of what is measured.
fn settings_crc32(config: &Config, kind: Kind) -> u32 {
    let mut config = config.clone();
    let dir = std::mem::take(&mut config.run.dir);
    // Whose model it begins with, wherever that lies.
    config.model.path = config.model.path.map(|path| path.replace(&dir, ""));
    config.rl.reward_model = config.rl.reward_model.replace(&dir, "");
    config.run.name.clear();
    crc32fast::hash(format!("{VERSION} {kind:?}\n{}", config.to_toml()).as_bytes())
}

fn series(metrics: &[Value], key: &str) -> Vec<(u64, f64)> {
    let point = |record: &Value| Some((record["step"].as_u64()?, record[key].as_f64()?));
    metrics.iter().filter_map(point).collect()
}

/// Seconds of all steps, of the clock and of the processor.
fn seconds(run_dir: &Path) -> Result<[f64; 2], Error> {
    let times = read_jsonl(&run_dir.join("times.jsonl"))?;
    let sum = |key: &str| times.iter().filter_map(|time| time[key].as_f64()).sum();
    Ok([sum("seconds"), sum("processor_seconds")])
}
