//! The programs of `examples/`: each must run to its end.

use std::process::Command;
use std::time::Instant;

use crate::process::{Failure, Outcome, cargo, debug_dir, metadata, run as run_child};
use crate::process::{targets, workspace_root};

/// Builds all examples, then runs each without arguments.
pub(crate) fn run() -> Outcome {
    let metadata = metadata()?;
    let names = targets(&metadata, "soft-examples", "example");
    if names.is_empty() {
        return Err(Failure::new("package soft-examples has no example"));
    }
    // `--workspace` keeps the features of the test build; see test.rs.
    run_child(cargo().args(["build", "--workspace", "--examples"]), "cargo build --examples")?;
    let folder = debug_dir(&metadata)?.join("examples");
    for name in &names {
        println!("--- example {name}");
        let started = Instant::now();
        let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        run_child(Command::new(program).current_dir(workspace_root()), &format!("example {name}"))?;
        println!("--- {:.1} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}
