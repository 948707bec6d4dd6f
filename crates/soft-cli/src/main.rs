//! `soft`: trains models that think softly, lets models generate softly, scores text.
//!
//! One file a verb; what they do lies in the libraries.
#![deny(missing_docs)]

mod allocator;
mod arguments;
mod completions;
mod config;
mod convert;
mod data_check;
mod doctor;
mod eval;
mod export;
mod failure;
mod generate;
mod man;
mod merge;
mod output;
mod progress;
mod prompts;
mod report;
mod score;
mod settings;
mod signals;
mod train;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, DataVerb, Verb};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// Freeing a long autodiff graph is recursive: 8 MiB are not always enough.
const STACK_BYTES: usize = 256 << 20;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let arguments = Arguments::parse();
    if !wants_backtrace(std::env::var_os("RUST_BACKTRACE").as_deref()) {
        // A panic ends as the one error that `Failure::panicked` prints, or is caught where a
        // library has it for an answer.
        std::panic::set_hook(Box::new(|_| {}));
    }
    if let Some(threads) = arguments.global.threads {
        set_threads(threads.get());
    }
    let worker = std::thread::Builder::new().name("soft".into()).stack_size(STACK_BYTES);
    let outcome = match worker.spawn(move || run(&arguments)) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| Err(Failure::panicked(&*panic))),
        Err(error) => Err(Failure::runtime(format!("cannot start a thread: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let global = &arguments.global;
    match &arguments.verb {
        Verb::Train(train) => train::run(train, global),
        Verb::Generate(generate) => generate::run(generate, global),
        Verb::Eval(eval) => eval::run(eval, global),
        Verb::Score(score) => score::run(score, global),
        Verb::Convert(convert) => convert::run(convert),
        Verb::Data(data) => match &data.verb {
            DataVerb::Check(check) => data_check::run(check, global),
        },
        Verb::Merge(merge) => merge::run(merge, global),
        Verb::Export(export) => export::run(export, global),
        Verb::Report(report) => report::run(report),
        Verb::Config(config) => config::run(config, global),
        Verb::Doctor(doctor) => doctor::run(doctor, global),
        Verb::Completions { shell } => completions::run(*shell),
        Verb::Man { folder } => man::run(folder),
    }
}

/// Whether `RUST_BACKTRACE` asks where a panic came from, as the standard library reads it.
fn wants_backtrace(variable: Option<&OsStr>) -> bool {
    variable.is_some_and(|value| value != "0")
}

/// Fixes the number of threads of the CPU backends, which read it once, at their first use.
#[expect(unsafe_code, reason = "no other thread runs yet that could read the environment")]
fn set_threads(threads: usize) {
    // SAFETY: called from `main` before any thread is started.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_told_in_full_only_to_those_who_ask() {
        let wants = |value: Option<&str>| wants_backtrace(value.map(OsStr::new));
        assert!(!wants(None) && !wants(Some("0")));
        assert!(wants(Some("1")) && wants(Some("full")));
    }
}
