//! `cargo xtask train`: builds `soft` once, then becomes `soft train`.

use std::path::Path;
use std::process::Command;

use crate::process::{Failure, Outcome, cargo, debug_dir, exit_code, metadata, run as run_child};

/// Builds `soft`, then runs `soft train ARGUMENTS` in the caller's folder, with its exit code.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let soft = debug_dir(&metadata()?)?.join(format!("soft{}", std::env::consts::EXE_SUFFIX));
    if !soft.exists() {
        eprintln!(
            "Building `soft` with its tensor library, once: about 9 minutes on 2 cores.\n\
             A later build takes seconds; `cargo xtask test` uses the same one."
        );
    }
    // The features and profile of `cargo test --workspace`: no dependency is compiled twice.
    run_child(cargo().args(["build", "--package", "soft-cli"]), "cargo build")?;
    become_program(&soft, arguments)
}

/// Replaces this process, so that signals and the exit code are those of `soft` itself.
#[cfg(unix)]
fn become_program(soft: &Path, arguments: &[String]) -> Outcome {
    use std::os::unix::process::CommandExt;
    let error = Command::new(soft).arg("train").args(arguments).exec();
    Err(Failure {
        message: format!("cannot start {}: {error}", soft.display()),
        code: exit_code(None),
    })
}

/// Runs `soft` and takes over its exit code.
#[cfg(not(unix))]
fn become_program(soft: &Path, arguments: &[String]) -> Outcome {
    match Command::new(soft).arg("train").args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure { message: String::new(), code: exit_code(status.code()) }),
        Err(error) => Err(Failure::new(format!("cannot start {}: {error}", soft.display()))),
    }
}
