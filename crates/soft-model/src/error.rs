//! What can go wrong between a path and a running model, and the exit code each has.

use std::path::{Path, PathBuf};

/// Bytes of the longest description of what is wrong.
const MAX_PROBLEM: usize = 3000;
/// Bytes of the longest key that is repeated.
const MAX_KEY: usize = 200;

/// Every failure of this crate; messages say what was found, what was expected and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the model could not be read or written.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A path that holds no model in a known form.
    #[error("{}: {problem}", path.display())]
    NotAModel {
        /// The path that was given.
        path: PathBuf,
        /// What was found, and what to give instead.
        problem: String,
    },
    /// A `config.json` or GGUF header describes no model that this crate runs.
    #[error("{}: key `{key}`: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key in the file's own spelling.
        key: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A file that breaks its own format: JSON, GGUF or safetensors.
    #[error("{}: not a valid {format} file: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it should have.
        format: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
    /// A tensor stored in a form that is not read.
    #[error("{}: tensor `{tensor}` has type {found}; supported are {supported}", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// Name in the file.
        tensor: String,
        /// Its type, by name or number.
        found: String,
        /// The types that are read.
        supported: &'static str,
    },
    /// The tensors of a checkpoint are not those of its configuration; all differences at once.
    #[error(
        "{}: tensors do not fit the configuration\n  missing: {}\n  unexpected: {}\n  mis-shaped: {}",
        path.display(), listed(missing), listed(unexpected), listed(mis_shaped)
    )]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// Expected and absent.
        missing: Vec<String>,
        /// Present and unknown.
        unexpected: Vec<String>,
        /// Present with another shape: `name: found [..], expected [..]`.
        mis_shaped: Vec<String>,
    },
    /// A tensor was asked for by a name that the checkpoint does not have.
    #[error("{}: no tensor `{tensor}`", path.display())]
    NoTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The name.
        tensor: String,
    },
    /// A tokenizer that cannot be built or used.
    #[error("{}: tokenizer: {problem}", path.display())]
    Tokenizer {
        /// The file it came from.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A tokenizer of a kind that is not read; the model still runs on ids.
    #[error("{}: tokenizer: {problem}", path.display())]
    TokenizerUnsupported {
        /// The file it came from.
        path: PathBuf,
        /// Its kind, and those that are read.
        problem: String,
    },
    /// A chat template that does not parse or render.
    #[error("chat template: {0}")]
    ChatTemplate(String),
    /// A text for a model that takes token ids only: why.
    #[error("{0}")]
    NoText(String),
    /// A token id that the model has no embedding for.
    #[error(
        "token id {token} at position {position} is outside the vocabulary: \
         ids of this model are 0..{vocab_size}"
    )]
    TokenOutOfVocabulary {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
        /// Index in the sequence.
        position: usize,
    },
    /// More tokens than the model has positions.
    #[error(
        "{len} tokens (and a prefix of {prefix_len}) are more than the {max_positions} positions \
         of the model; shorten the prompt"
    )]
    PromptTooLong {
        /// Tokens given.
        len: usize,
        /// Positions taken by a learned prefix.
        prefix_len: usize,
        /// Longest sequence of the model.
        max_positions: usize,
    },
    /// An adapter that cannot be attached, merged or written as it was asked.
    #[error("{0}")]
    Adapter(String),
    /// Generation settings that contradict themselves or the model.
    #[error("generation settings: {0}")]
    Settings(String),
    /// Settings of the soft-token pipeline, or a device.
    #[error(transparent)]
    Core(#[from] soft_core::Error),
}

impl Error {
    /// Exit code of the command-line contract: 4 model, 3 data (a prompt over the context),
    /// 2 settings.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::PromptTooLong { .. } => 3,
            Self::Settings(_) | Self::Core(_) => 2,
            _ => 4,
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, format: &'static str, problem: impl Into<String>) -> Self {
        let problem = shortened(problem, MAX_PROBLEM);
        Self::Format { path: path.to_owned(), format, problem }
    }

    pub(crate) fn config(path: &Path, key: impl Into<String>, problem: impl Into<String>) -> Self {
        let (key, problem) = (shortened(key, MAX_KEY), shortened(problem, MAX_PROBLEM));
        Self::Config { path: path.to_owned(), key, problem }
    }

    pub(crate) fn not_a_model(path: &Path, problem: impl Into<String>) -> Self {
        Self::NotAModel { path: path.to_owned(), problem: shortened(problem, MAX_PROBLEM) }
    }

    pub(crate) fn tokenizer(path: &Path, problem: impl Into<String>) -> Self {
        Self::Tokenizer { path: path.to_owned(), problem: shortened(problem, MAX_PROBLEM) }
    }

    pub(crate) fn chat_template(problem: impl Into<String>) -> Self {
        Self::ChatTemplate(shortened(problem, MAX_PROBLEM))
    }
}

/// A text of at most about `most` bytes: what is over it is left out, and said. A file decides how
/// long its names and values are, and an error that repeats them has to fit a terminal.
pub fn shortened(text: impl Into<String>, most: usize) -> String {
    let mut text = text.into();
    let len = text.len();
    if len > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str(&format!(" .. ({len} bytes in all)"));
    }
    text
}

/// The first names of a list and how many more there are; `none` for an empty one.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    const MAX_BYTES: usize = 1000;
    let Some((first, others)) = names.split_first() else { return "none".to_owned() };
    let mut text = shortened(first, MAX_BYTES);
    let mut left = others.len();
    for name in others.iter().take(SHOWN - 1) {
        if text.len() + name.len() > MAX_BYTES {
            break;
        }
        text.push_str(&format!(", {name}"));
        left -= 1;
    }
    if left > 0 {
        text.push_str(&format!(" and {left} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_contract() {
        let token = Error::TokenOutOfVocabulary { token: 9, vocab_size: 4, position: 0 };
        let prompt = Error::PromptTooLong { len: 9, prefix_len: 0, max_positions: 8 };
        assert_eq!(token.exit_code(), 4);
        assert_eq!(prompt.exit_code(), 3);
        assert_eq!(Error::Settings(String::new()).exit_code(), 2);
    }

    #[test]
    fn tensor_differences_are_listed_together() {
        let error = Error::Tensors {
            path: "m".into(),
            missing: vec!["a".into()],
            unexpected: (0..14).map(|i| format!("x{i}")).collect(),
            mis_shaped: vec![],
        };
        assert_eq!(
            error.to_string(),
            "m: tensors do not fit the configuration\n  missing: a\n  unexpected: x0, x1, x2, x3, \
             x4, x5, x6, x7, x8, x9, x10, x11 and 2 more\n  mis-shaped: none"
        );
        assert_eq!(listed(&vec!["n".repeat(400); 5]).len(), 400 + 2 + 400 + " and 3 more".len());
    }

    #[test]
    fn t26_what_a_file_says_at_length_is_repeated_in_part() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("aaé", 3), "aa .. (4 bytes in all)");
        let long = "x".repeat(1 << 20);
        let path = Path::new("file");
        for error in [
            Error::format(path, "JSON", &long),
            Error::config(path, &long, &long),
            Error::not_a_model(path, &long),
            Error::tokenizer(path, &long),
            Error::chat_template(&long),
        ] {
            let text = error.to_string();
            assert!(text.len() < 4096 && text.contains("1048576 bytes in all"), "{}", text.len());
        }
    }
}
