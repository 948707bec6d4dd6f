//! Where a value came from.

use std::fmt;

/// The source of one value of a resolved configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// The default of the program.
    #[default]
    Default,
    /// A configuration file, one that it extends, or the model's own `soft_config.toml`.
    File {
        /// The file as it was named.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A file as a whole.
    WholeFile(String),
    /// An environment variable.
    Environment(String),
    /// An `a.b=v` of the command line.
    Override,
    /// A flag of the command line.
    Flag(String),
}

impl Origin {
    /// The place of a byte of a text.
    pub(crate) fn in_file(name: &str, text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            name: name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].trim_start_matches('\u{feff}').chars().count() + 1,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::WholeFile(name) => f.write_str(name),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Override => f.write_str("command line"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}
