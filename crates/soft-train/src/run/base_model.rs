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
    /// Those of them that the tokenizer did not have.
    fresh_ids: Vec<u32>,
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
        let (mut new_ids, mut fresh_ids) = (Vec::new(), Vec::new());
        if !config.model.new_tokens.is_empty() {
            files.require_tokenizer()?;
            if let Some(tokenizer) = &mut files.tokenizer {
                let known = tokenizer.vocab_len() as u32;
                let had = |token: &String| tokenizer.token_id(token);
                let had: Vec<Option<u32>> = config.model.new_tokens.iter().map(had).collect();
                new_ids = tokenizer.add_tokens(&config.model.new_tokens)?;
                let fresh = new_ids.iter().zip(had).filter(|(_, had)| had.is_none());
                fresh_ids = fresh.map(|(id, _)| *id).collect();
                debug_assert!(fresh_ids.iter().all(|&id| id >= known), "new ids are appended");
                vocab_size = vocab_size.max(tokenizer.vocab_len());
            }
        }
        Ok(Some(Self { files, new_ids, fresh_ids, vocab_size }))
    }

    /// The model, with a row for each new token.
    ///
    /// # Errors
    /// Tensors that cannot be read.
    pub(super) fn model(&self, seed: u64, device: &Device) -> Result<Transformer, Error> {
        let model = Transformer::open(&self.files, device, DType::F32)?;
        // A padded vocabulary has rows for some of them that were never trained.
        let rows = self.files.config.vocab_size as u32;
        let unused: Vec<u32> = self.fresh_ids.iter().copied().filter(|&id| id < rows).collect();
        Ok(model.with_fresh_rows(&unused, seed)?.with_vocabulary(self.vocab_size, seed))
    }
}
