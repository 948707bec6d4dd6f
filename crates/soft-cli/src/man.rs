//! `soft man FOLDER`.

use std::path::Path;

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Output;

/// Writes a page for the command and for each of its verbs into a folder.
pub(crate) fn run(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::disk(format!("cannot write manual pages to {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut command = Arguments::command();
    // Names such as `soft data check` are made when the command is built.
    command.build();
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    let mut out = Output::new();
    out.line(format!("man -l {}", folder.join("soft.1").display()))?;
    out.flush()
}
