//! `cargo xtask bench`: the programs of the package `soft-tests` whose name starts with `bench-`.

use std::process::Command;

use crate::process::{Failure, Outcome, cargo, debug_dir, metadata, run as run_child};
use crate::process::{targets, workspace_root};

const PACKAGE: &str = "soft-tests";
const PREFIX: &str = "bench-";

/// Runs the benchmarks named before `--` (all, if none is), each with the arguments after it.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let (wanted, forwarded) = split(arguments);
    let metadata = metadata()?;
    let known: Vec<String> = targets(&metadata, PACKAGE, "bin")
        .into_iter()
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    let chosen = choose(&known, wanted)?;

    // `--workspace` keeps the features of the test build; see test.rs.
    let mut build = cargo();
    build.args(["build", "--workspace"]);
    for name in &chosen {
        build.args(["--bin", name]);
    }
    run_child(&mut build, "cargo build")?;
    let folder = debug_dir(&metadata)?;
    for name in &chosen {
        println!("=== {name}");
        let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        run_child(Command::new(program).args(forwarded).current_dir(workspace_root()), name)?;
    }
    Ok(())
}

/// The arguments before and after `--`.
fn split(arguments: &[String]) -> (&[String], &[String]) {
    match arguments.iter().position(|argument| argument == "--") {
        Some(place) => (&arguments[..place], &arguments[place + 1..]),
        None => (arguments, &[]),
    }
}

/// The benchmarks to run; a name may leave out `bench-`.
fn choose(known: &[String], wanted: &[String]) -> Result<Vec<String>, Failure> {
    if known.is_empty() {
        return Err(Failure::new(format!("package {PACKAGE} has no program \"{PREFIX}*\"")));
    }
    if wanted.is_empty() {
        return Ok(known.to_vec());
    }
    let find = |name: &String| {
        let full = format!("{PREFIX}{}", name.trim_start_matches(PREFIX));
        if known.contains(&full) {
            return Ok(full);
        }
        let message = format!("unknown benchmark \"{name}\": there are {}", known.join(", "));
        Err(Failure { message, code: 2 })
    };
    wanted.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_follows_two_dashes_goes_to_the_benchmark() {
        let arguments = words("decode -- --steps 3");
        let (wanted, forwarded) = split(&arguments);
        assert_eq!(wanted, ["decode"]);
        assert_eq!(forwarded, ["--steps", "3"]);
    }

    #[test]
    fn a_benchmark_is_found_by_its_short_name_and_an_unknown_one_is_an_error() {
        let known = words("bench-decode bench-rollout");
        assert_eq!(choose(&known, &words("rollout")).expect("known"), ["bench-rollout"]);
        assert_eq!(choose(&known, &[]).expect("all"), known);
        let failure = choose(&known, &words("speed")).expect_err("unknown");
        assert_eq!(
            failure.message,
            "unknown benchmark \"speed\": there are bench-decode, bench-rollout"
        );
    }
}
