//! The files of a run directory, as far as they are there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::evaluation::EvalResults;
use super::trace::broken;
use super::training::TrainResults;
use crate::error::Error;
use crate::run::data_card::DataCard;
use crate::run_dir::{
    BEFORE, COMPLETIONS, CONFIG, DATA, ENVIRONMENT, METRICS, NONFINITE, ORIGINS, RESULTS, SAMPLES,
    TIMES, TRACES, read_jsonl,
};

/// Folder of the arms after the first.
const ARMS: &str = "arms";
/// The version of an evaluation's results that this program reads.
const EVAL_VERSION: u64 = 1;

/// What a run left behind.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) path: PathBuf,
    pub(super) results: Option<Results>,
    /// Steps of the first arm, and of each further one.
    pub(super) metrics: Vec<ArmMetrics>,
    pub(super) config: Option<String>,
    pub(super) environment: Option<String>,
    /// Where each setting came from that was set, by key.
    pub(super) origins: BTreeMap<String, String>,
    pub(super) data: Option<DataCard>,
    /// What the model of a training wrote at each evaluation.
    pub(super) samples: Vec<Value>,
    /// The sampled rows, where there are some.
    pub(super) traces: Option<PathBuf>,
}

/// The steps of one arm.
#[derive(Debug)]
pub(super) struct ArmMetrics {
    /// The folder of the arm; `None` for the first, which has none.
    pub(super) name: Option<String>,
    pub(super) records: Vec<Value>,
    /// What each step took.
    pub(super) times: Vec<Value>,
    /// Steps that were not finite.
    pub(super) broken: Vec<Value>,
    /// What rows of a group wrote, of a run on rewards.
    pub(super) completions: Vec<Value>,
}

/// `results.json`.
#[derive(Debug)]
pub(super) enum Results {
    Evaluation(EvalResults),
    Training(TrainResults),
}

impl Run {
    /// Reads a run directory.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if a file is broken, or if nothing here was left by a run.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let traces = Some(path.join(TRACES)).filter(|traces| traces.is_file());
        let run = Self {
            path: path.to_path_buf(),
            samples: read_jsonl(&path.join(SAMPLES))?,
            results: read_results(&path.join(RESULTS))?,
            metrics: read_metrics(path)?,
            config: read_text(&path.join(CONFIG))?,
            environment: read_text(&path.join(ENVIRONMENT))?,
            origins: read_json(&path.join(ORIGINS))?.unwrap_or_default(),
            data: read_json(&path.join(DATA))?,
            traces,
        };
        if run.results.is_none() && run.metrics.is_empty() && run.traces.is_none() {
            let report = format!(
                "{}: no {RESULTS}, {METRICS} or {TRACES} in this directory; expected one that \
                 `soft train` or `soft eval` made",
                path.display()
            );
            return Err(Error::Data { report });
        }
        Ok(run)
    }
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::Data { report: format!("cannot read {}: {error}", path.display()) })
        }
    }
}

/// A file that this program writes whole; none where an older one wrote none.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        let (column, problem) = broken(&error);
        let report = format!("{}:{}:{column}: {problem}", path.display(), error.line().max(1));
        Error::Data { report }
    })
}

/// The keys that say what a file of results is.
#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    version: Option<Value>,
}

fn read_results(path: &Path) -> Result<Option<Results>, Error> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let at = |error: serde_json::Error| {
        let (column, problem) = broken(&error);
        let report = format!("{}:{}:{column}: {problem}", path.display(), error.line().max(1));
        Error::Data { report }
    };
    let head: Head = serde_json::from_str(&text).map_err(at)?;
    let refused = |what: String| Error::Data { report: format!("{}:1:1: {what}", path.display()) };
    match head.kind.as_deref() {
        None => Ok(Some(Results::Training(serde_json::from_str(&text).map_err(at)?))),
        Some("eval") => match head.version {
            Some(version) if version.as_u64() == Some(EVAL_VERSION) => {
                Ok(Some(Results::Evaluation(serde_json::from_str(&text).map_err(at)?)))
            }
            version => {
                let found =
                    version.map_or_else(|| "no `version`".into(), |v| format!("version {v}"));
                let again = "make the evaluation again with this program";
                Err(refused(format!("{found}, expected {EVAL_VERSION}; {again}")))
            }
        },
        Some(kind) => Err(refused(format!(
            "results of kind {kind:?}, expected \"eval\" or those of a training"
        ))),
    }
}

fn read_metrics(path: &Path) -> Result<Vec<ArmMetrics>, Error> {
    let records = |folder: &Path| -> Result<Vec<Value>, Error> {
        Ok([read_jsonl(&folder.join(BEFORE))?, read_jsonl(&folder.join(METRICS))?].concat())
    };
    let arm = |folder: &Path, name: Option<String>| -> Result<ArmMetrics, Error> {
        let times = read_jsonl(&folder.join(TIMES))?;
        let broken = read_jsonl(&folder.join(NONFINITE))?;
        let completions = read_jsonl(&folder.join(COMPLETIONS))?;
        Ok(ArmMetrics { name, records: records(folder)?, times, broken, completions })
    };
    let mut metrics = vec![arm(path, None)?];
    // A run of one arm has no such folder.
    let entries = fs::read_dir(path.join(ARMS)).into_iter().flatten().flatten();
    let mut arms: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    arms.sort();
    for folder in arms {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        metrics.push(arm(&folder, name)?);
    }
    metrics.retain(|arm| !arm.records.is_empty() || !arm.broken.is_empty());
    Ok(metrics)
}
