//! Text to token ids and back, from `tokenizer.json` or from the vocabulary of a GGUF file.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use crate::capped_file::read_capped;
use crate::gguf::Gguf;
pub(crate) use crate::tokenizer::gguf_vocab::CONTROL;
use crate::tokenizer::special::SpecialTokens;
use crate::{ChatTemplate, Error};

mod gguf_vocab;
mod guard;
mod sentence_piece;
mod special;
#[cfg(test)]
mod tests;

/// A tokenizer with the special tokens and the chat template that belong to it.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    special: SpecialTokens,
    special_ids: BTreeSet<u32>,
    vocab_len: usize,
    /// Tokens are bytes in GPT-2's alphabet; else they are text with `▁` for a space.
    byte_level: bool,
    chat_template: Option<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, with the special tokens of `tokenizer_config.json` (and
    /// `special_tokens_map.json`) and the template of `chat_template.jinja`, where they are;
    /// `Ok(None)` where the folder has no `tokenizer.json`.
    ///
    /// Truncation and padding of the file are left out: nothing is ever cut in silence.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a broken file, [`Error::Format`] for one of absurd length,
    /// [`Error::Io`].
    pub fn open_folder(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_capped(&path, "JSON", guard::MAX_BYTES)?;
        let mut tokenizer = Self::from_json(&bytes, &path)?;
        tokenizer.special = SpecialTokens::read(folder)?;
        tokenizer.chat_template = special::chat_template(folder)?;
        tokenizer.collect_special_ids();
        Ok(Some(tokenizer))
    }

    /// Builds the tokenizer of a GGUF file; `Ok(None)` where it has no vocabulary.
    ///
    /// Byte-pair vocabularies with the pre-tokenizers of SmolLM, Llama 3, Qwen2 and GPT-2, and
    /// SentencePiece ones of Llama 1, 2 and Mistral.
    ///
    /// # Errors
    /// [`Error::TokenizerUnsupported`] for another kind, [`Error::Tokenizer`] for a broken one.
    pub fn from_gguf(gguf: &Gguf) -> Result<Option<Self>, Error> {
        let Some(json) = gguf_vocab::tokenizer_json(gguf)? else { return Ok(None) };
        let bytes = serde_json::to_vec(&json)
            .map_err(|error| Error::tokenizer(gguf.path(), error.to_string()))?;
        let mut tokenizer = Self::from_json(&bytes, gguf.path())?;
        tokenizer.special = gguf_vocab::special_tokens(gguf);
        tokenizer.chat_template = gguf.text("tokenizer.chat_template").map(str::to_owned);
        tokenizer.collect_special_ids();
        Ok(Some(tokenizer))
    }

    /// Reads the bytes of a `tokenizer.json`; `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let (inner, byte_level) = guard::load(bytes, path)?;
        let vocab_len = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let mut tokenizer = Self {
            inner,
            path: path.to_owned(),
            special: SpecialTokens::default(),
            special_ids: BTreeSet::new(),
            vocab_len,
            byte_level,
            chat_template: None,
        };
        tokenizer.collect_special_ids();
        Ok(tokenizer)
    }

    /// Ids of a text; special tokens written out in it are recognised.
    ///
    /// With `add_special` the tokens that the tokenizer puts around a text are added, but a text
    /// that already begins with the first token of a sequence, such as a rendered chat, does not
    /// get a second one.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode_raw(text, add_special)?;
        if let (true, Some(bos)) = (add_special, self.bos_id())
            && ids.starts_with(&[bos, bos])
        {
            // Only the one that was added goes: a text may really begin with two.
            let plain = self.encode_raw(text, false)?;
            if plain.first() == Some(&bos) && ids[1..].starts_with(&plain) {
                ids.remove(0);
            }
        }
        Ok(ids)
    }

    fn encode_raw(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        // The library panics on some files that it loads without complaint.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, add_special)));
        match encoded {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            Ok(Err(error)) => Err(Error::tokenizer(&self.path, error.to_string())),
            Err(panic) => Err(Error::tokenizer(&self.path, guard::panic_text(&*panic))),
        }
    }

    /// Text of ids, special tokens written out; bytes that are no UTF-8 become U+FFFD, ids
    /// without a token are skipped.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, false)
    }

    /// Text of ids without special tokens.
    pub fn decode_visible(&self, ids: &[u32]) -> String {
        self.decode_with(ids, true)
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> String {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.inner.decode(ids, skip_special)));
        match decoded {
            Ok(Ok(text)) => text,
            _ => ids.iter().filter_map(|&id| self.inner.id_to_token(id)).collect(),
        }
    }

    /// Text of one token with its leading space; `None` for an id without a token.
    pub fn decode_token(&self, id: u32) -> Option<String> {
        let token = self.inner.id_to_token(id)?;
        if self.byte_level {
            return Some(self.decode(&[id]));
        }
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => Some(String::from_utf8_lossy(&[byte]).into_owned()),
            None => Some(token.replace('\u{2581}', " ")),
        }
    }

    /// Id of a token, in the tokenizer's own spelling.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Adds tokens that the vocabulary does not have yet, as text that is always one token; gives
    /// the ids of all of them, new and old, in the order they are named.
    ///
    /// # Errors
    /// An empty token, or one that is named twice.
    pub fn add_tokens(&mut self, tokens: &[String]) -> Result<Vec<u32>, Error> {
        for (at, token) in tokens.iter().enumerate() {
            if token.trim().is_empty() || tokens[..at].contains(token) {
                let problem = format!("{token:?} cannot be added: it is blank, or named twice");
                return Err(Error::Settings(problem));
            }
        }
        let added = tokens.iter().map(|token| AddedToken::from(token.as_str(), false));
        self.inner
            .add_tokens(added.collect::<Vec<_>>())
            .map_err(|error| Error::tokenizer(&self.path, error.to_string()))?;
        let id = |token: &String| {
            let problem = || Error::tokenizer(&self.path, format!("{token:?} was not added"));
            self.inner.token_to_id(token).ok_or_else(problem)
        };
        let ids: Vec<u32> = tokens.iter().map(id).collect::<Result<_, _>>()?;
        let largest = ids.iter().max().map_or(0, |&id| id as usize + 1);
        self.vocab_len = self.vocab_len.max(largest);
        Ok(ids)
    }

    /// The largest id and one: the embedding needs as many rows or more.
    pub fn vocab_len(&self) -> usize {
        self.vocab_len
    }

    /// A token whose id is another one in `other`, or that only one of the two has; `None` where both
    /// have the same vocabulary.
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        let (own, others) = (self.inner.get_vocab(true), other.inner.get_vocab(true));
        let differing = |(token, id): (&String, &u32)| others.get(token) != Some(id);
        let differs = own.iter().filter(|&entry| differing(entry)).map(|(token, _)| token);
        let missing = others.keys().filter(|token| !own.contains_key(*token));
        differs.chain(missing).min().cloned()
    }

    /// Ids that control the model rather than stand for text.
    pub fn special_ids(&self) -> &BTreeSet<u32> {
        &self.special_ids
    }

    /// First token of a sequence, where the tokenizer names one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos.as_deref().and_then(|token| self.token_id(token))
    }

    /// Token that ends a sequence, where the tokenizer names one.
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos.as_deref().and_then(|token| self.token_id(token))
    }

    /// Padding token, where the tokenizer names one.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad.as_deref().and_then(|token| self.token_id(token))
    }

    /// Source of the chat template, where the tokenizer came with one.
    pub fn chat_template_source(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The chat template, where the tokenizer came with one; it knows the special tokens by the
    /// names that templates use, such as `bos_token`.
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, Error> {
        let Some(source) = &self.chat_template else { return Ok(None) };
        let tokens = self.special.named().map(|(name, token)| (name, token.to_owned()));
        ChatTemplate::new(source, tokens).map(Some)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, the chat template within, so that
    /// the folder is complete for this crate and for transformers.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tokenizer`].
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let json = self
            .inner
            .to_string(false)
            .map_err(|error| Error::tokenizer(&self.path, error.to_string()))?;
        write(&folder.join("tokenizer.json"), &json)?;
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        for (name, token) in self.special.named() {
            config.insert(name.into(), json!(token));
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), json!(template));
        }
        let text = format!("{:#}\n", Value::Object(config));
        write(&folder.join("tokenizer_config.json"), &text)
    }

    fn collect_special_ids(&mut self) {
        let added = self.inner.get_added_tokens_decoder();
        let flagged = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id);
        let named = self.special.named().filter_map(|(_, token)| self.inner.token_to_id(token));
        self.special_ids = flagged.chain(named).collect();
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::io(path, source))
}
