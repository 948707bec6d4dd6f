//! `cargo xtask test`: every test of the workspace, doctests included.

use crate::fetch;
use crate::process::{Outcome, cargo, run as run_child};
use crate::reliability;

/// Runs `cargo test --workspace ARGUMENTS`.
///
/// Always the whole workspace, never one package: cargo unites features over the packages that it
/// is asked for, so `-p soft-core` alone compiles Burn a second time with fewer of them.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let outcome = match arguments.iter().position(|argument| argument == "--list-reliability") {
        Some(at) => reliability::run(&[&arguments[..at], &arguments[at + 1..]].concat()),
        None => run_child(cargo().args(["test", "--workspace"]).args(arguments), "cargo test"),
    };
    // Aloud, and at the end: the test harness shows no output of a test that passes.
    if let Some(missing) = fetch::missing() {
        println!("\n{missing}");
    }
    outcome
}
