//! A model as it lies on disk: one GGUF file, or a Hugging Face folder.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::adapter::Additions;
use crate::capped_file::{read_capped, read_capped_text};
use crate::config::ModelConfig;
use crate::gguf::Gguf;
use crate::hub_cache;
use crate::{Active, ChatTemplate, Error, Message, Tokenizer, Weights};

mod write;

pub use write::write_folder;

#[cfg(test)]
mod tests;

/// Largest `config.json`, `generation_config.json` or `soft_config.toml` that is read.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// Settings for generation of a checkpoint of this project.
pub(crate) const SOFT_CONFIG: &str = "soft_config.toml";

/// What the model's makers advise for generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GenerationDefaults {
    /// Longest continuation, where one is advised.
    pub max_new_tokens: Option<usize>,
    /// Tokens that end a generation: those of `generation_config.json` and of the model.
    pub eos_ids: Vec<u32>,
}

/// Everything that a path holds, opened and checked against each other; no weight is read yet.
#[derive(Debug)]
pub struct ModelFiles {
    /// Shapes and formulas.
    pub config: ModelConfig,
    /// The tensors.
    pub weights: Weights,
    /// The tokenizer, where there is one that is supported.
    pub tokenizer: Option<Tokenizer>,
    /// Why there is no tokenizer.
    pub tokenizer_note: Option<String>,
    /// The chat template, where there is one that compiles.
    pub chat_template: Option<ChatTemplate>,
    /// What is wrong with the chat template, where there is one that does not compile: the model
    /// still runs on other text and on ids.
    pub chat_template_note: Option<String>,
    /// Advice for generation.
    pub generation: GenerationDefaults,
    /// Text of `soft_config.toml`, where the folder is a checkpoint of this project.
    pub soft: Option<String>,
    /// Low-rank branches, prefix or prompt over the base: of a checkpoint of this project, or of an
    /// adapter.
    pub(crate) additions: Option<Additions>,
}

impl ModelFiles {
    /// Opens a `.gguf` file or a Hugging Face folder; a path `ORG/NAME` where there is nothing
    /// means that model in the local Hugging Face cache, into which the feature `hub` downloads it
    /// where it is not there yet.
    ///
    /// # Errors
    /// One error for the first thing that is missing, broken or not supported; tensors that do
    /// not fit the configuration are listed together.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = &*hub_cache::locate(path)?;
        let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
        let files = if metadata.is_dir() { open_folder(path)? } else { open_file(path)? };
        files.weights.check(&files.config)?;
        check_tokenizer(path, files.tokenizer.as_ref(), files.config.vocab_size)?;
        Ok(files)
    }

    /// The token ids of a prompt, put through the chat template where `chat` asks for it and the
    /// model has one. A rendered chat has the special tokens that it needs: as in transformers,
    /// none are added to it.
    ///
    /// # Errors
    /// A model without a tokenizer, or a template or tokenizer that fails.
    pub fn encode_prompt(&self, text: &str, chat: bool) -> Result<Vec<u32>, Error> {
        if let (true, Some(note)) = (chat, &self.chat_template_note) {
            return Err(Error::NoText(format!(
                "{note}; generate.chat=false leaves the template out"
            )));
        }
        match &self.chat_template {
            Some(template) if chat => {
                let rendered = template.render(&[Message::new("user", text)], true)?;
                self.require_tokenizer()?.encode(&rendered, false)
            }
            _ => self.require_tokenizer()?.encode(text, true),
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn require_tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::NoText(
                self.tokenizer_note.clone().unwrap_or_else(|| "the model has no tokenizer".into()),
            )
        })
    }

    /// Positions that are left for tokens: a learned prefix or prompt takes some of its own.
    pub fn context(&self) -> usize {
        let taken = self.additions.as_ref().map_or(0, Additions::taken_positions);
        self.config.max_positions.saturating_sub(taken)
    }

    /// Where what lies beside the base acts; `None` where there is nothing.
    pub fn active(&self) -> Option<Active> {
        self.additions.as_ref().map(|additions| additions.active)
    }

    /// Parameters of what lies beside the base: low-rank branches, a prefix or a prompt.
    pub fn added_parameters(&self) -> usize {
        self.additions.as_ref().map_or(0, Additions::parameters)
    }

    /// Checks that new low-rank branches, a new prefix or a new prompt would not replace those of a
    /// checkpoint, before its weights are read.
    ///
    /// # Errors
    /// The addition that is there already.
    pub fn check_free(&self, low_rank: bool, prefix: bool, prompt: bool) -> Result<(), Error> {
        let there = self.additions.as_ref();
        there.and_then(|there| there.conflict(low_rank, prefix, prompt)).map_or(Ok(()), Err)
    }
}

/// Only GGUF is one file; the others are named by what they begin with.
fn open_file(path: &Path) -> Result<ModelFiles, Error> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut start))
        .map_err(|source| Error::io(path, source))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let pickle = start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x80\x02");
    if pickle || matches!(extension, "bin" | "pt" | "pth" | "ckpt") {
        let problem = "a pickle can run code and is not read; convert it with \
                       `model.save_pretrained(folder, safe_serialization=True)` of transformers \
                       and give the folder";
        return Err(Error::not_a_model(path, problem));
    }
    if extension == "safetensors" || extension == "json" {
        return Err(Error::not_a_model(path, "give the folder that this file lies in"));
    }
    if extension != "gguf" && !start.starts_with(b"GGUF") {
        let problem = "expected a GGUF file, or a folder with config.json and model.safetensors";
        return Err(Error::not_a_model(path, problem));
    }
    from_gguf(&Gguf::open(path)?)
}

fn from_gguf(gguf: &Gguf) -> Result<ModelFiles, Error> {
    let config = ModelConfig::from_gguf(gguf)?;
    let weights = Weights::from_gguf(gguf, &config)?;
    let (tokenizer, tokenizer_note) = match Tokenizer::from_gguf(gguf) {
        Ok(Some(tokenizer)) => (Some(tokenizer), None),
        Ok(None) => (None, Some(format!("{} has no tokenizer", gguf.path().display()))),
        Err(error @ Error::TokenizerUnsupported { .. }) => (None, Some(error.to_string())),
        Err(error) => return Err(error),
    };
    let (chat_template, chat_template_note) = chat_template(tokenizer.as_ref());
    let eos_ids = config.eos_ids.clone();
    let generation = GenerationDefaults { max_new_tokens: None, eos_ids };
    Ok(ModelFiles {
        config,
        weights,
        tokenizer,
        tokenizer_note,
        chat_template,
        chat_template_note,
        generation,
        soft: None,
        additions: None,
    })
}

fn open_folder(folder: &Path) -> Result<ModelFiles, Error> {
    let path = folder.join("config.json");
    let Some(json) = optional_json(&path)? else { return Err(no_config(folder)) };
    let config = ModelConfig::from_hf(&json, &path)?;
    let weights = Weights::open_folder(folder, &config)?;
    let tokenizer = Tokenizer::open_folder(folder)?;
    let tokenizer_note = tokenizer.is_none().then(|| no_tokenizer(folder));
    let (chat_template, chat_template_note) = chat_template(tokenizer.as_ref());
    let generation = generation_defaults(folder, &config)?;
    let soft = folder.join(SOFT_CONFIG);
    let soft = if soft.exists() { Some(read_settings(&soft)?) } else { None };
    let additions = Additions::open(folder, &config)?;
    Ok(ModelFiles {
        config,
        weights,
        tokenizer,
        tokenizer_note,
        chat_template,
        chat_template_note,
        generation,
        soft,
        additions,
    })
}

/// The text of a file of settings.
pub(crate) fn read_settings(path: &Path) -> Result<String, Error> {
    read_capped_text(path, "TOML", MAX_SETTINGS_BYTES)
}

/// The template, or why there is none although the tokenizer came with one.
fn chat_template(tokenizer: Option<&Tokenizer>) -> (Option<ChatTemplate>, Option<String>) {
    match tokenizer.map(Tokenizer::chat_template) {
        None => (None, None),
        Some(Ok(template)) => (template, None),
        Some(Err(error)) => (None, Some(error.to_string())),
    }
}

/// Refuses a tokenizer with ids that have no row in the embedding matrix.
pub(crate) fn check_tokenizer(
    path: &Path,
    tokenizer: Option<&Tokenizer>,
    vocab_size: usize,
) -> Result<(), Error> {
    let Some(tokenizer) = tokenizer.filter(|tokenizer| tokenizer.vocab_len() > vocab_size) else {
        return Ok(());
    };
    let problem = format!(
        "its largest id is {}, but the model has {vocab_size} embeddings: they belong to different \
         models",
        tokenizer.vocab_len() - 1,
    );
    Err(Error::tokenizer(path, problem))
}

fn no_config(folder: &Path) -> Error {
    let problem = if folder.join("adapter_config.json").exists() {
        "no config.json: this is an adapter; give its base model here and the adapter with --adapter"
    } else {
        "no config.json; expected a Hugging Face model folder or a .gguf file"
    };
    Error::not_a_model(folder, problem)
}

/// Why a folder without a `tokenizer.json` has no tokenizer.
pub(crate) fn no_tokenizer(folder: &Path) -> String {
    let other = ["tokenizer.model", "vocab.json"].iter().find(|file| folder.join(file).exists());
    match other {
        Some(file) => format!(
            "{}: {file} is not read; write a tokenizer.json with \
             `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers",
            folder.display()
        ),
        None => format!("{} has no tokenizer.json", folder.display()),
    }
}

fn generation_defaults(folder: &Path, config: &ModelConfig) -> Result<GenerationDefaults, Error> {
    let path = folder.join("generation_config.json");
    let json = optional_json(&path)?.unwrap_or(Value::Null);
    let max_new_tokens = json["max_new_tokens"].as_u64().and_then(|n| usize::try_from(n).ok());
    let advised = match &json["eos_token_id"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let advised = advised.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok());
    let mut eos_ids: Vec<u32> = Vec::new();
    for id in advised.chain(config.eos_ids.iter().copied()) {
        if (id as usize) < config.vocab_size && !eos_ids.contains(&id) {
            eos_ids.push(id);
        }
    }
    Ok(GenerationDefaults { max_new_tokens, eos_ids })
}

/// The JSON of a file of settings, where there is one.
pub(crate) fn optional_json(path: &Path) -> Result<Option<Value>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_capped(path, "JSON", MAX_SETTINGS_BYTES)?;
    let json = serde_json::from_slice(&bytes);
    json.map(Some).map_err(|error| Error::format(path, "JSON", error.to_string()))
}
