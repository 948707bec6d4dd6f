//! What is wrong with a configuration, and where.

use std::fmt;

use super::origin::Origin;

/// Bytes of the longest message, which may repeat a value.
const MAX_MESSAGE: usize = 500;
/// Bytes of all problems together that are shown; further ones are counted.
const MAX_SHOWN: usize = 3000;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value came from.
    pub origin: Origin,
    /// Dotted key that is at fault, where there is one.
    pub key: Option<String>,
    /// What was found and what was expected.
    pub message: String,
    /// What to do, where that is known.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(origin: Origin, key: &str, message: impl Into<String>) -> Self {
        let problem = Self::at(origin, message);
        Self { key: Some(key.to_owned()), ..problem }
    }

    pub(crate) fn at(origin: Origin, message: impl Into<String>) -> Self {
        let message = soft_model::shortened(message, MAX_MESSAGE);
        Self { origin, key: None, message, help: None }
    }

    pub(crate) fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration, in the order it was found; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// `Ok` where there are no problems.
    pub(crate) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl fmt::Display for ConfigError {
    /// One problem is one line; several follow a line that counts them, and the last says how many
    /// there are that a terminal would not hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.problems.as_slice() {
            return problem.fmt(f);
        }
        write!(f, "{} problems in the configuration", self.problems.len())?;
        let mut bytes = 0;
        for (shown, problem) in self.problems.iter().enumerate() {
            let line = problem.to_string();
            bytes += line.len();
            if bytes > MAX_SHOWN && shown > 0 {
                return write!(f, "\n  and {} more", self.problems.len() - shown);
            }
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
