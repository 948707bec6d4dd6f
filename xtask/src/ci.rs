//! `cargo xtask ci`: everything that must hold before a change is taken, cheapest first.

use std::time::{Duration, Instant};

use crate::process::{Failure, Outcome, cargo, run as run_child};
use crate::{examples, matrix, test, tidy};

/// A name, and what it does.
type Stage = (&'static str, fn() -> Outcome);

/// The stages in the order they run.
const STAGES: [Stage; 7] = [
    ("fmt", fmt),
    ("tidy", tidy::run),
    ("clippy", clippy),
    ("doc", doc),
    ("test", || test::run(&[])),
    ("examples", examples::run),
    ("matrix", || matrix::run(&["--require".into(), "wgpu".into()])),
];

/// Runs the stages until one fails; prints what each took.
pub(crate) fn run() -> Outcome {
    let mut done: Vec<(&str, Duration)> = Vec::new();
    for (name, stage) in STAGES {
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = stage();
        done.push((name, started.elapsed()));
        println!("=== {name}: {:.0} s", started.elapsed().as_secs_f64());
        if let Err(failure) = outcome {
            print_summary(&done, Some(name));
            return Err(Failure { message: format!("{name}: {}", failure.message), ..failure });
        }
    }
    print_summary(&done, None);
    Ok(())
}

fn print_summary(done: &[(&str, Duration)], failed: Option<&str>) {
    println!("\nstage      seconds");
    for (name, time) in done {
        let mark = if failed == Some(*name) { "  FAILED" } else { "" };
        println!("{name:<10} {:>7.0}{mark}", time.as_secs_f64());
    }
    let total: f64 = done.iter().map(|(_, time)| time.as_secs_f64()).sum();
    println!("{:<10} {total:>7.0}", "total");
}

fn fmt() -> Outcome {
    run_child(cargo().args(["fmt", "--all", "--check"]), "cargo fmt --check")
}

fn clippy() -> Outcome {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    run_child(&mut command, "cargo clippy")
}

/// Shares its pass over the dependencies with clippy.
fn doc() -> Outcome {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    run_child(&mut command, "cargo doc")
}
