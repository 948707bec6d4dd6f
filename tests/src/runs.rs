//! Whole runs of the trainer on problems that take it seconds, and what they leave on disk.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use soft_train::Error;
use soft_train::config::{self, Loader, TaskName};
use soft_train::run::{Resume, TrainOptions, Trained, train};
use soft_train::task::Task;
use tempfile::TempDir;

use crate::device;

/// The task of all of them.
const TINY: &str = r#"
[model]
d_model = 16
n_layers = 2
n_heads = 2
[task]
name = "mnns"
digits = 3
digit_max = 5
[train]
steps = 20
micro_batch = 8
lr = 1e-2
[log]
every = 1000
"#;

/// The minimum non-negative sum of `digits` digits from 1 to `digit_max`.
pub fn mnns(digits: usize, digit_max: usize) -> Task {
    let name = TaskName::Mnns;
    let settings = config::Task { name, digits, digit_max, ..config::Task::default() };
    Task::new(&settings).expect("a size that can be had").expect("it is generated")
}

/// A folder for runs, deleted at the end where it is our own.
#[derive(Debug)]
pub struct Runs {
    folder: PathBuf,
    _own: Option<TempDir>,
}

impl Runs {
    /// A new folder.
    pub fn temporary() -> Self {
        let own = TempDir::new().expect("a temporary folder");
        Self { folder: own.path().to_owned(), _own: Some(own) }
    }

    /// A folder that is there, and stays.
    pub fn within(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), _own: None }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Trains the tiny task under the run name `name`, with settings over it.
    ///
    /// # Errors
    /// Those of the training.
    pub fn try_train(
        &self,
        name: &str,
        settings: &[String],
        resume: Resume,
    ) -> Result<Trained, Error> {
        let options = TrainOptions { resume, ..TrainOptions::default() };
        self.try_with(name, settings, &options)
    }

    /// [`Runs::try_train`] with all its options.
    ///
    /// # Errors
    /// Those of the training.
    pub fn try_with(
        &self,
        name: &str,
        settings: &[String],
        options: &TrainOptions,
    ) -> Result<Trained, Error> {
        let own = [format!("run.dir={:?}", self.folder), format!("run.name={name:?}")];
        let loader = Loader::new().text("tiny", TINY).overrides(own).overrides(settings);
        train(&loader.load()?, &device(), options)
    }

    /// Trains a new run.
    ///
    /// # Panics
    /// If it fails.
    pub fn train(&self, name: &str, settings: &[&str]) -> Trained {
        self.resumed(name, settings, Resume::Never)
    }

    /// Trains a run, or goes on with it.
    ///
    /// # Panics
    /// If it fails.
    pub fn resumed(&self, name: &str, settings: &[&str], resume: Resume) -> Trained {
        self.try_train(name, &owned(settings), resume).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Why a training is refused.
    ///
    /// # Panics
    /// If it is not.
    pub fn error(&self, name: &str, settings: &[&str], resume: Resume) -> Error {
        self.try_train(name, &owned(settings), resume).expect_err("must be refused")
    }
}

/// Settings as the loader takes them.
pub fn owned(settings: &[&str]) -> Vec<String> {
    settings.iter().map(ToString::to_string).collect()
}

/// The bytes of a file.
///
/// # Panics
/// If it cannot be read.
pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of JSON.
///
/// # Panics
/// If it is not one.
pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).expect("JSON")
}

/// The record of every step.
///
/// # Panics
/// If it cannot be read.
pub fn metrics(run_dir: &Path) -> Vec<Value> {
    json_lines(&run_dir.join("metrics.jsonl"))
}

/// A file of one JSON object a line.
///
/// # Panics
/// If it cannot be read.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = String::from_utf8(read(path)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// One key of every step's record.
///
/// # Panics
/// If that fails.
pub fn series(run_dir: &Path, key: &str) -> Vec<f64> {
    let steps = metrics(run_dir);
    steps
        .iter()
        .filter_map(|record| record.get(key))
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

/// The checkpoint of a step.
pub fn checkpoint(run_dir: &Path, step: usize) -> PathBuf {
    run_dir.join("checkpoints").join(format!("step-{step:06}"))
}

/// Names, shapes and bytes of every tensor in a file, sorted; nothing where there is no file.
///
/// # Panics
/// If that fails.
pub fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    if !path.exists() {
        return Vec::new();
    }
    let bytes = read(path);
    let stored = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut all: Vec<_> = stored
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    all.sort();
    all
}

/// Everything that a run computed up to a step, but for the time it took. The optimizer's file is
/// left out: it holds its tensors in no fixed order. A run that goes on from it shows what is in it.
///
/// # Panics
/// If that fails.
pub fn assert_same_outcome(a: &Path, b: &Path, step: usize, what: &str) {
    for (a, b) in metrics(a).iter().zip(&metrics(b)) {
        assert_eq!(a, b, "{what}");
    }
    assert_eq!(metrics(a).len(), metrics(b).len(), "{what}");
    let wrote = [a, b].map(|run| fs::read(run.join("completions.jsonl")).unwrap_or_default());
    assert!(wrote[0] == wrote[1], "{what}: what rows wrote differs");
    let (at, bt) = (checkpoint(a, step), checkpoint(b, step));
    assert_eq!(state(&at, false), state(&bt, false), "{what}");
    for file in ["model.safetensors", "soft_adapter.safetensors", "value_head.json"] {
        let present = [&at, &bt].map(|folder| folder.join(file).exists());
        assert_eq!(present[0], present[1], "{what}: {file}");
        let same = !present[0] || read(&at.join(file)) == read(&bt.join(file));
        assert!(same, "{what}: {file} differs");
    }
}

/// `state.json` of a checkpoint, with or without the time spent.
///
/// # Panics
/// If that fails.
pub fn state(checkpoint: &Path, with_seconds: bool) -> Value {
    let mut state = read_json(&checkpoint.join("state.json"));
    let seconds = state.as_object_mut().and_then(|state| state.remove("seconds"));
    if with_seconds {
        state["seconds"] = seconds.expect("the time spent");
    }
    state
}

/// Lines that count upwards from two starts, and a few of them held out.
///
/// # Panics
/// If that fails.
pub fn write_counting_lines(runs: &Runs, soft: bool) -> [String; 2] {
    let line = |start: u32| {
        let ids: Vec<u32> = (0..8).map(|t| (start + t) % 12).collect();
        match soft {
            true => json!({
                "ids": ids, "soft": [0, 0, 1, 1, 0, 0, 0, 0], "weight": [0, 0, 1, 1, 1, 1, 1, 1]
            }),
            false => json!({ "ids": ids }),
        }
    };
    let file = |name: &str, starts: std::ops::Range<u32>| {
        let path = runs.path(name);
        let lines: Vec<String> = starts.map(|start| line(start).to_string()).collect();
        fs::write(&path, lines.join("\n") + "\n").expect("written");
        path.display().to_string()
    };
    let (train, valid) = (file("train.jsonl", 0..12), file("valid.jsonl", 3..6));
    [format!("data.train={train:?}"), format!("data.valid={valid:?}")]
}
