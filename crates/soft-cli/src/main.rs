//! `soft`: trains models that think softly, lets models generate softly, scores text.
//!
//! One file a verb; what they do lies in the libraries.
#![deny(missing_docs)]

mod allocator;
mod arguments;
mod completions;
mod config;
mod doctor;
mod failure;
mod generate;
mod output;
mod progress;
mod prompts;
mod score;
mod settings;
mod train;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Verb};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// Freeing a long autodiff graph is recursive: 8 MiB are not always enough.
const STACK_BYTES: usize = 256 << 20;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
        Verb::Score(score) => score::run(score, global),
        Verb::Config(config) => config::run(config, global),
        Verb::Doctor(doctor) => doctor::run(doctor, global),
        Verb::Completions { shell } => completions::run(*shell),
    }
}

/// Fixes the number of threads of the CPU backends, which read it once, at their first use.
#[expect(unsafe_code, reason = "no other thread runs yet that could read the environment")]
fn set_threads(threads: usize) {
    // SAFETY: called from `main` before any thread is started.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
}
