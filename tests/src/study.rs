//! What the studies share: small trainings from one base a seed, and tables of their figures.

pub mod chart;
pub mod learned;
pub mod order;

use std::path::{Path, PathBuf};

use soft_train::config::{Config, Loader};
use soft_train::results::Results;
use soft_train::run::{Resume, TrainOptions, Trained, train};

use crate::device;

/// Seeds that every training runs with.
pub const SEEDS: [u64; 3] = [1, 2, 3];

/// A teacher-forced model of MNNS: where the trainings of the studies begin.
const BASE: &str = r#"
[model]
d_model = 32
n_layers = 2
n_heads = 2
dropout = 0.1
[task]
name = "mnns"
digits = 4
digit_max = 9
[train]
steps = 2000
micro_batch = 64
lr = 5e-3
warmup = 100
schedule = "cosine"
min_lr = 5e-5
[log]
every = 1000
[eval]
arms = ["soft", "soft_fed_hard"]
"#;

/// What goes on from it, feeding itself its own mixtures.
const FREE: &str = r#"
[model]
dropout = 0.1
[task]
name = "mnns"
digits = 4
digit_max = 9
[rollout]
kind = "sequential"
[guidance]
start = 0.0
[train]
steps = 250
micro_batch = 32
lr = 1e-3
warmup = 20
[log]
every = 50
[eval]
arms = ["soft", "soft_fed_hard"]
"#;

/// Where the trainings of a study lie. One that is there already is not trained again, and one that
/// was killed goes on.
#[derive(Debug, Clone)]
pub struct Study {
    dir: PathBuf,
}

impl Study {
    /// The trainings under `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The checkpoint of the base of a seed.
    ///
    /// # Errors
    /// Those of the training.
    pub fn base(&self, seed: u64) -> Result<PathBuf, soft_train::Error> {
        self.base_run(seed).map(|trained| checkpoint(&trained))
    }

    /// The training of the base of a seed.
    ///
    /// # Errors
    /// Those of the training.
    pub fn base_run(&self, seed: u64) -> Result<Trained, soft_train::Error> {
        self.run(&format!("base-{seed}"), BASE, seed, &[])
    }

    /// A training that goes on from the base of its seed.
    ///
    /// # Errors
    /// Those of the training.
    pub fn tuned(
        &self,
        name: &str,
        seed: u64,
        settings: &[String],
    ) -> Result<Trained, soft_train::Error> {
        let base = format!("model.path={:?}", self.base(seed)?.display().to_string());
        let settings: Vec<String> = settings.iter().cloned().chain([base]).collect();
        self.run(&format!("{name}-{seed}"), FREE, seed, &settings)
    }

    /// A training of `text` with settings over it, from where it stands.
    ///
    /// # Errors
    /// Those of the training.
    pub fn run(
        &self,
        name: &str,
        text: &str,
        seed: u64,
        settings: &[String],
    ) -> Result<Trained, soft_train::Error> {
        let own = [
            format!("run.dir={:?}", self.dir.display().to_string()),
            format!("run.name={name:?}"),
            format!("run.seed={seed}"),
        ];
        let loader = Loader::new().text("study", text).overrides(own).overrides(settings);
        let resolved = loader.load()?;
        let run_dir = self.dir.join(name);
        if let Some(results) = finished(&run_dir, &resolved.config) {
            return Ok(Trained { run_dir, results, table: String::new() });
        }
        eprintln!("{name}");
        let options = TrainOptions { resume: Resume::Auto, ..TrainOptions::default() };
        train(&resolved, &device(), &options)
    }

    /// A file of the study.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The results of a run that came to its end under this configuration: one that is being made longer
/// has those of its shorter self until then.
fn finished(run_dir: &Path, config: &Config) -> Option<Results> {
    let read = |name: &str| std::fs::read_to_string(run_dir.join(name)).ok();
    let same = read("config.toml").is_some_and(|began| began == config.to_toml());
    let ended = crate::runs::checkpoint(run_dir, config.train.steps).exists();
    (same && ended).then(|| serde_json::from_str(&read("results.json")?).ok()).flatten()
}

/// The checkpoint that a training on MNNS ended with.
fn checkpoint(trained: &Trained) -> PathBuf {
    trained.results.arms.first().map_or_else(PathBuf::new, |arm| PathBuf::from(&arm.checkpoint))
}

/// The steps of a series in `metrics.jsonl`, with their values.
pub fn course(run_dir: &Path, key: &str) -> Vec<(f64, f64)> {
    let records = crate::runs::metrics(run_dir);
    let point =
        |record: &serde_json::Value| Some((record["step"].as_f64()?, record[key].as_f64()?));
    records.iter().filter_map(point).collect()
}

/// Mean of a few values, and the least and the greatest of them.
pub fn spread(values: &[f64], digits: usize) -> String {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.is_empty() {
        return "–".to_owned();
    }
    format!("{mean:.digits$} ({least:.digits$} to {most:.digits$})")
}

/// A table in Markdown.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rule: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
    line(&head) + &line(&rule) + &rows.iter().map(|row| line(row)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_mean_and_both_ends_and_a_table_its_rule() {
        assert_eq!(spread(&[1.0, 2.0, 6.0], 1), "3.0 (1.0 to 6.0)");
        assert_eq!(spread(&[], 1), "–");
        let found = table(&["a", "b"], &[vec!["1".to_owned(), "2".to_owned()]]);
        assert_eq!(found, "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
