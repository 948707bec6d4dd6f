//! `cargo xtask VERB`: builds with the right features and hands over to the program that does the
//! work. Nothing here computes anything.
#![deny(missing_docs)]

mod bench;
mod ci;
mod examples;
mod fetch;
mod fuzz;
mod matrix;
mod process;
mod reliability;
mod reproduce;
mod soak;
mod study;
mod test;
mod tidy;
mod train;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask VERB

  train [ARGS..]             build `soft` and run `soft train ARGS`; without ARGS, the quickstart
  test [ARGS..]              every test of the workspace; ARGS go to `cargo test`
       [--list-reliability]  then how each promise of the reliability list did
  bench [NAMES..] [-- ARGS]  the benchmarks, all or those named
  study [PARTS..]            the measurements of docs/temperature-and-filters.md
  matrix [LANES..]           the same tests on flex, ndarray, wgpu, cuda, vulkan
         [--require LANE]    a skip of LANE is a failure
  fuzz [TARGETS..]           feed files from strangers to what reads them (nightly toolchain)
       [--seconds N] [--keep]  of each target; put what was found into fuzz/corpus
  soak [--kills N] [--seed N] [--on truth|rewards]
                               kill a training again and again; it must end as one that was not
  reproduce [TABLE]          a published table beside our own figures, into results/ and docs/results/
       [--budget quick|full] [--minutes N]  stopped, it goes on where it was
  fetch [smollm2]            put a small real model where SOFT_MODELS looks
  tidy                       house rules: crate directions, file headers, names, sizes
  ci                         fmt, tidy, clippy, test, doc, examples, matrix: what `.ci/run` runs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((verb, rest)) = arguments.split_first() else {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    };
    let outcome = match verb.as_str() {
        "train" => train::run(rest),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "study" => study::run(rest),
        "matrix" => matrix::run(rest),
        "fuzz" => fuzz::run(rest),
        "soak" => soak::run(rest),
        "reproduce" => reproduce::run(rest),
        "fetch" => fetch::run(rest),
        "tidy" => tidy::run(),
        "ci" => ci::run(),
        "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => {
            eprintln!("xtask: unknown verb \"{other}\"\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("xtask: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}
