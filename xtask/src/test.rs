//! `cargo xtask test`: every test of the workspace, doctests included.

use crate::process::{Outcome, cargo, run as run_child};

/// Runs `cargo test --workspace ARGUMENTS`.
///
/// Always the whole workspace, never one package: cargo unites features over the packages that it
/// is asked for, so `-p soft-core` alone compiles Burn a second time with fewer of them.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    run_child(cargo().args(["test", "--workspace"]).args(arguments), "cargo test")
}
