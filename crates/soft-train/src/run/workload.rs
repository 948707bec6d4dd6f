//! What the memory of a run depends on.

use std::fs;
use std::path::Path;

use super::base_model::Base;
use super::{Problem, model, trained_arms};
use crate::config::Config;
use crate::error::Error;
use crate::memory::Workload;

/// The workload of a run.
///
/// # Errors
/// A model or examples that cannot be had.
pub(super) fn of(config: &Config, problem: &Problem) -> Result<Workload, Error> {
    let arms = trained_arms(config, problem).into_iter();
    let arms = arms.map(|arm| Ok((arm, problem.stages(config, arm)?)));
    let arms = arms.collect::<Result<_, Error>>()?;
    let (shape, there, new_tokens) = match Base::open(config)? {
        None => (model::new_shape(config, problem), 0, 0),
        Some(base) => {
            let mut shape = base.files.config.clone();
            shape.vocab_size = base.vocab_size;
            (shape, base.files.added_parameters(), base.new_ids.len())
        }
    };
    let path = config.model.path.as_deref().map(Path::new);
    let (valid, asks) = match problem {
        Problem::Task(_) => (Vec::new(), true),
        Problem::Examples { valid, .. } => (valid.clone(), false),
    };
    let file_bytes = path.map_or(0, bytes_of);
    Ok(Workload { shape, there, new_tokens, file_bytes, arms, valid, asks })
}

/// Bytes of a file, or of the largest file of a folder; 0 where there is none.
fn bytes_of(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len());
    let own = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len());
    own.or(sizes.max()).unwrap_or(0)
}
