//! How a run of the program ends when it does not succeed.

use std::any::Any;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use soft_train::config::ConfigError;
use soft_train::memory::{ADVICE, is_out_of_memory};

/// Something failed while running, and no other code fits.
const RUNTIME: u8 = 1;
/// The command line or the configuration is wrong.
const USAGE: u8 = 2;
/// A data or prompt file is wrong.
const DATA: u8 = 3;
/// A model, a checkpoint or a tokenizer is wrong.
const MODEL: u8 = 4;
/// Memory of the host or of the device ran out.
pub(crate) const OUT_OF_MEMORY: u8 = 6;
/// A file cannot be written.
const DISK: u8 = 7;

/// Why the program ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A message for people and a code for scripts.
    Message {
        /// What was found, what was expected, where.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// Whoever read our output has stopped reading (`soft .. | head`): no failure of ours.
    OutputClosed,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), code }
    }

    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self::new(RUNTIME, text)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }

    pub(crate) fn data(text: impl Into<String>) -> Self {
        Self::new(DATA, text)
    }

    pub(crate) fn model(text: impl Into<String>) -> Self {
        Self::new(MODEL, text)
    }

    pub(crate) fn disk(text: impl Into<String>) -> Self {
        Self::new(DISK, text)
    }

    /// A panic that a verb did not expect. Devices report exhausted memory this way too.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic_text(panic);
        if is_out_of_memory(&text) {
            // What follows a device's first line is a backtrace.
            let first = text.lines().next().unwrap_or_default();
            let text = format!("out of memory: {first}; {ADVICE}; `--device flex` runs on the CPU");
            return Self::new(OUT_OF_MEMORY, text);
        }
        let advice = "RUST_BACKTRACE=1 shows where";
        Self::runtime(format!("internal error, a bug of this program: {text}; {advice}"))
    }

    /// Prints the message to stderr and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Message { text, code } => {
                let mut stderr = io::stderr();
                let colored = stderr.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
                let label = if colored { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
                // A closed stderr leaves nobody to tell.
                let _ = writeln!(stderr, "{label} {text}");
                ExitCode::from(*code)
            }
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<soft_core::Error> for Failure {
    /// Settings and device names come from the configuration or a flag.
    fn from(error: soft_core::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<soft_model::Error> for Failure {
    fn from(error: soft_model::Error) -> Self {
        Self::new(code_of(error.exit_code()), error.to_string())
    }
}

impl From<soft_train::Error> for Failure {
    fn from(error: soft_train::Error) -> Self {
        Self::new(code_of(error.exit_code()), error.to_string())
    }
}

fn code_of(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(RUNTIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_memory_is_told_from_a_bug() {
        let code = |text: &'static str| match Failure::panicked(&text) {
            Failure::Message { code, .. } => code,
            Failure::OutputClosed => 0,
        };
        assert_eq!(code("CUDA_ERROR_OUT_OF_MEMORY: 2 GiB"), 6);
        assert_eq!(code("wgpu error: Out of Memory"), 6);
        assert_eq!(code("index out of bounds"), 1);
    }

    #[test]
    fn the_codes_of_the_contract() {
        let code = |failure| match failure {
            Failure::Message { code, .. } => code,
            Failure::OutputClosed => 0,
        };
        assert_eq!(code(Failure::runtime("")), 1);
        assert_eq!(code(Failure::usage("")), 2);
        assert_eq!(code(Failure::data("")), 3);
        assert_eq!(code(Failure::disk("")), 7);
        let model =
            soft_model::Error::TokenOutOfVocabulary { token: 9, vocab_size: 4, position: 0 };
        assert_eq!(code(model.into()), 4);
        let diverged = soft_train::Error::Diverged { step: 3, what: String::new() };
        assert_eq!(code(diverged.into()), 5);
        assert_eq!(code(Failure::OutputClosed), 0);
    }
}
