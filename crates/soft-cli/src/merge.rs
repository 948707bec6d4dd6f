//! `soft merge`: an adapter's low-rank branches folded into its model's weights.

use std::path::Path;

use soft_model::{Difference, ModelFiles, Transformer, probe_ids, write_folder};

use crate::arguments::{Global, Merge};
use crate::failure::Failure;
use crate::generate::{load, open_files};
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::{Without, loader};

/// Texts that merged and unmerged logits are compared on, where the model has a tokenizer.
const TEXTS: [&str; 3] = [
    "The capital of France is Paris, and the capital of Italy is",
    "If a train leaves at nine and takes two and a half hours, it arrives at",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
];

/// Greatest difference of a logit that a merge may make.
const TOLERANCE: f64 = 1e-3;

/// Runs the verb.
pub(crate) fn run(arguments: &Merge, global: &Global) -> Result<(), Failure> {
    check_new(&arguments.out)?;
    let resolved = loader(None, global, Without::Defaults).load()?;
    let files = open_files(&arguments.model, arguments.adapter.as_deref())?;
    let model = load(&files, &resolved)?;
    let (merged, difference) = merged(&files, model)?;
    write_folder(&arguments.out, |folder| files.save_model(&merged, folder)).map_err(written)?;
    let mut out = Output::new();
    out.line(told(&difference))?;
    out.line(format!("model: {}", arguments.out.display()))?;
    out.flush()
}

/// The merged model, and how far its logits are from the unmerged ones.
pub(crate) fn merged(
    files: &ModelFiles,
    model: Transformer,
) -> Result<(Transformer, Difference), Failure> {
    let mut sequences = probe_ids(&files.config);
    if let Some(tokenizer) = &files.tokenizer {
        // The vocabulary of a task has no such words: the ids above are all there is then.
        sequences.extend(TEXTS.iter().filter_map(|text| tokenizer.encode(text, true).ok()));
    }
    sequences.iter_mut().for_each(|ids| ids.truncate(files.context()));
    let merged = model.clone().merged()?;
    let progress = Progress::new("comparing merged and unmerged logits");
    let difference = model.difference(&merged, &sequences)?;
    drop(progress);
    if difference.greatest <= TOLERANCE {
        return Ok((merged, difference));
    }
    Err(Failure::model(format!(
        "{}; expected at most {TOLERANCE:e}: nothing was written, keep the adapter unmerged",
        told(&difference)
    )))
}

pub(crate) fn told(difference: &Difference) -> String {
    format!(
        "merged and unmerged logits differ by at most {:.1e}; greedy tokens agree at {} of {} \
         positions",
        difference.greatest, difference.same_greedy, difference.positions
    )
}

/// Refuses a folder that exists before anything is read for it.
pub(crate) fn check_new(out: &Path) -> Result<(), Failure> {
    match out.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(Failure::usage(format!(
            "{} exists already; expected the name of a new folder",
            out.display()
        ))),
    }
}

/// A folder that cannot be written is no fault of the model.
pub(crate) fn written(error: soft_model::Error) -> Failure {
    match error {
        soft_model::Error::Io { .. } => Failure::disk(error.to_string()),
        other => other.into(),
    }
}
