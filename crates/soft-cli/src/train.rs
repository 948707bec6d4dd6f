//! `soft train`.

use crate::arguments::{Global, Train};
use crate::failure::Failure;
use crate::settings::{Without, loader};

/// Runs the verb.
pub(crate) fn run(arguments: &Train, global: &Global) -> Result<(), Failure> {
    let resolved = loader(Some(&arguments.source), global, Without::Quickstart).load()?;
    resolved.require_training()?;
    crate::settings::device(&resolved)?;
    Ok(())
}
