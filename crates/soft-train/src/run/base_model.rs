//! The model that a run starts from, with the tokens that it adds.

use std::path::Path;

use burn::tensor::{DType, Device};
use soft_model::{ModelFiles, Transformer};

use crate::config::Config;
use crate::error::Error;

/// A checkpoint and the tokens that `model.new_tokens` adds to it.
#[derive(Debug)]
pub struct Base {
    /// Its files, the tokenizer with the new tokens.
    pub files: ModelFiles,
    /// Ids of the new tokens, those that it had already included.
    pub new_ids: Vec<u32>,
    /// Rows of its embedding, with those of the new tokens.
    pub vocab_size: usize,
}

impl Base {
    /// Opens the model of `model.path`; `None` where a new model is built.
    ///
    /// # Errors
    /// A model that cannot be opened, or new tokens without a tokenizer to add them to.
    pub fn open(config: &Config) -> Result<Option<Self>, Error> {
        let Some(path) = &config.model.path else { return Ok(None) };
        let mut files = ModelFiles::open(Path::new(path))?;
        // A checkpoint has no `generation_config.json`: its `config.json` names every token that
        // ends a generation.
        files.config.eos_ids = files.generation.eos_ids.clone();
        let mut vocab_size = files.config.vocab_size;
        let mut new_ids = Vec::new();
        if !config.model.new_tokens.is_empty() {
            files.require_tokenizer()?;
            if let Some(tokenizer) = &mut files.tokenizer {
                new_ids = tokenizer.add_tokens(&config.model.new_tokens)?;
                vocab_size = vocab_size.max(tokenizer.vocab_len());
            }
        }
        Ok(Some(Self { files, new_ids, vocab_size }))
    }

    /// The model, with a row for each new token.
    ///
    /// # Errors
    /// Tensors that cannot be read.
    pub(super) fn model(&self, seed: u64, device: &Device) -> Result<Transformer, Error> {
        let model = Transformer::open(&self.files, device, DType::F32)?;
        Ok(model.with_vocabulary(self.vocab_size, seed))
    }
}
