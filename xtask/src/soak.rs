//! `cargo xtask soak`: a training that is killed again and again ends as one that was not.

use std::process::Command;

use crate::process::{Outcome, cargo, debug_dir, metadata, run as run_child, workspace_root};

const PROGRAM: &str = "soak";

/// Runs the program of this name with these arguments (`[--kills N] [--seed N] [--on truth|rewards]`).
pub(crate) fn run(arguments: &[String]) -> Outcome {
    // `--workspace` keeps the features of the test build; see test.rs.
    run_child(cargo().args(["build", "--workspace", "--bin", PROGRAM]), "cargo build")?;
    let folder = debug_dir(&metadata()?)?;
    let program = folder.join(format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX));
    run_child(Command::new(program).args(arguments).current_dir(workspace_root()), PROGRAM)
}
