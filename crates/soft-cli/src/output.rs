//! Standard output, without panics when its reader goes away.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Standard output, buffered; flushed after each object and at the end.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes a text and a line end.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.0, "{text}").map_err(|error| failed(&error))
    }

    /// Writes a piece of a text, at once.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        write!(self.0, "{text}").map_err(|error| failed(&error))?;
        self.flush()
    }

    /// Writes one JSON object on one line, at once.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(to_json(value)?)?;
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| failed(&error))
    }
}

/// A value on one line.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::runtime(format!("cannot write JSON: {error}")))
}

fn failed(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::disk(format!("cannot write to standard output: {error}")),
    }
}
